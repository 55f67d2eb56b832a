# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Rounding for people: once, after summing, to no more digits than the half-width has (pure). METHOD.md §5.

Files and machine formats are never rounded.
"""

from __future__ import annotations

import math

DIGITS = 2
"""Of the half-width that are told: METHOD.md gives ± 36,051.8 as 36,000; ours."""


def decimals(half_width: float) -> int:
    """Decimal places that a half-width ≥ 0 leaves to its figure; negative: tens, hundreds. Exact (0): none are cut, 0."""
    return DIGITS - 1 - math.floor(math.log10(half_width)) if half_width > 0 else 0


def rounded(figure: tuple[float, float, float]) -> tuple[str, str, str]:
    """(value, lower, upper end of its interval), all to the two leading digits of the half-width.

    1,124,000 between 1,088,520.4 and 1,160,636.2 is 1124000, 1089000, 1161000.
    """
    _, low, high = figure
    digits = decimals((high - low) / 2)
    value, low_text, high_text = (f"{round(one, digits):.{max(0, digits)}f}" for one in figure)
    return value, low_text, high_text
