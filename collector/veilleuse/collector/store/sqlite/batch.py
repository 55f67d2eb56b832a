# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Rows of one group, added up in memory first, so that each statement runs once with many values."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, TypeAlias

from veilleuse.collector.codec import number
from veilleuse.collector.model import Cell, DecodedRecord, HostId, Point, RecordPeriod
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.wire.limits import CELL_BUCKETS, CELL_SUMS
from veilleuse.wire.vocabulary import Band, State, Supply

BUCKET_COLUMNS: Final = tuple(
    f"{name.removesuffix('_milliseconds')}_{index:0{len(str(size - 1))}}_milliseconds"
    for name, size in CELL_BUCKETS.items()
    for index in range(size)
)
VALUE_COLUMNS: Final = ("milliseconds", *CELL_SUMS, *BUCKET_COLUMNS)
KEY_COLUMNS: Final = ("host_id", "grain", "start", "band", "state", "supply")

_Values: TypeAlias = tuple[int | None, ...]
_Key: TypeAlias = tuple[int, ...]


def _upsert(table: str, key: tuple[str, ...], values: tuple[str, ...]) -> str:
    columns = key + values
    # NULL + n is NULL: a first measured value replaces "never measured", and an absent one changes nothing.
    updates = ", ".join(
        f"{c} = coalesce({table}.{c} + excluded.{c}, {table}.{c}, excluded.{c})" for c in values
    )
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {updates}"
    )


_RECORD: Final = (
    "INSERT INTO records (host_id, stream_id, seq, grain, bucket, start, milliseconds, hash, wire)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SUM: Final = _upsert("sums", KEY_COLUMNS, VALUE_COLUMNS)
_POINT: Final = _upsert(
    "point_sums", (*KEY_COLUMNS, "point_id"), ("energy_millijoules", "covered_milliseconds")
)
_STATE: Final = _upsert("state_totals", ("host_id", "state"), ("milliseconds",))
_COUNT: Final = "UPDATE totals SET value = value + ? WHERE name = 'records'"
_GAP: Final = _upsert("gap_sums", ("host_id", "reason"), ("records", "milliseconds"))
GAP_PERIOD: Final = _upsert("gap_periods", ("grain", "start", "host_id", "reason"), ("milliseconds",))
_HOST_POINT: Final = "INSERT INTO host_points (host_id, point_id) VALUES (?, ?) ON CONFLICT DO NOTHING"
_DIRTY: Final = "INSERT INTO dirty (host_id, grain, start) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_MARK: Final = "UPDATE streams SET mark = ?, chain = ? WHERE stream_id = ?"

_CELL_KEYS: Final = {
    (band, state, supply): (number(band), number(state), number(supply))
    for band in Band
    for state in State
    for supply in Supply
}


def gap_bucket(record: DecodedRecord) -> int:
    """records.bucket of a gap: its hash as a signed number."""
    return int.from_bytes(record.hash, "big", signed=True)


class Points:
    """Point ↔ point_id, remembered."""

    _REMEMBERED: Final = 65_536

    def __init__(self, database: Database) -> None:
        self._connection = database.connection
        self._ids: dict[Point, int] = {}

    def id_of(self, point: Point) -> int:
        """Its row; a new one when it was never seen."""
        found = self._ids.get(point)
        if found is None:
            if len(self._ids) >= self._REMEMBERED:
                self._ids.clear()
            found = self._ids[point] = self._find(point)
        return found

    def forget(self) -> None:
        """After a rollback."""
        self._ids.clear()

    def _find(self, point: Point) -> int:
        values = (number(point.kind), point.domain, number(point.boundary), point.subject)
        self._connection.execute(
            "INSERT INTO points (kind, domain, boundary, subject) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            values,
        )
        row = self._connection.execute(
            "SELECT point_id FROM points WHERE kind = ? AND domain = ? AND boundary = ? AND subject = ?",
            values,
        ).fetchone()
        return int(row[0])


class Batch:
    """What a group adds. `flush` writes it into the open transaction."""

    def __init__(self, connection: sqlite3.Connection, points: Points) -> None:
        self._connection = connection
        self._points = points
        self._clear()

    def measurement(
        self,
        host_id: HostId,
        stream_id: int,
        record: DecodedRecord,
        period: RecordPeriod,
        bucket: int,
        keys: tuple[tuple[int, int], ...],
    ) -> None:
        """A record, its sums under each of `keys` (grain, start), its sensor gaps and its dirty mark."""
        grain = int(period.grain)
        self._records.append(
            (
                host_id,
                stream_id,
                record.seq,
                grain,
                bucket,
                period.start,
                period.milliseconds,
                record.hash,
                record.wire,
            )
        )
        for cell in record.cells:
            values = _values(cell)
            cell_key = _CELL_KEYS[cell.band, cell.state, cell.supply]
            self._states[host_id, cell_key[1]] += cell.milliseconds
            energies = [
                (self._points.id_of(point), energy, covered) for point, energy, covered in cell.energies
            ]
            for key in keys:
                full = (host_id, *key, *cell_key)
                self._sums[full].append(values)
                for point_id, energy, covered in energies:
                    _add(self._energies, (*full, point_id), energy, covered)
        for reason, _source, milliseconds in record.sensor_gaps:
            _add(self._gaps, (host_id, number(reason)), 0, milliseconds)
        self._dirty.add((host_id, grain, bucket))

    def gap(
        self,
        host_id: HostId,
        stream_id: int,
        record: DecodedRecord,
        periods: Iterable[tuple[int, int, int]],
    ) -> None:
        """A record that is a gap; `periods`: (grain, start, milliseconds) of its dated spans."""
        self._records.append(
            (
                host_id,
                stream_id,
                record.seq,
                0,
                gap_bucket(record),
                0,
                record.gap_milliseconds,
                record.hash,
                record.wire,
            )
        )
        assert record.gap is not None, "a record without period is a gap"
        reason = number(record.gap)
        _add(self._gaps, (host_id, reason), record.gap_records, record.gap_milliseconds)
        for grain, start, milliseconds in periods:
            self._gap_periods[grain, start, host_id, reason] += milliseconds

    def host_point(self, host_id: HostId, point: Point) -> None:
        """A point this host never sent before."""
        self._host_points.append((host_id, self._points.id_of(point)))

    def mark(self, stream_id: int, mark: int, chain: bytes) -> None:
        """Where a stream stands after the group."""
        self._marks.append((mark, chain, stream_id))

    def flush(self) -> None:
        """Write and empty. Rows go in key order: neighbours share a page."""
        many = self._connection.executemany
        if self._records:
            many(_RECORD, self._records)
            self._connection.execute(_COUNT, (len(self._records),))
        if self._sums:
            many(_SUM, [(*key, *_added(self._sums[key])) for key in sorted(self._sums)])
        for statement, pairs in ((_POINT, self._energies), (_GAP, self._gaps)):
            if pairs:
                many(statement, [(*key, *pair) for key, pair in pairs.items()])
        if self._gap_periods:
            many(GAP_PERIOD, [(*key, milliseconds) for key, milliseconds in self._gap_periods.items()])
        if self._host_points:
            many(_HOST_POINT, self._host_points)
        if self._states:
            many(_STATE, [(*key, milliseconds) for key, milliseconds in self._states.items()])
        if self._dirty:
            many(_DIRTY, self._dirty)
        if self._marks:
            many(_MARK, self._marks)
        self._clear()

    def _clear(self) -> None:
        self._records: list[tuple[int | bytes, ...]] = []
        self._sums: defaultdict[_Key, list[_Values]] = defaultdict(list)
        self._energies: dict[_Key, tuple[int, int]] = {}
        self._gaps: dict[_Key, tuple[int, int]] = {}
        self._gap_periods: defaultdict[_Key, int] = defaultdict(int)
        self._host_points: list[tuple[int, int]] = []
        self._states: defaultdict[tuple[int, int], int] = defaultdict(int)
        self._dirty: set[_Key] = set()
        self._marks: list[tuple[int, bytes, int]] = []


_NO_BUCKETS: Final = tuple((None,) * size for size in CELL_BUCKETS.values())


def _values(cell: Cell) -> _Values:
    """VALUE_COLUMNS of one cell."""
    return (
        cell.milliseconds,
        cell.cpu_covered_milliseconds,
        cell.cpu_busy_milliseconds,
        cell.any_core_busy_milliseconds,
        cell.idle_beyond_15_minutes_milliseconds,
        cell.idle_beyond_30_minutes_milliseconds,
        cell.idle_beyond_60_minutes_milliseconds,
        cell.disk_read_bytes,
        cell.disk_written_bytes,
        cell.network_received_bytes,
        cell.network_sent_bytes,
        cell.gpu_busy_milliseconds,
        cell.agent_cpu_milliseconds,
        *(cell.cpu_bucket_milliseconds or _NO_BUCKETS[0]),
        *(cell.memory_bucket_milliseconds or _NO_BUCKETS[1]),
        *(cell.network_rate_milliseconds or _NO_BUCKETS[2]),
    )


def _added(rows: list[_Values]) -> _Values:
    """Column by column; a column nobody measured stays None."""
    if len(rows) == 1:
        return rows[0]
    return tuple(
        [sum(column) if None not in column else _measured(column) for column in zip(*rows, strict=True)]
    )


def _measured(column: _Values) -> int | None:
    values = [value for value in column if value is not None]
    return sum(values) if values else None


def _add(into: dict[_Key, tuple[int, int]], key: _Key, first: int, second: int) -> None:
    standing = into.get(key)
    into[key] = (first, second) if standing is None else (standing[0] + first, standing[1] + second)
