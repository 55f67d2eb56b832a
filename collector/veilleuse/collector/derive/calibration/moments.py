# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums the samples of one reference unit per ten minutes: the only input of a fit (pure).

A sample has the counters' energy, the meter's energy and the derived energy without calibration, over
`milliseconds`. Its weight is its time. Powers are in watts: millijoules ÷ milliseconds.
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
"""Longer than the seconds to minutes of autocorrelation of a machine's residuals
(fans, temperature, one job); our choice.
"""


class Moments(NamedTuple):
    """Σ over samples; C counters, E meter, M prior, all mJ; t in ms. Additive."""

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
        """Return the sum."""
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
        """Mean power of the counters, W."""
        return self.c / self.t

    @property
    def wall_watts(self) -> float:
        """Mean power by the meter, W."""
        return self.e / self.t

    @property
    def counter_spread_watts(self) -> float:
        """Standard deviation of the counters' power over the samples, weighted by time, W."""
        return math.sqrt(max(0.0, self.cc / self.t - self.counter_watts**2))


def sum_moments(moments: Iterable[Moments]) -> Moments:
    """Sum the moments; all zeros without any."""
    total = Moments()
    for one in moments:
        total = total.plus(one)
    return total


@dataclass(slots=True)
class Unit:
    """Samples of one reference unit for one quantity."""

    name: str
    """Name that the operator uses."""
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
        """Add one sample; milliseconds > 0, the rest ≥ 0."""
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

    def ordered_blocks(self) -> list[Moments]:
        """Return its ten-minute blocks in order of time."""
        return [self.blocks[key] for key in sorted(self.blocks)]

    @property
    def total(self) -> Moments:
        """Sum of all blocks."""
        return sum_moments(self.blocks.values())

    def days(self) -> tuple[date, date]:
        """Return the UTC dates of its first and last sample. Raises ValueError without samples."""
        return _day(min(self.blocks)), _day(max(self.blocks))

    def stretches(self, most: int, days_at_least: int) -> list[Unit]:
        """Split the unit into parts separate in time, at most `most`, none empty.

        With at least `days_at_least` days the parts are whole days, several together; otherwise equal parts.
        """
        by_day: dict[int, list[int]] = {}
        for key in sorted(self.blocks):
            by_day.setdefault(key * BLOCK_MILLISECONDS // MILLISECONDS_PER_DAY, []).append(key)
        pieces = list(by_day.values())
        if len(pieces) < days_at_least:
            pieces = [[key] for key in sorted(self.blocks)]
        return [
            Unit(self.name, {key: self.blocks[key] for piece in part for key in piece})
            for part in split_evenly(pieces, most)
        ]


def split_evenly(things: Sequence[T], most: int) -> list[Sequence[T]]:
    """Split a sequence in order into at most `most` parts of nearly equal length, none empty."""
    count = min(most, len(things))
    edges = [len(things) * part // count for part in range(count + 1)] if count else [0]
    return [things[low:high] for low, high in pairwise(edges)]


def _day(block: int) -> date:
    return datetime.fromtimestamp(block * BLOCK_MILLISECONDS / MILLISECONDS_PER_SECOND, UTC).date()


class Pair(NamedTuple):
    """A column vector: (base, slope), or one value for each."""

    a: float
    b: float

    def plus(self, other: Pair, times: float = 1.0) -> Pair:
        """Return self + times·other."""
        return Pair(self.a + times * other.a, self.b + times * other.b)

    def dot(self, other: Pair) -> float:
        """Return the inner product."""
        return self.a * other.a + self.b * other.b


class Square(NamedTuple):
    """A 2 × 2 matrix: rows (aa, ab), (ba, bb)."""

    aa: float
    ab: float
    ba: float
    bb: float

    def plus(self, other: Square, times: float = 1.0) -> Square:
        """Return self + times·other."""
        return Square(*(one + times * more for one, more in zip(self, other, strict=True)))

    def times(self, factor: float) -> Square:
        """Return factor·self."""
        return Square(*(factor * one for one in self))

    def of(self, v: Pair) -> Pair:
        """Return self·v."""
        return Pair(self.aa * v.a + self.ab * v.b, self.ba * v.a + self.bb * v.b)

    def by(self, m: Square) -> Square:
        """Return self·m."""
        return Square(
            self.aa * m.aa + self.ab * m.ba,
            self.aa * m.ab + self.ab * m.bb,
            self.ba * m.aa + self.bb * m.ba,
            self.ba * m.ab + self.bb * m.bb,
        )

    def transpose(self) -> Square:
        """Return the transpose."""
        return Square(self.aa, self.ba, self.ab, self.bb)

    def quadratic(self, v: Pair) -> float:
        """Return vᵀ·self·v."""
        return v.dot(self.of(v))

    def inverse(self) -> Square:
        """Return the inverse. Raises ZeroDivisionError for a singular matrix."""
        determinant = self.aa * self.bb - self.ab * self.ba
        return Square(self.bb, -self.ab, -self.ba, self.aa).times(1 / determinant)

    def root(self) -> Square:
        """Return the symmetric root of a symmetric, positive semi-definite matrix (Cayley-Hamilton).

        Raises ZeroDivisionError for a zero matrix.
        """
        determinant = math.sqrt(max(0.0, self.aa * self.bb - self.ab * self.ba))
        trace = math.sqrt(self.aa + self.bb + 2 * determinant)
        return self.plus(Square(determinant, 0.0, 0.0, determinant)).times(1 / trace)


ZERO = Square(0.0, 0.0, 0.0, 0.0)


def outer(v: Pair, w: Pair) -> Square:
    """Return v·wᵀ."""
    return Square(v.a * w.a, v.a * w.b, v.b * w.a, v.b * w.b)
