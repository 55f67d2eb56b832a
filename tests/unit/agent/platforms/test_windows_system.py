# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the Windows module of the protocol System over a fake table. Under Wine: docs/windows.md."""

from __future__ import annotations

import errno
import importlib
import io
import os
import select
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.fakes.windows import JOB, FakeWindows
from tests.support.waiting import PATIENCE_SECONDS, comes
from veilleuse.agent import platforms
from veilleuse.agent.errors import AlreadyRunning, SpoolDamaged
from veilleuse.agent.identity.store import write_private
from veilleuse.agent.platforms.locks import RUN_LOCK, ProcessLock, lock_holder
from veilleuse.agent.platforms.windows import system as windows_system
from veilleuse.agent.platforms.windows.calls import ERROR_ACCESS_DENIED, SUSPEND
from veilleuse.agent.ports import ControlKey, SourceContext
from veilleuse.agent.resident import process
from veilleuse.agent.resident.state import LastSign
from veilleuse.agent.settings import AgentSettings, Collector, Measure, Paths
from veilleuse.agent.sources.utilisation import Utilisation
from veilleuse.agent.spool.database import FILE_NAME, Bounds, FileSpool, connect

CTRL_C, CTRL_CLOSE, CTRL_LOGOFF = 0, 2, 5


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWindows]:
    """Make the module use a fake table of calls."""
    made = FakeWindows()
    monkeypatch.setattr(windows_system, "table", lambda: made)
    windows_system._job.cache_clear()
    yield made
    windows_system._job.cache_clear()


SLEEPERS = [windows_system.EventSleeper]
if sys.platform != "win32":
    SLEEPERS += [importlib.import_module("veilleuse.agent.platforms.posix").PipeSleeper]


def will_wake(sleeper: Any) -> bool:
    """Return whether the next sleep ends at once."""
    if isinstance(sleeper, windows_system.EventSleeper):
        return sleeper._woken.is_set()
    return bool(select.select([sleeper._reader], [], [], 0)[0])


@pytest.mark.parametrize("kind", SLEEPERS)
def test_a_wake_ends_this_sleep_or_the_next(kind, monkeypatch):
    """A wake ends the current or next sleep, once; another sleep lasts its time."""
    sleeper = kind()
    sleeping = threading.Thread(target=sleeper.sleep, args=(3_600_000,), daemon=True)
    sleeping.start()
    sleeper.wake()
    sleeping.join(PATIENCE_SECONDS)
    assert not sleeping.is_alive()
    assert not will_wake(sleeper)
    sleeper.wake()
    assert will_wake(sleeper)
    sleeper.sleep(3_600_000)
    assert not will_wake(sleeper)
    waits: list[float] = []

    def select_nothing(*given: Any) -> tuple[Any, ...]:
        waits.append(given[3])
        return [], [], []

    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds: waits.append(seconds))
    monkeypatch.setattr(select, "select", select_nothing)
    sleeper.sleep(60)
    assert waits == [0.06]
    sleeper.close()


# ------------------------------------------------------------------------------------------ events


def test_the_console_stops_the_agent(windows):
    """Ctrl+C stops the agent, a log-off does not, and `undo` removes the handler."""
    stopped: list[int] = []
    undo = windows_system.on_stop(lambda: stopped.append(1))
    (told,) = windows.console
    assert told(CTRL_LOGOFF)
    assert not stopped
    assert told(CTRL_C)
    assert stopped
    undo()
    assert not windows.console


def test_a_window_that_closes_waits_for_the_end(windows, monkeypatch):
    """The handler of a closing window returns once everything is written, or before Windows' limit of 5 s."""
    stopped: list[int] = []
    undo = windows_system.on_stop(lambda: stopped.append(1))
    waits: list[tuple[object, ...]] = []

    def wait(event: threading.Event, seconds: float) -> None:
        waits.append((len(stopped), event.is_set(), seconds))
        undo()
        assert event.is_set()

    monkeypatch.setattr(threading.Event, "wait", wait)
    assert windows.console[0](CTRL_CLOSE)
    assert waits == [(1, False, windows_system.FORCED_SECONDS)]
    assert windows_system.FORCED_SECONDS < 5


def test_where_a_suspend_is_not_announced_measuring_goes_on(windows, monkeypatch, caplog):
    """The agent logs one warning and goes on; the clocks show the sleep."""

    def refused(told: object) -> None:
        from veilleuse.agent.platforms.windows.calls import WindowsCallError

        raise WindowsCallError("PowerRegisterSuspendResumeNotification", 1)

    monkeypatch.setattr(windows, "on_power_event", refused)
    watch = windows_system.on_sleep_ahead(lambda: None)
    watch.confirm_written()
    watch.close()
    assert "a suspend is not announced here" in caplog.text


def test_a_watch_that_is_closed_holds_nothing_up(windows, monkeypatch):
    """After `close` a suspend is not announced and not delayed."""
    announced: list[int] = []
    watch = windows_system.on_sleep_ahead(lambda: announced.append(1))
    watch.close()
    waits: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds: waits.append(seconds))
    windows.told[0](SUSPEND)
    assert not announced
    assert not waits


# --------------------------------------------------------------------------------------- processes


def test_whether_a_process_runs(windows):
    """A process runs if a handle opens (closed again) or access is denied; no signal is sent."""
    windows.processes = {7}
    assert windows_system.is_running(7)
    assert not windows_system.is_running(8)
    assert not windows.process_handles
    windows.no_process = ERROR_ACCESS_DENIED
    assert windows_system.is_running(8)


class Child:
    """Replaces a started process."""

    def __init__(self, stdin: object = None) -> None:
        self._handle = 55
        self.stdin = stdin
        self.terminated = False

    def terminate(self) -> None:
        self.terminated = True


def test_children_are_in_one_job_and_counted(windows):
    """All children are in one job, whose CPU time is added to ours; without a job only ours counts."""
    windows.usage = (20_000_000, 12_345_678)
    windows.job_time_100ns = 5_000_000
    assert windows_system.usage() == (2_000, 12_345_678)
    child: Any = Child()
    for _ in range(2):
        windows_system.keep_child(child)
    assert windows.in_job == [(JOB, 55)] * 2
    assert windows_system.usage() == (2_500, 12_345_678)
    windows_system._job.cache_clear()
    windows.no_job = True
    windows_system.keep_child(child)
    assert windows_system.usage() == (2_000, 12_345_678)


@pytest.mark.parametrize(("stdin", "terminated"), [(io.BytesIO(), False), (None, True)])
def test_a_child_is_asked_to_end(windows, stdin, terminated):
    """A child with a pipe sees its end; one without is terminated."""
    child: Any = Child(stdin)
    windows_system.ask_to_end(child)
    assert child.terminated is terminated
    assert getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200) == windows_system.CHILD_FLAGS


class Msvcrt:
    """Replaces msvcrt: each byte can be locked once."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self.locked: set[int] = set()

    def locking(self, descriptor: int, _mode: int, count: int) -> None:
        """Lock the byte at the descriptor's position."""
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        assert count == 1
        if place in self.locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        self.locked.add(place)


def test_a_lock_is_held_once(windows, monkeypatch, tmp_path):
    """The lock is beyond the text, which stays readable; a second one raises BlockingIOError."""
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    held = windows_system.lock(tmp_path / "run.lock")
    with os.fdopen(held, "r+b") as file:
        file.write(b"123\n")
        file.flush()
        assert (tmp_path / "run.lock").read_bytes() == b"123\n"
        with pytest.raises(BlockingIOError):
            windows_system.lock(tmp_path / "run.lock")
    with pytest.raises(FileNotFoundError):
        windows_system.lock(tmp_path / "nowhere" / "run.lock")


def test_the_lock_of_this_very_system(tmp_path):
    """The real lock names its holder and can be taken again after its release."""
    with ProcessLock(tmp_path, RUN_LOCK, what="one"):
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()} holds"):
            ProcessLock(tmp_path, RUN_LOCK, what="another")
        assert lock_holder(tmp_path, RUN_LOCK) == os.getpid()
    with ProcessLock(tmp_path, RUN_LOCK, what="a third"):
        pass


# ------------------------------------------------------------------------------------------- files


def test_room_on_the_disk(windows, tmp_path):
    """The result is (total, free); a failed call raises OSError."""
    windows.room = (1_000, 300)
    assert windows_system.disk_room(tmp_path) == (1_000, 300)
    windows.room = None
    with pytest.raises(OSError, match="does not say its room"):
        windows_system.disk_room(tmp_path)


def test_a_file_that_is_read_just_now_is_replaced_a_moment_later(monkeypatch, tmp_path):
    """The replacement is tried again while the file is open elsewhere; then it raises PermissionError."""
    tries: list[int] = []
    real = os.replace

    def replace(fresh: Path, path: Path) -> None:
        tries.append(1)
        if len(tries) < 4:
            raise PermissionError(errno.EACCES, "in use")
        real(fresh, path)

    monkeypatch.setattr("os.replace", replace)
    (tmp_path / "fresh").write_text("new")
    (tmp_path / "file").write_text("old")
    windows_system.replace(tmp_path / "fresh", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "new"
    monkeypatch.setattr(
        "os.replace", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "in use"))
    )
    monkeypatch.setattr(windows_system, "_RENAME_SECONDS", 0.0)
    with pytest.raises(PermissionError):
        windows_system.replace(tmp_path / "fresh", tmp_path / "file")


def test_output_that_is_no_console_is_utf_8(windows, monkeypatch):
    """Output to a pipe would have the code page, and a µ would end the program; a missing one is ignored."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp437")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)
    windows_system.prepare_process()
    stream.write("2 µW ≥ 1 ↦")
    stream.flush()
    assert stream.buffer.getvalue().decode("utf-8") == "2 µW ≥ 1 ↦"


# ------------------------------------------------------------------------------------ the resident


def sign(state: Path) -> LastSign | None:
    """Return the last sign of life in the spool, or None."""
    try:
        with closing(sqlite3.connect(f"{(state / FILE_NAME).as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT value FROM control WHERE key = ?", (ControlKey.LAST_SIGN,)).fetchone()
    except sqlite3.Error:
        return None
    return LastSign.from_json(row[0]) if row else None


def test_the_resident_on_windows_calls(windows, monkeypatch, tmp_path):
    """A suspend waits until its sign of life is written, before the next tick; Ctrl+C writes `stop` with
    Windows' boot id.

    Locks and disk are this system's own; all other calls use the Windows module.
    """
    windows.keys[windows_system.BOOT_KEY, windows_system.BOOT_VALUE] = 417
    windows.room = (10**12, 10**12)
    ticks = lambda: (time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 100,) * 2  # noqa: E731
    monkeypatch.setattr(windows, "interrupt_times", ticks)
    monkeypatch.setattr(process.Resident, "milliseconds_to_next_tick", lambda _: 3_600_000)
    for module in (platforms, process):
        monkeypatch.setattr(module, "here", windows_system)
    settings = AgentSettings(
        paths=Paths(state=tmp_path / "state", meters=tmp_path / "none"),
        measure=Measure(tick_seconds=30.0, sources=("fake",), fake_watts=10.0),
        collector=Collector(join_file=str(tmp_path / "none.json")),
    )
    watches: list[windows_system.SuspendWatch] = []

    def on_sleep_ahead(announce: Callable[[], None]) -> windows_system.SuspendWatch:
        watches.append(windows_system.SuspendWatch(announce, PATIENCE_SECONDS))
        watches[0].start(windows)
        return watches[0]

    monkeypatch.setattr(windows_system, "on_sleep_ahead", on_sleep_ahead)
    seen: list[tuple[str, bool]] = []

    def suspends_then_stops() -> None:
        comes(
            lambda: windows.console and windows.told and sign(tmp_path / "state")
        )  # `begin` has written its first sign
        try:
            windows.told[0](SUSPEND)
            found = sign(tmp_path / "state")
            seen.append((found.why if found else "", watches[0]._written.is_set()))
        finally:
            windows.console[0](CTRL_C)

    thread = threading.Thread(target=suspends_then_stops)
    thread.start()
    assert process.run(settings) == 0
    thread.join(PATIENCE_SECONDS)
    assert seen == [("suspend", True)]
    last = sign(tmp_path / "state")
    assert last is not None
    assert (last.why, last.boot_id) == ("stop", "windows-417")
    assert not windows.console


def test_a_closed_spool_is_begun_anew(tmp_path):
    """A damaged spool is closed before it is replaced, since Windows renames no open file."""
    spool = FileSpool(connect(tmp_path / FILE_NAME), tmp_path / FILE_NAME, Bounds(8 << 20, 0))
    spool.close()
    with pytest.raises(SpoolDamaged, match="a new one replaces it"):
        spool.append(("{}",), {})


def test_interrupts_are_within_kernel_time(monkeypatch):
    """On Windows `system` is all kernel time but idle time, so it contains `interrupt` and `dpc`."""
    times = SimpleNamespace(user=1.0, system=2.0, idle=5.0, interrupt=0.5, dpc=0.25)
    monkeypatch.setattr("psutil.cpu_times", lambda percpu: [times])
    counters = Utilisation(SourceContext("/nowhere", "/nowhere", "none")).read()
    assert (counters.cpu_total_milliseconds, counters.cpu_busy_milliseconds) == ((8_000,), (3_000,))


def test_what_an_administrator_writes_is_open_to_the_service(monkeypatch, tmp_path):
    """Folders below the state inherit its access list; Python gives one made for 0700 a list of its own."""
    modes: list[int] = []
    make = os.mkdir

    def record(path: Path, mode: int = 0o777) -> None:
        modes.append(mode)
        make(path, mode)

    monkeypatch.setattr(os, "mkdir", record)
    monkeypatch.setattr(platforms.here, "ACCESS_BY_MODE", windows_system.ACCESS_BY_MODE)
    write_private(tmp_path / "id" / "salt", b"x")
    assert modes == [0o777]
