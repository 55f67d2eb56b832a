# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Samples of one reference unit, folded into sums per ten minutes: the only thing a fit reads (pure).

A sample: over `milliseconds`, what the counters counted, what the meter measured, and what derive says without any
calibration. Its weight is its time. Powers are in watts: millijoules ÷ milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_SECOND

T = TypeVar("T")

BLOCK_MILLISECONDS: Final = 600_000
"""Longer than the seconds to minutes over which a machine's residuals hang together (fans, temperature, one job); ours."""


class Moments(NamedTuple):
    """Σ over samples; C counters, E meter, M the prior's word, all mJ; t in ms. Additive."""

    samples: int = 0
    t: float = 0.0
    c: float = 0.0
    e: float = 0.0
    m: float = 0.0
    cc: float = 0.0
    """Σ C²/t."""
    ce: float = 0.0
    """Σ C·E/t."""

    def plus(self, other: Moments) -> Moments:
        """Sum."""
        return Moments(
            self.samples + other.samples,
            self.t + other.t,
            self.c + other.c,
            self.e + other.e,
            self.m + other.m,
            self.cc + other.cc,
            self.ce + other.ce,
        )

    @property
    def counter_watts(self) -> float:
        """Mean power of the counters."""
        return self.c / self.t

    @property
    def wall_watts(self) -> float:
        """Mean power by the meter."""
        return self.e / self.t

    @property
    def counter_spread_watts(self) -> float:
        """Standard deviation of the counters' power over the samples, weighted by time."""
        return math.sqrt(max(0.0, self.cc / self.t - self.counter_watts**2))


def summed(moments: Iterable[Moments]) -> Moments:
    """Σ; all zeros of none."""
    total = Moments()
    for one in moments:
        total = total.plus(one)
    return total


@dataclass(slots=True)
class Unit:
    """The samples of one reference unit for one quantity."""

    name: str
    """As the operator knows it."""
    blocks: dict[int, Moments] = field(default_factory=dict)
    """Number of the ten minutes since 1970 → sums."""

    def add(
        self,
        start_unix_milliseconds: int,
        milliseconds: int,
        counted_millijoules: float,
        metered_millijoules: float,
        prior_millijoules: float,
    ) -> None:
        """One sample; milliseconds > 0, the rest ≥ 0."""
        key = start_unix_milliseconds // BLOCK_MILLISECONDS
        sample = Moments(
            1,
            milliseconds,
            counted_millijoules,
            metered_millijoules,
            prior_millijoules,
            counted_millijoules * counted_millijoules / milliseconds,
            counted_millijoules * metered_millijoules / milliseconds,
        )
        held = self.blocks.get(key)
        self.blocks[key] = sample if held is None else held.plus(sample)

    def ordered(self) -> list[Moments]:
        """Its ten minutes in the order of time."""
        return [self.blocks[key] for key in sorted(self.blocks)]

    @property
    def total(self) -> Moments:
        """Over all of it."""
        return summed(self.blocks.values())

    def days(self) -> tuple[date, date]:
        """UTC dates of its first and its last sample. Raises ValueError when it has none."""
        return _day(min(self.blocks)), _day(max(self.blocks))

    def stretches(self, most: int, days_at_least: int) -> list[Unit]:
        """It in parts that lie apart in time: whole days, several together, when it has so many days; else equal parts.

        At most `most`, none empty.
        """
        by_day: dict[int, list[int]] = {}
        for key in sorted(self.blocks):
            by_day.setdefault(key * BLOCK_MILLISECONDS // MILLISECONDS_PER_DAY, []).append(key)
        pieces = list(by_day.values())
        if len(pieces) < days_at_least:
            pieces = [[key] for key in sorted(self.blocks)]
        return [
            Unit(self.name, {key: self.blocks[key] for piece in part for key in piece})
            for part in parted(pieces, most)
        ]


def parted(things: Sequence[T], most: int) -> list[Sequence[T]]:
    """In order, in at most so many parts of nearly equal length, none empty."""
    count = min(most, len(things))
    edges = [len(things) * part // count for part in range(count + 1)] if count else [0]
    return [things[low:high] for low, high in pairwise(edges)]


def _day(block: int) -> date:
    return datetime.fromtimestamp(block * BLOCK_MILLISECONDS / MILLISECONDS_PER_SECOND, UTC).date()


class Pair(NamedTuple):
    """A column: (base, slope), or what belongs to each."""

    a: float
    b: float

    def plus(self, other: Pair, times: float = 1.0) -> Pair:
        """self + times·other."""
        return Pair(self.a + times * other.a, self.b + times * other.b)

    def dot(self, other: Pair) -> float:
        """Inner product."""
        return self.a * other.a + self.b * other.b


class Square(NamedTuple):
    """Rows (aa, ab), (ba, bb)."""

    aa: float
    ab: float
    ba: float
    bb: float

    def plus(self, other: Square, times: float = 1.0) -> Square:
        """self + times·other."""
        return Square(*(one + times * more for one, more in zip(self, other, strict=True)))

    def times(self, factor: float) -> Square:
        """factor·self."""
        return Square(*(factor * one for one in self))

    def of(self, v: Pair) -> Pair:
        """self·v."""
        return Pair(self.aa * v.a + self.ab * v.b, self.ba * v.a + self.bb * v.b)

    def by(self, m: Square) -> Square:
        """self·m."""
        return Square(
            self.aa * m.aa + self.ab * m.ba,
            self.aa * m.ab + self.ab * m.bb,
            self.ba * m.aa + self.bb * m.ba,
            self.ba * m.ab + self.bb * m.bb,
        )

    def turned(self) -> Square:
        """The transpose."""
        return Square(self.aa, self.ba, self.ab, self.bb)

    def quadratic(self, v: Pair) -> float:
        """vᵀ·self·v."""
        return v.dot(self.of(v))

    def inverse(self) -> Square:
        """Raises ZeroDivisionError for a singular one."""
        determinant = self.aa * self.bb - self.ab * self.ba
        return Square(self.bb, -self.ab, -self.ba, self.aa).times(1 / determinant)

    def root(self) -> Square:
        """The symmetric root of a symmetric, positive semi-definite one (Cayley-Hamilton).

        Raises ZeroDivisionError for nothing but zeros.
        """
        determinant = math.sqrt(max(0.0, self.aa * self.bb - self.ab * self.ba))
        trace = math.sqrt(self.aa + self.bb + 2 * determinant)
        return self.plus(Square(determinant, 0.0, 0.0, determinant)).times(1 / trace)


ZERO = Square(0.0, 0.0, 0.0, 0.0)


def outer(v: Pair, w: Pair) -> Square:
    """v·wᵀ."""
    return Square(v.a * w.a, v.a * w.b, v.b * w.a, v.b * w.b)
