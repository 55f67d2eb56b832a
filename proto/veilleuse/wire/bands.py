# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Splits a timetable into bands: `open`, `night` (22:00-06:00, not open), `closed` (the rest). docs/calendars.md.

The agent sorts its ticks with it. The collector distributes and checks timetables with it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from veilleuse.wire.units import MILLISECONDS_PER_MINUTE, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Band

NIGHT_START_MINUTE: Final = 22 * 60
NIGHT_END_MINUTE: Final = 6 * 60
MINIMUM_OPEN_SPAN_MINUTES: Final = 3 * 60
MINIMUM_CLOSED_MINUTES: Final = 4 * 60
"""On a date with less `closed` time, it counts as `night`: a short band would reveal the time of day."""
MINIMUM_NIGHT_MINUTES: Final = 3 * 60
"""On a date with less `night` time, it counts as `closed`.

A date with less time than this that is not open is refused.
"""
MINIMUM_WINDOW_PART_MINUTES: Final = 3 * 60
"""Shortest part of a band inside or outside update windows, where no time of day may be revealed."""
_DAY_MINUTES: Final = 24 * 60


class CalendarError(ValueError):
    """Unusable timetable; the message names the entry and the reason."""


class OpenSpan(NamedTuple):
    """Weekly span; minutes after local midnight, end exclusive."""

    iso_weekday: int
    """1 = Monday to 7."""
    start_minute: int
    """0 to 1,439."""
    end_minute: int
    """1 to 1,440."""


class _Timetable(NamedTuple):
    time_zone: str
    """IANA name."""
    open_spans: tuple[OpenSpan, ...]
    """Sorted, not overlapping."""
    closures: tuple[date, ...] = ()
    """Sorted dates on which nothing is open."""
    update_windows: tuple[OpenSpan, ...] = ()
    """Sorted, not overlapping."""


class Calendar(_Timetable):
    """Opening hours of a site.

    Raises CalendarError for an unknown zone, an overlap, an open span under 3 h, or a rest under 3 h that is
    not open. Each reported band of a date then lasts at least 3 h by the clock: docs/decisions/0028.
    """

    __slots__ = ()

    def __new__(
        cls,
        time_zone: str,
        open_spans: tuple[OpenSpan, ...],
        closures: tuple[date, ...] = (),
        update_windows: tuple[OpenSpan, ...] = (),
    ) -> Self:
        """Check the fields; every constructor calls this method."""
        try:
            ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise CalendarError(
                f"unknown time zone {time_zone!r}: use an IANA name such as Europe/Paris"
            ) from error
        _check_spans("open span", open_spans, MINIMUM_OPEN_SPAN_MINUTES)
        _check_rest(open_spans)
        _check_spans("update window", update_windows, 1)
        if list(closures) != sorted(set(closures)):
            raise CalendarError("closures must be sorted and distinct")
        return super().__new__(cls, time_zone, open_spans, closures, update_windows)

    @classmethod
    def _make(cls, fields: Iterable[Any]) -> Self:  # type: ignore[override]  # mypy: `_cls`
        """Create a calendar for `_replace`; the method of a plain named tuple would skip `__new__`."""
        return cls(*fields)

    def to_json(self) -> str:
        """Return the canonical text, whose SHA-256 names the calendar on the wire."""
        return json.dumps(
            {
                "time_zone": self.time_zone,
                "open_spans": [[s.iso_weekday, s.start_minute, s.end_minute] for s in self.open_spans],
                "closures": [day.isoformat() for day in self.closures],
                "update_windows": [
                    [s.iso_weekday, s.start_minute, s.end_minute] for s in self.update_windows
                ],
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Calendar:
        """Parse the result of `to_json`. Raises CalendarError."""
        try:
            raw = json.loads(text)
            return cls(
                time_zone=str(raw["time_zone"]),
                open_spans=tuple(OpenSpan(*map(int, span)) for span in raw["open_spans"]),
                closures=tuple(date.fromisoformat(day) for day in raw["closures"]),
                update_windows=tuple(OpenSpan(*map(int, span)) for span in raw["update_windows"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CalendarError(f"not a calendar: {error}") from error


class Segment(NamedTuple):
    """Span inside one civil day and one band, in or out of update windows.

    Unix milliseconds, end exclusive.
    """

    start_unix_milliseconds: int
    end_unix_milliseconds: int
    band: Band
    local_date: date
    in_window: bool | None = None
    """Inside an update window; None = the calendar has none, or they must not be revealed here."""


def segments(
    calendar: Calendar, start_unix_milliseconds: int, end_unix_milliseconds: int
) -> Iterator[Segment]:
    """Cut [start, end) at each edge of a band or update window and at local midnight.

    The pieces cover it exactly.
    """
    position = start_unix_milliseconds
    zone = ZoneInfo(calendar.time_zone)
    while position < end_unix_milliseconds:
        day = datetime.fromtimestamp(position / MILLISECONDS_PER_SECOND, zone).date()
        for piece in day_segments(calendar, day):
            if piece.end_unix_milliseconds <= position:
                continue
            stop = min(piece.end_unix_milliseconds, end_unix_milliseconds)
            yield piece._replace(start_unix_milliseconds=position, end_unix_milliseconds=stop)
            position = stop
            if position >= end_unix_milliseconds:
                return


@lru_cache(maxsize=8)
def day_segments(calendar: Calendar, day: date) -> tuple[Segment, ...]:
    """Return all segments of a civil day, with equal neighbours merged.

    The day has 82,800,000, 86,400,000 or 90,000,000 ms.
    """
    zone = ZoneInfo(calendar.time_zone)
    start, end = _unix_milliseconds(day, 0, zone), _unix_milliseconds(day + timedelta(days=1), 0, zone)
    spans = () if day in calendar.closures else _spans_of(calendar.open_spans, day)
    windows = _spans_of(calendar.update_windows, day)
    minutes = {minute for span in (*spans, *windows) for minute in span} | set(range(0, _DAY_MINUTES, 30))
    # Every half hour, and both readings of an ambiguous one, are edges: clock changes then fall on an edge.
    edges = {start, end} | {
        instant
        for minute in minutes
        if minute < _DAY_MINUTES
        for fold in (0, 1)
        if start < (instant := _unix_milliseconds(day, minute, zone, fold)) < end
    }
    ordered = sorted(edges)
    not_open = _not_open_minutes(spans)
    short = not_open[Band.CLOSED] < MINIMUM_CLOSED_MINUTES
    rest = Band.NIGHT if short else Band.CLOSED
    one_rest = short or not_open[Band.NIGHT] < MINIMUM_NIGHT_MINUTES
    pieces: list[Segment] = []
    for lower, upper in itertools.pairwise(ordered):
        middle = datetime.fromtimestamp((lower + upper) / 2000, zone)
        minute = middle.hour * 60 + middle.minute
        band = _band_at(minute, spans)
        if band is not Band.OPEN and one_rest:
            band = rest
        inside = _is_in(minute, windows) if calendar.update_windows else None
        if pieces and pieces[-1].band is band and pieces[-1].in_window is inside:
            lower = pieces.pop().start_unix_milliseconds
        pieces.append(Segment(lower, upper, band, day, inside))
    return tuple(pieces)


def coarse_windows(pieces: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Remove the update windows that would reveal a time of day, where the grain is the day (open: the week).

    A collector that may declare windows could else ask whether a machine is on at any minute. The open band
    keeps no window. Other bands keep those that leave no part, inside or outside, under
    MINIMUM_WINDOW_PART_MINUTES. See docs/privacy.md §1.
    """
    lengths: dict[tuple[Band, bool | None], int] = {}
    for piece in pieces:
        key = piece.band, piece.in_window
        length = piece.end_unix_milliseconds - piece.start_unix_milliseconds
        lengths[key] = lengths.get(key, 0) + length
    least = MINIMUM_WINDOW_PART_MINUTES * MILLISECONDS_PER_MINUTE
    short = {band for (band, _), length in lengths.items() if length < least}
    whole = {band for band, inside in lengths if (band, not inside) not in lengths}
    return tuple(
        piece
        if piece.band is not Band.OPEN and (piece.band not in short or piece.band in whole)
        else piece._replace(in_window=None)
        for piece in pieces
    )


def _spans_of(spans: tuple[OpenSpan, ...], day: date) -> tuple[tuple[int, int], ...]:
    weekday = day.isoweekday()
    return tuple((s.start_minute, s.end_minute) for s in spans if s.iso_weekday == weekday)


def _is_in(minute: int, spans: tuple[tuple[int, int], ...]) -> bool:
    return any(start <= minute < end for start, end in spans)


def _band_at(minute: int, spans: tuple[tuple[int, int], ...]) -> Band:
    if _is_in(minute, spans):
        return Band.OPEN
    return Band.NIGHT if minute >= NIGHT_START_MINUTE or minute < NIGHT_END_MINUTE else Band.CLOSED


def _not_open_minutes(spans: tuple[tuple[int, int], ...]) -> dict[Band, int]:
    """Return the minutes of the closed and night bands by the clock, for a day of 24 hours."""
    by_day = sum(max(0, min(end, NIGHT_START_MINUTE) - max(start, NIGHT_END_MINUTE)) for start, end in spans)
    closed = NIGHT_START_MINUTE - NIGHT_END_MINUTE - by_day
    rest = _DAY_MINUTES - sum(end - start for start, end in spans)
    return {Band.CLOSED: closed, Band.NIGHT: rest - closed}


def _unix_milliseconds(day: date, minute: int, zone: ZoneInfo, fold: int = 0) -> int:
    local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone, fold=fold)
    return round(local.timestamp() * MILLISECONDS_PER_SECOND)


def _check_spans(word: str, spans: tuple[OpenSpan, ...], minimum_minutes: int) -> None:
    previous: OpenSpan | None = None
    for span in spans:
        if not (1 <= span.iso_weekday <= 7 and 0 <= span.start_minute < span.end_minute <= _DAY_MINUTES):
            raise CalendarError(f"{word} {span} is out of range: weekday 1-7, 0 ≤ start < end ≤ 1440 minutes")
        if span.end_minute - span.start_minute < minimum_minutes:
            raise CalendarError(f"{word} {span} is shorter than {minimum_minutes} minutes")
        if (
            previous is not None
            and span.iso_weekday == previous.iso_weekday
            and span.start_minute < previous.end_minute
        ):
            raise CalendarError(f"{word} {span} overlaps {previous}")
        if previous is not None and span < previous:
            raise CalendarError(f"{word} {span} is not in order")
        previous = span


def _check_rest(spans: tuple[OpenSpan, ...]) -> None:
    for weekday in sorted({span.iso_weekday for span in spans}):
        mine = (span for span in spans if span.iso_weekday == weekday)
        rest = _DAY_MINUTES - sum(span.end_minute - span.start_minute for span in mine)
        if 0 < rest < MINIMUM_NIGHT_MINUTES:
            raise CalendarError(
                f"weekday {weekday} leaves {rest} minutes that are not open: leave none, or "
                f"{MINIMUM_NIGHT_MINUTES} at least"
            )


DEFAULT_CALENDAR: Final = Calendar(
    "Europe/Paris", tuple(OpenSpan(day, 8 * 60, 18 * 60) for day in range(1, 6))
)
"""Monday to Friday, 08:00 to 18:00."""
