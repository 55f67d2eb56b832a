# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Wait for other threads and processes, and bound times, on a machine that stalls now and then.

A long timeout costs nothing when all is well: a step of 2 s may be given a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import psutil

Result = TypeVar("Result")

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


def in_time(seconds: float, work: Callable[[], Result], tries: int = 5) -> Result:
    """Return the result of the first of `tries` runs that takes less than `seconds`; fails if none does.

    A machine that stalls does not stall in each run, so this finds work that is always too slow.
    """
    taken = []
    for _ in range(tries):
        began = time.monotonic()
        result = work()
        taken.append(time.monotonic() - began)
        if taken[-1] < seconds:
            return result
    raise AssertionError(f"not once within {seconds:g} s: {', '.join(f'{one:.2f}' for one in taken)}")


def at_its_best(work: Callable[[], Result], good: Callable[[Result], object], tries: int = 4) -> Result:
    """Return the result of the first good run of `work`, or of the last run. A machine stalls in some runs,
    but not in each."""
    result = work()
    for _ in range(tries - 1):
        if good(result):
            break
        result = work()
    return result


def has_ended(process: psutil.Process) -> bool:
    """Return whether a process has ended; its parent may not have read the exit code yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two calls
        return True
