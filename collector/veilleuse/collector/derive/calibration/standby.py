# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Power off and asleep: the mean over units of a power alone, and how well it tells a unit it has not seen (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance
from typing import Final, NamedTuple

from veilleuse.collector.derive.calibration.algebra import Square
from veilleuse.collector.derive.calibration.fit import BETWEEN_UNITS

METER_FLOOR_WATTS: Final = 0.1
"""k = 1: what a plug or a PDU outlet can tell at all at a watt or less; ours."""


class StandbyFit(NamedTuple):
    """The power of the mean unit in one state."""

    watts: float
    covariance: Square
    degrees_of_freedom: float
    error_before: float
    """Relative, out of sample: the prior's."""
    error_after: float
    """The fit's."""


def standby_fit(watts: Sequence[float], prior: Sequence[float]) -> StandbyFit:
    """Of each unit's mean power, and of what the prior says of it; watts ≥ 0, at least one."""
    count, mean = len(watts), fmean(watts)
    if count == 1:
        spread, freedom = (BETWEEN_UNITS * mean) ** 2, math.inf
        misses = [BETWEEN_UNITS * mean]
    else:
        spread, freedom = variance(watts) / count, float(count - 1)
        misses = [(sum(watts) - one) / (count - 1) - one for one in watts]
    floor = METER_FLOOR_WATTS**2
    before = math.sqrt(fmean((said - one) ** 2 for said, one in zip(prior, watts, strict=True)))
    after = math.sqrt(fmean(miss**2 for miss in misses) + floor)
    scale = max(mean, METER_FLOOR_WATTS)
    return StandbyFit(mean, Square(spread + floor, 0.0, 0.0, 0.0), freedom, before / scale, after / scale)
