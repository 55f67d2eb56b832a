# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Killing a process at a chosen line of ours, as `kill -9` and a power cut do. For programs with one thread:
they fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]


def dies_at(line: int, parts: tuple[str, ...]) -> Callable[[], int]:
    """SIGKILL to this process at the n-th line executed in a file whose path holds one of `parts`; never with
    0.

    The function it gives says how many have been executed.
    """
    seen = 0
    ours: dict[str, bool] = {}

    def call(frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if (known := ours.get(file)) is None:  # a file has many functions, and they are called often
            known = ours[file] = any(part in file for part in parts)
        return trace if known else None

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(call)
    return lambda: seen


def in_child(work: Callable[[], object]) -> int:
    """The exit code of a child that does the work: 0, 1 with what it raised on standard error, −9 when it was
    killed."""
    if (pid := os.fork()) == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # this copy of the parent must not go on, whatever it is
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lines_of(work: Callable[[], object], parts: tuple[str, ...], note: Path) -> int:
    """How many lines of ours the work executes, counted in a child; `note` is a file for the number."""

    def count() -> None:
        seen = dies_at(0, parts)
        work()
        sys.settrace(None)
        note.write_text(str(seen()))

    assert in_child(count) == 0
    return int(note.read_text())


def run_program(program: str, *arguments: str) -> str:
    """Run a program of Python that forks, in a process of its own; its output. Fails with what it said."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        cwd=ROOT,
        env={
            "PYTHONPATH": ":".join(str(ROOT / part) for part in (".", "proto", "agent", "collector")),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
