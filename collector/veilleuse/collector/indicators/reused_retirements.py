# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I11: reuse of retired equipment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from veilleuse.collector.model.indicators import Detail, Figure, IndicatorGroup, IndicatorMeta, Targets
from veilleuse.collector.model.inventory import Retirement
from veilleuse.collector.ports.stages import Indicator

DUTY_STOPS_YEARS: Final = 10
REUSE: Final = "reuse"


class ReusedRetirements(Indicator):
    """I11, reuse of retired equipment.

    Formula: A ÷ B; A = equipment that left for reuse in year N, with the taker's commitment; B = retired
    equipment in stock on 1 January N. B is entered (`veilleuse reen import retired_stock.csv`): an inventory
    keeps no stock of the past. Both exclude equipment ten years old or more when retired, and equipment that
    security keeps from reuse. Equipment that left and whose age is unknown is in neither (age_not_known).
    Shown beside it: A ÷ all that left in year N by the same rule (share_of_departures), which is no legal
    figure.
    Period: a whole civil year. Unit: ratio, 0 upwards. Threshold: `indicators.reused_retirements_ratio`, 0.5
    from 2025 (décret 2023-266 of 12 April 2023, art. 3; 0.25 in 2023, 0.35 in 2024). Direction: higher is
    better. Owner: logistics.

    Worked example: stock of 400 on 1 January; in the year 230 went to reuse with a commitment, 20 without, 90
    to recycling, 15 of 12 years to recycling: 230 ÷ 400 = 0.575; of departures 230 ÷ 340 =
    0.6764705882352942.
    """

    meta = IndicatorMeta("I11", "reuse of retired equipment", "ratio", "higher", "logistics")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield the figure of a year with a departure or a known stock."""
        disposal = group.disposal
        if disposal is None or (disposal.stock is None and not disposal.retirements):
            return
        counted = [one for one in disposal.retirements if _counts(one)]
        reused = sum(one.units for one in counted if one.destination == REUSE and one.reuse_committed)
        left = sum(one.units for one in counted)
        unknown = sum(
            one.units for one in disposal.retirements if one.age_years is None and not one.security_restricted
        )
        details: dict[str, Detail] = {"age_not_known": unknown}
        if left:
            details["share_of_departures"] = reused / left
        yield Figure(
            reused / disposal.stock if disposal.stock else None,
            left,
            reused,
            disposal.stock,
            "units",
            details,
            threshold=targets.reused_retirements_ratio,
        )


def _counts(one: Retirement) -> bool:
    return not one.security_restricted and one.age_years is not None and one.age_years < DUTY_STOPS_YEARS
