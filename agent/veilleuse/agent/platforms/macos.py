# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `platforms.System` on macOS: parts shared with Linux, and its own, through one table of calls.

It was never run on a Mac: docs/macos.md. Imported on macOS only. The calls use ctypes alone. Sources: Apple's
clock_gettime(3), dispatch_queue_create(3), fcntl(2), gethostuuid(2), hier(7), sysctlbyname(3); sysctl
kern.bootsessionuuid (xnu, iokit/Kernel/IOPMrootDomain.cpp); Apple's documentation of
IORegisterForSystemPower, IOAllowPowerChange, IODeregisterForSystemPower and
IONotificationPortSetDispatchQueue.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_long, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any, Final, Protocol

from veilleuse.agent import clock
from veilleuse.agent.platforms.posix import (
    ACCESS_BY_MODE,
    CHILD_FLAGS,
    SignalWatch,
    acting_as_owner_of,
    ask_to_end,
    cpu_milliseconds,
    disk_room,
    host_name,
    is_running,
    keep_child,
    lock,
    on_stop,
    prepare_process,
    replace,
    sleeper,
    tell_sleep_ahead,
)
from veilleuse.wire.units import NANOSECONDS_PER_MILLISECOND

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
BEFORE_THE_IMAGE: Final = "shut down, take the image"
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


# ------------------------------------------------------------------------------------------- calls

CAN_SLEEP: Final = 0xE0000270
"""kIOMessageCanSystemSleep: asks whether the idle machine may sleep."""
WILL_SLEEP: Final = 0xE0000280
"""kIOMessageSystemWillSleep: the machine is about to sleep.

Source: IOKit/IOMessage.h; 0xE0000000 is the base of IOKit's own messages.
"""


class MacosCallError(Exception):
    """Reports one failed call; the caller translates it at once."""


class MacosCallTable(Protocol):
    """Calls of macOS. Each raises MacosCallError."""

    def sysctl(self, name: str) -> bytes:
        """Return the raw value from the kernel: a text with its NUL, or a number in native byte order."""

    def host_uuid(self) -> str:
        """Return the UUID of the hardware, `8-4-4-4-12` in upper case.

        It stays on the machine: it detects a clone, and names a file.
        """

    def on_power_event(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call `callback` with each message of the root power domain, in a thread of the system.

        A message that needs an answer is allowed when `callback` returns, even after an exception. Returns a
        function that ends the calls.
        """


def sysctl_text(calls: MacosCallTable, name: str) -> str:
    """Return a text value of sysctl; empty where there is none."""
    try:
        return calls.sysctl(name).partition(b"\0")[0].decode("utf-8", "replace").strip()
    except MacosCallError:
        return ""


def sysctl_number(calls: MacosCallTable, name: str) -> int | None:
    """Return a number of sysctl, 4 or 8 bytes (Macs are little-endian); None where there is none."""
    try:
        value = calls.sysctl(name)
    except MacosCallError:
        return None
    return int.from_bytes(value, "little", signed=True) if len(value) in (4, 8) else None


LIBSYSTEM: Final = "/usr/lib/libSystem.B.dylib"
IOKIT: Final = "/System/Library/Frameworks/IOKit.framework/IOKit"
"""Library names. Since macOS 11 they lie in the loader's cache, not on disk, but load by these names."""
_LARGEST_BYTES: Final = 4_096
_TRIES: Final = 3
"""Number of attempts: a text may grow between the call for its size and the call for the text."""
_UUID_WAIT_SECONDS: Final = 5
_ANSWERED: Final = (CAN_SLEEP, WILL_SLEEP)
"""Messages that MUST be answered, else the sleep waits for 30 s; no others. Source: Apple."""
_QUEUE: Final = b"fr.grandlyon.veilleuse-agent.power"
_called_back: Final[list[object]] = []
"""Callbacks of the system. They must never be garbage-collected: that would crash the process."""
_INTEREST: Final = ctypes.CFUNCTYPE(None, c_void_p, c_uint32, c_uint32, c_void_p)
"""IOServiceInterestCallback(our pointer, service, message, its argument)."""


class _Timespec(ctypes.Structure):
    """struct timespec of a 64-bit process."""

    _fields_ = (("seconds", c_long), ("nanoseconds", c_long))


class MacosCalls:
    """Implements `MacosCallTable` on the running system."""

    def __init__(self) -> None:
        self._libraries: dict[str, Any] = {}

    def _function(self, library: str, name: str, *arguments: object, result: object = c_int) -> Any:
        """Return a function; its library is loaded once. Raises MacosCallError where it is missing."""
        try:
            if library not in self._libraries:
                self._libraries[library] = ctypes.CDLL(library, use_errno=True)
            function = getattr(self._libraries[library], name)
        except (OSError, AttributeError) as error:
            raise MacosCallError(f"there is no {name} in {library}") from error
        function.argtypes, function.restype = arguments, result
        return function

    def sysctl(self, name: str) -> bytes:
        """See MacosCallTable."""
        ask = self._function(LIBSYSTEM, "sysctlbyname", c_char_p, c_void_p, c_void_p, c_void_p, c_size_t)
        size = c_size_t()
        for _ in range(_TRIES):
            if ask(name.encode("ascii"), None, byref(size), None, 0) or not 0 < size.value <= _LARGEST_BYTES:
                break
            buffer = ctypes.create_string_buffer(size.value)
            if ask(name.encode("ascii"), buffer, byref(size), None, 0) == 0:
                return buffer.raw[: size.value]
        raise MacosCallError(f"sysctl {name}: error {ctypes.get_errno()}")

    def host_uuid(self) -> str:
        """See MacosCallTable."""
        found, wait = (ctypes.c_ubyte * 16)(), _Timespec(_UUID_WAIT_SECONDS, 0)
        if self._function(LIBSYSTEM, "gethostuuid", c_void_p, c_void_p)(found, byref(wait)):
            raise MacosCallError(f"gethostuuid: error {ctypes.get_errno()}")
        return str(uuid.UUID(bytes=bytes(found))).upper()

    def on_power_event(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """See MacosCallTable. It uses its own dispatch queue, so this process needs no event loop."""
        register = self._function(
            IOKIT, "IORegisterForSystemPower", c_void_p, c_void_p, _INTEREST, c_void_p, result=c_uint32
        )
        allow = self._function(IOKIT, "IOAllowPowerChange", c_uint32, c_long)
        queue_of = self._function(LIBSYSTEM, "dispatch_queue_create", c_char_p, c_void_p, result=c_void_p)
        set_queue = self._function(
            IOKIT, "IONotificationPortSetDispatchQueue", c_void_p, c_void_p, result=None
        )
        end = self._function(IOKIT, "IODeregisterForSystemPower", c_void_p)
        shut = self._function(IOKIT, "IOServiceClose", c_uint32)
        destroy = self._function(IOKIT, "IONotificationPortDestroy", c_void_p, result=None)
        root, port, notifier = c_uint32(), c_void_p(), c_uint32()

        def call_back(_pointer: object, _service: int, message: int, argument: int | None) -> None:
            try:
                callback(message)
            finally:  # also after a defect of ours, which Python prints: never keep a machine awake
                if message in _ANSWERED:
                    allow(root, argument or 0)

        routine = _INTEREST(call_back)
        queue = queue_of(_QUEUE, None)
        root.value = register(None, byref(port), routine, byref(notifier))
        if not root.value or not queue:
            raise MacosCallError("IORegisterForSystemPower gives no connection")
        _called_back.append(routine)
        set_queue(port, queue)  # delivery of messages starts here, once `root` is known

        def undo() -> None:
            end(byref(notifier))
            shut(root)
            destroy(port)

        return undo


def real_calls() -> MacosCallTable:
    """Return the call table of this system."""
    return MacosCalls()


# ------------------------------------------------------------------------------------------ clocks


def clocks(read: Callable[[int], int] = time.clock_gettime_ns) -> tuple[int, int, int]:
    """See `System.clocks`; `read` returns the nanoseconds of a clock."""
    return (
        clock.unix_milliseconds(),
        read(_WITH_SLEEP) // NANOSECONDS_PER_MILLISECOND,
        read(_WITHOUT_SLEEP) // NANOSECONDS_PER_MILLISECOND,
    )


def boot_id(procfs: str, calls: MacosCallTable | None = None) -> str:
    """See `System.boot_id`: the boot session of the kernel.

    It is created when the kernel starts, so sleep and hibernation do not change it.
    """
    said = sysctl_text(calls or real_calls(), "kern.bootsessionuuid").lower()
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

    try:
        resident = int(psutil.Process().memory_info().rss)
    except psutil.Error:
        resident = 0
    return cpu_milliseconds(), resident


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
