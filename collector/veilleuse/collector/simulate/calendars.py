# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the sites' calendars over the simulated time,
as declared and renewed, and cuts their days into slots (pure).
"""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from typing import Final, NamedTuple

from veilleuse.collector.calendars.compose import YEAR_TURNS_IN_MONTH, calendar_year, compose, first_day
from veilleuse.collector.model.calendars import BEFORE_ALL, CalendarVersion, Declaration, SchoolZone, in_force
from veilleuse.collector.model.months import DayType
from veilleuse.collector.months.site_days import SiteDays
from veilleuse.collector.simulate.fleet import SimulationOrder
from veilleuse.collector.simulate.places import EntitySite
from veilleuse.wire.bands import Calendar, OpenSpan, day_segments
from veilleuse.wire.vocabulary import Band, Population

TIME_ZONE: Final = "Europe/Paris"
_HOUR: Final = 60
"""Minutes."""
SCHOOL: Final = Declaration(
    tuple(OpenSpan(day, 8 * _HOUR, (13 if day == 3 else 18) * _HOUR) for day in range(1, 6)),
    public_holidays=True,
    school_zone=SchoolZone.A,
)
"""A college: no lessons on Wednesday afternoon; Lyon is in zone A."""
OFFICE: Final = Declaration(
    tuple(OpenSpan(day, 7 * _HOUR + 30, 19 * _HOUR) for day in range(1, 6)), public_holidays=True
)


class Slot(NamedTuple):
    """A stretch of a civil day inside one band and one period of a record; Unix milliseconds."""

    start: int
    end: int
    band: Band
    period_start: int
    """Start of its clock period; of its day where records are daily."""


class Timetable:
    """Timetable of one place."""

    def __init__(self, order: SimulationOrder, place: EntitySite, period_milliseconds: int | None) -> None:
        """Take the place; `period_milliseconds`: length of a clock record,
        None for daily and weekly records.
        """
        self._declaration = SCHOOL if place.school else OFFICE
        self.versions = tuple(_versions(order, self._declaration))
        self._population = place.population
        self._days = SiteDays(self.versions, (), place.population)
        self._period = period_milliseconds
        self._slots: dict[date, tuple[Slot, ...]] = {}
        self._sha256: dict[date, bytes] = {}

    @property
    def has_clock(self) -> bool:
        """Return whether records have a clock."""
        return self._period is not None

    def day_type(self, day: date) -> DayType:
        """Return the day type that the collector will derive."""
        return self._days.of(day.toordinal()).day_type

    def slots(self, day: date) -> tuple[Slot, ...]:
        """Return all slots of a civil day."""
        found = self._slots.get(day)
        if found is None:
            found = self._slots[day] = tuple(self._cut(day))
        return found

    def sha256(self, day: date) -> bytes:
        """Return the SHA-256 of the calendar in force on a day; 32 bytes."""
        found = self._sha256.get(day)
        if found is None:
            text = self._calendar(day).to_json()
            found = self._sha256[day] = hashlib.sha256(text.encode()).digest()
        return found

    def _calendar(self, day: date) -> Calendar:
        return in_force(self.versions, day, self._population).calendar

    def _cut(self, day: date) -> list[Slot]:
        slots: list[Slot] = []
        pieces = day_segments(self._calendar(day), day)
        midnight = pieces[0].start_unix_milliseconds
        for piece in pieces:
            start, end = piece.start_unix_milliseconds, piece.end_unix_milliseconds
            while start < end:
                period = midnight if self._period is None else start - start % self._period
                stop = end if self._period is None else min(end, period + self._period)
                slots.append(Slot(start, stop, piece.band, period))
                start = stop
        return slots


def _versions(order: SimulationOrder, declaration: Declaration) -> list[CalendarVersion]:
    """Return the first calendar, and one from every 1 October: docs/decisions/0028."""
    year = calendar_year(order.first)
    versions = [CalendarVersion(BEFORE_ALL, compose(declaration, TIME_ZONE, year), declaration, year)]
    turn = date(order.first.year, YEAR_TURNS_IN_MONTH, 1)
    while turn < order.end:
        if turn > order.first:
            year = calendar_year(turn)
            calendar = compose(declaration, TIME_ZONE, year)
            versions.append(CalendarVersion(first_day(turn), calendar, declaration, year))
        turn = date(turn.year + 1, YEAR_TURNS_IN_MONTH, 1)
    return versions


def days(first: date, end: date) -> list[date]:
    """Return the days of [first, end)."""
    return [first + timedelta(days=offset) for offset in range((end - first).days)]


def period_of(population: Population, order: SimulationOrder, machines: int) -> int | None:
    """Return the length of a clock record, milliseconds; None for daily records.

    Servers report every 5 minutes while few: sums folded to hours are the same.
    """
    if population is Population.WORKSTATION:
        return None
    fine = population is Population.SERVER and machines * order.days <= FINE_MACHINE_DAYS
    return FINE_MILLISECONDS if fine else COARSE_MILLISECONDS


FINE_MACHINE_DAYS: Final = 40
"""Some 12,000 records."""
FINE_MILLISECONDS: Final = 300_000
COARSE_MILLISECONDS: Final = 3_600_000
