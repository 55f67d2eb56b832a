# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R15: data directory, settings, metrics of dashboards and alerts, and scripts of 0.2 keep their meaning."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sqlite3
import tarfile
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from typer.main import get_command

from tests.promises.support.previous import RELEASES
from tests.support.stack import Stack
from veilleuse.agent import settings as agent
from veilleuse.agent.commands.main import COMMANDS, WITHOUT_SETTINGS, main
from veilleuse.collector import settings as collector
from veilleuse.collector.cli.main import RETIRED, app, run
from veilleuse.collector.cli.shared import EXIT_WARNINGS
from veilleuse.collector.exposition.catalogue import BY_NAME
from veilleuse.collector.store.sqlite.migrations import migrations
from veilleuse.wire.settings_file import ConfigurationError, describe, load

NAMES: Final[dict[str, Any]] = json.loads((RELEASES / "veilleuse-0.2.0-names.json").read_text("utf-8"))
CHANGES: Final = "\n".join(
    file.read_text("utf-8") for file in sorted((RELEASES.parents[2] / "changelog.d").glob("*.md"))
)
SIDES: Final = {"agent": (agent, agent.AgentSettings), "collector": (collector, collector.CollectorSettings)}
VOLATILE: Final = frozenset({"generated_unix_milliseconds", "generated", "method_version"})
"""Keys of a report that name its time and its method."""

REPLACED: Final = (
    "I4, I5 and I12's hours are of the whole months",
    "Months of PCs are kept for 18, or until their year is closed",
)
"""Notes that changed because I5 is of sums now, as I1 is: they name it elsewhere."""


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
def test_a_data_directory_of_0_2_says_the_same(tmp_path, monkeypatch, capsys, figure):
    """A data directory gives the same figures, closed year and rows in this version, and is served."""
    with tarfile.open(RELEASES / "veilleuse-0.2.0-data.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    said = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert len(said) > 10
    stack = Stack(tmp_path)
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(stack.data))
    tables = rows(stack.data)
    assert run(["account", "list"]) == 0
    assert "grafana" in capsys.readouterr().out
    assert rows(stack.data).items() >= tables.items(), "new tables may come"
    with closing(sqlite3.connect(stack.data / "data.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (migrations("data")[-1].number,)
    for line, before in said.items():
        code, now = run(shlex.split(line)), json.loads(capsys.readouterr().out)
        if line.startswith("verify "):  # the year was closed by method 0.5: its signature holds
            assert ["of method 0.5" in note for note in now[0].pop("notes")] == [True]
            assert before[0].pop("notes") == []
            assert code == EXIT_WARNINGS
        else:
            assert code == 0
        assert lacking(steady(before), steady(now)) == [], line
    with stack:
        assert stack.stop(stack.start_collector()) == 0
    figure(f"{len(said)} outputs from {sum(tables.values()):,} rows of 0.2.0 unchanged")


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
def test_settings_of_0_2_are_read(side, figure):
    """Each key is read with its default and choices, or reported, and in the changelog, as no longer used."""
    module, kind = SIDES[side]
    now = {described.dotted for described in describe(kind)}
    for key, values in NAMES[side].items():
        for value in values:
            told: list[str] = []
            name = f"{module.ENVIRONMENT_PREFIX}__{key.upper().replace('.', '__')}"
            module.read_settings(None, {name: value}, tell=told.append)
            if key not in now:
                assert [f"'{key}'" in line for line in told] == [True]
                assert f"`{key}`" in CHANGES
    figure(f"{len(NAMES[side])} settings of the {side} of 0.2.0 read, or reported as no longer used")


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
def test_metrics_of_0_2_are_exposed(figure):
    """Each metric of 0.2 is exposed with every label, or the changelog names it as removed."""
    gone = [name for name in NAMES["metrics"] if name not in BY_NAME]
    assert not [name for name in gone if f"`{name}`" not in CHANGES]
    lacking = {
        name: sorted(set(labels) - set(BY_NAME[name].labels))
        for name, labels in NAMES["metrics"].items()
        if name in BY_NAME
    }
    assert not {name: labels for name, labels in lacking.items() if labels}
    figure(f"{len(NAMES['metrics']) - len(gone)} of {len(NAMES['metrics'])} metrics of 0.2.0 exposed")


def options_now() -> dict[str, set[str]]:
    """Return command → its options, for both programs."""
    found = {f"veilleuse {name}": options for name, options in leaves(get_command(app), ())}
    for name in COMMANDS:
        parser = argparse.ArgumentParser(add_help=False)
        importlib.import_module(f"veilleuse.agent.commands.{name.replace('-', '_')}").add_arguments(parser)
        own = {option for action in parser._actions for option in action.option_strings}
        found[f"veilleuse-agent {name}"] = own | (set() if name in WITHOUT_SETTINGS else {"--config"})
    return found


def leaves(command: Any, words: tuple[str, ...]) -> list[tuple[str, set[str]]]:
    """Return the commands without subcommands below a command, with their options."""
    if hasattr(command, "list_commands"):
        names = command.list_commands(None)
        return [leaf for name in names for leaf in leaves(command.get_command(None, name), (*words, name))]
    options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    return [(" ".join(words), options)]


@pytest.mark.promise("R15")
def test_command_lines_of_0_2_are_taken(figure, capsys):
    """Each command accepts its options of 0.2, or its message and the changelog say that it was removed."""
    now: Mapping[str, set[str]] = options_now()
    gone = {line for line in NAMES["commands"] if line not in now}
    assert gone == {f"veilleuse {name}" for name in RETIRED}
    for line in gone:
        assert run([*line.split()[1:], "--some-option"]) == 2
        assert f"'{line}' was removed in " in capsys.readouterr().err
        assert f"`{line}`" in CHANGES
    lacking = {
        line: sorted(set(NAMES["commands"][line]) - now[line]) for line in NAMES["commands"].keys() - gone
    }
    assert not {line: options for line, options in lacking.items() if options}
    figure(f"{len(NAMES['commands']) - len(gone)} of {len(NAMES['commands'])} commands of 0.2.0 accepted")
