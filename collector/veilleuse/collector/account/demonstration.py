# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Decides whether a change between two periods is demonstrated (pure). docs/methodology.md §10.

A change is a number only over months that both periods observed, on like coverage, and where the intervals do
not overlap. Every outlet that tells a change asks here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from veilleuse.collector.model.figures import Ends

MOST_COVERAGE_RATIO: Final = 1.5
"""Greatest ratio of a class's covered shares in two periods, our choice.
Above it, one period extrapolates much of what the other one measures.
"""


class ChangeObstacle(StrEnum):
    """Reason why a change is not demonstrated."""

    MONTHS = "months"
    """No calendar month was released and observed in both years."""
    COVERAGE = "coverage"
    """The covered share of a class differs by more than MOST_COVERAGE_RATIO."""
    INTERVALS = "intervals"
    """The intervals overlap, or one is not known."""
    FACTORS = "factors"
    """A period has several emission factors, or none."""


class PeriodFacts(NamedTuple):
    """One of two periods with the same calendar months."""

    shares: Mapping[str, float]
    """Class → covered share, 0 to 1: known time ÷ time in service. For rooms, time with meter readings."""
    ends: tuple[Ends | None, ...]
    """Ends of the interval of each quantity that is told, in the same order for both periods."""


def why_not_demonstrated(before: PeriodFacts, after: PeriodFacts) -> ChangeObstacle | None:
    """Return the reason why a change is not demonstrated; None where it is."""
    classes = before.shares.keys() & after.shares.keys()
    if not all(is_like(before.shares[name], after.shares[name]) for name in classes):
        return ChangeObstacle.COVERAGE
    pairs = zip(before.ends, after.ends, strict=True)
    return None if all(_are_apart(one, other) for one, other in pairs) else ChangeObstacle.INTERVALS


def is_like(share: float, other: float) -> bool:
    """Return true when two covered shares differ by a factor of MOST_COVERAGE_RATIO at most."""
    return max(share, other) <= MOST_COVERAGE_RATIO * min(share, other)


def _are_apart(one: Ends | None, other: Ends | None) -> bool:
    return one is not None and other is not None and (one[1] < other[0] or other[1] < one[0])
