# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Generate random command lines from the parsers of both programs, as a hurried, mistaken or hostile person
types them."""

from __future__ import annotations

import argparse
import importlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typer.main import get_command

from veilleuse.agent.commands.main import COMMANDS as AGENT_COMMANDS
from veilleuse.collector.cli.main import app

RUN_ON: Final = frozenset(
    {"serve", "top", "run", "poll", "once", "rapl-helper", "powermetrics-helper", "selftest", "simulate"}
)
"""Commands that run until stopped, or whose arguments decide how long they run or how much they make."""
NUMBERS: Final = (
    "0", "-1", "1", "12", "99999999999999999999", "9" * 5_000, "1e308", "1e999", "nan", "-inf", "0x10", "٣", "1_000", "1 250,5",
    "1,250", "0.1", "100", "2025",
)  # fmt: skip
DATES: Final = (
    "2025-01-01", "2025-01-31", "2025-02-30", "0001-01-01", "9999-12-31", "10000-01-01", "2025-W01-1", "20250101", "2000-01-01",
    "2200-12-31", "2025-01-01T00:00:00+14:00", "31/01/2025",
)  # fmt: skip
TEXTS: Final = (
    "", " ", "-", "--", "a", "é", "caf\udce9", "\U0001f4a1" * 40, "a\nb", "\x1b[31m", "\u202e", "'; DROP TABLE hosts; --", "%s{0}",
    "x" * 9_000, "=1+1", "../..", "a=b", "unit=host", "0" * 32, "zz" * 16, "0" * 8,
)  # fmt: skip
GOOD: Final = (
    "hq", "FR", "Europe/Paris", "server", "workstation", "classroom", "csv", "json", "html", "xlsx", "fr", "en", "kWh", "Wh", "Voirie",
    "Eau", "entity,site", "year,month", "then", "now", "reader", "admin", "10min", "30s", "consumption", "objectives", "measures",
    "assets", "electricity/FR", "model_disagrees", "operators", "api", "active", "3.1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Command:
    """A command line starts with `words`; arguments and options may follow."""

    words: tuple[str, ...]
    arguments: tuple[str, ...]
    """Kind of each positional argument: `DATE`, `FILE`, `int` …"""
    options: tuple[tuple[str, str], ...]
    """Name of each option, and kind of its value; empty for an option without a value."""
    required: frozenset[str] = frozenset()
    """Options without which the command is refused."""


def commands_of_collector() -> list[Command]:
    """Return the commands of `veilleuse` that end by themselves."""
    return [one for one in _leaves(get_command(app), ()) if one.words[0] not in RUN_ON]


def _leaves(command: Any, words: tuple[str, ...]) -> Iterator[Command]:
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from _leaves(command.get_command(None, name), (*words, name))
        return
    options = [one for one in command.params if one.opts[0].startswith("-")]
    yield Command(
        words,
        tuple(_kind(one) for one in command.params if one not in options),
        tuple((one.opts[0], "" if one.is_flag else _kind(one)) for one in options),
        frozenset(one.opts[0] for one in options if one.required),
    )


def _kind(parameter: Any) -> str:
    """Return the parser's name for the value, or its type if it has none."""
    kind = parameter.type_descriptor.annotation
    return "FILE" if kind is Path else parameter.metavar or getattr(kind, "__name__", "str")


def commands_of_agent() -> list[Command]:
    """Return the commands of `veilleuse-agent` that end by themselves."""
    found = []
    for name in AGENT_COMMANDS:
        if name in RUN_ON:
            continue
        parser = argparse.ArgumentParser(add_help=False)
        importlib.import_module(f"veilleuse.agent.commands.{name.replace('-', '_')}").add_arguments(parser)
        actions = parser._actions
        options = [
            (one.option_strings[0], "" if one.nargs == 0 else str(one.metavar))
            for one in actions
            if one.option_strings
        ]
        arguments = tuple(str(one.metavar) for one in actions if not one.option_strings)
        found.append(Command((name,), arguments, (*options, ("--config", "FILE"))))
    return found


class Typist:
    """A typist writes random command lines; the same seed gives the same lines."""

    def __init__(self, seed: int, files: Sequence[Path], folder: Path) -> None:
        """`files` are input files; output is written below `folder`, which is also the working directory."""
        self._chance = random.Random(seed)
        self._paths = [
            *map(str, files), "/dev/null", "/dev/zero", "/dev/full", "/nowhere/file", "n" * 300, "relative", ".", str(folder / "new"),
            str(folder / "né\udce9"), "/proc/self/mem",
        ]  # fmt: skip

    def line(self, commands: Sequence[Command]) -> list[str]:
        """Return the words of one random command line, without the program's name."""
        command = self._chance.choice(commands)
        rest = [[self._word(kind)] for kind in command.arguments if self._chance.random() < 0.95]
        for name, kind in command.options:
            if self._chance.random() < (
                0.95 if name in command.required else 0.25 if name != "--config" else 0.03
            ):
                rest.append([name, self._word(kind)] if kind else [name])
        if self._chance.random() < 0.05:
            rest.append([self._chance.choice(("--no-such", "-x", "--json=1", "--help", "--config", "more"))])
        self._chance.shuffle(rest)
        return [*command.words, *(word for words in rest for word in words)]

    def _word(self, kind: str) -> str:
        """Return a value that is of the given kind in most cases."""
        pools = (NUMBERS, DATES, TEXTS, GOOD, self._paths)
        own = {
            "DATE": DATES,
            "FROM": DATES,
            "TO": DATES,
            "FILE": self._paths,
            "int": NUMBERS,
            "float": NUMBERS,
            "YEAR": NUMBERS,
        }
        pool = own.get(kind, GOOD) if self._chance.random() < 0.8 else self._chance.choice(pools)
        return self._chance.choice(pool)
