# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Press Ctrl-C in `make run` at each step of its start: a clean end, and nothing left behind."""

from __future__ import annotations

import os
import pty
import random
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import psutil
import pytest

from tests.architecture.tree import ROOT
from tests.support.processes import ran
from tests.support.stack import Stack, orphans
from tests.support.waiting import PATIENCE_SECONDS, comes, until

STEPS_OF_START: Final = 48
"""Lines that the launcher executes until it has the terminal and its handlers."""
STEPS: Final = 500
"""Lines that it executes until it shows the live view, and somewhat more."""


def recipe(folder: Path) -> Path:
    """Write a Makefile with the recipe of `make run`, as make gives it, with another folder than ./var."""
    words = ["make", "--dry-run", "-o", ".venv/.run", "run", "VENV=.venv", f"PY={sys.executable}"]
    said = ran(words, cwd=ROOT, timeout=PATIENCE_SECONDS, env=os.environ | {"MAKEFLAGS": ""})
    assert said.returncode == 0, said.stderr
    (line,) = (one for one in said.stdout.splitlines() if "deploy/local/run.py" in one)
    shell = "SHELL := /bin/bash\n.SHELLFLAGS := -euo pipefail -c\n"
    makefile = folder / "Makefile"
    makefile.write_text(f"{shell}run:\n\t@{line.strip()} --var {shlex.quote(str(folder))}\n")
    return makefile


class Pressed(NamedTuple):
    """What became of a run at a terminal after Ctrl-C."""

    code: int
    """As a shell tells it: 130 after an interrupt."""
    had_terminal: bool | None
    """Whether the launcher had the terminal at that moment; None where it took it just then."""
    shown: str


SHELL_STEP: Final = """
echo "$$ the shell of make" >"$HELD.new"; mv "$HELD.new" "$HELD"
kill -STOP $$
"""
LAUNCHER_STEP: Final = """
import os, signal, sys

def hold(line):
    try:
        os.mkdir(os.environ["HELD"] + ".taken")  # by this process, not by a child that executes the line too
    except FileExistsError:
        return
    with open(os.environ["HELD"] + ".new", "w") as file:
        file.write(f"{os.getpid()} line {line}")
    os.rename(file.name, os.environ["HELD"])
    os.kill(os.getpid(), signal.SIGSTOP)

left = int(os.environ["HOLD_BEFORE_STEP"])

def trace(frame, event, _):
    global left
    if not frame.f_code.co_filename.endswith(os.environ["LAUNCHER"]):
        return None
    if event == "line":
        left -= 1
        if left == 0:
            hold(frame.f_lineno)
    return trace if left > 0 else None

if sys.orig_argv[1:2] == [os.environ["LAUNCHER"]]:
    sys.settrace(trace)
    if left == 0:
        hold("0, the interpreter starts")
"""
"""Stops a process before its step of this number; a file says so. Steps are the lines that it executes."""


class Held:
    """A step before which the run is held, until Ctrl-C has been pressed: a slow machine presses at the same
    one."""

    def __init__(self, folder: Path, step: int | None) -> None:
        """`step`: number of a line that the launcher executes, 0 for the start of its interpreter, None for
        the shell of make."""
        (folder / "sitecustomize.py").write_text(LAUNCHER_STEP)
        (folder / "shell_step").write_text(SHELL_STEP)
        self._file = folder / "held"
        self.environment = {"HELD": str(self._file), "LAUNCHER": "deploy/local/run.py"}
        if step is None:
            self.environment["BASH_ENV"] = str(folder / "shell_step")
        else:
            self.environment |= {"PYTHONPATH": str(folder), "HOLD_BEFORE_STEP": str(step)}

    def is_there(self, _shown: bytes) -> bool:
        """Tell whether the process is stopped before the step."""
        return self._file.exists() and psutil.Process(self._pid()).status() == psutil.STATUS_STOPPED

    def is_interrupted(self) -> bool:
        """Tell whether Ctrl-C waits for the stopped process."""
        status = Path(f"/proc/{self._pid()}/status").read_text()
        waiting = int(re.findall(r"^ShdPnd:\s*(\w+)$", status, re.M)[0], 16)
        return bool(waiting & 1 << (signal.SIGINT - 1))

    def go_on(self) -> None:
        """Let it go on, if it was held."""
        if self._file.exists():
            os.kill(self._pid(), signal.SIGCONT)

    def _pid(self) -> int:
        return int(self._file.read_text().split()[0])

    def __str__(self) -> str:
        return self._file.read_text().partition(" ")[2].strip()


def press_ctrl_c(stack: Stack, when: Callable[[bytes], bool], held: Held | None = None) -> Pressed:
    """Run the recipe in a terminal, and press Ctrl-C once `when(all output)` is true."""
    makefile = recipe(stack.folder)
    pid, terminal = pty.fork()
    if pid == 0:
        words = ["make", "-C", str(ROOT), "-f", str(makefile), "run"]
        more = {"TERM": "xterm"} | (held.environment if held else {})
        os.execvpe("make", words, stack.environment | more)
    shown, had_terminal = bytearray(), None

    def read() -> None:
        with suppress(OSError):  # the other end is closed
            while more := os.read(terminal, 65536):
                shown.extend(more)

    # Before it is make, Ctrl-C would reach this test's own code.
    until(lambda: Path(f"/proc/{pid}/comm").read_text() == "make\n", every=0.001)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        until(lambda: when(bytes(shown)) or not reader.is_alive(), "no moment to press", 2 * PATIENCE_SECONDS)
        before = os.tcgetpgrp(terminal)
        os.write(terminal, b"\x03")
        # The terminal takes it later, maybe. It echoes it then, but in the live view.
        is_taken = held.is_interrupted if held else lambda: before != pid
        until(lambda: b"^C" in shown or is_taken() or not reader.is_alive(), "Ctrl-C is not taken")
        with suppress(OSError):  # the run has ended
            had_terminal = before != pid if before == os.tcgetpgrp(terminal) else None
    finally:
        if held:
            held.go_on()
        if not comes(lambda: not reader.is_alive(), 2 * PATIENCE_SECONDS):
            for process in (*psutil.Process(pid).children(recursive=True), psutil.Process(pid)):
                process.kill()
        reader.join()
        os.close(terminal)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Pressed(128 - code if code < 0 else code, had_terminal, shown.decode(errors="replace"))


def wrong_with(pressed: Pressed, stack: Stack) -> list[str]:
    """Return what is not as it should be."""
    expected = {True: {0}, False: {130}, None: {0, 130}}[pressed.had_terminal]
    comes(lambda: orphans(str(stack.folder)) == [])
    told = "".join(path.read_text(errors="replace") for path in stack.folder.glob("log/*.log"))
    return [
        *([f"exit code {pressed.code}, not {expected}"] if pressed.code not in expected else []),
        *(["a traceback"] if "Traceback" in pressed.shown + told else []),
        *(f"{one} is left" for one in orphans(str(stack.folder))),
    ]


def test_ctrl_c_at_a_terminal_lets_make_end_with_exit_code_0(tmp_path):
    """In a terminal, Ctrl-C in the live view reaches the launcher but not make, which would end with 130."""
    with Stack(tmp_path) as stack:
        pressed = press_ctrl_c(stack, lambda shown: b"Ctrl-C stops" in shown and shown.count(b"\x1b[") > 20)
        assert pressed.had_terminal, pressed.shown[-3000:]
        assert wrong_with(pressed, stack) == [], pressed.shown[-3000:]


@pytest.mark.parametrize(
    "number",
    [pytest.param(one, marks=[] if one % 33 == 0 else pytest.mark.long) for one in range(100)],
)
def test_ctrl_c_at_any_step_is_a_clean_end(tmp_path, number):
    """0 once the launcher has the terminal, 130 before, never a traceback, and no process is left. The step
    is of the number alone."""
    step = random.Random(number).randrange(STEPS_OF_START, STEPS)
    with Stack(tmp_path) as stack:
        held = Held(tmp_path, step)
        pressed = press_ctrl_c(stack, held.is_there, held)
        print(f"Ctrl-C {number} at step {step}, {held}: exit code {pressed.code}")
        assert wrong_with(pressed, stack) == [], pressed.shown[-3000:]


@pytest.mark.parametrize(
    "step",
    [
        None,
        *(pytest.param(one, marks=[] if one % 6 == 0 else pytest.mark.long) for one in range(STEPS_OF_START)),
    ],
)
def test_ctrl_c_as_the_launcher_starts_is_a_clean_end(tmp_path, step):
    """At the shell of make, at the start of the interpreter, and before each line until the launcher has the
    terminal and its handlers: 130, then 0."""
    with Stack(tmp_path) as stack:
        held = Held(tmp_path, step)
        pressed = press_ctrl_c(stack, held.is_there, held)
        print(f"Ctrl-C at {held}: exit code {pressed.code}")
        assert pressed.had_terminal is not None
        assert wrong_with(pressed, stack) == [], pressed.shown[-3000:]


def test_ctrl_c_as_make_starts_is_a_clean_end(tmp_path):
    """Make ends with 130, or with 0 where Ctrl-C is taken once the launcher has the terminal."""
    with Stack(tmp_path) as stack:
        pressed = press_ctrl_c(stack, lambda _: True)
        assert wrong_with(pressed, stack) == [], pressed.shown[-3000:]


@pytest.mark.parametrize("words", ["Ctrl-C stops", "is enrolled"])
def test_ctrl_c_as_a_child_starts_is_a_clean_end(tmp_path, words):
    """The agent and `top` start at these lines: their interpreters have no handler yet."""
    with Stack(tmp_path) as stack:
        pressed = press_ctrl_c(stack, lambda shown: words.encode() in shown)
        assert wrong_with(pressed, stack) == [], pressed.shown[-3000:]
