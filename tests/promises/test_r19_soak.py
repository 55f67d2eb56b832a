# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R19: 500 agents for a long time. The test takes twenty minutes instead of a day, and its figure says so."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from statistics import linear_regression, mean
from typing import NamedTuple

import psutil
import pytest

from tests.promises.support.trial import Trial
from tests.support.waiting import until

AGENTS = 500
WARM_BYTES, WARM_SECONDS, CALLS_EACH = 96 * 2**20, 420, 200
"""The first part is much faster than in service. It lasts until the database exceeds the writer's 64 MiB
cache by half: before, each push makes the process grow by its bytes (40 MiB/h at 5 pushes/s, measured). It
also lasts until each connection has had CALLS_EACH calls: HTTP/2's header tables grow by some 40 bytes a
call, up to 5.7 kB a connection after 120 calls (measured with gRPC alone; RFC 7541 §4.2 bounds them to 4 kB
each way).
"""
WARM_PUSHES_PER_SECOND = 400.0
SETTLE_SECONDS, SOAK_SECONDS, EVERY_SECONDS = 120, 840, 5
"""Then each agent pushes every 100 s on the same connection. At one push in a quarter of an hour connections
would come and go, and the memory with them.
"""
PUSHES_PER_SECOND = 5.0
READS_EVERY_SECONDS, READ_SECONDS = 120, 30
"""Interval and duration of reads from a snapshot of the database: longer than any page or report of ours."""
SLOPE_BYTES_PER_HOUR = 2**20
WAL_BYTES = 64 * 2**20


class Seen(NamedTuple):
    """Measurements at one moment."""

    hours: float
    rss_bytes: int
    descriptors: int
    """Without the connections of agents, which are closed after five idle minutes."""
    connections: int
    wal_bytes: int


@pytest.mark.long
@pytest.mark.promise("R19", "R18")
def test_soak(tmp_path, figure):
    """Memory and descriptors stay constant, the WAL stays small beside a reader, and no record is lost."""
    with Trial(tmp_path) as trial:
        trial.enrol(AGENTS)
        trial.start()
        trial.load(WARM_PUSHES_PER_SECOND, processes=2, calm_pushes_per_second=PUSHES_PER_SECOND)
        trial.wait_for_ack()
        warm = time.monotonic() + CALLS_EACH * AGENTS / WARM_PUSHES_PER_SECOND
        database = trial.stack.data / "data.db"
        until(
            lambda: database.stat().st_size > WARM_BYTES and time.monotonic() > warm,
            "full caches",
            WARM_SECONDS,
        )
        trial.calm()
        assert trial.collector is not None
        with Reading(database) as reading:
            seen = soaked(trial.collector.pid, trial.stack.data / "data.db-wal")
        report = trial.end()
    slope, error = trend([at.hours for at in seen], [at.rss_bytes for at in seen])
    descriptors = [at.descriptors for at in seen]
    connections = [at.connections for at in seen]
    wal = max(at.wal_bytes for at in seen)
    figure(
        f"{slope / 2**20:+.2f} ± {error / 2**20:.2f} MiB/h of resident memory ({seen[-1].rss_bytes / 2**20:.0f} MiB) over "
        f"{SOAK_SECONDS // 60} min, not 24 h, with full caches, {min(descriptors)} to {max(descriptors)} descriptors and "
        f"{min(connections)} to {max(connections)} connections of agents, write-ahead log ≤ {wal / 2**20:.1f} MiB beside "
        f"{reading.times} snapshots of {READ_SECONDS} s, {report}"
    )
    assert slope < SLOPE_BYTES_PER_HOUR
    assert max(descriptors) - min(descriptors) <= AGENTS // 50
    assert max(connections) <= AGENTS
    assert wal < WAL_BYTES
    assert reading.times >= SOAK_SECONDS // READS_EVERY_SECONDS
    assert report.sound, report.details


class Reading:
    """Holds a snapshot of a database at intervals while the block runs, as a report does."""

    def __init__(self, database: Path) -> None:
        self.times = 0
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Reading:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(READS_EVERY_SECONDS - READ_SECONDS):
            with closing(sqlite3.connect(f"{self._database.as_uri()}?mode=ro", uri=True)) as connection:
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM records").fetchone()
                self._stop.wait(READ_SECONDS)
                self.times += 1


def soaked(pid: int, wal_file: Path) -> list[Seen]:
    """Return measurements of the process and its WAL every few seconds, once they have settled."""
    process, began, seen = psutil.Process(pid), time.monotonic(), []
    while (now := time.monotonic()) < began + SETTLE_SECONDS + SOAK_SECONDS:
        rss, connections = process.memory_info().rss, connected(process)
        descriptors = process.num_fds() - connections
        seen.append(Seen((now - began) / 3600, rss, descriptors, connections, wal_file.stat().st_size))
        time.sleep(EVERY_SECONDS)
    return [at for at in seen if at.hours > SETTLE_SECONDS / 3600]


def connected(process: psutil.Process) -> int:
    """Count the TCP connections of the process."""
    return sum(one.status != psutil.CONN_LISTEN for one in process.net_connections("tcp"))


def trend(times: list[float], values: list[int]) -> tuple[float, float]:
    """Return the slope of the least-squares line, and its standard error for independent residuals."""
    slope, intercept = linear_regression(times, values)
    residuals = [value - intercept - slope * at for at, value in zip(times, values, strict=True)]
    spread = sum((at - mean(times)) ** 2 for at in times)
    return slope, (sum(r * r for r in residuals) / (len(times) - 2) / spread) ** 0.5
