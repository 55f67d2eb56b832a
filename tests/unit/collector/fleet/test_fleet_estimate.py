# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the fleet's figure: docs/methodology.md §13's worked answer, exact sums, thin strata, defaults,
census and representativeness."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fleet_machines import DAY, KWH, YEAR, A, B, in_service, kwh, machine
from veilleuse.collector.fleet.estimate import DataType, EstimateBasis, Representativeness
from veilleuse.collector.fleet.estimator import Assumptions, Fleet
from veilleuse.collector.fleet.samples import InService, SampleCell, SampleMachine, Stratum
from veilleuse.collector.model.sums import EnergySums
from veilleuse.collector.quantiles import Z95
from veilleuse.wire.ladder import Method


def spread(stratum: Stratum, n: int, mean: float, deviation: float) -> list[SampleMachine]:
    """Return n machines of exactly this mean and sample deviation, kWh a year: half above, half below."""
    away = deviation * math.sqrt((n - 1) / n)
    return [machine(stratum, ((mean + sign * away), 0, 0)) for sign in (1, -1) for _ in range(n // 2)]


def test_stratified_mean():
    """docs/methodology.md §13: 1,124,000 kWh, SE 18,394.13, ± 36,051.8 with z (333 degrees), u 0.0163649,
    1,088,520 to 1,160,636."""
    told = ((4000, 200, 26, 9.5), (9000, 300, 88, 35), (120, 100, 1900, 700))
    strata = [Stratum(name, "all") for name in ("laptop", "sff", "server")]
    machines = [
        one
        for stratum, (_, n, mean, deviation) in zip(strata, told, strict=True)
        for one in spread(stratum, n, mean, deviation)
    ]
    total = Fleet(
        machines, [in_service(stratum, N) for stratum, (N, *_) in zip(strata, told, strict=True)]
    ).total()
    assert kwh(total) == pytest.approx(1_124_000, abs=1e-3)
    error = math.sqrt(total.sampling_variance) / KWH
    assert error == pytest.approx(18_394.13, abs=0.005)
    assert 1.959964 * error == pytest.approx(36_051.8, abs=0.05)
    assert round(total.degrees_of_freedom) == 333
    assert total.u_sampling == pytest.approx(0.0163649, abs=5e-8)
    low, high = (bound / KWH for bound in total.bounds_millijoules)
    assert (round(low), round(high)) == (1_088_520, 1_160_636)
    assert total.interval().gsd2 == pytest.approx(math.exp(2 * 0.0163649), abs=1e-6)
    assert (total.machines_fleet, total.machines_sampled) == (13_120, 600)
    assert total.coverage_energy == pytest.approx(600 / 13_120)


def servers(stratum: Stratum, *energies: float) -> list[SampleMachine]:
    """Return servers metered within 2 %, one for each energy."""
    return [machine(stratum, (energy, 0, 0), on_share=1.0, u=0.02) for energy in energies]


def test_the_interval_does_not_contradict_what_was_measured():
    """With two of three servers measured (3,221 kWh), the interval was 218 to 107,044 kWh. The known energy
    is uncertain by its meters alone, and the third server draws a similar amount."""
    total = Fleet(servers(A, 912, 2309), [in_service(A, 3)]).total()
    low, high = (bound / KWH for bound in total.bounds_millijoules)
    assert kwh(total) == pytest.approx(4831.5)
    assert 3221 * math.exp(-Z95 * total.u_model) <= low < 3221
    assert 2 * 1610 < high - 3221 < 5 * 1610


@pytest.mark.parametrize(
    ("machines", "energies"),
    [
        (3, (1600, 1621)),
        (5, (1600,)),
        (5, (1200, 2021)),
        (20, (1000, 1500, 2000, 1700, 1300)),
        (3, (40, 350)),
    ],
)
def test_few_machines_lend_neither_certainty_nor_absurdity(machines, energies):
    """Two like servers gave 4,643 to 5,028 kWh for three, two unlike ones 727 to 89,139 for five."""
    total = Fleet(servers(A, *energies), [in_service(A, machines)]).total()
    low, high = (bound / KWH for bound in total.bounds_millijoules)
    mean, missing = sum(energies) / len(energies), machines - len(energies)
    assert low >= sum(energies) * math.exp(-Z95 * total.u_model) * (1 - 1e-12)
    assert 1.4 * mean * math.sqrt(missing) < high - sum(energies) < 6 * mean * missing


def test_two_entities_that_differ_tell_no_third():
    """Three servers of 1,000 kWh and three of 2,000 gave a row of 28,542 kWh a bound of 1,192,195."""
    machines = servers(A, 1000, 1000, 1000) + servers(B, 2000, 2010, 2005)
    row = Fleet(machines, [in_service(A, 20), in_service(B, 20)]).of([A])
    low, high = (bound / KWH for bound in row.bounds_millijoules)
    assert low < 20_000 < 40_000 < high < 60_000


def test_what_is_missing_of_the_sample_is_not_demonstrated():
    """Lost or imputed days prevent `demonstrated`: lost days off look like any other lost time."""

    def told(lost: int, imputed: float = 0.0, machines: int = 40) -> Representativeness:
        days = tuple(time * (100 - lost) // 100 for time in YEAR)
        chance = random.Random(7)
        sample = [
            replace(
                machine(A, (chance.uniform(20, 60), 20, 10), days),
                unobserved_milliseconds=sum(YEAR) - sum(days),
            )
            for _ in range(40)
        ]
        if imputed:
            sample = [_partly_imputed(one, imputed) for one in sample]
        there = [in_service(A, machines)]
        return Fleet(sample, there, Assumptions(random_roll_out=True)).total().representativeness

    demonstrated, not_demonstrated = Representativeness.DEMONSTRATED, Representativeness.NOT_DEMONSTRATED
    assert [told(lost, machines=400) for lost in (0, 1, 10, 40)] == [
        demonstrated,
        demonstrated,
        not_demonstrated,
        not_demonstrated,
    ]
    assert told(0) is Representativeness.CENSUS
    assert told(0, imputed=0.2) is not_demonstrated
    assert told(0, imputed=0.2, machines=400) is not_demonstrated


def _partly_imputed(one: SampleMachine, share: float) -> SampleMachine:
    energy, time = sum(one.energy_millijoules), sum(one.accounted_milliseconds)
    derived = EnergySums(round(time * (1 - share)), round(energy * (1 - share)), 0)
    return replace(
        one,
        methods={Method.METERED: derived},
        imputed_millijoules=energy - derived.energy_millijoules,
    )


def test_a_sample_that_saw_half_of_the_year_is_not_demonstrated():
    """A sample since July is not demonstrated: the unobserved half of the year is no random part."""
    half = tuple(time // 2 for time in YEAR)
    fleet = Fleet(
        [machine(A, (15, 10, 5), half) for _ in range(40)],
        [in_service(A, 400)],
        Assumptions(random_roll_out=True),
    )
    assert fleet.total().representativeness is Representativeness.NOT_DEMONSTRATED


def test_day_types_are_estimated_apart():
    """Ê = Σ M·R̂ by day type: a machine seen on school days alone gives no figure of the holidays."""
    machines = [
        *(machine(A, (1.0, 0, 0), (DAY, 0, 0)) for _ in range(12)),
        *(machine(A, (0, 0.5, 0.1), (0, DAY, DAY)) for _ in range(12)),
    ]
    total = Fleet(machines, [in_service(A, 100)]).total()
    assert kwh(total) == pytest.approx(100 * (143 * 1.0 + 117 * 0.5 + 105 * 0.1))


def test_parts_and_coverage():
    """Measured, modelled, imputed and extrapolated sum to the whole; imputed time is no coverage."""
    whole = sum(YEAR)
    machines = [machine(A, (30, 20, 10)) for _ in range(10)]
    machines += [
        machine(A, (30, 20, 10), method=Method.LOAD_MODELLED, u=0.2, imputed=15 * KWH) for _ in range(10)
    ]
    total = Fleet(machines, [in_service(A, 100)]).total()
    assert total.measured_millijoules == 600 * KWH
    assert total.modelled_millijoules == 450 * KWH
    assert total.imputed_millijoules == 150 * KWH
    assert total.extrapolated_millijoules == 4800 * KWH
    assert total.energy_millijoules == 6000 * KWH
    assert (total.fleet_milliseconds, total.observed_milliseconds) == (100 * whole, 20 * whole)
    assert total.coverage_states == total.coverage_energy == 0.2
    assert total.data_type is DataType.EXTRAPOLATED
    assert total.basis is EstimateBasis.SAMPLE


def test_a_census_has_no_sampling_error_but_its_models_have():
    """A census has zero sampling variance; the model's error is not corrected."""
    machines = [machine(A, (20 + n, 10, 5), method=Method.LOAD_MODELLED, u=0.2) for n in range(8)]
    total = Fleet(machines, [in_service(A, 8)]).total()
    assert total.sampling_variance == 0
    assert total.degrees_of_freedom == math.inf
    assert total.u_model == pytest.approx(0.2)
    assert total.interval().u == total.u_kwh == pytest.approx(0.2)
    assert (total.representativeness, total.basis) == (Representativeness.CENSUS, EstimateBasis.CENSUS)
    assert total.extrapolated_millijoules == 0
    assert total.data_type is DataType.STATISTICAL
    assert total.interval(0.05).u == pytest.approx(math.hypot(0.2, 0.05))


def test_a_machine_that_was_measured_was_there():
    """Where more was observed than the inventory lists, the fleet is what was observed."""
    one = Fleet([machine(A, (30, 20, 10))], [InService(A, 0, (1, 0, 0))]).of([A])
    assert (one.energy_millijoules, one.fleet_milliseconds, one.machines_fleet) == (60 * KWH, sum(YEAR), 1)
    assert one.representativeness is Representativeness.CENSUS
    alone = Fleet([machine(B, (30, 20, 10))], []).total()
    assert alone.energy_millijoules == 60 * KWH


def test_a_decommissioned_machine_counts_for_its_days():
    """M counts in-service days, m observed days: two machines of half a year count as one."""
    half = tuple(time // 2 for time in YEAR)
    machines = [machine(A, (10, 6, 2), half) for _ in range(20)]
    total = Fleet(machines, [InService(A, 40, tuple(40 * time for time in half))]).total()
    assert kwh(total) == pytest.approx(40 * 18)


def test_thin_strata_borrow():
    """Below 60 machines the spread is the class's, below 10 the mean too; the interval widens."""
    chance = random.Random(3)
    thick = [machine(A, (chance.uniform(40, 60), 20, 10)) for _ in range(80)]
    thin = [machine(B, (chance.uniform(20, 30), 20, 10)) for _ in range(4)]
    none = Stratum("sff", "C")
    fleet = Fleet([*thick, *thin], [in_service(A, 400), in_service(B, 50), in_service(none, 50)])
    observed = sum(sum(one.energy_millijoules) for one in thick + thin)
    typical = observed / 84
    b, c = fleet.of([B]), fleet.of([none])
    assert b.extrapolated_millijoules == pytest.approx(46 * typical)
    assert c.energy_millijoules == c.extrapolated_millijoules == pytest.approx(50 * typical)
    assert c.machines_sampled == 0
    assert c.u_sampling > b.u_sampling > fleet.of([A]).u_sampling
    assert c.representativeness is Representativeness.NOT_DEMONSTRATED
    assert c.basis is EstimateBasis.SAMPLE


def test_variance_of_strata_that_share_their_spread():
    """From 10 to 59 machines the variance is N²·(1 − f)·s²/n each, with s² pooled, 48 degrees of freedom."""
    machines = spread(A, 20, 60, 10) + spread(B, 30, 40, 20)
    total = Fleet(machines, [in_service(A, 100), in_service(B, 200)]).total()
    shared = (19 * 10**2 + 29 * 20**2) / 48
    wanted = shared * (100**2 * 0.8 / 20 + 200**2 * 0.85 / 30)
    assert total.sampling_variance / KWH**2 == pytest.approx(wanted, rel=1e-6)
    assert total.degrees_of_freedom == pytest.approx(48)


def test_variance_of_a_stratum_without_a_sample():
    """A stratum without a sample takes the class's mean. Its variance has the error of that mean, the
    machines' own spread, and twice the variance between entities (GSD² 1.5). In the total the error of the
    mean is common to both strata."""
    machines = spread(A, 50, 60, 12)
    fleet = Fleet(machines, [in_service(A, 200), in_service(B, 50)])
    between = 2 * (50 * 60 * math.log(1.5) / 2) ** 2
    alone = fleet.of([B]).sampling_variance / KWH**2
    assert alone == pytest.approx(12**2 * (50 + 50**2 / 50) + between, rel=1e-6)
    both = fleet.total().sampling_variance / KWH**2
    own, common = 200**2 * 0.75 / 50, 2 * 150 * 50 / 50
    assert both == pytest.approx(12**2 * (own + common + 50 + 50**2 / 50) + between, rel=1e-6)


def test_variance_of_thin_strata_that_differ():
    """Two of three strata, which differ 1 : 2 : 3 in level only, are thin. The variance between strata counts
    for the share of energy that a stratum did not measure itself."""
    strata = [Stratum("sff", name) for name in "ABC"]
    machines = [
        machine(stratum, (level, 0, 0))
        for stratum, n, level in zip(strata, (45, 4, 4), (20, 40, 60), strict=True)
        for _ in range(n)
    ]
    fleet = Fleet(machines, [in_service(one, 60) for one in strata])
    typical = (45 * 20 + 4 * 40 + 4 * 60) / 53
    variance = 20**2  # of 20, 40 and 60, which have no error
    told = 56 * typical  # energy of the unobserved machines of a thin stratum, at the class's mean
    shares = (45 / 53, 4 / 53, 4 / 53)
    alone = told**2 * sum(share**2 for share in shares) - 2 * told * told * 4 / 53 + told**2
    assert fleet.of([strata[1]]).sampling_variance / KWH**2 == pytest.approx(
        variance / typical**2 * alone, rel=1e-6
    )
    assert kwh(fleet.of([strata[1]])) == pytest.approx(4 * 40 + told)


def test_a_class_that_nobody_saw_takes_its_default():
    """A class without a sample takes its default at GSD² 2.0, u = ln(2)/2, common to the class. Without a
    default the class is reported as not estimated."""
    switch = [Stratum("switch", name) for name in ("A", "B")]
    printer = Stratum("printer", "A")
    fleet = Fleet(
        [],
        [*(in_service(one, 10) for one in switch), in_service(printer, 3)],
        Assumptions(class_microwatts={"switch": (20_000_000,) * 3}),
    )
    total = fleet.total()
    assert kwh(total) == pytest.approx(20 * 365 * 24 * 20 / 1000)
    assert total.default_millijoules == total.extrapolated_millijoules
    assert (total.basis, total.data_type) == (EstimateBasis.CLASS_DEFAULT, DataType.APPROXIMATE)
    assert total.u_model == pytest.approx(math.log(2) / 2)
    assert total.u_sampling == 0
    assert total.unestimated == (printer,)
    assert total.representativeness is Representativeness.NOT_DEMONSTRATED
    nothing = fleet.of([printer])
    assert (nothing.energy_millijoules, nothing.bounds_millijoules) == (0, (0.0, 0.0))
    assert (nothing.u_model, nothing.u_kwh) == (0.0, 0.0)
    empty = Fleet([], []).total()
    assert (empty.energy_millijoules, empty.coverage_states, empty.coverage_energy) == (0, None, None)


def test_a_day_type_that_a_class_never_saw():
    """An unseen day type takes the class default, or else the power on seen days, with a default's error."""
    machines = [machine(A, (14.3, 0, 0), (143 * DAY, 0, 0)) for _ in range(12)]
    there = [in_service(A, 100)]
    seen = 100 * 14.3
    told = Fleet(machines, there, Assumptions(class_microwatts={"sff": (0, 2_000_000, 1_000_000)})).total()
    assert kwh(told) == pytest.approx(seen + 100 * 24 * (117 * 2 + 105 * 1) / 1000)
    assert told.u_model > 0
    untold = Fleet(machines, there).total()
    assert kwh(untold) == pytest.approx(seen + 100 * (117 + 105) * 0.1)
    assert untold.default_millijoules / KWH == pytest.approx(100 * 222 * 0.1)


def test_a_stratum_borrows_the_day_types_it_lacks():
    """A stratum of enough machines without a closed day takes its class's closed days."""
    for n in (20, 70):
        mine = [machine(A, (14.3, 11.7, 0), (143 * DAY, 117 * DAY, 0)) for _ in range(n)]
        theirs = [machine(B, (28.6, 23.4, 2.1)) for _ in range(30)]
        fleet = Fleet([*mine, *theirs], [in_service(A, 200), in_service(B, 30)])
        assert kwh(fleet.of([A])) == pytest.approx(200 * (14.3 + 11.7 + 2.1))
        assert fleet.of([A]).u_sampling > 0


def test_rows_sum_to_the_total_exactly():
    """Thirds of a millijoule are rounded by largest remainders, and every union of rows is their sum."""
    strata = [Stratum("sff", str(number)) for number in range(7)]
    machines = [
        SampleMachine(one, "", (1, 0, 0), (3, 0, 0), {Method.METERED: EnergySums(3, 1, 0)}) for one in strata
    ]
    fleet = Fleet(machines, [InService(one, 2, (4, 0, 0)) for one in strata])
    rows = [fleet.of([one]).energy_millijoules for one in strata]
    assert sum(rows) == fleet.total().energy_millijoules == 7 + round(7 / 3)
    assert rows == [fleet.energy_millijoules(one) for one in strata]
    assert fleet.of(strata[:3]).energy_millijoules == sum(rows[:3])


STRATA = [Stratum(name, entity) for name in ("sff", "laptop") for entity in ("A", "B", "C")]
SIZES = (0, 1, 2, 1000, DAY, 10**12)


@st.composite
def fleets(draw):
    """Draw a few machines in a few strata, and a fleet that need not agree with them. Most are of one kind,
    to reach thick strata."""
    machines = [
        _any_machine(draw(st.randoms(use_true_random=False)), draw(st.sampled_from(STRATA)))
        for _ in range(draw(st.integers(0, 12)))
    ]
    if draw(st.booleans()):
        chance = draw(st.randoms(use_true_random=False))
        machines += [_any_machine(chance, STRATA[0]) for _ in range(draw(st.integers(50, 80)))]
    chance = draw(st.randoms(use_true_random=False))
    there = [
        InService(
            stratum,
            chance.randrange(30),
            tuple(chance.choice(SIZES) for _ in range(3)),
            {SampleCell(chance.choice(["", "x", "z"]), "unknown"): chance.randrange(30)},
        )
        for stratum in STRATA
    ]
    return machines, there, Assumptions(random_roll_out=draw(st.booleans()))


def _any_machine(chance: random.Random, stratum: Stratum) -> SampleMachine:
    energies = tuple(chance.choice(SIZES) for _ in range(3))
    times = tuple(chance.choice(SIZES) for _ in range(3))
    imputed = chance.choice((0, 0, sum(energies)))
    derived = sum(energies) - imputed
    return SampleMachine(
        stratum,
        chance.choice(["", "x", "y"]),
        energies,
        times,
        {chance.choice(list(Method)): EnergySums(sum(times), derived, derived // 5)},
        imputed_millijoules=imputed,
        observed_milliseconds=sum(times),
        on_milliseconds=chance.choice((0, sum(times) // 2, sum(times))),
        on_millijoules=sum(energies) // 2,
        age_years=chance.choice([None, 1.0, 9.0]),
        refurbished=chance.choice([None, True]),
    )


@given(fleets())
@settings(max_examples=60, deadline=None)
def test_parts_sum_to_the_whole(given_fleet):
    """The four parts are the whole, the strata are the total, and intervals contain the figure."""
    fleet = Fleet(*given_fleet)
    total = fleet.total()
    rows = [fleet.of([stratum]) for stratum in fleet.strata]
    for one in (total, *rows):
        parts = (
            one.measured_millijoules,
            one.modelled_millijoules,
            one.imputed_millijoules,
            one.extrapolated_millijoules,
        )
        assert sum(parts) == one.energy_millijoules
        assert min(parts) >= 0
        low, high = one.bounds_millijoules
        assert 0 <= low <= one.energy_millijoules * (1 + 1e-12)
        assert high >= one.energy_millijoules * (1 - 1e-12)
        assert one.sampling_variance >= 0
        assert one.degrees_of_freedom > 0
        assert one.u_kwh >= 0
        assert math.isfinite(one.u_kwh)
    assert sum(one.energy_millijoules for one in rows) == total.energy_millijoules
    assert sum(one.extrapolated_millijoules for one in rows) == total.extrapolated_millijoules


@given(fleets(), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_order_of_machines_does_not_matter(given_fleet, chance):
    """Figure and interval of total and strata are the same in any order, to the last bit."""
    machines, there, assumptions = given_fleet
    fleet = Fleet(machines, there, assumptions)
    mixed, moved = list(machines), list(there)
    chance.shuffle(mixed)
    chance.shuffle(moved)
    other = Fleet(mixed, moved, assumptions)
    assert other.total() == fleet.total()
    for stratum in fleet.strata:
        assert other.of([stratum]) == fleet.of([stratum])


@given(fleets(), st.integers(0, 5), st.integers(0, DAY))
@settings(max_examples=25, deadline=None)
def test_a_machine_without_energy_changes_coverage_alone(given_fleet, where, known):
    """A machine with known states and no energy enters no mean and no spread."""
    machines, there, assumptions = given_fleet
    silent = SampleMachine(
        there[where].stratum, "x", (0, 0, 0), (0, 0, 0), {}, observed_milliseconds=known, age_years=30.0
    )
    before, after = (Fleet(found, there, assumptions).total() for found in (machines, [*machines, silent]))
    assert after.observed_milliseconds == before.observed_milliseconds + known
    assert replace(after, observed_milliseconds=before.observed_milliseconds) == before
