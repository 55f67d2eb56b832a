# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I14: measured savings of an action."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from veilleuse.collector.model.indicators import (
    Comparison,
    Detail,
    Figure,
    IndicatorGroup,
    IndicatorMeta,
    SiteEnergy,
    Targets,
)
from veilleuse.collector.ports.stages import Indicator
from veilleuse.collector.quantiles import Z95, quantile95
from veilleuse.wire.units import MILLIJOULES_PER_KWH

LEAST_WEEKS: Final = 8
"""Minimum weeks before and after the action: docs/methodology.md §12."""
LEAST_SITES: Final = 2
"""Minimum sites of each arm: one site alone does not show how much sites differ."""


class Arm(NamedTuple):
    """An Arm sums the sites that the action touched, or the others."""

    frozen_millijoules: int
    share: float
    """(frozen - actual) ÷ frozen, over all sites of the arm."""
    variance: float
    """Variance of the share between sites."""
    degrees_of_freedom: float


class MeasuredSavings(Indicator):
    """I14, measured savings of an action.

    Formula: frozen = kWh per machine-day before the action, by site, device class and day type, × the
    machine-days after it. Saved share of an arm = Σ(frozen - actual) ÷ Σ frozen. Saving = frozen of the
    touched sites × (their share - the share of the untouched sites). The difference removes changes that have
    another cause. Only months with data of both arms count, so that both arms have the same school weeks.
    Only machines present both before and after count; a machine that came later is a renewal, counted apart
    (renewals_kwh).
    Variance: jackknife over sites, in both arms, with Student's t after Satterthwaite. The variance of the
    touched arm is multiplied by (share of energy that the untouched kept ÷ share that the touched kept)²
    where that is more than 1: the drift of a site is proportional to its energy without the action. The
    energies' own uncertainty is added in quadrature.
    Claimed (claimed = yes) only if the lower 95 % bound is above 0, with at least 8 weeks before and after
    and 2 sites in each arm. Never subtracted from the inventory's figure: the meter already includes the
    saving.
    Period: up to 12 whole months before the month of the action, and the whole months after it up to the end
    of the period asked. Unit: kWh. Threshold: none. Direction: higher is better. Owner: the person who leads
    the action.

    Worked example: touched sites, frozen and actual kWh (100, 78) and (200, 162); untouched (100, 97) and
    (300, 295): shares 60 ÷ 300 = 0.2 and 8 ÷ 400 = 0.02; saving 300 × (0.2 - 0.02) = 54 kWh. Jackknife:
    touched shares without one site 0.19 and 0.22, s² = 0.5 × (2 × 0.015²) = 0.000225, × (0.98 ÷ 0.8)² =
    0.000338; untouched 0.0166667 and 0.03, s² = 0.0000444; t at 1.26 degrees of freedom.
    """

    meta = IndicatorMeta("I14", "measured savings", "kWh", "higher", "leader of the action")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield the figure of a comparison."""
        if group.comparison is not None:
            yield saving(group.comparison)


def saving(one: Comparison) -> Figure:
    """Return the saving of one action. No value without both arms, or 8 weeks before and after."""
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
    # The number and the energy of new machines may concern one person only.
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
    """Return the sums of an arm; None without any frozen energy.

    The variance of fewer than 2 sites is infinite.
    """
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
    """Return the 95 % interval in kWh; None where an arm has too few sites."""
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
