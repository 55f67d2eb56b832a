# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Public and school holidays, closures year by year, and day types of a site's days and weeks."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.calendars.compose import calendar_year, compose, first_day, public_holidays
from veilleuse.collector.calendars.day_types import day_type, is_open
from veilleuse.collector.calendars.school import (
    SchoolHolidays,
    holidays_of,
    load_shipped,
    merge_periods,
    read_school_holidays,
)
from veilleuse.collector.calendars.show import weekly_text, windows_of, year_of
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.calendars import (
    BEFORE_ALL,
    CalendarVersion,
    Closure,
    Declaration,
    SchoolPeriod,
    SchoolZone,
    in_force,
)
from veilleuse.collector.model.months import DayType
from veilleuse.wire.bands import DEFAULT_CALENDAR, OpenSpan, day_segments
from veilleuse.wire.vocabulary import Band, Population

HOUR = 3_600_000
WEEK = DEFAULT_CALENDAR.open_spans
LYON = Declaration(WEEK, public_holidays=True, school_zone=SchoolZone.A)
ZONE_A = holidays_of(SchoolZone.A)

# --- public holidays


def test_the_public_holidays_of_france():
    """France has the eleven of the Code du travail, L3133-1, on their dates of 2026.
    Alsace-Moselle has two more (L3134-13)."""
    france = public_holidays([2026])
    assert [f"{day:%m-%d}" for day in france] == [
        "01-01", "04-06", "05-01", "05-08", "05-14", "05-25", "07-14", "08-15", "11-01", "11-11", "12-25",
    ]  # fmt: skip
    assert france[date(2026, 4, 6)] == "Lundi de Pâques"
    more = public_holidays([2026], alsace_moselle=True)
    assert set(more) - set(france) == {date(2026, 4, 3), date(2026, 12, 26)}


# --- calendars for machines


@pytest.mark.parametrize(
    ("today", "year"),
    [
        (date(2026, 1, 1), 2026),
        (date(2026, 9, 30), 2026),
        (date(2026, 10, 1), 2027),
        (date(2026, 12, 31), 2027),
    ],
)
def test_the_year_turns_in_october(today, year):
    """Machines use a calendar from the next 1st on, so three months remain to give them the next year's."""
    assert calendar_year(today) == year
    calendar = compose(LYON, "Europe/Paris", year)
    assert calendar.closures[-1].year == year + 1
    assert calendar.closures[0].year == year - 1
    assert (calendar.closures[-1] - today).days > 365


@given(st.dates(date(2026, 1, 1), date(2040, 12, 31)))
def test_a_site_never_runs_out_of_holidays(today):
    """On any day machines know the holidays of at least the next 15 and the last nine months."""
    calendar = compose(LYON, "Europe/Paris", calendar_year(today))
    year = calendar_year(today)
    assert date(year + 1, 12, 31) >= today + timedelta(days=455)
    assert date(year - 1, 1, 1) <= today - timedelta(days=270)
    expected = {day for day in public_holidays(range(year - 1, year + 2)) if day.isoweekday() < 6}
    assert set(calendar.closures) == expected


def test_closures_are_told_where_something_would_be_open():
    """A closure from Saturday to Monday gives one date; a closure of another decade is not sent yet."""
    declared = Declaration(
        WEEK,
        closures=(
            Closure(date(2026, 5, 16), date(2026, 5, 18)),
            Closure(date(2036, 5, 16), date(2036, 5, 18)),
        ),
    )
    assert compose(declared, "Europe/Paris", 2026).closures == (date(2026, 5, 18),)


@pytest.mark.parametrize(
    ("today", "expected"),
    [
        (date(2026, 11, 26), date(2026, 12, 1)),
        (date(2026, 12, 31), date(2027, 1, 1)),
        (date(2027, 1, 1), date(2027, 2, 1)),
    ],
)
def test_a_calendar_counts_from_the_next_first(today, expected):
    """A calendar applies from the next 1st, as agents apply it (fold.schedule)."""
    assert first_day(today) == expected


def test_which_calendar_sorted_a_day():
    """A day has the calendar in force on the 1st; workstations change on the first Monday from then on.
    1 December 2026 is a Tuesday."""
    old, new = (
        CalendarVersion(BEFORE_ALL, DEFAULT_CALENDAR),
        CalendarVersion(date(2026, 12, 1), DEFAULT_CALENDAR),
    )
    for day, clock, workstation in (
        (date(2026, 11, 30), old, old),
        (date(2026, 12, 1), new, old),
        (date(2026, 12, 6), new, old),
        (date(2026, 12, 7), new, new),
    ):
        assert in_force((old, new), day, Population.SERVER) is clock
        assert in_force((old, new), day, Population.WORKSTATION) is workstation
    assert in_force((new,), date(2020, 1, 1), Population.SERVER) is new


# --- school holidays


def test_a_hole_in_the_table_is_not_known():
    """With the file of 2030 but not that of 2029, a whole year between two holidays is unknown, not open."""
    later = SchoolPeriod(SchoolZone.A, date(2029, 10, 20), date(2029, 11, 4), "Vacances de la Toussaint")
    table = holidays_of(SchoolZone.A, (later,))
    assert table.known_to == later.last
    assert table.name_on(load_shipped()[-1].last) is not None
    assert table.name_on(date(2028, 12, 25)) is None
    assert table.name_on(date(2029, 6, 1)) is None
    assert table.name_on(later.first) == later.name
    assert all(
        holidays_of(zone).name_on(day) is not None
        for zone in SchoolZone
        for day in (date(2025, 7, 6) + timedelta(days=offset) for offset in range(1_100))
    )


def test_the_shipped_table_is_whole():
    """Every zone has July 2025 to August 2028, no overlap, four holidays and the summer in each school year.
    The summer and Christmas are the same everywhere; winter and spring are not.
    """
    for zone in SchoolZone:
        holidays = holidays_of(zone)
        assert (holidays.known_from, holidays.known_to) == (date(2025, 7, 5), date(2028, 8, 31))
        assert all(
            one.last < two.first for one, two in zip(holidays.periods, holidays.periods[1:], strict=False)
        )
        assert Counter(one.name for one in holidays.periods)["Vacances d'hiver"] == 3
    common = {
        (one.first, one.last)
        for one in load_shipped()
        if "hiver" not in one.name and "printemps" not in one.name
    }
    assert len({one for one in load_shipped() if "Noël" in one.name}) == 3 * 3
    assert len(common) == 4 + 3 + 3 + 3
    assert len({(one.first, one.last) for one in load_shipped() if "hiver" in one.name}) == 9


def test_lyon_is_in_zone_a():
    """Its winter holidays of 2027 are 13 to 28 February; days outside the table are unknown."""
    assert ZONE_A.name_on(date(2027, 2, 12)) == ""
    assert ZONE_A.name_on(date(2027, 2, 13)) == ZONE_A.name_on(date(2027, 2, 28)) == "Vacances d'hiver"
    assert ZONE_A.name_on(date(2027, 3, 1)) == ""
    assert ZONE_A.name_on(date(2028, 9, 1)) is None
    assert ZONE_A.name_on(date(2025, 7, 4)) is None


MINISTRY = """description;population;start_date;end_date;location;zones;annee_scolaire
Vacances de la Toussaint;-;2028-10-20T22:00:00+00:00;2028-11-05T23:00:00+00:00;Lyon;Zone A;2028-2029
Vacances de la Toussaint;-;2028-10-20T22:00:00+00:00;2028-11-05T23:00:00+00:00;Grenoble;Zone A;2028-2029
Vacances de la Toussaint;-;2028-10-20T22:00:00+00:00;2028-11-05T23:00:00+00:00;Corse;Corse;2028-2029
Pont de l'Ascension;-;2029-05-10T22:00:00+00:00;2029-05-10T22:00:00+00:00;Lyon;Zone A;2028-2029
Vacances d'Été;Enseignants du second degré;2029-07-07T22:00:00+00:00;2029-08-29T22:00:00+00:00;Lyon;Zone A;2028-2029
Début des Vacances d'Été;-;2029-07-06T22:00:00+00:00;2029-07-06T22:00:00+00:00;Lyon;Zone A;2028-2029
"""


def test_the_file_of_the_ministry():
    """The file has midnights of Paris in UTC, the day of the return, one row per académie, teachers, Corsica,
    and a summer that only begins. The rows are made up in the form of real ones: the file itself could not be
    fetched here.
    """
    assert [(one.first, one.last, one.name) for one in read_school_holidays(MINISTRY, "x.csv")] == [
        (date(2028, 10, 21), date(2028, 11, 5), "Vacances de la Toussaint"),
        (date(2029, 5, 11), date(2029, 5, 11), "Pont de l'Ascension"),
        (date(2029, 7, 7), date(2029, 8, 31), "Vacances d'été"),
    ]


def test_the_same_with_its_headings():
    """`use_labels` gives French headings, and `timezone` local times; commas also separate.
    A summer given twice counts once."""
    text = (
        "Description,Population,Date de début,Date de fin,Académies,Zones,annee_scolaire\n"
        "Début des Vacances d'Été,-,2027-07-03T00:00:00+02:00,2027-07-03T00:00:00+02:00,Lyon,Zone A,2026-2027\n"
        "Vacances d'Été,Élèves,2027-07-03,2027-09-02,Lyon,Zone A,2026-2027\n"
    )
    (summer,) = read_school_holidays(text, "x.csv")
    assert (summer.first, summer.last) == (date(2027, 7, 3), date(2027, 9, 1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: no column 'zone'"),
        ("zone,first,last\n", "no column 'name'"),
        ("zone,first,last,name\n", "no row of the zones A, B, C"),
        ("zone,first,last,name\nA,3 mai,2028-05-04,x\n", "line 2: Invalid isoformat string"),
        (
            "zone,first,last,name\nA,2028-05-04,2028-05-03,x\n",
            "line 2: 2028-05-04 to 2028-05-03 are no holidays",
        ),
        ("zone,first,last,name\nA,2028-05-04,2029-05-03,x\n", "are no holidays"),
        ("zone,first,last,name\n" + "A,2028-05-04,2028-05-05,x\n" * 5_001, "more than 5000 rows"),
    ],
)
def test_a_wrong_file_of_school_holidays_is_refused(text, words):
    """The error names the line."""
    with pytest.raises(UsageError, match=words):
        read_school_holidays(text, "x.csv")


def test_what_was_imported_counts_over_its_span():
    """Imported periods replace the zone's shipped ones in their span; others stay."""
    brought = tuple(
        SchoolPeriod(SchoolZone.A, date(2027, month, 1), date(2027, month, 9), "x") for month in (1, 12)
    )
    found = merge_periods(load_shipped(), brought)
    mine = [one for one in found if one.zone is SchoolZone.A and one.first.year == 2027]
    assert mine == [
        *brought,
        SchoolPeriod(SchoolZone.A, date(2027, 12, 18), date(2028, 1, 2), "Vacances de Noël"),
    ]
    assert [one for one in found if one.zone is SchoolZone.B] == [
        one for one in load_shipped() if one.zone is SchoolZone.B
    ]
    assert holidays_of(SchoolZone.A, brought).known_to == date(2028, 8, 31)
    assert merge_periods(found, brought) == found


# --- day types


def test_day_types_of_lyon():
    """Closed precedes school holiday, and without a zone there are no school holidays.
    Beyond the table an open day is unknown."""
    calendar = compose(LYON, "Europe/Paris", 2027)
    for day, expected in (
        (date(2027, 2, 12), DayType.OPEN),
        (date(2027, 2, 15), DayType.SCHOOL_HOLIDAY),
        (date(2027, 2, 20), DayType.CLOSED),  # a Saturday in the holidays
        (date(2027, 7, 14), DayType.CLOSED),
        (date(2027, 7, 15), DayType.SCHOOL_HOLIDAY),
        (date(2028, 9, 1), None),
        (date(2028, 9, 2), DayType.CLOSED),
    ):
        assert day_type(calendar, ZONE_A, day) is expected, day
    assert day_type(calendar, None, date(2027, 2, 15)) is DayType.OPEN


def test_a_year_of_lyon():
    """The 365 days of 2027 in zone A have 173 open weekdays outside school holidays: some 36 weeks."""
    version = CalendarVersion(BEFORE_ALL, compose(LYON, "Europe/Paris", 2027), LYON, 2027)
    days = list(year_of((version,), ZONE_A, 2027))
    assert Counter(day.kind for day in days) == {
        DayType.CLOSED: 111,
        DayType.OPEN: 173,
        DayType.SCHOOL_HOLIDAY: 81,
    }
    named = {day.day: day.why for day in days if day.why}
    assert named[date(2027, 11, 1)] == "Toussaint"
    assert named[date(2027, 11, 2)] == "Vacances de la Toussaint"
    assert date(2027, 11, 6) not in named


def test_an_empty_zone_knows_nothing():
    """A day of a zone without periods is unknown."""
    nothing = SchoolHolidays(SchoolZone.C, ())
    assert nothing.name_on(date(2027, 2, 15)) is None


# --- texts for people


@pytest.mark.parametrize(
    ("window", "closed_day", "band", "parts", "told"),
    [
        ((OpenSpan(1, 0, 360), OpenSpan(1, 1_320, 1_440)), False, "night", (480, 0), True),
        ((OpenSpan(1, 0, 180),), False, "night", (180, 300), True),
        ((OpenSpan(1, 0, 179),), False, "night", (179, 301), False),
        ((OpenSpan(1, 0, 301),), False, "night", (301, 179), False),
        ((OpenSpan(1, 720, 780),), False, "open", (60, 540), False),
        ((OpenSpan(1, 720, 960),), True, "closed", (240, 720), True),
    ],
)
def test_which_windows_workstations_tell(window, closed_day, band, parts, told):
    """Workstations report a window that leaves three hours of its band inside and outside, or covers it.
    They never report one in the open band (bands.coarse_windows)."""
    calendar = DEFAULT_CALENDAR._replace(update_windows=window)
    (found,) = [one for one in windows_of(calendar) if one.band == band and one.closed_day is closed_day]
    assert (found.inside_minutes, found.outside_minutes) == parts
    assert (found.workstation == "") is told


@pytest.mark.parametrize(
    ("zone", "start", "cut"),
    [("Europe/Paris", 60, False), ("Europe/Paris", 75, True), ("Asia/Kolkata", 60, True)],
)
def test_windows_that_cut_an_hour(zone, start, cut):
    """Hours are those of UTC, and India is at a half hour."""
    calendar = DEFAULT_CALENDAR._replace(time_zone=zone, update_windows=(OpenSpan(1, start, 300),))
    assert {bool(one.hourly) for one in windows_of(calendar)} == {cut}


def test_weeks_in_words():
    """Adjacent days with the same hours are written together."""
    spans = (*WEEK[:2], OpenSpan(3, 480, 720), OpenSpan(3, 780, 1_080), *WEEK[3:])
    assert weekly_text(spans) == (
        "monday-tuesday 08:00-18:00, wednesday 08:00-12:00 13:00-18:00, thursday-friday 08:00-18:00"
    )
    assert weekly_text(()) == "never"


@given(st.dates(date(2024, 1, 1), date(2027, 12, 31)))
def test_a_day_is_open_where_it_has_open_time(day):
    """The quick answer equals that of the bands, closures and holidays included."""
    calendar = compose(LYON, "Europe/Paris", 2025)
    assert is_open(calendar, day) == any(one.band is Band.OPEN for one in day_segments(calendar, day))
