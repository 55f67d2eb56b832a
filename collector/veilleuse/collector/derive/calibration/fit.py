# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""P_wall = a + b·P_counters: each unit's line, and the model's line as their mean with a covariance for few units (pure).

A unit's line: least squares weighted by time; its covariance from stretches of time that lie apart, since samples of
10 s are autocorrelated. The model's line: generalised least squares over the units' lines, each with its own covariance
plus the spread between units (a random effect per unit). Its covariance is cluster-robust, by unit, with the small-sample
correction CR2 and Satterthwaite's degrees of freedom: Bell and McCaffrey, Bias reduction in standard errors for linear
regression with multi-stage samples, Survey Methodology 28(2), 2002 (written from memory; the coverage is measured by
`make bench-calibration`). One unit alone: the spread between units is the prior's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Final, NamedTuple

from veilleuse.collector.derive.calibration.moments import (
    ZERO,
    Moments,
    Pair,
    Square,
    Unit,
    outer,
    parted,
    summed,
)
from veilleuse.collector.quantiles import Z95, quantile95

BETWEEN_UNITS: Final = 0.10
"""Prior relative spread of wall power between units of one model. docs/calibration.md [P]."""
STRETCHES: Final = 12
"""Parts of a unit's time over which the robustness of its own line is judged, at most; ours."""
FEWEST_BLOCKS: Final = 6
"""Ten minutes each: an hour. Fewer tell nothing of the autocorrelation; ours."""
LEAST_SPREAD: Final = 0.05
"""Standard deviation ÷ mean of the counters' power below which a unit's load never changed: b is not identified; ours."""


class UnidentifiedUnit(Exception):
    """A unit whose samples do not give a line; says why, without its name."""


@dataclass(frozen=True, slots=True)
class UnitLine:
    """The line of one unit."""

    line: Pair
    """(a in watts, b)."""
    covariance: Square
    """Of that unit's own line, k = 1."""
    counter_watts: float
    wall_watts: float
    stretches: int
    """Of time, on which the covariance rests."""


@dataclass(frozen=True, slots=True)
class ModelLine:
    """The line of the mean unit of a model."""

    line: Pair
    covariance: Square
    """k = 1, of the mean; without the meter's gain error."""
    degrees_of_freedom: float
    """math.inf where the spread between units is the prior's."""


def unit_line(unit: Unit) -> UnitLine:
    """Raises NotIdentified."""
    blocks = unit.ordered()
    if len(blocks) < FEWEST_BLOCKS:
        raise UnidentifiedUnit(
            f"samples in {len(blocks)} stretches of ten minutes are too few: measure for hours"
        )
    total = summed(blocks)
    if total.c <= 0 or total.counter_spread_watts < LEAST_SPREAD * total.counter_watts:
        raise UnidentifiedUnit("its load hardly changed: let it idle and work in turn")
    gram = Square(total.t, total.c, total.c, total.cc)
    inverse = gram.inverse()
    line = inverse.of(Pair(total.e, total.ce))
    parts = [summed(part) for part in parted(blocks, STRETCHES)]
    meat = ZERO
    for part in parts:
        score = _score(part, line)
        meat = meat.plus(outer(score, score))
    correction = len(parts) / (len(parts) - 2)
    covariance = inverse.by(meat).by(inverse).times(correction)
    return UnitLine(line, covariance, total.counter_watts, total.wall_watts, len(parts))


def _score(part: Moments, line: Pair) -> Pair:
    """Xᵀ·residuals of a stretch."""
    return Pair(part.e - line.a * part.t - line.b * part.c, part.ce - line.a * part.c - line.b * part.cc)


def model_line(units: Sequence[UnitLine]) -> ModelLine:
    """The mean of at least one unit's line."""
    if len(units) == 1:
        return _alone(units[0])
    own = [unit.covariance.plus(_working_spread(units)) for unit in units]
    information = [covariance.inverse() for covariance in own]
    whole = ZERO
    for one in information:
        whole = whole.plus(one)
    mean_covariance = whole.inverse()
    total = Pair(0.0, 0.0)
    for unit, one in zip(units, information, strict=True):
        total = total.plus(one.of(unit.line))
    line = mean_covariance.of(total)
    # How a unit's residual enters the mean: its weight times the correction that makes the working covariance unbiased.
    reach = [
        mean_covariance.by(one).by(_correction(covariance, mean_covariance))
        for one, covariance in zip(information, own, strict=True)
    ]
    covariance = ZERO
    for unit, weight in zip(units, reach, strict=True):
        residual = weight.of(unit.line.plus(line, -1.0))
        covariance = covariance.plus(outer(residual, residual))
    watts = [unit.counter_watts for unit in units]
    places = (min(watts), sum(watts) / len(watts), max(watts))
    freedom = min(_satterthwaite(Pair(1.0, place), reach, own, mean_covariance) for place in places)
    return ModelLine(line, covariance, freedom)


def _alone(unit: UnitLine) -> ModelLine:
    """One unit: the prior's spread is taken as known; its own covariance, from few stretches, is widened as t would be."""
    widened = (quantile95(float(unit.stretches - 2)) / Z95) ** 2
    spread = outer(unit.line, unit.line).times(BETWEEN_UNITS**2)
    return ModelLine(unit.line, unit.covariance.times(widened).plus(spread), math.inf)


def _working_spread(units: Sequence[UnitLine]) -> Square:
    """What the weights take for the spread between units: the prior's, half in the base, half in the slope.

    Only weights and degrees of freedom rest on it: the covariance is the residuals' own.
    """
    wall = sum(unit.wall_watts for unit in units) / len(units)
    counters = sum(unit.counter_watts for unit in units) / len(units)
    half = (BETWEEN_UNITS * wall) ** 2 / 2
    return Square(half, 0.0, 0.0, half / counters**2)


def _correction(own: Square, mean: Square) -> Square:
    """CR2: B with B·Cov(residual)·Bᵀ = own, where Cov(residual) = own − mean under the working model."""
    root = own.root()
    back = root.inverse()
    inner = back.by(own.plus(mean, -1.0)).by(back)
    return root.by(inner.root().inverse()).by(back)


def _satterthwaite(place: Pair, reach: Sequence[Square], own: Sequence[Square], mean: Square) -> float:
    """Degrees of freedom of placeᵀ·line: (tr Ω)² ÷ tr Ω², Ω the working covariance of what is squared and summed."""
    directions = [weight.turned().of(place) for weight in reach]
    trace = squares = 0.0
    for i, one in enumerate(directions):
        for j, other in enumerate(directions):
            common = -one.dot(mean.of(other))
            if i == j:
                common += own[i].quadratic(one)
                trace += common
            squares += common * common
    return trace * trace / squares if squares > 0 else 1.0


METER_FLOOR_WATTS: Final = 0.1
"""k = 1: what a plug or a PDU outlet can tell at all at a watt or less; ours."""


class StandbyFit(NamedTuple):
    """The power of the mean unit in one state."""

    watts: float
    covariance: Square
    degrees_of_freedom: float
    error_before: float
    """Relative, out of sample: the prior's."""
    error_after: float
    """The fit's."""


def standby_fit(watts: Sequence[float], prior: Sequence[float]) -> StandbyFit:
    """Of each unit's mean power, and of what the prior says of it; watts ≥ 0, at least one."""
    count, mean = len(watts), fmean(watts)
    if count == 1:
        spread, freedom = (BETWEEN_UNITS * mean) ** 2, math.inf
        misses = [BETWEEN_UNITS * mean]
    else:
        spread, freedom = variance(watts) / count, float(count - 1)
        misses = [(sum(watts) - one) / (count - 1) - one for one in watts]
    floor = METER_FLOOR_WATTS**2
    before = math.sqrt(fmean((said - one) ** 2 for said, one in zip(prior, watts, strict=True)))
    after = math.sqrt(fmean(miss**2 for miss in misses) + floor)
    scale = max(mean, METER_FLOOR_WATTS)
    return StandbyFit(mean, Square(spread + floor, 0.0, 0.0, 0.0), freedom, before / scale, after / scale)
