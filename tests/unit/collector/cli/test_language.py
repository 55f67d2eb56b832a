# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests the French of the commands: help of every command, errors, tables."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from veilleuse.collector.cli import language
from veilleuse.collector.cli.language import _WORD, translations
from veilleuse.collector.cli.main import COMMANDS, app, run

LOCALE = Path(language.__file__).parent / "locale"
OF_THE_PARSER = ("parser", "placeholders")


@pytest.fixture
def french(monkeypatch):
    """Give this process a French locale."""
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")


def commands() -> Iterator[tuple[str, Any]]:
    """Yield (words of the command line, command) of every command, groups too."""
    root: Any = get_command(app)
    yield "", root
    for name in COMMANDS:
        yield from _below(name, root.get_command(None, name))


def _below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield words, command
    for name, one in getattr(command, "commands", {}).items():
        yield from _below(f"{words} {name}", one)


def texts(command: Any) -> Iterator[str]:
    """Yield every text of a command's help, as the catalogue names it."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield " ".join(paragraph.split())
    yield command.short_help or ""
    for parameter in command.params:
        yield parameter.help or ""
        yield from _WORD.findall(parameter.metavar or "")


def test_every_help_text_has_its_french():
    """Paragraphs of commands, lines of options, placeholders: each is in the catalogue."""
    missing = [
        f"{words}: {text}"
        for words, command in commands()
        for text in texts(command)
        if text and translations().find(text) is None
    ]
    assert missing == []
    assert sum(1 for _ in commands()) > 100


def test_help_of_every_command_is_french(french, capsys):
    """Every `--help` under a French locale: headings, usage, types, defaults; no English word of the parser."""
    for words, _ in commands():
        assert run([*words.split(), "--help"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"Utilisation\u00a0: veilleuse{' ' * bool(words)}{words} "), shown
        assert "afficher cette aide" in shown
        english = r"\b(Usage|Commands|Show this|default:|required|COMMAND|FILE)\b|<(str|int|float)"
        assert not re.search(english, shown), f"{words}: {shown}"


def test_help_stays_english_elsewhere(capsys):
    """The catalogue is for French locales only."""
    assert run(["hosts", "list", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: veilleuse hosts list [OPTIONS]")
    assert "List machines." in shown


def test_no_help_of_the_catalogue_is_left_over():
    """Every line of help.toml belongs to a text of a command; others are of the parser."""
    tables = tomllib.loads((LOCALE / "help.toml").read_text(encoding="utf-8"))
    known = {text for _, command in commands() for text in texts(command)}
    left = {
        text for name, table in tables.items() if name not in OF_THE_PARSER for text in table
    } - known - {help_line for _, help_line in COMMANDS.values()}
    assert left == set()
