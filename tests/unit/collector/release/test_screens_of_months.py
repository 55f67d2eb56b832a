# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""External screens of released months, by hand. docs/methodology.md §6."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.unit.collector.release.test_fleet_of_months import DAY, K, cell, count, of, place, watt_days
from veilleuse.collector.fleet.errors import DECLARED_U, STANDBY_U
from veilleuse.collector.model.query import AUTRES
from veilleuse.collector.model.sums import EnergySums, Group, GroupSums
from veilleuse.collector.release.figures import FleetSum
from veilleuse.collector.release.fleet import FleetCount, ReleaseAssumptions
from veilleuse.collector.release.months import ReleasedMonth, estimate_months
from veilleuse.collector.release.rows import FleetRow, Source, decode_fleet, encode_fleet
from veilleuse.collector.release.tables import Hidden

MONITOR = "monitor"
ASSUMPTIONS = ReleaseAssumptions({MONITOR: (4_000_000,) * 3, "laptop": (3_000_000,) * 3}, K)
LISTED = FleetCount(20, (400 * DAY, 0, 200 * DAY))
"""20 screens for 30 days."""


def screens(entity: str, watt_days_on: int, *, merged: bool = False) -> Group:
    """Return a published cell of screens: it has an energy and no time."""
    made = cell(entity, "laptop", 10, 1, 1, merged=merged)
    key = made.key._replace(device_class=MONITOR)
    energies = {next(iter(made.sums.energies)): EnergySums(0, watt_days_on * DAY, watt_days_on * DAY // 10)}
    return Group(key, GroupSums(10, 0, {}, energies))


def rows_of(month: ReleasedMonth) -> tuple[FleetRow, ...]:
    """Return the rows of one month."""
    return estimate_months([month], ASSUMPTIONS)[0]


def test_screens_follow_the_time_of_their_pcs():
    """A's PCs are known for 300 of 600 days: its screens draw 250 W·days then, and as much again."""
    fleet = {place("A"): count(20), place("B"): count(10)}
    month = ReleasedMonth(
        (cell("A", "laptop", 12, 300, 5), screens("A", 250)), (), fleet, {place("A", MONITOR): LISTED}
    )
    rows = rows_of(month)
    a, b = of(rows, "A", MONITOR), of(rows, "B", MONITOR)
    # 500 W·days at 12.5 W are 40 days on, of 600; standby for the rest, at 0.3 W.
    standby = 0.3 * (600 - 40)
    assert watt_days(a) == pytest.approx(500 + standby)
    assert (a.source, a.machines, a.known_millijoules) == (Source.OWN, 20, 250 * DAY)
    assert a.u_model_ppm == pytest.approx((0.1 * 500 + STANDBY_U * standby) / (500 + standby) * 1e6, abs=3)
    # B has no cell: the mean of the class, 250 ÷ 300 W of PC time; none is listed there, so none in standby.
    assert b.source is Source.CLASS
    assert watt_days(b) == pytest.approx(300 * 250 / 300)
    assert FleetSum.of(rows).machine_milliseconds == 900 * DAY


def test_known_pcs_without_screens_have_none():
    """All PCs of B are published, and no screens: none is added, as A has no unobserved time."""
    fleet = {place("A"): count(10), place("B"): count(10)}
    cells = (cell("A", "laptop", 10, 300, 5), cell("B", "laptop", 10, 300, 5), screens("A", 250))
    rows = rows_of(ReleasedMonth(cells, (), fleet))
    assert watt_days(of(rows, "A", MONITOR)) == 250
    assert watt_days(of(rows, "B", MONITOR)) == 0


def test_merged_screens_are_divided_by_the_time_of_pcs():
    """Screens of B and C share a row."""
    fleet = {place("B"): count(10), place("C"): count(20)}
    cells = (
        cell("B", "laptop", 10, 300, 5),
        cell("C", "laptop", 20, 600, 5),
        screens(AUTRES, 90, merged=True),
    )
    family = cells[-1].key._replace(entity=None, autres=False)
    rows = rows_of(
        ReleasedMonth(cells, (Hidden(family, frozenset({"B", "C"}), frozenset({MONITOR})),), fleet)
    )
    assert [watt_days(of(rows, entity, MONITOR)) for entity in "BC"] == [30, 60]


def test_listed_screens_that_nothing_represents_are_at_the_class_default():
    """No screen is published: 20 listed ones draw 4 W."""
    month = ReleasedMonth(
        (cell("A", "laptop", 12, 300, 5),), (), {place("A"): count(20)}, {place("A", MONITOR): LISTED}
    )
    row = of(rows_of(month), "A", MONITOR)
    assert watt_days(row) == row.default_millijoules / DAY == 600 * 4
    assert (row.source, row.machines) == (Source.DEFAULT, 20)


def test_devices_at_a_declared_power_say_so():
    """A class without a published cell, and listed screens, are at the declared power: GSD² 4, not 2."""
    month = ReleasedMonth((), (), {place("A"): count(20)}, {place("A", MONITOR): LISTED})
    declared = replace(ASSUMPTIONS, declared=frozenset({MONITOR, "laptop"}))
    (before,), (rows,) = (estimate_months([month], one) for one in (ASSUMPTIONS, declared))
    assert decode_fleet(encode_fleet(rows), rows[0].key.period_from, rows[0].key.period_to) == rows
    for one, other in zip(before, rows, strict=True):
        assert (one.source, other.source) == (Source.DEFAULT, Source.DECLARED)
        assert other.u_shared_ppm == math.ceil(1e6 * DECLARED_U) == pytest.approx(2 * one.u_shared_ppm, abs=2)
        assert replace(other, source=one.source, u_shared_ppm=one.u_shared_ppm) == one


def test_screens_without_published_pcs_keep_their_energy():
    """The time of their PCs is not published: no more is extrapolated, and none of it is lost."""
    rows = rows_of(ReleasedMonth((screens("A", 250),), (), {place("A"): count(20)}))
    row = of(rows, "A", MONITOR)
    assert (row.energy_millijoules, row.known_millijoules) == (250 * DAY, 250 * DAY)
