# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that ticks become records of exact periods, with nothing lost and nothing finer than allowed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes.measuring import METER, NOON, PACKAGE
from veilleuse.agent.model import ClockPeriod, DatePeriod, LoadDelta, PointEnergy, Record, Tick, WeekPeriod
from veilleuse.agent.resident.fold import Fold, SiteCalendar
from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar, OpenSpan
from veilleuse.wire.limits import HOUR_MILLISECONDS as HOUR
from veilleuse.wire.limits import MAX_CELLS_PER_RECORD
from veilleuse.wire.vocabulary import Band, GapReason, Population, State, Supply

DAY = 24 * HOUR
MONDAY = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp()) * 1000 - HOUR  # 00:00 in Paris
SPRING = int(datetime(2026, 3, 28, 20, tzinfo=UTC).timestamp()) * 1000  # the night of 23 hours
AUTUMN = int(datetime(2026, 10, 24, 20, tzinfo=UTC).timestamp()) * 1000  # the night of 25 hours
WINDOWS = (OpenSpan(3, 11 * 60 + 7, 12 * 60 + 1), OpenSpan(4, 60, 300), OpenSpan(7, 90, 270))


def on(start: int, length: int, *, state: State = State.ON_IDLE, **fields: Any) -> Tick:
    """Return an awake tick with a load."""
    fields.setdefault("load", LoadDelta(0.013, 0.9, 0.5, 3_004, 7_012))
    fields.setdefault("energies", (PointEnergy(PACKAGE, 12_345, length), PointEnergy(METER, 40_007, length)))
    return Tick(start, length, state, Supply.AC, **fields)


def full(start: int, length: int, state: State, energy: int, moved: int, ratio: float) -> Tick:
    """Return an awake tick with every value that a tick can have."""
    return on(
        start,
        length,
        state=state,
        load=LoadDelta(ratio, ratio, 0.4, moved, moved + 7),
        energies=(PointEnergy(PACKAGE, energy, length),),
        gaps=(("linux_hwmon", length),),
        displays_on=(0, moved % 3, 2, 0),
        units=(("unit:nginx", moved % 100_003), ("guest:7", 3)),
    )


def silent(start: int, length: int, state: State = State.OFF) -> Tick:
    """Return a tick of unobserved time."""
    return Tick(start, length, state, Supply.AC)


def fold_all(fold: Fold, ticks: list[Tick]) -> list[Record]:
    """Return all closed and open records."""
    return [record for tick in ticks for record in fold.add(tick)] + list(fold.flush())


def totals(records: list[Record], *, but: tuple[State, ...] = ()) -> Counter[Any]:
    """Return all sums over all cells, except cells in the states of `but`."""
    sums: Counter[Any] = Counter()
    for record in records:
        for (_, state, _), cell in record.cells.items():
            if state in but:
                continue
            sums["milliseconds"] += cell.milliseconds
            sums[state] += cell.milliseconds
            sums.update(cell.sums)
            for point, (energy, covered) in cell.energies.items():
                sums[point.domain] += energy
                sums[point.domain, "covered"] += covered
            for point, (energy, covered) in cell.window_energies.items():
                sums[point.domain, "window"] += energy
                assert energy <= cell.energies[point][0]
                assert covered <= min(cell.energies[point][1], cell.sums["update_window_milliseconds"])
            for name, spent in cell.units.items():
                sums[name] += spent
            for name, buckets in cell.buckets.items():
                sums[name] += sum(buckets)
                for place, milliseconds in enumerate(buckets):
                    sums[name, place] += milliseconds
        for key, lost in record.gaps.items():
            sums[key] += lost
    return sums


ticks_strategy = st.lists(
    st.tuples(
        st.sampled_from([9_999, 10_000, 10_001, 59_000, 1_000, 1, 7 * HOUR, 26 * HOUR]),
        st.sampled_from([State.ON_ACTIVE, State.ON_IDLE, State.ASLEEP, State.OFF, State.UNKNOWN]),
        st.integers(0, 10**9),
        st.integers(0, 10**9),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(
    rows=ticks_strategy,
    start=st.sampled_from(
        [NOON, MONDAY - 5_000, SPRING, AUTUMN, MONDAY + 8 * HOUR - 3, MONDAY + 7 * DAY - 15_000]
    ),
    grain=st.sampled_from(
        [("server", 10_000), ("server", 300_000), ("classroom", HOUR), ("workstation", HOUR)]
    ),
    restart=st.booleans(),
    windows=st.sampled_from([(), WINDOWS]),
)
def test_parts_sum_to_the_whole(rows, start, grain, restart, windows):
    """Over any ticks, windows, clock changes, grains and a restart, records sum exactly to the ticks."""
    population, period = Population(grain[0]), grain[1]
    fold = Fold(
        population, period, SiteCalendar(DEFAULT_CALENDAR._replace(update_windows=windows), "ab" * 32)
    )
    records: list[Record] = []
    expected: Counter[Any] = Counter()
    for milliseconds, state, energy, moved, ratio in rows:
        if state in (State.ON_ACTIVE, State.ON_IDLE):
            milliseconds = min(milliseconds, 59_000)
            tick = full(start, milliseconds, state, energy, moved, ratio)
            expected["package-0"] += energy
            expected["package-0", "covered"] += milliseconds
            expected["cpu_busy_milliseconds"] += round(ratio * milliseconds)
            expected["display_milliseconds", 1] += moved % 3 * milliseconds
            expected["display_milliseconds", 2] += 2 * milliseconds
            if population is Population.SERVER:
                expected["unit:nginx"] += moved % 100_003
                expected["guest:7"] += 3
            expected[GapReason.SENSOR_LOST, "linux_hwmon"] += milliseconds
        else:
            tick = silent(start, milliseconds, state)
        expected[state] += milliseconds
        start += milliseconds
        records += fold.add(tick)
        if restart:
            fold, finished = Fold.from_json(fold.to_json(), population, period)
            assert finished == ()
    records += fold.flush()
    found = totals(records)
    filled = found[State.UNKNOWN] - expected[State.UNKNOWN]
    assert filled >= 0
    for key, value in expected.items():
        assert found[key] - (filled if key is State.UNKNOWN else 0) == value, key
    check_shape(records, population, period)


@settings(max_examples=60, deadline=None)
@given(
    stretches=st.lists(
        st.tuples(
            st.integers(1, 200),
            st.sampled_from(
                [("server", 60_000), ("server", 300_000), ("server", HOUR), ("workstation", HOUR)]
            ),
        ),
        min_size=2,
        max_size=8,
    ),
    start=st.sampled_from([NOON + 7_000, MONDAY - 55_000, MONDAY + 8 * HOUR - 125_000]),
    restart=st.booleans(),
)
def test_another_grain_neither_loses_nor_doubles_a_millisecond(stretches, start, restart):
    """After any changes of grain and restarts, the records cover the time once, without overlap."""
    (_, (population, period)), begin = stretches[0], start
    fold = Fold(Population(population), period)
    records: list[Record] = []
    for ticks, (population, period) in stretches:
        if restart:
            fold, finished = Fold.from_json(fold.to_json(), Population(population), period)
            records += finished
        else:
            records += fold.change_grain(Population(population), period)
        for _ in range(ticks):
            records += fold.add(on(start, 30_000))
            start += 30_000
    records += fold.flush()
    found = totals(records)
    assert found[State.ON_IDLE] == start - begin
    unknown_before = begin - (begin - begin % HOUR)
    if all(population == "server" for _, (population, _) in stretches):
        assert found[State.UNKNOWN] <= unknown_before  # time before the first tick, in its own period
    clock = [r for r in records if isinstance(r.period, ClockPeriod)]
    for hour in {
        r.period.start_unix_milliseconds // HOUR for r in clock if isinstance(r.period, ClockPeriod)
    }:
        inside = [
            r
            for r in clock
            if isinstance(r.period, ClockPeriod) and r.period.start_unix_milliseconds // HOUR == hour
        ]
        assert sum(totals(inside)[state] for state in State) <= HOUR


def test_a_change_of_grain_keeps_the_calendar_that_waits():
    """The day of a waiting calendar does not move."""
    fold = Fold(Population.SERVER, 300_000)
    list(fold.add(on(NOON, 10_000)))
    day = fold.schedule(SiteCalendar(DEFAULT_CALENDAR, "ab" * 32), NOON)
    fold.change_grain(Population.SERVER, HOUR)
    assert fold.schedule(SiteCalendar(DEFAULT_CALENDAR, "ab" * 32), NOON + 40 * DAY) == day


@pytest.mark.parametrize("days", [5, 400])
def test_a_clock_set_far_back_after_a_change_of_grain(days):
    """After a clock set far back, records of the former grain do not count: hours are filled whole."""
    fold = Fold(Population.SERVER, 300_000)
    list(fold.add(on(NOON, 10_000)))
    fold.change_grain(Population.SERVER, HOUR)
    back = NOON - days * DAY
    record, _ = fold_all(fold, [on(back, 10_000), on(back + HOUR, 10_000)])
    assert isinstance(record.period, ClockPeriod)
    assert record.period[:2] == (back - back % HOUR, HOUR)
    assert totals([record])["milliseconds"] == HOUR
    assert totals([record])[State.ON_IDLE] == 10_000


def check_shape(records: list[Record], population: Population, period: int) -> None:
    """Check that the collector accepts every record."""
    for record in records:
        assert len(record.cells) <= MAX_CELLS_PER_RECORD
        assert all(cell.milliseconds > 0 for cell in record.cells.values())
        for (band, _, _), cell in record.cells.items():
            assert all(covered <= cell.milliseconds for _, covered in cell.energies.values())
            assert cell.sums.get("cpu_busy_milliseconds", 0) <= cell.sums.get("cpu_covered_milliseconds", 0)
            buckets = cell.buckets.get("cpu_bucket_milliseconds", [0])
            assert sum(buckets) == cell.sums.get("cpu_covered_milliseconds", 0)
            assert cell.sums.get("update_window_milliseconds", 0) <= cell.milliseconds
            assert not cell.units or population is Population.SERVER
            if population is Population.WORKSTATION:
                assert band is not Band.OPEN or "update_window_milliseconds" not in cell.sums
                assert isinstance(record.period, WeekPeriod if band is Band.OPEN else DatePeriod)
                assert "network_rate_milliseconds" not in cell.buckets
                assert "network_rate_milliseconds" not in cell.buckets
        if isinstance(record.period, ClockPeriod):
            start, length = record.period.start_unix_milliseconds, record.period.duration_milliseconds
            assert population is not Population.WORKSTATION
            assert start % period == 0
            assert length % period == 0
            assert start // HOUR == (start + length - 1) // HOUR
            assert sum(cell.milliseconds for cell in record.cells.values()) <= length


@pytest.mark.parametrize(("start", "hours"), [(MONDAY, 24), (SPRING + 3 * HOUR, 23), (AUTUMN + 2 * HOUR, 25)])
def test_a_civil_day_has_its_own_length(start, hours):
    """A day of 23, 24 or 25 h is filled exactly by day record and open band; unobserved time is unknown."""
    fold = Fold(Population.WORKSTATION, HOUR)
    records = fold_all(
        fold,
        [
            on(start + 5 * HOUR, 10_000),
            silent(start + 5 * HOUR + 10_000, 12 * HOUR),
            on(start + hours * HOUR, 10),
        ],
    )
    (day,) = [r for r in records if isinstance(r.period, DatePeriod)][:1]
    weekday = datetime.fromtimestamp((start + 6 * HOUR) / 1000, UTC).weekday()
    open_hours = 10 if weekday < 5 else 0
    assert sum(cell.milliseconds for cell in day.cells.values()) == (hours - open_hours) * HOUR
    assert any(state is State.UNKNOWN for _, state, _ in day.cells)


def test_a_workstation_week():
    """A whole week gives seven day records and a week record, which sum to the week and contain no hour."""
    fold = Fold(Population.WORKSTATION, HOUR)
    ticks = [on(MONDAY + number * 60_000, 60_000) for number in range(7 * 24 * 60)]
    records = [record for tick in [*ticks, on(MONDAY + 7 * DAY, 10_000)] for record in fold.add(tick)]
    days = [r.period.day for r in records if isinstance(r.period, DatePeriod)]
    weeks = [r for r in records if isinstance(r.period, WeekPeriod)]
    assert days == [date(2026, 11, 23 + number) for number in range(7)]
    assert [week.period for week in weeks] == [WeekPeriod(2026, 48)]
    assert sum(cell.milliseconds for cell in weeks[0].cells.values()) == 50 * HOUR
    assert totals(records)["milliseconds"] == 7 * DAY
    assert not any(state is State.UNKNOWN for record in records for _, state, _ in record.cells)


def test_periods_of_a_server():
    """Periods are aligned; the first is filled from its start; a tick over an edge is divided exactly."""
    fold = Fold(Population.SERVER, 300_000)
    start = NOON + 123_000
    records = [record for number in range(60) for record in fold.add(on(start + number * 10_000, 10_000))]
    assert [r.period for r in records] == [
        ClockPeriod(NOON, 300_000),
        ClockPeriod(NOON + 300_000, 300_000),
    ]
    assert totals(records[:1])[State.UNKNOWN] == 123_000
    assert totals(records[1:])["milliseconds"] == 300_000
    assert totals(records[1:])["package-0"] == 30 * 12_345


def test_thirty_days_off_are_one_record_per_hour():
    """A long silence gives one record per hour; the records around it keep their period."""
    fold = Fold(Population.SERVER, 10_000)
    records = fold_all(
        fold, [on(NOON, 10_000), silent(NOON + 10_000, 30 * DAY), on(NOON + 10_000 + 30 * DAY, 10_000)]
    )
    assert len(records) == 2 + 721
    assert totals(records)[State.OFF] == 30 * DAY
    lengths = Counter(r.period.duration_milliseconds for r in records if isinstance(r.period, ClockPeriod))
    assert lengths[HOUR] == 719
    check_shape(records, Population.SERVER, 10_000)


def test_a_silence_over_a_band_edge_is_not_two_records_of_one_time():
    """An hour in which the site opens at half past is one record with two bands."""
    calendar = Calendar("Europe/Paris", (OpenSpan(3, 12 * 60 + 30, 18 * 60),))
    fold = Fold(Population.SERVER, 60_000, SiteCalendar(calendar, "aa"))
    records = fold_all(fold, [silent(NOON, 2 * HOUR)])
    assert [r.period for r in records] == [
        ClockPeriod(NOON, HOUR),
        ClockPeriod(NOON + HOUR, HOUR),
    ]
    assert {band for band, _, _ in records[0].cells} == {Band.CLOSED, Band.OPEN}


def test_idle_runs():
    """Only time beyond the first 15, 30 or 60 minutes of a run counts, also within a tick."""
    fold = Fold(Population.SERVER, HOUR)
    ticks = [on(NOON + n * 50_000, 50_000, idle_run_milliseconds=(n + 1) * 50_000) for n in range(72)]
    sums = totals(fold_all(fold, ticks))
    assert sums["idle_beyond_15_minutes_milliseconds"] == 45 * 60_000
    assert sums["idle_beyond_30_minutes_milliseconds"] == 30 * 60_000
    assert sums["idle_beyond_60_minutes_milliseconds"] == 0
    busy = totals(fold_all(Fold(Population.SERVER, HOUR), [on(NOON, 10_000, state=State.ON_ACTIVE)]))
    assert "idle_beyond_15_minutes_milliseconds" not in busy  # absent, not zero


def test_absent_is_not_zero():
    """Without a load the cell has no sums or buckets; without memory no memory bucket; asleep only time."""
    fold = Fold(Population.SERVER, HOUR)
    (record,) = fold_all(
        fold,
        [on(NOON, 10_000, load=None, state=State.ON_ACTIVE), silent(NOON + 10_000, 10_000, State.ASLEEP)],
    )
    awake = record.cells[Band.OPEN, State.ON_ACTIVE, Supply.AC]
    assert (awake.sums, awake.buckets) == ({}, {})
    asleep = record.cells[Band.OPEN, State.ASLEEP, Supply.AC]
    assert (asleep.sums, asleep.buckets, asleep.energies) == ({}, {}, {})
    load = LoadDelta(0.5, 0.5, None, None, None)
    (record,) = fold_all(Fold(Population.SERVER, HOUR), [on(NOON, 10_000, load=load, state=State.ON_ACTIVE)])
    cell = record.cells[Band.OPEN, State.ON_ACTIVE, Supply.AC]
    assert set(cell.buckets) == {"cpu_bucket_milliseconds"}


@pytest.mark.parametrize("jump", [-HOUR, -400_000, -7_000, HOUR, DAY, -DAY, 10 * 365 * DAY])
def test_a_clock_that_is_set(jump):
    """Whatever the jump, no tick is lost and no record is longer than its period."""
    fold = Fold(Population.SERVER, 300_000)
    ticks = [on(NOON + n * 10_000, 10_000) for n in range(100)]
    ticks += [on(NOON + n * 10_000 + jump, 10_000) for n in range(100, 200)]
    ticks += [on(NOON + n * 10_000, 10_000) for n in range(200, 300)]
    records = fold_all(fold, ticks)
    assert totals(records, but=(State.UNKNOWN,))["milliseconds"] == 300 * 10_000
    assert totals(records)["package-0"] == 300 * 12_345
    check_shape(records, Population.SERVER, 300_000)


def test_calendars_wait():
    """The first calendar starts tomorrow (workstations: Monday), a later one on the 1st (first Monday)."""
    one, two = SiteCalendar(DEFAULT_CALENDAR, "01" * 32), SiteCalendar(DEFAULT_CALENDAR, "02" * 32)
    server, workstation = Fold(Population.SERVER, HOUR), Fold(Population.WORKSTATION, HOUR)
    assert server.schedule(one, NOON) == date(2026, 11, 26)
    assert server.schedule(one, NOON + DAY) == date(2026, 11, 26)
    assert workstation.schedule(one, NOON) == date(2026, 11, 30)
    assert Fold(Population.SERVER, HOUR, one).schedule(two, NOON) == date(2026, 12, 1)
    assert Fold(Population.WORKSTATION, HOUR, one).schedule(two, NOON) == date(2026, 12, 7)


@pytest.mark.parametrize("population", [Population.SERVER, Population.WORKSTATION])
def test_a_calendar_slices_nothing(population):
    """Over the change no period has two records, each day has one calendar, and a restart changes nothing."""
    closed = Calendar("Europe/Paris", (OpenSpan(1, 9 * 60, 17 * 60),))
    fold = Fold(population, HOUR, SiteCalendar(DEFAULT_CALENDAR, "01" * 32))
    first = fold.schedule(SiteCalendar(closed, "02" * 32), NOON)
    records: list[Record] = []
    for number in range(16 * 24 * 4):
        records += fold.add(on(NOON + number * 15 * 60_000 + 3, 15 * 60_000))
        if number % 96 == 0:
            fold, _ = Fold.from_json(fold.to_json(), population, HOUR)
    assert len({r.period for r in records}) == len(records)
    assert {r.calendar_sha256 for r in records} == {"01" * 32, "02" * 32}
    for record in records:
        if isinstance(record.period, DatePeriod):
            assert (record.calendar_sha256 == "02" * 32) == (record.period.day >= first)
    assert fold.site.sha256 == "02" * 32


def test_a_change_of_grain_closes_what_is_open():
    """A fold restored for another population returns its open records as finished."""
    fold = Fold(Population.SERVER, 300_000)
    assert list(fold.add(on(NOON, 10_000))) == []
    again, finished = Fold.from_json(fold.to_json(), Population.WORKSTATION, HOUR)
    assert [record.period for record in finished] == [ClockPeriod(NOON, 300_000)]
    assert again.flush() == ()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"site":["",""],"next":null,"open":["x"]}'])
def test_what_is_no_checkpoint_is_refused(text):
    """A damaged checkpoint raises ValueError."""
    with pytest.raises(ValueError, match=r"."):
        Fold.from_json(text, Population.SERVER, 300_000)


def test_the_period_divides_an_hour():
    """Any other period would let a record cross an hour."""
    with pytest.raises(ValueError, match="divide"):
        Fold(Population.SERVER, 7_000)
