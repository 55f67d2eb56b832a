# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of machines that are always on: their share is pooled and drawn; a small sample may miss some."""

from __future__ import annotations

import math
import random

import pytest

from tests.support.fleet_machines import KWH, A, B, in_service, kwh, machine
from veilleuse.collector.fleet.estimator import Fleet
from veilleuse.collector.fleet.pool import DRAWS, FEWEST, PRIOR_SPREAD, PRIOR_STRATA, Pool, between
from veilleuse.collector.fleet.samples import SampleMachine, Stratum
from veilleuse.collector.fleet.strata import ALWAYS_ON, ORDINARY, parts


def some(stratum: Stratum, n: int, always: int, seed: int = 1) -> list[SampleMachine]:
    """Return n machines of about 60 kWh, `always` of which are always on and draw about 350 kWh."""
    chance = random.Random(seed)
    return [
        machine(stratum, (chance.uniform(20, 40), 20, 10))
        if place >= always
        else machine(stratum, (140, 110, chance.uniform(90, 110)), on_share=0.99)
        for place in range(n)
    ]


def pool(machines: list[SampleMachine], mixed: bool = True) -> Pool:
    """Return the pool of one class, each stratum ten times as large as its sample."""
    strata = sorted({one.stratum for one in machines})
    there = [in_service(one, 10 * sum(m.stratum == one for m in machines)) for one in strata]
    made = list(parts(machines, there).values())
    for part in made:
        part.fill(lambda _: 1.0, mixed=mixed)
    return Pool("sff", made, mixed=mixed)


def test_the_share_is_the_class_s():
    """A stratum of 20 without always-on machines takes the class's share of them, 3 of 60."""
    machines = some(A, 40, 3) + some(B, 20, 0, seed=2)
    fleet = Fleet(machines, [in_service(A, 400), in_service(B, 200)])
    own = sum(sum(one.energy_millijoules) for one in machines[40:]) / 20
    always = sum(sum(one.energy_millijoules) for one in machines[:3]) / 3
    typical = 0.95 * own + 0.05 * always
    assert fleet.of([B]).extrapolated_millijoules == pytest.approx(180 * typical, rel=1e-9)


def test_a_thick_stratum_stands_for_itself():
    """A stratum of sixty or more uses its own mean of all machines; a skewed one has a wider upper side."""
    machines = some(A, 80, 4)
    total = Fleet(machines, [in_service(A, 800)]).total()
    assert kwh(total) == pytest.approx(10 * sum(sum(one.energy_millijoules) for one in machines) / 3.6e9)
    assert total.high_log > total.low_log
    assert total.degrees_of_freedom < 79


def test_draws_are_the_same_every_time():
    """The class seeds 2,000 draws of p ~ Beta(n₁ + ½, n₀ + ½), whose mean is (n₁ + ½) ÷ (n + 1)."""
    one, other = (pool(some(A, 40, 4)) for _ in range(2))
    assert one.draws is not None
    assert one.draws == other.draws
    assert len(one.draws.share) == DRAWS
    drawn = 0.1 + sum(one.draws.share) / DRAWS
    assert drawn == pytest.approx(4.5 / 41, abs=0.004)
    spread = math.sqrt(sum((0.1 + share - drawn) ** 2 for share in one.draws.share) / DRAWS)
    assert spread == pytest.approx(math.sqrt(4.5 * 36.5 / 41**2 / 42), rel=0.06)


def test_a_small_sample_without_any_may_hide_some():
    """Twenty machines without an always-on one give a wider upper side, for unseen ones; fifty do not."""
    small = Fleet(some(A, 20, 0), [in_service(A, 200)]).total()
    assert small.high_log > small.low_log
    large = Fleet(some(A, 50, 0), [in_service(A, 500)]).total()
    assert large.high_log == large.low_log
    machines = some(A, 20, 0)
    unknown = [
        SampleMachine(
            one.stratum, one.hardware, one.energy_millijoules, one.accounted_milliseconds, one.methods
        )
        for one in machines
    ]
    blind = Fleet(unknown, [in_service(A, 200)]).total()
    assert blind.high_log == blind.low_log
    assert Fleet(some(A, 20, 20), [in_service(A, 200)]).total().high_log == pytest.approx(
        Fleet(some(A, 20, 20), [in_service(A, 200)]).total().low_log
    )


def test_two_classes_are_drawn_apart():
    """The draws of two classes are independent: a total's interval is narrower than the sum of its rows'."""
    laptop = Stratum("laptop", "A")
    machines = some(A, 30, 3) + some(laptop, 30, 3)
    fleet = Fleet(machines, [in_service(A, 300), in_service(laptop, 300)])
    total = fleet.total()
    assert total.u_sampling < fleet.of([A]).u_sampling
    assert total.u_sampling == pytest.approx(fleet.of([A]).u_sampling / math.sqrt(2), rel=0.05)


def test_spread_of_a_class_that_few_tell():
    """Few machines of a kind take their own variance, pooled with the class's relative variance as two more
    machines. One machine per stratum takes the variance between strata, completed to ten degrees of freedom
    by the prior; one machine alone, the prior."""
    few = pool(some(A, 30, 2))
    relative = few.spreads[ORDINARY].variance / few.mean(ORDINARY) ** 2
    assert few.spreads[ALWAYS_ON].degrees_of_freedom == 28
    told = few.spreads[ALWAYS_ON].variance / few.mean(ALWAYS_ON) ** 2
    assert relative / 2 < told < relative
    many = pool(some(A, 60, 20))
    assert many.spreads[ALWAYS_ON].degrees_of_freedom == 19
    strata = [Stratum("sff", name) for name in "ABCD"]
    each = pool(
        [one for place, name in enumerate(strata) for one in some(name, 1, 0, seed=place)], mixed=False
    )
    assert each.spreads[ORDINARY].degrees_of_freedom == FEWEST
    seen = each.whole.squares(each.fleet, each.whole.rates) / each.mean(ORDINARY) ** 2
    lent = (seen + 7 * PRIOR_SPREAD**2) / 10
    made_up = (seen + 9 * lent) / 12 * each.mean(ORDINARY) ** 2
    assert each.spreads[ORDINARY].variance == pytest.approx(made_up)
    assert each.between.variance == 0
    alone = pool(some(A, 1, 0), mixed=False)
    assert alone.spreads[ORDINARY].variance == pytest.approx((PRIOR_SPREAD * alone.mean(ORDINARY)) ** 2)
    assert alone.between.variance == PRIOR_STRATA**2
    nothing = pool([machine(A, (0, 0, 0)), machine(B, (0, 0, 0))], mixed=False)
    assert nothing.between.variance == PRIOR_STRATA**2
    assert nothing.spreads[ORDINARY].variance == 0


def test_variance_between_strata():
    """Paule and Mandel: the plain variance without errors, zero below the errors, else the excess."""
    plain = between([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert plain.variance == pytest.approx(1.0)
    assert plain.degrees_of_freedom == pytest.approx(2.0)
    assert between([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]).variance == 0
    assert between([2.0, 2.0], [0.0, 0.0]).variance == 0
    assert between([1.0, 2.0, 3.0], [0.5, 0.5, 0.5]).variance == pytest.approx(0.5)
    values, errors = (0.0, 2.0, 1.0), (0.0, 0.1, 5.0)
    weights = [1 / (between(values, errors).variance + error) for error in errors]
    centre = sum(map(float.__mul__, weights, values)) / sum(weights)
    explained = sum(weight * (value - centre) ** 2 for weight, value in zip(weights, values, strict=True))
    assert explained == pytest.approx(2)


def test_a_share_that_differs_is_told_less_sure():
    """Strata with 0, 5 and 10 always-on machines of 20 give a wider interval than three with 5 each."""
    strata = [Stratum("sff", name) for name in "ABC"]
    there = [in_service(one, 200) for one in strata]
    unlike = [one for place, name in enumerate(strata) for one in some(name, 20, 5 * place, seed=place)]
    alike = [one for place, name in enumerate(strata) for one in some(name, 20, 5, seed=place)]
    wide, narrow = (Fleet(machines, there).of([strata[0]]).u_sampling for machines in (unlike, alike))
    assert wide > 2 * narrow


def alike(stratum: Stratum, n: int, always: int) -> list[SampleMachine]:
    """Return n machines of 60 kWh exactly, but `always` of them of 360 kWh."""
    return [
        machine(stratum, (360, 0, 0), on_share=0.99) if place < always else machine(stratum, (60, 0, 0))
        for place in range(n)
    ]


def test_variance_of_the_share():
    """Machines differ only by being always on. The variance is that of the drawn share for all 20 unobserved
    machines, plus p(1 − p) for each."""
    machines = alike(A, 20, 4)
    total = Fleet(machines, [in_service(A, 40)]).total()
    draws = pool(machines).draws
    assert draws is not None
    drawn = sum(share * share for share in draws.share) / DRAWS
    wanted = (20 * 300) ** 2 * drawn + 20 * 0.2 * 0.8 * 300**2
    assert total.sampling_variance / KWH**2 == pytest.approx(wanted, rel=1e-6)


def test_a_share_that_two_strata_rest_on():
    """Errors of a thick and a thin stratum are correlated through the class's share: 2·cov, cov =
    720·80·Δ²·p(1 − p)/100."""
    machines = alike(A, 80, 8) + alike(B, 20, 2)
    fleet = Fleet(machines, [in_service(A, 800), in_service(B, 100)])
    apart = fleet.of([A]).sampling_variance + fleet.of([B]).sampling_variance
    together = (fleet.total().sampling_variance - apart) / KWH**2
    assert together == pytest.approx(2 * 720 * 80 * 300**2 * 0.09 / 100, rel=1e-6)
