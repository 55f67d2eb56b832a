# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the whole sample of a device class says, for its thin strata: means, spreads, the share always on (pure).

docs/methodology.md §6, and decision 0030 for what it leaves open. Variances are of one machine's mean power, W².
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from veilleuse.collector.fleet.samples import Alike, Days, summed
from veilleuse.collector.fleet.strata import ALWAYS_ON, ORDINARY, MachineKind, Rates, StratumPart, merged

THIN: Final = 60
"""Below this many machines a stratum's spread is its class's. docs/methodology.md §6."""
FEWEST: Final = 10
"""Below, its mean too."""
DRAWS: Final = 2_000
CUT: Final = DRAWS // 40
"""Draws beyond either end of a 95 % interval."""
PRIOR_SPREAD: Final = 0.6
"""Relative spread between machines: what a class lacks of ten degrees of freedom has this one. Ours (docs/decisions/0030)."""
LENT: Final = 2
"""Degrees of freedom lent to a kind of which fewer than ten machines were observed, by the relative spread of all kinds; likewise what
PRIOR_STRATA makes up to between few entities. Ours."""
PRIOR_STRATA: Final = math.log(1.5) / 2
"""Relative spread between entities while few of them, or one only, were observed: GSD² 1.5, ours."""
_HALVINGS: Final = 40
_LEAST_ROOT: Final = 0.05
"""Of χ²/ν, cube root: at one degree of freedom the approximation may fall below zero."""
UNSEEN_BELOW: Final = 45
"""Machines among which none was always on: of a fleet where a tenth is, that happens once in a hundred samples of 45."""
UNSEEN_U: Final = math.log(1.5) / 2
"""Of the power a machine draws that would be always on, told by what others draw while on: GSD² 1.5, ours."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A variance and how well it is known."""

    variance: float
    degrees_of_freedom: float


@dataclass(frozen=True, slots=True)
class Draws:
    """Per draw: deviation of the share always on, and of the mean of either kind (W), that weighted by its drawn share."""

    share: tuple[float, ...]
    means: tuple[tuple[float, ...], tuple[float, ...]]

    def of(self, share: float, means: Sequence[float]) -> list[float]:
        """Deviations of a figure that has these derivatives by share and means."""
        ordinary, always = means
        return [
            share * p + ordinary * one + always * more
            for p, one, more in zip(self.share, *self.means, strict=True)
        ]


class Pool:
    """A device class."""

    def __init__(
        self, device_class: str, strata: Sequence[StratumPart], *, mixed: bool, always_on: Alike | None = None
    ) -> None:
        """`mixed`: machines that are always on are told from ordinary ones; `strata` are filled, in their order.

        `always_on`: those of the class, where its strata do not tell them apart.
        """
        self.device_class = device_class
        self.strata = [part for part in strata if part.n]
        self.mixed = mixed
        self.fleet: Days = tuple(map(sum, zip(*(part.fleet for part in strata), strict=True)))
        own = tuple(merged(part.kinds[kind] for part in self.strata) for kind in (ORDINARY, ALWAYS_ON))
        self.whole = merged(own)
        self.n = self.whole.n
        self.tells_apart = always_on is None
        """False: a stratum's machines are of both kinds, and only the class's are told apart."""
        self.kinds = own if always_on is None else self._apart(always_on)
        self.always_on_share = self.kinds[ALWAYS_ON].n / self.n if mixed else 0.0
        self.shares = (1 - self.always_on_share, self.always_on_share)

    def _apart(self, always_on: Alike) -> tuple[MachineKind, MachineKind]:
        """The class's two kinds; as one where energies are those of the mean composition."""
        groups = [group for _, group in self.whole.groups]
        everyone = summed(groups)
        energy = math.fsum(self.whole.energy)
        scale = sum(everyone.energies) / energy if energy else 1.0
        kinds = MachineKind([(scale, everyone.without(always_on))]), MachineKind([(scale, always_on)])
        for kind in kinds:
            kind.close()
        return kinds

    @cached_property
    def rates(self) -> tuple[Rates, Rates]:
        """Mean power of either kind per day type; the class's where the kind was not seen on such days."""
        ordinary, always = (
            tuple(
                own if own is not None else any_
                for own, any_ in zip(kind.rates, self.whole.rates, strict=True)
            )
            for kind in self.kinds
        )
        return ordinary, always

    def mean(self, kind: int, fleet: Days | None = None) -> float:
        """Mean power of a kind in a fleet's mix of day types, the class's without one, W."""
        return mean(self.rates[kind], fleet or self.fleet)

    @cached_property
    def spreads(self) -> tuple[Spread, Spread]:
        """Variance between machines of one stratum and kind."""
        ordinary, always = (self._within(kind) for kind in (ORDINARY, ALWAYS_ON))
        return ordinary, always

    def _within(self, kind: int) -> Spread:
        """Take its own from ten machines on; below, add what the relative spread of all kinds lends, made up to ten degrees by the prior."""
        squares, degrees = self._squares[kind]
        told = sum(more for _, more in self._squares)
        lacking = max(0, FEWEST - told)
        if self.kinds[kind].n >= FEWEST and degrees and not lacking:
            return Spread(squares / degrees, degrees)
        means = [self.mean(each) for each in (ORDINARY, ALWAYS_ON)]
        relative = sum(
            some / typical**2 for (some, _), typical in zip(self._squares, means, strict=True) if typical
        )
        lent = (relative + lacking * PRIOR_SPREAD**2) / (told + lacking) * means[kind] ** 2
        more = LENT + lacking
        return Spread((squares + more * lent) / (degrees + more), told + lacking)

    @cached_property
    def _squares(self) -> tuple[tuple[float, int], tuple[float, int]]:
        """(Σ of squares about the strata's own means, degrees of freedom) by kind; about the class's where only that is known."""
        if not self.tells_apart:
            ordinary, always = (
                (kind.squares(self.fleet, kind.rates), max(0, kind.n - 1)) for kind in self.kinds
            )
            return ordinary, always
        if (
            not self.mixed and len(self.strata) == self.n
        ):  # one machine in each: between strata is all there is
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
        """Relative variance between strata of the mean power of the more numerous kind; the prior makes it up to LENT degrees."""
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
        lacking = max(0.0, LENT - found.degrees_of_freedom)
        if not lacking:
            return found
        told = found.variance * found.degrees_of_freedom + lacking * PRIOR_STRATA**2
        return Spread(told / LENT, LENT)

    def _relative(self, part: StratumPart, kind: int) -> float:
        """A stratum's own mean power ÷ the class's, both in the stratum's mix."""
        rates = self.rates[kind] if self.tells_apart else self.whole.rates
        own = tuple(
            mine if mine is not None else all_
            for mine, all_ in zip(part.kinds[kind].rates, rates, strict=True)
        )
        theirs = mean(rates, part.fleet)
        return mean(own, part.fleet) / theirs if theirs else 1.0

    @cached_property
    def between_shares(self) -> Spread:
        """Variance between strata of the share always on, beyond chance; within `between` where strata do not tell."""
        if not self.mixed or not self.tells_apart or len(self.strata) < 2:
            return Spread(0.0, math.inf)
        return between(
            [part.kinds[ALWAYS_ON].n / part.n for part in self.strata],
            [self.chance / part.n for part in self.strata],
        )

    @cached_property
    def spread(self) -> Spread:
        """Variance between machines of one stratum, of either kind: docs/methodology.md §6's pooled s². Where strata do not tell kinds apart."""
        squares = math.fsum(
            part.kinds[ORDINARY].squares(part.fleet, part.kinds[ORDINARY].rates)
            for part in self.strata
            if part.n > 1
        )
        degrees = sum(part.n - 1 for part in self.strata)
        return Spread(squares / degrees, degrees) if degrees else Spread(0.0, math.inf)

    @property
    def chance(self) -> float:
        """Variance of whether a machine is always on: p(1 − p)."""
        return self.always_on_share * (1 - self.always_on_share)

    @cached_property
    def concentration(self) -> float:
        """Σ of squared shares of the strata in the class's sample: 1 where one stratum is all of it."""
        return sum((part.n / self.n) ** 2 for part in self.strata)

    @cached_property
    def unseen_watts(self) -> float | None:
        """What a machine that is always on would draw, where a small sample holds none: as others while on. None: not needed, or not known."""
        if self.mixed or not 0 < self.n < UNSEEN_BELOW:
            return None
        members = [member for part in self.strata for member in part.members]
        time = sum(group.on_milliseconds for _, group in members)
        if not time or any(key.always_on for key, _ in members):
            return None
        return sum(group.on_millijoules for _, group in members) / time

    @cached_property
    def draws(self) -> Draws | None:
        """2,000 draws of the share always on, Beta(n₁ + ½, n₀ + ½), and of the two means. None: no share to draw.

        Seeded by the class: the same sample always has the same interval.
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
        """Of a kind's class mean, W: Student's t, never below a mean of 0."""
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
    """Pairs of standard normal draws, always the same: for a numerator, and for √(χ²/ν) by Wilson and Hilferty (1931)."""
    chance = random.Random(f"veilleuse {device_class} {kind}")
    return tuple((chance.gauss(0, 1), chance.gauss(0, 1)) for _ in range(DRAWS))


def between(values: Sequence[float], variances: Sequence[float]) -> Spread:
    """Variance t of the truths of two values or more beyond that of their errors v: Paule and Mandel's, by bisection.

    Degrees of freedom: t²·Σ(t + v)⁻², what the estimate's own variance is worth, less one part in n.
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
    """Σ of squared distances from the weighted mean ÷ (t + v): about the degrees of freedom at the true t."""
    weights = [1 / (t + variance) for variance in variances]
    whole = math.fsum(weights)
    centre = math.fsum(weight * value for weight, value in zip(weights, values, strict=True)) / whole
    return math.fsum(weight * (value - centre) ** 2 for weight, value in zip(weights, values, strict=True))


def mean(rates: Rates, fleet: Days) -> float:
    """Mean power in a mix of day types, W; day types of unknown power are left out."""
    use = [(time, rate) for time, rate in zip(fleet, rates, strict=True) if rate is not None]
    time = sum(one for one, _ in use)
    return sum(one * rate for one, rate in use) / time if time else 0.0


def is_mixed(strata: Sequence[StratumPart]) -> bool:
    """Machines of both kinds are in a class's sample."""
    return len({key.always_on for part in strata for key, _ in part.members}) == 2
