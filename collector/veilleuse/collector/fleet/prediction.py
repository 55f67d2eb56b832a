# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Predicts the energy of a stratum's unobserved machine time, with variance terms that add up over strata
(pure).

docs/methodology.md §6, decision 0030. A stratum uses its own mean; the class's mean where the stratum is
thin; the class default where nothing was observed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import mul
from typing import Final, NamedTuple

from veilleuse.collector.fleet.composition import Composition, sample_shares, unobserved_shares
from veilleuse.collector.fleet.errors import DEFAULT_U, STANDBY_U, ErrorModel, Errors, by_default
from veilleuse.collector.fleet.pool import FEWEST, PRIOR_SPREAD, THIN, Pool, Spread
from veilleuse.collector.fleet.samples import DAY_TYPES, Days, SampleCell, sum_groups
from veilleuse.collector.fleet.strata import ALWAYS_ON, ORDINARY, StratumPart, merge_kinds
from veilleuse.wire.units import MICROWATTS_PER_WATT


class VarianceTerms(NamedTuple):
    """Sums over strata of one class, from which the variance of any group of strata is computed.
    Names as in decision 0030.

    `own` and `pooled` are machine time × share of the kind, per kind, ms, scaled; energies in mJ.
    """

    noise_ordinary: float = 0.0
    noise_always_on: float = 0.0
    """Factor of the kind's variance between machines, ms²."""
    own_ordinary: float = 0.0
    own_always_on: float = 0.0
    pooled_ordinary: float = 0.0
    pooled_always_on: float = 0.0
    between: float = 0.0
    """Energy estimated by the class's mean; then its squares, and its products with the strata's shares of
    the sample.
    """
    between_squares: float = 0.0
    between_products: float = 0.0
    share: float = 0.0
    """Increase of the stratum's energy if all machines were always on; then squares and products, as above.
    """
    share_squares: float = 0.0
    share_products: float = 0.0
    own_share: float = 0.0
    """The same increase, for strata that use their own share."""
    chance: float = 0.0
    """Variance of the number of unobserved machines always on, mJ²."""
    thick: float = 0.0
    """Strata that use their own mean: variance, mJ²; Σ of variance² ÷ degrees of freedom;
    third cumulant, mJ³.
    """
    thick_by_degrees: float = 0.0
    thick_cubes: float = 0.0


_DEGREES: Final = VarianceTerms(
    noise_ordinary=2,
    noise_always_on=2,
    own_ordinary=1,
    own_always_on=1,
    pooled_ordinary=1,
    pooled_always_on=1,
    between=1,
    between_squares=2,
    between_products=1,
    share=1,
    share_squares=2,
    share_products=1,
    own_share=1,
    chance=2,
    thick=2,
    thick_by_degrees=4,
    thick_cubes=3,
)
"""Power of the unobserved energy to which each term is proportional."""


def total(terms: list[VarianceTerms]) -> VarianceTerms:
    """Sum the terms."""
    return VarianceTerms(*map(sum, zip(*terms, strict=True)))


@dataclass(slots=True)
class Prediction:
    """Prediction for one stratum's unobserved time. Millijoules."""

    part: StratumPart
    extrapolated: float = 0.0
    """Energy extrapolated from the sample."""
    default: float = 0.0
    unestimated: bool = False
    """True: some unobserved time has neither data nor a default."""
    terms: VarianceTerms = field(default_factory=VarianceTerms)
    composition: dict[SampleCell, float] = field(default_factory=dict)
    """Merged cell → energy that its scale's relative error moves."""
    stands: dict[SampleCell, float] = field(default_factory=dict)
    """Merged cell → extrapolated energy that its machines represent,
    in the sample of this stratum or of its class.
    """
    errors: Errors = field(default_factory=Errors)
    """Errors of all its energy, observed and extrapolated."""


@dataclass(slots=True)
class _Time:
    """Unobserved time of one kind, ms, scaled."""

    own: float = 0.0
    pooled: float = 0.0
    energy: float = 0.0
    pooled_energy: float = 0.0

    def share(self, share: float) -> _Time:
        """Return the part of the time that belongs to a kind."""
        return _Time(*(share * value for value in (self.own, self.pooled, self.energy, self.pooled_energy)))


def predict(part: StratumPart, pool: Pool, watts: Days | None, made: Composition | None) -> Prediction:
    """Predict one stratum, without its model errors (see `with_errors`).

    `watts`: the class default, microwatts by day type; None = there is none.
    """
    found = Prediction(part)
    _add_default(found, watts)
    seen = _without_sample(found, pool, watts)
    if not any(seen):
        return found
    if part.n >= THIN:
        whole = merge_kinds(part.kinds)
        own = Spread(whole.squares(part.fleet, whole.rates) / (part.n - 1), part.n - 1)
        _thick(found, pool, seen, own)
    elif part.n >= FEWEST and not pool.tells_apart:
        _thick(found, pool, seen, pool.spread)
    else:
        _thin(found, pool, seen)
    if made is not None:
        _add_composition(found, pool, made)
    return found


def _add_default(found: Prediction, watts: Days | None) -> None:
    """Apply the class default to the time that no sample represents."""
    if watts is None:
        found.unestimated |= any(found.part.by_default)
    else:
        found.default += sum(map(mul, found.part.by_default, watts)) / MICROWATTS_PER_WATT


def scale_prediction(found: Prediction, ratio: float, own: Errors) -> Prediction:
    """Scale the unobserved energy by `ratio`, and its uncertainty with it;
    `own`: errors of the observed energy.
    """
    errors = Errors()
    errors.add(found.errors, ratio)
    errors.add(own, 1 - ratio)
    return replace(
        found,
        extrapolated=found.extrapolated * ratio,
        default=found.default * ratio,
        terms=VarianceTerms(
            *(term * ratio**degree for term, degree in zip(found.terms, _DEGREES, strict=True))
        ),
        composition={cell: energy * ratio for cell, energy in found.composition.items()},
        stands={cell: energy * ratio for cell, energy in found.stands.items()},
        errors=errors,
    )


def _without_sample(found: Prediction, pool: Pool, watts: Days | None) -> Days:
    """Apply the default to day types without observation of the class;
    return the time left to estimate, ms.
    """
    left = list(found.part.missing)
    for g, time in enumerate(found.part.missing):
        if time and pool.whole.rates[g] is None:
            left[g] = 0
            if watts is not None:
                found.default += time * watts[g] / MICROWATTS_PER_WATT
            elif pool.n:
                found.default += time * pool.mean(ORDINARY)
            else:
                found.unestimated = True
    return tuple(left)


def _thick(found: Prediction, pool: Pool, left: Days, spread: Spread) -> None:
    """Use the stratum's own mean, of both kinds; the class's for a day type without observation.

    `spread`: the stratum's own, or its class's.
    """
    part = found.part
    whole = merge_kinds(part.kinds)
    time = _Time()
    for g, missing in enumerate(left):
        own = whole.rates[g]
        rate = own if own is not None else (pool.whole.rates[g] or 0.0)
        _add(time, part.scale * missing, rate, own=own is not None)
    length = part.scale * math.sqrt(sum(left) * sum(part.fleet))
    variance = spread.variance * length**2 / part.n
    degrees, cube = _mixture(part, pool, spread)
    weight = part.n / pool.n
    always = part.kinds[ALWAYS_ON].n / part.n
    found.extrapolated = time.energy
    found.terms = VarianceTerms(
        own_ordinary=time.own * (1 - always),
        own_always_on=time.own * always,
        pooled_ordinary=time.pooled * (1 - always),
        pooled_always_on=time.pooled * always,
        between=time.pooled_energy,
        between_squares=time.pooled_energy**2,
        between_products=time.pooled_energy * weight,
        own_share=time.own * (pool.mean(ALWAYS_ON, part.fleet) - pool.mean(ORDINARY, part.fleet))
        if pool.mixed
        else 0.0,
        thick=variance,
        thick_by_degrees=variance**2 / degrees,
        thick_cubes=cube * length**3 / part.n**2,
    )


def _mixture(part: StratumPart, pool: Pool, spread: Spread) -> tuple[float, float]:
    """Return (degrees of freedom of a stratum's variance, third central moment of its machines' power, W³).

    A few machines always on make the variance less certain than n − 1 degrees, and the mean skew. Both use
    the class's share and means: ν = 2 ÷ (excess kurtosis ÷ n + 2 ÷ (n − 1)).
    """
    if not pool.mixed or not spread.variance:
        return spread.degrees_of_freedom, 0.0
    p, chance = pool.always_on_share, pool.chance
    away = pool.mean(ALWAYS_ON, part.fleet) - pool.mean(ORDINARY, part.fleet)
    ordinary, always = (one.variance for one in pool.spreads)
    cube = chance * (1 - 2 * p) * away**3 + 3 * chance * away * (always - ordinary)
    excess = max(0.0, chance * (1 - 6 * chance) * away**4 / spread.variance**2)
    n_less_one = spread.degrees_of_freedom
    return min(n_less_one, 2 / (excess / (n_less_one + 1) + 2 / n_less_one)), cube


def _thin(found: Prediction, pool: Pool, left: Days) -> None:
    """Predict kind by kind, by the class's share of each kind, with the class's spread.

    The mean is the stratum's own from ten machines on, else the class's.
    """
    part = found.part
    times, full = [], []
    for kind, share in enumerate(pool.shares):
        time, mine = _Time(), part.kinds[kind]
        for g, missing in enumerate(left):
            own = mine.rates[g] if mine.n >= FEWEST else None
            rate = own if own is not None else (pool.rates[kind][g] or 0.0)
            _add(time, part.scale * missing, rate, own=own is not None)
        full.append(time.energy)
        times.append(time.share(share))
    found.extrapolated = sum(time.energy for time in times)
    pooled = sum(time.pooled_energy for time in times)
    unobserved, length = part.scale * sum(left), part.scale * sum(part.fleet)
    weight = part.n / pool.n
    grows = full[ALWAYS_ON] - full[ORDINARY] if pool.mixed else 0.0
    if pool.unseen_watts is not None:
        grows = unobserved * pool.unseen_watts - found.extrapolated
    ordinary, always = times
    found.terms = VarianceTerms(
        noise_ordinary=_noise(part, ordinary, part.kinds[ORDINARY].n, length),
        noise_always_on=_noise(part, always, part.kinds[ALWAYS_ON].n, length),
        own_ordinary=ordinary.own,
        own_always_on=always.own,
        pooled_ordinary=ordinary.pooled,
        pooled_always_on=always.pooled if pool.mixed else unobserved,
        between=pooled,
        between_squares=pooled**2,
        between_products=pooled * weight,
        share=grows,
        share_squares=grows**2,
        share_products=grows * weight,
        chance=pool.chance * length / part.machines_fleet * grows**2 / unobserved,
    )


def _noise(part: StratumPart, time: _Time, n: int, length: float) -> float:
    """Return the factor of the variance between machines, ms².

    It covers the stratum's own mean and the unobserved machines themselves. With the stratum's own mean of
    all kinds, it is docs/methodology.md §6's (1 − f)·M²/n, M scaled.
    """
    found = length * time.pooled / part.machines_fleet
    if time.own:
        observed = sum(part.accounted) / sum(part.fleet)
        found += time.own**2 / n + length * time.own * observed / part.n
    return found


def _add(time: _Time, missing: float, rate: float, *, own: bool) -> None:
    time.energy += missing * rate
    if own:
        time.own += missing
    else:
        time.pooled += missing
        time.pooled_energy += missing * rate


def _add_composition(found: Prediction, pool: Pool, made: Composition) -> None:
    """Compute how the figure moves with each cell's scale:
    the cell's share of unobserved energy less the sample's.
    """
    part = found.part
    stands = [part] if part.n >= FEWEST else pool.strata
    counts: dict[SampleCell, float] = {}
    for one in stands:
        for cell, share in sample_shares(made, one).items():
            counts[cell] = counts.get(cell, 0.0) + share * one.n
    whole = sum(counts.values())
    for cell, share in unobserved_shares(made, part).items():
        found.composition[cell] = share * made.scales.get(cell, 1.0) / part.scale
    for cell, n in counts.items():
        found.composition[cell] = found.composition.get(cell, 0.0) - n / whole
        found.stands[cell] = n / whole * found.extrapolated
    for cell in found.composition:
        found.composition[cell] *= found.extrapolated


def with_errors(
    found: Prediction, model: ErrorModel, pool_errors: Errors, pool_energy: int, default_u: float = DEFAULT_U
) -> Prediction:
    """Add the model errors: those of the unobserved time are proportional to those of its sample.

    `default_u`: standard uncertainty of the class default.
    """
    part = found.part
    own = model.errors(part.members)
    known = part.known.energy_millijoules
    found.errors.add(own)
    if part.n >= FEWEST and known:
        found.errors.add(own, found.extrapolated / known)
    elif pool_energy:
        found.errors.add(pool_errors, found.extrapolated / pool_energy)
    if found.default:
        found.errors.add(by_default(part.stratum.device_class, found.default, default_u))
    if part.known.standby_millijoules:
        found.errors.add(by_default(part.stratum.device_class, part.known.standby_millijoules, STANDBY_U))
    return found


_NOTHING = (0.0,) * len(DAY_TYPES)
_ALL = (1.0,) * len(DAY_TYPES)


def with_time_on(predictions: Sequence[Prediction], pool: Pool) -> None:
    """Add the variance of display-on time to strata of screens: c²·(1/n + 1/u) × the squared extrapolated
    energy.

    Here c is the relative spread of the display-on time of one PC's screens. n PCs were observed; u PCs have
    as much time as was not observed. Strata that use the class's mean share its n, because their errors are
    common.
    """
    if not pool.n:
        return
    whole = sum_groups(group for _, group in pool.whole.groups)
    mean = sum(whole.times) / whole.n
    squares = max(0.0, whole.squares(_NOTHING, _ALL) - whole.n * mean**2)
    spread = squares / (whole.n - 1) / mean**2 if whole.n > 1 else PRIOR_SPREAD**2
    degrees = max(1, whole.n - 1)
    moved = [one for one in predictions if one.extrapolated]
    resting = sum(one.part.n < FEWEST for one in moved)
    for one in moved:
        n = one.part.n if one.part.n >= FEWEST else whole.n / resting
        unseen = sum(one.part.missing) / mean
        variance = one.extrapolated**2 * spread * (1 / n + 1 / unseen)
        one.terms = one.terms._replace(
            thick=one.terms.thick + variance,
            thick_by_degrees=one.terms.thick_by_degrees + variance**2 / degrees,
        )
