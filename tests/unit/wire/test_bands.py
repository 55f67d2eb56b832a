# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test bands of calendars, with clock changes and closures: docs/calendars.md."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.wire.bands import (
    DEFAULT_CALENDAR,
    Calendar,
    CalendarError,
    OpenSpan,
    coarse_windows,
    day_segments,
    segments,
)
from veilleuse.wire.vocabulary import Band

HOUR = 3_600_000
PARIS = ZoneInfo("Europe/Paris")
MONDAY = date(2026, 3, 2)
SATURDAY = date(2026, 3, 7)


def hours(calendar: Calendar, day: date) -> dict[Band, float]:
    """Return band → hours of a civil day."""
    total: dict[Band, float] = {}
    for piece in day_segments(calendar, day):
        length = (piece.end_unix_milliseconds - piece.start_unix_milliseconds) / HOUR
        total[piece.band] = total.get(piece.band, 0) + length
    return total


def milliseconds(*local: int) -> int:
    """Return a local time of Paris as Unix ms."""
    return round(datetime(*local, tzinfo=PARIS).timestamp() * 1000)  # type: ignore[misc, arg-type]  # year, month …


def test_a_working_day_of_the_default_timetable():
    """A working day has 10 h open, 8 h night and 6 h closed."""
    assert hours(DEFAULT_CALENDAR, MONDAY) == {Band.NIGHT: 8, Band.CLOSED: 6, Band.OPEN: 10}
    assert [piece.band for piece in day_segments(DEFAULT_CALENDAR, MONDAY)] == [
        Band.NIGHT,
        Band.CLOSED,
        Band.OPEN,
        Band.CLOSED,
        Band.NIGHT,
    ]


def test_nothing_is_open_on_a_weekend_or_a_closure():
    """Weekends and closures have 16 h closed and 8 h night."""
    closed = Calendar("Europe/Paris", DEFAULT_CALENDAR.open_spans, (MONDAY,))
    for calendar, day in ((DEFAULT_CALENDAR, SATURDAY), (closed, MONDAY)):
        assert hours(calendar, day) == {Band.NIGHT: 8, Band.CLOSED: 16}
    assert hours(closed, MONDAY + timedelta(days=1))[Band.OPEN] == 10


def test_a_short_closed_band_is_folded_into_the_night():
    """A day with under 4 h of `closed` would reveal a time of day, so they count as night."""
    long_day = Calendar("Europe/Paris", (OpenSpan(1, 7 * 60, 20 * 60),))
    assert hours(long_day, MONDAY) == {Band.OPEN: 13, Band.NIGHT: 11}
    just_enough = Calendar("Europe/Paris", (OpenSpan(1, 8 * 60, 20 * 60),))
    assert hours(just_enough, MONDAY) == {Band.OPEN: 12, Band.NIGHT: 8, Band.CLOSED: 4}


def test_an_open_night_is_open():
    """An open night is `open`; a remainder of the night under 3 h is `closed`."""
    shift = Calendar("Europe/Paris", (OpenSpan(1, 0, 5 * 60),))
    assert hours(shift, MONDAY) == {Band.OPEN: 5, Band.CLOSED: 16, Band.NIGHT: 3}
    longer = Calendar("Europe/Paris", (OpenSpan(1, 0, 6 * 60),))
    assert hours(longer, MONDAY) == {Band.OPEN: 6, Band.CLOSED: 18}


@pytest.mark.parametrize(
    ("day", "length", "night"),
    [(date(2026, 3, 29), 82_800_000, 7), (date(2026, 10, 25), 90_000_000, 9), (MONDAY, 86_400_000, 8)],
)
def test_the_clock_change_falls_into_the_night(day, length, night):
    """Civil days of Paris have 23, 24 or 25 hours; the missing or added hour is night."""
    pieces = day_segments(DEFAULT_CALENDAR, day)
    assert pieces[-1].end_unix_milliseconds - pieces[0].start_unix_milliseconds == length
    assert hours(DEFAULT_CALENDAR, day)[Band.NIGHT] == night


def test_a_span_that_straddles_the_clock_change():
    """Open 01:00-05:00 is five hours when clocks go back, three when they go forward."""
    calendar = Calendar("Europe/Paris", (OpenSpan(7, 60, 300),))
    assert hours(calendar, date(2026, 10, 25))[Band.OPEN] == 5
    assert hours(calendar, date(2026, 3, 29))[Band.OPEN] == 3


zones = st.sampled_from(
    [
        "Europe/Paris",
        "America/Cayenne",
        "Indian/Reunion",
        "Pacific/Noumea",
        "America/St_Johns",
        "Australia/Lord_Howe",
        "UTC",
    ]
)
spans = st.lists(
    st.tuples(st.integers(1, 7), st.integers(0, 1_260)).flatmap(
        lambda start: st.integers(start[1] + 180, 1_440).map(lambda end: OpenSpan(start[0], start[1], end))
    ),
    max_size=7,
    unique_by=lambda span: span.iso_weekday,
).map(lambda many: tuple(sorted(many)))
timetables = spans.map(
    lambda many: tuple(
        OpenSpan(span.iso_weekday, 0, 1_440) if span.end_minute - span.start_minute > 1_260 else span
        for span in many
    )
)
"""Timetables that are not refused: each day's remainder is 0 or at least 3 h."""
calendars = st.builds(
    Calendar,
    zones,
    timetables,
    st.sets(st.dates(date(2025, 1, 1), date(2027, 12, 31)), max_size=5).map(lambda days: tuple(sorted(days))),
    spans,
)


@given(calendars, st.dates(date(2025, 1, 2), date(2027, 12, 30)))
def test_the_pieces_of_a_day_touch_and_cover_it(calendar, day):
    """Pieces run from midnight to midnight without hole, overlap or needless cut; closures are not open."""
    pieces = day_segments(calendar, day)
    zone = ZoneInfo(calendar.time_zone)
    assert pieces[0].start_unix_milliseconds == round(
        datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000
    )
    following = day + timedelta(days=1)
    assert pieces[-1].end_unix_milliseconds == round(
        datetime(following.year, following.month, following.day, tzinfo=zone).timestamp() * 1000
    )
    for one, two in zip(pieces, pieces[1:], strict=False):  # noqa: RUF007 - pairs
        assert one.end_unix_milliseconds == two.start_unix_milliseconds
        assert (one.band, one.in_window) != (two.band, two.in_window)
    if day in calendar.closures:
        assert all(piece.band is not Band.OPEN for piece in pieces)


@given(calendars, st.integers(1_735_780_000_000, 1_830_300_000_000), st.integers(1, 400 * HOUR))
def test_any_stretch_is_cut_without_loss(calendar, start, length):
    """The pieces sum to the stretch, each within a civil day, and cutting it first changes no band's sum."""
    pieces = list(segments(calendar, start, start + length))
    assert sum(piece.end_unix_milliseconds - piece.start_unix_milliseconds for piece in pieces) == length
    zone = ZoneInfo(calendar.time_zone)
    for piece in pieces:
        assert datetime.fromtimestamp(piece.start_unix_milliseconds / 1000, zone).date() == piece.local_date

    def by_band(*stretches):
        total: dict[Band, int] = {}
        for low, high in stretches:
            for piece in segments(calendar, low, high):
                share = piece.end_unix_milliseconds - piece.start_unix_milliseconds
                total[piece.band] = total.get(piece.band, 0) + share
        return total

    middle = start + length // 2
    assert by_band((start, start + length)) == by_band((start, middle), (middle, start + length))


def test_a_stretch_over_the_edge_of_the_day():
    """Monday 17:59:59 to 18:00:01 is one second open and one closed."""
    pieces = list(
        segments(DEFAULT_CALENDAR, milliseconds(2026, 3, 2, 17, 59, 59), milliseconds(2026, 3, 2, 18, 0, 1))
    )
    assert [(p.band, p.end_unix_milliseconds - p.start_unix_milliseconds) for p in pieces] == [
        (Band.OPEN, 1_000),
        (Band.CLOSED, 1_000),
    ]
    assert list(segments(DEFAULT_CALENDAR, 5, 5)) == []


@given(calendars)
def test_a_calendar_survives_json(calendar):
    """The text is canonical, so that the same calendar always has the same hash."""
    assert Calendar.from_json(calendar.to_json()) == calendar
    assert Calendar.from_json(calendar.to_json()).to_json() == calendar.to_json()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Calendar("Europe/Lyon", ()), "unknown time zone"),
        (lambda: Calendar("Europe/Paris", (OpenSpan(1, 480, 600),)), "shorter than 180"),
        (lambda: Calendar("Europe/Paris", (OpenSpan(8, 480, 900),)), "out of range"),
        (lambda: Calendar("Europe/Paris", (OpenSpan(1, 480, 1_441),)), "out of range"),
        (lambda: Calendar("Europe/Paris", (OpenSpan(1, 480, 900), OpenSpan(1, 899, 1_200))), "overlaps"),
        (lambda: Calendar("Europe/Paris", (OpenSpan(2, 480, 900), OpenSpan(1, 480, 900))), "not in order"),
        (lambda: Calendar("Europe/Paris", (), (SATURDAY, MONDAY)), "sorted"),
        (lambda: Calendar.from_json("{}"), "not a calendar"),
        (lambda: Calendar.from_json("["), "not a calendar"),
    ],
)
def test_a_timetable_that_cannot_be_used_is_refused(make, words):
    """The message names the fault."""
    with pytest.raises(CalendarError, match=words):
        make()


def test_the_default_calendar_is_named_for_ever():
    """Each record without a site's calendar has this hash: changing it needs a new release of the wire."""
    import hashlib

    digest = hashlib.sha256(DEFAULT_CALENDAR.to_json().encode()).hexdigest()
    assert digest == "906d91a6c2df3370f136ab63f379c616478158d1b263fa140bc8d9658390befe"
    assert datetime.fromtimestamp(0, UTC).year == 1970


def test_no_way_leads_to_a_calendar_that_was_not_checked():
    """Each way to copy a calendar checks it; calendars compare and hash by content and cannot be changed."""
    span = OpenSpan(1, 480, 900)
    calendar = Calendar("Europe/Paris", (span,))
    assert calendar == Calendar("Europe/Paris", (span,))
    assert hash(calendar) == hash(Calendar("Europe/Paris", (span,)))
    assert calendar._replace(time_zone="Europe/Lisbon").open_spans == (span,)
    assert isinstance(calendar._replace(open_spans=()), Calendar)
    for wrong in ({"time_zone": "Mars/Base"}, {"open_spans": (span, span)}, {"closures": (MONDAY, MONDAY)}):
        with pytest.raises(CalendarError):
            calendar._replace(**wrong)
        with pytest.raises(CalendarError):
            Calendar._make({**calendar._asdict(), **wrong}.values())
    with pytest.raises(AttributeError):
        calendar.time_zone = "Europe/Lisbon"  # type: ignore[misc]  # on purpose
    with pytest.raises(AttributeError):
        calendar.anything = 1  # type: ignore[attr-defined]  # on purpose


# update windows

ANY_WINDOWS = st.lists(
    st.tuples(st.integers(1, 7), st.integers(0, 1_439)).flatmap(
        lambda start: st.integers(start[1] + 1, 1_440).map(lambda end: OpenSpan(start[0], start[1], end))
    ),
    min_size=1,
    max_size=7,
    unique_by=lambda span: span.iso_weekday,
).map(lambda many: tuple(sorted(many)))


def told(pieces):
    """Return (band, in_window) → milliseconds."""
    lengths: Counter[tuple[Band, bool | None]] = Counter()
    for piece in pieces:
        lengths[piece.band, piece.in_window] += piece.end_unix_milliseconds - piece.start_unix_milliseconds
    return lengths


def test_windows_cut_a_day_whatever_is_open():
    """Monday 17:00-19:30 is partly open; a closure changes the band, not the window; no windows give None."""
    calendar = DEFAULT_CALENDAR._replace(
        update_windows=(OpenSpan(1, 17 * 60, 19 * 60 + 30),), closures=(date(2026, 3, 9),)
    )
    lengths = told(day_segments(calendar, MONDAY))
    assert lengths[Band.OPEN, True] == HOUR
    assert lengths[Band.CLOSED, True] == 1.5 * HOUR
    assert lengths[Band.NIGHT, False] == 8 * HOUR
    assert told(day_segments(calendar, date(2026, 3, 9)))[Band.CLOSED, True] == 2.5 * HOUR
    assert {inside for _, inside in told(day_segments(DEFAULT_CALENDAR, MONDAY))} == {None}


@given(calendars, ANY_WINDOWS, st.dates(date(2025, 1, 2), date(2027, 12, 30)))
def test_windows_follow_the_wall_clock(calendar, windows, day):
    """At its ends each piece is inside a window or not, by local time; both passes of a repeated hour are."""
    calendar = calendar._replace(update_windows=windows)
    zone = ZoneInfo(calendar.time_zone)
    for piece in day_segments(calendar, day):
        for moment in (piece.start_unix_milliseconds, piece.end_unix_milliseconds - 1):
            local = datetime.fromtimestamp(moment / 1000, zone)
            minute = local.hour * 60 + local.minute
            inside = any(
                one.iso_weekday == day.isoweekday() and one.start_minute <= minute < one.end_minute
                for one in windows
            )
            assert piece.in_window is inside


@pytest.mark.promise("P3")
@given(calendars, ANY_WINDOWS, st.dates(date(2025, 1, 2), date(2027, 12, 30)))
def test_no_window_is_a_finer_clock(calendar, windows, day):
    """P3: the open band reports no window, and other bands no part under three hours, inside or outside.

    Bands and lengths do not change.
    """
    pieces = day_segments(calendar._replace(update_windows=windows), day)
    coarse = coarse_windows(pieces)
    lengths = told(coarse)
    assert [piece[:4] for piece in coarse] == [piece[:4] for piece in pieces]
    for (band, inside), length in lengths.items():
        if inside is None:
            continue
        assert band is not Band.OPEN
        assert (band, None) not in lengths
        if (band, not inside) in lengths:
            assert length >= 3 * HOUR
    assert all(one.in_window in (None, two.in_window) for one, two in zip(coarse, pieces, strict=True))


def test_a_window_that_may_be_told_is():
    """Three hours of the night, or the whole night, are reported."""
    three = DEFAULT_CALENDAR._replace(update_windows=(OpenSpan(1, 60, 240),))
    assert told(coarse_windows(day_segments(three, MONDAY)))[Band.NIGHT, True] == 3 * HOUR
    whole = DEFAULT_CALENDAR._replace(update_windows=(OpenSpan(1, 0, 360), OpenSpan(1, 1_320, 1_440)))
    lengths = told(coarse_windows(day_segments(whole, MONDAY)))
    assert lengths[Band.NIGHT, True] == 8 * HOUR
    assert lengths[Band.CLOSED, False] == 6 * HOUR
