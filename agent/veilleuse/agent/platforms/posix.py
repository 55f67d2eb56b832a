# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `platforms.System` on Linux; macOS imports the shared parts (platforms/macos.py).

Sources: clock_gettime(2), proc(5), flock(2), getrusage(2), proc_pid_statm(5), statvfs(3), seteuid(2),
setrlimit(2), signal(7).
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from veilleuse.agent import clock
from veilleuse.wire import files
from veilleuse.wire.files import open_owned, rename_owned
from veilleuse.wire.units import MILLISECONDS_PER_SECOND, NANOSECONDS_PER_MILLISECOND

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

CONFIGURATION: Final = Path("/etc/veilleuse/agent.toml")
STATE: Final = Path("/var/lib/veilleuse-agent")
METERS: Final = Path("/etc/veilleuse/meters.toml")
RAPL_HELPER: Final = Path("/run/veilleuse-rapl/readings.json")
SERVICE_MANAGER: Final = "veilleuse.agent.service.systemd:SystemdNotifier"
ACCESS_BY_MODE: Final = True
BEFORE_THE_IMAGE: Final = (
    "empty /etc/machine-id (`truncate -s 0 /etc/machine-id`, or virt-sysprep), shut down, take the image"
)
CHILD_FLAGS: Final = 0

_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""This clock continues during sleep."""
SLEEP_AHEAD: Final = signal.SIGURG
"""Tells the running agent that the machine is about to sleep.

A process without a handler ignores SIGURG (signal(7)), so it does not kill an older agent, or one that is
starting.
"""
_PAGE_BYTES: Final = resource.getpagesize()


def prepare_process() -> None:
    """Disable core dumps; children inherit this."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


# ------------------------------------------------------------------------------------------ clocks


def clocks() -> tuple[int, int, int]:
    """See `System.clocks`: real time, boot time, monotonic time."""
    return (
        clock.unix_milliseconds(),
        time.clock_gettime_ns(_BOOTTIME) // NANOSECONDS_PER_MILLISECOND,
        time.monotonic_ns() // NANOSECONDS_PER_MILLISECOND,
    )


def boot_id(procfs: str) -> str:
    """See `System.boot_id`: the id from the kernel."""
    try:
        with open(f"{procfs}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""


class PipeSleeper:
    """Implements `platforms.Sleeper` with a pipe, which a signal handler may write to."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def sleep(self, milliseconds: int) -> None:
        """See `Sleeper.sleep`."""
        ready, _, _ = select.select([self._reader], [], [], max(0, milliseconds) / MILLISECONDS_PER_SECOND)
        if ready:
            os.read(self._reader, 64)

    def wake(self) -> None:
        """See `Sleeper.wake`."""
        try:
            os.write(self._writer, b"w")
        except BlockingIOError:
            return  # enough wakes are waiting already

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._reader)
        os.close(self._writer)


sleeper = PipeSleeper


# ----------------------------------------------------------------------------------------- signals


def on_stop(stop: Callable[[], None]) -> Callable[[], None]:
    """See `System.on_stop`: SIGTERM and SIGINT."""
    return _install_handlers(stop, signal.SIGTERM, signal.SIGINT)


class SignalWatch:
    """Implements `platforms.SleepWatch`.

    The sender of the signal reads the spool itself (commands/before_sleep.py).
    """

    def __init__(self, announce: Callable[[], None]) -> None:
        self._undo = _install_handlers(announce, SLEEP_AHEAD)

    def confirm_written(self) -> None:
        """Do nothing: no caller waits."""

    def close(self) -> None:
        """Restore the former signal handler."""
        self._undo()


on_sleep_ahead = SignalWatch


def tell_sleep_ahead(process: int) -> None:
    """See `System.tell_sleep_ahead`."""
    os.kill(process, SLEEP_AHEAD)


def _install_handlers(call: Callable[[], None], *numbers: signal.Signals) -> Callable[[], None]:
    before = {number: signal.signal(number, lambda *_: call()) for number in numbers}

    def undo() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return undo


# --------------------------------------------------------------------------------------- processes


def lock(path: Path) -> int:
    """See `System.lock`: flock."""
    descriptor = open_owned(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def is_running(process: int) -> bool:
    """See `System.is_running`; False for a process of another user."""
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


_children: list[subprocess.Popen[bytes]] = []


def keep_child(child: subprocess.Popen[bytes]) -> None:
    """Remember the child: getrusage counts it only once its end was seen. Each child watches its parent."""
    _children[:] = [one for one in _children if one.returncode is None]
    _children.append(child)


def ask_to_end(child: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM."""
    child.terminate()


def usage() -> tuple[int, int]:
    """See `System.usage`."""
    return cpu_milliseconds(), _rss_bytes()


def cpu_milliseconds() -> int:
    """Return the CPU time of this process and its children, ended (getrusage) or running (psutil)."""
    mine = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = mine.ru_utime + mine.ru_stime + ended.ru_utime + ended.ru_stime
    for child in _children:
        if child.returncode is None:
            seconds += _running_seconds(child.pid)
    return round(seconds * MILLISECONDS_PER_SECOND)


def _running_seconds(process: int) -> float:
    import psutil  # the resident process has loaded it already

    try:
        times = psutil.Process(process).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _rss_bytes() -> int:
    # ru_maxrss is unsuitable: it starts at the peak of the process that forked us.
    try:
        descriptor = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(descriptor, 128).split()[1]) * _PAGE_BYTES
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------------------------------- files


def disk_room(folder: Path) -> tuple[int, int]:
    """See `System.disk_room`."""
    disk = os.statvfs(folder)
    return disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize


def replace(fresh: Path, path: Path) -> None:
    """See `System.replace`."""
    rename_owned(fresh, path)


def sync_folder(folder: Path) -> None:
    """See `System.sync_folder`: fsync of the directory."""
    files.sync_folder(folder)


@contextmanager
def acting_as_owner_of(folder: Path) -> Iterator[None]:
    """See `System.acting_as_owner_of`: root takes its user and group; other users change nothing."""
    owner = os.stat(folder)
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def host_name() -> str:
    """See `System.host_name`."""
    return os.uname().nodename
