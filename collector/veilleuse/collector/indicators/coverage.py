# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I13: coverage, published with every figure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from veilleuse.collector.model.indicators import (
    MILLISECONDS,
    Detail,
    Figure,
    GaugeParts,
    IndicatorGroup,
    IndicatorMeta,
    Targets,
    known_part,
)
from veilleuse.collector.model.sums import Detail as Part
from veilleuse.collector.ports.stages import Indicator

STATES: Final = "states"
ENERGY: Final = "energy"


class Coverage(Indicator):
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

    def figures(self, group: IndicatorGroup, _targets: Targets) -> Iterable[Figure]:
        """Yield the figure of any population; none where it would reveal the silence of few machines."""
        sums = group.sums
        if sums is None or Part.COVERAGE in sums.withheld:
            return
        observed, enrolled = sums.observed_milliseconds, sums.enrolled_milliseconds
        details: dict[str, Detail] = {}
        if Part.DERIVED not in sums.withheld:
            details["derived_milliseconds"] = sums.derived_milliseconds
            if enrolled:
                details["coverage_energy"] = sums.derived_milliseconds / enrolled
        value = observed / enrolled if enrolled else None
        yield Figure(value, sums.hosts, observed, enrolled, MILLISECONDS, details)

    def parts(self, figure: Figure) -> GaugeParts:
        """Return the ratio of states and the ratio of energy."""
        energy = known_part(figure.details.get("coverage_energy"), ENERGY)
        return ({**known_part(figure.value, STATES), **energy},)
