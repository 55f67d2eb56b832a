# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Samples give a model's line: algebra, few units, refusals. `make bench-calibration` tests coverage."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import fmean, variance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.calibration import BAND, FLEETS, MODEL, SAMPLES, UNITS, coverage
from tests.support.reference_units import Truth, simulated
from veilleuse.collector.derive import priors
from veilleuse.collector.derive.calibration.acceptance import (
    Outcome,
    Reference,
    standby_outcome,
    wall_outcome,
)
from veilleuse.collector.derive.calibration.fit import (
    BETWEEN_UNITS,
    UnidentifiedUnit,
    UnitLine,
    model_line,
    unit_line,
)
from veilleuse.collector.derive.calibration.moments import Pair, Square, Unit, outer, split_evenly
from veilleuse.collector.model.calibration import Fit
from veilleuse.collector.quantiles import Z95, quantile95, tail

METER = Reference("readings", "plug", 9_901)
MINUTE = 60_000
HOUR = 3_600_000
DAY = 24 * HOUR
numbers = st.floats(0.01, 100)


def unit(
    *watts: tuple[float, float], name: str = "u", prior: float = 30.0, minutes: int = 10, start: int = 0
) -> Unit:
    """Return a unit with each (counters, wall) pair in watts for some minutes, in a row."""
    made = Unit(name)
    for number, (counters, wall) in enumerate(watts):
        time = minutes * MINUTE
        made.add(start + number * time, time, counters * time, wall * time, prior * time)
    return made


def straight(a: float, b: float, *, name: str = "u", stretches: int = 12, start: int = 0) -> Unit:
    """Return a unit exactly on a line, under a varying load."""
    counters = [5 + 10 * (number % 4) for number in range(stretches)]
    return unit(*((c, a + b * c) for c in counters), name=name, start=start)


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (30, 2.04227), (100, 1.98397)],
)
def test_students_quantiles_are_the_tables(freedom, expected):
    """Quantiles are the printed two-sided 95 %, fall between whole degrees, and are normal from 200 on
    (docs/methodology.md §6)."""
    assert quantile95(float(freedom)) == pytest.approx(expected, abs=1e-5)
    assert quantile95(freedom + 0.5) < quantile95(float(freedom))
    assert quantile95(200.0) == quantile95(math.inf) == Z95
    assert quantile95(0.2) == quantile95(1.0)


def test_students_tail_is_a_probability():
    """The tail is nearly 1 near zero, and the arctangent's at one degree of freedom."""
    assert tail(1e-3, 3.0) == pytest.approx(1.0, abs=1e-3)
    for t in (0.1, 1.0, 5.0):
        assert tail(t, 1.0) == pytest.approx(1 - 2 * math.atan(t) / math.pi)


@given(numbers, numbers, st.floats(-0.95, 0.95))
def test_a_root_and_an_inverse_undo(first, second, correlation):
    """For any covariance, root·root is the matrix and inverse·matrix is the identity."""
    off = correlation * math.sqrt(first * second)
    matrix = Square(first, off, off, second)
    root = matrix.root()
    assert tuple(root.by(root)) == pytest.approx(tuple(matrix), rel=1e-6, abs=1e-9)
    assert tuple(matrix.by(matrix.inverse())) == pytest.approx((1, 0, 0, 1), rel=1e-6, abs=1e-6)
    assert matrix.transpose() == matrix


def test_a_unit_on_a_line_has_that_line():
    """The line is exact and has no uncertainty."""
    found = unit_line(straight(17.0, 1.4))
    assert tuple(found.line) == pytest.approx((17.0, 1.4))
    assert tuple(found.covariance) == pytest.approx((0, 0, 0, 0), abs=1e-12)
    assert found.counter_watts == pytest.approx(20.0)


def test_time_is_weight():
    """A sample of ten minutes counts as ten of one minute."""
    short = unit(*(((c, w)) for c, w in [(5, 20), (20, 50), (9, 33)] * 4 for _ in range(10)), minutes=1)
    long = unit(*[(5, 20), (20, 50), (9, 33)] * 4)
    assert tuple(unit_line(short).line) == pytest.approx(tuple(unit_line(long).line))


def test_autocorrelation_widens():
    """Residuals in long runs leave the line less certain than the same ones in alternation."""
    signs = [1, -1] * 72
    runs = [1] * 36 + [-1] * 36 + [1] * 36 + [-1] * 36
    counters = [5 + 3 * (number % 7) for number in range(144)]

    def made(noise: list[int]) -> UnitLine:
        return unit_line(unit(*((c, 10 + c + n) for c, n in zip(counters, noise, strict=True))))

    place = Pair(1.0, 14.0)
    assert made(runs).covariance.quadratic(place) > 20 * made(signs).covariance.quadratic(place)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (unit(*[(10, 30), (20, 50)] * 2), "too few"),
        (unit(*[(10, 30)] * 12), "load hardly changed"),
        (unit(*[(0, 30)] * 12), "load hardly changed"),
    ],
)
def test_a_unit_that_tells_nothing_is_left_out(made, why):
    """A unit that is too short or always at one load does not determine b."""
    with pytest.raises(UnidentifiedUnit, match=why):
        unit_line(made)


def line_of(a: float, b: float) -> UnitLine:
    """Return the line of a unit known exactly."""
    return UnitLine(Pair(a, b), Square(1e-12, 0, 0, 1e-12), 15.0, a + 15 * b, 12)


def test_equal_units_give_the_textbooks_mean_and_variance():
    """CR2 of equally known units gives the plain mean, s²/n, and n − 1 degrees of freedom."""
    units = [line_of(17, 1.3), line_of(14, 1.5), line_of(18, 1.45), line_of(20, 1.2)]
    found = model_line(units)
    assert tuple(found.line) == pytest.approx((17.25, 1.3625))
    assert found.covariance.aa == pytest.approx(variance([17, 14, 18, 20]) / 4, rel=1e-6)
    assert found.covariance.bb == pytest.approx(variance([1.3, 1.5, 1.45, 1.2]) / 4, rel=1e-6)
    assert found.degrees_of_freedom == pytest.approx(3.0, rel=1e-6)


def test_a_badly_known_unit_counts_less():
    """The mean follows the other units, and the degrees of freedom fall."""
    vague = UnitLine(Pair(40.0, 0.4), Square(400.0, 0.0, 0.0, 4.0), 15.0, 46.0, 12)
    units = [line_of(17, 1.3), line_of(18, 1.2), vague]
    found = model_line(units)
    assert abs(found.line.a - 17.5) < 0.5
    assert found.degrees_of_freedom < 1.99


def test_one_unit_has_the_priors_spread():
    """τ is 10 % at every load, with the normal quantile."""
    found = model_line([line_of(17, 1.3)])
    assert found.degrees_of_freedom == math.inf
    for watts in (0.0, 10.0, 50.0):
        place = Pair(1.0, watts)
        said = math.sqrt(found.covariance.quadratic(place)) / found.line.dot(place)
        assert said == pytest.approx(BETWEEN_UNITS, rel=1e-6)


def refusal(*units: Unit, reference: Reference = METER) -> str:
    """Return why a fit of these units is refused."""
    outcome = wall_outcome(MODEL, "package", units, reference)
    assert outcome.refused is not None
    return outcome.refused


def test_a_fit_that_beats_the_prior_may_serve():
    """Three units differ from the prior, and each agrees with the two others; unit names are not stored."""
    units = [straight(25 + n, 1.5, name=f"n{n}", start=n * DAY) for n in range(3)]
    outcome = wall_outcome(MODEL, "package", units, METER)
    assert outcome.refused is None
    assert outcome.kept is not None
    kept = outcome.kept.provenance
    assert (kept.units, kept.samples, kept.hours) == (3, 36, 6)
    assert (kept.first_day, kept.last_day) == ("1970-01-01", "1970-01-03")
    assert kept.degrees_of_freedom_milli == 2000
    assert kept.error_after_ppm < 50_000 < 300_000 < kept.error_before_ppm
    assert "n1" not in repr(outcome.kept)
    assert outcome.half_widths.a == pytest.approx(
        math.hypot(4.30265 * 1 / math.sqrt(3), Z95 * 0.0099 * 26), rel=0.01
    )


def test_a_fit_no_better_than_the_prior_is_refused():
    """Units differ so much that the others predict one worse than the prior does."""
    units = [
        unit(*((c, a + 1.3 * c) for c in [5, 15, 25] * 4), prior=40.0, name=str(a)) for a in (10.0, 30.0)
    ]
    assert "does not beat the prior out of sample" in refusal(*units)


def test_one_unit_must_beat_the_prior_by_the_spread_between_units():
    """One unit does not beat a prior wrong by 5 %, however good its fit: the next unit may be 10 % off."""
    made = Unit("u")
    for number, counters in enumerate([5.0, 15.0, 25.0] * 12):
        time, wall = 10 * MINUTE, 20 + 1.4 * counters
        made.add(number * time, time, counters * time, wall * time, 1.05 * wall * time)
    why = refusal(made)
    assert "does not beat" in why
    assert "a second unit" in why


def test_one_unit_is_judged_on_days_it_has_not_seen():
    """With enough days whole days are held out, which detects a machine that changed on the last day."""
    days = [straight(25, 1.5, start=day * DAY) for day in range(5)]
    whole = Unit("u", {key: block for day in days for key, block in day.blocks.items()})
    steady = wall_outcome(MODEL, "package", [whole], METER)
    assert [len(part.blocks) for part in whole.stretches(8, 4)] == [12] * 5
    assert steady.kept is not None
    assert steady.refused is None
    assert steady.kept.provenance.error_after_ppm == pytest.approx(100_489, abs=500)
    assert steady.kept.provenance.degrees_of_freedom_milli == 0
    for key, block in straight(60, 1.5, start=4 * DAY).blocks.items():
        whole.blocks[key] = block
    changed = wall_outcome(MODEL, "package", [whole], METER)
    assert changed.kept is not None
    assert changed.kept.provenance.error_after_ppm > 250_000


def test_a_stretch_that_holds_all_the_change_is_judged_by_the_whole():
    """The whole is used where the other stretches have no line of their own."""
    watts = [(10.0, 39.0)] * 14 + [(30.0, 67.0), (30.0, 67.0)]
    outcome = wall_outcome(MODEL, "package", [unit(*watts, prior=90.0)], METER)
    assert outcome.refused is None


@pytest.mark.parametrize(
    ("units", "why"),
    [
        ([straight(1.0, 0.2)], "wrong machine, unit of measurement or clock"),
        ([straight(50.0, 0.1)], "the meter does not follow the counters"),
        ([straight(5.0, 7.5)], "the meter does not follow the counters"),
        ([straight(-12.0, 2.2)], "falls to"),
        ([unit(*[(10, 30)] * 12)], "no unit has a line of its own: u: its load"),
    ],
)
def test_what_no_machine_can_be_is_refused(units, why):
    """The refusal names the probable mistake."""
    assert why in refusal(*units)


def test_numbers_larger_than_a_machines_are_refused():
    """Such numbers would not fit the store's integers."""
    units = [straight(a, 3.0, name=str(a)) for a in (3e3, 9e9)]
    assert "larger than a machine's" in refusal(*units)


def test_a_unit_without_a_line_does_not_stop_the_others():
    """The unit is listed separately with its reason."""
    outcome = wall_outcome(
        MODEL,
        "package",
        [straight(25, 1.5, name="a"), straight(26, 1.5, name="b"), unit((5, 20), name="c")],
        METER,
    )
    assert outcome.refused is None
    assert outcome.left_out == (
        ("c", "samples in 1 stretches of ten minutes are too few: measure for hours"),
    )


def fit(**changes: int) -> Fit:
    """Return a fit of 20 W ± 2 W and 1.4 ± 0.1, with the given changes."""
    made = Fit("wall:package", 20_000_000, 1_400_000, 4 * 10**12, 0, 10**10, 1_000_000, 0, 0, 10**6)
    return replace(made, **changes)  # type: ignore[arg-type]  # never the quantity


def test_a_fit_tells_energy_and_uncertainty_in_integers():
    """20 W + 1.4 × 10 W for an hour have an uncertainty of √(2² + (0.1·10)²) W."""
    energy, u = fit().energy(10 * HOUR, HOUR)
    assert energy == 34 * HOUR
    assert u == pytest.approx(math.sqrt(5) * HOUR, abs=2)
    assert fit(expansion_ppm=6_482_884).energy(10 * HOUR, HOUR)[1] == pytest.approx(6.482884 * u, rel=1e-6)


def test_a_fit_is_bounded_by_its_floor_and_by_its_prior():
    """Battery hours have GSD² ≥ 1.2, and no fit is less certain than the class's prior, which it beat."""
    energy, _ = fit().energy(10 * HOUR, HOUR)
    assert fit(floor_u_ppm=91_161).energy(10 * HOUR, HOUR)[1] == pytest.approx(0.091161 * energy, rel=1e-6)
    assert fit(ceiling_u_ppm=20_000).energy(10 * HOUR, HOUR)[1] == pytest.approx(0.02 * energy, rel=1e-6)
    assert fit(base_variance=0, slope_variance=0, meter_u_ppm=10_000).energy(10 * HOUR, HOUR)[
        1
    ] == pytest.approx(0.01 * energy, rel=1e-6)


@given(
    st.integers(-(10**9), 10**9),
    st.integers(0, 10**7),
    st.integers(0, 10**12),
    st.integers(0, 10**11),
    st.integers(-(10**15), 10**15),
)
def test_a_fit_never_tells_less_than_nothing(base, slope, counted, time, covariance):
    """Energy and uncertainty are never negative, and the uncertainty never exceeds its ceiling."""
    energy, u = fit(base_microwatts=base, slope_ppm=slope, covariance=covariance).energy(counted, time)
    assert energy >= 0
    assert 0 <= u <= energy


def standby(*watts: float, prior: float = 0.5, hours: float = 1.0) -> Outcome:
    """Return the outcome of each unit's power while off, in watts."""
    units = []
    for number, power in enumerate(watts):
        made, time = Unit(str(number)), round(hours * HOUR)
        made.add(0, time, 0.0, power * time, prior * time)
        units.append(made)
    return standby_outcome(MODEL, "off", units, METER)


def test_standby_is_the_mean_of_the_units():
    """The uncertainty contains the units' spread and the meter's resolution."""
    found = standby(2.0, 2.4, 2.2)
    assert found.kept is not None
    assert found.refused is None
    power, u = found.kept.fit.power()
    assert power == 2_200_000
    assert u == pytest.approx(
        min(4.30265 / Z95 * math.hypot(0.2 / math.sqrt(3), 0.1), 0.2027 * 2.2) * 1e6, rel=0.01
    )
    assert standby(2.2).refused is None


def test_standby_the_meter_cannot_tell_from_the_prior_is_refused():
    """0.55 W by a plug that resolves 0.1 W do not beat a prior of 0.5 W; 15 minutes are too short."""
    assert "does not beat" in str(standby(0.55).refused)
    assert "half an hour" in str(standby(2.0, hours=0.25).refused)
    assert standby(0.0, 0.0).refused is None
    mixed = standby_outcome(MODEL, "off", [straight(2, 0, name="a"), unit((0, 2), name="b")], METER)
    assert mixed.left_out == (("b", "less than half an hour in that state"),)


def test_parts_are_whole_and_in_order():
    """Parts repeat nothing, lose nothing, and are never empty."""
    for length in range(1, 30):
        parts = split_evenly(range(length), 8)
        assert [one for part in parts for one in part] == list(range(length))
        assert all(parts)
    assert split_evenly([], 8) == []


@pytest.mark.parametrize("units", UNITS)
def test_intervals_hold_the_truth_about_as_often_as_they_say(units):
    """90 to 99 % of 150 intervals contain the truth, and the fit is nearer to it than the prior.
    The long test asks for 93 to 97 % of 1,000."""
    found = coverage(Truth(), units, 150, seed=units)
    assert 0.90 <= found.held <= 0.99
    assert found.after < found.before


def test_an_interval_of_a_mistaken_fit_does_not_hold_the_truth():
    """With a meter 20 % off that claims 1 %, few intervals contain the truth: the measure can fail."""
    chance, truth = random.Random(1), Truth(meter_gain=0.0)
    held = 0
    for _ in range(20):
        units = simulated(truth, 10, SAMPLES, chance)
        for one in units:
            one.blocks = {
                key: block._replace(e=1.2 * block.e, ce=1.2 * block.ce) for key, block in one.blocks.items()
            }
        kept = wall_outcome(MODEL, "package", units, METER).kept
        assert kept is not None
        energy, u = kept.fit.energy(round(truth.fleet_watts * HOUR), HOUR)
        held += abs(energy / HOUR - truth.wall(truth.fleet_watts)) <= Z95 * u / HOUR
    assert held < 5


@pytest.mark.long
@pytest.mark.parametrize("fleet", FLEETS)
@pytest.mark.parametrize("units", UNITS)
def test_intervals_hold_the_truth_as_often_as_they_say(fleet, units):
    """93 to 97 % of 1,000 intervals contain the truth. One unit relies on the prior's spread of 10 %."""
    truth = FLEETS[fleet]
    if units == 1 and not math.isclose(math.hypot(truth.gain_spread, truth.base_spread), BETWEEN_UNITS):
        pytest.skip("the prior's spread is not this fleet's")
    found = coverage(truth, units, 1000, seed=4 + units)
    assert BAND[0] <= found.held <= BAND[1]
    assert found.after < found.before


def test_the_spread_of_the_simulated_units_is_the_priors():
    """The simulated spread is 10 % of the wall power at the fleet's load, on which `one unit` relies."""
    truth, chance = Truth(noise=0.0, meter_gain=0.0), random.Random(3)
    place = Pair(1.0, truth.fleet_watts)
    said = [unit_line(simulated(truth, 1, 60, chance)[0]).line.dot(place) for _ in range(400)]
    assert math.sqrt(variance(said)) / fmean(said) == pytest.approx(0.1, abs=0.012)
    assert outer(Pair(1, 2), Pair(3, 4)) == Square(3, 4, 6, 8)
    assert priors.WALL_PRIORS[MODEL.device_class].u_ppm > 0
