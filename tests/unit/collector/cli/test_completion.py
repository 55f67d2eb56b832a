# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse completion` prints scripts that complete every command and option without starting a program."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.support.processes import ran
from veilleuse.collector.cli.completion import Shell, script
from veilleuse.collector.cli.main import COMMANDS, app, run


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (words, command) of every command below the program."""
    root: Any = get_command(app)
    for name in COMMANDS:
        yield from _below((name,), root.get_command(None, name))


def _below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, one in getattr(command, "commands", {}).items():
        yield from _below((*words, name), one)


def completed(folder: Path, *lines: tuple[str, ...]) -> list[list[str]]:
    """Return what bash offers for each command line, whose last word is the one to complete."""
    file = folder / "veilleuse.bash"
    file.write_text(script(Shell.BASH), encoding="utf-8")
    asked = "\n".join(
        f"COMP_WORDS=(veilleuse {' '.join(map(repr, line))}); COMP_CWORD={len(line)}; _veilleuse; "
        'printf "%s\\n" "${COMPREPLY[*]}"'
        for line in lines
    )
    # no program is found: a completion starts none
    done = subprocess.run(
        [shutil.which("bash") or "bash", "--norc", "-c", f"source {file}; PATH=/nowhere\n{asked}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    assert done.stderr == ""
    return [line.split() for line in done.stdout.splitlines()]


def test_bash_completes_every_command_and_option(tmp_path):
    """After each command: its commands and all its options."""
    known = list(commands())
    first, *offered = completed(tmp_path, ("",), *((*words, "-") for words, _ in known))
    assert first[: len(COMMANDS)] == list(COMMANDS)
    for (words, command), found in zip(known, offered, strict=True):
        names = {name for one in command.params if one.param_type_name == "option" for name in one.opts}
        assert {*names, "--help"} <= set(found), words
    groups = [(words, set(one.commands)) for words, one in known if getattr(one, "commands", None)]
    offered = completed(tmp_path, *((*words, "") for words, _ in groups))
    assert all(below <= set(found) for (_, below), found in zip(groups, offered, strict=True))


def test_bash_completes_beginnings_and_values(tmp_path):
    """A begun word, the values of an option and an argument, and files with spaces where a path belongs."""
    (tmp_path / "collector.toml").touch()
    found = completed(
        tmp_path,
        ("ho",),
        ("hosts", "sh"),
        ("hosts", "list", "--status", ""),
        ("hosts", "list", "--status", "active", "--pop"),
        ("top", "--sort", "e"),
        ("completion", "f"),
        ("hosts", "list", "--config", "coll"),
        ("nothing", "--"),
    )
    assert found == [
        ["hosts"],
        ["show"],
        ["active", "pending", "suspended", "revoked", "forgotten"],
        ["--population"],
        ["energy", "entity"],
        ["fish"],
        ["collector.toml"],
        ["--version", "--help"],
    ]


@pytest.mark.parametrize("shell", Shell)
def test_each_script_names_every_command_and_option(shell, tmp_path):
    """Words and options of every command are in the script; the shell, where it is here, can read it."""
    text = script(shell)
    for words, command in commands():
        assert "/" + "/".join(words) in text
        for one in command.params:
            if one.param_type_name == "option":
                dashed = [
                    f"-l {name[2:]}" if shell is Shell.FISH else name for name in one.opts if "--" in name
                ]
                assert all(name in text for name in dashed), words
    file = tmp_path / "script"
    file.write_text(text, encoding="utf-8")
    if found := shutil.which(shell):
        assert ran([found, "-n", str(file)]).returncode == 0


def test_the_command_prints_the_script(capsys):
    """`veilleuse completion bash` prints it; another shell is refused."""
    assert run(["completion", "bash"]) == 0
    assert capsys.readouterr().out == script(Shell.BASH) + "\n"
    assert run(["completion", "tcsh"]) == 2
