# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Vectors of two numbers and matrices of four: base and slope need no library (pure)."""

from __future__ import annotations

import math
from typing import NamedTuple


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
