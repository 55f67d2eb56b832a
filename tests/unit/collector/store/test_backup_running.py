# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of a copy of a store in use: it contains pushes committed between its steps, and a stop ends it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.pushes import HOUR, MONDAY_10H, NOW, Stream, enrol, realistic, site
from tests.support.waiting import PATIENCE_SECONDS, comes, until
from veilleuse.collector import settings
from veilleuse.collector.backup.copies import Backups
from veilleuse.collector.errors import AdminError, StoreFailing
from veilleuse.collector.ingest.counters import Health
from veilleuse.collector.ingest.writer import Writer
from veilleuse.collector.store import create_store
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.collector.store.sqlite.connection import STEP_PAGES, Database, copy_database, quick_check

LIMITS = settings.Store(free_bytes_minimum=0)
STEPS = 40


class Bench:
    """A store of some 40 MiB with a writer."""

    def __init__(self, directory: Path, store: SqliteStore) -> None:
        self.directory = directory
        self.store = store
        self.writer = Writer(store, Health(), queue_pushes=100)
        self.backups = Backups(directory, LIMITS, store, self.writer)
        (directory / "fleet.key").write_text("00" * 32)
        (directory / "ca").mkdir(mode=0o700)
        (directory / "ca/root.pem").write_text("root")

    def records(self, name: str = "data.db") -> int:
        """Return the number of records in the store, or in a copy of it."""
        path = self.directory / name
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a store filled with unused bytes, so that a copy takes many steps."""
    with closing(create_store(tmp_path, LIMITS, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        with store.data.transaction() as connection:
            connection.execute("CREATE TABLE ballast (bytes BLOB NOT NULL) STRICT")
            rows = ((bytes(1_000_000),) for _ in range(STEPS))
            connection.executemany("INSERT INTO ballast VALUES (?)", rows)
        store.data.checkpoint()
        made = Bench(tmp_path, store)
        yield made
        made.writer.stop()


def test_pushes_are_committed_between_the_steps(bench):
    """Pushes are answered while the copy is made; those committed before its end are in it."""
    stream = Stream(enrol(bench.store.registry))
    bench.writer.start()
    before = bench.writer.append(stream.send(realistic(MONDAY_10H)))
    copied, committed = list[Path](), list[int]()
    copying = threading.Thread(target=lambda: copied.append(bench.backups.copy()))
    between, steps = bench.writer.serve_waiting, iter(range(STEPS))

    def patient() -> bool:
        """Let the first steps wait for a push: else a stalled machine may end the copy before one."""
        if next(steps, STEPS) < 5:
            comes(lambda: bench.writer.waiting or bench.writer._stopping, 10)
        if not (bench.directory / "backup.work/identity.db").exists():  # data.db is the first
            committed.append(bench.records())
        return bool(between())

    bench.writer.serve_waiting = patient
    copying.start()
    while copying.is_alive():
        pushed = bench.writer.append(stream.send(realistic(MONDAY_10H + len(stream.wires) * HOUR)))
        pushed.result(PATIENCE_SECONDS)
    copying.join()
    assert before.result(PATIENCE_SECONDS).mark == 1
    assert committed[-1] >= 3
    assert committed[-1] <= bench.records("backup.work/data.db") <= bench.records() == len(stream.wires)
    with closing(Database(copied[0] / "data.db", writing=False)) as copy:
        assert quick_check(copy) == ()
        total = copy.connection.execute("SELECT value FROM totals WHERE name = 'records'").fetchone()[0]
        mark = copy.connection.execute("SELECT mark FROM streams").fetchone()[0]
        assert total == mark == bench.records("backup.work/data.db")
    assert (copied[0] / "ca/root.pem").read_text() == "root"


def test_nobody_waits_for_the_whole_copy(bench):
    """A push sent with the copy is answered before it begins; small jobs pass another long job."""
    stream = Stream(enrol(bench.store.registry))
    steps: list[str] = []

    def between() -> None:
        assert bench.writer.serve_waiting()
        steps.append("step")

    def copy() -> None:
        copy_database(bench.store.data, bench.directory / "copy.db", between)
        steps.append("copied")

    first = bench.writer.append(stream.send(realistic(MONDAY_10H)))
    first.add_done_callback(lambda _: steps.append("pushed"))
    futures = [
        bench.writer.submit(copy, alone=True),
        bench.writer.submit(lambda: steps.append("second long"), alone=True),
    ]
    futures.append(bench.writer.submit(lambda: steps.append("small")))
    bench.writer.start()
    for future in futures:
        future.result(PATIENCE_SECONDS)
    assert steps[0] == "pushed"
    assert steps.index("small") < steps.index("copied") < steps.index("second long")
    assert steps.count("step") > STEPS * 1_000_000 // (STEP_PAGES * 4096)


def test_a_stop_gives_the_copy_up(bench):
    """The collector stops at once, and nothing of the copy remains."""
    steps = [0]

    class Slow(Writer):
        def serve_waiting(self) -> bool:
            steps[0] += 1
            comes(lambda: self._stopping)
            return super().serve_waiting()

    bench.writer = Slow(bench.store, Health(), queue_pushes=1)
    bench.writer.start()
    backups = Backups(bench.directory, LIMITS, bench.store, bench.writer)
    raised: list[BaseException] = []

    def copy() -> None:
        with pytest.raises(AdminError, match="stopping") as caught:
            backups.copy()
        raised.append(caught.value)

    copying = threading.Thread(target=copy)
    copying.start()
    until(lambda: steps[0])
    bench.writer.stop()
    copying.join(PATIENCE_SECONDS)
    assert steps[0] == 1, "it went on"
    assert raised
    assert not (bench.directory / "backup.work").exists()


def test_a_copy_that_fails_says_where(bench):
    """The error is one line with both files, and the store still works."""
    stream = Stream(enrol(bench.store.registry))
    with pytest.raises(StoreFailing, match=r"cannot copy .*data\.db to .*c\.db"):
        copy_database(
            bench.store.data,
            bench.directory / "c.db",
            lambda: bench.store.data.connection.execute("SELECT nothing"),
        )
    bench.writer.start()
    assert bench.writer.append(stream.send(realistic(MONDAY_10H))).result(PATIENCE_SECONDS).mark == 1
