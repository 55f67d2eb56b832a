# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The Debian package's file completes every command and option of the agent in bash."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from veilleuse.agent.commands.main import COMMANDS, parse

FILE = Path(__file__).parents[4] / "deploy/debian/debian/veilleuse-agent.bash-completion"
ELSEWHERE = {"powermetrics-helper", "windows-service", "windows-setup"}
"""Commands of other systems."""


def offered(folder: Path, *lines: tuple[str, ...]) -> Iterator[list[str]]:
    """Yield what bash offers for each command line, whose last word is the one to complete."""
    asked = "\n".join(
        f"COMP_WORDS=(veilleuse-agent {' '.join(map(repr, line))}); COMP_CWORD={len(line)}; "
        '_veilleuse_agent; printf "%s\\n" "${COMPREPLY[*]}"'
        for line in lines
    )
    # no program is found: a completion starts none
    done = subprocess.run(
        [shutil.which("bash") or "bash", "--norc", "-c", f"source {FILE}; PATH=/nowhere\n{asked}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    assert done.stderr == ""
    return (line.split() for line in done.stdout.splitlines())


def options(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the options in the command's line of usage."""
    with pytest.raises(SystemExit):
        parse([command, "--help"])
    usage = capsys.readouterr().out.partition("\n\n")[0]
    return set(re.findall("--[a-z-]+", usage))


def test_every_command_and_option(tmp_path, capsys):
    """The first word is a command of this system; after it come all its options, and no other."""
    names = sorted(set(COMMANDS) - ELSEWHERE)
    first, *others = offered(tmp_path, ("",), *((name, "-") for name in names))
    assert sorted(first) == sorted([*names, "--version", "--help"])
    for name, found in zip(names, others, strict=True):
        assert set(found) == options(name, capsys) | {"--help"}, name


def test_files_and_beginnings(tmp_path):
    """A begun word; files where a path belongs; nothing where a number does."""
    (tmp_path / "join.json").touch()
    lines = [("do",), ("enrol", "jo"), ("enrol", "--k"), ("once", "--config", ""), ("once", "--seconds", "")]
    found = list(offered(tmp_path, *lines))
    assert found == [["doctor"], ["join.json"], ["--keep"], ["join.json"], []]
