# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Numbers and sums the rows of one group in memory, so that each statement runs once with many values.

A number does not tell when a workstation called (docs/privacy.md). Records of servers and classrooms have a
clock. In one common sequence, the two neighbours of a workstation's row would tell the hour of its call. So
each workstation has its own range, in which numbers rise only with what it sends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256
from itertools import count
from typing import Final, TypeAlias

from veilleuse.collector.model.records import Cell, DecodedRecord, HostId, Point, RecordPeriod
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.sqlite.bounds import HostUnits
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.months import StaleMonths
from veilleuse.collector.wire_codec import number
from veilleuse.wire.limits import BUCKETS, CELL_BUCKETS, CELL_SUMS, DISPLAY_BUCKETS
from veilleuse.wire.vocabulary import Band, Population, State, Supply

_RANGE: Final = 2**32
"""Numbers of one workstation."""
DATED: Final = 0
"""First number of the common range of all hosts with a clock."""
_POINT_NUMBERS: Final = 2**23
"""Number of point numbers: SQLite stores one in three bytes."""
TURN: Final = "iif({grain} = 1, (SELECT coalesce(max(turn), 0) + 1 FROM dirty), 0)"
"""Turn of a dirty mark.

Days and weeks, which workstations send, go first, in key order; hours go in the order of marking.
"""


def first_number(host_id: HostId, population: Population) -> int:
    """Return the start of the range of this host's rows; the first row has the next number."""
    return -(host_id * _RANGE) if population is Population.WORKSTATION else DATED


def next_number(connection: sqlite3.Connection, table: str, key: str, first: int) -> int:
    """Return the number after the highest number in use of the range."""
    end = 2**63 - 1 if first == DATED else first + _RANGE - 1
    ((highest,),) = connection.execute(
        f"SELECT max({key}) FROM {table} WHERE {key} BETWEEN ? AND ?", (first, end)
    )
    return int(first if highest is None else highest) + 1


def point_number(values: tuple[int | str, ...], tries: int) -> int:
    """Return the number of a point, from its content alone: a sequence would tell when a rare point was first
    seen.

    `tries`: count of earlier numbers that belong to other points.
    """
    digest = sha256("\0".join(map(str, values)).encode()).digest()
    return (int.from_bytes(digest[:8], "big") + tries) % _POINT_NUMBERS


def bucket_columns(name: str) -> tuple[str, ...]:
    """Return the columns of one of limits.BUCKETS."""
    stem, size = name.removesuffix("_milliseconds"), BUCKETS[name]
    return tuple(f"{stem}_{index:0{len(str(size - 1))}}_milliseconds" for index in range(size))


VALUE_COLUMNS: Final = ("milliseconds", *CELL_SUMS, *(c for name in BUCKETS for c in bucket_columns(name)))
"""The table has six more, of what agents sent up to 0.1 and nothing read: they stay as they were.

To drop them would copy it.
"""
RARE_COLUMNS: Final = ("update_window_milliseconds", *bucket_columns(DISPLAY_BUCKETS))
"""Columns of VALUE_COLUMNS that few machines have; rows of the others are written without them."""
COMMON_COLUMNS: Final = tuple(column for column in VALUE_COLUMNS if column not in RARE_COLUMNS)
KEY_COLUMNS: Final = ("host_id", "grain", "start", "band", "state", "supply")

_Values: TypeAlias = tuple[int | None, ...]
_Key: TypeAlias = tuple[int, ...]
_Record: TypeAlias = tuple[int, int, int, int, int, int, int, int, bytes, bytes]
"""First number of the host's row range, then the columns of _RECORD."""


def _upsert(table: str, key: tuple[str, ...], values: tuple[str, ...]) -> str:
    columns = key + values
    # NULL + n is NULL: a first value replaces "never measured", and an absent value changes nothing.
    updates = ", ".join(
        f"{c} = coalesce({table}.{c} + excluded.{c}, {table}.{c}, excluded.{c})" for c in values
    )
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {updates}"
    )


_RECORD: Final = (
    "INSERT INTO records (record_id, host_id, stream_id, seq, grain, bucket, start, milliseconds, hash, wire)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_BARE_SUM: Final = _upsert("sums", KEY_COLUMNS, COMMON_COLUMNS[:1])
"""Of time off or asleep, some half of the rows: seven values instead of 35."""
_MEASURED_COLUMNS: Final = len(COMMON_COLUMNS) - 1
_SUM: Final = _upsert("sums", KEY_COLUMNS, COMMON_COLUMNS)
_SUM_WITH_RARE: Final = _upsert("sums", KEY_COLUMNS, COMMON_COLUMNS + RARE_COLUMNS)
_POINT: Final = _upsert(
    "point_sums", (*KEY_COLUMNS, "point_id"), ("energy_millijoules", "covered_milliseconds")
)
_WINDOW: Final = _upsert(
    "point_sums",
    (*KEY_COLUMNS, "point_id"),
    ("energy_millijoules", "covered_milliseconds", "update_window_energy_millijoules"),
)
_UNIT: Final = _upsert("unit_sums", ("host_id", "grain", "start", "unit_id"), ("cpu_milliseconds",))
_STATE: Final = _upsert("state_totals", ("host_id", "state"), ("milliseconds",))
_COUNT: Final = "UPDATE totals SET value = value + ? WHERE name = 'records'"
_GAP: Final = _upsert("gap_sums", ("host_id", "reason"), ("records", "milliseconds"))
GAP_PERIOD: Final = _upsert("gap_periods", ("grain", "start", "host_id", "reason"), ("milliseconds",))
_HOST_POINT: Final = "INSERT INTO host_points (host_id, point_id) VALUES (?, ?) ON CONFLICT DO NOTHING"
_DIRTY: Final = f"INSERT INTO dirty VALUES (?1, ?2, ?3, {TURN.format(grain='?2')}) ON CONFLICT DO NOTHING"
_MARK: Final = "UPDATE streams SET mark = ?, chain = ? WHERE stream_id = ?"

CELL_KEYS: Final = {
    (band, state, supply): (number(band), number(state), number(supply))
    for band in Band
    for state in State
    for supply in Supply
}


def gap_bucket(record: DecodedRecord) -> int:
    """Return records.bucket of a gap: its hash as a signed number."""
    return int.from_bytes(record.hash, "big", signed=True)


class Points:
    """Maps points to point_id, with a cache."""

    _REMEMBERED: Final = 65_536

    def __init__(self, database: Database) -> None:
        self._connection = database.connection
        self._ids: dict[Point, int] = {}

    def id_of(self, point: Point) -> int:
        """Return the row number of a point; a point never seen gets a new row."""
        found = self._ids.get(point)
        if found is None:
            if len(self._ids) >= self._REMEMBERED:
                self._ids.clear()
            found = self._ids[point] = self._find(point)
        return found

    def forget(self) -> None:
        """Empty the cache after a rollback."""
        self._ids.clear()

    def _find(self, point: Point) -> int:
        values = (number(point.kind), point.domain, number(point.boundary), point.subject)
        for tries in count():
            row = self._connection.execute(
                "SELECT point_id FROM points WHERE kind = ? AND domain = ? AND boundary = ? AND subject = ?",
                values,
            ).fetchone()
            if row is not None:
                return int(row[0])
            self._connection.execute(
                "INSERT INTO points (point_id, kind, domain, boundary, subject) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (point_number(values, tries), *values),
            )
        raise AssertionError("there are more points than numbers")


class UnreadCells:
    """Keeps the cells of stored records until derive reads them: their bytes are decoded once.

    Records beyond the limit are decoded again.
    """

    _REMEMBERED: Final = 8_192
    """Records, some 2 kB each."""

    def __init__(self, database: Database) -> None:
        self._cells: dict[int, tuple[Cell, ...]] = {}
        database.on_forget(self._cells.clear)

    def put(self, record_id: int, cells: tuple[Cell, ...]) -> None:
        """Keep the cells of a record that was just stored."""
        if len(self._cells) < self._REMEMBERED:
            self._cells[record_id] = cells

    def take(self, record_id: int) -> tuple[Cell, ...] | None:
        """Return the cells, once; None where they are not kept."""
        return self._cells.pop(record_id, None)


class Batch:
    """Rows that a group adds. `flush` writes them into the open transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        points: Points,
        units: HostUnits,
        stale: StaleMonths,
        unread: UnreadCells,
    ) -> None:
        self._connection = connection
        self._stale = stale
        self._unread = unread
        self._points = points
        self._units_of = units
        self._clear()

    def measurement(
        self,
        host_id: HostId,
        numbers: int,
        stream_id: int,
        record: DecodedRecord,
        period: RecordPeriod,
        bucket: int,
        keys: tuple[tuple[int, int], ...],
    ) -> None:
        """Add a record: its sums under each of `keys`, its sensor gaps, its dirty and stale marks.

        `keys`: (grain, start), with the day or week last. `numbers`: first number of the host's row range.
        """
        grain = int(period.grain)
        self._records.append(
            (
                numbers,
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
        self._cells.append(record.cells)
        for cell in record.cells:
            values = _values(cell)
            cell_key = CELL_KEYS[cell.band, cell.state, cell.supply]
            self._states[host_id, cell_key[1]] += cell.milliseconds
            energies = [
                (self._points.id_of(point), energy, covered) for point, energy, covered in cell.energies
            ]
            for key in keys:
                full = (host_id, *key, *cell_key)
                self._sums[full].append(values)
                for point_id, energy, covered in energies:
                    _add(self._energies, (*full, point_id), energy, covered)
            if cell.update_window_milliseconds is not None or cell.display_milliseconds or cell.units:
                self._rarely(host_id, cell, keys, cell_key)
        for reason, _source, milliseconds in record.sensor_gaps:
            _add(self._gaps, (host_id, number(reason)), 0, milliseconds)
        self._dirty.add((host_id, grain, bucket))
        self._days.add((host_id, keys[-1]))

    def _rarely(
        self,
        host_id: HostId,
        cell: Cell,
        keys: tuple[tuple[int, int], ...],
        cell_key: tuple[int, int, int],
    ) -> None:
        """Add the values that few cells have."""
        values = (cell.update_window_milliseconds, *(cell.display_milliseconds or _NO_DISPLAYS))
        windows = [(self._points.id_of(point), energy) for point, energy, _ in cell.update_window_energies]
        units = [(self._units_of.id_of(host_id, name), spent) for name, spent in cell.units]
        for key in keys:
            full = (host_id, *key, *cell_key)
            self._rare[full].append(values)
            for point_id, energy in windows:
                self._windows[*full, point_id] += energy
            for unit_id, spent in units:
                self._units[host_id, *key, unit_id] += spent

    def gap(
        self,
        host_id: HostId,
        numbers: int,
        stream_id: int,
        record: DecodedRecord,
        periods: Iterable[tuple[int, int, int]],
    ) -> None:
        """Add a record that is a gap. `periods`: (grain, start, milliseconds) of its dated spans."""
        self._records.append(
            (
                numbers,
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
        self._cells.append(())
        assert record.gap is not None, "a record without period is a gap"
        reason = number(record.gap)
        _add(self._gaps, (host_id, reason), record.gap_records, record.gap_milliseconds)
        for grain, start, milliseconds in periods:
            self._gap_periods[grain, start, host_id, reason] += milliseconds

    def host_point(self, host_id: HostId, point: Point) -> None:
        """Add a point that the host sends for the first time."""
        self._host_points.append((host_id, self._points.id_of(point)))

    def mark(self, stream_id: int, mark: int, chain: bytes) -> None:
        """Set a stream's mark and chain to those after the group."""
        self._marks.append((mark, chain, stream_id))

    def flush(self) -> None:
        """Write all rows and empty the batch. Rows go in key order: neighbours share a page."""
        many = self._connection.executemany
        if self._records:
            many(_RECORD, self._numbered())
            self._connection.execute(_COUNT, (len(self._records),))
        if self._sums:
            self._flush_sums()
        if self._energies:
            self._flush_energies()
        if self._gaps:
            many(_GAP, [(*key, *pair) for key, pair in self._gaps.items()])
        if self._units:
            many(_UNIT, [(*key, self._units[key]) for key in sorted(self._units)])
        if self._gap_periods:
            many(GAP_PERIOD, [(*key, milliseconds) for key, milliseconds in self._gap_periods.items()])
        if self._host_points:
            many(_HOST_POINT, self._host_points)
        if self._states:
            many(_STATE, [(*key, milliseconds) for key, milliseconds in self._states.items()])
        if self._dirty:
            many(_DIRTY, sorted(self._dirty))  # derive then takes the hours of a day together
            self._stale.mark(self._days)
        if self._marks:
            many(_MARK, self._marks)
        self._clear()

    def _numbered(self) -> list[tuple[int | bytes, ...]]:
        following: dict[int, int] = {}
        rows: list[tuple[int | bytes, ...]] = []
        for row, cells in zip(self._records, self._cells, strict=True):
            first = row[0]
            number = following.get(first) or next_number(self._connection, "records", "record_id", first)
            following[first] = number + 1
            rows.append((number, *row[1:]))
            if cells:
                self._unread.put(number, cells)
        return rows

    def _flush_sums(self) -> None:
        many, rare = self._connection.executemany, self._rare
        bare, common, with_rare = [], [], []
        for key in sorted(self._sums):
            row = (*key, *_added(self._sums[key]))
            if key in rare:
                with_rare.append((*row, *_added(rare[key])))
            elif row.count(None) == _MEASURED_COLUMNS:
                bare.append(row[:-_MEASURED_COLUMNS])
            else:
                common.append(row)
        many(_BARE_SUM, bare)
        many(_SUM, common)
        many(_SUM_WITH_RARE, with_rare)

    def _flush_energies(self) -> None:
        many, windows = self._connection.executemany, self._windows
        many(_POINT, [(*key, *pair) for key, pair in self._energies.items() if key not in windows])
        if windows:
            inside = [(*key, *pair, windows[key]) for key, pair in self._energies.items() if key in windows]
            many(_WINDOW, inside)

    def _clear(self) -> None:
        self._records: list[_Record] = []
        self._cells: list[tuple[Cell, ...]] = []
        self._sums: defaultdict[_Key, list[_Values]] = defaultdict(list)
        self._rare: defaultdict[_Key, list[_Values]] = defaultdict(list)
        self._energies: dict[_Key, tuple[int, int]] = {}
        self._windows: defaultdict[_Key, int] = defaultdict(int)
        self._units: defaultdict[_Key, int] = defaultdict(int)
        self._gaps: dict[_Key, tuple[int, int]] = {}
        self._gap_periods: defaultdict[_Key, int] = defaultdict(int)
        self._host_points: list[tuple[int, int]] = []
        self._states: defaultdict[tuple[int, int], int] = defaultdict(int)
        self._dirty: set[_Key] = set()
        self._days: set[tuple[HostId, tuple[int, int]]] = set()
        self._marks: list[tuple[int, bytes, int]] = []


_NO_DISPLAYS: Final = (None,) * BUCKETS[DISPLAY_BUCKETS]
_NO_BUCKETS: Final = tuple((None,) * size for size in CELL_BUCKETS.values())


def _values(cell: Cell) -> _Values:
    """Return COMMON_COLUMNS of one cell."""
    return (
        cell.milliseconds,
        cell.cpu_covered_milliseconds,
        cell.cpu_busy_milliseconds,
        cell.any_core_busy_milliseconds,
        cell.idle_beyond_15_minutes_milliseconds,
        cell.idle_beyond_30_minutes_milliseconds,
        cell.idle_beyond_60_minutes_milliseconds,
        cell.own_cpu_milliseconds,
        *(cell.cpu_bucket_milliseconds or _NO_BUCKETS[0]),
        *(cell.memory_bucket_milliseconds or _NO_BUCKETS[1]),
        *(cell.network_rate_milliseconds or _NO_BUCKETS[2]),
    )


def _added(rows: list[_Values]) -> _Values:
    """Sum column by column; a column that nobody measured stays None."""
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
