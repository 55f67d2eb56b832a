# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Maps civil days of a time zone to whole UTC hours.

A clock record belongs to the day in which its UTC hour begins.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_SECOND


@lru_cache(maxsize=4096)
def civil_day(zone: ZoneInfo, unix_milliseconds: int) -> int:
    """Return the day number (date.toordinal) of an instant in a zone."""
    return datetime.fromtimestamp(unix_milliseconds / MILLISECONDS_PER_SECOND, zone).toordinal()


def day_of_hour(zone: ZoneInfo, unix_milliseconds: int) -> int:
    """Return the day number of the UTC hour that contains an instant."""
    return civil_day(zone, unix_milliseconds - unix_milliseconds % MILLISECONDS_PER_HOUR)


@lru_cache(maxsize=4096)
def day_bounds(zone: ZoneInfo, day: int) -> tuple[int, int]:
    """Return [start, end) of the UTC hours that begin in a civil day, in Unix milliseconds.

    The day has 23, 24 or 25 hours where offsets are whole hours.
    """
    return _first_hour(zone, day), _first_hour(zone, day + 1)


def days_milliseconds(zone: ZoneInfo, first: int, end: int) -> int:
    """Return the length of the civil days [first, end), from midnight to midnight, in milliseconds."""
    return _midnight(zone, end) - _midnight(zone, first)


def _first_hour(zone: ZoneInfo, day: int) -> int:
    midnight = _midnight(zone, day)
    return midnight + -midnight % MILLISECONDS_PER_HOUR


def _midnight(zone: ZoneInfo, day: int) -> int:
    local = datetime.combine(date.min + timedelta(days=day - 1), datetime.min.time(), zone)
    return round(local.timestamp() * MILLISECONDS_PER_SECOND)
