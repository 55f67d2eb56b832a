# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the charts of the pages and of the reports have in common: their data, their axes, their colours. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

COLOURS: Final = ("#0b62ad", "#b85000", "#2b7a35", "#5d6875", "#8645ad", "#007d83", "#a8285f", "#7d7000")
"""On white, each ≥ 3:1 (WCAG 2.1, 1.4.11): c0 to c7 of the style sheets; tests hold them together."""


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart."""

    name: str
    values: tuple[float | None, ...]
    """One per label; None = not known, nothing is drawn."""
    colour: int
    """0 to 7."""
    hatched: bool = False
    """Drawn with stripes: modelled, not measured."""


def nice_ticks(maximum: float, count: int = 4) -> list[float]:
    """0 to at least `maximum` in round steps (1, 2, 2.5 or 5 × 10ⁿ); 0 to 1 when there is nothing."""
    if not (math.isfinite(maximum) and maximum > 0):
        return [0.0, 1.0]
    raw = maximum / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    return [step * i for i in range(math.ceil(maximum / step - 1e-9) + 1)]
