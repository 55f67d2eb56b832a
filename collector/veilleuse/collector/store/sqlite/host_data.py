# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Deletes all rows of one machine from both files in small steps, and exports its rows of data.db.

Implements ports.HostEraser; docs/guarantees.md P9. The export uses sqlite-utils.

Sums over machines that name none of them stay: the ledger, and the states of servers that /metrics counts.
The rows of data_0026 leave with the machine's row in `hosts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.records import HostId
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.directory import DATA_FILE
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.inspect import utilities
from veilleuse.collector.store.sqlite.registry_rows import mark_shared
from veilleuse.wire.v1 import telemetry_pb2 as pb

SLICE_ROWS: Final = 400
SLICE_PERIODS: Final = 8
"""Hours or days whose sums are deleted at once: each may have 32 cells with 64 points."""

LAST_FORGOTTEN: Final = "last_forgotten_host_id"
"""Key in the table meta: the highest host id that was forgotten."""

_BY_ROW: Final = {
    "dirty": "host_id, grain, start",
    "stale_months": "month, host_id",
    "derived": "grain, start, host_id, band, state, supply, method",
    "derived_screens": "grain, start, host_id, band, state, supply, method",
    "meter_hours": "meter, start, host_id",
    "host_months": "month, host_id, day_type, band",
    "host_years": "year, host_id, day_type, band",
    "gone_days": "host_id, month, day_type, band",
}
_WHOLE: Final = (
    "inventory_decisions",
    "inventory_doubts",
    "inventory_earlier_hosts",
    "gap_sums",
    "gap_periods",
    "state_totals",
    "psys_checks",
    "meter_shares",
    "room_servers",
)
"""Tables with few rows for each machine: deleted at once."""
_SEEN_POINTS: Final = (
    "INSERT INTO host_points SELECT DISTINCT host_id, point_id FROM point_sums"
    " WHERE grain = ? AND start = ? AND host_id = ? ON CONFLICT DO NOTHING"
)
_ORPHANS: Final = (
    "DELETE FROM points WHERE point_id IN (SELECT point_id FROM host_points WHERE host_id = :host)"
    " AND point_id NOT IN (SELECT point_id FROM host_points WHERE host_id <> :host)"
)
_ORPHAN_UNITS: Final = (
    "DELETE FROM units WHERE unit_id IN (SELECT unit_id FROM host_units WHERE host_id = :host)"
    " AND unit_id NOT IN (SELECT unit_id FROM host_units WHERE host_id <> :host)"
)
_HIGHEST: Final = (
    "INSERT INTO meta VALUES (:key, :host) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    " WHERE CAST(value AS INTEGER) < :host"
)


class SqliteHostEraser:
    """Deletes a machine's rows from both files, on their writing connections, in the writer's thread."""

    def __init__(self, data: Database, identity: Database) -> None:
        self._data = data
        self._identity = identity
        self._to_compact = False
        self.is_compact = True

    def forget_slice(self, host_id: HostId) -> bool:
        """Delete some rows of a host; returns False when only the host's own row is left."""
        with self._data.transaction() as connection:
            steps: tuple[Callable[[sqlite3.Connection, HostId], int], ...] = (
                _records,
                *(_rows_of(table, key) for table, key in _BY_ROW.items()),
                _sums,
            )
            return any(step(connection, host_id) for step in steps)

    def forget_host(self, host: Host, agent_id_sha256: bytes) -> bool:
        """Delete the host's names, its certificates and its own row; the journal keeps the hash of its id.

        Returns False, without any effect, when rows arrived meanwhile.
        """
        with self._data.transaction() as connection:
            if _left(connection, host.host_id):
                return False
            of_host = {"host": host.host_id}
            connection.execute(_ORPHANS, of_host)
            connection.execute(_ORPHAN_UNITS, of_host)
            for table in (*_WHOLE, "host_points", "host_units", "streams", "certificates"):
                connection.execute(f"DELETE FROM {table} WHERE host_id = :host", of_host)
            connection.execute("UPDATE hosts SET copy_of = NULL WHERE copy_of = :host", of_host)
            connection.execute("UPDATE inventory_assets SET host_id = NULL WHERE host_id = :host", of_host)
            connection.execute("DELETE FROM hosts WHERE host_id = :host", of_host)
            connection.execute(_HIGHEST, {"key": LAST_FORGOTTEN, **of_host})
            self._forget_names(host, agent_id_sha256)
            mark_shared(self._data, self._identity)
        self._data.forget()
        self._to_compact = True
        return True

    def _forget_names(self, host: Host, agent_id_sha256: bytes) -> None:
        """Delete its names in identity.db. The journal keeps who looked and why, under the hash."""
        known_as, from_now = host.agent_id.hex(), f"a forgotten machine ({agent_id_sha256.hex()[:16]})"
        with self._identity.transaction() as connection:
            for table in ("names", "pseudonyms"):
                connection.execute(f"DELETE FROM {table} WHERE agent_id = ?", (host.agent_id,))
            connection.execute(
                "UPDATE journal SET what = replace(what, ?, ?), why = replace(why, ?, ?)",
                (known_as, from_now, known_as, from_now),
            )

    def sweep(self) -> bool:
        """Remove the deleted rows from the files, outside a transaction.

        Returns False while a reader needs the old state.

        secure_delete overwrites deleted rows; this removes remains beside them, and old pages from the WAL.
        """
        if self._to_compact:
            done = self._data.compact(), self._identity.compact()
            self.is_compact = all(done)
            self._to_compact = False
        return all(database.checkpoint() for database in (self._data, self._identity))


def _rows_of(table: str, key: str) -> Callable[[sqlite3.Connection, HostId], int]:
    many = "," in key
    found = f"SELECT {key} FROM {table} WHERE host_id = ? LIMIT {SLICE_ROWS}"
    sql = f"DELETE FROM {table} WHERE {f'({key})' if many else key} IN ({found})"
    return lambda connection, host_id: connection.execute(sql, (host_id,)).rowcount


def _records(connection: sqlite3.Connection, host_id: HostId) -> int:
    deleted = _rows_of("records", "record_id")(connection, host_id)
    connection.execute("UPDATE totals SET value = value - ? WHERE name = 'records'", (deleted,))
    return deleted


def _left(connection: sqlite3.Connection, host_id: HostId) -> bool:
    """Tell whether a push has brought rows meanwhile."""
    tables = ("records", "sums", *_BY_ROW)
    return any(
        connection.execute(f"SELECT 1 FROM {table} WHERE host_id = ? LIMIT 1", (host_id,)).fetchone()
        for table in tables
    )


def _sums(connection: sqlite3.Connection, host_id: HostId) -> int:
    """Delete point_sums and unit_sums of a host through the keys of sums: they have no index by host."""
    periods = connection.execute(
        f"SELECT DISTINCT grain, start FROM sums WHERE host_id = ? LIMIT {SLICE_PERIODS}", (host_id,)
    ).fetchall()
    for grain, start in periods:
        key = (grain, start, host_id)
        connection.execute(_SEEN_POINTS, key)
        for table in ("point_sums", "unit_sums", "sums"):
            connection.execute(f"DELETE FROM {table} WHERE grain = ? AND start = ? AND host_id = ?", key)
    return len(periods)


_MESSAGES: Final[dict[tuple[str, str], Any]] = {
    ("hosts", "facts"): pb.Facts,
    ("hosts", "health"): pb.Health,
    ("records", "wire"): pb.Record,
}
_PERIODS: Final = "(SELECT DISTINCT grain, start FROM sums WHERE host_id = :host) AS k"
_OF_SUMS: Final = {
    table: (
        f"SELECT p.*, {names} FROM {_PERIODS} JOIN {table} AS p ON p.grain = k.grain AND p.start = k.start"
        f" AND p.host_id = :host JOIN {of} USING ({key})"
    )
    for table, of, key, names in (
        ("point_sums", "points", "point_id", "kind, domain, boundary, subject"),
        ("unit_sums", "units", "unit_id", "name"),
    )
}
"""Tables without an index by host, which have the same keys as sums."""


def export_host(directory: Path, host_id: HostId) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """Yield (table, rows of this host), each row by column, of every table of data.db that names it.

    Read-only; take a table's rows before the next table.

    Enumerations are the numbers of telemetry.proto; bytes are hexadecimal; wire records are decoded too.
    Tables are found by their column `host_id`, so that none is left out.
    """
    with closing(Database(directory / DATA_FILE, writing=False)) as data:
        database = utilities(data.connection)
        with data.translated():
            data.connection.execute("BEGIN")  # one snapshot for all tables
            for table in sorted(database.tables, key=lambda table: table.name):
                if "host_id" in table.columns_dict:
                    sql = _OF_SUMS.get(table.name, f"SELECT * FROM {table.name} WHERE host_id = :host")
                    rows = database.query(sql, {"host": host_id})
                    yield table.name, (_row(table.name, row) for row in rows)


def _row(table: str, values: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in values.items():
        row[name] = value.hex() if isinstance(value, bytes) else value
        message = _MESSAGES.get((table, name))
        if message is not None and value is not None:
            row[f"{name}_decoded"] = _decode(message, value)
    return row


def _decode(message: Any, wire: bytes) -> dict[str, Any] | None:
    try:
        decoded: dict[str, Any] = MessageToDict(message.FromString(wire), preserving_proto_field_name=True)
    except DecodeError:
        return None
    return decoded
