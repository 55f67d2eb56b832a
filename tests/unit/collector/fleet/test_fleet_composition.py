# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of post-stratification on model × age, and of representativeness."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fleet_machines import YEAR, A, B, in_service, kwh, machine
from veilleuse.collector.fleet.composition import compute_composition, is_balanced
from veilleuse.collector.fleet.estimate import Representativeness
from veilleuse.collector.fleet.estimator import Assumptions, Fleet
from veilleuse.collector.fleet.samples import InService, SampleCell, SampleMachine, Stratum, age_band
from veilleuse.collector.fleet.strata import class_rates, parts
from veilleuse.collector.model.sums import EnergySums
from veilleuse.collector.quantiles import chi_square99
from veilleuse.wire.ladder import Method

RANDOM = Assumptions(random_roll_out=True)
OLD, NEW = SampleCell("tower", "2"), SampleCell("mini", "0")


def old(stratum: Stratum = A) -> SampleMachine:
    """Return an old machine of 120 kWh a year."""
    return machine(stratum, (60, 40, 20), hardware="tower", age_years=6)


def new(stratum: Stratum = A) -> SampleMachine:
    """Return a new machine of 30 kWh a year."""
    return machine(stratum, (15, 10, 5), hardware="mini", age_years=1)


def test_age_bands():
    """The age bands have edges at 3, 5 and 8 years; unknown and refurbished are bands too."""
    assert [age_band(age, None) for age in (0, 2.9, 3, 5, 8, 20)] == ["0", "0", "1", "2", "3", "3"]
    assert age_band(None, False) == "unknown"
    assert age_band(2, True) == "refurbished"


def test_the_old_ones_came_first():
    """With 40 old machines of 50 and 10 new ones of 150 observed, the figure follows the inventory's mix;
    representativeness is not demonstrated."""
    machines = [old() for _ in range(40)] + [new() for _ in range(10)]
    there = [in_service(A, 200, {OLD: 50, NEW: 150})]
    total = Fleet(machines, there).total()
    assert kwh(total) == pytest.approx(50 * 120 + 150 * 30)
    assert total.representativeness is Representativeness.NOT_DEMONSTRATED
    assert kwh(Fleet(machines, [in_service(A, 200)]).total()) == pytest.approx(
        200 * (40 * 120 + 10 * 30) / 50
    )


def test_a_random_roll_out_is_held_against_the_inventory():
    """A random roll-out is demonstrated only where model × age agree with the inventory."""
    machines = [old() for _ in range(13)] + [new() for _ in range(37)]
    assert (
        Fleet(machines, [in_service(A, 200, {OLD: 50, NEW: 150})], RANDOM).total().representativeness
        is Representativeness.DEMONSTRATED
    )
    skewed = Fleet(machines, [in_service(A, 200, {OLD: 150, NEW: 50})], RANDOM).total()
    assert skewed.representativeness is Representativeness.NOT_DEMONSTRATED
    assert kwh(skewed) == pytest.approx(150 * 120 + 50 * 30)
    unknown = Fleet(machines, [in_service(A, 200)], RANDOM).total()
    assert unknown.representativeness is Representativeness.DEMONSTRATED
    assert kwh(unknown) == pytest.approx(200 * (13 * 120 + 37 * 30) / 50)


def test_a_thin_stratum_takes_its_own_mix():
    """Without a sample, a stratum takes the class's cells in its own mix, or else the class's mean."""
    machines = [old() for _ in range(20)] + [new() for _ in range(20)]
    new_ones, unknown = Stratum("sff", "C"), Stratum("sff", "D")
    there = [
        in_service(A, 80, {OLD: 40, NEW: 40}),
        in_service(B, 10, {OLD: 10}),
        in_service(new_ones, 10, {NEW: 10}),
        in_service(unknown, 10),
    ]
    fleet = Fleet(machines, there)
    assert [kwh(fleet.of([stratum])) for stratum in (B, new_ones, unknown)] == pytest.approx([1200, 300, 750])


def test_an_entity_s_own_level_is_kept():
    """Where both models draw half as much again, post-stratification sets the mix and keeps that level."""
    chance = [machine(B, (22.5, 15, 7.5), hardware="mini", age_years=1) for _ in range(8)]
    chance += [machine(B, (90, 60, 30), hardware="tower", age_years=6) for _ in range(12)]
    machines = [old() for _ in range(200)] + [new() for _ in range(200)] + chance
    there = [in_service(A, 800, {OLD: 400, NEW: 400}), in_service(B, 100, {OLD: 20, NEW: 80})]
    assert kwh(Fleet(machines, there).of([B])) == pytest.approx(1.5 * (20 * 120 + 80 * 30), rel=0.03)


def test_few_are_merged():
    """Cells of fewer than ten merge into their model, then their age, then the rest; so do unseen cells."""
    machines = [old() for _ in range(12)]
    machines += [
        machine(A, (30, 20, 10), hardware="mini", age_years=age) for age in (1, 1, 4, 4, 6, 6, 9, 9, 4, 4)
    ]
    machines += [machine(A, (30, 20, 10), hardware=f"odd {n}", age_years=4) for n in range(10)]
    machines += [machine(A, (30, 20, 10), hardware="odd", age_years=1) for _ in range(3)]
    strata = list(
        parts(
            machines, [in_service(A, 100, {SampleCell("new", "3"): 5, SampleCell("tower", "0"): 5})]
        ).values()
    )
    made = compute_composition(strata, class_rates(strata))
    assert made.merged_cell(SampleCell("tower", "2")) == SampleCell("tower", "2")
    assert made.merged_cell(SampleCell("tower", "0")) == SampleCell("*", "*")
    assert made.merged_cell(SampleCell("mini", "3")) == SampleCell("mini", "*")
    assert made.merged_cell(SampleCell("odd 3", "1")) == SampleCell("*", "1")
    assert made.merged_cell(SampleCell("odd", "0")) == SampleCell("*", "*")
    assert made.merged_cell(SampleCell("who", "knows")) == SampleCell("*", "*")
    assert made.scale(SampleCell("who", "knows")) == made.scale(SampleCell("odd", "0"))


def test_a_model_that_draws_nothing():
    """A model without energy has the scale 1, and the figure is a number."""
    machines = [machine(A, (0, 0, 0), hardware="tower", age_years=6) for _ in range(12)]
    machines += [new() for _ in range(12)]
    total = Fleet(machines, [in_service(A, 100, {OLD: 50, NEW: 50})]).total()
    assert 0 < kwh(total) < 100 * 30


def test_balance_by_chi_square():
    """The bound is the 1 % one of χ²; rare cells are lumped, and unknown compositions are left out."""
    assert chi_square99(1) == pytest.approx(6.635, rel=0.02)
    assert chi_square99(10) == pytest.approx(23.209, rel=0.002)

    def balanced(counts: tuple[int, int, int], fleet: tuple[int, int, int]) -> bool:
        cells = [OLD, NEW, SampleCell("odd", "0")]
        machines = [
            machine(A, (1, 1, 1), hardware=cell.hardware, age_years=6 if cell == OLD else 1)
            for cell, n in zip(cells, counts, strict=True)
            for _ in range(n)
        ]
        machines += [old(B)] * 30
        strata = list(
            parts(
                machines, [in_service(A, 100, dict(zip(cells, fleet, strict=True))), in_service(B, 60)]
            ).values()
        )
        return is_balanced(strata, compute_composition(strata, class_rates(strata)))

    assert balanced((20, 20, 10), (40, 40, 20))
    assert balanced((26, 14, 10), (40, 40, 20))
    assert not balanced((35, 10, 5), (40, 40, 20))
    assert not balanced((10, 20, 20), (47, 47, 6))


def test_rare_models_are_lumped_for_the_balance():
    """Three models of 4 % each are lumped: a dozen of each in the sample is too many together."""
    rare = [f"rare {n}" for n in range(3)]
    cells = {SampleCell("mini", "0"): 88, **{SampleCell(name, "0"): 4 for name in rare}}

    def said(of_each: int, common: int) -> Representativeness:
        machines = [new() for _ in range(common)]
        machines += [
            machine(A, (15, 10, 5), hardware=name, age_years=1) for name in rare for _ in range(of_each)
        ]
        return Fleet(machines, [in_service(A, 1000, cells)], RANDOM).total().representativeness

    assert said(12, 64) is Representativeness.NOT_DEMONSTRATED
    assert said(4, 88) is Representativeness.DEMONSTRATED


def test_random_says_nothing_of_an_entity_without_a_sample():
    """A stratum without an agent is not demonstrated, nor is the total that contains it."""
    fleet = Fleet([new() for _ in range(30)], [in_service(A, 300), in_service(B, 10)], RANDOM)
    assert fleet.of([A]).representativeness is Representativeness.DEMONSTRATED
    assert fleet.of([B]).representativeness is Representativeness.NOT_DEMONSTRATED
    assert fleet.total().representativeness is Representativeness.NOT_DEMONSTRATED


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"energy_millijoules": (1, 2)}, "one value for each"),
        ({"accounted_milliseconds": (1,)}, "one value for each"),
        ({"energy_millijoules": (5, 0, 0)}, "5 mJ by day type"),
        ({"accounted_milliseconds": (-1, 0, 0)}, "negative"),
    ],
)
def test_a_machine_that_cannot_be(changed, said):
    """Energy by day type equals energy by method plus imputed; there are three day types, none negative."""
    good: dict[str, Any] = {
        "energy_millijoules": (3, 0, 0),
        "accounted_milliseconds": (1, 1, 1),
        "methods": {Method.METERED: EnergySums(3, 3, 0)},
    }
    assert SampleMachine(A, "", **good).counts
    with pytest.raises(ValueError, match=said):
        SampleMachine(A, "", **(good | changed))


def test_a_fleet_that_cannot_be():
    """A fleet needs three day types, no negative count and no stratum twice."""
    with pytest.raises(ValueError, match="one value for each"):
        InService(A, 1, (1, 2))
    with pytest.raises(ValueError, match="negative"):
        InService(A, -1, YEAR)
    with pytest.raises(ValueError, match="there twice"):
        Fleet([], [in_service(A, 1), in_service(A, 2)])
