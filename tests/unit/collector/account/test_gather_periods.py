# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Groups from kept months: shared weeks, machines not asked for, and roundings. Decision 0031."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from tests.support.memory_store import DAY, HOUR, MemoryPeriods, MemoryReader, gather, host
from tests.support.year import vector
from tests.unit.collector.account.test_gather_screens import END, FIRST, MACHINE, NOW, fleet, tallies
from veilleuse.collector.account.observations import gather_periods
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import HostId
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State


def month(number: int, *, apportioned: bool = False, **values: int) -> HostPeriod:
    """Return the row of a machine's closed band in March."""
    return HostPeriod(HostId(number), FIRST, DayType.OPEN, Band.CLOSED, vector(**values), apportioned)


def ask(*dimensions: str, k: int = 1) -> Query:
    """Return a query of March."""
    return Query(FIRST, END, dimensions, k, now_unix_milliseconds=NOW)


def test_screens_are_shown_to_be_shared_where_their_month_is():
    """A week cut by the month's edge marks the screens' group as it does the machines'."""
    screens = {"screens_energy_millijoules": 1, "screens_milliseconds": 1}
    found = tallies(fleet(), month(1, apportioned=True, **screens))
    assert {name: tally.apportioned for name, tally in found.items()} == {"sff": True, "monitor": True}


def test_a_machine_that_came_later_is_in_no_group():
    """A machine enrolled after the month makes no empty group and does not lower the coverage."""
    later = host(9, DeviceClass.LAPTOP, Population.SERVER, enrolled=date(2026, 5, 4))
    found = gather(replace(fleet(), host_list=[*fleet().host_list, later]), ask("device_class"))
    assert {group.key.device_class for group in found.groups} == {"sff"}
    assert gather(MemoryReader([later]), ask()).groups == ()


def test_a_month_of_a_machine_that_is_not_asked_for_is_left():
    """All months are read, but only machines asked for count."""
    reader = fleet()
    found = gather(reader, ask(), reader.host_list[:2])
    (group,) = found.groups
    energy = sum(sums.energy_millijoules for sums in group.sums.energies.values())
    assert (group.sums.hosts, energy) == (2, 2 * MACHINE)


def test_what_rounding_leaves_is_of_a_known_state():
    """1 mJ that the methods have above the states goes to the last state; without a state it would be few
    machines' part. Time without energy keeps its method, and the sums hold.
    """
    one = month(
        1,
        on_idle_ac_milliseconds=HOUR,
        asleep_ac_milliseconds=HOUR,
        on_idle_energy_millijoules=100,
        asleep_energy_millijoules=7,
        metered_milliseconds=HOUR,
        metered_energy_millijoules=60,
        load_modelled_milliseconds=HOUR,
        load_modelled_energy_millijoules=48,
        load_modelled_uncertainty_millijoules=5,
        class_default_milliseconds=DAY,
    )
    reader = MemoryReader(fleet(1, 0).host_list)
    (group,) = gather_periods(reader, MemoryPeriods(reader, [one]), ask()).groups
    found = {(method, state): sums.values for (_, method, _, state), sums in group.sums.energies.items()}
    assert found[Method.CLASS_DEFAULT, State.UNKNOWN] == (DAY, 0, 0)
    by_state = {state: sum(v[1] for (_, s), v in found.items() if s is state) for state in State}
    assert (by_state[State.ON_IDLE], by_state[State.ASLEEP], by_state[State.UNKNOWN]) == (100, 8, 0)
    by_method = {method: sum(v[1] for (m, _), v in found.items() if m is method) for method in Method}
    assert (by_method[Method.METERED], by_method[Method.LOAD_MODELLED]) == (60, 48)
    times = {method: sum(v[0] for (m, _), v in found.items() if m is method) for method in Method}
    assert (times[Method.METERED], times[Method.LOAD_MODELLED]) == (HOUR, HOUR)
