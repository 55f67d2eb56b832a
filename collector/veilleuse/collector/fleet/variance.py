# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the sampling variance, degrees of freedom and interval of a group of strata (pure).
docs/methodology.md §6, decision 0030.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from veilleuse.collector.fleet.composition import Composition
from veilleuse.collector.fleet.pool import CUT, DRAWS, Pool, normals
from veilleuse.collector.fleet.prediction import Prediction, VarianceTerms, total
from veilleuse.collector.fleet.samples import SampleCell
from veilleuse.collector.quantiles import Z95, quantile95

_LEAST: Final = 1e-6
"""Least factor of the figure at the lower end of a draw."""
_WIDEST: Final = 10.0
"""Greatest half-width on the log scale, a factor of 22,026: a wider one adds nothing and would overflow."""


@dataclass(slots=True)
class SamplingVariance:
    """Sampling variance of one group of strata, mJ and mJ²."""

    parts: list[tuple[float, float]] = field(default_factory=list)
    """(variance, degrees of freedom) of the approximately normal parts."""
    deviations: list[float] | None = None
    """Deviation by draw of the parts that depend on the share of machines always on; None: there are none."""
    drawn_degrees: float = math.inf
    """Degrees of freedom of the draws' variance: machines of their classes, less one."""
    cubes: float = 0.0
    """Third cumulant of the approximately normal parts, mJ³."""

    @property
    def normal_variance(self) -> float:
        return max(0.0, math.fsum(variance for variance, _ in self.parts))

    @property
    def drawn_variance(self) -> float:
        if self.deviations is None:
            return 0.0
        return math.fsum(one * one for one in self.deviations) / DRAWS

    @property
    def variance(self) -> float:
        return self.normal_variance + self.drawn_variance

    @property
    def degrees_of_freedom(self) -> float:
        """Satterthwaite's degrees of freedom of the whole variance."""
        return _satterthwaite([*self.parts, (self.drawn_variance, self.drawn_degrees)])

    def ends(self, modelled: float, energy: float, known: float) -> tuple[float, float]:
        """Return the half-widths of the 95 % interval on the log scale, downward and upward.

        `modelled`: variance of models, mJ². `known`: energy that is not extrapolated, mJ. Only the models can
        err in known energy: sampling error lowers the figure to the known energy, not below.
        """
        if not energy:
            return 0.0, 0.0
        down, up = self._ends(modelled, energy)
        return min(down, most_down(energy, known, math.sqrt(modelled) / energy)), up

    def _ends(self, modelled: float, energy: float) -> tuple[float, float]:
        """Return the half-widths without the bound of the known energy."""
        if self.deviations is None:
            variance = self.normal_variance + modelled
            normal = _half_width([*self.parts, (modelled, math.inf)], variance, energy)
            shift = self._shift(variance, normal, energy)
            return normal - shift, normal + shift
        normal = _half_width(self.parts, self.normal_variance, energy)
        error = normal * energy / Z95
        drawn = sorted(
            [
                one + error * chance
                for one, (chance, _) in zip(self.deviations, normals("all", 0), strict=True)
            ]
        )
        low, high = drawn[CUT - 1 : CUT + 1], drawn[-CUT - 1 : DRAWS - CUT + 1]
        shift = self._shift(self.normal_variance, normal, energy)
        down = -math.log(max(_LEAST, 1 + sum(low) / 2 / energy)) - shift
        up = math.log(max(1.0, 1 + sum(high) / 2 / energy)) + shift
        more = Z95 * math.sqrt(modelled) / energy
        return math.hypot(max(0.0, down), more), math.hypot(up, more)

    def _shift(self, variance: float, normal: float, energy: float) -> float:
        """Return the upward shift of both ends for the skewness that a symmetric log interval does not cover.

        This is the first term of Edgeworth's expansion of a studentised mean, (2z² + 1)·γ/6 standard errors
        (Hall 1992). The shift is at most half the half-width.
        """
        if not variance:
            return 0.0
        wanted = (2 * Z95**2 + 1) / 6 * self.cubes / variance / energy
        return min(max(0.0, wanted - normal**2 / 2), normal / 2)


def most_down(energy: float, known: float, u_model: float) -> float:
    """Return the downward half-width, log scale, that leaves the known energy × exp(−1.96·u_model).

    Without known energy: math.inf.
    """
    return math.log(energy / known) + Z95 * u_model if known else math.inf


def sampling(
    classes: Iterable[tuple[Pool, Sequence[Prediction]]], compositions: Mapping[str, Composition]
) -> SamplingVariance:
    """Compute the sampling variance of strata, given by class."""
    found = SamplingVariance()
    drawn: list[float] = []
    for pool, predictions in classes:
        terms = total([prediction.terms for prediction in predictions])
        found.parts += _normal(pool, terms)
        found.cubes += terms.thick_cubes
        if pool.draws is not None and (terms.share or terms.pooled_always_on):
            means = (terms.pooled_ordinary if pool.mixed else 0.0, terms.pooled_always_on)
            deviations = pool.draws.of(terms.share, means)
            found.deviations = (
                deviations
                if found.deviations is None
                else [one + more for one, more in zip(found.deviations, deviations, strict=True)]
            )
            drawn.append(pool.n - 1)
        if (made := compositions.get(pool.device_class)) is not None:
            found.parts.append((_composition(made, predictions), pool.n - 1))
    found.drawn_degrees = max(1.0, sum(drawn)) if drawn else math.inf
    return found


def _normal(pool: Pool, terms: VarianceTerms) -> list[tuple[float, float]]:
    """Return (variance, degrees of freedom) of each part of one class."""
    found = [(terms.thick, terms.thick**2 / terms.thick_by_degrees if terms.thick else math.inf)]
    if not pool.n:
        return found
    kinds = (
        (terms.noise_ordinary, terms.own_ordinary, terms.pooled_ordinary),
        (terms.noise_always_on, terms.own_always_on, terms.pooled_always_on),
    )
    for kind, (noise, own, pooled) in enumerate(kinds[: 2 if pool.mixed else 1]):
        spread, n = pool.spreads[kind], pool.kinds[kind].n
        factor = noise + 2 * own * pooled / n
        if not pool.mixed:  # with draws, they contain the error of the class mean
            factor += pooled**2 / n
        found.append((spread.variance * factor, spread.degrees_of_freedom))
    crossed = (
        (pool.between, terms.between, terms.between_squares, terms.between_products),
        (pool.between_shares, terms.share, terms.share_squares, terms.share_products),
    )
    for spread, whole, squares, products in crossed:
        factor = whole**2 * pool.concentration - 2 * whole * products + squares
        found.append((spread.variance * max(0.0, factor), spread.degrees_of_freedom))
    crossed_share = 2 * terms.share * terms.own_share * pool.chance / pool.n
    found += [(terms.chance, math.inf), (crossed_share, pool.n - 1)]
    return found


def _half_width(parts: Iterable[tuple[float, float]], variance: float, energy: float) -> float:
    """Return t·u, log scale."""
    return min(_WIDEST, quantile95(_satterthwaite(parts)) * math.sqrt(variance) / energy)


def _composition(made: Composition, predictions: Sequence[Prediction]) -> float:
    moved: defaultdict[SampleCell, float] = defaultdict(float)
    stands: defaultdict[SampleCell, float] = defaultdict(float)
    for prediction in predictions:
        for cell, energy in prediction.composition.items():
            moved[cell] += energy
        for cell, energy in prediction.stands.items():
            stands[cell] += energy
    return math.fsum(
        (energy**2 + 2 * energy * stands[cell]) * made.errors.get(cell, 0.0) for cell, energy in moved.items()
    )


def _satterthwaite(parts: Iterable[tuple[float, float]]) -> float:
    """Return the degrees of freedom of a sum of variances; math.inf without any."""
    whole = below = 0.0
    for variance, degrees in parts:
        whole += variance
        below += variance**2 / max(1.0, degrees)
    return whole**2 / below if below else math.inf
