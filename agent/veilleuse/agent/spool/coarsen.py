# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Makes waiting rows as coarse as the population requires. Pure.

A machine measures before it is enrolled, and may be enrolled under a more private population than its own
file says. Its rows are then summed by hour, or by day and week, before they are numbered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeAlias
from zoneinfo import ZoneInfo

from veilleuse.agent.model import (
    CLOCK,
    Cell,
    CellKey,
    ClockPeriod,
    DatePeriod,
    Gap,
    Period,
    Record,
    WeekPeriod,
    body_from_json,
)
from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar, CalendarError
from veilleuse.wire.limits import HOUR_MILLISECONDS
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Band, Population

_NOT_ON_WORKSTATIONS = "network_rate_milliseconds"
_Periods: TypeAlias = Callable[[ClockPeriod, Band], Period]


def coarsen(bodies: Iterable[str], population: str, calendar: str | None) -> list[str]:
    """Return the rows in the grain of a classroom or a workstation; records of the same period are summed.

    Sums are exact. Days are those of the calendar (JSON; None = the built-in one). A record that crosses
    midnight belongs to the day in which it starts. A row that cannot be read stays as it is: the encoder
    quarantines it.
    """
    workstation = population != Population.CLASSROOM
    period_of = _day_or_week(ZoneInfo(_time_zone(calendar))) if workstation else _hour
    kept: list[str] = []
    sums: dict[tuple[Period, str, int], Record] = {}
    for body in bodies:
        if CLOCK not in body:
            kept.append(body)
            continue
        try:
            content = body_from_json(body)
        except ValueError:
            kept.append(body)
            continue
        if isinstance(content, Gap):
            kept.append((_without_clock(content) if workstation else content).to_json())
        else:
            _add(sums, content, period_of, workstation=workstation)
    return [*kept, *(record.to_json() for record in sums.values())]


def _hour(period: ClockPeriod, _: Band) -> Period:
    start = period.start_unix_milliseconds
    return ClockPeriod(start - start % HOUR_MILLISECONDS, HOUR_MILLISECONDS)


def _day_or_week(zone: ZoneInfo) -> _Periods:
    def period_of(period: ClockPeriod, band: Band) -> Period:
        day = datetime.fromtimestamp(period.start_unix_milliseconds / MILLISECONDS_PER_SECOND, zone).date()
        year, week, _ = day.isocalendar()
        return WeekPeriod(year, week) if band is Band.OPEN else DatePeriod(day)

    return period_of


def _time_zone(calendar: str | None) -> str:
    try:
        return (DEFAULT_CALENDAR if calendar is None else Calendar.from_json(calendar)).time_zone
    except CalendarError:
        return DEFAULT_CALENDAR.time_zone


def _without_clock(gap: Gap) -> Gap:
    """Return the gap with undated clock spans: they have no band, so no day or week."""
    spans = tuple((None if isinstance(period, ClockPeriod) else period, lost) for period, lost in gap.spans)
    return gap._replace(spans=spans)


def _add(
    sums: dict[tuple[Period, str, int], Record], record: Record, period_of: _Periods, *, workstation: bool
) -> None:
    if not isinstance(record.period, ClockPeriod):
        raise TypeError("only records with a clock period are summed")
    target = None
    for key, cell in record.cells.items():
        target = _target(sums, record, period_of(record.period, key[0]))
        _add_cell(target.cells, key, cell, workstation=workstation)
    if target is not None:  # of several periods, the time without a source counts in the last
        for reason, lost in record.gaps.items():
            target.gaps[reason] = target.gaps.get(reason, 0) + lost


def _target(sums: dict[tuple[Period, str, int], Record], record: Record, period: Period) -> Record:
    name = (period, record.calendar_sha256, record.idle_rule_version)
    return sums.setdefault(name, Record(*name, {}, {}))


def _add_cell(cells: dict[CellKey, Cell], key: CellKey, cell: Cell, *, workstation: bool) -> None:
    into = cells.setdefault(key, Cell())
    into.milliseconds += cell.milliseconds
    for point, energy in cell.energies.items():
        into.add_energy(point, *energy)
    for point, energy in cell.window_energies.items():
        into.add_window_energy(point, *energy)
    for name, value in cell.sums.items():
        into.add_sum(name, value)
    for name, bucket in cell.buckets.items():
        if not (workstation and name == _NOT_ON_WORKSTATIONS):
            for index, milliseconds in enumerate(bucket):
                into.add_bucket(name, index, milliseconds)
