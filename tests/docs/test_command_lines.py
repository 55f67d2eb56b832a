# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The programs accept every command line that the documentation shows: command, options, arguments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest
import typer
from typer.main import get_command

from tests.architecture.tree import ROOT
from veilleuse.agent.commands.main import COMMANDS as AGENT_COMMANDS
from veilleuse.agent.commands.main import parse
from veilleuse.agent.errors import ConfigurationError
from veilleuse.collector.cli.main import COMMANDS, app

PAGES: Final = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "fr").glob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
COLLECTOR: Final[Any] = get_command(app)
REFUSAL: Final[type[Exception]] = typer.BadParameter.__mro__[2]
"""ClickException, wherever typer imports it from."""
NOT_BUILT: Final = {"object"}
"""Commands that the documentation names only to say that they do not exist."""
FENCE: Final = re.compile(r"^[ \t]*```\w*\n(.*?)^[ \t]*```", re.M | re.S)
CALL: Final = re.compile(r"(?:^|[\s(/'=])(veilleuse|veilleuse-agent) ([a-z].*)")
END: Final = re.compile(r"(?:\s(?:#|&&|\||;|>|<)\s?|\s{4,}|'$)(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)")
"""End of a command line, outside of quotes: a comment, another command, a redirection or the next column."""
PLACE: Final = re.compile(r"[…\[]|\b[a-z]+\|[a-z]+")
"""Sign of a pattern that is no call: an omitted or optional part, or a choice of several."""


def blocks(text: str) -> Iterator[str]:
    """Yield the lines between fences."""
    for fence in FENCE.findall(text):
        yield from fence.splitlines()


def spans(text: str) -> Iterator[str]:
    """Yield the pieces of code in sentences and tables; a table's escaped bar becomes a bar."""
    yield from (span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)))


def calls(line: str) -> list[tuple[str, str]]:
    """Return (program, rest) of each command line in a piece of code; the name of a unit is no command."""
    found = [(program, END.split(rest)[0]) for program, rest in CALL.findall(line)]
    return [(program, rest) for program, rest in found if not rest.startswith("veilleuse")]


def collector_command(words: list[str]) -> Any:
    """Return the command that the words begin with, or None."""
    command = COLLECTOR
    for word in words:
        if not hasattr(command, "get_command"):
            break
        command = command.get_command(None, word.split("|")[0])
        if command is None:
            return None
    return command


def options_of(command: Any) -> set[str]:
    """Return the long and short options of a command; a group has those of all its commands."""
    found = {"--help", "-h"}.union(*map(options_of, getattr(command, "commands", {}).values()))
    return found | {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


@cache
def options_of_agent(command: str) -> set[str]:
    """Return the options that the help of an agent's command lists."""
    told = StringIO()
    with redirect_stdout(told), suppress(SystemExit):
        parse([command, "--help"])
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", told.getvalue()))


def unknown(program: str, rest: str) -> str:
    """Return the part of a command line that does not exist; empty when all of it exists."""
    words = [word.rstrip(".,;:") for word in rest.split()]
    named = [word for word in words[:3] if re.fullmatch(r"[a-z][a-z|-]*", word)]
    if words[0] in NOT_BUILT:
        return ""
    command = collector_command(named) if program == "veilleuse" else words[0]
    if command is None or (program == "veilleuse-agent" and command not in AGENT_COMMANDS):
        return f"no command {' '.join(named)}"
    known = options_of(command) if program == "veilleuse" else options_of_agent(words[0])
    given = set(re.findall(r"(?:(?<=\s)|(?<=\[))--?[a-z][\w-]*", rest))
    return ", ".join(f"no option {option}" for option in sorted(given - known))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_exist(page: Path):
    """Blocks, sentences and tables name existing commands and options; `hosts show` alone is checked too."""
    text = page.read_text(encoding="utf-8")
    wrong = []
    for line in (*blocks(text), *spans(text)):
        found = calls(line)
        if re.match(rf"({'|'.join(COMMANDS)}) [a-z-]+\b", line):
            found.append(("veilleuse", line))
        wrong += [f"{line.strip()}: {why}" for program, rest in found if (why := unknown(program, rest))]
    assert not wrong, "\n".join(wrong)


def test_options_of_a_row_are_its_commands():
    """Each option in a row of docs/commands.md belongs to the command in the first column."""
    wrong = []
    for line in (ROOT / "docs" / "commands.md").read_text(encoding="utf-8").splitlines():
        if row := re.match(r"\| `(veilleuse|veilleuse-agent) ([^`]+)` \|(.*)", line):
            program, command, says = row.groups()
            for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(spans(says))):
                if why := unknown(program, f"{command} {option}"):
                    wrong.append(f"{program} {command}: {why}")
    assert not wrong, "\n".join(wrong)


def test_examples_are_whole():
    """A command line in a block can be copied: no required part is missing, and each value has its type."""
    wrong, tried = [], 0
    for page in PAGES:
        for line in blocks(page.read_text(encoding="utf-8")):
            for program, rest in calls(line):
                if PLACE.search(line):
                    continue
                tried += 1
                if why := refused(program, shlex.split(rest)):
                    wrong.append(f"{page.relative_to(ROOT)}: {line.strip()}: {why}")
    assert tried > 20
    assert not wrong, "\n".join(wrong)


def refused(program: str, words: list[str]) -> str:
    """Return why a command line is refused, without running it; empty when it is accepted."""
    try:
        if program == "veilleuse-agent":
            parse(words)
            return ""
        command, context = COLLECTOR, None
        while hasattr(command, "get_command"):
            context = command.make_context(words[0], words[:1], parent=context)
            command, words = command.get_command(context, words[0]), words[1:]
        command.make_context(command.name, words, parent=context)
    except (REFUSAL, ConfigurationError) as error:
        return str(error) or type(error).__name__
    return ""
