# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R9: the clock is set wrong while the agent runs: a fake clock, and the real process under libfaketime."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.promises.support.steps import whole_step
from tests.support.clock import LIBRARY, offset_seconds, unix_milliseconds
from tests.support.fakes.metered import Metered, millijoules, refusals
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.agent.model import Gap, Record, body_from_json

HOUR = 3_600_000
DAY = 24 * HOUR
JUMPS = {
    "+1 h": HOUR,
    "-1 h": -HOUR,
    "+1 day": DAY,
    "-1 day": -DAY,
    "+10 years": 10 * 365 * DAY,
}


def error_ratio(measured: int, spent: int) -> float:
    """Return the relative error of the energy."""
    return abs(measured - spent) / spent


@pytest.mark.promise("R9")
@pytest.mark.parametrize(("period", "ticks"), [(10, 18), (300, 90), (3_600, 90)])
def test_a_clock_set_wrong_and_right_again(tmp_path, period, ticks, figure):
    """After each jump and its correction the energy is within 0.1 %, no cell is negative, and no record is
    one that a collector refuses."""
    machine = Metered(tmp_path, period_seconds=period)
    machine.on(30)
    for jump in (*JUMPS.values(), None):
        right = machine.clock.unix
        machine.clock.set_wall(5_000 if jump is None else right + jump)
        machine.on(ticks)
        machine.clock.set_wall(right + ticks * 10_000)
        machine.on(12)
    bodies = machine.bodies()
    error = error_ratio(millijoules(bodies), machine.spent_millijoules)
    refused = list(refusals(bodies, machine.clock.unix))
    figure(
        f"{100 * error:.3f} % energy error, {len(refused)} of {len(bodies)} records refused, with periods of {period:,} s"
    )
    assert error < 0.001
    assert not refused
    cells = [cell for body in bodies if isinstance(body, Record) for cell in body.cells.values()]
    assert all(cell.milliseconds > 0 for cell in cells)
    machine.resident.end()


@pytest.mark.promise("R9")
@pytest.mark.parametrize("years", [10, 0, -40])
def test_a_service_that_starts_under_a_wrong_clock(tmp_path, years, figure):
    """A service that starts ten years ahead or in 1970, corrected half an hour later, loses nothing."""
    machine = Metered(tmp_path)
    machine.on(30)
    machine.resident.end()
    right = machine.clock.unix
    machine.clock.set_wall(max(5_000, right + years * 365 * DAY))
    machine.begin()
    machine.on(180)
    machine.clock.set_wall(right + 180 * 10_000)
    machine.on(30)
    bodies = machine.bodies()
    error = error_ratio(millijoules(bodies), machine.spent_millijoules)
    refused = list(refusals(bodies, machine.clock.unix))
    figure(
        f"{100 * error:.3f} % energy error, {len(refused)} records refused, after a start under a wrong clock"
    )
    assert error < 0.001
    assert not refused
    assert not [body for body in bodies if isinstance(body, Gap)]
    machine.resident.end()


CONFIG = """
[paths]
state = "{state}"
[measure]
population = "server"
tick_seconds = 1.0
period_seconds = 10
sources = ["fake"]
fake_watts = 50.0
"""


@pytest.mark.promise("R9")
@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed: apt-get install faketime")
def test_the_real_process_under_a_clock_that_jumps(tmp_path, figure, time_bound):
    """The promise holds for the real process when libfaketime's file changes; monotonic time is untouched."""
    (tmp_path / "agent.toml").write_text(CONFIG.format(state=tmp_path / "state"))
    stamp, database = tmp_path / "faketime", tmp_path / "state" / "spool.db"
    base = offset_seconds()
    stamp.write_text(f"{base:+.0f}\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_SECONDS)
        process = subprocess.Popen(
            [sys.executable, "-m", "veilleuse.agent", "run", "--config", str(tmp_path / "agent.toml")],
            env={
                **{name: value for name, value in os.environ.items() if name != "FAKETIME"},
                "LD_PRELOAD": str(LIBRARY),
                "FAKETIME_TIMESTAMP_FILE": str(stamp),
                "FAKETIME_NO_CACHE": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            begin = sign_of(database)["boottime"]
            processor = psutil.Process(process.pid).cpu_times()
            offsets = (f"{base + jump / 1000:+.0f}" for jump in (*JUMPS.values(), 0))
            for offset in ("1970-01-02 00:00:00", *offsets):
                set_clock(stamp, offset, manager)
            spent = psutil.Process(process.pid).cpu_times()
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, said
    end = sign_of(database)["boottime"]
    with closing(sqlite3.connect(database)) as db:
        bodies = [body_from_json(row[0]) for row in db.execute("SELECT body FROM pending ORDER BY id")]
        (fold,) = db.execute("SELECT value FROM control WHERE key = 'open_fold'").fetchone()
    bodies += [Record.from_json(text) for text in json.loads(fold)["open"]]
    error = error_ratio(millijoules(bodies), 50 * (end - begin))
    busy = spent.user + spent.system - processor.user - processor.system
    refused = list(refusals(bodies, unix_milliseconds()))
    figure(
        f"{100 * error:.3f} % energy error, {len(refused)} records refused, {busy:.2f} s of CPU time in 10 s, in the real service"
    )
    assert error < 0.001
    time_bound(busy, 1.0, "CPU time")
    assert not refused


def set_clock(stamp: Path, offset: str, manager: socket.socket) -> None:
    """Set libfaketime's offset; return after a whole step of the agent under it."""
    fresh = stamp.with_suffix(".new")
    fresh.write_text(f"{offset}\n")
    fresh.replace(stamp)
    whole_step(manager)


def sign_of(database: Path) -> dict[str, int]:
    """Return the last sign of life."""
    with closing(sqlite3.connect(database)) as db:
        (text,) = db.execute("SELECT value FROM control WHERE key = 'last_sign'").fetchone()
    return dict(json.loads(text))
