# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A copy of a database that is being written, by SQLite's backup API on the writing connection itself.

What that connection commits between two steps goes into the copy too (sqlite.org/backup.html), so that the copy is of
the moment it ends, and nobody has to wait for it. On a connection of its own, each commit would begin the copy again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from veilleuse.collector.errors import StoreFailing, StoreFull
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.directory import RESCUED
from veilleuse.wire.files import open_owned, remove_owned, rename_owned

STEP_PAGES: Final = 256
"""1 MiB: 1 to 4 ms a step on the machine of decision 0016; the longest that a commit waits for the copy."""


def copy_database(source: Database, target: Path, between: Callable[[], None]) -> None:
    """Copy the whole of `source` to a new file, 0600. `between` runs after every step; it may write through `source`,
    and raise to give up. The copy is one file without a WAL, not yet synced to the disk. Raises StoreFailing.
    """
    os.close(open_owned(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    try:
        with closing(_throwaway(target, "OFF")) as copy:
            source.connection.backup(copy, pages=STEP_PAGES, progress=lambda *_: between())
        _throwaway(target, "DELETE").close()  # the copied header says WAL
    except sqlite3.Error as error:
        raise StoreFailing(
            f"cannot copy {source.path} to {target} ({error}): look at the free space and the disk"
        ) from error


def rescue_database(source: Database, between: Callable[[], None]) -> Path:
    """Copy a database whose file was taken away to `<name>.rescued-<UTC time>` at its place, 0600 and durable; the copy.

    The folder is made again where that is allowed. Raises StoreFull, StoreFailing, OSError.
    """
    folder = source.path.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"{source.path.name}{RESCUED}{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
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
    """A connection that never syncs: a copy that is cut is thrown away, and a sync of the whole would stall the disk."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("PRAGMA synchronous = OFF", f"PRAGMA journal_mode = {journal_mode}"):
        connection.execute(pragma).fetchall()
    return connection
