# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Feed hostile values to every setting of text, on both sides: refused when they are read, or they work."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.backups import directory
from tests.support.machines import settings_in
from veilleuse.agent import settings as agent
from veilleuse.agent.commands.language import translate as agent_french
from veilleuse.collector import settings as collector
from veilleuse.collector.app.data_directory import open_collector
from veilleuse.collector.app.service import run as serve
from veilleuse.collector.cli.doctor import run_checks
from veilleuse.collector.cli.language import translate as collector_french
from veilleuse.collector.cli.main import run
from veilleuse.collector.errors import CollectorError, ConfigurationError
from veilleuse.wire.settings_file import Section, SettingDescription, describe

HOSTILE = (
    "<b>",
    "javascript:x",
    "Mars/X",
    "../../etc/passwd",
    "a\nb",
    "a\0b",
    "a\x1b[31mb",
    "a\udcffb",  # a byte of the environment that is no UTF-8
    "a\u202eb",
    " ",
    "-",
    "https://",
    "https://a b/",
    "https://a/\r\nX-Other: y",
    "http://user:hunter2@host:1",
    "x" * 5000,
    "٢٠٢٦-٠١-٠١",
    "0000-00-00",
    "2026-W01-1",
    "0001-01-01",
    "'; DROP TABLE hosts; --",
    "host:99999999",
    "[::zz]:1",
    "laptops@٢٠٢٧=0.5",
)
ORDINARY = frozenset(
    {"javascript:x", "٢٠٢٦-٠١-٠١", "0000-00-00", "2026-W01-1", "0001-01-01", "host:99999999", "[::zz]:1"}
)
"""Of these, a name of a file may be any: a file that is not there. `<b>` and others stand for them."""
ENGLISH = re.compile(r"\b(must|write|use|it is|cannot|is not|neither|has a|without)\b")


def texts(side: type[Section]) -> list[SettingDescription]:
    """Return the settings of a side that hold text, but its own folder: tests need that."""
    return [
        one
        for one in describe(side)
        if one.kind in (str, Path, tuple[str, ...]) and one.dotted not in ("data_dir", "paths.state")
    ]


def refusal(read: Any, prefix: str, one: SettingDescription, value: str) -> str:
    """Read the settings with this value in the environment; return why it was refused, else nothing."""
    name = f"{prefix}__{one.dotted.upper().replace('.', '__')}"
    try:
        read(None, {name: value})
    except ConfigurationError as error:
        told = str(error)
        assert told.startswith(f"'{one.dotted}' in the environment ({name}) "), told
        assert told.isprintable(), "one line, that a terminal can show"
        assert len(told) < 500
        assert "hunter2" not in told
        return told
    return ""


def require_french(french: str, told: str) -> None:
    """Check that no English word is left around the value."""
    assert french != told
    assert not ENGLISH.search(french), french


@pytest.mark.any_date
@pytest.mark.parametrize("one", texts(collector.CollectorSettings), ids=lambda one: one.dotted)
def test_a_hostile_setting_of_the_collector(tmp_path, one, monkeypatch):
    """What is not refused when it is read stops no collector, and `doctor` runs through with it."""
    prepared = directory(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # a file that has no folder is made there
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    for value in HOSTILE:
        told = refusal(collector.read_settings, collector.ENVIRONMENT_PREFIX, one, value)
        if told:
            require_french(collector_french(told), told)
            continue
        if one.dotted.endswith("_file") and value in ORDINARY:
            continue
        settings = settings_in(tmp_path, **{one.dotted: value})
        assert settings.data_dir == prepared.data_dir
        for finding in run_checks(settings):
            assert finding.text.isprintable(), finding
        with suppress(CollectorError), open_collector(settings):
            pass


@pytest.mark.parametrize("one", texts(agent.AgentSettings), ids=lambda one: one.dotted)
def test_a_hostile_setting_of_the_agent(one, monkeypatch):
    """Each refusal is in French too. What is not refused is a name of a file, or of something."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    refused = {value: refusal(agent.read_settings, agent.ENVIRONMENT_PREFIX, one, value) for value in HOSTILE}
    for told in filter(None, refused.values()):
        require_french(agent_french(told), told)
    named = one.kind is Path or one.dotted.endswith(("_file", "entity", "sources"))
    taken = [value for value, told in refused.items() if not told and value.strip()]  # blank is as empty
    assert named or not taken


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("reporting.time_zone", "Mars/X"),
        ("reporting.time_zone", "Europe"),  # a folder of the table of zones
        ("reporting.zone", "<b>"),
        ("otlp.endpoint", "javascript:x"),
        ("otlp.endpoint", "http://otel.example.org/v1/metrics"),
        ("otlp.proxy", "https://proxy.example.org"),
        ("intensity.odre_url", "file:///etc/passwd"),
        ("intensity.electricity_maps_zone", "FR&x=y"),
        ("intensity.series", "Odré"),
    ],
)
def test_every_command_refuses_what_only_the_service_would_use(tmp_path, capsys, dotted, value):
    """Exit code 2 and one line with key, file and remedy, of `serve`, `doctor` and any other command."""
    section, _, name = dotted.partition(".")
    file = tmp_path / "collector.toml"
    file.write_text(f"data_dir = '{tmp_path / 'data'}'\n[{section}]\n{name} = '{value}'\n", encoding="utf-8")
    for words in (["serve"], ["doctor"], ["hosts", "list"], ["init", "--if-missing"]):
        assert run([*words, "--config", str(file)]) == 2, words
        told = capsys.readouterr().err
        assert told.startswith(f"veilleuse: '{dotted}' in {file} is '{value}': "), told
        assert told.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("section", "line", "remedy"),
    [
        ("reporting", 'k_anonymity = "10"', "leave out its quotes"),
        ("grpc", "workers = 2\nqueue_pushes = 224", "lower the one"),
        ("pki", "register_file = '{folder}'", "name a file in it"),
        ("intensity", 'series = "zz"', "import its values first"),
        ("intensity", "ca_file = '{folder}/gone.pem'", "name a file of certificates in PEM"),
    ],
)
def test_a_setting_that_cannot_be_right_is_told(tmp_path, capsys, section, line, remedy):
    """`serve` refuses it with one line, and a `doctor` beside no running collector tells the same."""
    settings = directory(tmp_path)
    file = tmp_path / "collector.toml"
    addresses = "[http]\naddress = '127.0.0.1:0'\n[grpc]\naddress = '127.0.0.1:0'\nenrolment_address = '127.0.0.1:0'\n"
    own = f"[{section}]\n{line.format(folder=tmp_path)}\n"
    text = addresses + own if section != "grpc" else addresses + own.partition("\n")[2]
    file.write_text(f"data_dir = '{settings.data_dir}'\n{text}", encoding="utf-8")
    assert run(["serve", "--config", str(file)]) in (1, 2)
    assert remedy in capsys.readouterr().err.splitlines()[-1]
    assert run(["doctor", "--config", str(file)]) in (1, 2)
    assert remedy in "".join(capsys.readouterr())


def test_a_zone_without_factor_is_told_before_it_serves(tmp_path):
    """The name of a zone may be any word. `serve` refuses one without factor, and so does `doctor`."""
    directory(tmp_path)
    settings = settings_in(tmp_path, **{"reporting.zone": "Atlantis"})
    told = "'reporting.zone' is 'Atlantis': no electricity factor for zone 'Atlantis'"
    with pytest.raises(ConfigurationError, match=told):
        serve(settings)
    found = [one for one in run_checks(settings) if one.check == "zone"]
    assert [(one.outcome, told in one.text) for one in found] == [("failed", True)]


def test_doctor_tells_the_files_that_settings_name(tmp_path):
    """A key file that is gone, a token file that is open, authorities that are none: each has its line."""
    directory(tmp_path)
    (tmp_path / "token").write_text("long-enough-for-a-token")
    (tmp_path / "token").chmod(0o666)
    settings = settings_in(
        tmp_path,
        **{
            "http.metrics_token_file": str(tmp_path / "token"),
            "backup.key_file": str(tmp_path / "gone"),
            "intensity.odre": "true",
            "intensity.ca_file": str(tmp_path / "token"),
        },
    )
    found = {one.text.partition(" ")[0] for one in run_checks(settings) if one.check == "settings"}
    assert found == {"[http]", "backup.key_file", "intensity.ca_file"}
    assert {one.outcome for one in run_checks(settings_in(tmp_path)) if one.check == "settings"} == {"good"}
