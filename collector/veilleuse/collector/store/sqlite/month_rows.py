# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads days and weeks of one machine for its months, for the writer and for readers.

Key lookups by machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import day_bounds
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.meters import PsysCheck
from veilleuse.collector.model.months import HostPeriod, without_imputed
from veilleuse.collector.model.records import Grain, HostId, Point
from veilleuse.collector.model.sums import ON_STATES
from veilleuse.collector.ports.months import (
    AFTER_DAYS,
    CARRIED_COLUMNS,
    HISTORY_DAYS,
    KeptRows,
    KnownBand,
    MonthSource,
    OldestKept,
    StaleMonth,
    UnitEnergy,
    UnitPoint,
    Units,
    UnitSum,
)
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.month_vectors import DAY_TYPES, Layouts
from veilleuse.collector.wire_codec import (
    BANDS,
    BOUNDARIES,
    POINT_KINDS,
    POPULATIONS,
    STATES,
    SUPPLIES,
    number,
)
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Band, Population, State

_Row = TypeVar("_Row")
Ask: TypeAlias = Callable[..., list[Any]]
"""Runs (sql, *values) and returns the rows."""

_GRAINS: Final = (Grain.DAY, Grain.WEEK)
_STEP_DAYS: Final = {Grain.DAY: 1, Grain.WEEK: 7}
_UNITS: Final = (
    "WITH RECURSIVE units (at) AS (SELECT ?3 WHERE ?3 < ?4 UNION ALL SELECT at + ?5 FROM units WHERE at + ?5 < ?4)"
    " SELECT {columns} FROM units CROSS JOIN {table} t ON t.grain = ?2 AND t.start = at AND t.host_id = ?1"
)
"""Reads days or weeks by the table's key, unordered: two thirds of the time by the index, which seeks every
row.
"""
_SUMS: Final = _UNITS.format(
    table="sums",
    columns="start, band, state, supply, milliseconds, coalesce(update_window_milliseconds, 0), "
    + ", ".join(f"coalesce({column}, 0)" for column in CARRIED_COLUMNS),
)
_POINTS: Final = (
    _UNITS.format(
        table="point_sums",
        columns="start, band, state, supply, n.kind, domain, boundary, subject, energy_millijoules, covered_milliseconds,"
        " update_window_energy_millijoules",
    )
    + " JOIN points n ON n.point_id = t.point_id AND subject = 'machine'"
)
_ENERGY_COLUMNS: Final = (
    "start, band, state, supply, method, milliseconds, energy_millijoules, uncertainty_millijoules"
)
_ENERGIES: Final = _UNITS.format(table="derived", columns=_ENERGY_COLUMNS)
_SCREENS: Final = _UNITS.format(table="derived_screens", columns=_ENERGY_COLUMNS)
_ON: Final = f"state IN ({number(State.ON_ACTIVE)}, {number(State.ON_IDLE)})"
_NIGHT_HOURS: Final = (
    "SELECT start, sum(milliseconds) FROM sums WHERE host_id = ? AND grain = ? AND start >= ? AND start < ?"
    f" AND band = {number(Band.NIGHT)} AND {_ON} GROUP BY start"
)
_KNOWN: Final = (
    _UNITS.format(
        table="sums",
        columns=f"start, band, sum(milliseconds) FILTER (WHERE state <> {number(State.UNKNOWN)}),"
        f" sum(milliseconds) FILTER (WHERE {_ON})",
    )
    + " GROUP BY start, band"
)
_KNOWN_ENERGY: Final = (
    _UNITS.format(
        table="derived",
        columns="start, band, sum(milliseconds), sum(energy_millijoules),"
        f" sum(milliseconds) FILTER (WHERE {_ON}), sum(energy_millijoules) FILTER (WHERE {_ON}),"
        f" sum(milliseconds) FILTER (WHERE state = {number(State.UNKNOWN)})",
    )
    + " GROUP BY start, band"
)
_BOUNDS: Final = (
    "SELECT (SELECT min(start) FROM sums WHERE host_id = ?1 AND grain = ?2),"
    " (SELECT max(start) FROM sums WHERE host_id = ?1 AND grain = ?2)"
)
"""Two statements of one key lookup each; one statement for both would read all days of the machine."""
_PSYS: Final = (
    "SELECT coalesce(sum(psys_millijoules), 0), coalesce(sum(discharge_millijoules), 0), coalesce(sum(milliseconds), 0)"
    " FROM psys_checks WHERE host_id = ?"
)
_KEPT: Final = (
    "SELECT host_id, month, day_type, band, apportioned, layout, sums FROM {table} WHERE host_id = ? AND month = ?"
    " ORDER BY day_type, band"
)
_NONE_LEFT: Final = "SELECT 1 FROM host_months WHERE host_id = ? AND month = ? AND days_gone = 2 LIMIT 1"


def month_source(ask: Ask, layouts: Layouts, host: Host, site: Site, month: date) -> MonthSource:
    """Return the rows that a month of a machine is computed from."""
    first, end = month.toordinal(), next_month(month).toordinal()
    first_day, last_day = _bounds(ask, host, first)
    days, weeks = (first, end), (first - 6, end)
    own = units(ask, host, site, days, weeks)
    return MonthSource(
        host.host_id,
        month,
        own,
        (*_known_around(ask, host, days, weeks), *_known_of(own)),
        first_day,
        last_day,
        psys_seen(ask, host.host_id),
        _gone(ask, layouts, host.host_id, first),
        kept_month(ask, layouts, "host_months", host.host_id, first),
    )


def units(ask: Ask, host: Host, site: Site, days: tuple[int, int], weeks: tuple[int, int]) -> Units:
    """Return days with start in `days` and weeks with their Monday in `weeks`; both are [first, end)."""
    spans = tuple(zip(_GRAINS, (days, weeks), strict=True))

    def rows(sql: str, made: Callable[[Grain, Any], _Row]) -> tuple[_Row, ...]:
        return tuple([made(grain, row) for grain, span in spans for row in _of(ask, sql, host, grain, *span)])

    return Units(
        rows(_SUMS, _sum),
        rows(_POINTS, _point),
        rows(_ENERGIES, _energy),
        rows(_SCREENS, _energy),
        _night_hours(ask, host, site, days) if host.population is Population.CLASSROOM else (),
    )


def _of(ask: Ask, sql: str, host: Host, grain: Grain, first: int, end: int) -> list[Any]:
    """Return rows of days or weeks with start in [first, end)."""
    if grain is Grain.WEEK:
        first += (1 - first) % 7  # the next Monday
    return ask(sql, host.host_id, grain, first, end, _STEP_DAYS[grain])


def kept_month(ask: Ask, layouts: Layouts, table: str, host_id: HostId, month: int) -> tuple[HostPeriod, ...]:
    """Return a month's rows of `host_months` or `gone_days`."""
    return tuple(
        host_period(row, layouts, sparse=True) for row in ask(_KEPT.format(table=table), host_id, month)
    )


def _gone(ask: Ask, layouts: Layouts, host_id: HostId, month: int) -> tuple[HostPeriod, ...]:
    """Return the sums of deleted days; when all are deleted, the stored month without imputed time."""
    if found := kept_month(ask, layouts, "gone_days", host_id, month):
        return found
    if not ask(_NONE_LEFT, host_id, month):
        return ()
    rows = kept_month(ask, layouts, "host_months", host_id, month)
    return tuple(row._replace(values=without_imputed(row.values)) for row in rows)


def host_period(row: Any, layouts: Layouts, *, sparse: bool) -> HostPeriod:
    """Build a HostPeriod from (host, period, day type, band, apportioned, layout, sums); the period is a day
    number.
    """
    host_id, period, kind, band, apportioned, layout, blob = row
    unpack = layouts.unpack(layout, sparse=sparse)
    return HostPeriod(
        HostId(host_id),
        date.fromordinal(period),
        DAY_TYPES[kind],
        BANDS[band],
        unpack(blob),
        bool(apportioned),
    )


def psys_seen(ask: Ask, host_id: HostId) -> PsysCheck:
    """Return the check over all periods of a host."""
    ((psys, discharge, milliseconds),) = ask(_PSYS, host_id)
    return PsysCheck(psys, discharge, milliseconds)


def next_month(month: date) -> date:
    """Return the 1st of the next month."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _bounds(ask: Ask, host: Host, month: int) -> tuple[int | None, int | None]:
    ((first, last),) = ask(_BOUNDS, host.host_id, Grain.DAY)
    if ask("SELECT 1 FROM host_months WHERE host_id = ? AND month < ? LIMIT 1", host.host_id, month):
        first = min(first or month, month - 1)  # its days may be deleted
    return first, last


def _known_around(ask: Ask, host: Host, days: tuple[int, int], weeks: tuple[int, int]) -> Iterator[KnownBand]:
    """Yield the known bands of days and weeks around the month."""
    (_, end), since = days, days[1] - HISTORY_DAYS
    for grain, first, stop in (
        (Grain.DAY, since, days[0]),
        (Grain.DAY, end, end + AFTER_DAYS),
        (Grain.WEEK, since, weeks[0]),
    ):
        energies = {row[:2]: row[2:] for row in _of(ask, _KNOWN_ENERGY, host, grain, first, stop)}
        for start, band, known, on in _of(ask, _KNOWN, host, grain, first, stop):
            derived, energy, on_derived, on_energy, unknown = energies.get((start, band), (0, 0, 0, 0, 0))
            yield KnownBand(
                grain,
                start,
                BANDS[band],
                (known or 0) + (unknown or 0),
                derived,
                energy,
                on or 0,
                on_derived or 0,
                on_energy or 0,
            )


def _known_of(own: Units) -> Iterator[KnownBand]:
    """Yield the known bands of the month's own days and weeks."""
    found: dict[tuple[Grain, int, Band], list[int]] = {}
    for one in own.sums:
        sums = found.setdefault(one[:3], [0] * 6)
        if one.state is not State.UNKNOWN:
            sums[0] += one.milliseconds
        if one.state in ON_STATES:
            sums[3] += one.milliseconds
    for energy in own.energies:
        if energy[:3] in found:
            sums = found[energy[:3]]
            sums[1] += energy.milliseconds
            sums[2] += energy.energy_millijoules
            if energy.state is State.UNKNOWN:
                sums[0] += energy.milliseconds
            if energy.state in ON_STATES:
                sums[4] += energy.milliseconds
                sums[5] += energy.energy_millijoules
    return (KnownBand(*key, *sums) for key, sums in found.items())


def _night_hours(ask: Ask, host: Host, site: Site, days: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Return the night hours up to noon after the last day."""
    zone = ZoneInfo(site.time_zone)
    start, stop = day_bounds(zone, days[0])[0], day_bounds(zone, days[1])[0] + 12 * MILLISECONDS_PER_HOUR
    return tuple(ask(_NIGHT_HOURS, host.host_id, Grain.HOUR, start, stop))


def _sum(grain: Grain, row: Any) -> UnitSum:
    start, band, state, supply, milliseconds, window = row[:6]
    return UnitSum(grain, start, BANDS[band], STATES[state], SUPPLIES[supply], milliseconds, window, row[6:])


def _point(grain: Grain, row: Any) -> UnitPoint:
    start, band, state, supply = row[:4]
    point = _the_point(*row[4:8])
    return UnitPoint(grain, start, BANDS[band], STATES[state], SUPPLIES[supply], point, *row[8:])


@lru_cache(maxsize=4096)
def _the_point(kind: int, domain: str, boundary: int, subject: str) -> Point:
    return Point(POINT_KINDS[kind], domain, BOUNDARIES[boundary], subject)


_METHODS: Final = {method.value: method for method in Method}


def _energy(grain: Grain, row: Any) -> UnitEnergy:
    start, band, state, supply, method = row[:5]
    return UnitEnergy(grain, start, BANDS[band], STATES[state], SUPPLIES[supply], _METHODS[method], *row[5:])


_PAGE: Final = "host_id > ? AND host_id <= ?"
_YEARS: Final = (
    f"SELECT host_id, day_type, band, apportioned, layout, sums FROM host_years WHERE year = ? AND {_PAGE}"
    " ORDER BY host_id, day_type, band"
)
_MONTHS: Final = (
    "SELECT host_id, day_type, band, apportioned, layout, sums FROM host_months"
    f" WHERE month = ? AND {_PAGE} ORDER BY host_id, day_type, band"
)
_STALE: Final = (
    f"SELECT host_id FROM stale_months WHERE month = ? AND {_PAGE} AND stored <> 1 ORDER BY host_id"
)
_KEPT_PERIODS: Final = (
    "SELECT host_id, day_type, band, apportioned, layout, sums FROM host_months"
    " WHERE month = ? AND host_id = ? ORDER BY day_type, band"
)
_OLDEST_UNIT: Final = (
    "SELECT min(o) FROM (SELECT (SELECT min(start) FROM sums s WHERE s.host_id = h.host_id AND s.grain = ?) AS o"
    " FROM hosts h WHERE population = ?)"
)
_OLDEST_MONTH: Final = (
    "SELECT min(o) FROM (SELECT (SELECT min(month) FROM host_months m WHERE m.host_id = h.host_id) AS o"
    " FROM hosts h WHERE population = ?)"
)
_LATE: Final = (
    "SELECT count(*) FROM stale_months JOIN hosts USING (host_id) WHERE population = ? AND month < ?"
)


def _number_of(population: Population) -> int:
    return next(key for key, word in POPULATIONS.items() if word is population)


def of_population(population: Population | None) -> str:
    """Return the SQL condition that keeps the hosts of a population; empty for all."""
    if population is None:
        return ""
    number = _number_of(population)
    return f" AND host_id IN (SELECT host_id FROM hosts WHERE population = {number})"


class PeriodRows:
    """Reads kept periods on the connection of one thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._layouts = Layouts(database.connection)

    def kept(
        self,
        years: Sequence[int],
        months: Sequence[date],
        after: HostId,
        upto: HostId,
        population: Population | None = None,
    ) -> KeptRows:
        """See ports.MonthReader. One read transaction, ended on return."""
        of_years, of_months, stale_ones = (
            sql.replace(_PAGE, _PAGE + of_population(population)) for sql in (_YEARS, _MONTHS, _STALE)
        )
        with self._one_state():
            year_rows = [
                row
                for year in years
                for row in self._periods(date(year, 1, 1), of_years, year, after, upto, sparse=False)
            ]
            month_rows = [
                row
                for month in months
                for row in self._periods(month, of_months, month.toordinal(), after, upto, sparse=True)
            ]
            every = [date(year, month, 1) for year in years for month in range(1, 13)]
            stale = [
                StaleMonth(HostId(host_id), month)
                for month in (*every, *months)
                for (host_id,) in self._database.rows(stale_ones, month.toordinal(), after, upto)
            ]
            kept = [
                row
                for host_id, month in stale
                for row in self._periods(month, _KEPT_PERIODS, month.toordinal(), host_id, sparse=True)
            ]
        return KeptRows(year_rows, month_rows, frozenset(stale), kept)

    def _periods(self, first: date, sql: str, *values: Any, sparse: bool) -> Iterator[HostPeriod]:
        """Yield rows. A year over 10,000 machines spends its time in this loop: keep it minimal."""
        unpack: dict[int, Any] = {}
        for host_id, kind, band, apportioned, layout, blob in self._database.rows(sql, *values):
            if layout not in unpack:
                unpack[layout] = self._layouts.unpack(layout, sparse=sparse)
            yield HostPeriod(
                host_id, first, DAY_TYPES[kind], BANDS[band], unpack[layout](blob), apportioned == 1
            )

    def month_source(self, host: Host, site: Site, month: date) -> MonthSource:
        """Return the rows that a month of a machine is computed from, as one snapshot."""
        with self._one_state():
            return month_source(self._database.rows, self._layouts, host, site, month)

    def oldest(self, population: Population, ended_by: date) -> OldestKept:
        """Return the age of the oldest rows of a population."""
        number = _number_of(population)
        return OldestKept(
            self._database.rows(_OLDEST_UNIT, Grain.DAY, number)[0][0],
            self._database.rows(_OLDEST_UNIT, Grain.WEEK, number)[0][0],
            self._database.rows(_OLDEST_MONTH, number)[0][0],
            self._database.rows(_OLDEST_UNIT, Grain.HOUR, number)[0][0],
            self._database.rows(_LATE, number, ended_by.toordinal())[0][0],
        )

    @contextmanager
    def _one_state(self) -> Iterator[None]:
        with self._database.translated():
            self._database.connection.execute("BEGIN")
            try:
                yield
            finally:
                self._database.connection.execute("COMMIT")
