# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Applies numbered migrations, and opens files of the newest schema for readers, which never migrate.

A migration is one transaction that also sets `user_version`: an interrupted one starts again.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from veilleuse.collector.errors import DataDirectoryError, StoreTooNew
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.directory import DATA_FILE
from veilleuse.collector.store.sqlite.connection import (
    Database,
    damaged,
    is_about_the_disk,
    unreadable_is_damage,
)

log = logging.getLogger(__name__)

_EVERY_COLUMN: Final = """
    SELECT m.name, p.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS p WHERE m.type = 'table'
"""
_NAME: Final = re.compile(r"(?P<kind>[a-z]+)_(?P<number>\d{4})_[a-z0-9_]+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of store/migrations/sqlite; never edited after a release."""

    number: int
    name: str
    sql: str


@cache
def migrations(kind: str) -> tuple[Migration, ...]:
    """Return the migrations of `data` or `identity`, in order, numbered 1, 2, 3 … without a gap."""
    found = sorted(
        (
            Migration(int(match["number"]), match.string, file.read_text(encoding="utf-8"))
            for file in files("veilleuse.collector.store").joinpath("migrations", "sqlite").iterdir()
            if (match := _NAME.fullmatch(file.name)) and match["kind"] == kind
        ),
        key=lambda migration: migration.number,
    )
    if [migration.number for migration in found] != list(range(1, len(found) + 1)) or not found:
        raise AssertionError(
            f"the migrations of {kind} are not numbered 1, 2, 3 …: {[m.name for m in found]}"
        )
    return tuple(found)


def schema_version(database: Database) -> int:
    """Return the number of the last applied migration; 0 for an empty file."""
    return int(database.row("PRAGMA user_version")[0])


def check_schema(database: Database, kind: str) -> int:
    """Return the schema version. Raises StoreTooNew when this program does not know it."""
    version, known = schema_version(database), migrations(kind)[-1].number
    if version > known:
        raise StoreTooNew(
            f"{database.path} has schema {version}, this program knows {known}: "
            "install the version of veilleuse that wrote it, or a newer one"
        )
    return version


def require_current(database: Database, kind: str) -> None:
    """Check the schema for a reader, which never migrates.

    Raises StoreTooNew; DataDirectoryError when it is old.
    """
    version, known = check_schema(database, kind), migrations(kind)[-1].number
    if version == 0 and database.path.stat().st_size == 0:
        raise damaged(database.path, "it is empty")
    if version < known:
        raise DataDirectoryError(
            f"{database.path} has schema {version} of an earlier version, this program needs {known}: restart "
            "'veilleuse serve', which brings it up to date"
        )


def open_current(path: Path, kind: str) -> Database:
    """Open a file read-only, beside the writer, in any process.

    Raises DataDirectoryError without a database or with an old one, StoreTooNew, StoreDamaged.
    """
    database = Database(path, writing=False)
    try:
        require_current(database, kind)
    except BaseException:
        database.close()
        raise
    return database


def migrate(database: Database, kind: str) -> int:
    """Bring the file to the newest schema; returns its number. Raises StoreTooNew, or errors of the disk."""
    version = check_schema(database, kind)
    for migration in migrations(kind)[version:]:
        # Some read every row: another column in a STRICT table takes four seconds a gigabyte.
        about = {"file": database.path.name, "migration": migration.name}
        log.info("migration begins", extra={**about, "file_bytes": database.path.stat().st_size})
        _apply(database, migration)
        log.info("migration applied", extra=about)
        version = migration.number
    return version


@cache
def _columns(kind: str) -> frozenset[tuple[str, str]]:
    """Return (table, column) of the newest schema."""
    with closing(sqlite3.connect(":memory:")) as empty:
        for migration in migrations(kind):
            empty.executescript(migration.sql)
        return frozenset(empty.execute(_EVERY_COLUMN))


def require_columns(database: Database, kind: str) -> None:
    """Check a migrated file. Raises StoreDamaged without one of its columns.

    `quick_check` does not see a changed letter in a name.
    """
    with database.translated(), unreadable_is_damage(database.path):
        missing = _columns(kind) - set(database.connection.execute(_EVERY_COLUMN))
    if missing:
        table, column = min(missing)
        raise damaged(database.path, f"its schema has no {table}.{column}")


def _apply(database: Database, migration: Migration) -> None:
    script = f"BEGIN IMMEDIATE;\n{migration.sql}\nPRAGMA user_version = {migration.number};\nCOMMIT;"
    with database.translated():
        try:
            database.connection.executescript(script)
        except sqlite3.Error as error:
            if database.connection.in_transaction:
                database.connection.execute("ROLLBACK")
            if not is_about_the_disk(error):
                raise DataDirectoryError(
                    f"cannot bring {database.path} to schema {migration.number} ({error}): nothing was changed; "
                    "run `veilleuse doctor`, and restore a backup when it finds damage"
                ) from error
            raise


class BesideReader:
    """A read-only connection to data.db of its own, one query at a time. Safe from any thread."""

    def __init__(self, directory: Path) -> None:
        """Raises DataDirectoryError without a database or with an old one, StoreTooNew, StoreDamaged."""
        self._lock = threading.Lock()
        self._data = open_current(directory / DATA_FILE, "data")

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._data.close()

    @contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection for one query. Raises errors of the disk: see Database.translated."""
        with self._lock, self._data.translated():
            yield self._data.connection
