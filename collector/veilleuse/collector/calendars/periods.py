# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes periods, civil days and shares of time, and defines the accepted years (pure).

A clock record belongs to the civil day in which its UTC hour begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from veilleuse.collector.model.hosts import Host, HostStatus, Site
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_SECOND

# Years that commands, files and the API accept: one outside is a typing error.


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of civil days, end exclusive."""

    first: date
    end: date

    @property
    def days(self) -> tuple[int, int]:
        """The stretch as day numbers."""
        return self.first.toordinal(), self.end.toordinal()


def slices(first: date, end: date, *, by_month: bool = False) -> tuple[Slice, ...]:
    """Cut [first, end) at every 1 January (a factor is valid for a year), or at every month."""
    parts: list[Slice] = []
    while first < end:
        following = add_months(first, 1) if by_month else date(first.year + 1, 1, 1)
        parts.append(Slice(first, min(following, end)))
        first = following
    return tuple(parts)


def add_months(month: date, months: int) -> date:
    """Return the 1st of the month `months` later."""
    number = month.year * 12 + month.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


@lru_cache(maxsize=65_536)
def day_start_unix_milliseconds(day: date, time_zone: str) -> int:
    """Return local midnight in Unix milliseconds."""
    return round(
        datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(time_zone)).timestamp()
        * MILLISECONDS_PER_SECOND
    )


def evening_of(hour_start_unix_milliseconds: int, time_zone: str) -> date:
    """Return the date of a night, which runs from noon to noon:
    22:00 to 06:00 belong to the evening of their start.

    The early and late hours that a long timetable turns from `closed` into `night` do too.
    """
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=hour_start_unix_milliseconds)
    return (start.astimezone(ZoneInfo(time_zone)).replace(tzinfo=None) - timedelta(hours=12)).date()


def enrolled_milliseconds(host: Host, site: Site, part: Slice, now_unix_milliseconds: int) -> int:
    """Return the time of the slice, up to now, in which the machine was enrolled, ms.

    A machine that left counts to the day of its last contact. A machine that waits for approval is not
    enrolled yet: 0.
    """
    if host.status is HostStatus.PENDING:
        return 0
    start = day_start_unix_milliseconds(max(part.first, host.enrolled_on), site.time_zone)
    end = min(day_start_unix_milliseconds(part.end, site.time_zone), now_unix_milliseconds)
    if host.status in (HostStatus.REVOKED, HostStatus.FORGOTTEN):
        end = min(end, _end_of_contact(host, site))
    return max(0, end - start)


def _end_of_contact(host: Host, site: Site) -> int:
    if host.last_contact_unix_milliseconds is None:
        return 0
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=host.last_contact_unix_milliseconds)
    day = instant.astimezone(ZoneInfo(site.time_zone)).date()
    return day_start_unix_milliseconds(day + timedelta(days=1), site.time_zone)


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


def months_before(day: date, months: int) -> date:
    """Return the same day `months` months earlier, or the last day of that month."""
    index = day.year * 12 + day.month - 1 - months
    for last in (day.day, 30, 29, 28):
        try:
            return date(index // 12, index % 12 + 1, min(day.day, last))
        except ValueError:
            continue
    raise AssertionError("every month has 28 days")
