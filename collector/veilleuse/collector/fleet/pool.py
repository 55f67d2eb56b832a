# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Estimates means, spreads and the share always on from a class's whole sample, for thin strata (pure).

docs/methodology.md §6, and decision 0030 for what it leaves open. Variances are of one machine's mean power,
W².
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from veilleuse.collector.fleet.samples import Alike, Days, sum_groups
from veilleuse.collector.fleet.strata import ALWAYS_ON, ORDINARY, MachineKind, Rates, StratumPart, merge_kinds

THIN: Final = 60
"""Number of machines below which a stratum's spread is its class's. docs/methodology.md §6."""
FEWEST: Final = 10
"""Number of machines below which a stratum's mean is its class's too."""
DRAWS: Final = 2_000
CUT: Final = DRAWS // 40
"""Draws beyond either end of a 95 % interval."""
PRIOR_SPREAD: Final = 0.6
"""Prior relative spread between machines: it fills up to ten degrees of freedom in a small class.
Ours (docs/decisions/0030).
"""
PRIOR_DEGREES: Final = 2
"""Weight, in degrees of freedom, of the prior for a kind with fewer than ten observed machines: the relative
spread of all kinds. PRIOR_STRATA fills up to as many between few entities. Our choice.
"""
PRIOR_STRATA: Final = math.log(1.5) / 2
"""Prior relative spread between entities where few or one were observed: GSD² 1.5, our choice."""
_HALVINGS: Final = 40
_LEAST_ROOT: Final = 0.05
"""Least value of the cube root of χ²/ν: at one degree of freedom the approximation may fall below zero."""
UNSEEN_BELOW: Final = 45
"""Sample size that reveals machines always on: where a tenth are, one sample of 45 in a hundred has none."""
UNSEEN_U: Final = math.log(1.5) / 2
"""Uncertainty of the power of an unobserved machine always on, estimated by the power of others while on.
GSD² 1.5, our choice.
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """A variance and its degrees of freedom."""

    variance: float
    degrees_of_freedom: float


@dataclass(frozen=True, slots=True)
class Draws:
    """Deviations per draw: of the share always on, and of the mean power of each kind (W),
    weighted by its drawn share.
    """

    share: tuple[float, ...]
    means: tuple[tuple[float, ...], tuple[float, ...]]

    def of(self, share: float, means: Sequence[float]) -> list[float]:
        """Return the deviations of a figure that has these derivatives by share and means."""
        ordinary, always = means
        return [
            share * p + ordinary * one + always * more
            for p, one, more in zip(self.share, *self.means, strict=True)
        ]


class Pool:
    """Sample of a device class, over all its strata."""

    def __init__(
        self, device_class: str, strata: Sequence[StratumPart], *, mixed: bool, always_on: Alike | None = None
    ) -> None:
        """Take the filled strata of a class, in their order.

        `mixed`: the class has both ordinary machines and machines always on. `always_on`: machines of the
        class that are always on, where its strata do not separate them.
        """
        self.device_class = device_class
        self.strata = [part for part in strata if part.n]
        self.mixed = mixed
        self.fleet: Days = tuple(map(sum, zip(*(part.fleet for part in strata), strict=True)))
        own = tuple(merge_kinds(part.kinds[kind] for part in self.strata) for kind in (ORDINARY, ALWAYS_ON))
        self.whole = merge_kinds(own)
        self.n = self.whole.n
        self.tells_apart = always_on is None
        """False: strata do not separate the two kinds, only the class does."""
        self.kinds = own if always_on is None else self._apart(always_on)
        self.always_on_share = self.kinds[ALWAYS_ON].n / self.n if mixed else 0.0
        self.shares = (1 - self.always_on_share, self.always_on_share)

    def _apart(self, always_on: Alike) -> tuple[MachineKind, MachineKind]:
        """Split the class into its two kinds, with energies scaled to the mean composition."""
        groups = [group for _, group in self.whole.groups]
        everyone = sum_groups(groups)
        energy = math.fsum(self.whole.energy)
        scale = sum(everyone.energies) / energy if energy else 1.0
        kinds = MachineKind([(scale, everyone.without(always_on))]), MachineKind([(scale, always_on)])
        for kind in kinds:
            kind.close()
        return kinds

    @cached_property
    def rates(self) -> tuple[Rates, Rates]:
        """Mean power of each kind per day type; the class's where the kind was not observed on such days."""
        ordinary, always = (
            tuple(
                own if own is not None else any_
                for own, any_ in zip(kind.rates, self.whole.rates, strict=True)
            )
            for kind in self.kinds
        )
        return ordinary, always

    def mean(self, kind: int, fleet: Days | None = None) -> float:
        """Return the mean power of a kind, W, in the day-type mix of `fleet`; without it, of the class."""
        return mean(self.rates[kind], fleet or self.fleet)

    @cached_property
    def spreads(self) -> tuple[Spread, Spread]:
        """Variance between machines of one stratum, for each kind."""
        ordinary, always = (self._within(kind) for kind in (ORDINARY, ALWAYS_ON))
        return ordinary, always

    def _within(self, kind: int) -> Spread:
        """Estimate the variance of a kind.

        From ten machines on, it is the kind's own. Below, the relative spread of all kinds is added as a
        prior, itself completed to ten degrees by PRIOR_SPREAD.
        """
        squares, degrees = self._squares[kind]
        all_degrees = sum(more for _, more in self._squares)
        lacking = max(0, FEWEST - all_degrees)
        if self.kinds[kind].n >= FEWEST and degrees and not lacking:
            return Spread(squares / degrees, degrees)
        means = [self.mean(each) for each in (ORDINARY, ALWAYS_ON)]
        relative = sum(
            some / typical**2 for (some, _), typical in zip(self._squares, means, strict=True) if typical
        )
        prior = (relative + lacking * PRIOR_SPREAD**2) / (all_degrees + lacking) * means[kind] ** 2
        more = PRIOR_DEGREES + lacking
        return Spread((squares + more * prior) / (degrees + more), all_degrees + lacking)

    @cached_property
    def _squares(self) -> tuple[tuple[float, int], tuple[float, int]]:
        """(Σ of squares, degrees of freedom) by kind, about the strata's own means;
        else about the class's mean.
        """
        if not self.tells_apart:
            ordinary, always = (
                (kind.squares(self.fleet, kind.rates), max(0, kind.n - 1)) for kind in self.kinds
            )
            return ordinary, always
        if (
            not self.mixed and len(self.strata) == self.n
        ):  # one machine in each: only the variance between strata exists
            return (self.whole.squares(self.fleet, self.whole.rates), self.n - 1), (0.0, 0)
        ordinary, always = (
            (
                math.fsum(
                    part.kinds[kind].squares(part.fleet, part.kinds[kind].rates)
                    for part in self.strata
                    if part.kinds[kind].n > 1
                ),
                sum(max(0, part.kinds[kind].n - 1) for part in self.strata),
            )
            for kind in (ORDINARY, ALWAYS_ON)
        )
        return ordinary, always

    @cached_property
    def between(self) -> Spread:
        """Relative variance between strata of the mean power of the more numerous kind.

        The prior completes it to PRIOR_DEGREES degrees of freedom.
        """
        kind = ORDINARY if self.kinds[ORDINARY].n >= self.kinds[ALWAYS_ON].n else ALWAYS_ON
        typical, spread = self.mean(kind), self.spreads[kind]
        if not self.tells_apart:
            kind, typical, spread = ORDINARY, mean(self.whole.rates, self.fleet), self.spread
        seen = [part for part in self.strata if part.kinds[kind].n]
        if len(seen) < 2 or not typical:
            return Spread(PRIOR_STRATA**2, math.inf)
        within = spread.variance / typical**2
        found = between(
            [self._relative(part, kind) for part in seen], [within / part.kinds[kind].n for part in seen]
        )
        lacking = max(0.0, PRIOR_DEGREES - found.degrees_of_freedom)
        if not lacking:
            return found
        weighted = found.variance * found.degrees_of_freedom + lacking * PRIOR_STRATA**2
        return Spread(weighted / PRIOR_DEGREES, PRIOR_DEGREES)

    def _relative(self, part: StratumPart, kind: int) -> float:
        """Return a stratum's own mean power ÷ the class's, both in the stratum's mix of day types."""
        rates = self.rates[kind] if self.tells_apart else self.whole.rates
        own = tuple(
            mine if mine is not None else all_
            for mine, all_ in zip(part.kinds[kind].rates, rates, strict=True)
        )
        theirs = mean(rates, part.fleet)
        return mean(own, part.fleet) / theirs if theirs else 1.0

    @cached_property
    def between_shares(self) -> Spread:
        """Variance between strata of the share always on, beyond chance.
        It is part of `between` where strata do not separate kinds.
        """
        if not self.mixed or not self.tells_apart or len(self.strata) < 2:
            return Spread(0.0, math.inf)
        return between(
            [part.kinds[ALWAYS_ON].n / part.n for part in self.strata],
            [self.chance / part.n for part in self.strata],
        )

    @cached_property
    def spread(self) -> Spread:
        """Variance between machines of one stratum, for both kinds together: docs/methodology.md §6's pooled
        s².

        It serves where strata do not separate kinds.
        """
        squares = math.fsum(
            part.kinds[ORDINARY].squares(part.fleet, part.kinds[ORDINARY].rates)
            for part in self.strata
            if part.n > 1
        )
        degrees = sum(part.n - 1 for part in self.strata)
        return Spread(squares / degrees, degrees) if degrees else Spread(0.0, math.inf)

    @property
    def chance(self) -> float:
        """Bernoulli variance of a machine's being always on: p(1 − p)."""
        return self.always_on_share * (1 - self.always_on_share)

    @cached_property
    def concentration(self) -> float:
        """Σ of squared shares of the strata in the class's sample:
        1 where one stratum is the whole sample.
        """
        return sum((part.n / self.n) ** 2 for part in self.strata)

    @cached_property
    def unseen_watts(self) -> float | None:
        """Power of a machine always on, where a small sample holds none:
        the mean power of others while on, W.

        None: not needed, or not known.
        """
        if self.mixed or not 0 < self.n < UNSEEN_BELOW:
            return None
        members = [member for part in self.strata for member in part.members]
        time = sum(group.on_milliseconds for _, group in members)
        if not time or any(key.always_on for key, _ in members):
            return None
        return sum(group.on_millijoules for _, group in members) / time

    @cached_property
    def draws(self) -> Draws | None:
        """2,000 draws of the share always on, Beta(n₁ + ½, n₀ + ½), and of the two means.
        None: no share to draw.

        The class is the seed: the same sample always has the same interval.
        """
        chance = random.Random(f"veilleuse {self.device_class}")
        always = self.kinds[ALWAYS_ON].n
        if self.mixed:
            p = self.always_on_share
            shares = [chance.betavariate(always + 0.5, self.n - always + 0.5) for _ in range(DRAWS)]
            ordinary = self._deviations(ORDINARY)
            more = self._deviations(ALWAYS_ON)
            return Draws(
                tuple(share - p for share in shares),
                (
                    tuple((1 - share) / (1 - p) * one for share, one in zip(shares, ordinary, strict=True)),
                    tuple(share / p * one for share, one in zip(shares, more, strict=True)),
                ),
            )
        if self.unseen_watts is None:
            return None
        shares = [chance.betavariate(0.5, self.n + 0.5) for _ in range(DRAWS)]
        watts = [self.unseen_watts * math.expm1(chance.gauss(0, UNSEEN_U)) for _ in shares]
        return Draws(
            tuple(shares),
            ((0.0,) * DRAWS, tuple(share * one for share, one in zip(shares, watts, strict=True))),
        )

    def _deviations(self, kind: int) -> list[float]:
        """Draw deviations of a kind's class mean, W: Student's t, never below a mean of 0."""
        spread, typical = self.spreads[kind], self.mean(kind)
        error = math.sqrt(spread.variance / self.kinds[kind].n)
        width = 2 / (9 * spread.degrees_of_freedom)
        root, least = math.sqrt(width), -typical
        return [
            max(least, error * one / max(_LEAST_ROOT, 1 - width + root * more) ** 1.5)
            for one, more in normals(self.device_class, kind)
        ]


@lru_cache(maxsize=64)
def normals(device_class: str, kind: int) -> tuple[tuple[float, float], ...]:
    """Return pairs of standard normal draws, always the same.

    The first is for a numerator, the second for √(χ²/ν) by Wilson and Hilferty (1931).
    """
    chance = random.Random(f"veilleuse {device_class} {kind}")
    return tuple((chance.gauss(0, 1), chance.gauss(0, 1)) for _ in range(DRAWS))


def between(values: Sequence[float], variances: Sequence[float]) -> Spread:
    """Estimate the variance t between true values, beyond that of their errors v:
    Paule and Mandel, by bisection.

    At least two values. Degrees of freedom: t²·Σ(t + v)⁻², from the estimate's own variance, times (n − 1)/n.
    """
    degrees, centre = len(values) - 1, math.fsum(values) / len(values)
    low, high = 0.0, math.fsum((value - centre) ** 2 for value in values) / degrees
    if not high or (min(variances) > 0 and _excess(0.0, values, variances) <= degrees):
        return Spread(0.0, math.inf)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _excess(middle, values, variances) > degrees:
            low = middle
        else:
            high = middle
    worth = high**2 * math.fsum((high + variance) ** -2 for variance in variances)
    return Spread(high, max(worth * degrees / len(values), degrees / 2))


def _excess(t: float, values: Sequence[float], variances: Sequence[float]) -> float:
    """Return Σ of squared distances from the weighted mean ÷ (t + v):
    about the degrees of freedom at the true t.
    """
    weights = [1 / (t + variance) for variance in variances]
    whole = math.fsum(weights)
    centre = math.fsum(weight * value for weight, value in zip(weights, values, strict=True)) / whole
    return math.fsum(weight * (value - centre) ** 2 for weight, value in zip(weights, values, strict=True))


def mean(rates: Rates, fleet: Days) -> float:
    """Return the mean power in a mix of day types, W; day types of unknown power are left out."""
    use = [(time, rate) for time, rate in zip(fleet, rates, strict=True) if rate is not None]
    time = sum(one for one, _ in use)
    return sum(one * rate for one, rate in use) / time if time else 0.0


def is_mixed(strata: Sequence[StratumPart]) -> bool:
    """Return True when a class's sample has machines of both kinds."""
    return len({key.always_on for part in strata for key, _ in part.members}) == 2
