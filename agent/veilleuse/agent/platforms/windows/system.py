# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`system.System` on Windows 10, Server 2016 and later. docs/windows.md says what of it was run, and on what.

Sources: Windows documentation, SetConsoleCtrlHandler, HandlerRoutine, Job Objects, LockFile, SetErrorMode; Python, msvcrt,
subprocess, os.mkdir (a folder made with mode 0700 is for SYSTEM, Administrators and its owner, since 3.12.4).
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

from veilleuse.agent.platforms.windows import clock
from veilleuse.agent.platforms.windows.calls import ERROR_ACCESS_DENIED, WindowsCallError, WindowsCallTable
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

log = logging.getLogger(__name__)

_FOLDER: Final = Path(os.path.expandvars(r"%ProgramData%")) / "Veilleuse"
CONFIGURATION: Final = _FOLDER / "agent.toml"
STATE: Final = _FOLDER / "agent"
METERS: Final = _FOLDER / "meters.toml"
RAPL_HELPER: Final = _FOLDER / "rapl.json"
"""Nothing writes it here: that helper is Linux'."""
SERVICE_MANAGER: Final = ""
ACCESS_BY_MODE: Final = False

CREATE_NEW_PROCESS_GROUP: Final = 0x200
"""A group of its own can be sent CTRL_BREAK, and the console's CTRL_C passes it by: we end it ourselves, in order."""
CHILD_FLAGS: Final = CREATE_NEW_PROCESS_GROUP
CTRL_C, CTRL_BREAK, CTRL_CLOSE, CTRL_LOGOFF, CTRL_SHUTDOWN = 0, 1, 2, 5, 6
_FORCED: Final = (CTRL_CLOSE, CTRL_SHUTDOWN)
"""The process is ended as soon as the handler comes back, or 5 s after the event. Source: HandlerRoutine."""
FORCED_SECONDS: Final = 4.5
_LOCKED_BYTE: Final = 1 << 20
"""Beyond all that is written: a lock is mandatory here, and the number of the holder has to stay readable."""
_RENAME_TRIES: Final = 25
_RENAME_SECONDS: Final = 0.02
"""Whoever reads the file has it open for a moment, a virus scanner for longer."""
_100NS_PER_MILLISECOND: Final = 10_000


@functools.cache
def table() -> WindowsCallTable:
    """The real table of calls. Raises SourceUnavailable on any other system."""
    from veilleuse.agent.platforms.windows.api import WindowsCalls

    return WindowsCalls()


def prepare_process() -> None:
    """No dialogue and no report of a crash; output that is not a console is UTF-8, whatever the code page. Children inherit the first."""
    with contextlib.suppress(WindowsCallError):
        table().quiet_crashes()
    for stream in (sys.stdout, sys.stderr):  # None without a console
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None and not stream.isatty():
            reconfigure(encoding="utf-8", errors="backslashreplace")


# ------------------------------------------------------------------------------------------ clocks


def clocks() -> tuple[int, int, int]:
    """`System.clocks`: interrupt time, with bias and without."""
    return clock.clocks(table())


def boot_id(procfs: str) -> str:
    """`System.boot_id`: `procfs` is Linux'."""
    return clock.boot_id(table())


class EventSleeper:
    """`system.Sleeper`: a wait that the handlers of on_stop and on_sleep_ahead end from threads of their own.

    Since Windows 8 the time of a wait does not go on while the machine sleeps. Source: WaitForSingleObject.
    """

    def __init__(self) -> None:
        self._woken = threading.Event()

    def sleep(self, milliseconds: int) -> None:
        """`Sleeper.sleep`."""
        if self._woken.wait(max(0, milliseconds) / MILLISECONDS_PER_SECOND):
            self._woken.clear()

    def wake(self) -> None:
        """`Sleeper.wake`."""
        self._woken.set()

    def close(self) -> None:
        """Nothing is held."""


sleeper = EventSleeper


# ------------------------------------------------------------------------------------------ events


def on_stop(stop: Callable[[], None]) -> Callable[[], None]:
    """`System.on_stop`: the console's Ctrl+C and Ctrl+Break, its window closed, the machine's end. A log-off stops no service."""
    ended = threading.Event()

    def told(event: int) -> bool:
        if event != CTRL_LOGOFF:
            stop()
        if event in _FORCED:
            ended.wait(FORCED_SECONDS)  # the last sign of life is being written
        return True

    forget = table().on_console_event(told)

    def undo() -> None:
        ended.set()
        forget()

    return undo


def on_sleep_ahead(announce: Callable[[], None]) -> clock.SuspendWatch:
    """`System.on_sleep_ahead`: where Windows does not tell, sleep is found from the clocks."""
    watch = clock.SuspendWatch(announce)
    try:
        watch.start(table())
    except WindowsCallError as error:
        log.warning("a suspend is not announced here", extra={"reason": str(error)})
    return watch


def tell_sleep_ahead(process: int) -> None:
    """Nobody has to."""
    raise OSError(errno.ENOSYS, "Windows itself tells the agent before it sleeps")


# --------------------------------------------------------------------------------------- processes


def lock(path: Path) -> int:
    """`System.lock`: one byte of the file."""
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
    """`System.is_running`. Never os.kill: signal 0 is CTRL_C_EVENT here, and reaches all of a console."""
    try:
        handle = table().process(process)
    except WindowsCallError as error:
        return error.code == ERROR_ACCESS_DENIED  # somebody else's
    try:
        return table().lives(handle)
    finally:
        table().close(handle)


def parent_watch(process: int) -> Callable[[], bool]:
    """`System.parent_watch`: a process keeps the number of its parent when that one is gone, so a handle is held."""
    try:
        handle = table().process(process)
    except WindowsCallError:
        return lambda: False
    return lambda: table().lives(handle)


@functools.cache
def _job() -> int:
    """Of this process's children. Its one handle ends with us, and they with it. 0 where there can be none."""
    try:
        return table().job()
    except WindowsCallError as error:
        log.warning("children are not bound to this process", extra={"reason": str(error)})
        return 0


def keep_child(child: subprocess.Popen[bytes]) -> None:
    """`System.keep_child`: in a job object, with all that it starts."""
    handle: Any = getattr(child, "_handle", 0)  # there is no other way to it
    if job := _job():
        try:
            table().job_add(job, int(handle))
        except WindowsCallError as error:  # it has ended already
            log.debug("child not bound to this process", extra={"reason": str(error)})


def ask_to_end(child: subprocess.Popen[bytes]) -> None:
    """`System.ask_to_end`: CTRL_BREAK, which needs a console in common; without one it ends at once, which it survives."""
    try:
        child.send_signal(CTRL_BREAK)
    except OSError:
        child.terminate()


def usage() -> tuple[int, int]:
    """`System.usage`; the children's time is the job's, of those that run too."""
    milliseconds = 0
    if _job.cache_info().currsize and (job := _job()):
        with contextlib.suppress(WindowsCallError):
            milliseconds = table().job_times(job) // _100NS_PER_MILLISECOND
    own, resident = table().own_usage()
    return own // _100NS_PER_MILLISECOND + milliseconds, resident


# ------------------------------------------------------------------------------------------- files


def disk_room(folder: Path) -> tuple[int, int]:
    """`System.disk_room`, quotas respected."""
    try:
        return table().disk_room(str(folder))
    except WindowsCallError as error:
        raise OSError(errno.EIO, f"the disk of {folder} does not say its room ({error})") from error


def replace(fresh: Path, path: Path) -> None:
    """`System.replace`: what is open cannot be replaced here, and is open for a moment only."""
    for _ in range(_RENAME_TRIES):
        try:
            os.replace(fresh, path)
        except PermissionError:
            time.sleep(_RENAME_SECONDS)
        else:
            return
    os.replace(fresh, path)


def sync_folder(folder: Path) -> None:
    """Windows opens no folder for that; NTFS keeps renames in its journal."""


def acting_as_owner_of(folder: Path) -> contextlib.AbstractContextManager[None]:
    """The access list of the folder is inherited: nothing to change."""
    return contextlib.nullcontext()


def host_name() -> str:
    """`System.host_name`; not COMPUTERNAME, which is cut to 15 characters."""
    import socket

    return socket.gethostname()
