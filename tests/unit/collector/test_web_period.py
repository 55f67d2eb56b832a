# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Closed periods of workstations: old enough, of the month's members, frozen, and never fewer than k machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.filled import Filled, cell, civil
from veilleuse.collector.model import (
    AgentId,
    Cell,
    DerivedCell,
    DerivedRow,
    Grain,
    Host,
    HostId,
    HostStatus,
    MachineFacts,
    SumRow,
)
from veilleuse.collector.web.period import (
    Periods,
    PublishedGroup,
    frozen_members,
    last_closed,
    publish_period,
)
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

K = 10
DAY = date(2026, 11, 20)
KEY = (Population.WORKSTATION, Grain.DAY, DAY.toordinal())


def host(number: int, entity: str = "E", device_class: DeviceClass = DeviceClass.LAPTOP) -> Host:
    """An active workstation."""
    return Host(
        HostId(number),
        AgentId(bytes(16)),
        entity,
        "lyon",
        Population.WORKSTATION,
        HostStatus.ACTIVE,
        MachineFacts(device_class),
        date(2026, 1, 1),
        None,
    )


def rows(number: int, state: State, milliseconds: int, millijoules: int) -> tuple[SumRow, DerivedRow]:
    """Time and energy of one state of one host."""
    time = Cell(Band.CLOSED, state, Supply.AC, milliseconds)
    energy = DerivedCell(Band.CLOSED, state, Supply.AC, Method.LOAD_MODELLED, milliseconds, millijoules, 0)
    return (
        SumRow(HostId(number), Grain.DAY, DAY.toordinal(), time),
        DerivedRow(HostId(number), Grain.DAY, DAY.toordinal(), energy),
    )


MACHINES = st.lists(
    st.tuples(
        st.sampled_from(["E", "F", "G"]),
        st.sampled_from([DeviceClass.LAPTOP, DeviceClass.TOWER, DeviceClass.VIRTUAL_MACHINE]),
        st.dictionaries(
            st.sampled_from(list(State)),
            st.tuples(st.integers(1, 86_400_000), st.integers(0, 10_000_000)),
            min_size=1,
            max_size=3,
        ),
    ),
    max_size=45,
)


@settings(max_examples=60, deadline=None)
@given(MACHINES)
def test_every_figure_has_k_machines_and_totals_hold(machines):
    """Groups and their states: ≥ k contributors each; what is shown of a group sums to the group's own figures."""
    hosts = {HostId(i): host(i, entity, kind) for i, (entity, kind, _) in enumerate(machines)}
    pairs = [
        rows(i, state, ms, mj)
        for i, (_, _, states) in enumerate(machines)
        for state, (ms, mj) in states.items()
    ]
    sums, derived = [p[0] for p in pairs], [p[1] for p in pairs]
    period = publish_period(hosts, sums, derived, KEY, K)
    observed = {r.host_id for r in sums if r.cell.state is not State.UNKNOWN}
    seen: set[HostId] = set()
    for one in period.groups:
        assert one.hosts >= K
        who = members_of(one, hosts, period.groups) & observed
        assert not who & seen
        seen |= who
        for figure in one.times:
            assert contributors(sums, who, figure.state, one) >= K
        whole = sum(r.cell.milliseconds for r in sums if r.host_id in who)
        assert sum(f.amount for f in one.times) in (0, whole)


def members_of(
    one: PublishedGroup, hosts: dict[HostId, Host], groups: tuple[PublishedGroup, ...]
) -> set[HostId]:
    """Who is inside: of its own labels, or of none of the others' for `autres`; machines with a known state."""
    named = {(g.group.entity, g.group.device_class) for g in groups if g.group.entity != "autres"}
    virtual = one.group.device_class == "virtual_machine"
    if one.group.entity != "autres":
        return {
            key
            for key, h in hosts.items()
            if (h.org_entity, h.facts.device_class.value) == (one.group.entity, one.group.device_class)
        }
    return {
        key
        for key, h in hosts.items()
        if (h.org_entity, h.facts.device_class.value) not in named
        and (h.facts.device_class is DeviceClass.VIRTUAL_MACHINE) is virtual
    }


def contributors(sums: list[SumRow], who: set[HostId], state: str, one: PublishedGroup) -> int:
    """Machines of the group in that state, or in the states merged."""
    shown = {figure.state for figure in one.times}
    return len(
        {
            r.host_id
            for r in sums
            if r.host_id in who
            and (r.cell.state.value == state or (state == "autres" and r.cell.state.value not in shown))
        }
    )


def test_virtual_machines_never_join_a_physical_group():
    """12 PCs and 4 virtual desktops: the virtual ones are withheld, not merged into a total."""
    hosts = {HostId(i): host(i, "E", DeviceClass.TOWER) for i in range(12)}
    hosts |= {HostId(i): host(i, "E", DeviceClass.VIRTUAL_MACHINE) for i in range(12, 16)}
    pairs = [rows(i, State.ON_IDLE, 1000, 1000) for i in hosts]
    period = publish_period(hosts, [p[0] for p in pairs], [p[1] for p in pairs], KEY, K)
    assert [(g.group.device_class, g.hosts) for g in period.groups] == [("tower", 12)]
    assert period.withheld == 1


def test_one_group_of_states_is_never_one_machine():
    """Eleven idle machines, one of them also asleep: `asleep` is not shown alone."""
    hosts = {HostId(i): host(i) for i in range(11)}
    pairs = [rows(i, State.ON_IDLE, 1000, 1000) for i in range(11)]
    pairs.append(rows(0, State.ASLEEP, 500, 10))
    period = publish_period(hosts, [p[0] for p in pairs], [p[1] for p in pairs], KEY, K)
    (group,) = period.groups
    assert [(f.state, f.amount) for f in group.times] == [("autres", 11_500)]


@pytest.mark.parametrize(
    ("grain", "today", "lag", "expected"),
    [
        (Grain.DAY, date(2026, 11, 25), 3, date(2026, 11, 21)),
        (Grain.WEEK, date(2026, 11, 25), 3, date(2026, 11, 9)),
        (Grain.WEEK, date(2026, 11, 26), 3, date(2026, 11, 16)),
        (Grain.DAY, date(2026, 1, 2), 2, date(2025, 12, 30)),
    ],
)
def test_last_closed(grain, today, lag, expected):
    """The newest period that ended the lag before today; weeks are whole ISO weeks."""
    assert last_closed(grain, today, lag) == expected.toordinal()
    end = expected + timedelta(days=7 if grain is Grain.WEEK else 1)
    assert (today - end).days >= lag


def test_members_are_those_of_the_month():
    """Who enrols on the 5th is counted from the 1st of the next month on."""
    old, new = host(1), replace(host(2), enrolled_on=date(2026, 11, 5))
    hosts = {old.host_id: old, new.host_id: new}
    assert set(frozen_members(hosts, Population.WORKSTATION, date(2026, 11, 30))) == {HostId(1)}
    assert set(frozen_members(hosts, Population.WORKSTATION, date(2026, 12, 1))) == {1, 2}


@pytest.fixture
def filled(tmp_path) -> Iterator[Filled]:
    """An empty store."""
    with Filled(tmp_path / "data") as store:
        yield store


def test_a_late_machine_does_not_move_a_published_day(filled):
    """The difference of two looks would be its day: the second look shows what the first did."""
    today = date(2026, 11, 25)
    day = date.fromordinal(last_closed(Grain.DAY, today, 3))
    machines = [filled.add_host(Population.WORKSTATION, DeviceClass.LAPTOP) for _ in range(12)]
    record = [(civil(day), [cell(State.ASLEEP, 1000, Band.NIGHT)])]
    for one in machines[:-1]:
        filled.push(one, record)
    filled.derive()
    reader = filled.reader()
    hosts = {h.host_id: h for h in reader.hosts()}
    periods = Periods(reader, K)
    before = periods.closed(hosts, today)
    assert [g.hosts for p in before for g in p.groups] == [11]
    filled.push(machines[-1], record)
    filled.derive()
    assert periods.closed(hosts, today) == before
    assert [g.hosts for p in Periods(reader, K).closed(hosts, today) for g in p.groups] == [12]
    reader.close()
