# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""I14: measured savings of an action."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from veilleuse.collector.model.figures import IndicatorMeta
from veilleuse.collector.model.indicators import (
    Comparison,
    Detail,
    Figure,
    SiteEnergy,
    SobrietyGroup,
    Targets,
)
from veilleuse.collector.quantiles import Z95, quantile95
from veilleuse.wire.units import MILLIJOULES_PER_KWH

LEAST_WEEKS: Final = 8
"""Of each side: docs/methodology.md §12."""
LEAST_SITES: Final = 2
"""Of each arm: one site alone tells nothing of how much sites differ."""


class Arm(NamedTuple):
    """Sites touched, or untouched."""

    frozen_millijoules: int
    share: float
    """(frozen - actual) ÷ frozen, of all its sites together."""
    variance: float
    """Of the share, between sites."""
    degrees_of_freedom: float


class MeasuredSavings:
    """I14, measured savings of an action.

    Formula: frozen = the kWh per machine-day of before, per site, device class and day type, × the machine-days of after; saved
    share of an arm = Σ(frozen - actual) ÷ Σ frozen; saving = frozen of the touched sites × (their share - the share of the untouched
    sites), over the months in which both arms were seen and so the same school weeks: what would have happened anyway is taken off.
    Machines that were there on both sides only: what came since is a renewal, and apart (renewals_kwh). Variance: jackknife over
    sites, in both arms, with Student's t after Satterthwaite; that of the touched arm × (what the untouched kept of their energy ÷
    what the touched did)² where that is more than 1, since a site drifts by a share of what it would have drawn; the energies' own
    uncertainty in quadrature.
    Claimed (claimed = yes) only if the lower 95 % bound is above 0, with at least 8 weeks before and after and 2 sites in each arm.
    Never subtracted from the inventory's figure: the meter has seen it already.
    Period: up to 12 whole months before the month of the action, and the whole months after it up to the end of the period asked. Unit:
    kWh. Threshold: none. Direction: higher is better. Owner: who leads the action.

    Worked example: touched sites, frozen and actual kWh (100, 78) and (200, 162); untouched (100, 97) and (300, 295): shares
    60 ÷ 300 = 0.2 and 8 ÷ 400 = 0.02; saving 300 × (0.2 - 0.02) = 54 kWh. Jackknife: touched shares without one site 0.19 and
    0.22, s² = 0.5 × (2 × 0.015²) = 0.000225, × (0.98 ÷ 0.8)² = 0.000338; untouched 0.0166667 and 0.03, s² = 0.0000444; t at 1.26
    degrees of freedom.
    """

    meta = IndicatorMeta("I14", "measured savings", "kWh", "higher", "leader of the action")

    def figures(self, group: SobrietyGroup, targets: Targets) -> Iterable[Figure]:
        """Of a comparison."""
        if group.comparison is not None:
            yield saving(group.comparison)


def saving(one: Comparison) -> Figure:
    """Of one action. No value without both arms, or with less than 8 weeks on a side."""
    touched, untouched = arm(one.touched), arm(one.untouched)
    details: dict[str, Detail] = {
        "action": one.action_id,
        "what": one.what,
        "weeks_before": one.weeks_before,
        "weeks_after": one.weeks_after,
        "sites_touched": len(one.touched),
        "sites_untouched": len(one.untouched),
        "renewals": one.renewals,
        "renewals_kwh": one.renewals_millijoules / MILLIJOULES_PER_KWH,
    }
    # Which of them are new, and what they draw, may be one person's.
    apart = {"renewals": one.renewed_machines, "renewals_kwh": one.renewed_machines}
    enough = min(one.weeks_before, one.weeks_after) >= LEAST_WEEKS
    if touched is None or untouched is None or not enough:
        return Figure(None, one.machines, details={**details, "claimed": "no"}, behind_details=apart)
    frozen = touched.frozen_millijoules / MILLIJOULES_PER_KWH
    value = frozen * (touched.share - untouched.share)
    interval = _interval(frozen, value, touched, untouched, one.model_u)
    if interval is not None and value:
        details["share_saved"] = value / frozen
    details["claimed"] = "yes" if interval is not None and interval[0] > 0 else "no"
    return Figure(
        value,
        one.machines,
        value,
        frozen,
        "kWh",
        details,
        interval,
        behind=(one.touched_machines, one.untouched_machines),
        behind_details=apart,
    )


def arm(sites: Sequence[SiteEnergy]) -> Arm | None:
    """None without any frozen energy. The variance of fewer than 2 sites is infinite."""
    sites = [one for one in sites if one.frozen_millijoules > 0]
    frozen = sum(one.frozen_millijoules for one in sites)
    saved = sum(one.frozen_millijoules - one.actual_millijoules for one in sites)
    if not frozen:
        return None
    count = len(sites)
    if count < LEAST_SITES:
        return Arm(frozen, saved / frozen, math.inf, 0.0)
    without = [
        (saved - (one.frozen_millijoules - one.actual_millijoules)) / (frozen - one.frozen_millijoules)
        for one in sites
    ]
    mean = fmean(without)
    variance = (count - 1) / count * sum((share - mean) ** 2 for share in without)
    return Arm(frozen, saved / frozen, variance, count - 1)


def _interval(
    frozen_kwh: float, value: float, touched: Arm, untouched: Arm, model_u: float
) -> tuple[float, float] | None:
    """95 %; None where an arm has too few sites."""
    kept = 1 - touched.share
    drift = max(1.0, (1 - untouched.share) / kept) if kept > 0 else math.inf
    parts = (
        (touched.variance * drift**2, touched.degrees_of_freedom),
        (untouched.variance, untouched.degrees_of_freedom),
    )
    variance = sum(part for part, _ in parts)
    if not math.isfinite(variance):
        return None
    freedom = math.inf
    if variance > 0:
        freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    spread = math.hypot(frozen_kwh * math.sqrt(variance) * quantile95(freedom), Z95 * value * model_u)
    return value - spread, value + spread
