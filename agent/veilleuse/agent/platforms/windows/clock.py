# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Clocks, boot id and suspend event on Windows. docs/windows.md.

Sources: Windows documentation, Interrupt Time (realtimeapiset.h); PowerRegisterSuspendResumeNotification
(powerbase.h).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from veilleuse.agent.platforms.windows.calls import SUSPEND, FactCalls, PowerCalls
from veilleuse.wire.units import HUNDREDS_OF_NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_MILLISECOND

BOOT_KEY: Final = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters"
BOOT_VALUE: Final = "BootId"

ANSWER_SECONDS: Final = 1.5
"""Longest delay of a suspend for the sign of life. Windows continues after about 2 s in any case."""


def clocks(calls: PowerCalls) -> tuple[int, int, int]:
    """See `System.clocks`. Raises WindowsCallError.

    Interrupt time continues during sleep; unbiased interrupt time stops. On Linux these are boot time and
    monotonic time. GetTickCount64 and Python's monotonic clock are unsuitable: neither documents which of the
    two it is.
    """
    biased, unbiased = calls.interrupt_times()
    return (
        time.time_ns() // NANOSECONDS_PER_MILLISECOND,
        biased // HUNDREDS_OF_NANOSECONDS_PER_MILLISECOND,
        unbiased // HUNDREDS_OF_NANOSECONDS_PER_MILLISECOND,
    )


def boot_id(calls: FactCalls) -> str:
    """Return the number of this boot from the Windows prefetcher; empty if unknown.

    With an empty id, each start counts as another boot. Windows has no boot id. Unix time minus time since
    boot is unsuitable: it moves with each correction of the clock. A boot wrongly taken for another one would
    turn sleep into `unknown`. After a fast start (hibernated kernel session), the number may be new while
    interrupt time continues. The time between is then `unknown`, which claims nothing.
    """
    number = calls.registry(BOOT_KEY, BOOT_VALUE)
    return f"windows-{number}" if isinstance(number, int) and number > 0 else ""


class SuspendWatch:
    """Implements `platforms.SleepWatch`: delays the suspend until the sign of life is written."""

    def __init__(self, announce: Callable[[], None], answer_seconds: float = ANSWER_SECONDS) -> None:
        """`announce` is called in a thread of the system."""
        self._announce = announce
        self._answer_seconds = answer_seconds
        self._written = threading.Event()
        self._closed = False

    def start(self, calls: PowerCalls) -> None:
        """Start the watch.

        Raises WindowsCallError; sleep is then found from the clocks, unless the machine dies asleep.
        """
        calls.on_power_event(self.handle_event)

    def handle_event(self, event: int) -> None:
        """Handle one power event. Only a suspend matters; the clocks show the rest."""
        if event == SUSPEND and not self._closed:
            self._written.clear()
            self._announce()
            self._written.wait(self._answer_seconds)

    def confirm_written(self) -> None:
        """Report that the sign of life is in the spool, so the machine may sleep."""
        self._written.set()

    def close(self) -> None:
        """Ignore further events, which Windows sends for the life of the process."""
        self._closed = True
        self._written.set()
