# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Settings, metrics, commands, sources and every field that leaves a machine are documented."""

from __future__ import annotations

import importlib.util
import json
import re
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.architecture.tree import ROOT
from veilleuse.agent.commands.main import main as run_agent
from veilleuse.agent.settings import AgentSettings
from veilleuse.collector.cli.main import run as run_collector
from veilleuse.collector.derive.calibration.comparison import StudyRow
from veilleuse.collector.exposition.catalogue import CATALOGUE
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.settings_file import describe
from veilleuse.wire.v1 import telemetry_pb2 as wire
from veilleuse.wire.vocabulary import SOURCES

DOCS = ROOT / "docs"
SENT = (
    wire.Record,
    wire.HelloRequest,
    wire.PushRequest,
    wire.RenewRequest,
    wire.EnrolRequest,
    wire.ChallengeRequest,
    wire.RenewExpiredRequest,
)
"""Messages that an agent may send."""
GROUPS = {
    "account",
    "action",
    "ca",
    "calendar",
    "calibrate",
    "configuration",
    "factors",
    "hosts",
    "intensity",
    "inventory",
    "meters",
    "plugs",
    "reen",
    "report",
    "token",
}
"""Commands of `veilleuse` that hold commands."""


def text_of(name: str) -> str:
    """Return the text of a page of docs/."""
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generate() -> Any:
    """Return the module docs/generate.py."""
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize("name", ["config", "metrics", "methodology"])
def test_generated_pages_are_fresh(generate, name):
    """`make docs` would change nothing."""
    assert text_of(f"{name}.md") == getattr(generate, name)(), "run `make docs`"


def test_the_table_of_plugs_says_that_nobody_measured(generate):
    """While data/plug_study.json holds no study, methodology.md says that its uncertainties are priors."""
    empty = not json.loads(generate.STUDIES.read_text(encoding="utf-8"))["studies"]
    said = "Nobody has run a study with real plugs yet: the uncertainties above are priors." in text_of(
        "methodology.md"
    )
    assert said == empty


def test_a_study_fills_the_table_of_plugs(generate):
    """A report of `veilleuse plugs`, and who made it, become rows. Two machines have no interval."""
    row = StudyRow("sff", "linux", "load_modelled", "whole", 3, 2016, 0.124, 0.02, 0.241, 1.333, 1.5, 3)
    pair = row._replace(system="windows", units=2, error=-0.05, error_low=None, error_high=None, inside=2)
    study = {"by": "Lyon", "from": "2027-03-01", "to": "2027-03-29", "method_versions": ["0.6"]}
    table = generate.plug_studies([{**study, "rows": [row._asdict(), pair._asdict()]}]).splitlines()
    head = "| Lyon, 2027-03-01 to 2027-03-29, method 0.6 | sff"
    assert table[2:] == [
        f"{head} | linux | load_modelled | whole | 3 | +12% (+2% to +24%) | 1.33, 1.50 | 3 of 3 |",
        f"{head} | windows | load_modelled | whole | 2 | -5% (too few plugs) | 1.33, 1.50 | 2 of 2 |",
    ]


@pytest.mark.parametrize("settings", [AgentSettings, CollectorSettings])
def test_every_setting_is_documented(settings):
    """Each setting has a sentence, and a row in docs/config.md under its section."""
    page = text_of("config.md")
    for described in describe(settings):
        assert len(described.doc) > 10, f"{described.dotted} has no sentence"
        section, _, name = described.dotted.rpartition(".")
        heading = f"### `[{section}]`" if section else "### Top level"
        assert any(
            f"| `{name}` |" in part
            for part in re.split(r"(?=^### )", page, flags=re.M)
            if part.startswith(heading)
        ), described.dotted


def test_every_metric_is_documented():
    """docs/metrics.md names each metric."""
    page = text_of("metrics.md")
    assert CATALOGUE
    for metric in CATALOGUE:
        assert f"`{metric.name}`" in page


@pytest.mark.parametrize("page", sorted((DOCS / "fr").glob("*.md")), ids=lambda page: page.stem)
def test_a_french_page_is_linked_and_names_what_exists(page):
    """README.fr.md links to each page of docs/fr, whose metrics and settings exist."""
    assert f"(docs/fr/{page.name})" in (ROOT / "README.fr.md").read_text(encoding="utf-8")
    settings = {each.dotted for side in (AgentSettings, CollectorSettings) for each in describe(side)}
    metrics = {metric.name for metric in CATALOGUE}
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"`(veilleuse_\w+)`", text)) <= metrics
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", text))
    assert {name for name in named if not name.endswith((".csv", ".key", ".token", ".toml"))} <= settings


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_source_has_its_section(name):
    """A source's section of docs/sources.md starts with Requirements, Metrics and Configuration."""
    sections = re.split(r"^## ", text_of("sources.md"), flags=re.M)
    section = next((part for part in sections if part.splitlines()[:1] == [name]), "")
    assert re.findall(r"^### (\w+)", section, re.M)[:3] == ["Requirements", "Metrics", "Configuration"], (
        f"add a section '## {name}' to docs/sources.md; it starts with ### Requirements, Metrics, Configuration"
    )


@pytest.mark.promise("P1")
@pytest.mark.parametrize("message", SENT, ids=lambda message: message.DESCRIPTOR.name)
def test_every_field_that_leaves_a_machine_is_in_the_dictionary(message, figure):
    """P1: docs/privacy.md contains the name of each field that an agent can send."""
    page = text_of("privacy.md")
    sent = {field.name for field in fields(message.DESCRIPTOR, set())} - {"body", "measurement"}
    missing = sent - set(re.findall(r"`(\w+)`", page))
    figure(f"{len(missing)} of {len(sent)} fields of {message.DESCRIPTOR.name} missing in privacy.md")
    assert missing == set(), f"say in docs/privacy.md what these fields are for: {sorted(missing)}"


def fields(message: Descriptor, seen: set[str]) -> list[FieldDescriptor]:
    """Return all fields below a message, each message once."""
    if message.full_name in seen:
        return []
    seen.add(message.full_name)
    found: list[FieldDescriptor] = []
    for field in message.fields:
        found.append(field)
        if field.message_type is not None:
            found += fields(field.message_type, seen)
    return found


@pytest.mark.parametrize("program", ["veilleuse", "veilleuse-agent"])
def test_every_command_is_documented(program, monkeypatch, capsys):
    """docs/commands.md names each command that `--help` lists, behind the program's name."""
    page = text_of("commands.md")
    for name, value in {"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    for words in commands(program, capsys):
        assert re.search(rf"\b{program} {' '.join(words)}\b", page), f"{program} {' '.join(words)}"


def commands(program: str, capsys: pytest.CaptureFixture[str], *before: str) -> list[tuple[str, ...]]:
    """Return the commands of a program, those of groups included, as its help lists them."""
    run = {"veilleuse": run_collector, "veilleuse-agent": run_agent}[program]
    with suppress(SystemExit):
        run([*before, "--help"])
    said = capsys.readouterr().out
    listing = re.split(r"\bCOMMAND\n|Commands\b.*\n", said, maxsplit=1)[-1].split("\noptions:")[0]
    found = [(*before, word) for word in re.findall(r"^[│|]?\s{1,4}([a-z][a-z-]*)\s{2,}\S", listing, re.M)]
    assert found, said
    if before:
        return found
    groups = GROUPS & {words[0] for words in found}
    inner = [words for group in sorted(groups) for words in commands(program, capsys, group)]
    return [words for words in found if words[0] not in groups] + inner


@pytest.mark.parametrize("root", ["agent", "collector"])
def test_every_folder_of_the_code_is_on_the_map(root):
    """docs/architecture.md names each folder of the code."""
    page = text_of("architecture.md")
    folders = {file.parent.name for file in (ROOT / root / "veilleuse" / root).glob("*/__init__.py")}
    assert folders
    assert {name for name in folders if f"`{name}/`" not in page} == set()
