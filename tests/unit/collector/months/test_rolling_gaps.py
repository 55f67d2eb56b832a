# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of imputation in rolling up months (docs/methodology.md §4): values, limits and exclusions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.model.calendars import BEFORE_ALL, CalendarVersion
from veilleuse.collector.model.meters import PsysCheck
from veilleuse.collector.model.months import DayType
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.months.imputation import impute, rescale
from veilleuse.collector.months.site_days import SiteDays
from veilleuse.collector.ports.months import KnownBand, MonthSource, Units
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.vocabulary import Band, Population

HOUR = 3_600_000
MONTH = date(2025, 6, 1)
"""A Sunday, of 30 days; no clock changes."""
BANDS = {Band.OPEN: 10 * HOUR, Band.NIGHT: 8 * HOUR, Band.CLOSED: 6 * HOUR}
CLOSED_BANDS = {Band.NIGHT: 8 * HOUR, Band.CLOSED: 16 * HOUR}


def days(population: Population = Population.SERVER) -> SiteDays:
    """Return the days of a site with the default timetable."""
    return SiteDays((CalendarVersion(BEFORE_ALL, DEFAULT_CALENDAR),), (), population)


def known(day: date, band: Band, milliseconds: int, milliwatts: int = 1_000, on: bool = True) -> KnownBand:
    """Return a band of a day that is known throughout; 1 mW over 1 ms is a thousandth of a mJ."""
    energy = milliseconds * milliwatts // 1_000
    ons = (milliseconds, milliseconds, energy) if on else (0, 0, 0)
    return KnownBand(Grain.DAY, day.toordinal(), band, milliseconds, milliseconds, energy, *ons)


def whole(day: date, milliwatts: int = 1_000) -> list[KnownBand]:
    """Return the bands of a day that is known throughout."""
    bands = BANDS if day.isoweekday() <= 5 else CLOSED_BANDS
    return [known(day, band, length, milliwatts) for band, length in bands.items()]


def source(rows: Sequence[KnownBand], first: date | None = None, last: date | None = None) -> MonthSource:
    """Return the source of a machine seen from long before until long after."""
    return MonthSource(
        HostId(1),
        MONTH,
        Units(),
        tuple(rows),
        (first or date(2025, 1, 1)).toordinal(),
        (last or date(2025, 12, 1)).toordinal(),
        PsysCheck(),
    )


def may_and(silent: set[int]) -> list[KnownBand]:
    """Return all of May, June without the given days, and 4 days of July."""
    every = [date(2025, 5, 1) + timedelta(days=n) for n in range(65)]
    return [row for day in every if not (day.month == 6 and day.day in silent) for row in whole(day)]


def test_nothing_missing_nothing_imputed():
    """A month with every band of every day known has no imputed time."""
    assert impute(source(may_and(set())), days()) == {}


def test_three_silent_days_are_split_by_the_machines_history():
    """72 h of Tuesday to Thursday take the mean power of the same band on days of the same type."""
    found = impute(source(may_and({10, 11, 12})), days())
    assert found == {(DayType.OPEN, band): (3 * length, 3 * length, 0) for band, length in BANDS.items()}


def test_four_silent_days_are_not_observed():
    """Nothing of 96 h is imputed."""
    found = impute(source(may_and({10, 11, 12, 13})), days())
    assert found == {(DayType.OPEN, band): (0, 0, 4 * length) for band, length in BANDS.items()}


def test_what_is_missing_beside_silent_days_belongs_to_the_same_silence():
    """Three silent days and an hour of the day before may be 73 h, so that nothing is imputed."""
    rows = may_and({9, 10, 11, 12})
    rows += [
        known(date(2025, 6, 9), band, length - (HOUR if band is Band.NIGHT else 0))
        for band, length in BANDS.items()
    ]
    found = impute(source(rows), days())
    assert found[DayType.OPEN, Band.NIGHT] == (0, 0, 25 * HOUR)


def test_a_silence_across_the_months_end_is_one():
    """28 June to 1 July is one silence of 96 h, of which three days are June's."""
    rows = [row for row in may_and({28, 29, 30}) if row.start != date(2025, 7, 1).toordinal()]
    assert sum(value[2] for value in impute(source(rows), days()).values()) == 3 * 24 * HOUR
    only_june = impute(source(may_and({28, 29, 30})), days())
    assert sum(value[0] for value in only_june.values()) == 3 * 24 * HOUR


def test_the_mean_is_over_all_states_and_of_8_weeks_alone():
    """Nights of May at 3 W and 1 W give a mean of 2 W; power before 6 May does not count."""
    rows = [row for row in may_and({10}) if row.band is not Band.NIGHT]
    for number in range(65):
        day = date(2025, 5, 1) + timedelta(days=number)
        if day != date(2025, 6, 10):
            milliwatts = 1_000_000 if day < date(2025, 5, 6) else 3_000 if number % 2 else 1_000
            rows.append(known(day, Band.NIGHT, 8 * HOUR, milliwatts))
    milliseconds, energy, _ = impute(source(rows), days())[DayType.OPEN, Band.NIGHT]
    assert milliseconds == 8 * HOUR
    assert abs(energy / milliseconds - 2) < 0.1


def test_time_on_without_an_energy_gets_the_mean_of_its_time_on():
    """Rule 1: the state is known, so that only the energy is imputed."""
    rows = may_and({10})
    day = date(2025, 6, 10)
    for band, length in BANDS.items():
        rows.append(KnownBand(Grain.DAY, day.toordinal(), band, length, 0, 0, length, 0, 0))
    assert impute(source(rows), days()) == {
        (DayType.OPEN, band): (0, length, 0) for band, length in BANDS.items()
    }


def test_a_machine_without_history_is_not_observed():
    """A band and day type without history is not imputed."""
    rows = [row for row in may_and({10}) if row.band is not Band.OPEN]
    found = impute(source(rows), days())
    assert found[DayType.OPEN, Band.OPEN][:2] == (0, 0)
    assert found[DayType.OPEN, Band.OPEN][2] > 0


def test_the_first_and_the_last_day_bound_what_is_missing():
    """Time before the first day and after the last is not missing; without days, all is."""
    rows = [
        row for row in may_and(set()) if date(2025, 6, 9) <= date.fromordinal(row.start) <= date(2025, 6, 20)
    ]
    assert impute(source(rows, date(2025, 6, 9), date(2025, 6, 20)), days()) == {}
    assert impute(source((), None, None), days())  # in between, all of it is missing


def test_bands_that_a_machine_shifted_are_not_missing_time():
    """With another calendar, 10 h of `closed` replace `open`, and the day is complete."""
    rows = may_and({10})
    rows += [known(date(2025, 6, 10), Band.NIGHT, 8 * HOUR), known(date(2025, 6, 10), Band.CLOSED, 16 * HOUR)]
    assert impute(source(rows), days()) == {}


def test_open_time_that_a_server_sent_by_the_week_is_not_missing():
    """A server that did not know its population sent nights and closed bands of 10 June by the day, and the
    open time of it with the week: nothing is imputed; two hours less, and two hours are."""
    monday, tuesday = date(2025, 6, 9), date(2025, 6, 10)
    rows = may_and({10}) + [row for row in whole(tuesday) if row.band is not Band.OPEN]
    for short in (0, 2 * HOUR):
        of_week = known(monday, Band.OPEN, 10 * HOUR - short)._replace(grain=Grain.WEEK)
        found = impute(source([*rows, of_week]), days())
        assert {key: value[0] for key, value in found.items()} == (
            {(DayType.OPEN, Band.OPEN): short} if short else {}
        )


def test_the_open_band_of_workstations_is_missing_by_the_week():
    """In a week with 40 of 50 open hours reported, the silent day takes the missing ten."""
    rows: list[KnownBand] = []
    for number in range(65):
        day = date(2025, 5, 1) + timedelta(days=number)
        bands = dict((BANDS if day.isoweekday() <= 5 else CLOSED_BANDS).items())
        bands.pop(Band.OPEN, None)
        if day != date(2025, 6, 11):
            rows += [known(day, band, length) for band, length in bands.items()]
        if day.isoweekday() == 1:
            told = (40 if day == date(2025, 6, 9) else 50) * HOUR
            rows.append(KnownBand(Grain.WEEK, day.toordinal(), Band.OPEN, told, told, told, told, told, told))
    found = impute(source(rows), days(Population.WORKSTATION))
    assert found == {(DayType.OPEN, band): (length, length, 0) for band, length in BANDS.items()}


@given(
    short=st.integers(0, 10**9),
    energy=st.integers(0, 10**12),
    long=st.integers(0, 10**9),
    more=st.integers(-(10**9), 3 * 10**9),
)
def test_what_comes_late_takes_the_place_of_what_stood_in(short, energy, long, more):
    """Imputed and unobserved time shrink by the time that is known now, and never grow."""
    key = (DayType.OPEN, Band.NIGHT)
    after = rescale({key: (short, energy, long)}, {key: more}).get(key, (0, 0, 0))
    assert after[0] + after[2] == max(0, short + long - max(0, more))
    assert 0 <= after[0] <= short
    assert 0 <= after[1] <= energy
    assert after[2] >= 0


@given(st.sets(st.integers(2, 29), max_size=20), st.sets(st.integers(2, 29), max_size=10))
def test_known_and_missing_time_are_the_civil_days(silent, half):
    """For each day, known + imputed + unobserved time is the calendar's, whatever is missing."""
    rows = may_and(silent | half)
    for day in sorted(half - silent):
        rows += [
            known(date(2025, 6, day), row.band, row.known_milliseconds // 2)
            for row in whole(date(2025, 6, day))
        ]
    found = impute(source(rows), days())
    told = sum(row.known_milliseconds for row in rows if date.fromordinal(row.start).month == 6)
    assert told + sum(short + long for short, _, long in found.values()) == 30 * 24 * HOUR
