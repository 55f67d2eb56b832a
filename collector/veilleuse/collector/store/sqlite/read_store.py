# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Opens all readers of a data directory, one of them with a time limit. Implements ports.ReadStore."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol, TypeVar

from veilleuse.collector.errors import QueryTooSlow
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.sqlite.accounts import SqliteAccountReader
from veilleuse.collector.store.sqlite.actions import SqliteFollowReader
from veilleuse.collector.store.sqlite.calibration import SqliteReferenceReader
from veilleuse.collector.store.sqlite.closed_years import SqliteClosingsReader
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.factors import SqliteFactorsReader
from veilleuse.collector.store.sqlite.hours import SqliteLoadReader
from veilleuse.collector.store.sqlite.inspect import SqliteQueryReader
from veilleuse.collector.store.sqlite.inventory import SqliteInventoryReader
from veilleuse.collector.store.sqlite.meters import SqliteMeteringReader
from veilleuse.collector.store.sqlite.publications import SqlitePublicationReader
from veilleuse.collector.store.sqlite.reader import SqliteReader

_STEPS: Final = 20_000
"""SQLite machine steps between two reads of the clock: some tenths of a millisecond."""


class SqliteBoundedReader(SqliteReader):
    """Extends SqliteReader by a time limit, `within`, for strangers. Implements ports.BoundedReader."""

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


class _Closable(Protocol):
    def close(self) -> None: ...


_Reader = TypeVar("_Reader", bound=_Closable)


def _opened_once(reader: Callable[[Path], _Reader]) -> cached_property[_Reader]:
    """Return an attribute that opens a reader at its first use."""
    return cached_property(lambda store: store.opened.enter_context(closing(reader(store.directory))))


class SqliteReadStore:
    """SqliteReadStore holds all readers, each opened at its first use."""

    def __init__(self, directory: Path, opened: ExitStack) -> None:
        """`opened` closes them."""
        self.directory = directory
        self.opened = opened

    data = _opened_once(SqliteReader)
    bounded = _opened_once(SqliteBoundedReader)
    inventory = _opened_once(SqliteInventoryReader)
    factors = _opened_once(SqliteFactorsReader)
    metering = _opened_once(SqliteMeteringReader)
    closings = _opened_once(SqliteClosingsReader)
    loads = _opened_once(SqliteLoadReader)
    follows = _opened_once(SqliteFollowReader)
    publications = _opened_once(SqlitePublicationReader)
    accounts = _opened_once(SqliteAccountReader)
    references = _opened_once(SqliteReferenceReader)
    queries = _opened_once(SqliteQueryReader)


@contextmanager
def open_reader(directory: Path) -> Iterator[ReadStore]:
    """Open a data directory for reading, with or without a running collector.

    Each reader opens at its first use.
    """
    with ExitStack() as opened:
        yield SqliteReadStore(directory, opened)
