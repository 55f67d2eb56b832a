# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Determines the day type (docs/methodology.md §4: open, school holiday, closed) of a site's civil day, and
each type's share of a week.

Pure. A workstation reports its open band by ISO week. A week with two day types is shared in proportion to
the open milliseconds of each, in integers, and is then `apportioned`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from veilleuse.collector.calendars.school import SchoolHolidays
from veilleuse.collector.model.months import DayType
from veilleuse.wire.bands import Calendar, day_segments
from veilleuse.wire.sums import apportion
from veilleuse.wire.vocabulary import Band


@dataclass(frozen=True, slots=True)
class WeekTypes:
    """Day types of the open time of an ISO week."""

    open_milliseconds: Mapping[DayType, int]
    """Types with open time; CLOSED alone, with 1, for a week without any:
    the calendar gives nothing else for such a record.
    """

    @property
    def apportioned(self) -> bool:
        """True when a value of the week has to be shared."""
        return len(self.open_milliseconds) > 1

    def share(self, value: int) -> dict[DayType, int]:
        """Divide `value` ≥ 0 by type; the parts sum exactly to it."""
        return dict(
            zip(
                self.open_milliseconds,
                apportion(value, list(self.open_milliseconds.values())),
                strict=True,
            )
        )


def open_milliseconds(calendar: Calendar, day: date) -> int:
    """Return the open time of a civil day, ms."""
    return sum(
        piece.end_unix_milliseconds - piece.start_unix_milliseconds
        for piece in day_segments(calendar, day)
        if piece.band is Band.OPEN
    )


def is_open(calendar: Calendar, day: date) -> bool:
    """Return whether a civil day has open time: equals `open_milliseconds` > 0, without cutting the day."""
    weekday = day.isoweekday()
    return day not in calendar.closures and any(span.iso_weekday == weekday for span in calendar.open_spans)


def day_type(calendar: Calendar, school: SchoolHolidays | None, day: date) -> DayType | None:
    """Return the day type; None: open, but the table of its zone does not reach that day.

    `school` None: the site has no school zone.
    """
    if not is_open(calendar, day):
        return DayType.CLOSED
    if school is None:
        return DayType.OPEN
    name = school.name_on(day)
    if name is None:
        return None
    return DayType.SCHOOL_HOLIDAY if name else DayType.OPEN


def week_types(
    calendar: Calendar, school: SchoolHolidays | None, iso_year: int, iso_week: int
) -> WeekTypes | None:
    """Return the day types of an ISO week's open band. Raises ValueError.

    None: the table of the zone does not reach one of its open days.
    """
    monday = date.fromisocalendar(iso_year, iso_week, 1)
    found: dict[DayType, int] = {}
    for day in (monday + timedelta(days=offset) for offset in range(7)):
        kind = day_type(calendar, school, day)
        if kind is None:
            return None
        if kind is not DayType.CLOSED:
            found[kind] = found.get(kind, 0) + open_milliseconds(calendar, day)
    return WeekTypes(found or {DayType.CLOSED: 1})
