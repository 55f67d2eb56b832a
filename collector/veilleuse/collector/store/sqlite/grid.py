# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores intensities of grids, and values that were replaced.

Implements ports.Intensities; tables of data_0013.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.grid import (
    BY_DATASET,
    MINUTES,
    GridIntensity,
    IntensityImport,
    IntensityKind,
    IntensityStatus,
    PollState,
    ReplacedValue,
    SeriesState,
    check_value,
)
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.sqlite.connection import DataTables, damaged
from veilleuse.wire.units import MILLISECONDS_PER_MINUTE

_LONGEST: Final = max(MINUTES) * MILLISECONDS_PER_MINUTE
_VALUE: Final = "start, minutes, milligrams_per_kwh, status"
_OF: Final = "zone = ? AND series = ?"
_VALUES: Final = (
    f"SELECT {_VALUE}, dataset, kind FROM intensities JOIN intensity_series USING (zone, series, status)"
    f" WHERE {_OF} AND start > ? AND start < ? ORDER BY start"
)
_REPLACED: Final = (
    f"SELECT r.start, r.minutes, r.milligrams_per_kwh, r.status, r.dataset, s.kind, r.fetched_unix_milliseconds,"
    " r.replaced_unix_milliseconds, r.by_dataset FROM intensities_replaced r"
    " JOIN intensity_series s USING (zone, series, status)"
    f" WHERE {_OF} AND start >= ? AND start < ? ORDER BY start, replaced_id"
)
_STATES: Final = (
    "SELECT zone, series, kind, dataset, status,"
    " (SELECT min(start) FROM intensities i WHERE i.zone = s.zone AND i.series = s.series AND i.status = s.status),"
    " (SELECT max(start) FROM intensities i WHERE i.zone = s.zone AND i.series = s.series AND i.status = s.status)"
    " FROM intensity_series s ORDER BY 1, 2, 5"
)


class SqliteIntensities(DataTables):
    """Reads and writes intensities. Each write is a transaction, or part of the caller's."""

    def put(self, values: Sequence[GridIntensity], now_unix_milliseconds: int) -> IntensityImport:
        """Store values in place of those that they overlap.

        A value that overlaps a more final one is left out.

        Raises ValueError for an invalid value, AdminError for a dataset that is not the dataset of its
        series.
        """
        found = IntensityImport()
        with self._data.transaction() as connection:
            for place in dict.fromkeys(
                (one.zone, one.series, one.status, one.dataset, one.kind) for one in values
            ):
                _claim(connection, *place)
            for one in values:
                found += _put(connection, check_value(one), now_unix_milliseconds)
        return found

    def values(self, zone: str, series: str, start: int, end: int) -> Iterator[GridIntensity]:
        """Yield the values that overlap [start, end), Unix milliseconds, in order. Raises StoreDamaged."""
        for row in self._data.rows(_VALUES, zone, series, start - _LONGEST, end):
            one = self._intensity(zone, series, row)
            if one.end_unix_milliseconds > start:
                yield one

    def replaced(self, zone: str, series: str, start: int, end: int) -> Iterator[ReplacedValue]:
        """Yield the replaced values that began in [start, end), in order."""
        for *row, fetched, replaced, by_dataset in self._data.rows(_REPLACED, zone, series, start, end):
            yield ReplacedValue(self._intensity(zone, series, row), fetched, replaced, by_dataset)

    def states(self) -> tuple[SeriesState, ...]:
        """Return each series and status that has a value."""
        return tuple(
            self._state(zone, series, kind, dataset, status, oldest, newest)
            for zone, series, kind, dataset, status, oldest, newest in self._data.rows(_STATES)
            if newest is not None
        )

    def polls(self) -> tuple[PollState, ...]:
        """Return each connector that has ever polled, by name."""
        rows = self._data.rows(
            "SELECT connector, tried_unix_milliseconds, succeeded_unix_milliseconds, failures, outcome,"
            " coalesce((SELECT calls FROM intensity_calls c WHERE c.connector = p.connector ORDER BY month DESC LIMIT 1), 0)"
            " FROM intensity_polls p ORDER BY connector"
        )
        return tuple(PollState(*row) for row in rows)

    def calls(self, connector: str, month: int) -> int:
        """Return the number of calls in a UTC month (year × 12 + month − 1)."""
        rows = self._data.rows(
            "SELECT calls FROM intensity_calls WHERE connector = ? AND month = ?", connector, month
        )
        return int(rows[0][0]) if rows else 0

    def count_call(self, connector: str, month: int, at_most: int) -> bool:
        """Count a call before it is made.

        Returns False, and counts nothing, when the month has had `at_most` calls.
        """
        with self._data.transaction() as connection:
            if self.calls(connector, month) >= at_most:
                return False
            connection.execute(
                "INSERT INTO intensity_calls VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET calls = calls + 1",
                (connector, month),
            )
        return True

    def note(self, connector: str, outcome: str, now_unix_milliseconds: int) -> None:
        """Note the outcome of a poll."""
        done = outcome == "done"
        self._data.write(
            "INSERT INTO intensity_polls VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " tried_unix_milliseconds = excluded.tried_unix_milliseconds, outcome = excluded.outcome,"
            " succeeded_unix_milliseconds = coalesce(excluded.succeeded_unix_milliseconds, succeeded_unix_milliseconds),"
            " failures = CASE WHEN excluded.failures = 0 THEN 0 ELSE failures + 1 END",
            connector,
            now_unix_milliseconds,
            now_unix_milliseconds if done else None,
            0 if done else 1,
            outcome,
        )

    def _state(
        self, zone: str, series: str, kind: str, dataset: str, status: str, oldest: int, newest: int
    ) -> SeriesState:
        ((minutes, milligrams, fetched),) = self._data.rows(
            f"SELECT minutes, milligrams_per_kwh, fetched_unix_milliseconds FROM intensities WHERE {_OF} AND start = ?",
            zone,
            series,
            newest,
        )
        end = newest + minutes * MILLISECONDS_PER_MINUTE
        return SeriesState(
            zone,
            series,
            IntensityKind(kind),
            dataset,
            IntensityStatus(status),
            oldest,
            end,
            milligrams,
            fetched,
        )

    def _intensity(self, zone: str, series: str, row: Sequence[Any]) -> GridIntensity:
        start, minutes, milligrams, status, dataset, kind = row
        try:
            return GridIntensity(
                zone,
                series,
                dataset,
                IntensityKind(kind),
                IntensityStatus(status),
                start,
                minutes,
                milligrams,
            )
        except ValueError as error:
            raise damaged(self._data.path, f"an intensity in it: {error}") from error


def _claim(
    connection: sqlite3.Connection,
    zone: str,
    series: str,
    status: IntensityStatus,
    dataset: str,
    kind: IntensityKind,
) -> None:
    """Bind a series to one kind, and each of its statuses to one dataset, for ever. Raises AdminError."""
    ours = BY_DATASET.get(dataset)
    if ours is not None and (series, kind, status) != (ours.series, ours.kind, ours.status):
        raise AdminError(
            f"{dataset} is {ours.status} {ours.kind} of the series {ours.series}, and of no other"
        )
    if any(one.series == series for one in BY_DATASET.values()) and ours is None:
        raise AdminError(
            f"the series {series} is made of ODRÉ's own datasets: give '{dataset}' a series of its own"
        )
    known = connection.execute(
        f"SELECT status, dataset, kind FROM intensity_series WHERE {_OF}", (zone, series)
    )
    for of, by, what in known.fetchall():
        if what != kind:
            raise AdminError(f"the series {series} of {zone} is {what}: {kind} is another series")
        if of == status and by != dataset:
            raise AdminError(
                f"{of} values of the series {series} of {zone} come from {by}: {dataset} is another series"
            )
    connection.execute(
        "INSERT INTO intensity_series VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (zone, series, status.value, dataset, kind.value),
    )


def _put(connection: sqlite3.Connection, one: GridIntensity, now: int) -> IntensityImport:
    start, end = one.start_unix_milliseconds, one.end_unix_milliseconds
    there = [
        row
        for row in connection.execute(
            f"SELECT {_VALUE}, fetched_unix_milliseconds FROM intensities WHERE {_OF} AND start > ? AND start < ?",
            (one.zone, one.series, start - _LONGEST, end),
        ).fetchall()
        if row[0] + row[1] * MILLISECONDS_PER_MINUTE > start
    ]
    if [row[:4] for row in there] == [(start, one.minutes, one.milligrams_per_kwh, one.status.value)]:
        return IntensityImport(same=1)
    if any(IntensityStatus(row[3]).rank > one.status.rank for row in there):
        return IntensityImport(outranked=1)
    for row in there:
        connection.execute(
            "INSERT INTO intensities_replaced (zone, series, start, minutes, milligrams_per_kwh, status,"
            " fetched_unix_milliseconds, dataset, replaced_unix_milliseconds, by_dataset)"
            " VALUES (?, ?, ?, ?, ?, ?, ?,"
            " (SELECT dataset FROM intensity_series WHERE zone = ? AND series = ? AND status = ?), ?, ?)",
            (one.zone, one.series, *row, one.zone, one.series, row[3], now, one.dataset),
        )
        connection.execute(
            f"DELETE FROM intensities WHERE {_OF} AND start = ?", (one.zone, one.series, row[0])
        )
    connection.execute(
        "INSERT INTO intensities VALUES (?, ?, ?, ?, ?, ?, ?)",
        (one.zone, one.series, start, one.minutes, one.milligrams_per_kwh, one.status.value, now),
    )
    return IntensityImport(replacing=1) if there else IntensityImport(new=1)
