# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Groups from kept months equal those from days, screens and roundings included. Decision 0031."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pytest

from tests.support.memory_store import DAY, HOUR, MemoryReader, host
from tests.support.year import vector
from tests.unit.collector.account.test_gather_screens import END, FIRST, MACHINE, NOW, SCREEN, fleet
from veilleuse.collector.account.observations import ObservedGroups, observed_periods
from veilleuse.collector.account.observed_days import gather
from veilleuse.collector.account.observed_months import gather_periods
from veilleuse.collector.account.statement import StatementTerms, build_statement
from veilleuse.collector.factors.book import choose
from veilleuse.collector.model.figures import EmissionsRow
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import HostId
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State


@dataclass
class MemoryPeriods:
    """Implements ports.PeriodReader for one month."""

    rows: list[HostPeriod]

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        return (row for row in self.rows if first <= row.period_from < end)

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        return self.host_periods(first, end)


def month(number: int, *, apportioned: bool = False, **values: int) -> HostPeriod:
    """Return the row of a machine's closed band in March."""
    return HostPeriod(HostId(number), FIRST, DayType.OPEN, Band.CLOSED, vector(**values), apportioned)


def kept(machines: int = 3, screens: int = 3, *, apportioned: bool = False) -> MemoryPeriods:
    """Return the days of `fleet` as a month."""
    rows = []
    for number in range(1, machines + 1):
        values = {
            "on_idle_ac_milliseconds": DAY,
            "on_idle_energy_millijoules": MACHINE,
            "load_modelled_milliseconds": DAY,
            "load_modelled_energy_millijoules": MACHINE,
            "load_modelled_uncertainty_millijoules": 60_000,
        }
        if number <= screens:
            values["screens_milliseconds"] = 2 * HOUR
            values["screens_energy_millijoules"] = SCREEN
            values["screens_uncertainty_millijoules"] = 25_000
        rows.append(month(number, apportioned=apportioned, **values))
    return MemoryPeriods(rows)


def ask(*dimensions: str, k: int = 1) -> Query:
    """Return a query of March with screens."""
    return Query(FIRST, END, dimensions, k, now_unix_milliseconds=NOW, screens=True)


def told(found: ObservedGroups) -> tuple[list[EmissionsRow], list[EmissionsRow]]:
    """Return (rows, totals) of the statement."""
    made = build_statement(observed_periods(found), StatementTerms(choose, "real"))
    return list(made.rows), list(made.totals)


@pytest.mark.parametrize("dimensions", [(), ("device_class",), ("entity", "device_class")])
@pytest.mark.parametrize(("machines", "screens", "k"), [(3, 3, 1), (3, 1, 1), (30, 12, 10), (30, 9, 10)])
def test_screens_of_a_month_are_those_of_its_days(dimensions, machines, screens, k):
    """Every figure is equal: screens are a class, machines count once, and screens of few are withheld."""
    population = Population.SERVER if k == 1 else Population.WORKSTATION
    reader, question = fleet(machines, screens, population), ask(*dimensions, k=k)
    found = gather_periods(reader, kept(machines, screens), question)
    assert told(found) == told(gather(reader, question))
    (total,) = told(found)[1]
    withheld = "device_class" in dimensions and screens < k
    assert total.energy.energy_millijoules == machines * MACHINE + (0 if withheld else screens * SCREEN)
    assert [one.device_class for one in found.withheld] == ["monitor"] * withheld


def test_screens_are_shown_to_be_shared_where_their_month_is():
    """A week cut by the month's edge marks the screens' row as it does the machines'."""
    found, _ = told(gather_periods(fleet(), kept(apportioned=True), ask("device_class")))
    assert {row.key.device_class: row.activity.apportioned for row in found} == {"sff": True, "monitor": True}


def test_screens_nobody_asked_for_are_not_there():
    """Indicators contain the machines' energy alone."""
    question = Query(FIRST, END, ("device_class",), 1, now_unix_milliseconds=NOW)
    found = gather_periods(fleet(), kept(), question)
    assert found == gather_periods(fleet(), kept(screens=0), question)


def test_a_machine_that_came_later_is_in_no_group():
    """A machine enrolled after the month makes no empty group and does not lower the coverage."""
    later = host(9, DeviceClass.LAPTOP, Population.SERVER, enrolled=date(2026, 5, 4))
    found = gather_periods(MemoryReader([*fleet().host_list, later]), kept(), ask("device_class"))
    assert {group.key.device_class for group in found.groups} == {"sff", "monitor"}
    assert gather_periods(MemoryReader([later]), MemoryPeriods([]), ask()).groups == ()


def test_a_month_of_a_machine_that_is_not_asked_for_is_left():
    """All months are read, but only machines asked for count."""
    reader = fleet()
    found = gather_periods(reader, kept(), ask(), reader.host_list[:2])
    (row,), _ = told(found)
    assert (row.activity.n, row.energy.energy_millijoules) == (2, 2 * (MACHINE + SCREEN))


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
    (group,) = gather_periods(fleet(1, 0), MemoryPeriods([one]), ask()).groups
    found = {(method, state): sums.values for (_, method, _, state), sums in group.sums.energies.items()}
    assert found[Method.CLASS_DEFAULT, State.UNKNOWN] == (DAY, 0, 0)
    by_state = {state: sum(v[1] for (_, s), v in found.items() if s is state) for state in State}
    assert (by_state[State.ON_IDLE], by_state[State.ASLEEP], by_state[State.UNKNOWN]) == (100, 8, 0)
    by_method = {method: sum(v[1] for (m, _), v in found.items() if m is method) for method in Method}
    assert (by_method[Method.METERED], by_method[Method.LOAD_MODELLED]) == (60, 48)
    times = {method: sum(v[0] for (m, _), v in found.items() if m is method) for method in Method}
    assert (times[Method.METERED], times[Method.LOAD_MODELLED]) == (HOUR, HOUR)
