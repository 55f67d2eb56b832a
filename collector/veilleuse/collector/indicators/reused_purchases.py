# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I10: reused share of purchases."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from veilleuse.collector.model.indicators import Detail, Figure, IndicatorGroup, IndicatorMeta, Targets
from veilleuse.collector.ports.stages import Indicator


class ReusedPurchases(Indicator):
    """I10, reused share of purchases.

    Formula: euros excl. VAT of reused, refurbished or recycled equipment ÷ euros excl. VAT bought, per legal
    category (AGEC, art. 58; décret 2024-134 replaced 2021-254 on 1 July 2024, with rates that rise by steps).
    The share of units is shown beside it, where every line has a number of units.
    Period: a whole civil year. Unit: ratio, 0 to 1. Threshold: none until entered:
    `indicators.reused_purchases_targets`, per category and from a year on. Direction: higher is better.
    Owner: purchasing.

    Worked example: laptops: 60,000 € reused (200 units), 90,000 € new (150 units): 60 ÷ 150 = 0.4; of units
    200 ÷ 350 = 0.5714285714285714.
    """

    meta = IndicatorMeta("I10", "reused share of purchases", "ratio", "higher", "purchasing")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield one figure per category, without the k rule: purchases are not about persons."""
        for category in sorted({one.category for one in group.purchases}):
            lines = [one for one in group.purchases if one.category == category]
            bought = sum((one.amount_excluding_vat_eur for one in lines), Decimal(0))
            reused = sum((one.amount_excluding_vat_eur for one in lines if one.reused), Decimal(0))
            details: dict[str, Detail] = {"category": category}
            units = [one.units for one in lines]
            if all(number is not None for number in units) and (whole := sum(map(int, units))):  # type: ignore[arg-type]  # none is None
                details["units_ratio"] = sum(one.units or 0 for one in lines if one.reused) / whole
            yield Figure(
                float(Fraction(reused) / Fraction(bought)) if bought else None,
                len(lines),
                float(reused),
                float(bought),
                "EUR",
                details,
                threshold=target_of(targets, category, group.year),
            )


def target_of(targets: Targets, category: str, year: int | None) -> float | None:
    """Return the share entered for a category: that of its latest year up to `year`; None: not entered."""
    known = [
        (from_year, share)
        for name, from_year, share in targets.reused_purchases
        if name == category and year is not None and from_year <= year
    ]
    return max(known)[1] if known else None
