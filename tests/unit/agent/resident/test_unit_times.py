# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that cumulative CPU times of units become times between polls, none lost and none invented."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from veilleuse.agent.model import UnitReading
from veilleuse.agent.resident.unit_times import LONGEST_MILLISECONDS, MOST_REMEMBERED, UnitTimes
from veilleuse.wire.limits import OTHER_UNITS

TICK = 10_000
CPUS = 4


class Bench:
    """Polls every ten seconds."""

    def __init__(self) -> None:
        self.times = UnitTimes()
        self.now = 1_000_000

    def poll(self, milliseconds: int = TICK, **values: int) -> dict[str, int]:
        """Poll; `nginx=5` is the unit unit:nginx with a cumulative value of 5 ms."""
        self.now += milliseconds
        readings = [UnitReading(f"unit:{name}", value) for name, value in values.items()]
        found = self.times.advance(readings, self.now, TICK, CPUS)
        assert len(dict(found)) == len(found)
        return {name.removeprefix("unit:"): spent for name, spent in found}


def test_the_first_poll_is_a_beginning():
    """A unit's time before the first poll does not count."""
    bench = Bench()
    assert bench.poll(nginx=999) == {}
    assert bench.poll(nginx=1_049, ssh=30) == {"nginx": 50, "ssh": 30}
    assert bench.poll(nginx=1_049, ssh=30) == {}, "no zeros are told"


def test_a_unit_that_is_started_again_counts_from_its_start():
    """A smaller value is a restart, so its whole value was spent since."""
    bench = Bench()
    bench.poll(nginx=5_000)
    assert bench.poll(nginx=20) == {"nginx": 20}


def test_a_unit_that_was_missing_loses_nothing():
    """A unit that is missing in a poll gets its whole time at the next one."""
    bench = Bench()
    bench.poll(nginx=5_000, ssh=1)
    assert bench.poll(ssh=2) == {"ssh": 1}
    assert bench.poll(nginx=5_070, ssh=3) == {"nginx": 70, "ssh": 1}


def test_a_unit_that_cannot_have_spent_it_was_there_before():
    """A new unit above 80 s (4 processors, 10 s, doubled) existed before and counts from here."""
    bench = Bench()
    bench.poll(ssh=1)
    assert bench.poll(ssh=2, database=10_000_000) == {"ssh": 1}
    assert bench.poll(ssh=3, database=10_000_009) == {"ssh": 1, "database": 9}
    assert bench.poll(ssh=4, database=90_000_000) == {"ssh": 1}, "a value that jumped"


def test_all_together_spend_no_more_than_there_is():
    """If all together exceed the bound that each one respects, none counts."""
    bench = Bench()
    bench.poll(a=0, b=0)
    assert bench.poll(a=60_000, b=60_000) == {}
    assert bench.poll(a=60_001, b=60_000) == {"a": 1}


def test_an_old_value_is_nothing_to_subtract_from():
    """After minutes without a poll, or after `forget`, the state of that time is unknown: no difference."""
    bench = Bench()
    bench.poll(nginx=5)
    assert bench.poll(LONGEST_MILLISECONDS, nginx=6) == {"nginx": 1}
    assert bench.poll(LONGEST_MILLISECONDS + 1, nginx=7) == {}
    bench.times.forget()
    assert bench.poll(nginx=8) == {}
    assert bench.poll(nginx=9) == {"nginx": 1}


def test_a_name_the_wire_does_not_take_counts_with_the_rest():
    """A record with an invalid name would be refused whole, so such units count as `unit:other`."""
    bench = Bench()
    strange = [UnitReading("unit:é", 1), UnitReading("session:3", 1), UnitReading("unit:" + "x" * 59, 1)]
    bench.times.advance(strange, bench.now, TICK, CPUS)
    again = [UnitReading(name, value + 1) for name, value in strange]
    assert bench.times.advance(again, bench.now + TICK, TICK, CPUS) == ((OTHER_UNITS, 1),) * 3


def test_units_that_come_and_go_do_not_fill_the_memory():
    """Beyond a bound, vanished units are forgotten; present ones go on."""
    bench = Bench()
    bench.poll(nginx=0)
    for number in range(2 * MOST_REMEMBERED):
        found = bench.poll(**{f"run-{number}": 1, "nginx": number + 1})
        assert found == {f"run-{number}": 1, "nginx": 1}
    assert len(bench.times._last) <= MOST_REMEMBERED


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 20_000), st.booleans()), max_size=3),
        max_size=20,
    )
)
def test_never_more_than_was_spent(polls):
    """For any starts, restarts and absences of units, times are positive and at most the true ones."""
    bench = Bench()
    bench.poll(d=0)
    life: dict[str, int] = {}
    spent: dict[str, int] = dict.fromkeys("abcd", 0)
    told: dict[str, int] = dict.fromkeys("abcd", 0)
    for step in polls:
        for name, (milliseconds, born_again) in step.items():
            life[name] = milliseconds if born_again else life.get(name, 0) + milliseconds
            spent[name] += milliseconds
        for name, value in bench.poll(d=1, **{name: life[name] for name in step}).items():
            assert value > 0
            told[name] += value
    assert all(told[name] <= spent[name] + (name == "d") for name in told)
