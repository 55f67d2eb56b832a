# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores months and years of machines, marks months that are out of date, and deletes days.

Implements ports.MonthStore; in the writer's thread.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any, Final, TypeAlias

from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.meters import PsysCheck
from veilleuse.collector.model.months import NOTHING, WAIT_DAYS, HostPeriod, add_vectors, without_imputed
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.ports.months import Limits, MonthSource, StaleMonth, Units
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.month_rows import (
    host_period,
    kept_month,
    month_source,
    next_month,
    psys_seen,
    units,
)
from veilleuse.collector.store.sqlite.month_vectors import (
    DAY_TYPE_NUMBERS,
    ROW_ORDER,
    Layouts,
    packed,
    packed_sparse,
)
from veilleuse.collector.store.sqlite.retention import delete_unit, expire_population, expire_rest
from veilleuse.collector.wire_codec import number
from veilleuse.wire.vocabulary import Population

Changed: TypeAlias = tuple[HostId, tuple[int, int]]
"""(host, (grain DAY or WEEK, start)) of a changed day or week."""

_REMEMBERED: Final = 200_000
"""Cached marks, some 150 B each: two months of 100,000 machines."""
_OUT_OF_DATE: Final = "ON CONFLICT DO UPDATE SET stored = 2 WHERE stored = 1"
_MARK: Final = f"INSERT INTO stale_months (month, host_id) VALUES (?, ?) {_OUT_OF_DATE}"
_MARK_KEPT: Final = (
    "INSERT INTO stale_months (month, host_id) SELECT DISTINCT month, host_id FROM hosts JOIN host_months USING (host_id)"
    f" WHERE site = ? AND month BETWEEN ? AND ? AND days_gone = 0 {_OUT_OF_DATE}"
)


@lru_cache(maxsize=8192)
def months_of(grain: int, start: int) -> tuple[int, ...]:
    """Return day numbers of the 1st of the months of a day or week.

    A day also touches the month of the days before, until that month is stored for good. An evening ends the
    next morning, and later days tell how long a silence lasted.
    """
    days = (start, start + 6) if grain == Grain.WEEK else (start, start - WAIT_DAYS)
    return tuple(dict.fromkeys(date.fromordinal(max(day, 1)).replace(day=1).toordinal() for day in days))


class StaleMonths:
    """Marks months that are not stored, or no longer true.

    Every record passes here: a known mark costs no statement.
    """

    def __init__(self, database: Database) -> None:
        """One object serves all writers of a database."""
        self._database = database
        self._known: set[tuple[int, HostId]] = set()
        """Marked months whose stored rows, if any, are out of date."""
        database.on_forget(self._known.clear)

    def mark(self, changed: set[Changed]) -> None:
        """Mark the months of these days and weeks, in the open transaction."""
        self.mark_months({(month, host_id) for host_id, key in changed for month in months_of(*key)})

    def mark_months(self, months: set[tuple[int, HostId]]) -> None:
        """Mark months, given as (month, host)."""
        new = months - self._known
        if new:
            self._database.connection.executemany(_MARK, sorted(new))
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known |= new

    def clear(self, host_id: HostId, month: int) -> bool:
        """Clear the mark of a month that is stored for good; return whether it was stored under way."""
        self._known.discard((month, host_id))
        found = self._database.connection.execute(
            "DELETE FROM stale_months WHERE month = ? AND host_id = ? RETURNING stored", (month, host_id)
        ).fetchall()
        return found not in ([], [(0,)])

    def hold(self, host_id: HostId, month: int) -> None:
        """Keep the mark of a month under way, as stored and true."""
        self._known.discard((month, host_id))
        self._database.connection.execute(
            "UPDATE stale_months SET stored = 1 WHERE month = ? AND host_id = ?", (month, host_id)
        )


def mark_kept(connection: sqlite3.Connection, site: str, first_day: int, last_day: int) -> None:
    """Mark stored months of a site's machines over these days: its calendar has changed, and all their days
    are there.
    """
    first = date.fromordinal(max(1, first_day)).replace(day=1).toordinal()
    connection.execute(_MARK_KEPT, (site, first, last_day))


_DUE: Final = (
    "SELECT month, host_id FROM stale_months s WHERE month < ?"
    " AND NOT EXISTS (SELECT 1 FROM dirty WHERE dirty.host_id = s.host_id) ORDER BY month, host_id LIMIT ?"
)
_UNDER_WAY: Final = (
    "SELECT month, host_id FROM stale_months s JOIN hosts USING (host_id)"
    " WHERE (month, host_id) > (?, ?) AND stored <> 1 AND (population <> ? OR ?)"
    " AND NOT EXISTS (SELECT 1 FROM dirty WHERE dirty.host_id = s.host_id) ORDER BY month, host_id LIMIT ?"
)
_WRITE_MONTH: Final = (
    "INSERT INTO host_months (month, host_id, day_type, band, apportioned, days_gone, layout, sums)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_WRITE_GONE: Final = (
    "INSERT OR REPLACE INTO gone_days (host_id, month, day_type, band, apportioned, layout, sums)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_WRITE_YEAR: Final = (
    "INSERT OR REPLACE INTO host_years (year, host_id, day_type, band, apportioned, layout, sums)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_YEAR: Final = "SELECT host_id, ?, day_type, band, apportioned, layout, sums FROM host_years WHERE year = ? AND host_id = ?"
_MONTH_BEFORE: Final = (
    "SELECT month, days_gone FROM host_months WHERE host_id = ? AND month < ? ORDER BY month DESC LIMIT 1"
)
_LAST_DAY_BEFORE: Final = "SELECT max(start) FROM sums WHERE host_id = ? AND grain = ? AND start < ?"
_WHERE_UNITS_ARE: Final = ("sums", "derived", "derived_screens")
"""A deleted day has a row of derived values only when one of its hours was derived again."""
_OLDEST: Final = "SELECT min(oldest) FROM ({})".format(
    " UNION ALL ".join(
        f"SELECT min(start) AS oldest FROM {table} WHERE host_id = ?1 AND grain = ?2"
        for table in _WHERE_UNITS_ARE
    )
)
_STARTS: Final = " UNION ".join(
    f"SELECT start FROM {table} WHERE host_id = ?1 AND grain = ?2 AND start >= ?3 AND start < ?4"
    for table in _WHERE_UNITS_ARE
)
_MOST_MONTHS_BETWEEN: Final = 24


class SqliteRolls:
    """Reads and writes the tables of data_0010."""

    def __init__(self, database: Database, marks: StaleMonths) -> None:
        self._database = database
        self._marks = marks
        self._layouts = Layouts(database.connection)
        database.on_forget(self._layouts.forget)

    # --- months

    def due(self, before: date, limit: int) -> tuple[StaleMonth, ...]:
        """Return stale months that ended by then, of machines without dirty periods; oldest first."""
        rows = self._database.rows(_DUE, before.toordinal(), limit)
        return tuple(StaleMonth(HostId(host), date.fromordinal(month)) for month, host in rows)

    def under_way(self, after: StaleMonth, limit: int, *, with_servers: bool) -> tuple[StaleMonth, ...]:
        """Return months under way whose stored rows are out of date, or absent, in (month, host) order."""
        place = after.month.toordinal(), after.host_id
        rows = self._database.rows(_UNDER_WAY, *place, number(Population.SERVER), with_servers, limit)
        return tuple(StaleMonth(HostId(host), date.fromordinal(month)) for month, host in rows)

    def source(self, host: Host, site: Site, month: date) -> MonthSource:
        """Return the rows that the month is computed from, now."""
        return month_source(self._database.rows, self._layouts, host, site, month)

    def write_month(
        self, host_id: HostId, month: date, rows: Sequence[HostPeriod], *, is_under_way: bool = False
    ) -> None:
        """Replace a month and update its year. Clear its mark unless it is under way."""
        first = month.toordinal()
        with self._database.transaction() as connection:
            old = kept_month(self._database.rows, self._layouts, "host_months", host_id, first)
            if is_under_way:
                self._marks.hold(host_id, first)
            elif (self._marks.clear(host_id, first) or not old) and rows:
                self._mark_silence_before(host_id, month)
            state = self._days_gone(host_id, first)
            if state == 2:  # rows arrived late: the month is open again
                self._write_gone(
                    host_id, month, [row._replace(values=without_imputed(row.values)) for row in old]
                )
            self._replace_month(connection, host_id, month, old, rows, min(state, 1))

    def drop_mark(self, host_id: HostId, month: date) -> None:
        """Clear the mark of a machine that no longer exists."""
        with self._database.transaction():
            self._marks.clear(host_id, month.toordinal())

    def _replace_month(
        self,
        connection: sqlite3.Connection,
        host_id: HostId,
        month: date,
        old: Sequence[HostPeriod],
        new: Sequence[HostPeriod],
        days_gone: int,
    ) -> None:
        first, layout = month.toordinal(), self._layouts.present()
        connection.execute("DELETE FROM host_months WHERE host_id = ? AND month = ?", (host_id, first))
        connection.executemany(
            _WRITE_MONTH,
            [
                (first, host_id, *_key(row), row.apportioned, days_gone, layout, packed_sparse(row.values))
                for row in new
            ],
        )
        self._carry_year(connection, host_id, month.year, old, new)

    def _carry_year(
        self,
        connection: sqlite3.Connection,
        host_id: HostId,
        year: int,
        old: Sequence[HostPeriod],
        new: Sequence[HostPeriod],
    ) -> None:
        """Add new − old of a month to its year."""
        january = date(year, 1, 1)
        rows = {_of(row): row for row in self._year(host_id, january)}
        for sign, periods in ((-1, old), (1, new)):
            for period in periods:
                before = rows.get(_of(period))
                values = before.values if before is not None else NOTHING
                rows[_of(period)] = period._replace(
                    period_from=january,
                    values=add_vectors(
                        values, period.values if sign > 0 else [-value for value in period.values]
                    ),
                    apportioned=period.apportioned or (before is not None and before.apportioned),
                )
        connection.execute("DELETE FROM host_years WHERE year = ? AND host_id = ?", (year, host_id))
        layout = self._layouts.present()
        connection.executemany(
            _WRITE_YEAR,
            [
                (year, host_id, *_key(row), row.apportioned, layout, packed(row.values))
                for _, row in sorted(rows.items(), key=lambda item: ROW_ORDER[item[0]])
                if any(row.values)
            ],
        )

    def _year(self, host_id: HostId, january: date) -> list[HostPeriod]:
        rows = self._database.rows(_YEAR, january.toordinal(), january.year, host_id)
        return [host_period(row, self._layouts, sparse=False) for row in rows]

    def _days_gone(self, host_id: HostId, month: int) -> int:
        rows = self._database.rows(
            "SELECT max(days_gone) FROM host_months WHERE host_id = ? AND month = ?", host_id, month
        )
        if rows[0][0]:
            return int(rows[0][0])
        return len(
            self._database.rows(
                "SELECT 1 FROM gone_days WHERE host_id = ? AND month = ? LIMIT 1", host_id, month
            )
        )

    def _mark_silence_before(self, host_id: HostId, month: date) -> None:
        """Mark months after a silence: the last month lasted longer than was known, the months between were
        silent.
        """
        first = month.toordinal()
        before = self._database.rows(_MONTH_BEFORE, host_id, first)
        if not before or self._database.rows(_LAST_DAY_BEFORE, host_id, Grain.DAY, first)[0][0] == first - 1:
            return
        last, days_gone = date.fromordinal(before[0][0]), before[0][1]
        between: set[tuple[int, HostId]] = set()
        at = next_month(last)
        while at < month and len(between) < _MOST_MONTHS_BETWEEN:
            between.add((at.toordinal(), host_id))
            at = next_month(at)
        if not days_gone:
            between.add((last.toordinal(), host_id))
        self._marks.mark_months(between)

    # --- retention

    def expiring(self, host: Host, site: Site, limit: int, most_days: int) -> Units | None:
        """Return days and weeks that ended by `limit`, from the oldest on, at most `most_days` (≥ 7) days.

        None: one of their months is stale, or one of them waits to be derived.
        """
        day, monday = (
            self._database.rows(_OLDEST, host.host_id, grain)[0][0] for grain in (Grain.DAY, Grain.WEEK)
        )
        oldest = min((start for start in (day, monday) if start is not None), default=limit)
        limit = min(limit, oldest + most_days)
        spans = {Grain.DAY: (oldest, limit), Grain.WEEK: (oldest, limit - 6)}
        starts = [
            (grain, row[0])
            for grain, (first, end) in spans.items()
            for row in self._database.rows(_STARTS, host.host_id, grain, first, end)
        ]
        if not starts:
            return Units()
        if self._any_stale(host.host_id, starts) or self._any_dirty(host.host_id, spans):
            return None
        return units(self._database.rows, host, site, spans[Grain.DAY], spans[Grain.WEEK])

    def _any_stale(self, host_id: HostId, starts: Collection[tuple[Grain, int]]) -> bool:
        months = {month for grain, start in starts for month in months_of(grain, start)}
        return any(
            self._database.rows("SELECT 1 FROM stale_months WHERE month = ? AND host_id = ?", month, host_id)
            for month in months
        )

    def _any_dirty(self, host_id: HostId, spans: Mapping[Grain, tuple[int, int]]) -> bool:
        sql = "SELECT 1 FROM dirty WHERE host_id = ? AND grain = ? AND start >= ? AND start < ? LIMIT 1"
        return any(self._database.rows(sql, host_id, grain, *span) for grain, span in spans.items())

    def psys(self, host_id: HostId) -> PsysCheck:
        """Return the comparison of its platform counter with its battery's discharge."""
        return psys_seen(self._database.rows, host_id)

    def move(
        self,
        host_id: HostId,
        starts: Collection[tuple[Grain, int]],
        gone: Mapping[date, Sequence[HostPeriod]],
    ) -> None:
        """Delete these days and weeks, with their records, from every table; their months keep the sums as
        deleted.
        """
        with self._database.transaction() as connection:
            for month, rows in gone.items():
                first = month.toordinal()
                standing = {
                    _of(row): row
                    for row in kept_month(self._database.rows, self._layouts, "gone_days", host_id, first)
                }
                if not standing and self._days_gone(host_id, first) == 2:
                    raise AssertionError("days of a month that has none left: it was not made again")
                self._write_gone(host_id, month, [_summed(row, standing.get(_of(row))) for row in rows])
                connection.execute(
                    "UPDATE host_months SET days_gone = 1 WHERE month = ? AND host_id = ? AND days_gone = 0",
                    (first, host_id),
                )
            for grain, start in starts:
                delete_unit(connection, host_id, grain, start)

    def _write_gone(self, host_id: HostId, month: date, rows: Sequence[HostPeriod]) -> None:
        layout = self._layouts.present()
        self._database.connection.executemany(
            _WRITE_GONE,
            [
                (host_id, month.toordinal(), *_key(row), row.apportioned, layout, packed_sparse(row.values))
                for row in rows
            ],
        )

    def expire_rest(self, host_id: HostId, limits: Limits) -> int:
        """Delete some other rows older than the limits; returns 0 when none is left."""
        with self._database.transaction() as connection:
            done = expire_rest(connection, host_id, limits)
            return (
                done
                or self._close_months(connection, host_id)
                or self._expire_months(connection, host_id, limits)
            )

    def expire_population(self, population: Population, limits: Limits) -> int:
        """Delete some rows in the order of time: gaps of the population's machines, and readings of shared
        meters.
        """
        with self._database.transaction() as connection:
            return expire_population(connection, population, limits)

    def _close_months(self, connection: sqlite3.Connection, host_id: HostId) -> int:
        """Close months without days: the sums of their deleted days are stored once."""
        closed = 0
        for (first,) in self._database.rows(
            "SELECT DISTINCT month FROM gone_days WHERE host_id = ?", host_id
        ):
            month = date.fromordinal(first)
            end = next_month(month).toordinal()
            spans = ((Grain.DAY, first, end), (Grain.WEEK, first - 6, end))
            left = any(self._database.rows(f"{_STARTS} LIMIT 1", host_id, *span) for span in spans)
            stale = self._database.rows(
                "SELECT 1 FROM stale_months WHERE month = ? AND host_id = ?", first, host_id
            )
            if left or stale:
                continue
            connection.execute("DELETE FROM gone_days WHERE host_id = ? AND month = ?", (host_id, first))
            connection.execute(
                "UPDATE host_months SET days_gone = 2 WHERE month = ? AND host_id = ?", (first, host_id)
            )
            closed += 1
        return closed

    def _expire_months(self, connection: sqlite3.Connection, host_id: HostId, limits: Limits) -> int:
        for (first,) in self._database.rows(
            "SELECT DISTINCT month FROM host_months WHERE host_id = ? ORDER BY month", host_id
        ):
            month = date.fromordinal(first)
            is_kept = limits.kept_years is None or month.year in limits.kept_years
            is_old = next_month(month).toordinal() <= limits.months
            if (is_old and is_kept) or month.year in limits.closed_years:
                old = kept_month(self._database.rows, self._layouts, "host_months", host_id, first)
                self._replace_month(connection, host_id, month, old, (), 0)
                connection.execute("DELETE FROM gone_days WHERE host_id = ? AND month = ?", (host_id, first))
                return 1
        return 0

    def sweep(self) -> bool:
        """Remove deleted rows from the files, outside a transaction.

        Returns False while a reader needs the old state.
        """
        return self._database.checkpoint()


def _key(row: HostPeriod) -> tuple[int, int]:
    return DAY_TYPE_NUMBERS[row.day_type], number(row.band)


def _of(row: HostPeriod) -> Any:
    return row.day_type, row.band


def _summed(row: HostPeriod, standing: HostPeriod | None) -> HostPeriod:
    if standing is None:
        return row
    return row._replace(
        values=add_vectors(row.values, standing.values),
        apportioned=row.apportioned or standing.apportioned,
    )
