# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `platforms.System` on macOS: parts shared with Linux, and its own.

It was never run on a Mac: docs/macos.md. Sources: Apple's clock_gettime(3), fcntl(2), hier(7); sysctl
kern.bootsessionuuid (xnu, iokit/Kernel/IOPMrootDomain.cpp); Apple's documentation of
IORegisterForSystemPower.
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
"""Names shared with Linux."""

log = logging.getLogger(__name__)

_FOLDER: Final = Path("/Library/Application Support/Veilleuse")
CONFIGURATION: Final = _FOLDER / "agent.toml"
METERS: Final = _FOLDER / "meters.toml"
STATE: Final = Path("/var/db/veilleuse-agent")
"""State is kept outside /Library, which Migration Assistant copies to the next Mac, identity included."""
RAPL_HELPER: Final = Path("/var/run/veilleuse-power/readings.json")
"""This directory is emptied at each start of the machine."""
SERVICE_MANAGER: Final = "veilleuse.agent.service.launchd:Launchd"

_WITH_SLEEP: Final = 4
"""CLOCK_MONOTONIC_RAW: continues during sleep."""
_WITHOUT_SLEEP: Final = 8
"""CLOCK_UPTIME_RAW: same rate, but stops during sleep. Source for both: clock_gettime(3), time.h.

CLOCK_MONOTONIC is unsuitable: it follows adjustments of the time of day, so its distance to the other clock
is not sleep alone. Python's monotonic clock is unsuitable: some Pythons for macOS count it from the start of
the process.
"""
_BOOT_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_BOOT: Final = "00000000-0000-0000-0000-000000000000"
HELD_SECONDS: Final = 3.0
"""Longest time that a sleep is delayed for the sign of life; macOS would wait for 30 s."""
_F_FULLFSYNC: Final = 51
"""fcntl(2): also flushes the cache of the drive, unlike fsync on macOS."""


def real_calls() -> MacosCallTable:
    """Return the call table of this system."""
    from veilleuse.agent.platforms.macos.api import MacosCalls

    return MacosCalls()


# ------------------------------------------------------------------------------------------ clocks


def clocks(read: Callable[[int], int] = time.clock_gettime_ns) -> tuple[int, int, int]:
    """See `System.clocks`; `read` returns the nanoseconds of a clock."""
    return (
        time.time_ns() // NANOSECONDS_PER_MILLISECOND,
        read(_WITH_SLEEP) // NANOSECONDS_PER_MILLISECOND,
        read(_WITHOUT_SLEEP) // NANOSECONDS_PER_MILLISECOND,
    )


def boot_id(procfs: str, calls: MacosCallTable | None = None) -> str:
    """See `System.boot_id`: the boot session of the kernel.

    It is created when the kernel starts, so sleep and hibernation do not change it.
    """
    said = text(calls or real_calls(), "kern.bootsessionuuid").lower()
    return said if _BOOT_ID.fullmatch(said) and said != _NO_BOOT else ""


# ------------------------------------------------------------------------------------------- sleep


class PowerWatch:
    """Implements `platforms.SleepWatch`: delays the sleep until the sign of life is written."""

    def __init__(
        self,
        announce: Callable[[], None],
        calls: MacosCallTable | None = None,
        held_seconds: float = HELD_SECONDS,
    ) -> None:
        """Also handle the signal of `platforms.posix`, so that `before-sleep` works for any caller."""
        self._announce = announce
        self._held_seconds = held_seconds
        self._written = threading.Event()
        self._signals = SignalWatch(announce)
        self._undo: Callable[[], None] | None = None
        try:
            self._undo = (calls or real_calls()).on_power_event(self.handle_message)
        except (
            MacosCallError
            # without messages, sleep is found from the clocks, unless the machine dies asleep
        ) as error:
            log.warning("no sign before sleep", extra={"reason": str(error)})

    def handle_message(self, message: int) -> None:
        """Handle one message. Only the start of a sleep matters; the clocks show the rest."""
        if message == WILL_SLEEP:
            self._written.clear()
            try:
                self._announce()
            except OSError:
                return  # the agent is ending: its pipe is closed, its last sign is written
            self._written.wait(self._held_seconds)

    def confirm_written(self) -> None:
        """See `SleepWatch.confirm_written`."""
        self._written.set()

    def close(self) -> None:
        """See `SleepWatch.close`."""
        self._written.set()
        self._signals.close()
        if self._undo is not None:
            self._undo()


on_sleep_ahead = PowerWatch


# ----------------------------------------------------------------------------------- cost and files


def usage() -> tuple[int, int]:
    """See `System.usage`: getrusage(2), and psutil for the present resident size.

    getrusage reports only the largest resident size.
    """
    import psutil  # the resident process has loaded it already

    mine = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime
    try:
        resident = int(psutil.Process().memory_info().rss)
    except psutil.Error:
        resident = 0
    return round(seconds * MILLISECONDS_PER_SECOND), resident


def sync_folder(folder: Path) -> None:
    """See `System.sync_folder`: F_FULLFSYNC, or fsync on a file system without it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.fcntl(handle, _F_FULLFSYNC)
        except OSError:
            os.fsync(handle)
    finally:
        os.close(handle)
