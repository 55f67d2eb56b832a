# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The fleet's energy of released months: worked examples, and properties over drawn months.
docs/methodology.md §6.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.released_oracle import Counts, unexplained
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.query import AUTRES, Basis, GroupKey, Query
from veilleuse.collector.model.sums import EnergyClass, EnergySums, Group, GroupSums, StateSums
from veilleuse.collector.release.figures import FleetSum, sum_fleet
from veilleuse.collector.release.fleet import FleetCount, ReleaseAssumptions
from veilleuse.collector.release.format import encode_month
from veilleuse.collector.release.months import ReleasedMonth, estimate_months
from veilleuse.collector.release.rows import FleetRow, Source, decode_fleet, encode_fleet
from veilleuse.collector.release.tables import Hidden, Month
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

DAY = 86_400_000
K = 10
FIRST, END = date(2026, 3, 1), date(2026, 4, 1)
OFFICES = GroupKey(zone="FR", population=Population.WORKSTATION)
DEFAULTS = {"laptop": (4_000_000, 2_000_000, 1_000_000), "tower": (10_000_000,) * 3}
ASSUMPTIONS = ReleaseAssumptions(DEFAULTS, K)


def cell(
    entity: str, device_class: str, hosts: int, days: int, watts: int, *, merged: bool = False, u: float = 0.1
) -> Group:
    """Return a published cell of so many machine days at a mean power."""
    key = GroupKey(FIRST, END, "FR", Population.WORKSTATION, False, entity, None, device_class, merged)
    energy = days * DAY * watts
    name = EnergyClass.AUTRES if device_class == AUTRES else DeviceClass(device_class)
    energies = {(name, Method.LOAD_MODELLED, Band.OPEN, State.OFF): EnergySums(0, energy, round(u * energy))}
    return Group(key, GroupSums(hosts, 0, {(Band.OPEN, State.OFF): StateSums(days * DAY)}, energies))


def place(
    entity: str, device_class: str = "laptop", context: PowerContext = PowerContext.OWN_SITE
) -> GroupKey:
    """Return the place and class of devices."""
    return OFFICES._replace(entity=entity, device_class=device_class, power_context=context)


def count(machines: int, opened: int = 20, holidays: int = 0, closed: int = 10) -> FleetCount:
    """Return so many devices, each with these days."""
    return FleetCount(machines, tuple(machines * DAY * days for days in (opened, holidays, closed)))


def hidden(*device_classes: str) -> Hidden:
    """Return the names of classes with machines in `autres`."""
    return Hidden(OFFICES.over(FIRST, END), frozenset({"A"}), frozenset(device_classes))


def estimated(*months: ReleasedMonth) -> list[tuple[FleetRow, ...]]:
    """Return the rows of each month."""
    return estimate_months(months, ASSUMPTIONS)


def of(rows: Sequence[FleetRow], entity: str, device_class: str = "laptop") -> FleetRow:
    """Return the one row of a place and class."""
    (found,) = (row for row in rows if (row.key.entity, row.key.device_class) == (entity, device_class))
    return found


def watt_days(row: FleetRow) -> float:
    """Return the energy of a row in watts × days."""
    return row.energy_millijoules / DAY


def test_a_cell_stands_for_its_place_a_branch_and_its_class():
    """A has a cell; two colleges share one; B has the mean of both cells; nothing of a tower is published."""
    fleet = {
        place("A"): count(20),
        place("C > 1"): count(6),
        place("C > 2"): count(4),
        place("B"): count(2),
        place("B", "tower"): count(1),
    }
    cells = (cell("A", "laptop", 12, 300, 5), cell("C", "laptop", 10, 200, 8, merged=True))
    (rows,) = estimated(ReleasedMonth(cells, (), fleet))
    a, one, two, b, tower = (
        of(rows, "A"), of(rows, "C > 1"), of(rows, "C > 2"), of(rows, "B"), of(rows, "B", "tower")
    )  # fmt: skip
    assert [row.source for row in (a, one, two, b, tower)] == [
        Source.OWN, Source.BRANCH, Source.BRANCH, Source.CLASS, Source.DEFAULT,
    ]  # fmt: skip
    assert (watt_days(a), a.known_millijoules / DAY, a.known_milliseconds / DAY) == (600 * 5, 1500, 300)
    assert (watt_days(one), watt_days(two)) == (180 * 8, 120 * 8)
    assert (one.known_millijoules + two.known_millijoules) / DAY == 1600
    assert (one.mean_entity, one.mean_class) == ("C", "laptop")
    assert watt_days(b) == pytest.approx(60 * (1500 + 1600) / 500)
    assert watt_days(tower) == tower.default_millijoules / DAY == 30 * 10


def test_the_errors_of_a_row_by_hand():
    """One cell: 12 of 20 machines, 300 of 600 machine days. s = 1 for ten degrees of freedom, t = 2.2281."""
    (rows,) = estimated(ReleasedMonth((cell("A", "laptop", 12, 300, 5),), (), {place("A"): count(20)}))
    (row,) = rows
    own = 2.228139 / 1.959964 * math.sqrt(600 * 300 / 12) / 600
    assert row.u_own_ppm == pytest.approx(own * 1e6, abs=2)
    assert (row.u_shared_ppm, row.u_model_ppm) == (0, 100_000)
    low, high = FleetSum.of(rows).bounds_millijoules
    wide = 1.959964 * math.hypot(own, 0.1)
    assert (low, high) == pytest.approx(
        (max(3000 * math.exp(-wide), 1500 * math.exp(-0.1959964)) * DAY, 3000 * math.exp(wide) * DAY),
        rel=1e-5,
    )


def test_twelve_equal_months_are_as_uncertain_as_one():
    """The same machines are in all months: independent errors would be 3.5 times smaller."""
    month = ReleasedMonth(
        (cell("A", "laptop", 12, 300, 5),), (), {place("A"): count(20), place("B"): count(5)}
    )
    one, year = FleetSum(), FleetSum()
    for number, rows in enumerate(estimated(*[month] * 12)):
        first, end = date(2026, number + 1, 1), date(2026 + number // 11, (number + 1) % 12 + 1, 1)
        for row in decode_fleet(encode_fleet(rows), first, end):  # as they are read
            year.add(row)
            if not number:
                one.add(row)
    assert year.energy_millijoules == 12 * one.energy_millijoules
    assert year.u_sampling == pytest.approx(one.u_sampling)
    assert year.u_model == pytest.approx(one.u_model) == pytest.approx(0.1, abs=1e-5)


def test_all_places_of_a_cell_are_more_certain_than_one():
    """Two places share a cell that covers all their time: their sum is known, each of them is not."""
    fleet = {place("C > 1"): count(6), place("C > 2"): count(4)}
    (rows,) = estimated(ReleasedMonth((cell("C", "laptop", 10, 300, 8, merged=True),), (), fleet))
    sums = [FleetSum.of(some) for some in (rows, rows[:1], rows[1:])]
    assert sums[0].u_sampling < 1e-3
    spread = 2.228139 / 1.959964
    one, two = (
        math.sqrt(share * (spread**2 / n + (math.log(1.5) / 2) ** 2)) for share, n in ((0.4, 6), (0.6, 4))
    )
    assert (sums[1].u_sampling, sums[2].u_sampling) == pytest.approx((one, two), rel=1e-4)
    for some in sums[1:]:
        # Nobody knows which part of the cell's energy is the place's: its lower end may be below that part.
        assert some.bounds_millijoules[0] < 0.8 * some.known_millijoules
    assert sums[0].bounds_millijoules[0] == pytest.approx(
        sums[0].known_millijoules * math.exp(-0.1959964), rel=1e-4
    )


def test_few_of_a_class_in_a_cell_of_several():
    """Its mean counts for ten towers of 30, the class default for the others: decision 0045."""
    fleet = {place("A", "tower"): count(30), place("A"): count(5)}
    merged = cell(AUTRES, AUTRES, 12, 360, 8, merged=True)
    (rows,) = estimated(ReleasedMonth((merged,), (hidden("tower", "laptop"),), fleet))
    tower, laptop = of(rows, "A", "tower"), of(rows, "A")
    assert tower.known_milliseconds + laptop.known_milliseconds == 360 * DAY
    left = (30 * 30 * DAY - tower.known_milliseconds) / DAY
    assert watt_days(tower) == pytest.approx(tower.known_millijoules / DAY + left * (10 * 8 + 20 * 10) / 30)
    assert watt_days(laptop) == pytest.approx(150 * 8)
    assert tower.pool == laptop.pool == (OFFICES, AUTRES, AUTRES)


def test_a_class_that_is_not_in_the_merged_cell_is_not_represented_by_it():
    """No measured laptop is in `autres`: laptops are at the class default, of their days' types."""
    fleet = {place("A", "tower"): count(30), place("A"): count(5, 10, 10, 10)}
    merged = cell(AUTRES, AUTRES, 12, 360, 8, merged=True)
    (rows,) = estimated(ReleasedMonth((merged,), (hidden("tower"),), fleet))
    assert of(rows, "A").source is Source.DEFAULT
    assert watt_days(of(rows, "A")) == 5 * (10 * 4 + 10 * 2 + 10 * 1)


def test_a_month_without_a_cell_uses_the_other_months():
    """Power follows the share of open days. A draws 1.2 times its class's mean, and C is not published."""
    fleet = {place("A"): count(10, 10, 0, 20), place("B"): count(10, 10, 0, 20)}
    june = ReleasedMonth((cell("A", "laptop", 10, 300, 6), cell("B", "laptop", 10, 300, 4)), (), fleet)
    fleet = {place("A"): count(10, 20, 0, 10), place("B"): count(10, 20, 0, 10)}
    full = ReleasedMonth((cell("A", "laptop", 10, 300, 12), cell("B", "laptop", 10, 300, 8)), (), fleet)
    before = {place("A"): count(10, 30, 0, 0), place("C"): count(10, 0, 0, 30)}
    first, _, rows = estimated(june, full, ReleasedMonth((), (), before))
    # Both months err as the same machines' mean does.
    assert of(rows, "A").pool == of(first, "A").pool
    # 5 W where a third of the days are open, 10 W where two thirds are: 15 W on open days, 0 W on others.
    assert watt_days(of(rows, "A")) == 300 * 15 * 1.2
    assert of(rows, "A").source is Source.OWN
    assert watt_days(of(rows, "C")) == 0
    assert of(rows, "C").source is Source.CLASS


def test_power_that_falls_with_open_days_is_a_mean():
    """A line with less power on open days would be chance."""
    fleet = {place("A"): count(10, 10, 0, 20)}
    first = ReleasedMonth((cell("A", "laptop", 10, 300, 6),), (), fleet)
    second = ReleasedMonth((cell("A", "laptop", 10, 300, 4),), (), {place("A"): count(10, 20, 0, 10)})
    _, _, rows = estimated(first, second, ReleasedMonth((), (), {place("B"): count(10, 30, 0, 0)}))
    assert watt_days(of(rows, "B")) == 300 * 5


def test_a_cell_that_the_inventory_lists_elsewhere_is_counted_once():
    """Ten machines are published under their enrolment's name, and listed under another."""
    (rows,) = estimated(
        ReleasedMonth(
            (cell("old", "laptop", 10, 300, 5),), (), {place("new"): count(10), place("B"): count(10)}
        )
    )
    assert watt_days(of(rows, "old")) == 1500
    assert sum(row.fleet_milliseconds for row in rows) == 600 * DAY
    assert sum(watt_days(row) for row in rows) == 3000


def test_contexts_share_a_cell():
    """The cell of A is divided by time in service at its own site and hosted."""
    fleet = {place("A"): count(9), place("A", context=PowerContext.HOSTED): count(3)}
    (rows,) = estimated(ReleasedMonth((cell("A", "laptop", 12, 240, 5),), (), fleet))
    assert [watt_days(row) for row in rows] == [450, 1350]
    assert [row.known_millijoules / DAY for row in rows] == [300, 900]
    assert [row.key.power_context for row in rows] == [PowerContext.HOSTED, PowerContext.OWN_SITE]
    total = FleetSum.of(rows)
    alone = FleetSum.of(
        estimated(ReleasedMonth((cell("A", "laptop", 12, 240, 5),), (), {place("A"): count(12)}))[0]
    )
    assert total.u_sampling == pytest.approx(alone.u_sampling, rel=1e-4)


def test_what_several_places_share_is_measured_of_all_of_them():
    """No row of C > 1 or C > 2 is called observed, and no reader of C > 1 alone gets a part of their cell."""
    fleet = {place("A"): count(20), place("C > 1"): count(6), place("C > 2"): count(4)}
    cells = (cell("A", "laptop", 12, 300, 5), cell("C", "laptop", 10, 200, 8, merged=True))
    (rows,) = estimated(ReleasedMonth(cells, (), {**fleet, place("C > 1", "tower"): count(10)}))
    month = Slice(FIRST, END)

    def measured(*grouping: str, entities: tuple[str, ...] = ()) -> dict[tuple[str | None, str], float]:
        query = Query(FIRST, END, grouping, basis=Basis.OBSERVED, entities=entities)
        stored = decode_fleet(encode_fleet(rows), FIRST, END)
        figures = sum_fleet(month, [(month, stored)], query, random_roll_out=False)
        found = {
            (row.key.entity, row.key.level): row.estimate.energy_millijoules / DAY for row in figures.rows
        }
        assert figures.total is None or figures.total.estimate.energy_millijoules / DAY == sum(found.values())
        return found

    assert measured("entity") == {("A", "row"): 1500, ("C", "autres"): 1600}
    assert measured("device_class") == {(None, "row"): 3100}
    assert measured("entity", entities=("C",)) == {("C", "autres"): 1600}
    assert measured("entity", entities=("C > 1",)) == {}


ENTITIES = ("A", "B", "C > 1", "C > 2")


@st.composite
def months(draw: st.DrawFn) -> list[ReleasedMonth]:
    """Draw up to three months of cells, of names that may also be merged or not listed, and fleets."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        names = draw(
            st.sets(
                st.tuples(st.sampled_from((*ENTITIES, "gone")), st.sampled_from(("laptop", "tower", "sff")))
            )
        )
        cells = [
            cell(*name, draw(st.integers(10, 40)), draw(st.integers(1, 900)), draw(st.integers(0, 60)))
            for name in sorted(names)
        ]
        for merged in draw(st.sets(st.sampled_from((("C", "laptop"), (AUTRES, "tower"), (AUTRES, AUTRES))))):
            cells.append(cell(*merged, 10, draw(st.integers(1, 900)), draw(st.integers(0, 60)), merged=True))
        listed = draw(
            st.sets(st.tuples(st.sampled_from(ENTITIES), st.sampled_from(("laptop", "tower", "sff"))))
        )
        fleet = {
            place(*one): count(
                draw(st.integers(1, 50)), *draw(st.tuples(*[st.integers(0, 20)] * 3).filter(any))
            )
            for one in sorted(listed)
        }
        names_inside = (hidden("tower", "sff"),) if cells and cells[-1].key.device_class == AUTRES else ()
        found.append(ReleasedMonth(tuple(cells), names_inside, fleet))
    return found


@given(months())
def test_rows_sum_to_what_is_published_and_listed(drawn: list[ReleasedMonth]):
    """Known time and energy are those of the cells, exactly; no time in service is lost or counted twice."""
    for month, rows in zip(drawn, estimated(*drawn), strict=True):
        published = [group.sums for group in month.cells]
        assert sum(row.known_millijoules for row in rows) == sum(
            one.energy_millijoules for sums in published for one in sums.energies.values()
        )
        known = sum(one.milliseconds for sums in published for one in sums.states.values())
        assert sum(row.known_milliseconds for row in rows) == known
        listed = sum(sum(one.milliseconds) for one in month.fleet.values())
        whole = sum(row.fleet_milliseconds for row in rows)
        assert max(known, listed) - DAY <= whole <= known + listed
        assert {row.key for row in rows} >= month.fleet.keys()
        assert Counter(row.key for row in rows).most_common(1)[0][1:] <= (1,) if rows else True
        for row in rows:
            assert row.fleet_milliseconds >= row.known_milliseconds
            assert 0 <= row.default_millijoules <= row.extrapolated_millijoules
            assert row.fleet_milliseconds > row.known_milliseconds or not row.extrapolated_millijoules
            assert min(row.u_own_ppm, row.u_shared_ppm, row.u_model_ppm) >= 0


def content_of(month: ReleasedMonth) -> str:
    """Return a month as it is published."""
    return json.dumps(
        encode_month(Month(Slice(FIRST, END), tuple(month.cells), (), (), (), tuple(month.hidden)))
    )


def counts_of(month: ReleasedMonth) -> Counts:
    """Return the fleet as the oracle reads it."""
    return {
        (key.zone, str(key.population), str(key.entity), str(key.device_class)): count
        for key, count in month.fleet.items()
    }


@given(months())
def test_the_oracle_gives_every_number(drawn: list[ReleasedMonth]):
    """An independent computation from published contents and counts gives the same integers."""
    contents, counts = [content_of(month) for month in drawn], [counts_of(month) for month in drawn]
    assert unexplained(estimated(*drawn), contents, counts, DEFAULTS, K) == []


@given(months(), st.randoms(use_true_random=False))
def test_the_order_of_cells_changes_no_digit(drawn: list[ReleasedMonth], chance: random.Random):
    """Every process computes the same rows and the same interval of their sum."""
    mixed = [
        ReleasedMonth(_mixed(month.cells, chance), month.hidden, dict(_mixed([*month.fleet.items()], chance)))
        for month in drawn
    ]
    for rows, others in zip(estimated(*drawn), estimated(*mixed), strict=True):
        assert sorted(rows, key=str) == sorted(others, key=str)
        assert FleetSum.of(rows).bounds_millijoules == FleetSum.of(_mixed(rows, chance)).bounds_millijoules


def _mixed(items: Sequence[Any], chance: random.Random) -> list[Any]:
    return chance.sample(items, len(items))
