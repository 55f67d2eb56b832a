# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Holds the days of a site by its calendars: day type, and length of each band."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.calendars.day_types import day_type
from veilleuse.collector.calendars.school import SchoolHolidays, holidays_of
from veilleuse.collector.model.calendars import CalendarVersion, SchoolPeriod, SchoolZone, in_force
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.model.months import DayType
from veilleuse.wire.bands import Calendar, day_segments
from veilleuse.wire.sums import apportion
from veilleuse.wire.vocabulary import Band, Population

Part: TypeAlias = tuple[date, DayType]
"""(1st of a month, day type)."""

_KEPT_SITES: Final = 4_096
OUTSIDE: Final = date.min
"""Month of a day outside the requested period."""


class DayFacts(NamedTuple):
    """One civil day."""

    month: date
    """1st of its month."""
    day_type: DayType
    """OPEN too where the school zone's table does not reach the day: an import marks its month as stale."""
    milliseconds: dict[Band, int]
    """Length of each band by the calendar, ms; the sum is the civil day."""


@dataclass(frozen=True, slots=True)
class WeekSplit:
    """Division of an ISO week's open band between months and day types, by the calendar's open time."""

    parts: tuple[Part, ...]
    weights: tuple[int, ...]

    @property
    def is_shared(self) -> bool:
        """True with more than one part."""
        return len(self.parts) > 1

    def share(self, value: int) -> list[int]:
        """Divide `value` ≥ 0 between `parts`; the results sum exactly to it."""
        return apportion(value, self.weights)


@lru_cache(maxsize=65_536)
def _band_milliseconds(calendar: Calendar, day: date) -> dict[Band, int]:
    """Return the length of each band, ms; callers must not change it. Many sites share one calendar."""
    lengths: dict[Band, int] = {}
    for piece in day_segments(calendar, day):
        length = piece.end_unix_milliseconds - piece.start_unix_milliseconds
        lengths[piece.band] = lengths.get(piece.band, 0) + length
    return lengths


class SiteDays:
    """Days of one site and population. Caches; otherwise pure."""

    def __init__(
        self, versions: tuple[CalendarVersion, ...], imported: Sequence[SchoolPeriod], population: Population
    ) -> None:
        """Take the calendars of the site.

        `versions`: oldest first, not empty. `imported`: school holidays in addition to the shipped ones.
        """
        self._versions = versions
        self._imported = imported
        self.population = population
        self._days: dict[int, DayFacts] = {}
        self._weeks: dict[int, WeekSplit] = {}
        self._schools: dict[SchoolZone, SchoolHolidays] = {}
        self._window = (date.min, date.max)

    def within(self, first: date, end: date) -> SiteDays:
        """Return the same days, with days outside [first, end) in no month: for a stretch of partial
        months.
        """
        made = SiteDays(self._versions, self._imported, self.population)
        made._window = (first, end)
        return made

    def of(self, day: int) -> DayFacts:
        """Return a day by its day number."""
        found = self._days.get(day)
        if found is None:
            found = self._days[day] = self._look(date.fromordinal(day))
        return found

    def kind(self, day: date) -> DayType:
        """Return the day type alone, without cutting the day into bands."""
        version = in_force(self._versions, day, self.population)
        return day_type(version.calendar, self._school(version), day) or DayType.OPEN

    def week(self, monday: int) -> WeekSplit:
        """Return the division of a week.

        A week without open time belongs to its Monday, as closed: the calendar gives nothing else for such a
        record.
        """
        found = self._weeks.get(monday)
        if found is None:
            weights: dict[Part, int] = {}
            for facts in map(self.of, range(monday, monday + 7)):
                if length := facts.milliseconds.get(Band.OPEN, 0):
                    part = facts.month, facts.day_type
                    weights[part] = weights.get(part, 0) + length
            weights = weights or {(self.of(monday).month, DayType.CLOSED): 1}
            found = self._weeks[monday] = WeekSplit(tuple(weights), tuple(weights.values()))
        return found

    def _look(self, day: date) -> DayFacts:
        version = in_force(self._versions, day, self.population)
        lengths = _band_milliseconds(version.calendar, day)
        kind = self.kind(day)
        month = day.replace(day=1) if self._window[0] <= day < self._window[1] else OUTSIDE
        return DayFacts(month, kind, lengths)

    def _school(self, version: CalendarVersion) -> SchoolHolidays | None:
        zone = version.declaration.school_zone if version.declaration else None
        if zone is None:
            return None
        if zone not in self._schools:
            self._schools[zone] = holidays_of(zone, self._imported)
        return self._schools[zone]


class SiteCalendars:
    """Days of every site, by the current calendars. Call `look_again` before each piece of work;
    unchanged days stay cached.
    """

    def __init__(
        self,
        versions: Callable[[Site], tuple[CalendarVersion, ...]],
        school_periods: Callable[[], tuple[SchoolPeriod, ...]],
    ) -> None:
        self._versions = versions
        self._school_periods = school_periods
        self._kept: dict[tuple[str, Population], tuple[object, SiteDays]] = {}
        self._seen: dict[str, tuple[CalendarVersion, ...]] = {}
        self._periods: tuple[SchoolPeriod, ...] | None = None

    def discard_declarations(self) -> None:
        """Discard the declarations that were read: they may have changed."""
        self._seen.clear()
        self._periods = None

    def days(self, site: Site, population: Population) -> SiteDays:
        """Return the days of a site and population. Raises StoreDamaged."""
        if self._periods is None:
            self._periods = self._school_periods()
        if site.site not in self._seen:
            self._seen[site.site] = self._versions(site)
        said = (self._seen[site.site], self._periods)
        kept = self._kept.get((site.site, population))
        if kept is None or kept[0] != said:
            if len(self._kept) >= _KEPT_SITES:
                self._kept.clear()
            kept = self._kept[site.site, population] = (said, SiteDays(*said, population))
        return kept[1]
