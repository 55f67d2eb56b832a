# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads with a time limit, for queries of strangers."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from veilleuse.collector.errors import QueryTooSlow
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.reader import SqliteReader

_STEPS: Final = 20_000
"""SQLite machine steps between two reads of the clock: some tenths of a millisecond."""


class SqliteBoundedReader(SqliteReader):
    """A SqliteReader with a time limit: `within`. Implements ports.BoundedReader."""

    def __init__(self, directory: Path, monotonic_seconds: Callable[[], float] = time.monotonic) -> None:
        """Same as SqliteReader. `monotonic_seconds`: a clock that never goes back."""
        self._now = monotonic_seconds
        super().__init__(directory)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """End the queries of this thread that are not done within `seconds`. Raises QueryTooSlow."""
        self._local.deadline = self._now() + seconds
        try:
            yield
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
                raise
            raise QueryTooSlow(
                f"the question takes more than {seconds:g} s: ask for a shorter period"
            ) from error
        finally:
            self._local.deadline = None
            self._end_transaction()

    @contextmanager
    def to_its_end(self) -> Iterator[None]:
        """Inside `within`: let this thread's block finish, however late; later queries can still be ended."""
        deadline, self._local.deadline = getattr(self._local, "deadline", None), None
        try:
            yield
        finally:
            self._local.deadline = deadline

    def check_time(self) -> None:
        """Check the limit between two queries. Raises QueryTooSlow."""
        if self._is_late():
            raise QueryTooSlow("the question takes too long: ask for a shorter period")

    def _database(self) -> Database:
        database = super()._database()
        if getattr(self._local, "bounded", None) is not database:
            database.connection.set_progress_handler(self._is_late, _STEPS)
            self._local.bounded = database
        return database

    def _end_transaction(self) -> None:
        """Roll back a transaction whose COMMIT was ended.

        Open, it would pin the WAL and fail the thread's next query.
        """
        database: Database | None = getattr(self._local, "bounded", None)
        if database is not None and database.connection.in_transaction:
            database.connection.execute("ROLLBACK")

    def _is_late(self) -> bool:
        deadline: float | None = getattr(self._local, "deadline", None)
        return deadline is not None and self._now() > deadline
