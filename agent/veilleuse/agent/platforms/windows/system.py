# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `platforms.System` on Windows 10, Server 2016 and later.

docs/windows.md says what was run, and where. Sources: Windows documentation, SetConsoleCtrlHandler,
HandlerRoutine, Interrupt Time, Job Objects, LockFile, PowerRegisterSuspendResumeNotification, SetErrorMode;
Python, msvcrt, subprocess, os.mkdir (mode 0700 gives access to SYSTEM, Administrators and the owner, since
3.12.4).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from veilleuse.agent import clock
from veilleuse.agent.platforms.windows.calls import (
    ERROR_ACCESS_DENIED,
    SUSPEND,
    FactCalls,
    PowerCalls,
    WindowsCallError,
    WindowsCallTable,
)
from veilleuse.wire.units import (
    HUNDREDS_OF_NANOSECONDS_PER_MILLISECOND,
    MILLISECONDS_PER_SECOND,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

log = logging.getLogger(__name__)

_PROGRAM_DATA: Final = os.path.expandvars(r"%ProgramData%")
_FOLDER: Final = Path(r"C:\ProgramData" if "%" in _PROGRAM_DATA else _PROGRAM_DATA) / "Veilleuse"
"""Absolute also where a caller has removed the variable."""
CONFIGURATION: Final = _FOLDER / "agent.toml"
STATE: Final = _FOLDER / "agent"
METERS: Final = _FOLDER / "meters.toml"
RAPL_HELPER: Final = _FOLDER / "rapl.json"
"""Never written: the RAPL helper exists on Linux only."""
SERVICE_MANAGER: Final = "veilleuse.agent.service.windows_service:current"
ACCESS_BY_MODE: Final = False
BEFORE_THE_IMAGE: Final = "`sysprep /generalize /oobe /shutdown`, then take the image"

CREATE_NEW_PROCESS_GROUP: Final = 0x200
"""A separate group does not get the console's CTRL_C: we end the child in order."""
CHILD_FLAGS: Final = CREATE_NEW_PROCESS_GROUP
CTRL_C, CTRL_BREAK, CTRL_CLOSE, CTRL_LOGOFF, CTRL_SHUTDOWN = 0, 1, 2, 5, 6
_FORCED: Final = (CTRL_CLOSE, CTRL_SHUTDOWN)
"""Events after which Windows ends the process when the handler returns, or 5 s after the event.

Source: HandlerRoutine.
"""
FORCED_SECONDS: Final = 4.5
BOOT_KEY: Final = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters"
BOOT_VALUE: Final = "BootId"
ANSWER_SECONDS: Final = 1.5
"""Longest delay of a suspend for the sign of life. Windows continues after about 2 s in any case."""
_LOCKED_BYTE: Final = 1 << 20
"""Position of the locked byte, behind all data.

Locks are mandatory here, and the holder's number must stay readable.
"""
_RENAME_TRIES: Final = 25
_RENAME_SECONDS: Final = 0.02
"""Wait between two attempts: readers hold the file open for a moment, a virus scanner for longer."""


@functools.cache
def table() -> WindowsCallTable:
    """Return the real call table. Raises SourceUnavailable on any other system."""
    from veilleuse.agent.platforms.windows.api import WindowsCalls

    return WindowsCalls()


def prepare_process() -> None:
    """Disable crash dialogues and reports, also in children; output that is not a console becomes UTF-8."""
    with contextlib.suppress(WindowsCallError):
        table().quiet_crashes()
    for stream in (sys.stdout, sys.stderr):  # None without a console
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None and not stream.isatty():
            reconfigure(encoding="utf-8", errors="backslashreplace")


# ------------------------------------------------------------------------------------------ clocks


def clocks(calls: PowerCalls | None = None) -> tuple[int, int, int]:
    """See `System.clocks`. Raises WindowsCallError.

    Interrupt time continues during sleep; unbiased interrupt time stops. On Linux these are boot time and
    monotonic time. GetTickCount64 and Python's monotonic clock are unsuitable: neither documents which of the
    two it is.
    """
    biased, unbiased = (calls or table()).interrupt_times()
    return (
        clock.unix_milliseconds(),
        biased // HUNDREDS_OF_NANOSECONDS_PER_MILLISECOND,
        unbiased // HUNDREDS_OF_NANOSECONDS_PER_MILLISECOND,
    )


def boot_id(procfs: str, calls: FactCalls | None = None) -> str:
    """See `System.boot_id`: the number of this boot from the Windows prefetcher.

    `procfs` is used on Linux only. Windows has no boot id. Unix time minus time since
    boot is unsuitable: it moves with each correction of the clock. A boot wrongly taken for another one would
    turn sleep into `unknown`. After a fast start (hibernated kernel session), the number may be new while
    interrupt time continues. The time between is then `unknown`, which claims nothing.
    """
    number = (calls or table()).registry(BOOT_KEY, BOOT_VALUE)
    return f"windows-{number}" if isinstance(number, int) and number > 0 else ""


class EventSleeper:
    """Implements `platforms.Sleeper`.

    The handlers of on_stop and on_sleep_ahead end the wait from their threads. Since Windows 8 the time of a
    wait stops during sleep. Source: WaitForSingleObject.
    """

    def __init__(self) -> None:
        self._woken = threading.Event()

    def sleep(self, milliseconds: int) -> None:
        """See `Sleeper.sleep`."""
        if self._woken.wait(max(0, milliseconds) / MILLISECONDS_PER_SECOND):
            self._woken.clear()

    def wake(self) -> None:
        """See `Sleeper.wake`."""
        self._woken.set()

    def close(self) -> None:
        """Do nothing: there are no resources."""


sleeper = EventSleeper


# ------------------------------------------------------------------------------------------ events


_stops: Final[list[Callable[[], None]]] = []
"""Functions given to `on_stop`."""
_end_asked: Final = threading.Event()


def ask_own_end() -> None:
    """Ask this process to end, now and whenever it begins to measure again: its service got a control."""
    _end_asked.set()
    for stop in tuple(_stops):
        stop()


def on_stop(stop: Callable[[], None]) -> Callable[[], None]:
    """See `System.on_stop`: a service's control, Ctrl+C, Ctrl+Break, a closed console window, a shutdown.

    A log-off stops no service.
    """
    ended = threading.Event()
    _stops.append(stop)
    if _end_asked.is_set():
        stop()

    def handle_event(event: int) -> bool:
        if event != CTRL_LOGOFF:
            stop()
        if event in _FORCED:
            ended.wait(FORCED_SECONDS)  # the last sign of life is being written
        return True

    forget = table().on_console_event(handle_event)

    def undo() -> None:
        ended.set()
        _stops.remove(stop)
        forget()

    return undo


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
        """See `SleepWatch.confirm_written`."""
        self._written.set()

    def close(self) -> None:
        """Ignore further events, which Windows sends for the life of the process."""
        self._closed = True
        self._written.set()


def on_sleep_ahead(announce: Callable[[], None]) -> SuspendWatch:
    """See `System.on_sleep_ahead`. Without events, sleep is found from the clocks."""
    watch = SuspendWatch(announce)
    try:
        watch.start(table())
    except WindowsCallError as error:
        log.warning("a suspend is not announced here", extra={"reason": str(error)})
    return watch


def tell_sleep_ahead(process: int) -> None:
    """Raise OSError: Windows itself announces a sleep."""
    raise OSError(errno.ENOSYS, "Windows itself tells the agent before it sleeps")


# --------------------------------------------------------------------------------------- processes


def lock(path: Path) -> int:
    """See `System.lock`: locks one byte of the file."""
    msvcrt: Any = importlib.import_module("msvcrt")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    try:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError as error:
        os.close(descriptor)
        raise BlockingIOError(errno.EAGAIN, "held by another process", str(path)) from error
    return descriptor


def is_running(process: int) -> bool:
    """See `System.is_running`. os.kill is unsuitable.

    Signal 0 is CTRL_C_EVENT here, sent to the whole console.
    """
    try:
        handle = table().process(process)
    except WindowsCallError as error:
        return error.code == ERROR_ACCESS_DENIED  # the process of another user
    try:
        return table().lives(handle)
    finally:
        table().close(handle)


@functools.cache
def _job() -> int:
    """Return the job of this process's children; 0 where there can be none.

    Its only handle closes when this process ends, which ends the children.
    """
    try:
        return table().job()
    except WindowsCallError as error:
        log.warning("children are not bound to this process", extra={"reason": str(error)})
        return 0


def keep_child(child: subprocess.Popen[bytes]) -> None:
    """See `System.keep_child`: the child and its children are put in a job object."""
    handle: Any = getattr(child, "_handle", 0)  # Popen has no public handle
    if job := _job():
        try:
            table().job_add(job, int(handle))
        except WindowsCallError as error:  # the child has ended already
            log.debug("child not bound to this process", extra={"reason": str(error)})


def ask_to_end(child: subprocess.Popen[bytes]) -> None:
    """See `System.ask_to_end`. CTRL_BREAK is unsuitable: it needs a common console, which a service lacks."""
    if child.stdin is None:
        child.terminate()


def usage() -> tuple[int, int]:
    """See `System.usage`. The time of the children is that of the job, running ones included."""
    milliseconds = 0
    if _job.cache_info().currsize and (job := _job()):
        with contextlib.suppress(WindowsCallError):
            milliseconds = table().job_times(job) // HUNDREDS_OF_NANOSECONDS_PER_MILLISECOND
    own, resident = table().own_usage()
    return own // HUNDREDS_OF_NANOSECONDS_PER_MILLISECOND + milliseconds, resident


# ------------------------------------------------------------------------------------------- files


def disk_room(folder: Path) -> tuple[int, int]:
    """See `System.disk_room`; it respects quotas."""
    try:
        return table().disk_room(str(folder))
    except WindowsCallError as error:
        raise OSError(errno.EIO, f"the disk of {folder} does not say its room ({error})") from error


def replace(fresh: Path, path: Path) -> None:
    """See `System.replace`. An open file cannot be replaced here, so retry: it is open for a moment only."""
    for _ in range(_RENAME_TRIES):
        try:
            os.replace(fresh, path)
        except PermissionError:
            time.sleep(_RENAME_SECONDS)
        else:
            return
    os.replace(fresh, path)


def sync_folder(folder: Path) -> None:
    """Do nothing: Windows opens no folder for this, and NTFS keeps renames in its journal."""


def acting_as_owner_of(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Do nothing: the access list of the folder is inherited."""
    return contextlib.nullcontext()


def host_name() -> str:
    """See `System.host_name`. COMPUTERNAME is unsuitable: it is cut to 15 characters."""
    import socket

    return socket.gethostname()
