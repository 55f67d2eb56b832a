# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The real clocks, and a sleep that a signal can end."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Final

from veilleuse.agent.model import Instant

_NANOSECONDS_PER_MILLISECOND: Final = 1_000_000
# Only Linux tells suspended time apart; elsewhere both clocks are the same and sleep is found from events.
_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
SLEEP_AHEAD: Final[tuple[int, ...]] = (signal.SIGURG,) if hasattr(signal, "SIGURG") else ()
"""Tells the running agent that the machine is about to sleep. SIGURG: whoever does not expect it ignores it (signal(7)), so
that an agent which has not begun yet, or an older one, is not killed by it. None on Windows."""


def instant_now() -> Instant:
    """All three clocks, read within microseconds of each other."""
    return Instant(
        unix_milliseconds=time.time_ns() // _NANOSECONDS_PER_MILLISECOND,
        boottime_milliseconds=time.clock_gettime_ns(_BOOTTIME) // _NANOSECONDS_PER_MILLISECOND,
        monotonic_milliseconds=time.monotonic_ns() // _NANOSECONDS_PER_MILLISECOND,
    )


def read_boot_id(procfs: str) -> str:
    """The kernel's boot id; empty where there is none."""
    try:
        with open(f"{procfs}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""


class SystemClock:
    """`ports.Clock` on the operating system's clocks."""

    def __init__(self, procfs: str = "/proc") -> None:
        self._procfs = procfs
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)

    def now(self) -> Instant:
        """All three clocks, read within microseconds of each other."""
        return instant_now()

    def boot_id(self) -> str:
        """The kernel's boot id; empty where there is none: every start then counts as another boot."""
        return read_boot_id(self._procfs)

    def sleep(self, milliseconds: int) -> None:
        """Wait that long, or less when `wake` is called. Time spent suspended does not count."""
        ready, _, _ = select.select([self._wake_reader], [], [], max(0, milliseconds) / 1000)
        if ready:
            os.read(self._wake_reader, 64)

    def wake(self) -> None:
        """End the present or the next `sleep`; may be called from a signal handler."""
        try:
            os.write(self._wake_writer, b"w")
        except BlockingIOError:
            return  # enough wakes are waiting already

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._wake_reader)
        os.close(self._wake_writer)
