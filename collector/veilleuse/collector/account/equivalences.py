# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compares a figure with everyday emissions: at most three,
each with its source and date (pure, except the shipped table).

Equivalents are for readers only: nothing is computed from one. Source: ADEME, Impact CO2, 2026-06-09
(data/equivalences_impactco2.csv).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from functools import cache
from typing import Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.shipped_tables import load_table
from veilleuse.wire.units import GRAMS_PER_KILOGRAM

MOST: Final = 3
DEFAULT: Final = ("voiturethermique", "tgv-paris-marseille", "ordinateurportable")
"""Default equivalents: a road trip, a rail trip, and the manufacture of a laptop,
which is most of its footprint. Ours [P].
"""
PUBLISHED: Final = "2026-06-09"
"""Date of the table's commit; also in its schema."""
SIGNIFICANT: Final = 2
"""Significant digits of a displayed number."""
FEWEST: Final = 1
"""Least number of units of a useful equivalent."""
_NOT_OFFERED: Final = frozenset({"francais"})


@dataclass(frozen=True, slots=True)
class Equivalence:
    """One equivalent of a figure."""

    slug: str
    number: float
    """Number of units, not rounded."""
    shown: str
    """The number with SIGNIFICANT digits, in Python's notation: `12000`."""
    unit: Mapping[str, str]
    """Unit by language: fr, en."""
    gco2e_per_unit: Decimal
    source: str
    published: str
    """ISO date."""


def equivalences(kgco2e: Fraction | float, slugs: Sequence[str] = DEFAULT) -> tuple[Equivalence, ...]:
    """Return the equivalents of a figure ≥ 0, in the order of `slugs`, without those below one unit.

    Raises UsageError for an unknown slug, a repeated one, or more than three; ValueError for a negative
    figure.
    """
    if len(slugs) > MOST or len(set(slugs)) < len(slugs):
        raise UsageError(f"at most {MOST} equivalents, each once")
    known = _load_known()
    unknown = [slug for slug in slugs if slug not in known]
    if unknown:
        raise UsageError(f"unknown equivalent '{unknown[0]}': one of {', '.join(known)}")
    if kgco2e < 0:
        raise ValueError(f"{kgco2e} kgCO2e: an equivalent is of a figure ≥ 0")
    found: list[Equivalence] = []
    for slug in slugs:
        grams, unit = known[slug]
        number = Fraction(kgco2e) * GRAMS_PER_KILOGRAM / Fraction(grams)
        if number >= FEWEST:
            found.append(
                Equivalence(
                    slug, float(number), _round_number(number), unit, grams, "ADEME, Impact CO2", PUBLISHED
                )
            )
    return tuple(found)


def _round_number(number: Fraction) -> str:
    whole = Decimal(number.numerator) / Decimal(number.denominator)
    step = Decimal(1).scaleb(whole.adjusted() - SIGNIFICANT + 1)
    rounded = (whole / step).quantize(Decimal(1), ROUND_HALF_UP) * step
    return (
        f"{rounded:f}".rstrip("0").rstrip(".") if rounded != rounded.to_integral_value() else f"{rounded:.0f}"
    )


@cache
def _load_known() -> Mapping[str, tuple[Decimal, Mapping[str, str]]]:
    """Return slug → (gCO2e per unit, unit by language). Raises ConfigurationError."""
    return {
        row["slug"]: (Decimal(row["gco2e_per_unit"]), {"fr": row["unit_fr"], "en": row["unit_en"]})
        for row in load_table("equivalences_impactco2").rows
        if row["slug"] not in _NOT_OFFERED
    }
