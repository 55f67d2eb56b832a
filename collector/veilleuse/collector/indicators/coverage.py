# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I13: coverage, published with every figure."""

from __future__ import annotations

from typing import Final

from veilleuse.collector.model.figures import (
    GaugeParts,
    IndicatorFigure,
    IndicatorMeta,
    Thresholds,
    known_part,
)
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import Detail, GroupSums

STATES: Final = "states"
ENERGY: Final = "energy"


class Coverage:
    """I13, coverage.

    Formula: for states, milliseconds of known state ÷ milliseconds enrolled; for energy (detail),
    milliseconds with derived energy ÷ milliseconds enrolled. Enrolled time runs from the day of enrolment to
    the end of the period or to now; the dated inventory will replace it as denominator. A virtual machine
    that is off has a state and no energy.
    Period: any. Unit: ratio, 0 to 1. Threshold: none yet. Direction: higher is better. Owner: system team.

    Worked example: two machines enrolled for one day of 24 h; one seen 24 h with energy for 12 h, the other
    never: states 24 ÷ 48 = 0.5, energy 12 ÷ 48 = 0.25.
    """

    meta = IndicatorMeta("I13", "coverage", "ratio", "higher", "system team")

    def threshold(self, _thresholds: Thresholds) -> float | None:
        """Return None: no target is set."""
        return None

    def figure(self, _key: GroupKey, sums: GroupSums) -> IndicatorFigure | None:
        """Return the figure of any population; None where it would reveal the silence of few machines."""
        if Detail.COVERAGE in sums.withheld:
            return None
        observed, enrolled = sums.observed_milliseconds, sums.enrolled_milliseconds
        details: dict[str, float | int | str] = {}
        if Detail.DERIVED not in sums.withheld:
            details["derived_milliseconds"] = sums.derived_milliseconds
            if enrolled:
                details["coverage_energy"] = sums.derived_milliseconds / enrolled
        return IndicatorFigure(observed / enrolled if enrolled else None, observed, enrolled, details)

    def parts(self, figure: IndicatorFigure | None) -> GaugeParts:
        """Return the ratio of states and the ratio of energy."""
        if figure is None:
            return ({},)
        energy = known_part(figure.details.get("coverage_energy"), ENERGY)
        return ({**known_part(figure.value, STATES), **energy},)
