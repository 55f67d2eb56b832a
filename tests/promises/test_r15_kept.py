# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R15: data, settings, metrics of dashboards, and scripts of recorded releases keep their meaning."""

from __future__ import annotations

import json
import shlex
import sqlite3
import tarfile
from collections.abc import Mapping
from contextlib import closing
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.promises.support.previous import RELEASES
from tests.promises.support.recorded import SIDES, options_now
from tests.support.stack import Stack
from veilleuse.agent.commands.main import main
from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.cli.main import RETIRED, run
from veilleuse.collector.cli.shared import EXIT_WARNINGS
from veilleuse.collector.exposition.catalogue import BY_NAME
from veilleuse.collector.store.sqlite.migrations import migrations
from veilleuse.wire.settings_file import ConfigurationError, describe, load

NAMES: Final[dict[str, dict[str, Any]]] = {
    file.name.split("-")[1]: json.loads(file.read_text("utf-8"))
    for file in sorted(RELEASES.glob("*-names.json"))
}
CHANGES: Final = "\n".join(
    file.read_text("utf-8")
    for pattern in ("CHANGELOG.md", "changelog.d/*.md")
    for file in sorted(RELEASES.parents[2].glob(pattern))
)
VOLATILE: Final = frozenset({"generated_unix_milliseconds", "generated", "method_version"})
"""Keys of a report that name its time and its method."""

REPLACED: Final = (
    "I4, I5 and I12's hours are of the whole months",
    "Months of PCs are kept for 18, or until their year is closed",
    "Laptops of entities with declared telework days draw a part of their energy at home",
)
"""Notes that changed: I5 is of sums now, as I1 is, and telework days are rounded."""


def steady(value: Any) -> Any:
    """Return a value without the keys that differ from one moment to the next."""
    if isinstance(value, dict):
        return {name: steady(part) for name, part in value.items() if name not in VOLATILE}
    return [steady(part) for part in value] if isinstance(value, list) else value


def lacking(before: Any, now: Any, place: str = "") -> list[str]:
    """Return what was said before and is not said now; more keys and more notes may come."""
    if isinstance(before, dict) and isinstance(now, dict):
        missing = [f"{place}.{name}" for name in before if name not in now]
        kept = [name for name in before if name in now]
        return [
            *missing,
            *(line for name in kept for line in lacking(before[name], now[name], f"{place}.{name}")),
        ]
    if place.endswith(".assumptions"):
        return [f"{place}: {note}" for note in before if note not in now and not note.startswith(REPLACED)]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [line for at, (one, other) in pairs for line in lacking(one, other, f"{place}[{at}]")]
    if isinstance(before, list) and isinstance(now, list):  # rows may be more
        return [f"{place}: {one!r}" for one in before if all(lacking(one, other) for other in now)]
    return [] if before == now else [f"{place}: {before!r} is now {now!r}"]


@pytest.mark.promise("R15")
@pytest.mark.parametrize("version", NAMES)
def test_a_data_directory_says_the_same(version, tmp_path, monkeypatch, capsys, figure):
    """A data directory gives the same figures, closed year and rows in this version, and is served."""
    with tarfile.open(RELEASES / f"veilleuse-{version}-data.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    said = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert len(said) > 10
    stack = Stack(tmp_path)
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(stack.data))
    # telework days have been rounded since: everything else is the same
    exact = "veilleuse.collector.account.ghg_items.published_days"
    monkeypatch.setattr(exact, lambda own, worked: [Fraction(one.telework_days_per_week or 0) for one in own])
    tables = rows(stack.data)
    assert run(["account", "list"]) == 0
    assert "grafana" in capsys.readouterr().out
    now = rows(stack.data)
    assert now.pop("meta") >= tables.pop("meta"), "new notes may come"
    assert now.items() >= tables.items(), "new tables may come"
    (method,) = {row["method_version"] for row in said[next(iter(said))]["rows"]}
    with closing(sqlite3.connect(stack.data / "data.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (migrations("data")[-1].number,)
    for line, before in said.items():
        code, now = run(shlex.split(line)), json.loads(capsys.readouterr().out)
        if line.startswith("verify ") and method != METHOD_VERSION:  # its signature holds
            assert [f"of method {method}" in note for note in now[0].pop("notes")] == [True]
            assert before[0].pop("notes") == []
            assert code == EXIT_WARNINGS
        else:
            assert code == 0
        assert lacking(steady(before), steady(now)) == [], line
    with stack:
        assert stack.stop(stack.start_collector()) == 0
    figure(f"{len(said)} outputs from {sum(tables.values()):,} rows of {version} unchanged")


def rows(data: Path) -> dict[str, int]:
    """Count the rows of each table in both files."""
    counts: dict[str, int] = {}
    for name in ("data.db", "identity.db"):
        with closing(sqlite3.connect(data / name)) as db:
            tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            counts |= {one: db.execute(f"SELECT count(*) FROM {one}").fetchone()[0] for one in tables}
    return counts


@pytest.mark.promise("R15")
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("version", NAMES)
def test_settings_are_read(version, side, figure):
    """Each key is read with its default and choices, or reported, and in the changelog, as no longer used."""
    module, kind = SIDES[side]
    now = {described.dotted for described in describe(kind)}
    names = NAMES[version][side]
    for key, values in names.items():
        for value in values:
            told: list[str] = []
            name = f"{module.ENVIRONMENT_PREFIX}__{key.upper().replace('.', '__')}"
            module.read_settings(None, {name: value}, tell=told.append)
            if key not in now:
                assert [f"'{key}'" in line for line in told] == [True]
                assert f"`{key}`" in CHANGES
    figure(f"{len(names)} settings of the {side} of {version} read, or reported as no longer used")


@pytest.mark.parametrize("side", SIDES)
def test_no_key_is_both_used_and_retired(side):
    """No used key is retired: it would be left out without a message. Retired keys say since when."""
    module, kind = SIDES[side]
    assert not {described.dotted for described in describe(kind)} & module.RETIRED.keys()
    assert all(why.startswith("since ") for why in module.RETIRED.values())


@pytest.mark.parametrize("side", SIDES)
def test_a_retired_key_is_told_and_left_out(side, tmp_path):
    """A retired key in a file and in the environment is reported once each; an unknown key is an error."""
    module, kind = SIDES[side]
    file = tmp_path / "settings.toml"
    file.write_text("[gone]\nurl = 1\n[log]\nlevel = 'error'\n")
    told: list[str] = []
    name = f"{module.ENVIRONMENT_PREFIX}__GONE__URL"
    read: Any = load(
        kind,
        file=file,
        environment={name: "x"},
        prefix=module.ENVIRONMENT_PREFIX,
        retired={"gone.url": "since 0.3: nobody is asked; remove it"},
        tell=told.append,
    )
    assert read.log.level == "error"
    assert told == [
        f"key 'gone.url' in {file} is no longer used since 0.3: nobody is asked; remove it",
        f"key 'gone.url' in the environment ({name}) is no longer used since 0.3: nobody is asked; remove it",
    ]
    with pytest.raises(ConfigurationError, match=r"unknown key 'gone\.url'"):
        module.read_settings(file, {})


@pytest.mark.parametrize(
    ("side", "program"), [("collector", partial(run, ["serve"])), ("agent", partial(main, ["run"]))]
)
def test_a_retired_key_is_told_when_the_service_starts(side, program, tmp_path, monkeypatch, capsys):
    """A retired key is reported in the first line on standard error, before the error of the command."""
    module, _ = SIDES[side]
    monkeypatch.setitem(module.RETIRED, "gone.url", "since 0.3: nobody is asked; remove it")
    monkeypatch.setenv(f"{module.ENVIRONMENT_PREFIX}__GONE__URL", "x")
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "none"))
    assert program() != 0
    (line, *_) = capsys.readouterr().err.splitlines()
    assert "no longer used since 0.3: nobody is asked; remove it" in line
    assert line.startswith(("veilleuse: key 'gone.url'", "veilleuse-agent: key 'gone.url'"))


@pytest.mark.promise("R15")
@pytest.mark.parametrize("version", NAMES)
def test_metrics_are_exposed(version, figure):
    """Each metric is exposed with every label, or the changelog names it as removed."""
    names = NAMES[version]["metrics"]
    gone = [name for name in names if name not in BY_NAME]
    assert not [name for name in gone if f"`{name}`" not in CHANGES]
    lacking = {
        name: sorted(set(labels) - set(BY_NAME[name].labels))
        for name, labels in names.items()
        if name in BY_NAME
    }
    assert not {name: labels for name, labels in lacking.items() if labels}
    figure(f"{len(names) - len(gone)} of {len(names)} metrics of {version} exposed")


@pytest.mark.promise("R15")
@pytest.mark.parametrize("version", NAMES)
def test_command_lines_are_taken(version, figure, capsys):
    """Each command accepts its recorded options, or its message and the changelog say that it was removed."""
    now: Mapping[str, set[str]] = options_now()
    names = NAMES[version]["commands"]
    gone = {line for line in names if line not in now}
    assert gone == {f"veilleuse {name}" for name in RETIRED} & names.keys()
    for line in gone:
        assert run([*line.split()[1:], "--some-option"]) == 2
        assert f"'{line}' was removed in " in capsys.readouterr().err
        assert f"`{line}`" in CHANGES
    lacking = {line: sorted(set(names[line]) - now[line]) for line in names.keys() - gone}
    assert not {line: options for line, options in lacking.items() if options}
    figure(f"{len(names) - len(gone)} of {len(names)} commands of {version} accepted")
