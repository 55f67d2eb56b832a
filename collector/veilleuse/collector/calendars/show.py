# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Describes a calendar for readers: days, update windows, and the effects of a change (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.calendars.compose import closure_names
from veilleuse.collector.calendars.day_types import day_type
from veilleuse.collector.calendars.files import WEEKDAYS, span_text
from veilleuse.collector.calendars.school import SchoolHolidays
from veilleuse.collector.model.calendars import CalendarVersion, Closure, Declaration, in_force
from veilleuse.collector.model.months import DayType
from veilleuse.wire.bands import MINIMUM_WINDOW_PART_MINUTES, Calendar, OpenSpan, coarse_windows, day_segments
from veilleuse.wire.limits import HOUR_MILLISECONDS
from veilleuse.wire.units import MILLISECONDS_PER_MINUTE
from veilleuse.wire.vocabulary import Band, Population

_PLAIN_MONDAY: Final = date(2026, 2, 2)
"""A week in which no time zone known to us changes its clock."""


@dataclass(frozen=True, slots=True)
class DayView:
    """One civil day of a site."""

    day: date
    kind: DayType | None
    """None: the table of school holidays does not reach the day."""
    spans: tuple[OpenSpan, ...]
    why: str
    """Name of the closure or of the school holidays; empty on an ordinary day."""


@dataclass(frozen=True, slots=True)
class WindowView:
    """Update windows of one weekday inside one band, as machines report them."""

    iso_weekday: int
    closed_day: bool
    """True on a date with a closure; else an ordinary date."""
    band: Band
    inside_minutes: int
    outside_minutes: int
    """Minutes of that band on that date outside the windows."""
    workstation: str
    """Empty: workstations report the window. Otherwise the reason why not."""
    hourly: str
    """The same for machines that report hours."""


def year_of(
    versions: tuple[CalendarVersion, ...], school: SchoolHolidays | None, year: int
) -> Iterator[DayView]:
    """Yield every day of a civil year, by the calendar that classifies it on machines with a clock.

    `versions`: oldest first.
    """
    names: dict[int, dict[date, str]] = {}
    for offset in range((date(year + 1, 1, 1) - date(year, 1, 1)).days):
        day = date(year, 1, 1) + timedelta(days=offset)
        version = in_force(versions, day, Population.SERVER)
        key = version.from_day.toordinal()
        if key not in names:
            names[key] = {} if version.declaration is None else closure_names(version.declaration, year)
        yield _day(day, version.calendar, school, names[key])


def _day(day: date, calendar: Calendar, school: SchoolHolidays | None, names: dict[date, str]) -> DayView:
    kind = day_type(calendar, school, day)
    weekly = tuple(span for span in calendar.open_spans if span.iso_weekday == day.isoweekday())
    if kind is DayType.CLOSED:
        return DayView(day, kind, (), names.get(day, "closed") if weekly else "")
    return DayView(day, kind, weekly, (school.name_on(day) or "") if school is not None else "")


def windows_of(calendar: Calendar) -> Iterator[WindowView]:
    """Yield every weekday with update windows by band:
    on an ordinary date and, where that differs, on a closed one.
    """
    for weekday in sorted({span.iso_weekday for span in calendar.update_windows}):
        day = _PLAIN_MONDAY + timedelta(days=weekday - 1)
        ordinary = list(_windows(calendar._replace(closures=()), day, closed_day=False))
        yield from ordinary
        if any(span.iso_weekday == weekday for span in calendar.open_spans):
            yield from _windows(calendar._replace(closures=(day,)), day, closed_day=True)


def _windows(calendar: Calendar, day: date, *, closed_day: bool) -> Iterator[WindowView]:
    pieces = day_segments(calendar, day)
    reported_bands = {piece.band for piece in coarse_windows(pieces) if piece.in_window is not None}
    for band in sorted({piece.band for piece in pieces if piece.in_window}):
        lengths = {True: 0, False: 0}
        cut = False
        for piece in pieces:
            if piece.band is band:
                start, end = piece.start_unix_milliseconds, piece.end_unix_milliseconds
                lengths[bool(piece.in_window)] += (end - start) // MILLISECONDS_PER_MINUTE
                cut = cut or bool(piece.in_window and (start % HOUR_MILLISECONDS or end % HOUR_MILLISECONDS))
        yield WindowView(
            iso_weekday=day.isoweekday(),
            closed_day=closed_day,
            band=band,
            inside_minutes=lengths[True],
            outside_minutes=lengths[False],
            workstation="" if band in reported_bands else _why(band),
            hourly="its edges are not on full hours (UTC): the hours that they cut tell nothing"
            if cut
            else "",
        )


def _why(band: Band) -> str:
    if band is Band.OPEN:
        return "nothing is told inside opening hours: it would name a time of day"
    return (
        f"inside and outside must each be {MINIMUM_WINDOW_PART_MINUTES // 60} h of that band, or "
        "it would be a clock"
    )


def weekly_text(spans: tuple[OpenSpan, ...]) -> str:
    """Format weekly hours, such as `monday-friday 08:00-18:00, saturday 09:00-12:00`;
    equal neighbours are merged.
    """
    hours = {
        number: " ".join(span_text(span) for span in spans if span.iso_weekday == number)
        for number in range(1, 8)
    }
    parts: list[str] = []
    start = 1
    for number in range(1, 8):
        if number < 7 and hours[number + 1] == hours[start]:
            continue
        if hours[start]:
            first, last = WEEKDAYS[start - 1], WEEKDAYS[number - 1]
            parts.append(f"{first if first == last else f'{first}-{last}'} {hours[start]}")
        start = number + 1
    return ", ".join(parts) or "never"


def closure_text(closure: Closure) -> str:
    """Format the dates and name of a closure."""
    dates = f"{closure.first}" if closure.first == closure.last else f"{closure.first} to {closure.last}"
    return f"{dates} {closure.name}".rstrip()


def changes(old: Declaration, new: Declaration) -> list[str]:
    """Return one line for each difference; none when all is the same."""
    found = [
        f"{word}: {before} → {after}"
        for word, before, after in (
            ("open", weekly_text(old.open_spans), weekly_text(new.open_spans)),
            ("update windows", weekly_text(old.update_windows), weekly_text(new.update_windows)),
            ("public holidays", _public(old), _public(new)),
            ("school holidays", old.school_zone or "none", new.school_zone or "none"),
        )
        if before != after
    ]
    gone = [one for one in old.closures if one not in new.closures]
    come = [one for one in new.closures if one not in old.closures]
    found += [f"closure gone: {closure_text(one)}" for one in gone]
    return found + [f"closure: {closure_text(one)}" for one in come]


def _public(declaration: Declaration) -> str:
    if not declaration.public_holidays:
        return "none"
    return "FR with Alsace-Moselle" if declaration.alsace_moselle else "FR"
