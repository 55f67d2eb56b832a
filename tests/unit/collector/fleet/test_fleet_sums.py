# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of a fleet given as sums: the figure is that of its machines. Where kinds are known by class only,
the interval is nearly that of the machines."""

from __future__ import annotations

import random

import pytest

from tests.support.fleet_machines import A, in_service, machine
from tests.support.simulated_fleets import Shape, simulated, together
from veilleuse.collector.fleet.estimator import Fleet
from veilleuse.collector.fleet.samples import Alike, Sample, sum_groups

SHAPE = Shape(((100, 5), (300, 20), (400, 40), (600, 80)), always_on=0.15)


def test_sums_are_machines():
    """Any split gives the same figure to the last bit: it needs n, Σx and Σxxᵀ alone."""
    one = simulated(SHAPE, random.Random(3))
    halves = [Sample.of(one.machines[::2]), Sample.of(one.machines[1::2])]
    joined = Sample()
    for half in halves:
        for key, group in half.groups.items():
            joined.groups.setdefault(key, Alike()).merge(group)
    assert Fleet(joined, one.in_service).total() == Fleet(one.machines, one.in_service).total()


def test_what_is_left_without_some():
    """Subtracting machines leaves n, sums, products and squares of the others, exactly."""
    machines = [machine(A, (20 + n, 10, 5)) for n in range(5)]
    alike = [Alike() for _ in range(2)]
    for place, one in enumerate(machines):
        alike[place % 2].add(one)
    both = sum_groups(alike)
    left = both.without(alike[1])
    assert (left.n, left.sums, left.products) == (alike[0].n, alike[0].sums, alike[0].products)
    assert both.derived_milliseconds == sum(one.derived_milliseconds for one in machines)
    assert both.measured_millijoules == sum(one.measured_millijoules for one in machines)
    assert left.squares((1.0, 0.0, 0.0), (0.0, 0.0, 0.0)) == sum(
        one.energy_millijoules[0] ** 2 for one in machines[::2]
    )


def test_kinds_of_the_class_alone():
    """With kinds known for the class alone, a total's energy stays within 10 % and its interval within a
    third, on either side."""
    one = simulated(SHAPE, random.Random(4))
    apart = Fleet(one.machines, one.in_service).total()
    whole = Fleet(together(Sample.of(one.machines)), one.in_service).total()
    assert whole.energy_millijoules == pytest.approx(apart.energy_millijoules, rel=0.1)
    assert whole.high_log == pytest.approx(apart.high_log, rel=1 / 3)
    assert whole.low_log == pytest.approx(apart.low_log, rel=1 / 3)
    assert whole.u_sampling == pytest.approx(apart.u_sampling, rel=1 / 3)


def test_a_sample_that_draws_nothing():
    """A sample of zero energy with kinds known for the class alone gives zero, and no interval."""
    machines = [machine(A, (0, 0, 0), on_share=0.95 if n < 3 else 0.2) for n in range(12)]
    total = Fleet(together(Sample.of(machines)), [in_service(A, 100)]).total()
    assert total.energy_millijoules == 0
    assert total.bounds_millijoules == (0.0, 0.0)
