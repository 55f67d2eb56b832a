# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of errors that no sample size reduces: those common to a model, a class or a meter."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.support.fleet_machines import A, B, in_service, machine
from veilleuse.collector.fleet.estimator import Assumptions, Fleet
from veilleuse.collector.fleet.samples import CalibratedWall, Stratum
from veilleuse.collector.model.calibration import Fit
from veilleuse.wire.ladder import Method

PRIOR = Method.COUNTER_MODELLED
LAPTOP = Stratum("laptop", "A")
FIT = Fit("wall:package", 10_000_000, 1_200_000, 10**12, 0, 0, 1_000_000, 0, 0, 1_000_000)
"""10 W ± 1 W plus 1.2 W per watt: at 20 W of counters 34 W ± 1 W."""


def census(*machines, **assumptions):
    """Return u_model of these machines as a census."""
    strata = {one.stratum for one in machines}
    there = [in_service(stratum, sum(one.stratum == stratum for one in machines)) for stratum in strata]
    return Fleet(machines, there, Assumptions(**assumptions)).total().u_model


def test_prior_errors_of_models_and_classes():
    """Prior errors correlate by 1 within a hardware model, 0.5 within a class, 0 between classes, and fully
    between the priors of one model."""
    one = machine(A, (60, 0, 0), method=PRIOR, u=0.2)
    assert census(one, one) == pytest.approx(0.2)
    assert census(one, replace(one, stratum=B)) == pytest.approx(0.2)
    assert census(one, replace(one, hardware="other")) == pytest.approx(0.2 * math.sqrt(3) / 2)
    assert census(one, replace(one, stratum=LAPTOP)) == pytest.approx(0.2 / math.sqrt(2))
    assert census(one, machine(A, (60, 0, 0), method=Method.LOAD_MODELLED, u=0.1)) == pytest.approx(0.15)


def test_readings_are_common_to_their_class_and_method():
    """Errors of meters add linearly within a class and method, in quadrature between classes and methods."""
    one = machine(A, (60, 0, 0), u=0.01)
    assert census(one, replace(one, hardware="other")) == pytest.approx(0.01)
    assert census(one, replace(one, stratum=LAPTOP)) == pytest.approx(0.01 / math.sqrt(2))
    assert census(one, machine(A, (60, 0, 0), method=Method.BATTERY, u=0.01)) == pytest.approx(
        0.01 / math.sqrt(2)
    )


def test_the_unobserved_are_as_wrong_as_what_stands_for_them():
    """An extrapolation from ten of a hundred keeps u = 0.2, without correction for a finite population; thin
    and unseen strata too."""
    machines = [machine(A, (60, 0, 0), method=PRIOR, u=0.2) for _ in range(10)]
    machines += [machine(B, (60, 0, 0), method=PRIOR, u=0.2)]
    never = Stratum("sff", "C")
    fleet = Fleet(machines, [in_service(A, 100), in_service(B, 10), in_service(never, 10)])
    for strata in ([A], [B], [never], fleet.strata):
        assert fleet.of(strata).u_model == pytest.approx(0.2)


def test_what_stands_for_the_unobserved():
    """A stratum of ten takes its own machines' errors; one without machines takes the class's."""
    machines = [machine(A, (60, 0, 0), method=PRIOR, u=0.2) for _ in range(10)]
    machines += [machine(B, (60, 0, 0)) for _ in range(10)]
    never = Stratum("sff", "C")
    fleet = Fleet(machines, [in_service(stratum, 100) for stratum in (A, B, never)])
    assert [fleet.of([one]).u_model for one in (A, B, never)] == pytest.approx([0.2, 0.0, 0.1])


def test_imputed_energy_is_as_wrong_as_its_machine():
    """Half-imputed energy keeps u = 0.2; energy imputed without any method has the u of a class default."""
    half = machine(A, (60, 0, 0), method=PRIOR, u=0.2, imputed=30 * 3_600_000_000)
    assert census(half) == pytest.approx(0.2)
    whole = replace(machine(A, (60, 0, 0)), methods={}, imputed_millijoules=60 * 3_600_000_000)
    assert census(whole) == pytest.approx(math.log(2) / 2)
    assert census(machine(A, (0, 0, 0))) == 0


def calibrated(stratum=A, hardware="x"):
    """Return a machine with 100 h at 20 W of counters, 34 W at the wall."""
    hours, millijoules = 100 * 3_600_000, 100 * 3_600_000 * 20
    return machine(
        stratum,
        (3.4, 0, 0),
        method=Method.COUNTER_CALIBRATED,
        u=0.5,
        hardware=hardware,
        counters=(hours, millijoules),
    )


def test_a_calibration_is_its_model_s_own():
    """√gᵀΣg ÷ E = 1 W of 34 adds linearly within a model, in quadrature between; without fit, as derived."""
    book = {("sff", name): CalibratedWall(FIT, "plug 1") for name in ("x", "y")}
    assert census(calibrated(), calibrated(), calibrations=book) == pytest.approx(1 / 34, rel=1e-6)
    two = census(calibrated(), calibrated(hardware="y"), calibrations=book)
    assert two == pytest.approx(1 / 34 / math.sqrt(2), rel=1e-6)
    assert census(calibrated(), calibrated()) == pytest.approx(0.5)
    uncounted = replace(calibrated(), counters_milliseconds=0, counters_millijoules=0)
    assert census(uncounted, calibrations=book) == pytest.approx(0.5)


def test_a_meter_s_gain_is_common_to_all_its_fits():
    """A meter's 1 % adds linearly over models and classes, two meters in quadrature, within the fit's
    bounds."""
    sure = replace(FIT, base_variance=0, meter_u_ppm=10_000)
    laptops = calibrated(LAPTOP)
    keys = [("sff", "x"), ("laptop", "x")]
    same = {key: CalibratedWall(sure, "plug 1") for key in keys}
    assert census(calibrated(), laptops, calibrations=same) == pytest.approx(0.01, rel=1e-6)
    apart = {key: CalibratedWall(sure, f"plug {number}") for number, key in enumerate(keys)}
    assert census(calibrated(), laptops, calibrations=apart) == pytest.approx(0.01 / math.sqrt(2), rel=1e-6)
    floor = CalibratedWall(replace(sure, floor_u_ppm=50_000), "plug 1")
    assert census(calibrated(), calibrations={keys[0]: floor}) == pytest.approx(0.05, rel=1e-6)
    ceiling = CalibratedWall(replace(sure, ceiling_u_ppm=5_000), "plug 1")
    assert census(calibrated(), calibrations={keys[0]: ceiling}) == pytest.approx(0.005, rel=1e-6)
