# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that a collector's change of calendar shows no time of day of a workstation: docs/calendars.md,
decision 0028."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilleuse.agent.model import DatePeriod, Record, Tick, WeekPeriod
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.resident.fold import Fold, SiteCalendar
from veilleuse.agent.sending.remote_config import calendar_control
from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar, CalendarError, OpenSpan
from veilleuse.wire.limits import HOUR_MILLISECONDS as HOUR
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population, State, Supply

ZONES = ("Europe/Paris", "America/Cayenne", "Pacific/Noumea", "America/St_Johns", "Australia/Lord_Howe")
MONDAY = date(2026, 9, 21)
"""The DAYS from here contain a clock change in some of the zones, and the year's end."""
DAYS = 98


@st.composite
def calendars(draw: st.DrawFn, zone: str) -> Calendar:
    """Return any valid calendar: up to three spans of any length on any weekday."""
    spans: list[OpenSpan] = []
    for weekday in sorted(draw(st.sets(st.integers(1, 7)))):
        edges = sorted(draw(st.lists(st.integers(0, 1_440), max_size=6, unique=True)))
        spans += [OpenSpan(weekday, *pair) for pair in zip(edges[::2], edges[1::2], strict=False)]
    closures = draw(st.sets(st.integers(0, DAYS), max_size=20))
    days = tuple(MONDAY + timedelta(days=offset) for offset in sorted(closures))
    kept: tuple[OpenSpan, ...] = ()
    for span in spans:
        try:
            kept = Calendar(zone, (*kept, span)).open_spans
        except CalendarError:
            continue  # this span is not allowed
    return Calendar(zone, kept, days)


def told(zone: str, given: list[tuple[int, Calendar]]) -> list[Record]:
    """Return the records of a workstation off for DAYS days that gets calendars at the start of some."""
    start = round(datetime.combine(MONDAY, datetime.min.time(), ZoneInfo(zone)).timestamp() * 1000)
    fold = Fold(Population.WORKSTATION, HOUR, SiteCalendar(given[0][1], "00" * 32))
    asked = {day: (number, calendar) for number, (day, calendar) in enumerate(given[1:], 1)}
    records: list[Record] = []
    for day in range(DAYS + 1):
        for waiting in range(max(0, day - 45), day + 1):  # asks again until it is in use
            if waiting in asked:
                number, calendar = asked[waiting]
                if number > int(fold.site.sha256[:2]):
                    fold.schedule(SiteCalendar(calendar, f"{number:02}" * 32), start)
        records += fold.add(Tick(start, MILLISECONDS_PER_DAY, State.OFF, Supply.AC))
        start += MILLISECONDS_PER_DAY
    return records


@settings(max_examples=40)
@given(st.data(), st.sampled_from(ZONES), st.lists(st.integers(0, 60), min_size=1, max_size=3, unique=True))
def test_no_band_of_a_record_is_shorter_than_three_hours(data, zone, moments):
    """For any calendars, each instant is in one record, and each band is ≥ 3 h (2 h at a clock change).

    Sums and differences of records show no shorter time. A week and its days name one calendar.
    """
    given = [(moment, data.draw(calendars(zone))) for moment in (0, *sorted(moments))]
    records = told(zone, given)
    weeks = {r.period: r.calendar_sha256 for r in records if isinstance(r.period, WeekPeriod)}
    dates = [r for r in records if isinstance(r.period, DatePeriod)]
    assert len({r.period for r in records}) == len(records)
    for record in records:
        lengths: dict[str, int] = {}
        for (band, _, _), cell in record.cells.items():
            lengths[band] = lengths.get(band, 0) + cell.milliseconds
        assert all(length >= least(record, zone) for length in lengths.values()), (record.period, lengths)
    for record in dates:
        assert isinstance(record.period, DatePeriod)
        week = WeekPeriod(*record.period.day.isocalendar()[:2])
        assert weeks.get(week, record.calendar_sha256) == record.calendar_sha256


def least(record: Record, zone: str) -> int:
    """Return three hours in ms, less a forward clock change."""
    if isinstance(record.period, DatePeriod):
        first, days = record.period.day, 1
    else:
        assert isinstance(record.period, WeekPeriod)
        first, days = date.fromisocalendar(record.period.iso_year, record.period.iso_week, 1), 7
    edges = [
        datetime.combine(first + timedelta(days=n), datetime.min.time(), ZoneInfo(zone)) for n in (0, days)
    ]
    real = edges[1].timestamp() - edges[0].timestamp()
    return 3 * HOUR - max(0, days * MILLISECONDS_PER_DAY - round(real * 1000))


def test_a_workstation_takes_no_calendar_of_another_time_zone():
    """A calendar of another time zone is refused: it would show the piece of a day between two midnights.

    A first calendar may have any zone; machines that report hours may change it.
    """
    paris, london = (
        SiteCalendar(DEFAULT_CALENDAR._replace(time_zone=z), z) for z in ("Europe/Paris", "Europe/London")
    )
    with pytest.raises(CalendarError, match="time zone Europe/London is not the machine's Europe/Paris"):
        Fold(Population.WORKSTATION, HOUR, paris).schedule(london, 0)
    assert Fold(Population.WORKSTATION, HOUR).schedule(london, 0)
    assert Fold(Population.SERVER, HOUR, paris).schedule(london, 0)


def test_a_calendar_that_was_given_in_time_is_used():
    """On 3 December a workstation waits for Monday with the calendar of the 1st; no later one replaces it."""
    zone = ZoneInfo("Europe/Paris")
    one, two, three = (SiteCalendar(DEFAULT_CALENDAR, f"{number:02}" * 32) for number in (1, 2, 3))
    fold = Fold(Population.WORKSTATION, HOUR, one)
    november, december = (
        round(datetime(2026, m, d, tzinfo=zone).timestamp() * 1000) for m, d in ((11, 20), (12, 3))
    )
    monday = round(datetime(2026, 12, 7, tzinfo=zone).timestamp() * 1000)
    assert fold.schedule(two, november) == date(2026, 12, 7)
    assert fold.schedule(three, december) == date(2026, 12, 7)
    list(fold.add(Tick(monday, 1_000, State.OFF, Supply.AC)))
    assert fold.site == two
    assert fold.schedule(three, monday) == date(2027, 1, 4)


def test_a_calendar_that_is_taken_back():
    """If the collector returns to the calendar in use, the waiting one is dropped."""
    one, two = (SiteCalendar(DEFAULT_CALENDAR, f"{number:02}" * 32) for number in (1, 2))
    zone = ZoneInfo("Europe/Paris")
    november, december = (
        round(datetime(2026, m, d, tzinfo=zone).timestamp() * 1000) for m, d in ((11, 20), (12, 8))
    )
    for population in (Population.SERVER, Population.WORKSTATION):
        fold = Fold(population, HOUR, one)
        fold.schedule(two, november)
        assert fold.next_sha256 == two.sha256
        fold.schedule(one, november + 1)
        assert fold.next_sha256 == one.sha256
        list(fold.add(Tick(december, 1_000, State.OFF, Supply.AC)))
        assert fold.site == one


def test_a_year_that_no_calendar_has():
    """A closure in the year 4294967295 is refused and raises nothing."""
    message = pb.Calendar(time_zone="Europe/Paris", closures=[pb.LocalDate(year=2**32 - 1, month=1, day=1)])
    assert calendar_control(message) == {ControlKey.CALENDAR_STATE: "failed"}


@pytest.mark.parametrize(
    ("spans", "word"),
    [
        ((OpenSpan(1, 0, 1_439),), "leaves 1 minutes that are not open"),
        ((OpenSpan(3, 0, 700), OpenSpan(3, 701, 1_380)), "weekday 3 leaves 61 minutes"),
    ],
)
def test_what_is_left_of_a_day_is_no_clock_either(spans, word):
    """A day with a short closed time would reveal those minutes, so it is refused."""
    with pytest.raises(CalendarError, match=word):
        Calendar("Europe/Paris", spans)
    assert Calendar("Europe/Paris", (OpenSpan(1, 0, 1_440),))
