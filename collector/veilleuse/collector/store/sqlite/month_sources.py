# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Days and weeks of one machine, as rolling takes them: for the writer and for readers. Seeks by machine, then by key."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from veilleuse.collector.codec import BANDS, BOUNDARIES, POINT_KINDS, STATES, SUPPLIES, number
from veilleuse.collector.metering import PsysCheck
from veilleuse.collector.model import Grain, Host, HostId, Point, Site
from veilleuse.collector.ports.months import (
    AFTER_DAYS,
    CARRIED_COLUMNS,
    HISTORY_DAYS,
    Known,
    MonthSource,
    UnitEnergy,
    UnitPoint,
    Units,
    UnitSum,
)
from veilleuse.collector.store.sqlite.days import day_bounds
from veilleuse.collector.store.sqlite.vector_rows import DAY_TYPES, Layouts
from veilleuse.collector.vectors import HostPeriod, without_imputed
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Band, Population, State

Ask: TypeAlias = Callable[..., list[Any]]
"""(sql, *values) → rows."""

_GRAINS: Final = (Grain.DAY, Grain.WEEK)
_OF: Final = "host_id = ? AND grain = ? AND start >= ? AND start < ?"
_SUMS: Final = (
    "SELECT start, band, state, supply, milliseconds, coalesce(update_window_milliseconds, 0), "
    + ", ".join(f"coalesce({column}, 0)" for column in CARRIED_COLUMNS)
    + f" FROM sums WHERE {_OF} ORDER BY start, band, state, supply"
)
_POINTS: Final = (
    "SELECT p.start, p.band, p.state, p.supply, n.kind, n.domain, n.boundary, n.subject, p.energy_millijoules,"
    " p.covered_milliseconds, p.update_window_energy_millijoules"
    f" FROM (SELECT DISTINCT host_id AS h, grain AS g, start AS s FROM sums WHERE {_OF}) k"
    " CROSS JOIN point_sums p ON p.grain = k.g AND p.start = k.s AND p.host_id = k.h"
    " JOIN points n ON n.point_id = p.point_id AND n.subject = 'machine'"
    " ORDER BY p.start, p.band, p.state, p.supply, p.point_id"
)
_ENERGIES: Final = (
    "SELECT start, band, state, supply, method, milliseconds, energy_millijoules, uncertainty_millijoules"
    f" FROM {{table}} WHERE {_OF} ORDER BY start, band, state, supply, method"
)
_ON: Final = f"state IN ({number(State.ON_ACTIVE)}, {number(State.ON_IDLE)})"
_NIGHT_HOURS: Final = f"SELECT start, sum(milliseconds) FROM sums WHERE {_OF} AND band = {number(Band.NIGHT)} AND {_ON} GROUP BY start"
_KNOWN: Final = (
    f"SELECT start, band, sum(milliseconds) FILTER (WHERE state <> {number(State.UNKNOWN)}),"
    f" sum(milliseconds) FILTER (WHERE {_ON}) FROM sums WHERE {_OF} GROUP BY start, band"
)
_KNOWN_ENERGY: Final = (
    "SELECT start, band, sum(milliseconds), sum(energy_millijoules), sum(milliseconds) FILTER (WHERE {on}),"
    f" sum(energy_millijoules) FILTER (WHERE {{on}}) FROM derived WHERE {_OF} GROUP BY start, band"
).format(on=_ON)
_BOUNDS: Final = "SELECT min(start), max(start) FROM sums WHERE host_id = ? AND grain = ?"
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
    """What a month of a machine is made of."""
    first, end = month.toordinal(), next_month(month).toordinal()
    first_day, last_day = _bounds(ask, host, first)
    return MonthSource(
        host.host_id,
        month,
        units(ask, host, site, (first, end), (first - 6, end)),
        tuple(_known(ask, host, end)),
        first_day,
        last_day,
        psys_seen(ask, host.host_id),
        _gone(ask, layouts, host.host_id, first),
        kept_month(ask, layouts, "host_months", host.host_id, first),
    )


def units(ask: Ask, host: Host, site: Site, days: tuple[int, int], weeks: tuple[int, int]) -> Units:
    """Days with start in `days`, weeks with their Monday in `weeks`; both [first, end)."""
    ranges = [
        (host.host_id, grain, *span)
        for grain, span in zip(_GRAINS, (days, weeks), strict=True)
        if span[0] < span[1]
    ]
    return Units(
        tuple(_sum(values[1], row) for values in ranges for row in ask(_SUMS, *values)),
        tuple(_point(values[1], row) for values in ranges for row in ask(_POINTS, *values)),
        tuple(
            _energy(values[1], row)
            for values in ranges
            for row in ask(_ENERGIES.format(table="derived"), *values)
        ),
        tuple(
            _energy(values[1], row)
            for values in ranges
            for row in ask(_ENERGIES.format(table="derived_screens"), *values)
        ),
        _night_hours(ask, host, site, days) if host.population is Population.CLASSROOM else (),
    )


def kept_month(ask: Ask, layouts: Layouts, table: str, host_id: HostId, month: int) -> tuple[HostPeriod, ...]:
    """Of `host_months` or `gone_days`."""
    return tuple(
        host_period(row, layouts, sparse=True) for row in ask(_KEPT.format(table=table), host_id, month)
    )


def _gone(ask: Ask, layouts: Layouts, host_id: HostId, month: int) -> tuple[HostPeriod, ...]:
    """What its days that are gone had; all of them: what is kept of it, without what stands in for missing time."""
    if found := kept_month(ask, layouts, "gone_days", host_id, month):
        return found
    if not ask(_NONE_LEFT, host_id, month):
        return ()
    rows = kept_month(ask, layouts, "host_months", host_id, month)
    return tuple(row._replace(values=without_imputed(row.values)) for row in rows)


def host_period(row: Any, layouts: Layouts, *, sparse: bool) -> HostPeriod:
    """(host, period, day type, band, apportioned, layout, sums); the period as a day number."""
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
    """Over all its periods."""
    ((psys, discharge, milliseconds),) = ask(_PSYS, host_id)
    return PsysCheck(psys, discharge, milliseconds)


def next_month(month: date) -> date:
    """Its next 1st."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _bounds(ask: Ask, host: Host, month: int) -> tuple[int | None, int | None]:
    ((first, last),) = ask(_BOUNDS, host.host_id, Grain.DAY)
    if ask("SELECT 1 FROM host_months WHERE host_id = ? AND month < ? LIMIT 1", host.host_id, month):
        first = min(first or month, month - 1)  # its days may be gone
    return first, last


def _known(ask: Ask, host: Host, end: int) -> list[Known]:
    found: list[Known] = []
    for grain, stop in ((Grain.DAY, end + AFTER_DAYS), (Grain.WEEK, end)):
        values = (host.host_id, grain, end - HISTORY_DAYS, stop)
        energies = {row[:2]: row[2:] for row in ask(_KNOWN_ENERGY, *values)}
        for start, band, known, on in ask(_KNOWN, *values):
            derived, energy, on_derived, on_energy = energies.get((start, band), (0, 0, 0, 0))
            found.append(
                Known(
                    grain,
                    start,
                    BANDS[band],
                    known or 0,
                    derived,
                    energy,
                    on or 0,
                    on_derived or 0,
                    on_energy or 0,
                )
            )
    return found


def _night_hours(ask: Ask, host: Host, site: Site, days: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Up to noon after the last day."""
    zone = ZoneInfo(site.time_zone)
    start, stop = day_bounds(zone, days[0])[0], day_bounds(zone, days[1])[0] + 12 * MILLISECONDS_PER_HOUR
    return tuple(ask(_NIGHT_HOURS, host.host_id, Grain.HOUR, start, stop))


def _sum(grain: Grain, row: Any) -> UnitSum:
    start, band, state, supply, milliseconds, window, *carried = row
    return UnitSum(
        grain, start, BANDS[band], STATES[state], SUPPLIES[supply], milliseconds, window, tuple(carried)
    )


def _point(grain: Grain, row: Any) -> UnitPoint:
    start, band, state, supply, kind, domain, boundary, subject, *values = row
    point = _the_point(kind, domain, boundary, subject)
    return UnitPoint(grain, start, BANDS[band], STATES[state], SUPPLIES[supply], point, *values)


@lru_cache(maxsize=4096)
def _the_point(kind: int, domain: str, boundary: int, subject: str) -> Point:
    return Point(POINT_KINDS[kind], domain, BOUNDARIES[boundary], subject)


_METHODS: Final = {method.value: method for method in Method}


def _energy(grain: Grain, row: Any) -> UnitEnergy:
    start, band, state, supply, method, *values = row
    return UnitEnergy(grain, start, BANDS[band], STATES[state], SUPPLIES[supply], _METHODS[method], *values)
