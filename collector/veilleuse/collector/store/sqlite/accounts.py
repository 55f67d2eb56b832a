# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores HTTP accounts and their access journal in data.db.

Implements ports.Accounts and ports.AccountReader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from veilleuse.collector.model.accounts import Access, Account, Role, day_number
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.sqlite.connection import DataTables
from veilleuse.collector.store.sqlite.migrations import BesideReader
from veilleuse.wire.units import MILLISECONDS_PER_HOUR

_COLUMNS: Final = (
    "account_id, name, role, token_sha256, created_unix_milliseconds, expires_unix_milliseconds,"
    " revoked_unix_milliseconds, last_used_day"
)
_BY_HASH: Final = f"SELECT {_COLUMNS} FROM accounts WHERE token_sha256 = ?"
_BY_NAME: Final = (
    f"SELECT {_COLUMNS} FROM accounts WHERE name = ? AND revoked_unix_milliseconds IS NULL"
    " ORDER BY account_id DESC LIMIT 1"
)
_ENTITIES: Final = "SELECT entity FROM account_entities WHERE account_id = ? ORDER BY entity"


class SqliteAccounts(DataTables):
    """Reads and writes accounts. Each write is a transaction, or part of the caller's."""

    def insert_account(
        self,
        *,
        name: str,
        role: Role,
        entities: Sequence[str],
        token_sha256: bytes,
        created_unix_milliseconds: int,
        expires_unix_milliseconds: int,
    ) -> Account:
        """Insert an account and return it. Raises sqlite3.IntegrityError when its name is in force."""
        with self._data.transaction() as connection:
            account_id = connection.execute(
                "INSERT INTO accounts (name, role, token_sha256, created_unix_milliseconds, expires_unix_milliseconds)"
                " VALUES (?, ?, ?, ?, ?)",
                (name, role.value, token_sha256, created_unix_milliseconds, expires_unix_milliseconds),
            ).lastrowid
            assert account_id is not None
            connection.executemany(
                "INSERT INTO account_entities (account_id, entity) VALUES (?, ?)",
                [(account_id, entity) for entity in entities],
            )
            (made,) = _accounts(connection, " WHERE account_id = ?", account_id)
            return made

    def accounts(self) -> tuple[Account, ...]:
        """Return all accounts, also ended ones, in the order of creation."""
        with self._data.translated():
            return _accounts(self._data.connection, " ORDER BY account_id")

    def account(self, account_id: int) -> Account | None:
        """Return one account; None when there is none with this id."""
        with self._data.translated():
            found = _accounts(self._data.connection, " WHERE account_id = ?", account_id)
        return found[0] if found else None

    def revoke_account(self, token_sha256: bytes, now_unix_milliseconds: int) -> bool:
        """End an account; an ended one keeps its time. Returns False when none has this token."""
        sql = (
            "UPDATE accounts SET revoked_unix_milliseconds = coalesce(revoked_unix_milliseconds, ?)"
            " WHERE token_sha256 = ?"
        )
        return self._data.write(sql, now_unix_milliseconds, token_sha256) == 1

    def note_use(self, account_id: int, now_unix_milliseconds: int) -> None:
        """Note the UTC day of the account's last use."""
        sql = "UPDATE accounts SET last_used_day = max(coalesce(last_used_day, 0), ?) WHERE account_id = ?"
        self._data.write(sql, day_number(now_unix_milliseconds), account_id)

    def note_access(
        self, account_id: int, now_unix_milliseconds: int, *, route: str, query: str, status: int, rows: int
    ) -> None:
        """Add an access to the journal: a new line, or one more on the line of this hour."""
        with self._data.transaction() as connection:
            self.note_use(account_id, now_unix_milliseconds)
            connection.execute(
                "INSERT INTO accesses (account_id, hour, route, query, status, times, rows, first_unix_milliseconds,"
                " last_unix_milliseconds) VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?)"
                " ON CONFLICT (account_id, hour, route, query, status) DO UPDATE SET times = times + 1,"
                " rows = excluded.rows, last_unix_milliseconds = excluded.last_unix_milliseconds",
                (
                    account_id,
                    now_unix_milliseconds // MILLISECONDS_PER_HOUR,
                    route,
                    query,
                    status,
                    rows,
                    now_unix_milliseconds,
                    now_unix_milliseconds,
                ),
            )

    def accesses(
        self,
        since_unix_milliseconds: int,
        until_unix_milliseconds: int,
        *,
        account_id: int | None,
        limit: int,
    ) -> tuple[Access, ...]:
        """Return lines whose last access is in [since, until), newest first."""
        mine, values = ("", ()) if account_id is None else (" AND account_id = ?", (account_id,))
        rows = self._data.rows(
            "SELECT account_id, name, route, query, status, times, rows, first_unix_milliseconds,"
            " last_unix_milliseconds FROM accesses JOIN accounts USING (account_id)"
            f" WHERE last_unix_milliseconds >= ? AND last_unix_milliseconds < ?{mine}"
            " ORDER BY last_unix_milliseconds DESC, access_id DESC LIMIT ?",
            since_unix_milliseconds,
            until_unix_milliseconds,
            *values,
            limit,
        )
        return tuple(Access(*row) for row in rows)

    def expire_accesses(self, before_unix_milliseconds: int, limit: int) -> int:
        """Delete at most `limit` lines that ended before the given time; returns their number."""
        sql = (
            "DELETE FROM accesses WHERE access_id IN (SELECT access_id FROM accesses WHERE last_unix_milliseconds < ?"
            " LIMIT ?)"
        )
        return self._data.write(sql, before_unix_milliseconds, limit)


class SqliteAccountReader(BesideReader):
    """Looks accounts up by token, in any process."""

    def account_by_hash(self, token_sha256: bytes) -> Account | None:
        """Return the account of a token as stored now: a revocation holds for the next call."""
        with self._asking() as connection:
            row = connection.execute(_BY_HASH, (token_sha256,)).fetchone()
            return None if row is None else _account(row, connection)

    def account_by_name(self, name: str) -> Account | None:
        """Return the newest account of this name that is not revoked."""
        with self._asking() as connection:
            row = connection.execute(_BY_NAME, (name,)).fetchone()
            return None if row is None else _account(row, connection)


def _accounts(connection: sqlite3.Connection, clause: str, *values: Any) -> tuple[Account, ...]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM accounts{clause}", values).fetchall()
    return tuple(_account(row, connection) for row in rows)


def _account(row: Any, connection: sqlite3.Connection) -> Account:
    account_id, name, role, sha256, *moments = row
    entities = tuple(str(one[0]) for one in connection.execute(_ENTITIES, (account_id,)))
    return Account(account_id, name, Role(role), entities, sha256, *moments)
