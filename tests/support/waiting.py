# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Waiting for what another thread or process does, and bounds of time on a machine that stalls now and then.

Patience costs nothing where all is well: what takes 2 s may be waited for a minute.
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
    """Looks every so many seconds until it is true; fails with `what` when it does not come true."""
    assert comes(condition, seconds, every=every), what


def comes(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS, *, every: float = 0.02) -> bool:
    """Whether it comes true within so many seconds; it is looked at once at least."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(every)
    return True


def in_time(seconds: float, work: Callable[[], Result], tries: int = 5) -> Result:
    """What `work` gives in the first run that takes less than `seconds`; fails when none of `tries` does.

    For what is slow always or never: a machine that stalls, stalls not each time.
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
    """What `work` gives in the first run that is good, else in the last: a machine may stall in some of them,
    not in each."""
    result = work()
    for _ in range(tries - 1):
        if good(result):
            break
        result = work()
    return result


def has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more; its parent may not have asked for its exit code yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two questions
        return True
