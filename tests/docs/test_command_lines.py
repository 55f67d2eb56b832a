# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Every command line that the documentation shows is one that the programs take: command,
options, arguments."""

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
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
COLLECTOR: Final[Any] = get_command(app)
REFUSAL: Final[type[Exception]] = typer.BadParameter.__mro__[2]
"""ClickException, wherever typer has it from."""
NOT_BUILT: Final = {"object"}
"""Commands that are named to say that they are not there."""
FENCE: Final = re.compile(r"^[ \t]*```\w*\n(.*?)^[ \t]*```", re.M | re.S)
CALL: Final = re.compile(r"(?:^|[\s(/'=])(veilleuse|veilleuse-agent) ([a-z].*)")
END: Final = re.compile(r"(?:\s(?:#|&&|\||;|>|<)\s?|\s{4,}|'$)(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)")
"""Where a command line is over, outside of quotes: a comment, another command, a redirection, the next
column."""
PLACE: Final = re.compile(r"[…\[]|\b[a-z]+\|[a-z]+")
"""What shows that a line is a pattern, not a call: something left out, optional, or one of several."""


def blocks(text: str) -> Iterator[str]:
    """The lines between fences."""
    for fence in FENCE.findall(text):
        yield from fence.splitlines()


def spans(text: str) -> Iterator[str]:
    """The pieces of code in sentences and tables; a table's escaped bar is a bar."""
    yield from (span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)))


def calls(line: str) -> list[tuple[str, str]]:
    """Program and the rest of each command line in a piece of code; a unit's name is no command."""
    found = [(program, END.split(rest)[0]) for program, rest in CALL.findall(line)]
    return [(program, rest) for program, rest in found if not rest.startswith("veilleuse")]


def collector_command(words: list[str]) -> Any:
    """The command that the words begin with, or None."""
    command = COLLECTOR
    for word in words:
        if not hasattr(command, "get_command"):
            break
        command = command.get_command(None, word.split("|")[0])
        if command is None:
            return None
    return command


def options_of(command: Any) -> set[str]:
    """Long and short options of a command; of a group those of all its commands."""
    found = {"--help", "-h"}.union(*map(options_of, getattr(command, "commands", {}).values()))
    return found | {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


@cache
def options_of_agent(command: str) -> set[str]:
    """Options of a command of the agent, as its help tells them."""
    told = StringIO()
    with redirect_stdout(told), suppress(SystemExit):
        parse([command, "--help"])
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", told.getvalue()))


def unknown(program: str, rest: str) -> str:
    """What of a command line does not exist; empty when all of it does."""
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
    """In blocks, sentences and tables, of both programs; `hosts show` without the program's name too."""
    text = page.read_text(encoding="utf-8")
    wrong = []
    for line in (*blocks(text), *spans(text)):
        found = calls(line)
        if re.match(rf"({'|'.join(COMMANDS)}) [a-z-]+\b", line):
            found.append(("veilleuse", line))
        wrong += [f"{line.strip()}: {why}" for program, rest in found if (why := unknown(program, rest))]
    assert not wrong, "\n".join(wrong)


def test_options_of_a_row_are_its_commands():
    """docs/commands.md: each option that a row names is one of the command in its first column."""
    wrong = []
    for line in (ROOT / "docs" / "commands.md").read_text(encoding="utf-8").splitlines():
        if row := re.match(r"\| `(veilleuse|veilleuse-agent) ([^`]+)` \|(.*)", line):
            program, command, says = row.groups()
            for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(spans(says))):
                if why := unknown(program, f"{command} {option}"):
                    wrong.append(f"{program} {command}: {why}")
    assert not wrong, "\n".join(wrong)


def test_examples_are_whole():
    """What stands in a block can be copied: nothing that is required is left out, nothing is of the wrong
    kind."""
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
    """Why a command line is refused, without running it; empty when it is taken."""
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
