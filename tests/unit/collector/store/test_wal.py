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

from veilleuse.collector.store.sqlite import connection
from veilleuse.collector.store.sqlite.connection import WAL_BYTES, Database

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
