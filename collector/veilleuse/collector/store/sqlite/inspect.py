# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Inspects the databases through sqlite-utils: rows per table, and SQL of an administrator.

Never on the ingest path.
"""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from veilleuse.collector.errors import QueryTooSlow, UsageError
from veilleuse.collector.ports.directory import QueryAnswer
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.directory import IDENTITY_FILE
from veilleuse.collector.store.sqlite.connection import Database, is_about_the_disk
from veilleuse.collector.store.sqlite.migrations import BesideReader, open_current

if TYPE_CHECKING:
    import sqlite_utils

_STEPS: Final = 20_000
"""SQLite instructions between two checks of the time limit: some tenths of a millisecond."""
_NAMES: Final = "identity"
"""Schema name of identity.db where it is attached."""
_WITHHELD: Final = frozenset(
    {
        ("tokens", "token_sha256"),
        ("accounts", "token_sha256"),
        ("hosts", "instance_id"),
        ("hosts", "spare_instance_ids"),
        ("hosts", "waiting_instance_ids"),
        ("hosts", "set_back_instance_id"),
        ("hosts", "copied_instance_ids"),
    }
)
"""(table, column) of hashes of secrets, and of the random numbers that tell a machine from its clone: read as
NULL."""
_HARMLESS: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_FUNCTION}
)
_OF_SQLITE: Final = frozenset({"sqlite_master", "sqlite_schema", "json_each", "json_tree"})
_ONLY_READS: Final = "a query is one SELECT, VALUES, WITH or EXPLAIN statement: it only reads tables"


def utilities(connection: sqlite3.Connection) -> sqlite_utils.Database:
    """Return sqlite-utils for an open connection, without plugins."""
    import sqlite_utils  # imported only when used: 13 MB

    return sqlite_utils.Database(connection, execute_plugins=False)


def table_counts(database: Database) -> dict[str, int]:
    """Count rows per table. Scans each once."""
    with database.translated():
        return {table.name: table.count for table in utilities(database.connection).tables}


class SqliteQueryReader(BesideReader):
    """SqliteQueryReader runs an administrator's SQL, read-only. Implements ports.QueryReader."""

    def __init__(self, directory: Path) -> None:
        """Raises as BesideReader."""
        super().__init__(directory)
        self._names: Database | None = None

    def close(self) -> None:
        """Close the connections."""
        super().close()
        if self._names is not None:
            self._names.close()

    def attach_names(self) -> None:
        path = self._data.path.with_name(IDENTITY_FILE)
        self._names = open_current(path, "identity")
        with self._asking() as connection:
            uri = f"{path.absolute().as_uri()}?mode=ro"
            connection.execute(f"ATTACH DATABASE ? AS {_NAMES}", (uri,))

    def tables(self) -> list[dict[str, str]]:
        found = []
        for prefix, opened in (("", self._data), (f"{_NAMES}.", self._names)):
            if opened is not None:
                with opened.translated():
                    tables = utilities(opened.connection).tables
                    found += [
                        {
                            "table": f"{prefix}{table.name}",
                            "column": column.name,
                            "type": column.type,
                            "key": str(column.is_pk or ""),
                            "note": "withheld" if (table.name, column.name) in _WITHHELD else "",
                        }
                        for table in sorted(tables, key=lambda table: table.name)
                        for column in table.columns
                    ]
        return found

    def ask(self, sql: str, *, seconds: float, rows: int) -> QueryAnswer:
        known = {row["table"].rpartition(".")[2] for row in self.tables()}
        withheld: dict[str, None] = {}

        def authorise(action: int, one: str | None, two: str | None, *_: str | None) -> int:
            if action == sqlite3.SQLITE_READ:
                if (one, two) in _WITHHELD:
                    withheld[f"{one}.{two}"] = None
                    return sqlite3.SQLITE_IGNORE
                return sqlite3.SQLITE_OK if one in known | _OF_SQLITE else sqlite3.SQLITE_DENY
            return sqlite3.SQLITE_OK if action in _HARMLESS else sqlite3.SQLITE_DENY

        end = time.monotonic() + seconds
        with self._asking() as connection:
            database = utilities(connection)
            connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
            connection.set_authorizer(authorise)
            try:
                found = list(islice(database.query(sql), rows + 1))
            except UnicodeError:
                raise
            except ValueError as error:  # no statement, or one without rows
                raise UsageError(_ONLY_READS) from error
            except sqlite3.Error as error:
                if is_about_the_disk(error):
                    raise
                raise _explain(error, seconds) from error
            finally:
                connection.set_authorizer(None)
                connection.set_progress_handler(None, 0)
        return QueryAnswer(found[:rows], len(found) > rows, tuple(withheld))


def _explain(error: sqlite3.Error, seconds: float) -> QueryTooSlow | UsageError:
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_INTERRUPT:
        return QueryTooSlow(
            f"the query takes more than {seconds:g} s and was ended: narrow it, or give it more --seconds"
        )
    if code == sqlite3.SQLITE_AUTH or "one statement" in str(error):
        return UsageError(_ONLY_READS)
    return UsageError(f"SQLite cannot run the query: {error}; see 'veilleuse query --tables'")
