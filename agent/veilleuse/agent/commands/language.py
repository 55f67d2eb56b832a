# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes help and texts of the commands in French for French users.

The commands are written in English. Their French is in french.toml: English text → French text.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import cache
from typing import Any, NoReturn

from veilleuse.agent.errors import ConfigurationError
from veilleuse.agent.platforms import SYSTEM
from veilleuse.agent.settings import is_french
from veilleuse.wire.translations import Translations, read_french


@cache
def translations() -> Translations:
    """Return the French catalogue of the commands."""
    return Translations(read_french("veilleuse.agent.commands", "french.toml"))


def translate(text: str) -> str:
    """Return a line in the user's language; a text without a translation stays English."""
    if not (is_french() or (SYSTEM == "windows" and _windows_is_french())):
        return text
    indent = len(text) - len(text.lstrip(" "))
    return text[:indent] + translations()(text[indent:])


def print_lines(lines: Iterable[str]) -> None:
    """Print lines for people on standard output."""
    print("\n".join(map(translate, lines)))


def _windows_is_french() -> bool:
    """Tell if the user's language is French. Windows has no LANG; Python takes its setting."""
    import locale

    return (locale.getlocale(locale.LC_CTYPE)[0] or "").lower().startswith("fr")


class CommandParser(argparse.ArgumentParser):
    """Parses a command line. Its errors are ConfigurationError, and its help is in the user's language."""

    def __init__(self, **options: Any) -> None:
        """Take the arguments of argparse.ArgumentParser."""
        super().__init__(**options, formatter_class=_Formatter)

    def format_help(self) -> str:
        """Return the help, with placeholders in the user's language."""
        for action in self._actions:
            action.metavar = translate(action.metavar) if isinstance(action.metavar, str) else action.metavar
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise ConfigurationError."""
        raise ConfigurationError(f"{message}; see '{self.prog} --help'")


class _Formatter(argparse.HelpFormatter):
    """Translates when help is shown: a command that runs reads no catalogue."""

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, translate("usage: ") if prefix is None else prefix)

    def start_section(self, heading: str | None) -> None:
        super().start_section(heading and translate(heading))

    def add_text(self, text: str | None) -> None:
        super().add_text(text and translate(text))

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help and translate(action.help)
