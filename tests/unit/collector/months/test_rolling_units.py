# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of conservation: a machine's months have all that its days and weeks have, and nothing twice."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from tests.support.rolled import ZONE
from veilleuse.collector.model.calendars import BEFORE_ALL, CalendarVersion
from veilleuse.collector.model.meters import PsysCheck
from veilleuse.collector.model.months import COLUMNS, PLACE
from veilleuse.collector.model.records import Grain, HostId, Point
from veilleuse.collector.months.aggregate import Months, contributions
from veilleuse.collector.months.site_days import SiteDays
from veilleuse.collector.ports.months import CARRIED_COLUMNS, UnitEnergy, UnitPoint, Units, UnitSum
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Boundary, PointKind, Population, State, Supply

FIRST = date(2024, 12, 30).toordinal()
"""A Monday."""
DAYS = SiteDays((CalendarVersion(BEFORE_ALL, DEFAULT_CALENDAR),), (), Population.WORKSTATION)
NO_CHECK = PsysCheck()
PACKAGE = Point(PointKind.RAPL, "package-0", Boundary.COMPONENT, "machine")
PSYS = Point(PointKind.RAPL, "psys", Boundary.COMPONENT, "machine")

Unit: TypeAlias = tuple[Grain, int]
CellKey: TypeAlias = tuple[Band, State, Supply]
NOTHING_CARRIED = (0,) * len(CARRIED_COLUMNS)
AMOUNT = st.integers(0, 10**9)
UNIT = st.one_of(
    st.tuples(st.just(Grain.DAY), st.integers(FIRST, FIRST + 370)),
    st.tuples(st.just(Grain.WEEK), st.integers(0, 52).map(lambda n: FIRST + 7 * n)),
)
CELL = st.tuples(st.sampled_from(Band), st.sampled_from(State), st.sampled_from(Supply))


def cell_sum(
    unit: Unit, cell: CellKey, milliseconds: int, carried: tuple[int, ...] = NOTHING_CARRIED
) -> UnitSum:
    """Return the sum of one cell of a day or week."""
    (grain, start), (band, state, supply) = unit, cell
    return UnitSum(grain, start, band, state, supply, milliseconds, 0, carried)


def cell_energy(unit: Unit, cell: CellKey, method: Method, values: tuple[int, int, int]) -> UnitEnergy:
    """Return the energy of one cell of a day or week."""
    (grain, start), (band, state, supply) = unit, cell
    return UnitEnergy(grain, start, band, state, supply, method, *values)


THREE = st.tuples(AMOUNT, AMOUNT, AMOUNT)


@st.composite
def unit_lists(draw: st.DrawFn) -> list[Units]:
    """Draw units of one cell of one day or week each."""
    found = []
    size = len(CARRIED_COLUMNS)
    for unit, cell in draw(st.lists(st.tuples(UNIT, CELL), max_size=8, unique=True)):
        one = cell_sum(unit, cell, draw(AMOUNT), tuple(draw(st.lists(AMOUNT, min_size=size, max_size=size))))
        energy = cell_energy(unit, cell, draw(st.sampled_from(Method)), draw(THREE))
        screen = cell_energy(unit, cell, Method.LOAD_MODELLED, draw(THREE))
        found.append(Units((one,), (), (energy,), (screen,)))
    return found


def together(parts: list[Units]) -> Units:
    """Return all parts as one."""
    return Units(
        tuple(row for part in parts for row in part.sums),
        tuple(row for part in parts for row in part.points),
        tuple(row for part in parts for row in part.energies),
        tuple(row for part in parts for row in part.screens),
    )


def rolled(units: Units) -> Months:
    """Return the months of a workstation."""
    return contributions(units, DAYS, ZONE, NO_CHECK)


@given(unit_lists())
def test_months_have_all_that_their_days_and_weeks_have(parts):
    """Each column, summed over months, day types and bands, is the sum of what was reported."""
    expected: Counter[str] = Counter()
    for part in parts:
        (one,), (energy,), (screen,) = part.sums, part.energies, part.screens
        expected[f"{one.state}_{one.supply}_milliseconds"] += one.milliseconds
        expected.update(dict(zip(CARRIED_COLUMNS, one.carried, strict=True)))
        expected[f"{energy.method}_milliseconds"] += energy.milliseconds
        expected[f"{energy.method}_energy_millijoules"] += energy.energy_millijoules
        expected[f"{energy.method}_uncertainty_millijoules"] += energy.uncertainty_millijoules
        expected[f"{energy.state}_energy_millijoules"] += energy.energy_millijoules
        if energy.state is State.UNKNOWN:
            expected["unknown_derived_milliseconds"] += energy.milliseconds
        expected["screens_milliseconds"] += screen.milliseconds
        expected["screens_energy_millijoules"] += screen.energy_millijoules
        expected["screens_uncertainty_millijoules"] += screen.uncertainty_millijoules
    found: Counter[str] = Counter()
    for sums in rolled(together(parts)).sums.values():
        for vector in sums.values():
            found.update(dict(zip(COLUMNS, vector, strict=True)))
    del found["nights_on"]
    assert +found == +expected


def test_days_taken_out_and_days_that_stay_are_the_month():
    """Units rolled up one by one add up to those rolled up together; retention relies on it."""
    lists = st.lists(st.tuples(UNIT, CELL, AMOUNT), max_size=12, unique_by=lambda one: one[0])

    @given(lists)
    def held(rows: list[tuple[Unit, CellKey, int]]) -> None:
        parts = [Units((cell_sum(unit, cell, amount),)) for unit, cell, amount in rows]
        whole, sums = rolled(together(parts)), Months()
        for part in parts:
            for month, of in rolled(part).sums.items():
                for key, vector in of.items():
                    sums.add(month, key, vector)
        for month in whole.sums:
            alone = {(row.day_type, row.band): row.values for row in sums.rows(HostId(1), month)}
            assert {(row.day_type, row.band): row.values for row in whole.rows(HostId(1), month)} == alone

    held()


def counters(
    points: list[tuple[Point, int, int]], method: Method, counted: int, psys: PsysCheck = NO_CHECK
) -> tuple[int, int]:
    """Return (mJ, ms) of counters over one hour of a Monday, of which `method` covers `counted` ms."""
    unit, cell = (Grain.DAY, FIRST), (Band.OPEN, State.ON_ACTIVE, Supply.AC)
    units = Units(
        (cell_sum(unit, cell, 3_600_000),),
        tuple(
            UnitPoint(Grain.DAY, FIRST, Band.OPEN, State.ON_ACTIVE, Supply.AC, point, energy, covered, None)
            for point, energy, covered in points
        ),
        (cell_energy(unit, cell, method, (counted, 1, 0)),),
    )
    (sums,) = contributions(units, DAYS, ZONE, psys).sums.values()
    (vector,) = sums.values()
    return vector[PLACE["counters_energy_millijoules"]], vector[PLACE["counters_covered_milliseconds"]]


def test_counters_are_one_signal_for_as_long_as_a_counter_answered():
    """psys or package counts, never both, scaled to the time modelled from it; other methods have none."""
    both = [(PACKAGE, 1_000, 3_600_000), (PSYS, 2_500, 3_600_000)]
    assert counters(both, Method.COUNTER_MODELLED, 3_600_000) == (2_500, 3_600_000)
    assert counters(both, Method.COUNTER_CALIBRATED, 1_800_000) == (1_250, 1_800_000)
    distrusted = PsysCheck(10**9, 1, 10**9)
    assert counters(both, Method.COUNTER_MODELLED, 3_600_000, distrusted) == (1_000, 3_600_000)
    assert counters(both, Method.METERED, 3_600_000) == (0, 0)
    assert counters([], Method.COUNTER_MODELLED, 3_600_000) == (0, 0)


def test_a_night_is_on_for_longer_than_four_hours_of_its_own_band():
    """A night counts when the cells of its date in the night band are on for more than four hours."""
    four = 4 * 3_600_000
    active, idle, off = (
        (Band.NIGHT, state, Supply.AC) for state in (State.ON_ACTIVE, State.ON_IDLE, State.OFF)
    )
    cells = [
        [(active, four)],
        [(active, four), (idle, 1)],
        [(off, 2 * four)],
        [((Band.CLOSED, State.ON_IDLE, Supply.AC), 2 * four)],
    ]
    nights = []
    for day, of in enumerate(cells, FIRST):
        months = rolled(Units(tuple(cell_sum((Grain.DAY, day), *one) for one in of)))
        vectors = [vector for sums in months.sums.values() for vector in sums.values()]
        nights.append(sum(vector[PLACE["nights_on"]] for vector in vectors))
    assert nights == [0, 1, 0, 0]
