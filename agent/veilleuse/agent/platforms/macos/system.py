# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`system.System` on macOS: what it shares with Linux, and its own. Never run on a Mac: docs/macos.md.

Sources: Apple's clock_gettime(3), fcntl(2), hier(7); sysctl kern.bootsessionuuid (xnu, iokit/Kernel/IOPMrootDomain.cpp);
Apple's documentation of IORegisterForSystemPower.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from veilleuse.agent.platforms.macos.api import WILL_SLEEP, MacosCallError, MacosCallTable, text
from veilleuse.agent.platforms.posix import (
    ACCESS_BY_MODE,
    CHILD_FLAGS,
    SignalWatch,
    acting_as_owner_of,
    ask_to_end,
    disk_room,
    host_name,
    is_running,
    keep_child,
    lock,
    on_stop,
    parent_watch,
    prepare_process,
    replace,
    sleeper,
    tell_sleep_ahead,
)
from veilleuse.wire.units import MILLISECONDS_PER_SECOND, NANOSECONDS_PER_MILLISECOND

__all__ = (
    "ACCESS_BY_MODE",
    "CHILD_FLAGS",
    "acting_as_owner_of",
    "ask_to_end",
    "disk_room",
    "host_name",
    "is_running",
    "keep_child",
    "lock",
    "on_stop",
    "parent_watch",
    "prepare_process",
    "replace",
    "sleeper",
    "tell_sleep_ahead",
)
"""What it shares with Linux."""

log = logging.getLogger(__name__)

_FOLDER: Final = Path("/Library/Application Support/Veilleuse")
CONFIGURATION: Final = _FOLDER / "agent.toml"
METERS: Final = _FOLDER / "meters.toml"
STATE: Final = Path("/var/db/veilleuse-agent")
"""Not below /Library: Migration Assistant would take the identity of one Mac to the next."""
RAPL_HELPER: Final = Path("/var/run/veilleuse-power/readings.json")
"""Emptied at each start of the machine."""
SERVICE_MANAGER: Final = "veilleuse.agent.service.launchd:Launchd"

_WITH_SLEEP: Final = 4
"""CLOCK_MONOTONIC_RAW: goes on while the system is asleep."""
_WITHOUT_SLEEP: Final = 8
"""CLOCK_UPTIME_RAW: the same manner of counting, and stands still while it is asleep. Both: clock_gettime(3), time.h.

Not CLOCK_MONOTONIC, which follows the adjustments of the time of day, so that its distance to the other would not be sleep
alone. Not Python's monotonic clock: some Pythons for macOS count it from the start of the process.
"""
_BOOT_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_BOOT: Final = "00000000-0000-0000-0000-000000000000"
HELD_SECONDS: Final = 3.0
"""How long a sleep is held up at most for the sign of life; macOS would wait for 30 s."""
_F_FULLFSYNC: Final = 51
"""fcntl(2): also through the drive's own cache, which fsync of macOS leaves alone."""


def real_calls() -> MacosCallTable:
    """The table of this system."""
    from veilleuse.agent.platforms.macos.api import MacosCalls

    return MacosCalls()


# ------------------------------------------------------------------------------------------ clocks


def clocks(read: Callable[[int], int] = time.clock_gettime_ns) -> tuple[int, int, int]:
    """`System.clocks`; `read`: nanoseconds of a clock."""
    return (
        time.time_ns() // NANOSECONDS_PER_MILLISECOND,
        read(_WITH_SLEEP) // NANOSECONDS_PER_MILLISECOND,
        read(_WITHOUT_SLEEP) // NANOSECONDS_PER_MILLISECOND,
    )


def boot_id(procfs: str, calls: MacosCallTable | None = None) -> str:
    """`System.boot_id`: the kernel's boot session. Sleep and hibernation do not change it, as it is made when the kernel starts."""
    said = text(calls or real_calls(), "kern.bootsessionuuid").lower()
    return said if _BOOT_ID.fullmatch(said) and said != _NO_BOOT else ""


# ------------------------------------------------------------------------------------------- sleep


class PowerWatch:
    """`system.SleepWatch`: the system tells, and the sleep is held up until the sign of life is written."""

    def __init__(
        self,
        announce: Callable[[], None],
        calls: MacosCallTable | None = None,
        held_seconds: float = HELD_SECONDS,
    ) -> None:
        """The signal of posix_system is heard too: `before-sleep` works for whoever calls it."""
        self._announce = announce
        self._held_seconds = held_seconds
        self._written = threading.Event()
        self._signals = SignalWatch(announce)
        self._undo: Callable[[], None] | None = None
        try:
            self._undo = (calls or real_calls()).on_power_event(self.told)
        except (
            MacosCallError
        ) as error:  # a sleep is then found from the clocks, unless the machine dies asleep
            log.warning("no sign before sleep", extra={"reason": str(error)})

    def told(self, message: int) -> None:
        """One message; of all but the beginning of a sleep nothing is made: what came of it the clocks say."""
        if message == WILL_SLEEP:
            self._written.clear()
            try:
                self._announce()
            except OSError:
                return  # the agent is ending: its pipe is closed, its last sign written
            self._written.wait(self._held_seconds)

    def written(self) -> None:
        """`SleepWatch.written`."""
        self._written.set()

    def close(self) -> None:
        """`SleepWatch.close`."""
        self._written.set()
        self._signals.close()
        if self._undo is not None:
            self._undo()


on_sleep_ahead = PowerWatch


# ----------------------------------------------------------------------------------- cost and files


def usage() -> tuple[int, int]:
    """`System.usage`: getrusage(2), and psutil for what is resident now (its maximum is all that getrusage tells)."""
    import psutil  # the measuring process has it loaded already

    mine = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime
    try:
        resident = int(psutil.Process().memory_info().rss)
    except psutil.Error:
        resident = 0
    return round(seconds * MILLISECONDS_PER_SECOND), resident


def sync_folder(folder: Path) -> None:
    """`System.sync_folder`: F_FULLFSYNC; fsync on a file system that does not know it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.fcntl(handle, _F_FULLFSYNC)
        except OSError:
            os.fsync(handle)
    finally:
        os.close(handle)
