# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Export every row of data.db that names one machine, through sqlite-utils."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from veilleuse.collector.model.records import HostId
from veilleuse.collector.store.directory import DATA_FILE
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.inspect import utilities
from veilleuse.wire.v1 import telemetry_pb2 as pb

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
    """Yield (table, rows of this host), each row by column.

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
