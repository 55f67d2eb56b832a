# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the uncertainty of activity data by pedigree, after ABC: five scores → GSD² (pure).
docs/methodology.md §6.

It applies to activity data only, never to a factor row by row: the factor enters once, on the total.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

from veilleuse.collector.shipped_tables import load_table

SCORES = (1, 2, 3, 4, 5)
"""Very bad to very good; None = not known, which counts as very bad."""


@cache
def coefficients() -> Mapping[str, tuple[float, ...]]:
    """Return characteristic → U by score, ≥ 1. Raises ConfigurationError.
    Source: uncertainty_pedigree_abc.csv.
    """
    found = {}
    for row in load_table("uncertainty_pedigree_abc").rows:
        name, *values = row.values()
        found[name] = tuple(map(float, values))
    return found


def gsd2(scores: Mapping[str, int | None]) -> float:
    """Return exp(√Σ ln²U); an absent characteristic is not known. Nothing known: 2.5163566012590954.

    Raises ValueError for an unknown characteristic, or a score outside 1 to 5.
    """
    table = coefficients()
    if strange := sorted(set(scores) - set(table)):
        raise ValueError(f"unknown characteristic '{strange[0]}': use {', '.join(table)}")
    for name, score in scores.items():
        if score is not None and score not in SCORES:
            raise ValueError(f"score {score} of {name} is not 1 to 5")
    return math.exp(
        math.sqrt(sum(math.log(values[(scores.get(name) or 1) - 1]) ** 2 for name, values in table.items()))
    )


def u(scores: Mapping[str, int | None]) -> float:
    """Return the standard uncertainty, k = 1, log scale: ln(GSD²)/2."""
    return math.log(gsd2(scores)) / 2


def format_pedigree(scores: Mapping[str, int | None]) -> str:
    """Format the `pedigree` column: scores in the table's order, `reliability=4 completeness=?`."""
    return " ".join(f"{name}={scores.get(name) or '?'}" for name in coefficients())
