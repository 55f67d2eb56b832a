# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Months and years are exact sums of days in the real store, and are marked when their days change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from tests.support.filled import METER, RAPL, Filled, cell, civil, clock, week
from tests.support.rolled import (
    HOUR,
    ZONE,
    days_of,
    month_worker,
    retention,
    roll,
    roll_under_way,
    server_day,
    site_calendars,
    workstation,
    workstation_days,
)
from veilleuse.collector.calendars.compose import compose
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.calendars import (
    BEFORE_ALL,
    CalendarVersion,
    Declaration,
    SchoolPeriod,
    SchoolZone,
)
from veilleuse.collector.model.months import COLUMNS, DayType, HostPeriod
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.months.worker import ended_by
from veilleuse.collector.store.sqlite.migrations import migrations
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

YEAR = (date(2025, 1, 1), date(2026, 1, 1))
AFTER = date(2026, 1, 8)


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    """Open an empty store with the site `lyon`."""
    with Filled(tmp_path / "data") as made:
        yield made


def periods(filled: Filled, first: date, end: date) -> list[HostPeriod]:
    """Return the rows of a period as a report reads them."""
    with closing(filled.reader()) as reader:
        return list(Periods(reader).host_periods(first, end))


def months(filled: Filled, first: date, end: date) -> list[HostPeriod]:
    """Return the same rows month by month."""
    with closing(filled.reader()) as reader:
        return list(Periods(reader).host_months(first, end))


def total(rows: list[HostPeriod]) -> Counter[str]:
    """Sum each column over all rows."""
    found: Counter[str] = Counter()
    for row in rows:
        found.update({name: value for name, value in zip(COLUMNS, row.values, strict=True) if value})
    return found


def stored(filled: Filled, first: date, end: date) -> Counter[str]:
    """Sum the same columns over the stored days and weeks; all weeks lie inside the period."""
    found: Counter[str] = Counter()
    with closing(filled.reader()) as reader:
        for grain in (Grain.DAY, Grain.WEEK):
            for row in reader.sums(grain, first.toordinal(), end.toordinal()):
                found[f"{row.cell.state}_{row.cell.supply}_milliseconds"] += row.cell.milliseconds
            for one in reader.derived(grain, first.toordinal(), end.toordinal()):
                found[f"{one.cell.method}_milliseconds"] += one.cell.milliseconds
                found[f"{one.cell.method}_energy_millijoules"] += one.cell.energy_millijoules
                found[f"{one.cell.method}_uncertainty_millijoules"] += one.cell.uncertainty_millijoules
                found[f"{one.cell.state}_energy_millijoules"] += one.cell.energy_millijoules
    return found


def stale(filled: Filled) -> list[tuple[date, HostId]]:
    """Return the marked months with their machines."""
    rows = filled.store.data.connection.execute("SELECT month, host_id FROM stale_months ORDER BY 1, 2")
    return [(date.fromordinal(month), host_id) for month, host_id in rows]


def test_a_year_is_the_sum_of_its_days_kept_or_not(filled):
    """Every column of time and energy of a year is Σ of days and weeks, to the millijoule; kept rows are
    equal."""
    host_id = workstation(filled)
    # Monday 30 December 2024 to Sunday 4 January 2026: no week lies across an edge of the data.
    workstation_days(filled, host_id, date(2024, 12, 30), date(2026, 1, 5), night_on=True)
    server = filled.add_host()
    for day in days_of(date(2025, 3, 29), date(2025, 4, 2)):
        server_day(filled, server, day)
    filled.derive()
    whole = (date(2024, 12, 1), date(2026, 2, 1))
    fresh, fresh_year = periods(filled, *whole), periods(filled, *YEAR)
    sums = total(fresh)
    for name in ("counters_energy_millijoules", "counters_covered_milliseconds", "nights_on"):
        assert sums.pop(name)
    assert sums == stored(filled, *whole)
    assert roll(filled, AFTER) >= 13
    assert periods(filled, *whole) == fresh
    assert periods(filled, *YEAR) == fresh_year
    assert total(months(filled, *YEAR)) == total(fresh_year)
    assert [row.host_id for row in fresh_year] == sorted(row.host_id for row in fresh_year)
    rows = filled.store.data.connection.execute("SELECT count(*) FROM host_years WHERE year = 2025")
    assert rows.fetchone()[0] == len(fresh_year)


@pytest.mark.parametrize("late", [3, 10])
def test_most_of_a_year_is_the_sum_of_its_months(filled, late):
    """January to September, and from 12 January on, read as the year without its other months.
    A month of either part that is out of date is read from its days."""
    host_id = workstation(filled)
    workstation_days(filled, host_id, date(2025, 1, 6), date(2025, 12, 8))
    filled.derive()
    roll(filled, date(2025, 12, 31))
    part = (date(2025, 1, 1), date(2025, 10, 1))
    before, of_months = total(periods(filled, *part)), total(months(filled, *part))
    assert before == of_months
    edge, february = date(2025, 1, 12), date(2025, 2, 1)
    rest = total(months(filled, february, part[1]))
    assert total(periods(filled, edge, part[1])) == total(periods(filled, edge, february)) + rest
    filled.push(host_id, [(civil(date(2025, late, 18)), [cell(State.OFF, 14 * HOUR, Band.NIGHT)])])
    filled.derive()
    assert stale(filled) == [(date(2025, late, 1), host_id), (date(2025, 12, 1), host_id)]
    after = total(periods(filled, *part))
    assert after == total(months(filled, *part))
    assert after["off_ac_milliseconds"] - before["off_ac_milliseconds"] == (14 * HOUR if late < 10 else 0)


def test_a_week_across_two_months_is_shared_by_open_time_and_sums_exactly(filled):
    """30 June 2025 is a Monday, so June has one of five open days; the integer parts sum exactly."""
    host_id = workstation(filled)
    filled.push(
        host_id, [(week(date(2025, 6, 30)), [cell(State.ON_ACTIVE, 36_000_001, energy_millijoules=7)])], RAPL
    )
    filled.push(host_id, [(civil(date(2025, 6, 30)), [cell(State.OFF, HOUR, Band.NIGHT)])])
    filled.derive()
    parts = {
        row.period_from.month: row
        for row in months(filled, date(2025, 6, 1), date(2025, 8, 1))
        if row.band is Band.OPEN
    }
    assert {month: row.value("on_active_ac_milliseconds") for month, row in parts.items()} == {
        6: 7_200_000,
        7: 28_800_001,
    }
    assert all(row.apportioned for row in parts.values())
    assert sum(row.value("counters_energy_millijoules") for row in parts.values()) == 7


def test_late_data_marks_its_month_and_the_year_follows(filled):
    """Data that come after a month was kept are in the next report at once.
    The kept rows contain them after the next roll."""
    host_id = workstation(filled)
    workstation_days(filled, host_id, date(2025, 3, 3), date(2025, 3, 31), without=[date(2025, 3, 18)])
    filled.derive()
    roll(filled, date(2025, 4, 10))
    assert stale(filled) == []
    before = total(periods(filled, *YEAR))
    assert before["off_ac_milliseconds"]
    assert before["imputed_milliseconds"] == 14 * HOUR + 10 * HOUR
    filled.push(host_id, [(civil(date(2025, 3, 18)), [cell(State.OFF, 14 * HOUR, Band.NIGHT)])])
    assert stale(filled) == [(date(2025, 3, 1), host_id)]
    filled.derive()
    after = total(periods(filled, *YEAR))
    assert after["off_ac_milliseconds"] - before["off_ac_milliseconds"] == 14 * HOUR
    roll(filled, date(2025, 4, 10))
    assert stale(filled) == []
    assert total(periods(filled, *YEAR)) == after


def test_a_month_is_kept_three_days_after_its_end_and_once_derived(filled):
    """It is kept on the 4th, not on the 3rd, and never while something of the machine waits to be derived."""
    host_id = workstation(filled)
    workstation_days(filled, host_id, date(2025, 3, 3), date(2025, 4, 7))
    assert ended_by(date(2025, 4, 3)) == date(2025, 3, 1)
    assert ended_by(date(2025, 4, 4)) == date(2025, 4, 1)
    assert roll(filled, date(2025, 5, 4)) == 0
    filled.derive()
    roll(filled, date(2025, 4, 3))
    assert (date(2025, 3, 1), host_id) in stale(filled)
    assert roll(filled, date(2025, 4, 4)) == 1
    assert stale(filled) == [(date(2025, 4, 1), host_id)]  # from the week that lies across the edge


def test_a_month_under_way_is_stored_at_once_and_of_a_server_once_an_hour(filled):
    """A server sends every few minutes: its month would be stored again each time."""
    now = [0.0]
    worker = month_worker(filled, date(2025, 3, 20), lambda: now[0])
    server, machine = filled.add_host(), workstation(filled)
    for day, (seconds, stored) in enumerate(((0.0, 2), (60.0, 1), (3_500.0, 1), (3_601.0, 2)), 5):
        server_day(filled, server, date(2025, 3, day))
        workstation_days(filled, machine, date(2025, 3, day), date(2025, 3, day + 1))
        filled.derive()
        now[0] = seconds
        assert (worker.run_slice_under_way(), worker.run_slice_under_way()) == (stored, 0)


def test_a_mark_that_was_rolled_back_is_set_again(filled):
    """The memory of marks is cleared with the transaction that set them."""
    host_id = workstation(filled)

    def undone() -> None:
        with filled.store.transaction():
            workstation_days(filled, host_id, date(2025, 3, 3), date(2025, 3, 4))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        undone()
    filled._streams.clear()
    assert stale(filled) == []
    workstation_days(filled, host_id, date(2025, 3, 3), date(2025, 3, 4))
    assert stale(filled) == [(date(2025, 2, 1), host_id), (date(2025, 3, 1), host_id)]


def test_deriving_again_marks_only_what_changes(filled):
    """`veilleuse derive --all` with the same models marks no month."""
    host_id = workstation(filled)
    workstation_days(filled, host_id, date(2025, 3, 3), date(2025, 3, 31))
    filled.derive()
    roll(filled, date(2025, 4, 10))
    filled.store.derive.mark_all_dirty()
    filled.derive()
    assert stale(filled) == []
    filled.derive_worker._plugged_share_ppm = 0
    filled.store.data.connection.execute(
        "UPDATE derived SET energy_millijoules = 1 WHERE start = ?", (date(2025, 3, 5).toordinal(),)
    )
    filled.store.derive.mark_all_dirty()
    filled.derive()
    assert stale(filled) == [(date(2025, 3, 1), host_id)]


def test_a_machine_that_comes_back_after_a_silence_makes_its_last_month_longer(filled):
    """When March was kept, its silence was unknown, so nothing was missing after its last day.
    April is all silence. Storing March and May under way before changes nothing of that."""
    host_id = workstation(filled)
    workstation_days(filled, host_id, date(2025, 3, 3), date(2025, 3, 17))
    filled.derive()
    assert roll_under_way(filled, date(2025, 3, 20)) == 1
    roll(filled, date(2025, 4, 10))
    assert total(periods(filled, *YEAR))["unobserved_milliseconds"] == 0
    workstation_days(filled, host_id, date(2025, 5, 5), date(2025, 5, 26))
    filled.derive()
    assert roll_under_way(filled, date(2025, 5, 26)) == 1
    roll(filled, date(2025, 6, 10))
    lost = {row.period_from.month: 0 for row in months(filled, *YEAR)}
    for row in months(filled, *YEAR):
        lost[row.period_from.month] += row.value("unobserved_milliseconds")
    hour = HOUR  # clocks go forward on 30 March
    # Day bands of 17 to 31 March, and the open band of its two whole silent weeks and of Monday the 31st.
    assert lost[3] == 15 * 24 * HOUR - hour
    assert lost[4] == 30 * 24 * HOUR
    assert total(periods(filled, *YEAR))["imputed_milliseconds"] == 0


def test_metered_time_of_unknown_state_is_not_imputed_as_well(filled):
    """A meter measures a server while its state is unknown. Energy was imputed for this time as well."""
    host_id = filled.add_host()
    for day in days_of(date(2025, 5, 1), date(2025, 7, 5)):
        unknown = range(8, 16) if day == date(2025, 6, 11) else ()
        server_day(filled, host_id, day, hours=[h for h in range(24) if h not in unknown], point=METER)
        midnight = day_start_unix_milliseconds(day, ZONE)
        at = cell(State.UNKNOWN, HOUR, energy_millijoules=200 * HOUR)
        filled.push(host_id, [(clock(midnight + hour * HOUR, HOUR), [at]) for hour in unknown], METER)
    filled.derive()
    fresh = total(months(filled, date(2025, 6, 1), date(2025, 7, 1)))
    assert fresh["metered_energy_millijoules"] == 30 * 24 * HOUR * 200
    assert fresh["unknown_derived_milliseconds"] == 8 * HOUR
    assert fresh["imputed_milliseconds"] == fresh["imputed_energy_millijoules"] == 0
    roll(filled, date(2025, 8, 1))
    assert total(months(filled, date(2025, 6, 1), date(2025, 7, 1))) == fresh
    # Months that method 0.5 computed are computed again.
    (migration,) = (one for one in migrations("data") if one.number == 25)
    before_27 = "DROP INDEX months_to_compute; ALTER TABLE stale_months DROP COLUMN stored;"
    filled.store.data.connection.executescript(before_27 + migration.sql)
    assert stale(filled) == [(date(2025, month, 1), host_id) for month in (5, 6, 7)]


def test_day_types_follow_the_calendar_of_then(filled):
    """Closures and holidays of the site's zone apply; a change from May on leaves April as it was."""
    host_id = workstation(filled)
    site = filled.store.registry.site("lyon")
    old = Declaration(DEFAULT_CALENDAR.open_spans, school_zone=SchoolZone.A)
    new = Declaration(DEFAULT_CALENDAR.open_spans, public_holidays=True, school_zone=SchoolZone.A)
    made = [
        CalendarVersion(day, compose(one, ZONE, 2026), one, 2026)
        for day, one in ((BEFORE_ALL, old), (date(2026, 5, 1), new))
    ]
    with filled.store.transaction():
        filled.store.registry.put_site(replace(site, calendar_json=made[-1].calendar.to_json()))
        filled.store.calendars.put("lyon", made)
    days = site_calendars(filled.store).days(filled.store.registry.site("lyon"), Population.WORKSTATION)
    expected = {
        date(2025, 4, 21): DayType.OPEN,  # before the table of holidays begins
        date(2026, 4, 3): DayType.OPEN,
        date(2026, 4, 6): DayType.SCHOOL_HOLIDAY,  # Easter Monday, under the old calendar
        date(2026, 4, 11): DayType.CLOSED,
        date(2026, 5, 1): DayType.OPEN,  # a workstation's week has the calendar of its Monday
        date(2026, 5, 8): DayType.CLOSED,
        date(2026, 5, 15): DayType.SCHOOL_HOLIDAY,
    }
    assert {day: days.of(day.toordinal()).day_type for day in expected} == expected
    workstation_days(filled, host_id, date(2026, 5, 11), date(2026, 5, 18))
    filled.derive()
    rows = months(filled, date(2026, 5, 1), date(2026, 6, 1))
    opened = {row.day_type: row.value("on_active_ac_milliseconds") for row in rows if row.band is Band.OPEN}
    assert opened == {DayType.OPEN: 35 * HOUR * 3 // 4, DayType.SCHOOL_HOLIDAY: 35 * HOUR // 4}


def test_a_calendar_or_a_school_import_marks_the_months_it_changes(filled):
    """A calendar marks months from the day of the first version that differs.
    Holidays mark the span that differs, at sites of their zone."""
    filled.add_site("paris")
    here, there = workstation(filled), workstation(filled, "paris")
    for host_id in (here, there):
        workstation_days(filled, host_id, date(2025, 3, 3), date(2025, 6, 2))
    filled.derive()
    roll(filled, date(2025, 7, 10))
    assert stale(filled) == []
    one = Declaration(DEFAULT_CALENDAR.open_spans, school_zone=SchoolZone.A)
    first = CalendarVersion(BEFORE_ALL, DEFAULT_CALENDAR)
    filled.store.calendars.put(
        "lyon", [first, CalendarVersion(date(2025, 5, 1), compose(one, ZONE, 2025), one, 2025)]
    )
    # All months are marked, because the first version itself was never stored.
    assert {host_id for _, host_id in stale(filled)} == {here}
    roll(filled, date(2025, 7, 10))
    two = Declaration(DEFAULT_CALENDAR.open_spans, public_holidays=True, school_zone=SchoolZone.A)
    filled.store.calendars.put(
        "lyon", [first, CalendarVersion(date(2025, 5, 1), compose(two, ZONE, 2025), two, 2025)]
    )
    assert stale(filled) == [(date(2025, 5, 1), here), (date(2025, 6, 1), here)]
    roll(filled, date(2025, 7, 10))
    holidays = SchoolPeriod(SchoolZone.A, date(2025, 4, 10), date(2025, 4, 20), "Printemps")
    filled.store.calendars.replace_school_periods(
        [holidays, SchoolPeriod(SchoolZone.B, date(2025, 3, 10), date(2025, 3, 20), "x")]
    )
    assert stale(filled) == [(date(2025, 4, 1), here)]


def test_nights_of_workstations_are_dates_and_of_classrooms_evenings_and_servers_have_none(filled):
    """On from 20:00 to 03:00 is two dates with 2 and 3 h of night, or one evening of 5 h."""
    hosts = {
        population: filled.add_host(population, DeviceClass.TOWER)
        for population in (Population.CLASSROOM, Population.SERVER)
    }
    for host_id in hosts.values():
        server_day(filled, host_id, date(2025, 3, 31), hours=range(20, 24))
        server_day(filled, host_id, date(2025, 4, 1), hours=range(3))
    filled.derive()
    nights = {
        (row.host_id, row.period_from): row.value("nights_on")
        for row in months(filled, date(2025, 3, 1), date(2025, 5, 1))
        if row.band is Band.NIGHT
    }
    assert (
        nights[hosts[Population.CLASSROOM], date(2025, 3, 1)] == 1
    )  # dated by its evening, in the month before
    assert sum(nights.values()) == 1


def test_counters_are_what_the_wall_model_multiplied(filled):
    """Under a meter the wall model multiplies nothing: counters apply to time without the meter."""
    metered, counted = (filled.add_host(Population.CLASSROOM, DeviceClass.TOWER) for _ in range(2))
    start = day_start_unix_milliseconds(date(2025, 3, 3), ZONE) + 9 * HOUR
    for host_id, point in ((metered, METER), (counted, RAPL)):
        filled.push(
            host_id,
            [(clock(start, HOUR), [cell(State.ON_ACTIVE, HOUR, energy_millijoules=30 * HOUR)])],
            point,
        )
    filled.derive()
    rows = {row.host_id: row for row in periods(filled, date(2025, 3, 1), date(2025, 4, 1))}
    assert rows[metered].value("metered_energy_millijoules") == 30 * HOUR
    assert rows[metered].value("counters_energy_millijoules") == 0
    assert rows[counted].value("counters_energy_millijoules") == 30 * HOUR
    assert rows[counted].value("counters_covered_milliseconds") == HOUR


def test_energy_in_update_windows_and_screens(filled):
    """A cell's wall energy is divided by its time in update windows; screens have their own columns."""
    host_id = filled.add_host(Population.CLASSROOM, DeviceClass.LAPTOP)
    start = day_start_unix_milliseconds(date(2025, 3, 3), ZONE) + 9 * HOUR
    on = cell(State.ON_ACTIVE, HOUR)
    on.update_window_milliseconds = HOUR // 4
    on.displays.add(size=2, milliseconds=HOUR)
    filled.push(host_id, [(clock(start, HOUR), [on])])
    filled.derive()
    (row,) = periods(filled, date(2025, 3, 1), date(2025, 4, 1))
    on_energy = row.value("on_active_energy_millijoules")
    assert on_energy > 0
    assert abs(4 * row.value("update_window_energy_millijoules") - on_energy) < 4
    assert row.value("display_1_milliseconds") == row.value("screens_milliseconds") == HOUR
    assert row.value("screens_energy_millijoules") > 0


@pytest.mark.parametrize(
    "cut", [date(2025, 1, 2), date(2025, 1, 16), date(2025, 2, 1), date(2025, 2, 12), date(2025, 3, 9)]
)
def test_any_two_parts_of_a_period_are_the_whole(filled, cut):
    """A cut at any day, in whole or partial months or years, divides all values; each share of a week may be
    a unit off."""
    first, end = date(2025, 1, 1), date(2025, 3, 10)
    server = filled.add_host(Population.SERVER, DeviceClass.SERVER)
    machine = workstation(filled)
    for day in days_of(first, end):
        server_day(filled, server, day, hours=range(24))
    workstation_days(filled, machine, date(2024, 12, 30), date(2025, 3, 24))
    filled.derive()
    roll(filled, date(2025, 3, 20))

    def sums(start: date, stop: date) -> dict[tuple[HostId, DayType, Band], list[int]]:
        return {
            (row.host_id, row.day_type, row.band): list(row.values) for row in periods(filled, start, stop)
        }

    whole, parts = sums(first, end), (sums(first, cut), sums(cut, end))
    assert whole
    nothing = [0] * len(COLUMNS)
    for key, values in whole.items():
        together = [one + more for one, more in zip(*(part.get(key, nothing) for part in parts), strict=True)]
        assert max(abs(one - other) for one, other in zip(values, together, strict=True)) <= 40


def test_a_part_of_a_month_whose_days_are_gone(filled):
    """A kept month cannot be cut: the error asks for whole months."""
    workstation_days(filled, workstation(filled), date(2025, 1, 1), date(2025, 3, 1))
    filled.derive()
    roll(filled, date(2025, 3, 20))
    retention(filled).run(date(2025, 6, 1))
    assert list(periods(filled, date(2025, 1, 1), date(2025, 2, 1)))
    with pytest.raises(UsageError, match="1st of a month"):
        list(periods(filled, date(2025, 1, 2), date(2025, 2, 1)))
