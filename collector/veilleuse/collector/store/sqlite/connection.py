# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Opens one SQLite file, nests its transactions, and translates its errors.

Only one connection, of one process, writes and checkpoints. All others, in any process, are `mode=ro`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from shutil import disk_usage
from typing import Any, Final, NoReturn, TypeVar

from veilleuse.collector import clock
from veilleuse.collector.errors import (
    DataDirectoryError,
    StoreDamaged,
    StoreFailing,
    StoreFull,
)
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.directory import RESCUED, explain_missing
from veilleuse.collector.store.sqlite.own_files import OwnFiles, StoreFiles
from veilleuse.wire.files import FileRefused, check_owned, open_owned, remove_owned, rename_owned
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

log = logging.getLogger(__name__)

T = TypeVar("T")

MINIMUM_SQLITE: Final = (3, 37, 0)
"""First version with STRICT tables. Source: sqlite.org/stricttables.html."""
WAL_RESET_FIXED: Final = (3, 51, 3)
"""Before this version a checkpoint can race a WAL reset of a second writer. Source: sqlite.org/wal.html."""

WAL_BYTES: Final = 16 * 2**20
"""WAL size above which the writer makes a moment without readers, since none has come. R19: < 64 MiB."""
_WAL_EVERY_SECONDS: Final = 1.0
_WAL_WAIT_MILLISECONDS: Final = 100
"""Wait for readers inside the WAL; readers that come meanwhile read the file itself.

Pages of a report take less.
"""

_CHECKPOINT_PAGES: Final = 1000
_WRITING: Final = (
    "PRAGMA page_size = 4096",  # has an effect on a new file only
    "PRAGMA journal_mode = WAL",  # readers and the writer never wait for each other
    "PRAGMA synchronous = FULL",  # a commit survives a power cut: NORMAL lost 438 to 746 acknowledged records
    "PRAGMA foreign_keys = ON",  # for the registry's tables: the hot tables declare no keys
    "PRAGMA secure_delete = ON",  # deleted rows are overwritten (docs/guarantees.md P7)
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -65536",  # KiB: the sums of some 100,000 host-hours
    f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit = {WAL_BYTES}",  # size of the WAL file after a restart of the WAL
)
_READING: Final = ("PRAGMA query_only = ON", "PRAGMA cache_size = -16384")
_BOTH: Final = ("PRAGMA trusted_schema = OFF", "PRAGMA cell_size_check = ON")
_BUSY_SECONDS: Final = 5.0


def check_sqlite_version() -> None:
    """Raise DataDirectoryError below MINIMUM_SQLITE; warn below WAL_RESET_FIXED."""
    version = sqlite3.sqlite_version_info
    if version < MINIMUM_SQLITE:
        raise DataDirectoryError(
            f"SQLite {sqlite3.sqlite_version} is too old: the store needs 3.37 or newer; update the system's libsqlite3"
        )
    if version < WAL_RESET_FIXED:
        log.warning(
            "this sqlite has the wal-reset race: only the collector may write to its files",
            extra={"sqlite_version": sqlite3.sqlite_version, "fixed_in": "3.51.3"},
        )


COMPACTED_BYTES: Final = 2**30
"""Largest file that is rewritten while serving, in bytes: the writer waits for it (P9 prints how long)."""


class Database:
    """A connection with nested transactions.

    One thread uses it at a time; after start, the writer's thread.
    """

    def __init__(self, path: Path, *, writing: bool) -> None:
        """Opens `path`. Raises DataDirectoryError or StoreDamaged."""
        self.path = path
        self._depth = 0
        self._forget: list[Callable[[], None]] = []
        self._wal = path.with_name(f"{path.name}-wal")
        self._wal_looked = 0.0
        self.files: StoreFiles | None = None
        """Files to check after each commit, before the commit is acknowledged."""
        self._own: OwnFiles | None = None
        if writing:
            _create_private(path)
        known = _known(path)
        with self.translated(), unreadable_is_damage(path):
            self.connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'rw' if writing else 'ro'}",
                uri=True,
                isolation_level=None,
                timeout=_BUSY_SECONDS,
                # the composition root opens it, then only the writer's thread uses it
                check_same_thread=False,
                cached_statements=256,
            )
            try:
                for pragma in (*_BOTH, *(_WRITING if writing else _READING)):
                    self.connection.execute(pragma)
                self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                if _known(path) != known:
                    raise DataDirectoryError(f"{path} was exchanged while it was opened: try again")
            except BaseException:
                self.connection.close()
                raise

    def on_forget(self, callback: Callable[[], None]) -> None:
        """Register a callback that empties caches: it runs after a rollback or `forget()`."""
        self._forget.append(callback)

    def forget(self) -> None:
        """Empty all caches of the file's content."""
        for callback in self._forget:
            callback()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction (BEGIN IMMEDIATE … COMMIT), or a savepoint inside one.

        Rolled back when the block raises.

        Raises StoreFull, StoreFailing or StoreDamaged for errors of the disk, and StoreLost when another file
        is at the path. Other sqlite3 errors pass unchanged.
        """
        connection, depth = self.connection, self._depth
        begin, end, undo = ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK") if depth == 0 else _savepoint(depth)
        with self.translated():
            if depth:
                self._require_open()  # a savepoint outside a transaction would commit by itself
            elif self.files is not None:
                self.files.require()
            connection.execute(begin)
            self._depth = depth + 1
            try:
                yield connection
                self._require_open()
                if depth == 0 and self.files is not None:
                    self.files.check_index()
                connection.execute(end)
                if depth == 0:
                    self.check_files()
                    self._checkpoint_grown()
            except BaseException:
                # SQLite has often rolled back by itself after a full disk or an I/O error.
                if connection.in_transaction:
                    if self._own is not None:
                        self._own.bound_index()
                    with suppress(sqlite3.Error):
                        for statement in undo.split(";"):
                            connection.execute(statement)
                self.forget()
                raise
            finally:
                self._depth = depth
            if depth == 0:
                self._bound_wal()

    def watch(self, files: StoreFiles, own: OwnFiles) -> None:
        """Check the files around each commit and before each checkpoint.

        SQLite then no longer checkpoints within a commit: with a wrong index it would overwrite good pages of
        the database.
        """
        self.files, self._own = files, own
        with self.translated():
            self.connection.execute("PRAGMA wal_autocheckpoint = 0")

    def check_files(self) -> None:
        """Raise StoreLost when a file of the store is not the one that was opened."""
        if self.files is not None:
            self.files.check()

    def _require_open(self) -> None:
        """Raise StoreFailing when SQLite has ended the transaction by itself while the block went on."""
        if not self.connection.in_transaction:
            raise StoreFailing(f"{self.path} rolled the transaction back: nothing of it was stored")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translate errors of the disk and the file into ours."""
        try:
            yield
        except sqlite3.Error as error:
            if self.files is not None and _primary(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                self.files.check_index()  # a wrong index shows wrong pages of a sound database
            _raise_translated(self.path, error)

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """Return all rows of a statement. Raises errors of the disk: see `translated`."""
        with self.translated():
            return self.connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> Any:
        """Return the first row of a statement; None without one. Raises errors of the disk."""
        with self.translated():
            return self.connection.execute(sql, values).fetchone()

    def write(self, sql: str, *values: Any) -> int:
        """Run one statement as a transaction, or a part of one; returns the number of changed rows."""
        with self.transaction() as connection:
            return connection.execute(sql, values).rowcount

    def checkpoint(self) -> bool:
        """Copy the WAL into the file and empty it; returns False where a reader still needs a part of it."""
        busy, _, _ = self.row("PRAGMA wal_checkpoint(TRUNCATE)")
        return not busy

    def compact(self) -> bool:
        """Rewrite the file, outside a transaction, to erase remains of rows that SQLite moved within their
        pages.

        `secure_delete` does not overwrite those. Returns False, without any effect, above COMPACTED_BYTES or
        without free space for two copies.
        """
        size = self.path.stat().st_size
        if size > COMPACTED_BYTES or disk_usage(self.path.parent).free < 3 * size:
            return False
        with self.translated():
            self.check_files()
            self.connection.execute("VACUUM")
            (pages,), (page_bytes,) = (
                self.connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
            )
            if self._own is not None:
                self._own.let_shrink(pages * page_bytes)
        return True

    def _checkpoint_grown(self) -> None:
        """Checkpoint as SQLite does by itself; the next commit reports an error of the disk."""
        if self.files is None or self._own is None or self._own.wal_frames < _CHECKPOINT_PAGES:
            return
        with suppress(sqlite3.Error):
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self.files.check_index()

    def _bound_wal(self) -> None:
        """Restart a WAL that has grown.

        SQLite does so by itself only at a commit while no reader is in the WAL.
        """
        now = time.monotonic()
        if now - self._wal_looked < _WAL_EVERY_SECONDS:
            return
        self._wal_looked = now
        with suppress(OSError):
            if self._wal.stat().st_size > WAL_BYTES:
                self.connection.execute(f"PRAGMA busy_timeout = {_WAL_WAIT_MILLISECONDS}")
                with suppress(
                    sqlite3.OperationalError
                ):  # committed data are safe; the next commit reports the disk's error
                    self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self.connection.execute(
                    f"PRAGMA busy_timeout = {_BUSY_SECONDS * MILLISECONDS_PER_SECOND:.0f}"
                )

    def close(self) -> None:
        """Close. The last writing connection leaves no WAL behind."""
        self.connection.close()

    def close_without_index(self) -> None:
        """Close, leave the WAL, and remove its wrong index: the next connection builds a new one."""
        if sys.version_info >= (3, 12):
            self.connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
            self.connection.close()
        else:  # closing would read the index again: the connection stays open until the process ends
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.connection))
        with suppress(OSError):
            remove_owned(self.path.with_name(f"{self.path.name}-shm"))


class DataTables:
    """Tables of data.db, over a writing connection, or a reading one for reads only."""

    def __init__(self, data: Database) -> None:
        self._data = data


def quick_check(database: Database) -> tuple[str, ...]:
    """Return the errors that `PRAGMA quick_check` found; empty when sound. Reads the whole file."""
    with database.translated(), unreadable_is_damage(database.path):
        found = tuple(str(row[0]) for row in database.connection.execute("PRAGMA quick_check(20)"))
    return () if found == ("ok",) else found


@contextmanager
def unreadable_is_damage(path: Path) -> Iterator[None]:
    """Translate errors of the schema, which may be text that Python cannot decode.

    Our own statements are right: the header or the schema is damaged.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise damaged(path, "its schema is not text") from error
    except sqlite3.OperationalError as error:
        if _primary(error) in (0, sqlite3.SQLITE_ERROR):  # 0: of Python's module
            raise damaged(path, str(error)) from error
        raise


def damaged(path: Path, why: str) -> StoreDamaged:
    """Build the error of a file that is no sound database."""
    why = " ".join(why.replace("*** in database main ***", "").split())
    return StoreDamaged(
        f"{path} is damaged ({why}): stop the collector, restore the data directory from a backup, or move the file away and "
        f"rescue what is readable with `sqlite3 {path.name}.damaged .recover | sqlite3 {path.name}`"
    )


def is_about_the_disk(error: sqlite3.Error) -> bool:
    """Tell whether the disk or the file caused the error, not the statement."""
    return _primary(error) in _DISK


_DISK: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)


def _primary(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF


def _raise_translated(path: Path, error: sqlite3.Error) -> NoReturn:
    match _primary(error):
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            raise damaged(path, str(error)) from error
        case sqlite3.SQLITE_FULL:
            raise StoreFull(f"no space left for {path}: free some; the agents keep their records") from error
        case sqlite3.SQLITE_CANTOPEN if not path.exists():
            raise DataDirectoryError(explain_missing(path)) from error
        case code if code in _DISK:
            name = getattr(error, "sqlite_errorname", "")
            raise StoreFailing(
                f"cannot use {path} ({name}: {error}): look at the disk and the rights"
            ) from error
    raise error


def padded(values: Sequence[T]) -> list[T]:
    """Repeat the last value up to a power of two: few lengths make few statements to prepare."""
    return [*values, *[values[-1]] * ((1 << (len(values) - 1).bit_length()) - len(values))]


def _savepoint(depth: int) -> tuple[str, str, str]:
    name = f"level_{depth}"
    return f"SAVEPOINT {name}", f"RELEASE {name}", f"ROLLBACK TO {name};RELEASE {name}"


def _known(path: Path) -> tuple[int, int]:
    """Return (device, inode) of the file.

    SQLite opens by name, also the files beside. Raises DataDirectoryError.
    """
    try:
        return check_owned(path, "-wal", "-shm", "-journal")
    except FileRefused as error:
        raise DataDirectoryError(f"cannot open {error.filename}: {error.strerror}") from error
    except OSError:
        return (0, 0)  # SQLite reports the error


def _create_private(path: Path) -> None:
    """Create a file of mode 0600; SQLite gives the same mode to its -wal and -shm."""
    try:
        os.close(open_owned(path, os.O_RDWR | os.O_CREAT))
    except OSError as error:
        raise DataDirectoryError(
            f"cannot write {path}: {error.strerror}; look at its rights and the disk"
        ) from error


STEP_PAGES: Final = 256
"""Pages in one step of a copy: 1 MiB, 1 to 4 ms on the machine of decision 0016.

A commit waits for one step at most.
"""


def copy_database(source: Database, target: Path, between: Callable[[], None]) -> None:
    """Copy the whole of `source` to a new file of mode 0600. Raises StoreFailing.

    `between` runs after every step; it may write through `source`, and may raise to give up. The copy is one
    file without a WAL, not yet synced to the disk.
    """
    os.close(open_owned(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    try:
        with closing(_throwaway(target, "OFF")) as copy:
            source.connection.backup(copy, pages=STEP_PAGES, progress=lambda *_: between())
        _throwaway(target, "DELETE").close()  # the copied header names WAL
    except sqlite3.Error as error:
        raise StoreFailing(
            f"cannot copy {source.path} to {target} ({error}): look at the free space and the disk"
        ) from error


def rescue_database(source: Database, between: Callable[[], None]) -> Path:
    """Copy a database whose file was removed to `<name>.rescued-<UTC time>` beside its path; returns the
    copy.

    The copy has mode 0600 and is durable. The folder is created again where that is allowed. Raises
    StoreFull, StoreFailing, OSError.
    """
    folder = source.path.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"{source.path.name}{RESCUED}{clock.now():%Y%m%dT%H%M%SZ}"
    part = target.with_name(f"{target.name}.part")
    disk = os.statvfs(folder)
    ((pages,), (page_bytes,)) = (
        source.connection.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size")
    )
    if disk.f_bavail * disk.f_frsize < pages * page_bytes:
        raise StoreFull(
            f"a rescue needs {pages * page_bytes / 2**20:.0f} MiB under {folder}: free some space there"
        )
    try:
        copy_database(source, part, between)
        copied = open_owned(part, os.O_RDONLY)
        try:
            os.fsync(copied)
        finally:
            os.close(copied)
        rename_owned(part, target)
    except BaseException:
        remove_owned(part)
        raise
    return target


def _throwaway(path: Path, journal_mode: str) -> sqlite3.Connection:
    """Open a connection that never syncs: an interrupted copy is deleted, and a sync would stall the disk."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("PRAGMA synchronous = OFF", f"PRAGMA journal_mode = {journal_mode}"):
        connection.execute(pragma).fetchall()
    return connection
