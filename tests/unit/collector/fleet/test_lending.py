# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that figures of unmeasured machines disclose no measured machine. docs/guarantees.md P4, P5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.year import DAY, END, FIRST, census, figures, worked, workstation
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.observations import MONITOR
from veilleuse.collector.model.hosts import Host
from veilleuse.wire.vocabulary import DeviceClass, Population

K = 3
WATTS = 1_000
STEP = 40
DEFAULTS = Assumptions(class_microwatts=dict.fromkeys(("sff", "laptop", "tower"), (30_000_000,) * 3))
CLASSES = (DeviceClass.SFF, DeviceClass.LAPTOP, DeviceClass.TOWER)


def machines(entity: int, device_class: DeviceClass, first: int, number: int) -> list[Host]:
    """Return `number` workstations of an entity, from the id `first` on."""
    return [
        replace(one, facts=replace(one.facts, device_class=device_class))
        for one in (workstation(first + more, f"E{entity}") for more in range(number))
    ]


def told(
    hosts: Sequence[Host], measured: Sequence[Host], watts: Sequence[int], dimensions: tuple[str, ...], k: int
) -> PeriodFigures:
    """Return the figures of 2025."""
    standings = census(*hosts)
    by_host = {one.host_id: one for one in standings}
    return figures(
        FIRST,
        END,
        dimensions,
        standings,
        [
            (worked(one, watts=power), by_host[one.host_id])
            for one, power in zip(measured, watts, strict=True)
        ],
        assumptions=DEFAULTS,
        k_anonymity=k,
    )


def outputs(made: PeriodFigures) -> tuple[list[float], list[float]]:
    """Return the reported power of measured machines, and that of extrapolated ones, W over the year."""
    rows = [row.estimate for row in (*made.rows, *([made.total] if made.total else []))]
    year = 365 * DAY
    more = [row.extrapolated_millijoules / year for row in rows]
    return [row.energy_millijoules / year - one for row, one in zip(rows, more, strict=True)], more


def rank(rows: Sequence[Sequence[float]]) -> int:
    """Return the rank of a matrix, by elimination with pivots; values below 1e-4 count as rounding."""
    left = [list(row) for row in rows]
    found = 0
    for column in range(len(left[0]) if left else 0):
        pivot = max(left, key=lambda row: abs(row[column]), default=None)
        if pivot is None or abs(pivot[column]) < 1e-4:
            continue
        left.remove(pivot)
        found += 1
        for row in left:
            factor = row[column] / pivot[column]
            for place, value in enumerate(pivot):
                row[place] -= factor * value
    return found


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=len(CLASSES), max_size=len(CLASSES) * 2
    ),
    st.sampled_from((("entity", "device_class"), ("entity",), ("device_class",), ())),
)
@settings(max_examples=15)
def test_no_few_machines_can_be_solved_for(sizes, dimensions):
    """Any weighted sum of reported figures depends on no machine or on k of them; so does any sum of
    extrapolated ones. Without the columns of fewer than k machines, the rank stays the same."""
    hosts: list[Host] = []
    measured: list[Host] = []
    for number, (seen, unseen) in enumerate(sizes):
        entity, place = divmod(number, len(CLASSES))
        group = machines(entity, CLASSES[place], 100 * number + 1, seen + unseen)
        hosts += group
        measured += group[:seen]
    if not measured:
        return
    watts = [WATTS] * len(measured)
    base = outputs(told(hosts, measured, watts, dimensions, K))
    moved = []
    for number in range(len(measured)):
        watts[number] += STEP
        moved.append(outputs(told(hosts, measured, watts, dimensions, K)))
        watts[number] -= STEP
    for at in (0, 1):
        columns = [[after - before for before, after in zip(base[at], one[at], strict=True)] for one in moved]
        seen_by = [number for number, column in enumerate(columns) if any(abs(one) > 1e-6 for one in column)]
        whole = rank([columns[number] for number in seen_by])
        for size in range(1, K):
            for few in combinations(seen_by, size):
                others = [columns[number] for number in seen_by if number not in few]
                assert rank(others) == whole, [measured[number].host_id for number in few]


@pytest.mark.parametrize("watts", [20, 77])
def test_one_measured_machine_stands_for_nobody(watts):
    """The one measured PC of E1 is at the class default, like the fifty of E2, whatever it draws."""
    hosts = [*machines(1, DeviceClass.SFF, 1, 1), *machines(2, DeviceClass.SFF, 101, 50)]
    made = told(hosts, hosts[:1], [watts], ("entity", "device_class"), 10)
    year = 365 * DAY * 30
    assert [(row.key.entity, row.machines, row.estimate.energy_millijoules) for row in made.rows] == [
        ("E1", 0, year),
        ("E2", 0, 50 * year),
    ]
    assert all(row.estimate.energy_millijoules == row.estimate.default_millijoules for row in made.rows)
    assert made.incomplete


def test_a_rare_class_leaves_the_others_their_example():
    """Forty of 100 desktops and three of 200 laptops are measured. Other desktops are extrapolated from the
    desktops, the other laptops are at the class default, and the three count with the forty."""
    desktops, elsewhere = machines(1, DeviceClass.SFF, 1, 100), machines(2, DeviceClass.SFF, 201, 100)
    laptops = machines(1, DeviceClass.LAPTOP, 401, 200)
    measured = [*desktops[:40], *laptops[:3]]
    made = told(
        [*desktops, *elsewhere, *laptops], measured, [50] * len(measured), ("entity", "device_class"), 10
    )
    rows = {(row.key.entity, row.key.device_class): row for row in made.rows}
    mean = rows["autres", "autres"].estimate
    assert rows["autres", "autres"].machines == 43
    assert mean.machines_fleet == 100 + 10
    assert mean.default_millijoules == 0
    other = rows["E2", "sff"].estimate
    assert other.default_millijoules == 0
    assert other.energy_millijoules / other.fleet_milliseconds == pytest.approx(
        mean.energy_millijoules / mean.fleet_milliseconds
    )
    rest = rows["E1", "laptop"].estimate
    assert rest.machines_fleet == 190
    assert rest.energy_millijoules == rest.default_millijoules == 190 * 365 * DAY * 30


def test_hidden_machines_of_enough_others_stand_for_all():
    """Thirty entities of one measured laptop each are in `autres`; their mean is extrapolated."""
    hosts = [one for entity in range(30) for one in machines(entity, DeviceClass.LAPTOP, 100 * entity + 1, 2)]
    made = told(hosts, hosts[::2], [50] * 30, ("entity", "device_class"), 10)
    assert made.total is not None
    known, more = (
        made.total.estimate.modelled_millijoules,
        made.total.estimate.extrapolated_millijoules,
    )
    assert made.total.estimate.default_millijoules == 0
    assert more == known > 0


def test_servers_stand_for_servers():
    """The rule excludes servers: one measured server of two is extrapolated to the other."""
    servers = [
        replace(one, population=Population.SERVER, facts=replace(one.facts, device_class=DeviceClass.SERVER))
        for one in (workstation(1), workstation(2))
    ]
    made = told(servers, servers[:1], [200], (), 10)
    (row,) = made.rows
    assert row.estimate.default_millijoules == 0
    assert row.estimate.extrapolated_millijoules == row.estimate.modelled_millijoules > 0


def test_screens_of_few_give_no_time_to_others():
    """Where two of twelve PCs have a screen, no screens are reported, and the total is incomplete."""
    hosts = [*machines(1, DeviceClass.SFF, 1, 12), *machines(2, DeviceClass.SFF, 101, 12)]
    standings = census(*hosts)
    by_host = {one.host_id: one for one in standings}
    lit = [worked(one, screens_milliseconds=DAY, screens_energy_millijoules=10 * DAY) for one in hosts[:2]]
    seen = [*lit, *map(worked, hosts[2:12])]
    made = figures(
        FIRST,
        END,
        ("entity", "device_class"),
        standings,
        [(one, by_host[one.host_id]) for one in seen],
        assumptions=DEFAULTS,
        k_anonymity=10,
    )
    told_of = [row.estimate for row in made.rows if row.key.device_class == MONITOR]
    assert told_of == []
    assert made.incomplete
