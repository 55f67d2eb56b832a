# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Determines the day type of a site's civil day: open, school holiday, closed (pure).
docs/methodology.md §4.
"""

from __future__ import annotations

from datetime import date

from veilleuse.collector.calendars.school import SchoolHolidays
from veilleuse.collector.model.months import DayType
from veilleuse.wire.bands import Calendar


def is_open(calendar: Calendar, day: date) -> bool:
    """Return whether a civil day has open time."""
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
