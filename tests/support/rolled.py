# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Roll up the days of machines to months through the real store, for the tests and benches of months."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from tests.support.filled import RAPL, Filled, cell, civil, clock, week
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.model.records import HostId
from veilleuse.collector.months.retention import Retention
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.months.worker import MonthWorker
from veilleuse.collector.settings import RetentionSettings as Kept
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

HOUR = 3_600_000
ZONE = DEFAULT_CALENDAR.time_zone


def site_calendars(store: SqliteStore) -> SiteCalendars:
    """Return the site calendars that a store declares."""
    return SiteCalendars(store.calendars.versions, store.calendars.school_periods)


def roll(filled: Filled, today: date) -> int:
    """Store every month that ended by the day `today`; return their number."""
    return month_worker(filled, today).drain()


def roll_under_way(filled: Filled, today: date) -> int:
    """Store every month under way on the day `today` whose rows are not true; return their number."""
    worker, done = month_worker(filled, today), 0
    while count := worker.run_slice_under_way():
        done += count
    return done


def month_worker(filled: Filled, today: date, clock: Callable[[], float] = time.monotonic) -> MonthWorker:
    """Return the worker that stores months on the day `today`; `clock`: seconds."""
    store = filled.store
    return MonthWorker(
        filled.derive_worker._writer,
        store.rolls,
        store.derive,
        store.registry,
        site_calendars(store),
        today=lambda: today,
        clock=clock,
    )


def retention(
    filled: Filled, kept: Kept | None = None, closed_years: frozenset[int] = frozenset()
) -> Retention:
    """Return the retention task over a store, with settings `kept` and these closed years."""
    store = filled.store
    return Retention(
        filled.derive_worker._writer,
        store.rolls,
        store.registry,
        site_calendars(store),
        kept or Kept(),
        closed_years=lambda: closed_years,
    )


def workstation(filled: Filled, site: str = "lyon") -> HostId:
    """Add a tower in the population of workstations; return its number."""
    return filled.add_host(Population.WORKSTATION, DeviceClass.TOWER, site=site)


def days_of(first: date, end: date) -> Iterator[date]:
    """Yield the days of [first, end)."""
    return (first + timedelta(days=offset) for offset in range((end - first).days))


def _day_cells(day: date, watts: int, night_on: bool) -> list[Any]:
    """Return cells by the default timetable: Monday to Friday open from 08:00 to 18:00, every night 8 h."""
    closed = (6 if day.isoweekday() <= 5 else 16) * HOUR
    night = 8 * HOUR + _change(day)
    state = State.ON_IDLE if night_on else State.OFF
    return [
        cell(State.OFF, closed, Band.CLOSED),
        cell(state, night, Band.NIGHT, energy_millijoules=watts * night if night_on else None),
    ]


def _change(day: date) -> int:
    """Return the milliseconds that a clock change adds to the night (negative: removes from it)."""
    length = day_start_unix_milliseconds(day + timedelta(days=1), ZONE) - day_start_unix_milliseconds(
        day, ZONE
    )
    return length - 24 * HOUR


def workstation_days(
    filled: Filled,
    host_id: HostId,
    first: date,
    end: date,
    *,
    without: Sequence[date] = (),
    watts: int = 20,
    night_on: bool = False,
) -> None:
    """Push date records of [first, end) except `without`, and the records of weeks inside [first, end)."""
    records: list[tuple[Any, list[Any]]] = []
    for day in days_of(first, end):
        if day not in without:
            records.append((civil(day), _day_cells(day, watts, night_on)))
        monday = day - timedelta(days=6)
        if day.isoweekday() == 7 and monday >= first:
            seen = [one for one in days_of(monday, monday + timedelta(days=5)) if one not in without]
            if seen:
                active = cell(
                    State.ON_ACTIVE, 7 * HOUR * len(seen), energy_millijoules=watts * 7 * HOUR * len(seen)
                )
                off = cell(State.OFF, 3 * HOUR * len(seen), supply=Supply.AC)
                records.append((week(monday), [active, off]))
    filled.push(host_id, records, RAPL)


def server_day(
    filled: Filled,
    host_id: HostId,
    day: date,
    *,
    hours: Sequence[int] = range(24),
    watts: int = 200,
    point: Any = RAPL,
) -> None:
    """Push clock records of one hour each, in the bands of the default timetable."""
    midnight = day_start_unix_milliseconds(day, ZONE)
    records = []
    for hour in hours:
        band = Band.NIGHT if hour < 6 or hour >= 22 else Band.CLOSED
        if day.isoweekday() <= 5 and 8 <= hour < 18:
            band = Band.OPEN
        at = cell(State.ON_ACTIVE, HOUR, band, energy_millijoules=watts * HOUR)
        records.append((clock(midnight + hour * HOUR, HOUR), [at]))
    filled.push(host_id, records, point)
