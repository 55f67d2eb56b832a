# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the bound of the WAL beside readers: they release it between two pages, and the writer waits for a
moment without readers. R19."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.support.pushes import HOUR, MONDAY_10H, NOW, SERVER, Stream, enrol, realistic, site
from veilleuse.collector import settings
from veilleuse.collector.model.records import Grain
from veilleuse.collector.store import create_store
from veilleuse.collector.store.sqlite import connection, reader
from veilleuse.collector.store.sqlite.connection import WAL_BYTES, Database
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.collector.validate import check_push

BLOCK = bytes(2**19)


@contextmanager
def always_read(path: Path) -> Iterator[None]:
    """Run three threads that hold overlapping snapshots of 50 ms, so that one is always held."""
    stop = threading.Event()

    def read(phase: float) -> None:
        time.sleep(phase)
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            while not stop.is_set():
                database.execute("BEGIN")
                database.execute("SELECT count(*) FROM t").fetchone()
                stop.wait(0.05)
                database.execute("COMMIT")

    threads = [threading.Thread(target=read, args=(number / 60,)) for number in range(3)]
    with ExitStack() as cleanup:
        for thread in threads:
            thread.start()
            cleanup.callback(thread.join)
        cleanup.callback(stop.set)
        yield


def largest_wal(path: Path) -> int:
    """Return the WAL's largest size in bytes, while 96 MiB are written beside permanent readers."""
    largest = 0
    with closing(Database(path, writing=True)) as database:
        database.connection.execute("CREATE TABLE t (b BLOB)")
        with always_read(path):
            for _ in range(192):
                with database.transaction() as transaction:
                    transaction.execute("INSERT INTO t VALUES (?)", (BLOCK,))
                largest = max(largest, path.with_name(f"{path.name}-wal").stat().st_size)
    return largest


def test_readers_that_never_end_do_not_let_the_wal_grow(tmp_path, monkeypatch):
    """Beyond its bound the writer waits for the present readers and the WAL restarts; otherwise it grows."""
    monkeypatch.setattr(connection, "_WAL_EVERY_SECONDS", 0.05)
    assert largest_wal(tmp_path / "bounded.db") < 3 * WAL_BYTES
    monkeypatch.setattr(connection, "_WAL_EVERY_SECONDS", 1e9)
    assert largest_wal(tmp_path / "unbounded.db") > 4 * WAL_BYTES


@pytest.fixture
def directory(tmp_path) -> Iterator[Path]:
    """Return the directory of a store with some sums of three hosts."""
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(tmp_path, limits, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        for _ in range(3):
            stream = Stream(enrol(store.registry))
            stream.add(*(realistic(MONDAY_10H + number * HOUR) for number in range(7)))
            push = check_push(stream.request(), stream.host_id, SERVER, NOW)
            assert not isinstance(push, tuple)
            with store.transaction():
                store.ingest.append([push])
        yield tmp_path


@pytest.mark.parametrize("rows", [1, 2, 5, 4_096])
def test_pages_give_every_row_once_in_order(directory, monkeypatch, rows):
    """Pages of any size give every row once, in order, also where a host's hour exceeds a page."""
    monkeypatch.setattr(reader, "PAGE_ROWS", rows)
    until = MONDAY_10H + 7 * HOUR
    with closing(SqliteReader(directory)) as paged, closing(sqlite3.connect(directory / "data.db")) as raw:
        where = f"WHERE grain = {int(Grain.HOUR)} AND start < {until} ORDER BY start, host_id, band, state, supply"
        expected = raw.execute(f"SELECT start, host_id, milliseconds FROM sums {where}").fetchall()
        assert len(expected) >= 21
        found = [(r.start, r.host_id, r.cell.milliseconds) for r in paged.sums(Grain.HOUR, MONDAY_10H, until)]
        assert found == expected
        points = raw.execute(f"SELECT start, host_id, energy_millijoules FROM point_sums {where}, point_id")
        rows_of_points = paged.point_sums(Grain.HOUR, MONDAY_10H, until)
        assert [(r.start, r.host_id, r.energy_millijoules) for r in rows_of_points] == points.fetchall()


def test_a_slow_reader_holds_no_snapshot_between_two_rows(directory, monkeypatch):
    """With a stream half read, the WAL can be emptied: no snapshot is held."""
    monkeypatch.setattr(reader, "PAGE_ROWS", 4)
    with closing(SqliteReader(directory)) as slow, closing(sqlite3.connect(directory / "data.db")) as writer:
        rows = slow.sums(Grain.HOUR, MONDAY_10H, MONDAY_10H + 7 * HOUR)
        next(rows)
        writer.execute("INSERT INTO meta (key, value) VALUES ('test', 'x')")
        writer.commit()
        assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        assert len(list(rows)) >= 20
