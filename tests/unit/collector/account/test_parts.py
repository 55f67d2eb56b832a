# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""With a model's watts, nobody can solve a month's figures for one machine's time, energy or silence.
docs/decisions/0046."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import pytest

from veilleuse.collector.account.group_sums import Tally
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.parts import rates_of
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Detail, EnergySums, Group, StateSums
from veilleuse.collector.release.tables import Month, build_month
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
    ) -> list[HostId]:
        """Add machines with these hours a month, varied while on; `metered`: watts on, by a meter."""
        tally = self.groups.setdefault(key(entity, device_class), Tally())
        return [self._one(tally, hours, device_class, metered) for _ in range(count)]

    def _one(
        self, tally: Tally, hours: Mapping[State, float], device_class: DeviceClass, metered: float | None
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
                watts = 9 + self._next
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


def test_rates_are_those_of_the_models():
    """Rates are by class and state; metered idle and active energy give none."""
    fleet = Fleet()
    fleet.add(5, "A", USED)
    fleet.add(5, "A", USED, metered=8)
    found = rates_of(fleet.groups.values())
    assert [state for state, _ in found] == [OFF, ON_IDLE]
    assert [watts for _, watts in found] == pytest.approx([0.4, 3.5])
