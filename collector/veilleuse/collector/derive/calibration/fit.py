# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fits P_wall = a + b·P_counters: a line per unit, and the model's line as their mean, with a covariance for
few units (pure).

A unit's line is least squares weighted by time. Its covariance comes from separate stretches of time, because
samples of 10 s are autocorrelated. The model's line is generalised least squares over the units' lines. Each
line has its own covariance plus the spread between units (a random effect per unit). The model's covariance
is cluster-robust, by unit, with the small-sample correction CR2 and Satterthwaite's degrees of freedom.
Source: Bell and McCaffrey, Bias reduction in standard errors for linear regression with multi-stage samples,
Survey Methodology 28(2), 2002. It was written from memory; `make bench-calibration` measures the coverage.
With one unit, the spread between units is the prior's.
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
    split_evenly,
    sum_moments,
)
from veilleuse.collector.quantiles import Z95, quantile95

BETWEEN_UNITS: Final = 0.10
"""Prior relative spread of wall power between units of one model. docs/calibration.md [P]."""
STRETCHES: Final = 12
"""Greatest number of stretches of a unit's time for its robust covariance; our choice."""
FEWEST_BLOCKS: Final = 6
"""Least number of ten-minute blocks: an hour. Fewer do not show the autocorrelation; our choice."""
LEAST_SPREAD: Final = 0.05
"""Least standard deviation ÷ mean of the counters' power:
below it the load did not change and b is not identified. Our choice.
"""


class UnidentifiedUnit(Exception):
    """A unit whose samples do not give a line; the message has the reason, without the unit's name."""


@dataclass(frozen=True, slots=True)
class UnitLine:
    """The line of one unit."""

    line: Pair
    """(a in watts, b)."""
    covariance: Square
    """Covariance of that unit's own line, k = 1."""
    counter_watts: float
    wall_watts: float
    stretches: int
    """Number of stretches of time behind the covariance."""


@dataclass(frozen=True, slots=True)
class ModelLine:
    """The line of the mean unit of a model."""

    line: Pair
    covariance: Square
    """Covariance of the mean, k = 1, without the meter's gain error."""
    degrees_of_freedom: float
    """math.inf where the spread between units is the prior's."""


def unit_line(unit: Unit) -> UnitLine:
    """Fit the line of one unit. Raises UnidentifiedUnit."""
    blocks = unit.ordered_blocks()
    if len(blocks) < FEWEST_BLOCKS:
        raise UnidentifiedUnit(
            f"samples in {len(blocks)} stretches of ten minutes are too few: measure for hours"
        )
    total = sum_moments(blocks)
    if total.c <= 0 or total.counter_spread_watts < LEAST_SPREAD * total.counter_watts:
        raise UnidentifiedUnit("its load hardly changed: let it idle and work in turn")
    gram = Square(total.t, total.c, total.c, total.cc)
    inverse = gram.inverse()
    line = inverse.of(Pair(total.e, total.ce))
    parts = [sum_moments(part) for part in split_evenly(blocks, STRETCHES)]
    meat = ZERO
    for part in parts:
        score = _score(part, line)
        meat = meat.plus(outer(score, score))
    correction = len(parts) / (len(parts) - 2)
    covariance = inverse.by(meat).by(inverse).times(correction)
    return UnitLine(line, covariance, total.counter_watts, total.wall_watts, len(parts))


def _score(part: Moments, line: Pair) -> Pair:
    """Return Xᵀ·residuals of a stretch."""
    return Pair(part.e - line.a * part.t - line.b * part.c, part.ce - line.a * part.c - line.b * part.cc)


def model_line(units: Sequence[UnitLine]) -> ModelLine:
    """Return the mean line of at least one unit."""
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
    # Weight of a unit's residual in the mean, times the correction that makes the working covariance
    # unbiased.
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
    """Return the line of a single unit.

    The prior's spread counts as known. The unit's own covariance, from few stretches, is widened by Student's
    t.
    """
    widened = (quantile95(float(unit.stretches - 2)) / Z95) ** 2
    spread = outer(unit.line, unit.line).times(BETWEEN_UNITS**2)
    return ModelLine(unit.line, unit.covariance.times(widened).plus(spread), math.inf)


def _working_spread(units: Sequence[UnitLine]) -> Square:
    """Return the spread between units that the weights use: the prior's, half in the base, half in the slope.

    Only weights and degrees of freedom depend on it: the covariance is the residuals' own.
    """
    wall = sum(unit.wall_watts for unit in units) / len(units)
    counters = sum(unit.counter_watts for unit in units) / len(units)
    half = (BETWEEN_UNITS * wall) ** 2 / 2
    return Square(half, 0.0, 0.0, half / counters**2)


def _correction(own: Square, mean: Square) -> Square:
    """Return the CR2 correction: B with B·Cov(residual)·Bᵀ = own.

    Under the working model, Cov(residual) = own − mean.
    """
    root = own.root()
    back = root.inverse()
    inner = back.by(own.plus(mean, -1.0)).by(back)
    return root.by(inner.root().inverse()).by(back)


def _satterthwaite(place: Pair, reach: Sequence[Square], own: Sequence[Square], mean: Square) -> float:
    """Return the degrees of freedom of placeᵀ·line: (tr Ω)² ÷ tr Ω²,
    Ω the working covariance of the squared sum's terms.
    """
    directions = [weight.transpose().of(place) for weight in reach]
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
"""Resolution (k = 1) of a plug or PDU outlet at a watt or less; our choice."""


class StandbyFit(NamedTuple):
    """Power of the mean unit in one state."""

    watts: float
    covariance: Square
    degrees_of_freedom: float
    error_before: float
    """Relative error out of sample, of the prior."""
    error_after: float
    """Relative error out of sample, of the fit."""


def standby_fit(watts: Sequence[float], prior: Sequence[float]) -> StandbyFit:
    """Fit the power in one state from each unit's mean power and the prior's power;
    watts ≥ 0, at least one.
    """
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
