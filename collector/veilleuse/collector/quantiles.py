# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes quantiles for intervals: Student's t for any degrees of freedom, χ² for a comparison. Pure."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

Z95: Final = 1.959964
"""Two-sided 95 % quantile of the normal distribution, as in account/emissions.py."""
NORMAL_FROM: Final = 200.0
"""Degrees of freedom from which the normal quantile is used: docs/methodology.md §6."""
_Z99_ONE_SIDED: Final = 2.326348
_TERMS: Final = 300
_CLOSE: Final = 1e-14
_TINY: Final = 1e-300


def tail(t: float, degrees_of_freedom: float) -> float:
    """Return P(|T| > t), 0 to 1, for t > 0: the regularised incomplete beta function of ν/2 and 1/2 at ν/(ν +
    t²).
    """
    x = degrees_of_freedom / (degrees_of_freedom + t * t)
    a, b = degrees_of_freedom / 2, 0.5
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(a, b, x) / a
    return 1 - front * _continued_fraction(b, a, 1 - x) / b


def _continued_fraction(a: float, b: float, x: float) -> float:
    """Return the incomplete beta function's continued fraction, by Lentz's method: DLMF 8.17.22."""
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d or _TINY)
    value, m = d, 1
    while abs(c * d - 1) >= _CLOSE and m < _TERMS:
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + numerator * d) or _TINY)
            c = (1 + numerator / c) or _TINY
            value *= c * d
        m += 1
    return value


@lru_cache(maxsize=1024)
def quantile95(degrees_of_freedom: float) -> float:
    """Return t with P(|T| > t) = 5 %.

    From 200 degrees of freedom on, and for math.inf, return the normal quantile.

    Degrees of freedom below one count as one.
    """
    if degrees_of_freedom >= NORMAL_FROM:
        return Z95
    degrees_of_freedom = max(1.0, degrees_of_freedom)
    low, high = 1.0, 20.0  # 12.706 for one degree of freedom
    for _ in range(60):
        middle = (low + high) / 2
        if tail(middle, degrees_of_freedom) > 0.05:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def chi_square99(degrees_of_freedom: int) -> float:
    """Return the χ² that chance exceeds once in a hundred; at least 1 degree of freedom.

    Accurate to 2 % (6.6 for one degree, exact 6.63). Source: Wilson and Hilferty 1931.
    """
    spread = 2 / (9 * degrees_of_freedom)
    return float(degrees_of_freedom * (1 - spread + _Z99_ONE_SIDED * math.sqrt(spread)) ** 3)
