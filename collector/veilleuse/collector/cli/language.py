# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes help, errors and tables of the commands in French under a French locale.

Commands are written in English. Their French is in locale/*.toml: English text → French text.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from typer.core import TyperGroup

from veilleuse.collector.cli.condition_words import condition_catalogue
from veilleuse.collector.settings import is_french
from veilleuse.wire.translations import Translations, read_catalogue, read_french

FILES: Final = ("locale/help.toml", "locale/errors.toml", "locale/output.toml")
_CELLS: Final = "locale/cells.toml"
_WORD: Final = re.compile(r"[A-Z]{3,}|<[a-z ]+>")
"""A placeholder in a line of usage, or the type of an option: HOST, <int range>."""
_HELP: Final = re.compile(r"(?P<text>.*?)(?:(?P<space>^|  )\[(?P<facts>[^\[\]]*)\])?", re.DOTALL)
"""Help of an option, and the facts that the parser appends: [default: 10; required]."""
_NO_BREAK: Final = "\u00a0"
_Context: Final[Any] = TyperGroup.context_class
_Formatter: Final[Any] = _Context.formatter_class


@cache
def translations() -> Translations:
    """Return the French catalogue of the commands."""
    return Translations(condition_catalogue() | read_french("veilleuse.collector.cli", *FILES))


def translate(text: str) -> str:
    """Return the text in the language of the locale; a text without a translation stays English."""
    return translations()(text) if is_french() else text


def shows_french() -> bool:
    """Tell if standard output is a terminal with a French reader: lines in a pipe are English everywhere."""
    return is_french() and sys.stdout.isatty()


def translate_lines(text: str) -> str:
    """Translate lines for standard output, each by itself, where it shows French; indents stay."""
    if not shows_french():
        return text
    lines = [(line.strip(), line[: len(line) - len(line.lstrip())]) for line in text.split("\n")]
    return "\n".join(indent + translate(line) for line, indent in lines)


def translate_cell(text: str, name: str = "") -> str:
    """Translate a cell on a French terminal, if it is a word of ours, or one of the column `name`."""
    if not shows_french():
        return text
    return _cells().find(f"{name}: {text}") or _cells()(text)


@cache
def _cells() -> Translations:
    return Translations(read_catalogue("veilleuse.collector.cli", _CELLS))


def join_sentences(*texts: str) -> str:
    """Translate each text, and join those that are not empty."""
    joint = f"{_NO_BREAK}; " if is_french() else "; "
    return joint.join(translate(text) for text in texts if text)


def translate_help(command: Any) -> None:
    """Translate the help of a command, and that of the commands in it, where the locale is French."""
    if not is_french():
        return
    command.context_class = _FrenchContext
    command.short_help = command.short_help and translate(command.short_help)
    command.help = command.help and _translate_paragraphs(command.help)
    for parameter in command.params:
        parameter.help = parameter.help and translate(parameter.help)
    for one in getattr(command, "commands", {}).values():
        translate_help(one)


def _translate_paragraphs(text: str) -> str:
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(translate(" ".join(one.split())) for one in paragraphs)


class _FrenchFormatter(_Formatter):  # type: ignore[misc]
    """Formats help with French headings, placeholders and facts on options."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, _translate_words(args), translate("Usage: "))

    def write_heading(self, heading: str) -> None:
        self.write(f"{'':>{self.current_indent}}{translate(heading)}{_NO_BREAK}:\n")

    def write_dl(self, rows: Sequence[tuple[str, str]], *others: Any, **named: Any) -> None:
        told = [(_translate_words(first), _translate_facts(second)) for first, second in rows]
        super().write_dl(told, *others, **named)


class _FrenchContext(_Context):  # type: ignore[misc]
    formatter_class = _FrenchFormatter


def _translate_words(text: str) -> str:
    return _WORD.sub(lambda found: translate(found[0]), text)


def _translate_facts(text: str) -> str:
    found = _HELP.fullmatch(text)
    if found is None or found["facts"] is None:
        return translate(text)
    facts = join_sentences(*found["facts"].split("; "))
    return f"{translate(found['text'])}{found['space']}[{facts}]"
