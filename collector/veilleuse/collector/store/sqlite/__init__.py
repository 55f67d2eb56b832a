# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Embeds SQLite as store, with one writing connection: `open_store` for the writer, `open_reader` for all
others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from veilleuse.collector import settings
from veilleuse.collector.errors import CollectorError, DataDirectoryError
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.directory import (
    DATA_FILE,
    IDENTITY_FILE,
    Reserve,
    explain_missing,
    find_undecided,
    make_directory,
)
from veilleuse.collector.store.sqlite.accounts import SqliteAccounts
from veilleuse.collector.store.sqlite.actions import SqliteFollows
from veilleuse.collector.store.sqlite.batch import UnreadCells
from veilleuse.collector.store.sqlite.calendars import SqliteCalendars
from veilleuse.collector.store.sqlite.calibration import SqliteCalibrations
from veilleuse.collector.store.sqlite.closed_years import SqliteClosings
from veilleuse.collector.store.sqlite.connection import (
    MINIMUM_SQLITE,
    WAL_RESET_FIXED,
    Database,
    check_sqlite_version,
    copy_database,
    damaged,
    quick_check,
    rescue_database,
)
from veilleuse.collector.store.sqlite.derive import SqliteDerive
from veilleuse.collector.store.sqlite.diagnostics import note_own_use, note_size
from veilleuse.collector.store.sqlite.factors import SqliteFactors
from veilleuse.collector.store.sqlite.grid import SqliteIntensities
from veilleuse.collector.store.sqlite.host_data import SqliteHostEraser, export_host
from veilleuse.collector.store.sqlite.ingest import SqliteIngest
from veilleuse.collector.store.sqlite.inventory import SqliteInventory
from veilleuse.collector.store.sqlite.meters import SqliteMeters
from veilleuse.collector.store.sqlite.migrations import migrate, require_columns, require_current
from veilleuse.collector.store.sqlite.months import SqliteRolls, StaleMonths
from veilleuse.collector.store.sqlite.own_files import OwnFiles, StoreFiles
from veilleuse.collector.store.sqlite.periods import fill
from veilleuse.collector.store.sqlite.publications import SqlitePublications
from veilleuse.collector.store.sqlite.read_store import open_reader
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.collector.store.sqlite.registry import SqliteRegistry
from veilleuse.collector.store.sqlite.remote_config import SqliteConfigurations
from veilleuse.collector.store.sqlite.server_sums import begin, keep_sums
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

__all__ = [
    "MINIMUM_SQLITE",
    "WAL_RESET_FIXED",
    "SqliteReader",
    "SqliteStore",
    "check_database",
    "create_store",
    "export_host",
    "open_reader",
    "open_store",
]

log = logging.getLogger(__name__)

_CHECKED_AT_START_BYTES: Final = 64 * 1024 * 1024
"""Maximum size of a file that is checked completely at start (some 0.2 s); `doctor` checks any size."""


class SqliteStore:
    """SqliteStore holds both files on their writing connections.

    One thread at a time: the writer's once it runs.
    """

    def __init__(self, directory: Path, limits: settings.Store) -> None:
        """Opens, checks and migrates both files. Raises DataDirectoryError, StoreDamaged, StoreTooNew.

        The caller holds the lock.
        """
        check_sqlite_version()
        with ExitStack() as undo:
            self.data = Database(directory / DATA_FILE, writing=True)
            undo.callback(self.data.close)
            self.identity = Database(directory / IDENTITY_FILE, writing=True)
            undo.callback(self.identity.close)
            for database, kind in ((self.data, "data"), (self.identity, "identity")):
                _check_sound(database)
                migrate(database, kind)
                require_columns(database, kind)
            fill(self.data)
            begin(self.data)
            stale, unread = StaleMonths(self.data), UnreadCells(self.data)
            reserve = Reserve(directory, limits.free_bytes_minimum, limits.free_ratio_minimum)
            self.ingest = SqliteIngest(self.data, reserve, stale, unread)
            self.registry = SqliteRegistry(self.data, self.identity)
            self.derive = SqliteDerive(self.data, stale, unread)
            self.rolls = SqliteRolls(self.data, stale)
            self.forgetting = SqliteHostEraser(self.data, self.identity)
            self.configurations = SqliteConfigurations(self.data)
            self.calendars = SqliteCalendars(self.data)
            self.calibrations = SqliteCalibrations(self.data, alone=True)
            self.metering = SqliteMeters(self.data)
            self.factors = SqliteFactors(self.data)
            self.intensities = SqliteIntensities(self.data)
            self.inventory = SqliteInventory(self.data, self.identity)
            self.accounts = SqliteAccounts(self.data)
            self.closings = SqliteClosings(self.data)
            self.publications = SqlitePublications(self.data)
            self.follows = SqliteFollows(self.data)
            try:
                self.kind = self.registry.data_kind()
            except (sqlite3.Error, ValueError) as error:  # no meta table, or invalid values in it
                raise damaged(self.data.path, str(error)) from error
            own = [_files(database, undo) for database in (self.data, self.identity)]
            self.files = StoreFiles(*own)
            self.data.watch(self.files, own[0])
            self.identity.watch(self.files, own[1])
            self.rescued: dict[Path, Path] = {}
            """Copies written by `rescue`, by the path of the database."""
            undo.pop_all()

    @property
    def changes(self) -> int:
        """Return the number of rows of data.db written since it was opened."""
        return self.data.connection.total_changes

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run several calls in one durable transaction of data.db; a nested transaction is undone alone."""
        with self.data.transaction():
            yield

    def keep_server_sums(self, today: date) -> None:
        """Keep the sums that looks show, and delete those of earlier days; `today`: UTC."""
        keep_sums(self.data, today)

    def note_size(self, today: date) -> None:
        """Store the size of both databases and the number of records for this day."""
        note_size(self.data, today)

    def note_own_use(self, day: date, used: Mapping[str, int]) -> None:
        """Add what the collector used to this UTC day."""
        note_own_use(self.data, day, used)

    def copy_into(self, folder: Path, between: Callable[[], None]) -> None:
        """Copy both files into the folder, as they are when the copy ends: see copy_database.

        identity.db comes last, so that it knows every host of data.db.
        """
        for database in (self.data, self.identity):
            copy_database(database, folder / database.path.name, between)

    def rescue(self, between: Callable[[], None]) -> list[Path]:
        """Copy each database that only this process can still read to a new file beside its path; return the
        new files.

        Call it in the writer's thread, as copy_into. Raises CollectorError or OSError when a file cannot be
        written; it may then be tried again.
        """
        written = []
        if self.files.lost is not None:
            gone = self.files.gone()
            for database in (self.data, self.identity):
                known = self.rescued.get(database.path)
                if database.path in gone and (known is None or not known.exists()):
                    self.rescued[database.path] = rescue_database(database, between)
                    written.append(self.rescued[database.path])
        return written

    def close(self) -> None:
        """Write the WAL into the file where possible, and close."""
        with suppress(CollectorError):  # reported below
            self.files.check_index()
        self.files.close()
        lost = self.files.lost
        for database in (self.data, self.identity):
            if lost is not None and lost.index_only and lost.database == database.path:
                database.close_without_index()
                continue
            try:
                database.checkpoint()
            # the caller that wrote knows already; the WAL stays for the next start
            except CollectorError as error:
                log.warning("closing without a checkpoint", extra={"error": str(error)})
            finally:
                database.close()


def create_store(
    directory: Path, limits: settings.Store, *, simulated: bool, now_unix_milliseconds: int
) -> SqliteStore:
    """Create missing files, for `init` and `simulate`.

    Raises DataDirectoryError for a directory of another kind.
    """
    make_directory(directory)
    store = SqliteStore(directory, limits)
    kind = store.kind
    if kind.created_unix_milliseconds == 0:
        with store.transaction():
            store.registry.put_meta("simulated", "1" if simulated else "0")
            store.registry.put_meta("created_unix_milliseconds", str(now_unix_milliseconds))
            created = datetime.fromtimestamp(now_unix_milliseconds / MILLISECONDS_PER_SECOND, UTC)
            store.keep_server_sums(created.date())
    elif kind.simulated is not simulated:
        words = ("simulated", "real") if kind.simulated else ("real", "simulated")
        store.close()
        raise DataDirectoryError(
            f"{directory} holds {words[0]} data: use another data_dir for {words[1]} data; they are never mixed"
        )
    return store


def open_store(directory: Path, limits: settings.Store) -> SqliteStore:
    """Open the store, for `serve` and writing commands. Raises DataDirectoryError before `init`."""
    path = directory / DATA_FILE
    if not path.exists():
        raise DataDirectoryError(explain_missing(path))
    if left := find_undecided(directory):
        raise DataDirectoryError(": ".join(left))
    for each in (path, directory / IDENTITY_FILE):
        # A new file in its place would make every agent unknown, or silently delete every name.
        if not each.exists():
            raise damaged(each, "it is missing")
        if each.is_file() and each.stat().st_size == 0:
            raise damaged(each, "it is empty")
    return SqliteStore(directory, limits)


def _files(database: Database, undo: ExitStack) -> OwnFiles:
    with database.translated():
        (page_bytes,) = database.connection.execute("PRAGMA page_size").fetchone()
    try:
        files = OwnFiles(database.path, page_bytes)
    except OSError as error:
        raise DataDirectoryError(
            f"cannot watch {database.path} ({error.strerror or error}): look at its rights, and whether /proc is mounted"
        ) from error
    undo.callback(files.close)
    return files


def check_database(path: Path, kind: str) -> str | None:
    """Return the first fault of a database file of this kind; None: no fault. Reads the whole file.

    Raises StoreTooNew; DataDirectoryError when the file is not migrated yet.
    """
    with closing(Database(path, writing=False)) as database:
        found = quick_check(database)
        if not found:
            require_current(database, kind)
            require_columns(database, kind)
    return found[0] if found else None


def _check_sound(database: Database) -> None:
    if database.path.stat().st_size <= _CHECKED_AT_START_BYTES and (found := quick_check(database)):
        raise damaged(database.path, found[0])
