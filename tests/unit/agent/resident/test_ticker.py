# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that polls become ticks whose energy is exact, over failures, suspends and changed clocks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes.measuring import (
    METER,
    NOON,
    PACKAGE,
    RANGE,
    CounterSource,
    GaugeSource,
    TickerBench,
)
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge, Reading, Tick
from veilleuse.wire.vocabulary import State, Supply

TICK = 10_000


def millijoules(ticks: tuple[Tick, ...]) -> int:
    """Return the energy over all points."""
    return sum(energy.energy_millijoules for tick in ticks for energy in tick.energies)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9_999_999_999), min_size=1, max_size=40), st.integers(0, RANGE - 1))
def test_millijoules_conserve_the_counter(advances, start):
    """Below the counter's ceiling, wraps included, the ticks sum to its whole millijoules."""
    source = CounterSource()
    source.microjoules = start
    bench = TickerBench(source)
    total = 0
    for advance in advances:
        source.spend(advance)
        total += millijoules(bench.step())
    assert total == sum(advances) // 1_000


def test_a_gauge_is_integrated():
    """Energy is power × elapsed boot-time, and the remainder below a millijoule is carried on."""
    bench = TickerBench(GaugeSource(40_001))
    total = sum(millijoules(bench.step(9_999)) for _ in range(3))
    assert total == 40_001 * 3 * 9_999 // 1_000


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9_999_999_999), st.booleans(), st.integers(5_000, 12_000)), max_size=40)
)
def test_a_counter_that_fails_for_moments_loses_nothing(polls):
    """With at most two failed polls in a row, the ticks have the counter's whole energy and no gap."""
    source = CounterSource()
    bench = TickerBench(source)
    ticks: list[Tick] = []
    spent = elapsed = failed = 0
    for advance, fails, milliseconds in [*polls, (1_000_000, False, TICK)]:
        source.spend(advance * milliseconds // 12_000 + 1)
        spent += advance * milliseconds // 12_000 + 1
        elapsed += milliseconds
        failed = failed + 1 if fails and failed < 2 else 0
        value, source.microjoules = source.microjoules, None if failed else source.microjoules
        ticks += bench.step(milliseconds)
        source.microjoules = value
    assert millijoules(tuple(ticks)) == spent // 1_000
    assert sum(tick.duration_milliseconds for tick in ticks) == elapsed
    for tick in ticks:
        assert [energy.covered_milliseconds for energy in tick.energies] == [tick.duration_milliseconds]
        assert tick.gaps == ()


def test_a_failing_source_stops_nobody():
    """Ticks wait for the missing counter and keep the other source's energy; an exception is a failure."""
    counter, gauge = CounterSource(), GaugeSource()
    bench = TickerBench(counter, gauge)
    for broken in (False, True):
        value, counter.microjoules, counter.broken = counter.microjoules, None, broken
        assert bench.step() == ()
        counter.microjoules, counter.broken = value, False
        counter.spend(7_000_000)
        ticks = bench.step(30_000)
        assert [tick.duration_milliseconds for tick in ticks] == [TICK, 30_000]
        assert [{e.point: e.energy_millijoules for e in tick.energies} for tick in ticks] == [
            {METER: 400_000, PACKAGE: 1_750},
            {METER: 1_200_000, PACKAGE: 5_250},
        ]
        assert [tick.gaps for tick in ticks] == [(), ()]
    rows = {row["name"]: row for row in bench.ticker.health()}
    assert (rows["linux_rapl"]["failures"], rows["linux_hwmon"]["failures"]) == (2, 0)


def test_a_source_that_stays_away_is_a_gap():
    """After 40 s ticks stop waiting and have a gap; the first value afterwards is a new start."""
    counter, gauge = CounterSource(), GaugeSource()
    bench = TickerBench(counter, gauge)
    value, counter.microjoules = counter.microjoules, None
    assert [len(bench.step()) for _ in range(6)] == [0, 0, 0, 4, 1, 1]
    counter.microjoules = value
    counter.spend(7_000_000)
    (first,) = bench.step()
    assert [energy.point for energy in first.energies] == [METER]
    assert first.gaps == (("linux_rapl", TICK),)


def test_nothing_waits_for_a_counter_that_may_have_gone_round():
    """65 kJ at 2 kW are 32 s: after three ticks a larger value may hide a wrap, so it closes no gap."""
    source = CounterSource(ceiling_watts=2_000.0)
    source.range = 65_532_610_987
    bench = TickerBench(source)
    value = source.microjoules
    source.microjoules = None
    assert [len(bench.step()) for _ in range(3)] == [0, 0, 3]
    source.microjoules = value
    source.spend(1_000_000)
    assert bench.step()[0].energies == ()
    source.microjoules = None
    assert bench.step() == ()
    source.microjoules = 2_000_000_000
    ticks = bench.step(29_000)  # too late
    assert [tick.energies for tick in ticks] == [(), ()]
    assert [len(tick.gaps) for tick in ticks] == [1, 1]


def test_no_gap_is_closed_over_a_suspend_or_the_end():
    """Waiting ticks are released with their gap before a sleep and at the last poll."""
    source = CounterSource()
    bench = TickerBench(source)
    value, source.microjoules = source.microjoules, None
    assert bench.step() == ()
    source.microjoules = value
    source.spend(50_000_000)
    waited, asleep, awake = bench.step(asleep=60_000)
    assert waited.gaps == awake.gaps == (("linux_rapl", TICK),)
    assert asleep.state is State.ASLEEP
    assert millijoules((waited, asleep, awake)) == 0
    source.microjoules = None
    assert bench.step() == ()
    _, (left,) = bench.ticker.tick(last=True)
    assert left.gaps == (("linux_rapl", TICK),)


def test_two_counters_that_take_turns_do_not_hold_time_back_for_ever():
    """If two counters never answer at once, ticks are released after 40 s and no joule counts twice."""
    one, other = CounterSource(), CounterSource(METER)
    bench = TickerBench(one, other)
    ticks: list[Tick] = []
    for number in range(30):
        away = (one, other)[number % 2]
        for source in (one, other):
            source.spend(10_000_000)
        value, away.microjoules = away.microjoules, None
        ticks += bench.step()
        assert (number + 1) * TICK - sum(tick.duration_milliseconds for tick in ticks) <= 40_000
        away.microjoules = value
    assert millijoules(tuple(ticks)) <= 2 * 30 * 10_000
    for tick in ticks:
        points = [energy.point for energy in tick.energies]
        assert len(points) == len(set(points))


def test_a_late_poll_may_hide_a_turn():
    """65 kJ at 2 kW are 32 s: after a longer time a larger value may hide a wrap, so it gives a gap."""
    source = CounterSource(ceiling_watts=2_000.0)
    source.range = 65_532_610_987
    bench = TickerBench(source)
    source.spend(1_000_000)
    (late,) = bench.step(33_000)
    assert (late.energies, late.gaps) == ((), (("linux_rapl", 33_000),))
    source.spend(1_000_000)
    assert millijoules(bench.step()) == 1_000


class Turncoat:
    """Implements `ports.Source` with one point and settable readings."""

    name = "turncoat"

    def __init__(self) -> None:
        self.readings: tuple[Reading, ...] = ()

    def open(self) -> tuple[Point, ...]:
        return (METER,)

    def read(self) -> tuple[Reading, ...]:
        return self.readings

    def close(self) -> None:
        pass


def test_a_gauge_between_two_values_of_a_counter_counts_once():
    """After a power reading of the same meter, the counter's next value is a new start."""
    source = Turncoat()
    bench = TickerBench(source)
    told: list[Tick] = []
    for reading in (
        EnergyCounter(METER, 1_000_000_000, None, 100.0),
        PowerGauge(METER, 50_000),
        EnergyCounter(METER, 2_000_000_000, None, 100.0),
        EnergyCounter(METER, 2_500_000_000, None, 100.0),
    ):
        source.readings = (reading,)
        told += bench.step()
    assert [[each.energy_millijoules for each in tick.energies] for tick in told] == [
        [],
        [500_000],
        [],
        [500_000],
    ]


def test_a_gauge_below_zero_is_a_gap():
    """Negative power is a defect of the source and gives a gap."""
    source = Turncoat()
    source.readings = (PowerGauge(METER, -50_000),)
    bench = TickerBench(source)
    (tick,) = bench.step()
    assert (tick.energies, tick.gaps) == ((), (("turncoat", TICK),))


def test_a_counter_that_is_stuck_or_set_back_is_a_gap():
    """A running package draws energy, so a stuck or reset counter gives a gap, not 0 W."""
    source = CounterSource()
    bench = TickerBench(source)
    (stuck,) = bench.step()
    source.microjoules = 0
    (reset,) = bench.step()
    source.spend(1_000_000)
    (confirmed,) = bench.step()
    source.spend(2_000_000)
    (fine,) = bench.step()
    assert stuck.energies == reset.energies == confirmed.energies == ()
    assert stuck.gaps == reset.gaps == confirmed.gaps == (("linux_rapl", TICK),)
    assert millijoules((fine,)) == 2_000


def test_a_counter_that_stood_still_does_not_tell_a_stretch_of_all_it_had_not_told():
    """The jump after a standstill has the gap's energy, which the collector imputes: no tick may have it."""
    source = CounterSource()
    bench = TickerBench(source)
    stuck = [bench.step()[0] for _ in range(5)]
    source.spend(6 * 400_000_000)
    (jump,) = bench.step()
    source.spend(400_000_000)
    (fine,) = bench.step()
    assert [tick.energies for tick in (*stuck, jump)] == [()] * 6
    assert jump.gaps == (("linux_rapl", TICK),)
    assert millijoules((fine,)) == 400_000


def test_a_counter_that_lies_once_is_not_believed():
    """After one or two false low values, the apparent increase back to the true value is not energy."""
    for lie, polls in ((0, 1), (500, 1), (500, 2)):
        source = CounterSource()
        bench = TickerBench(source)
        for _ in range(polls):
            source.spend(400_000_000)
            value, source.microjoules = source.microjoules, lie
            assert millijoules(bench.step()) == 0
            source.microjoules = value
        source.spend(400_000_000)
        assert millijoules(bench.step()) == 0
        source.spend(400_000_000)
        assert millijoules(bench.step()) == 400_000


def test_an_unreadable_range_does_not_wrap():
    """Without a range, a smaller value is a reset."""
    source = CounterSource()
    bench = TickerBench(source)
    source.range, source.microjoules = None, 3
    assert bench.step()[0].energies == ()


def test_suspend():
    """Ten hours of sleep are one tick asleep without energy; the counter begins again after it."""
    counter, gauge = CounterSource(), GaugeSource(40_000)
    bench = TickerBench(counter, gauge)
    counter.spend(9_000_000_000)
    asleep, awake = bench.step(4_000, asleep=36_000_000)
    assert (asleep.state, asleep.duration_milliseconds, asleep.energies) == (State.ASLEEP, 36_000_000, ())
    assert (asleep.start_unix_milliseconds, awake.start_unix_milliseconds) == (NOON, NOON + 36_000_000)
    assert awake.duration_milliseconds == 4_000
    assert awake.gaps == (("linux_rapl", 4_000),)
    assert millijoules((awake,)) == 160_000  # the gauge, over the 4 s awake
    assert awake.load is not None


def test_a_long_silence_drops_the_counters():
    """After minutes without a poll the tick has a state and no energy."""
    counter, gauge = CounterSource(), GaugeSource()
    bench = TickerBench(counter, gauge)
    counter.spend(1_000_000)
    (tick,) = bench.step(120_000)
    assert tick.energies == ()
    assert tick.gaps == (("linux_rapl", 120_000), ("linux_hwmon", 120_000))
    assert tick.state is State.ON_IDLE


@pytest.mark.parametrize("jump", [3_600_000, -3_600_000, 86_400_000, -86_400_000, 315_360_000_000, -NOON])
def test_a_wall_clock_that_is_set_moves_dates_not_joules(jump):
    """Durations follow boot-time, so energies stay whole; dates follow the wall clock."""
    source = CounterSource()
    bench = TickerBench(source)
    ticks: list[Tick] = []
    for number in range(6):
        if number == 3:
            bench.clock.set_wall(bench.clock.unix + jump)
        source.spend(100_000_000)
        ticks += bench.step()
    assert [tick.duration_milliseconds for tick in ticks] == [TICK] * 6
    assert millijoules(tuple(ticks)) == 600_000
    assert ticks[3].start_unix_milliseconds == NOON + 3 * TICK + jump
    touching = [b.start_unix_milliseconds - a.start_unix_milliseconds for a, b in itertools.pairwise(ticks)]
    assert touching.count(TICK) == 4


def test_small_drift_leaves_no_holes():
    """A wall clock slewed by milliseconds leaves no hole between ticks."""
    bench = TickerBench()
    ticks: list[Tick] = []
    for _ in range(5):
        bench.clock.set_wall(bench.clock.unix + 7)
        ticks += bench.step()
    starts = [tick.start_unix_milliseconds for tick in ticks]
    assert starts == [NOON + number * TICK for number in range(5)]


def test_the_same_millisecond_twice():
    """A poll without elapsed time gives no tick and loses no energy."""
    source = CounterSource()
    bench = TickerBench(source)
    source.spend(2_000_000)
    assert bench.ticker.tick()[1] == ()
    source.spend(1_000_000)
    assert millijoules(bench.step()) == 3_000


def test_supply_and_idle_runs():
    """The battery source gives the supply, over a sleep only if equal after it; work ends an idle run."""
    gauge = GaugeSource(supply=Supply.BATTERY)
    bench = TickerBench(gauge)
    runs = [bench.step(load=load)[0].idle_run_milliseconds for load in (0.0, 0.01, 0.5, 0.0)]
    assert runs == [TICK, 2 * TICK, 0, TICK]
    asleep, awake = bench.step(asleep=60_000)
    assert (asleep.supply, awake.supply, awake.idle_run_milliseconds) == (
        Supply.BATTERY,
        Supply.BATTERY,
        TICK,
    )
    gauge.supply = Supply.AC
    asleep, awake = bench.step(asleep=60_000)
    assert (asleep.supply, awake.supply) == (Supply.UNKNOWN, Supply.AC)


def test_load_is_a_difference():
    """Load is a ratio and byte differences over the tick; a decreased count makes it unknown."""
    bench = TickerBench()
    bench.load.use(0, (0.0, 0.0), (1_000, 500))
    (tick,) = bench.step(load=0.25)
    assert tick.load is not None
    assert tick.load.cpu_busy_ratio == pytest.approx(0.25)
    assert (tick.load.disk_bytes, tick.load.network_bytes) == (1_000, 500)
    bench.load.bytes[0] = 0
    (tick,) = bench.step()
    assert tick.load is not None
    assert tick.load.disk_bytes is None
    bench.load.total.append(5)
    bench.load.busy.append(5)
    bench.clock.advance(TICK)
    (tick,) = bench.ticker.tick()[1]
    assert tick.load is None
    assert tick.state is State.ON_ACTIVE
    bench.load.failing = True
    bench.clock.advance(TICK)
    assert bench.ticker.tick()[1][0].load is None
    assert bench.ticker.load_failures == 1
