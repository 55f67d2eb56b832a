# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines an operator's declarations of a site's days, and the resulting calendars.
Below the store and the calendars.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Final

from veilleuse.wire.bands import Calendar, CalendarError, OpenSpan
from veilleuse.wire.vocabulary import Population

BEFORE_ALL: Final = date.min
"""First day of a site's first calendar."""


class SchoolZone(StrEnum):
    """Zones of the French school holidays; Lyon is in A."""

    A = "A"
    B = "B"
    C = "C"


@dataclass(frozen=True, slots=True)
class Closure:
    """Closed dates, both included."""

    first: date
    last: date
    name: str = ""

    @property
    def days(self) -> Iterator[date]:
        """Return each date."""
        return (self.first + timedelta(days=offset) for offset in range((self.last - self.first).days + 1))


@dataclass(frozen=True, slots=True)
class Declaration:
    """Declared calendar of a site, from `calendar import`."""

    open_spans: tuple[OpenSpan, ...]
    """Sorted, as veilleuse.wire.bands.Calendar requires."""
    update_windows: tuple[OpenSpan, ...] = ()
    """Sorted likewise."""
    closures: tuple[Closure, ...] = ()
    """By first day; may overlap."""
    public_holidays: bool = False
    """True: French public holidays are closures."""
    alsace_moselle: bool = False
    """True: Good Friday and 26 December too."""
    school_zone: SchoolZone | None = None

    def to_json(self) -> str:
        """Serialise to one line; the same text for the same declaration."""
        return json.dumps(
            {
                "open_spans": self.open_spans,
                "update_windows": self.update_windows,
                "closures": [
                    [one.first.isoformat(), one.last.isoformat(), one.name] for one in self.closures
                ],
                "public_holidays": self.public_holidays,
                "alsace_moselle": self.alsace_moselle,
                "school_zone": self.school_zone,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Declaration:
        """Parse the result of `to_json`. Raises CalendarError."""
        try:
            raw: Any = json.loads(text)
            zone = raw["school_zone"]
            return cls(
                tuple(OpenSpan(*map(int, span)) for span in raw["open_spans"]),
                tuple(OpenSpan(*map(int, span)) for span in raw["update_windows"]),
                tuple(
                    Closure(date.fromisoformat(first), date.fromisoformat(last), str(name))
                    for first, last, name in raw["closures"]
                ),
                bool(raw["public_holidays"]),
                bool(raw["alsace_moselle"]),
                None if zone is None else SchoolZone(zone),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CalendarError(f"not a declaration: {error}") from error


@dataclass(frozen=True, slots=True)
class CalendarVersion:
    """A past, current or future calendar of a site's machines, with its declaration."""

    from_day: date
    """The 1st of the month from which it counts; BEFORE_ALL for the first."""
    calendar: Calendar
    declaration: Declaration | None = None
    """None: the undeclared default timetable."""
    year: int = 0
    """Calendar year (calendars.compose.calendar_year); 0 = none."""


def in_force(versions: tuple[CalendarVersion, ...], day: date, population: Population) -> CalendarVersion:
    """Return the version for a civil day of the site; `versions` oldest first, not empty.

    Workstations use a new calendar from the first Monday on or after its 1st: a week's record names one.
    """
    if population is Population.WORKSTATION:
        day = date.fromordinal(day.toordinal() - day.weekday())
    older = [version for version in versions if version.from_day <= day]
    return older[-1] if older else versions[0]


@dataclass(frozen=True, slots=True, order=True)
class SchoolPeriod:
    """School holidays of a zone, both days included."""

    zone: SchoolZone
    first: date
    last: date
    name: str
