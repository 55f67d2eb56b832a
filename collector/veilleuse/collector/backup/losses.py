# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts what a restore took away: what people entered after the backup, by the files that were replaced."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

from veilleuse.collector.errors import CollectorError
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.directory import DATA_FILE, IDENTITY_FILE
from veilleuse.collector.store.sqlite.connection import Database

KINDS: Final = (
    (
        "inventory imports",
        IDENTITY_FILE,
        "journal",
        "what LIKE 'import of the inventory%' AND unix_milliseconds",
    ),
    ("actions", DATA_FILE, "actions", "unix_milliseconds"),
    ("files of actions", DATA_FILE, "follow_imports", "unix_milliseconds"),
    ("calibrations", DATA_FILE, "calibrations", "applied_unix_milliseconds"),
    ("factors", DATA_FILE, "factor_imports", "unix_milliseconds"),
    ("contracts", DATA_FILE, "factor_contracts", "unix_milliseconds"),
    ("declared powers", DATA_FILE, "declared_powers", "unix_milliseconds"),
    ("perimeters", DATA_FILE, "perimeters", "unix_milliseconds"),
    ("closed years", DATA_FILE, "closed_years", "unix_milliseconds"),
    ("lines of the access journal", IDENTITY_FILE, "journal", "unix_milliseconds"),
    ("lines of the journal of accounts", DATA_FILE, "accesses", "first_unix_milliseconds"),
)
"""(what it is, its file, its table, condition with the time of a row at the end)."""


def count_losses(replaced: Path | None, backup_unix_milliseconds: int) -> dict[str, int | None]:
    """Return the number of rows of each kind that the replaced files have from after the backup.

    None where they cannot tell: the file is missing, damaged, or of another version.
    """
    found: dict[str, int | None] = {name: None for name, *_ in KINDS}
    for file in (DATA_FILE, IDENTITY_FILE):
        if replaced is None or not (replaced / file).exists():
            continue
        try:
            with closing(Database(replaced / file, writing=False)) as database:
                for name, of, table, since in KINDS:
                    if of == file:
                        found[name] = _count(database, table, since, backup_unix_milliseconds)
        except (CollectorError, sqlite3.Error, OSError):
            continue  # perhaps the reason of the restore
    return found


def _count(database: Database, table: str, since: str, unix_milliseconds: int) -> int | None:
    try:
        sql = f"SELECT count(*) FROM {table} WHERE {since} > ?"
        return int(database.connection.execute(sql, (unix_milliseconds,)).fetchone()[0])
    except sqlite3.OperationalError:  # a table of a later version
        return None
