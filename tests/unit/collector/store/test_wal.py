# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the bound of the WAL beside readers: they release it between two pages, and the writer waits for a
moment without readers. R19."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector.store.sqlite import connection
from veilleuse.collector.store.sqlite.connection import WAL_BYTES, Database

BLOCK = bytes(2**19)


def always_read(path: Path, cleanup: ExitStack) -> Callable[[], None]:
    """Hold a snapshot; return a function that begins another one, and then ends the one before."""

    def opened() -> sqlite3.Connection:
        uri = f"{path.as_uri()}?mode=ro"
        made = sqlite3.connect(uri, timeout=PATIENCE_SECONDS, uri=True, check_same_thread=False)
        return cleanup.enter_context(closing(made))

    def begin(one: sqlite3.Connection) -> None:
        one.execute("BEGIN")
        one.execute("SELECT count(*) FROM t").fetchone()

    readers = [opened(), opened()]

    def hand_over() -> None:
        begin(readers[1])
        readers[0].execute("COMMIT")
        readers.reverse()

    begin(readers[0])
    return hand_over


def largest_wal(path: Path, patch: pytest.MonkeyPatch) -> int:
    """Return the WAL's largest size in bytes, while 96 MiB are written beside readers: one begins before each
    commit and ends after it, and each ends while the writer waits."""
    largest, bound = 0, Database._bound_wal
    with closing(Database(path, writing=True)) as database, ExitStack() as cleanup:
        database.connection.execute("CREATE TABLE t (b BLOB)")
        hand_over = always_read(path, cleanup)

        def waited_for(self: Database) -> None:
            over = threading.Event()

            def go_on() -> None:
                while not over.is_set():
                    hand_over()

            thread = threading.Thread(target=go_on)
            thread.start()
            bound(self)
            over.set()
            thread.join()

        with patch.context() as beside:
            beside.setattr(Database, "_bound_wal", waited_for)
            for _ in range(192):
                hand_over()
                with database.transaction() as transaction:
                    transaction.execute("INSERT INTO t VALUES (?)", (BLOCK,))
                largest = max(largest, path.with_name(f"{path.name}-wal").stat().st_size)
    return largest


def test_readers_that_never_end_do_not_let_the_wal_grow(tmp_path, monkeypatch):
    """Beyond its bound the writer waits for the present readers and the WAL restarts; otherwise it grows."""
    monkeypatch.setattr(connection, "_WAL_WAIT_MILLISECONDS", round(PATIENCE_SECONDS * 1000))
    monkeypatch.setattr(connection, "_WAL_EVERY_SECONDS", 0)
    assert largest_wal(tmp_path / "bounded.db", monkeypatch) < 3 * WAL_BYTES
    monkeypatch.setattr(connection, "_WAL_EVERY_SECONDS", 1e9)
    assert largest_wal(tmp_path / "unbounded.db", monkeypatch) > 4 * WAL_BYTES
