# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Types the commands of a page on the machines that it names, exactly as they stand there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.install.machines import Machine

_FENCE: Final = re.compile(r"^```[^\n]*\n(.*?)^```$", re.M | re.S)
_PLACES: Final = re.compile(r"# ((?:[a-z]+@[a-z.]+ ?)+)\n")
_HEREDOC: Final = re.compile(r"<<'?([A-Z]+)'?")


@dataclass(frozen=True, slots=True)
class TypedBlock:
    """One block of a page, and who types it where: `root@collector.example.org`."""

    places: tuple[str, ...]
    text: str

    @property
    def commands(self) -> list[str]:
        """Return the commands: a line, with its here-document, or the lines that a backslash joins to it."""
        found: list[str] = []
        end, is_open = "", False
        for line in self.text.splitlines():
            if end or is_open:
                found[-1] += f"\n{line}"
            else:
                found.append(line)
            if end:
                end = "" if line == end else end
            else:
                heredoc = _HEREDOC.search(line)
                end, is_open = heredoc[1] if heredoc else "", line.endswith("\\")
        return found

    def type_on(self, machine: Machine) -> None:
        """Type it after a login as root. Fails with the command that ended with another code than 0."""
        script = "cd\n" + "\n".join(
            f"{command}\ncode=$?; [ $code = 0 ] || {{ echo COMMAND {number} ENDED WITH $code; exit 1; }}"
            for number, command in enumerate(self.commands, start=1)
        )
        login = ("env", "--unset=DEBIAN_FRONTEND", "HOME=/root", "bash", "-c", script)
        done = machine.run(*login, check=False, seconds=400)
        assert done.returncode == 0, f"{machine.name}:\n{self.text}\n{done.stdout}{done.stderr}"


def blocks_of(page: Path) -> list[str]:
    """Return the text of all blocks of a page."""
    return _FENCE.findall(page.read_text(encoding="utf-8"))


def typed_blocks(page: Path) -> list[TypedBlock]:
    """Return the blocks that begin with the place where they are typed, in the page's order."""
    return [
        TypedBlock(tuple(found[1].split()), text[found.end() :])
        for text in blocks_of(page)
        if (found := _PLACES.match(text))
    ]
