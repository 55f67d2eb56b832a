# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A declaration → the calendar that machines are given: the weekly timetable, and dated closures for three years.

The closures of a calendar reach from last year to next year; the year turns on 1 October. So machines always know the holidays
of the next 15 months, a collector that runs changes the calendar of a site once a year and in time (agents use a new one
from the next 1st of a month, docs/calendars.md), and a machine that was off for long still sorts the days it missed. Decision 0028.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final

from veilleuse.collector.model.calendars import Declaration
from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar

_ALSACE_MOSELLE: Final = "57"
"""The library's name of Moselle; Alsace has the same two days more."""


def public_holidays(years: Iterable[int], *, alsace_moselle: bool = False) -> dict[date, str]:
    """Date → French name, in order. Alsace-Moselle adds Good Friday and 26 December."""
    from holidays.countries.france import France  # only now: it takes 20 MiB, and most processes never ask

    region = _ALSACE_MOSELLE if alsace_moselle else None
    found = France(years=list(years), subdiv=region, language="fr")  # type: ignore[no-untyped-call]  # the library's
    return dict(sorted(found.items()))


YEAR_TURNS_IN_MONTH: Final = 10
MAXIMUM_CLOSURE_DAYS: Final = 1_000
"""Some 11 kB of the answer to a Hello, which has 1 MiB."""


def calendar_year(today: date) -> int:
    """The year whose calendar is given out: from 1 October on it is the next one."""
    return today.year + (today.month >= YEAR_TURNS_IN_MONTH)


def first_day(today: date) -> date:
    """The next 1st of a month: from it on agents use a calendar that they are given today."""
    return date(today.year + today.month // 12, today.month % 12 + 1, 1)


def closure_names(declaration: Declaration, year: int) -> dict[date, str]:
    """Every closure of the years around `year` (one before, one after) with its name, in order; on open weekdays only."""
    first, last = date(year - 1, 1, 1), date(year + 1, 12, 31)
    names = {
        day: closure.name or "closed"
        for closure in declaration.closures
        for day in closure.days
        if first <= day <= last
    }
    if declaration.public_holidays:
        names |= public_holidays(range(year - 1, year + 2), alsace_moselle=declaration.alsace_moselle)
    weekdays = {span.iso_weekday for span in declaration.open_spans}
    return {day: name for day, name in sorted(names.items()) if day.isoweekday() in weekdays}


def compose(declaration: Declaration, time_zone: str, year: int) -> Calendar:
    """The calendar of a calendar year. Raises CalendarError on what no machine would take."""
    return Calendar(
        time_zone,
        declaration.open_spans,
        tuple(closure_names(declaration, year)),
        declaration.update_windows,
    )


def declared(calendar: Calendar) -> Declaration:
    """What the default timetable would have been declared as."""
    return Declaration(calendar.open_spans, calendar.update_windows)


def default_calendar(time_zone: str = DEFAULT_CALENDAR.time_zone) -> Calendar:
    """The default timetable in a time zone. Raises CalendarError on an unknown one."""
    return DEFAULT_CALENDAR._replace(time_zone=time_zone)
