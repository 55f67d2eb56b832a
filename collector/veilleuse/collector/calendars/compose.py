# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Composes the calendar for machines from a declaration: the weekly timetable, and dated closures for three
years.

Closures range from last year to next year; the calendar year changes on 1 October. So machines always have
the holidays of the next 15 months. A running collector changes a site's calendar once a year and in time.
Agents use a new one from the next 1st of a month (docs/calendars.md). A machine that was off for long can
still classify the days it missed. Decision 0028.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final

from veilleuse.collector.model.calendars import Declaration
from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar

_ALSACE_MOSELLE: Final = "57"
"""The library's code of Moselle; Alsace has the same two extra days."""


def public_holidays(years: Iterable[int], *, alsace_moselle: bool = False) -> dict[date, str]:
    """Return date → French name, in order. Alsace-Moselle adds Good Friday and 26 December."""
    from holidays.countries.france import France  # late: it takes 20 MiB, and most processes never need it

    region = _ALSACE_MOSELLE if alsace_moselle else None
    found = France(years=list(years), subdiv=region, language="fr")  # type: ignore[no-untyped-call]  # the library's
    return dict(sorted(found.items()))


YEAR_TURNS_IN_MONTH: Final = 10
MAXIMUM_CLOSURE_DAYS: Final = 1_000
"""Limit of closed days: some 11 kB of the answer to a Hello, which allows 1 MiB."""


def calendar_year(today: date) -> int:
    """Return the year of the calendar in use: from 1 October on, the next year."""
    return today.year + (today.month >= YEAR_TURNS_IN_MONTH)


def first_day(today: date) -> date:
    """Return the next 1st of a month: agents use a calendar received today from that day."""
    return date(today.year + today.month // 12, today.month % 12 + 1, 1)


def closure_names(declaration: Declaration, year: int) -> dict[date, str]:
    """Return every closure from one year before `year` to one after, with its name, in order;
    open weekdays only.
    """
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
    """Compose the calendar of a calendar year. Raises CalendarError for a calendar that no machine would
    accept.
    """
    return Calendar(
        time_zone,
        declaration.open_spans,
        tuple(closure_names(declaration, year)),
        declaration.update_windows,
    )


def declaration_of(calendar: Calendar) -> Declaration:
    """Return the declaration of the default timetable."""
    return Declaration(calendar.open_spans, calendar.update_windows)


def default_calendar(time_zone: str = DEFAULT_CALENDAR.time_zone) -> Calendar:
    """Return the default timetable in a time zone. Raises CalendarError for an unknown zone."""
    return DEFAULT_CALENDAR._replace(time_zone=time_zone)
