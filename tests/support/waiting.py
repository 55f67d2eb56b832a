# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Wait for other threads and processes on a machine that stalls now and then.

A condition is polled, so a generous end costs nothing when all is well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Final

import psutil

PATIENCE_SECONDS: Final = 60.0


def until(
    condition: Callable[[], object],
    what: str = "it never happened",
    seconds: float = PATIENCE_SECONDS,
    *,
    every: float = 0.02,
) -> None:
    """Check the condition every `every` seconds until it is true; fails with `what` after `seconds`."""
    assert comes(condition, seconds, every=every), what


def comes(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS, *, every: float = 0.02) -> bool:
    """Return whether the condition is true within `seconds`; it is checked once at least."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(every)
    return True


def deadline() -> float:
    """Return a moment of the monotonic clock that no test reaches, for code that takes a deadline."""
    return time.monotonic() + PATIENCE_SECONDS


def random_moment(chance: Random, longest_seconds: float) -> None:
    """Let others run for a random time, so that what follows (a kill, a cut) comes at any of their steps.

    Nothing may depend on how far they came.
    """
    time.sleep(chance.uniform(0, longest_seconds))


def has_ended(process: psutil.Process) -> bool:
    """Return whether a process has ended; its parent may not have read the exit code yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two calls
        return True
