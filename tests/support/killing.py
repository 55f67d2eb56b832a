# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Kill a process at a chosen line of our code, as `kill -9` or a power cut does. The calling program must
have one thread, because these functions fork."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support.processes import ran

ROOT = Path(__file__).parents[2]


def dies_at(line: int, parts: tuple[str, ...]) -> Callable[[], int]:
    """Kill this process with SIGKILL at executed line number `line` of files whose path contains one of
    `parts`; 0 never kills. Return a function that gives the number of such lines executed so far."""
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == line:
            os.kill(os.getpid(), signal.SIGKILL)

    _at_each_line(parts, count)
    return lambda: seen


def _at_each_line(parts: tuple[str, ...], act: Callable[[], None]) -> None:
    """Act before each line that is executed of files whose path contains one of `parts`."""
    ours: dict[str, bool] = {}

    def call(frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if (known := ours.get(file)) is None:  # a file has many functions, which are called often
            known = ours[file] = any(part in file for part in parts)
        return trace if known else None

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            act()
        return trace

    sys.settrace(call)


def in_child(work: Callable[[], object]) -> int:
    """Do the work in a child process and return its exit code: 0; 1 after an exception, printed on standard
    error; −9 when it was killed."""
    if (pid := os.fork()) == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # this copy of the parent must end after any exception
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lines_of(work: Callable[[], object], parts: tuple[str, ...], note: Path) -> int:
    """Return how many lines of our code the work executes, counted in a child that writes it to `note`."""

    def count() -> None:
        seen = dies_at(0, parts)
        work()
        sys.settrace(None)
        note.write_text(str(seen()))

    assert in_child(count) == 0
    return int(note.read_text())


def changes_of(work: Callable[[], object], parts: tuple[str, ...], files: Path, note: Path) -> list[int]:
    """Return the first line, and each before which the files that begin with `files` changed: a kill at any
    other line of the work leaves the files of the last one of these."""

    def write_down() -> None:
        states: list[int] = []

        def look() -> None:
            found = sorted(files.parent.glob(f"{files.name}*"))
            states.append(hash(tuple((file.name, file.read_bytes()) for file in found)))

        _at_each_line(parts, look)
        work()
        sys.settrace(None)
        changed = (number for number, (a, b) in enumerate(pairwise(states), start=2) if a != b)
        note.write_text(" ".join(map(str, (1, *changed))))

    assert in_child(write_down) == 0
    return [int(number) for number in note.read_text().split()]


def run_program(program: str, *arguments: str) -> str:
    """Run a Python program that forks, in a process of its own; return its output. Fails with its output and
    errors if the exit code is not 0."""
    done = ran(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        cwd=ROOT,
        env={
            "PYTHONPATH": ":".join(str(ROOT / part) for part in (".", "proto", "agent", "collector")),
            "PATH": "/usr/bin:/bin",
        },
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
