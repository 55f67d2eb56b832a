# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests the French of the agent's commands: help of each, the lines of show and doctor, errors."""

from __future__ import annotations

import ast
import locale
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from veilleuse.agent.commands import doctor, doctor_network, doctor_spool, language, plain_text, show
from veilleuse.agent.commands.main import COMMANDS, main, parse
from veilleuse.wire.translations import Translations, read_french

FIELD = "⟦…⟧"


@pytest.fixture
def french(monkeypatch):
    """Give this process a French locale."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_french(command, french, capsys):
    """Every `--help` under a French locale: each text is in the catalogue, no English word is left."""
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("utilisation\u00a0: veilleuse-agent")
    english = r"\b(usage|positional|COMMAND|FILE|the|and|this|with|default|write)\b"
    assert not re.search(english, shown), shown


def test_help_stays_english_elsewhere(capsys):
    """The catalogue is for French users only."""
    with pytest.raises(SystemExit):
        main(["show", "--help"])
    assert capsys.readouterr().out.startswith("usage: veilleuse-agent show [-h] [--config FILE]")


def told(module: object) -> Iterator[str]:
    """Yield the lines and warnings that a module yields, with FIELD for each of their fields."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.Yield) and (value := node.value) is not None:
            parts = value.values if isinstance(value, ast.JoinedStr) else [value]
            texts = [one.value if isinstance(one, ast.Constant) else FIELD for one in parts]
            text = "".join(map(str, texts)).strip()
            if re.search(r"[a-z]{2}", text):  # others only join texts
                yield text


@pytest.mark.parametrize("module", [show, plain_text, doctor, doctor_network, doctor_spool])
def test_each_line_has_its_french(module):
    """Each text that show and doctor yield is in the catalogue."""
    known = Translations(read_french("veilleuse.agent.commands", "french.toml") | {FIELD: FIELD})
    missing = [text for text in told(module) if known.find(text) is None]
    assert not missing, "\n".join(missing)


def test_errors_as_they_are_seen(french, capsys):
    """One line in French on standard error, with the same exit code as elsewhere."""
    assert main(["selftest", "--minutes", "999"]) == 2
    assert main(["enrol"]) == 2
    assert main(["doctor", "--config", "/nowhere"]) == 2
    assert capsys.readouterr().err.replace("\u00a0", " ").splitlines() == [
        "veilleuse-agent: argument --minutes : 0.1 à 120 minutes ; voir « veilleuse-agent selftest --help »",
        "veilleuse-agent: il manque FICHIER ; voir « veilleuse-agent enrol --help »",
        "veilleuse-agent: pas de fichier de configuration /nowhere : le créer, ou omettre --config",
    ]


@pytest.mark.parametrize(
    ("system", "named", "text"),
    [
        ("windows", "French_France", "Rien à faire."),
        ("windows", "fr_CA", "Rien à faire."),
        ("windows", "English_United Kingdom", "Nothing to do."),
        ("windows", None, "Nothing to do."),
        ("linux", "fr_FR", "Nothing to do."),
    ],
)
def test_windows_names_the_language_itself(system, named, text, monkeypatch):
    """Windows has no LANG: the language of the user's setting counts there, and nowhere else."""
    monkeypatch.setattr(language, "SYSTEM", system)
    monkeypatch.setattr(locale, "getlocale", lambda category: (named, "1252"))
    assert language.translate("Nothing to do.") == text
    assert language.translate("    remedy: measure the host").startswith("    rem")


def test_a_command_that_runs_reads_no_catalogue(french):
    """The service starts `send` for each contact: its command line is parsed without the catalogue."""
    language.translations.cache_clear()
    for command in COMMANDS:
        parse([command, *(["x"] if command == "enrol" else [])])
    assert language.translations.cache_info().misses == 0
