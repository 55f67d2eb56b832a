# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The clocks, the boot and the event before a suspend, on Windows. docs/windows.md.

Sources: Windows documentation, Interrupt Time (realtimeapiset.h); PowerRegisterSuspendResumeNotification (powerbase.h).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from veilleuse.agent.platforms.windows.calls import SUSPEND, FactCalls, PowerCalls
from veilleuse.wire.units import NANOSECONDS_PER_MILLISECOND

_100NS_PER_MILLISECOND: Final = 10_000

BOOT_KEY: Final = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters"
BOOT_VALUE: Final = "BootId"

ANSWER_SECONDS: Final = 1.5
"""How long a suspend is held up at most for the sign of life: Windows goes on after about 2 s, whatever is answered."""


def clocks(calls: PowerCalls) -> tuple[int, int, int]:
    """`System.clocks`. Raises CallFailed.

    Interrupt time goes on while the machine sleeps, unbiased interrupt time stands still: boottime and monotonic of Linux.
    Not GetTickCount64 and not Python's monotonic clock: neither says which of the two it is.
    """
    biased, unbiased = calls.interrupt_times()
    return (
        time.time_ns() // NANOSECONDS_PER_MILLISECOND,
        biased // _100NS_PER_MILLISECOND,
        unbiased // _100NS_PER_MILLISECOND,
    )


def boot_id(calls: FactCalls) -> str:
    """The number of this boot, as Windows' own prefetcher counts them; empty = not known: every start is another boot.

    Windows has no boot id. Unix time less time since boot is not one: it moves with every correction of the clock, and a boot
    taken for another one would turn sleep into `unknown`. After a fast start (the session of the kernel was hibernated) the
    number may be new while interrupt time goes on: the time between is `unknown` then, which claims nothing.
    """
    number = calls.registry(BOOT_KEY, BOOT_VALUE)
    return f"windows-{number}" if isinstance(number, int) and number > 0 else ""


class SuspendWatch:
    """`system.SleepWatch`: holds the suspend up until the sign of life is written."""

    def __init__(self, announce: Callable[[], None], answer_seconds: float = ANSWER_SECONDS) -> None:
        """`announce` is called in a thread of the system's."""
        self._announce = announce
        self._answer_seconds = answer_seconds
        self._written = threading.Event()
        self._closed = False

    def start(self, calls: PowerCalls) -> None:
        """From now on. Raises CallFailed: without it a sleep is found from the clocks, unless the machine dies asleep."""
        calls.on_power_event(self.told)

    def told(self, event: int) -> None:
        """One power event; of all but a suspend nothing is made: what came of it the clocks say."""
        if event == SUSPEND and not self._closed:
            self._written.clear()
            self._announce()
            self._written.wait(self._answer_seconds)

    def written(self) -> None:
        """The sign of life is in the spool: the machine may sleep."""
        self._written.set()

    def close(self) -> None:
        """Windows goes on telling for the life of the process; nobody listens."""
        self._closed = True
        self._written.set()
