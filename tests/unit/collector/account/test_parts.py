# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""With a model's watts, nobody can solve a month's figures for one machine's time, energy or silence.
docs/decisions/0046."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from datetime import date
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.promises.support.isolating import Column, Equation, Weight, smallest
from tests.promises.support.read_together import Key, Row, What
from veilleuse.collector.account.group_sums import Tally
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.parts import (
    LEVELS,
    NO_PARTS,
    Level,
    ScreenedPc,
    ScreenRule,
    known_rates,
    rates_of,
    rates_of_screens,
    spent_of,
    unknown,
)
from veilleuse.collector.disclosure.rule import merge_cells
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import Detail, EnergySums, Group, StateSums
from veilleuse.collector.release.tables import Month, build_month, may_share
from veilleuse.collector.shipped_tables import watts_on
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

K = 10
HOUR = 3_600_000
MONTH = 720
FIRST, END = date(2026, 9, 1), date(2026, 10, 1)
PART = Slice(FIRST, END)
LAPTOP, TOWER = DeviceClass.LAPTOP, DeviceClass.TOWER
WATTS = {
    (LAPTOP, State.OFF): 0.4, (LAPTOP, State.ASLEEP): 0.8, (LAPTOP, State.ON_IDLE): 3.5,
    (TOWER, State.OFF): 0.8, (TOWER, State.ASLEEP): 2.0, (TOWER, State.ON_IDLE): 22.0,
}  # fmt: skip
IDLE = frozenset({State.ON_IDLE})
OFF, ASLEEP, ON_IDLE, ON_ACTIVE = State.OFF, State.ASLEEP, State.ON_IDLE, State.ON_ACTIVE
USED = {OFF: 520, ON_IDLE: 80, ON_ACTIVE: 120}


def key(entity: str, device_class: DeviceClass = LAPTOP) -> GroupKey:
    """Return the key of one entity's machines of a class."""
    return GroupKey(FIRST, END, "FR", Population.WORKSTATION, False, entity, None, device_class.value)


class Fleet:
    """Builds groups of machines; each machine has its own watts while active."""

    def __init__(self) -> None:
        """Begin without groups."""
        self.groups: dict[GroupKey, Tally] = {}
        self._next = 0

    def add(
        self,
        count: int,
        entity: str,
        hours: Mapping[State, float],
        device_class: DeviceClass = LAPTOP,
        *,
        metered: float | None = None,
        active: float | None = None,
    ) -> list[HostId]:
        """Add machines with these hours a month, varied while on; `metered`: watts on, by a meter; `active`:
        watts in use, by a model."""
        tally = self.groups.setdefault(key(entity, device_class), Tally())
        return [self._one(tally, hours, device_class, metered, active) for _ in range(count)]

    def _one(
        self,
        tally: Tally,
        hours: Mapping[State, float],
        device_class: DeviceClass,
        metered: float | None,
        active: float | None,
    ) -> HostId:
        self._next += 1
        host = HostId(self._next)
        tally.enrolled[host] += MONTH * HOUR
        shift = self._next % 7 if ON_IDLE in hours and OFF in hours else 0
        for state, time in hours.items():
            moved = {OFF: -shift, ON_IDLE: shift}.get(state, 0)
            milliseconds = round((time + moved) * HOUR)
            on = state in (ON_IDLE, ON_ACTIVE)
            method = Method.METERED if metered and on else Method.LOAD_MODELLED
            watts = metered + self._next / 10 if metered and on else WATTS.get((device_class, state))
            if watts is None:
                watts = active or 9 + self._next
            tally.add_state(host, (Band.NIGHT, state), StateSums(milliseconds))
            energy = round(milliseconds * watts)
            tally.add_energy(
                host,
                (device_class, method, Band.NIGHT, state),
                EnergySums(milliseconds, energy, energy // 4),
            )
        return host

    def told(self) -> Month:
        """Return the month's release tables."""
        return build_month(PART, self.groups, K)


def energy(row: Group) -> int:
    """Return the energy of a cell in millijoules."""
    return sum(one.energy_millijoules for one in row.sums.energies.values())


def of(rows: tuple[Group, ...], entity: str) -> Group:
    """Return the row of an entity."""
    return next(row for row in rows if row.key.entity == entity)


def idle(row: Group) -> tuple[int | None, int | None]:
    """Return idle (milliseconds, millijoules)."""
    return row.sums.milliseconds(frozenset(Band), IDLE), row.sums.millijoules(frozenset(Band), IDLE)


@pytest.mark.parametrize("active", [False, True])
def test_one_laptop_among_towers_is_not_solved(active: bool):
    """Idle energy less a tower's watts × idle time revealed a laptop's idle time, because its class has other
    watts."""
    fleet = Fleet()
    hours = USED if active else {OFF: 640, ON_IDLE: 80}
    fleet.add(12, "A", hours, TOWER)
    fleet.add(1, "A", hours)
    fleet.add(12, "B", hours, TOWER)
    fleet.add(12, "C", hours, TOWER)
    truth = 86 * HOUR
    told = fleet.told()
    row = of(told.uses, "autres")
    time, drawn = idle(row)
    assert drawn is None or abs((drawn - 22 * (time or 0)) / (3.5 - 22) - truth) > 0.01 * truth
    assert (Detail.ENERGIES if active else Detail.USE) in row.sums.withheld
    assert (time is None) is (not active)
    assert of(told.cells, "autres").sums.hosts == 13
    if active:
        assert idle(of(told.uses, "B"))[1]


def test_one_metered_among_modelled_is_not_solved():
    """With all machines known for 720 h and one on all the time, energy less the models' watts × time
    revealed its meter."""
    fleet = Fleet()
    fleet.add(11, "A", {OFF: 640, ON_IDLE: 80})
    fleet.add(1, "A", {ON_IDLE: MONTH}, metered=12)
    fleet.add(12, "B", {OFF: 640, ON_IDLE: 80})
    told = fleet.told()
    assert of(told.cells, "A").sums.hosts == 12
    assert all(idle(row) == (None, None) for row in told.uses)


def test_one_asleep_among_machines_that_are_off_is_not_solved():
    """A cell's energy less 0.4 W × time revealed the sleep of one machine."""
    fleet = Fleet()
    fleet.add(11, "A", {OFF: MONTH})
    fleet.add(1, "A", {OFF: 240, ASLEEP: 480})
    fleet.add(12, "B", USED)
    told = fleet.told()
    (row,) = told.cells
    assert (row.key.entity, row.sums.hosts) == ("autres", 24)
    truth = 480 * HOUR
    assert abs((energy(row) - 0.4 * row.sums.observed_milliseconds) / 0.4 - truth) > 0.01 * truth


def test_sleep_of_one_that_is_metered_when_on_is_not_solved():
    """The total less the energy on, less 0.4 W × time at rest, revealed its sleep.
    Times are published, energies are not."""
    fleet = Fleet()
    fleet.add(11, "A", USED, metered=8)
    fleet.add(1, "A", {ASLEEP: 520, ON_IDLE: 80, ON_ACTIVE: 120}, metered=8)
    fleet.add(12, "B", USED, metered=8)
    told = fleet.told()
    row = of(told.uses, "A")
    assert idle(row)[0]
    assert idle(row)[1] is None
    assert Detail.ENERGIES in row.sums.withheld
    assert idle(of(told.uses, "B"))[1]


@pytest.mark.parametrize(("hours", "days"), [({OFF: MONTH}, 360), (USED, 360), ({ON_ACTIVE: MONTH}, 360)])
def test_silence_of_one_is_not_the_month_less_what_is_known(hours: Mapping[State, float], days: int):
    """Twelve × 30 days less the known time, or energy at a model's watts, revealed one machine's 120 h of
    silence."""
    fleet = Fleet()
    fleet.add(11, "A", hours)
    state = next(iter(hours))
    fleet.add(1, "A", {**hours, state: hours[state] - 120})
    fleet.add(12, "B", hours)
    told = fleet.told()
    cell, use = of(told.cells, "A"), of(told.uses, "A")
    assert cell.sums.observed_milliseconds == use.sums.observed_milliseconds == days * 24 * HOUR
    assert of(told.cells, "B").sums.observed_milliseconds == 12 * MONTH * HOUR
    (whole,) = told.whole
    assert whole.sums.observed_milliseconds == 24 * MONTH * HOUR
    if hours == {OFF: MONTH}:
        assert energy(cell) == pytest.approx(0.4 * 12 * MONTH * HOUR, rel=1e-9)


def test_silence_of_nobody_or_of_many_changes_nothing():
    """The known time is then published exactly."""
    fleet = Fleet()
    fleet.add(12, "A", USED)
    fleet.add(12, "B", {**USED, OFF: 515})
    told = fleet.told()
    assert of(told.cells, "A").sums.observed_milliseconds == 12 * MONTH * HOUR
    assert of(told.cells, "B").sums.observed_milliseconds == 12 * (MONTH - 5) * HOUR


@pytest.mark.parametrize("common_hours", [0, 1 / 3600, 24])
def test_silence_of_two_is_rounded_whatever_all_lack(common_hours: float):
    """Seconds of a week that two months share, or the day before an enrolment, were ten machines' silence:
    less these, the sum was the silence of two. Now it is the sum of a month without silence."""
    fleet = Fleet()
    for count, silent in ((11, 0), (1, 83), (1, 33)):
        fleet.add(count, "A", {**USED, OFF: 520 - common_hours - silent})
    known = of(fleet.told().cells, "A").sums.observed_milliseconds
    assert known == round(13 * (MONTH - common_hours) * HOUR)


def test_known_time_of_few_silent_is_never_above_enrolled_time():
    """Machines that were enrolled on a month's last day have their share of its last week: more than a day.
    Beside a silent one, the known time was rounded up to two days of each."""
    fleet = Fleet()
    fleet.add(12, "A", {OFF: 39, ON_IDLE: 6, ON_ACTIVE: 6})
    fleet.add(1, "A", {OFF: 8, ON_IDLE: 1, ON_ACTIVE: 1})
    (tally,) = fleet.groups.values()
    tally.enrolled = Counter(dict.fromkeys(tally.enrolled, 24 * HOUR))
    known = of(fleet.told().cells, "A").sums.observed_milliseconds
    assert known == 13 * 24 * HOUR


def test_rates_are_those_of_the_models():
    """Rates are by class and state; metered idle and active energy gives none."""
    fleet = Fleet()
    fleet.add(5, "A", USED)
    fleet.add(5, "A", USED, metered=8)
    found = {(rate.state, round(rate.watts, 3)) for rate in rates_of(fleet.groups.values())}
    assert found == {(OFF, 0.4), (ON_IDLE, 3.5), (ON_IDLE, 3.501)}


@pytest.mark.parametrize(
    ("watts", "is_guess"),
    [(assumed, False) for assumed in watts_on(TOWER, idle=False)[0][:2]]
    + [(step, True) for step in watts_on(TOWER, idle=False)[1][:13:6]],
)
def test_active_watts_of_one_load_are_a_rate(watts: float, is_guess: bool):
    """Without a reported load a tower draws 35.1 W in use, or 37.6 W with a memory module more. A step of the
    load is known where more than half of the group have it."""
    fleet = Fleet()
    hosts = fleet.add(7, "A", {ON_ACTIVE: 100}, TOWER, active=watts)
    others = fleet.add(6, "A", {ON_ACTIVE: 100}, TOWER, active=1.2 * watts)
    tallies = list(fleet.groups.values())
    (rate,) = (one for one in rates_of(tallies) if one.watts == pytest.approx(watts, rel=1e-6))
    assert rate.is_guess is is_guess
    (tally,) = tallies
    assert set(unknown(known_rates(spent_of(tally), (rate,)))) == set(others)
    fleet.add(1, "A", {ON_ACTIVE: 100}, TOWER, active=1.3 * watts)
    left = set(unknown(known_rates(spent_of(tally), (rate,))))
    assert (left >= set(hosts)) is is_guess


@pytest.mark.parametrize(("few", "is_told"), [(1, False), (9, False), (10, True)])
def test_active_time_at_public_watts_is_not_solved(few: int, is_told: bool):
    """No load is reported of 12 laptops and a few towers in one entity: one row tells times on as a whole."""
    fleet = Fleet()
    for device_class, count in ((LAPTOP, 12), (TOWER, few)):
        (active, *_), _ = watts_on(device_class, idle=False)
        fleet.add(count, "A", USED, device_class, active=active)
    uses = fleet.told().uses
    assert (len(uses) == 2) is is_told
    assert is_told or all({Detail.IDLE, Detail.ENERGIES} <= row.sums.withheld for row in uses)


# --- parts of several cells, beside the energy of each

IN_PARTS = (OFF, ON_IDLE, ON_ACTIVE)
DRAWS = {
    device_class: (
        0.4 if device_class is LAPTOP else 0.8,
        *(watts_on(device_class, idle=idle)[0][0] for idle in (True, False)),
    )
    for device_class in (LAPTOP, TOWER)
}
"""Public watts in these states."""
One = tuple[DeviceClass, frozenset[int], bool]
"""Class, states that it was in, whether its watts in use are public."""


def in_cells() -> st.SearchStrategy[list[list[One]]]:
    """Draw two or three cells of machines, most of which are alike."""
    states = st.sampled_from([frozenset(some) for some in ((0,), (0, 1, 2), (0, 1, 2), (0, 1), (1, 2))])
    one = st.tuples(st.sampled_from((LAPTOP, TOWER)), states, st.sampled_from((True, True, False)))
    cell = one.flatmap(lambda usual: st.lists(st.one_of(*[st.just(usual)] * 4, one), min_size=3, max_size=6))
    return st.lists(cell, min_size=2, max_size=3)


@settings(max_examples=200, deadline=None)
@given(in_cells())
def test_no_weights_of_parts_and_of_energies_isolate_few(cells: list[list[One]]):
    """Where cells may share a row, no combination of its times by part, and of the time and energy of each
    cell, leaves fewer than k machines."""
    k, level = 3, LEVELS[2]
    tallies, equations = [], []
    hosts = itertools.count(1)
    by_part = [dict[Column, Weight]() for _ in IN_PARTS]
    for machines in cells:
        tally, times, energies = Tally(), dict[Column, Weight](), dict[Column, Weight]()
        for device_class, states, is_public in machines:
            host = HostId(next(hosts))
            for state in states:
                watts = DRAWS[device_class][state] if state < 2 or is_public else 40 + host
                tally.add_state(host, (Band.NIGHT, IN_PARTS[state]), StateSums(HOUR * (host + state)))
                spent = EnergySums(HOUR * (host + state), round(HOUR * (host + state) * watts))
                kind = device_class, Method.LOAD_MODELLED, Band.NIGHT, IN_PARTS[state]
                tally.add_energy(host, kind, spent)
                time, energy = (
                    Column(Key(host, Grain.DAY, state, What(unit, Band.NIGHT, IN_PARTS[state])), 0)
                    for unit in ("ms", "mJ")
                )
                times[time] = by_part[state][time] = 1
                is_known = state < 2 or is_public
                energies[time if is_known else energy] = Fraction(watts) if is_known else 1
        tallies.append(tally)
        equations += [times, energies]
    rates = rates_of(tallies)
    merged = merge_cells([tally.parts(None, level, rates) for tally in tallies], None)
    if not (merged.is_safe(k) and all(tally.cell(None, rates).is_safe(k) for tally in tallies)):
        return
    row = Row(0, "api", "", frozenset(), "", {}, {})
    told = [Equation(row, "", one, {}, {}) for one in (*equations, *by_part) if one]
    if may_share(tallies, level, rates, k):
        assert smallest(told, k) is None


# --- screens

Lit = tuple[int, float, float]
"""Number of PCs, watts of their screens × their time on, inside and outside opening hours."""


def rates(inside: float, outside: float, on: int = 100 * HOUR, active: int = 60 * HOUR) -> tuple[Any, Any]:
    """Return the rates of screens with these watts, over the time on."""
    return tuple(rates_of_screens(on, active, round(on * watts)) for watts in (inside, outside))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("pcs", "is_told"),
    [
        ([(11, 12.5, 12.5), (1, 0, 0)], False),
        ([(11, 12.5, 12.5), (1, 25, 25)], False),
        ([(11, 12.5, 12.5), (1, 12.5, 0)], False),
        ([(12, 12.5, 12.5)], True),
        ([(12, 12.5, 0)], True),
        ([(12, 12.5, 12.5), (10, 0, 0)], True),
        ([(12, 12.5, 12.5), (9, 28, 28)], False),
        ([(12, 12.5, 12.5), (5, 11, 11), (5, 28, 28)], True),
        ([(10, 7.3, 5.1), (1, 12.5, 12.5)], True),
        ([(9, 7.3, 5.1), (9, 12.5, 12.5)], False),
        ([(11, 12.5 * 0.6, 12.5 * 0.6), (1, 12.5, 12.5)], False),
    ],
)
def test_screens_are_told_where_any_watts_leave_k_pcs(pcs: list[Lit], is_told: bool):
    """Of one row of PCs. At 60 % of a screen's watts it is on as long as its PC is in use."""
    rule = ScreenRule[str](LEVELS[0])
    hosts = [(inside, outside) for number, inside, outside in pcs for _ in range(number)]
    for host, watts in enumerate(hosts):
        rule.add(HostId(host), ScreenedPc("A", "A", "laptop", rates(*watts)))
    assert rule.allows(dict.fromkeys(map(HostId, range(len(hosts))), 1), K) is is_told


@pytest.mark.parametrize(
    ("level", "is_told"), [*zip(LEVELS, (True, False, False), strict=True), (Level((), NO_PARTS), False)]
)
def test_screens_follow_from_times_only_where_these_are_told(level: Level, is_told: bool):
    """On as long as their PCs are used, outside opening hours only; the coarser levels do not tell this."""
    rule = ScreenRule[str](level)
    for host in map(HostId, range(12)):
        rule.add(host, ScreenedPc("A", "A", "laptop", rates(0, 0.6 * 12.5)))
    assert rule.allows(dict.fromkeys(map(HostId, range(12)), 1), K) is is_told


def test_screens_that_follow_from_times_have_a_whole_row_of_pcs():
    """Lit screens of one of two entities whose PCs share a row would tell the time on of the other."""
    rule = ScreenRule[str](LEVELS[0])
    for host in map(HostId, range(16)):
        rule.add(host, ScreenedPc("AB"[host > 11], "A and B", "laptop", rates(12.5, 12.5)))
    assert not rule.allows(dict.fromkeys(map(HostId, range(12)), 1), K)
    assert rule.allows(dict.fromkeys(map(HostId, range(16)), 1), K)


def screened() -> st.SearchStrategy[list[tuple[int, int, int | None]]]:
    """Draw like PCs, in two rows and three entities, with 0 to 2 lit screens or one that is lit at times."""
    one = st.tuples(st.integers(0, 1), st.integers(0, 2), st.sampled_from((0, 1, 1, 2, None)))
    return st.lists(st.tuples(one, st.integers(1, 5)), min_size=2, max_size=6).map(
        lambda groups: [pc for pc, number in groups for _ in range(number)]
    )


@settings(max_examples=200, deadline=None)
@given(screened())
def test_no_weights_of_screens_and_of_times_isolate_few(pcs: list[tuple[int, int, int | None]]):
    """All rows of screens that may be shown, beside the times of the rows of their PCs, which k machines or
    more are in."""
    k, rule = 3, ScreenRule[str](LEVELS[0])
    rows = [dict[Column, Weight]() for _ in range(2)]
    told = [dict[Column, Weight]() for _ in range(3)]
    of_entity: list[dict[HostId, int]] = [{}, {}, {}]
    for number, (row, entity, screens) in enumerate(pcs):
        host = HostId(number)
        watts = 7.3 if screens is None else 12.5 * screens
        rule.add(host, ScreenedPc(str(row), str(row), "laptop", rates(watts, watts)))
        time, lit = (
            Column(Key(host, Grain.DAY, 0, What(unit, Band.OPEN, ON_IDLE)), 0) for unit in ("ms", "mJ")
        )
        of_entity[entity][host] = rows[row][time] = 1
        if screens != 0:
            told[entity][lit if screens is None else time] = screens or 1
    if any(0 < len(row) < k for row in rows):
        return
    shown = [
        one for one, hosts in zip(told, of_entity, strict=True) if len(one) >= k and rule.allows(hosts, k)
    ]
    of = Row(0, "api", "", frozenset(), "", {}, {})
    assert smallest([Equation(of, "", one, {}, {}) for one in (*rows, *shown)], k) is None
