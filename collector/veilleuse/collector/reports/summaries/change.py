# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compares the emissions of a period with those of the same months of the year before."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from veilleuse.collector.documents.document import RELEASED_UNTIL, Document, Row
from veilleuse.collector.model.query import Basis
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.summaries.rows import ends_of, number


@dataclass(frozen=True, slots=True)
class YearChange:
    """A YearChange is the difference of two totals, in kgCO2e: that of the energy, and that of the factor."""

    before_kgco2e: float
    change_kgco2e: float
    activity_kgco2e: float
    factor_kgco2e: float
    is_in_doubt: bool
    """True where the intervals of both years overlap."""


def compare_years(now: Row, before: Row) -> YearChange | None:
    """Compare two totals, each with one factor; None where a figure is missing.

    Activity is the change of the energy at the old factor; the factor's change counts the new energy.
    """
    names = ("kgco2e_total", "kwh_total", "factor_kgco2e_per_kwh")
    values = [number(row, name) for row in (now, before) for name in names]
    if None in values:
        return None
    new, kwh, factor, old, _, old_factor = (Fraction(repr(float(value or 0.0))) for value in values)
    of_factor = (factor - old_factor) * kwh
    return YearChange(
        float(old),
        float(new - old),
        float(new - old - of_factor),
        float(of_factor),
        _is_in_doubt(now, before),
    )


def _is_in_doubt(now: Row, before: Row) -> bool:
    one, other = ends_of(now), ends_of(before)
    return one is not None and other is not None and one[1] <= other[2] and other[1] <= one[2]


def sole_total(document: Document, *, first: str, end: str) -> Row | None:
    """Return the total of released months over exactly this period; None where there is no such total."""
    totals = document.tables.get("totals", ())
    if document.head.get(BASIS) != Basis.RELEASED.value or len(totals) != 1:
        return None
    found = (totals[0].get("period_from"), totals[0].get("period_to"))
    until = document.head.get(RELEASED_UNTIL, end)
    return totals[0] if found == (first, end) and until == end else None
