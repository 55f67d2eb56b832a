# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test displays and units that sources report: unknown stays unknown; suspends and failures add nothing."""

from __future__ import annotations

import pytest

from tests.support.fakes.measuring import CounterSource, FakeClock, TickerBench, ticker_over
from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.model import DisplaysReading, Point, Reading, Tick, UnitReading
from veilleuse.agent.resident.cell_sums import split_tick
from veilleuse.wire.vocabulary import State, Supply

TICK = 10_000


class Telling:
    """Implements `ports.Source` without points and with settable readings; None = the reading fails."""

    name = "linux_displays"

    def __init__(self, *readings: Reading) -> None:
        self.readings: tuple[Reading, ...] | None = readings

    def open(self) -> tuple[Point, ...]:
        return ()

    def read(self) -> tuple[Reading, ...]:
        if self.readings is None:
            raise ReadFailed("nothing to read")
        return self.readings

    def close(self) -> None:
        """Do nothing."""


def test_displays_are_those_on_now():
    """The first source that reports displays counts; without a reading the number is unknown."""
    one, two = Telling(DisplaysReading((0, 1, 0, 0))), Telling(DisplaysReading((0, 0, 0, 2)))
    bench = TickerBench(CounterSource(), one, two)
    assert bench.step()[0].displays_on == (0, 1, 0, 0)
    one.readings = None
    assert bench.step()[0].displays_on == (0, 0, 0, 2)
    two.readings = (DisplaysReading((0, 0, 0, 0)),)
    assert bench.step()[0].displays_on == (0, 0, 0, 0)
    two.readings = ()
    assert bench.step()[0].displays_on is None


@pytest.mark.parametrize("counts", [(), (1, 2, 3), (0, 0, 0, 33), (0, -1, 0, 0)])
def test_what_no_desk_has_is_not_counted(counts):
    """Such counts give None: the collector would refuse the whole record."""
    assert TickerBench(Telling(DisplaysReading(counts))).step()[0].displays_on is None


def test_units_are_differences():
    """Times are differences from the second poll on; a failed poll loses nothing; two sources are added."""
    services, guests = Telling(UnitReading("unit:nginx", 5_000)), Telling(UnitReading("guest:7", 70))
    bench = TickerBench(services, guests)
    services.readings = (UnitReading("unit:nginx", 5_010), UnitReading("unit:ssh", 3))
    assert dict(bench.step()[0].units) == {"unit:nginx": 10, "unit:ssh": 3}
    services.readings = None
    guests.readings = (UnitReading("guest:7", 80),)
    assert dict(bench.step()[0].units) == {"guest:7": 10}
    services.readings = (UnitReading("unit:nginx", 5_025),)
    assert dict(bench.step()[0].units) == {"unit:nginx": 15}


def test_units_are_not_followed_over_a_suspend():
    """After a suspend the counters begin again; the sleep itself has no units or displays."""
    services = Telling(UnitReading("unit:nginx", 5_000), DisplaysReading((1, 0, 0, 0)))
    bench = TickerBench(services)
    services.readings = (UnitReading("unit:nginx", 5_900),)
    asleep, awake = bench.step(asleep=60_000)
    assert (asleep.state, asleep.displays_on, asleep.units) == (State.ASLEEP, None, ())
    assert awake.units == ()
    services.readings = (UnitReading("unit:nginx", 5_901),)
    assert bench.step()[0].units == (("unit:nginx", 1),)


def test_processors_bound_what_a_new_unit_may_have_spent():
    """A new unit with more time than the processors allow, with a margin, gets no difference."""
    services = Telling(UnitReading("unit:ssh", 0))
    bench = TickerBench(services)
    services.readings = (
        UnitReading("unit:ssh", 0),
        UnitReading("unit:db", 40_001),
        UnitReading("unit:www", 20_000),
    )
    assert bench.step()[0].units == (("unit:www", 20_000),)


def test_the_agents_own_cpu_time_is_counted_once_and_fits_its_tick():
    """The first tick has the start's time; what exceeds a tick is in the next one, and a sum that falls by a
    clock tick takes nothing back. Unknown stays unknown."""
    spent: list[int | None] = [400, 900, 12_000, 11_990, None, 12_500]
    clock = FakeClock()
    ticker = ticker_over(clock, own_cpu=lambda: spent.pop(0))
    ticker.tick()
    told = []
    for _ in range(6):
        clock.advance(TICK)
        told += [tick.own_cpu_milliseconds for tick in ticker.tick()[1]]
    assert told == [400, 500, TICK, 1_090, None, 510]


def test_a_split_tick_splits_the_own_cpu_time_exactly():
    """A tick across two periods loses no millisecond, and no part exceeds its piece."""
    tick = Tick(0, 10, State.ON_IDLE, Supply.AC, own_cpu_milliseconds=9)
    parts = [share.own_cpu_milliseconds for share in split_tick(tick, (3, 7))]
    assert parts == [2, 7]
