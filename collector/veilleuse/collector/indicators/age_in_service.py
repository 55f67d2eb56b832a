# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I9: age in service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median
from typing import Final

from veilleuse.collector.model.indicators import (
    Detail,
    Figure,
    IndicatorGroup,
    IndicatorMeta,
    Targets,
)
from veilleuse.collector.model.inventory import DeviceGroup
from veilleuse.collector.ports.stages import Indicator

EDGES_YEARS: Final = (5, 6, 8, 10)
"""5, 6 and 8: docs/methodology.md §12; 10: age above which the duty to reuse equipment ends (décret
2023-266)."""


class AgeInService(Indicator):
    """I9, age in service.

    Formula: median age of the equipment in service on the last day of the period, in years of 365.25 days
    since its day of service; shares older than 5, 6, 8 and 10 years. Equipment without a day of service in
    the inventory is counted apart (not_known).
    Period: its last day. Unit: years.
    Threshold: `indicators.lifetime_years`, 8 (the Métropole's own figure): the intended lifetime. The median
    age of equipment in service does not have to reach the lifetime.
    Direction: higher is better: equipment is kept longer. Owner: purchasing and the system team.

    Worked example: PCs of 2, 4, 6.5 and 9 years and one of unknown age: median (4 + 6.5) ÷ 2 = 5.25 years;
    older than 5: 2 ÷ 4 = 0.5; than 6: 0.5; than 8: 0.25; than 10: 0.
    """

    meta = IndicatorMeta("I9", "age in service", "years", "higher", "purchasing")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield the figure of assets in service."""
        if not group.devices:
            return
        by_age: Counter[float | None] = Counter()
        for one in group.devices:
            by_age.update(one.ages_years)
        number = by_age.total()
        details: dict[str, Detail] = {"not_known": by_age.pop(None, 0)}
        ages = [age for age in by_age.elements() if age is not None]
        for edge in EDGES_YEARS if ages else ():
            details[f"share_over_{edge}_years"] = sum(age > edge for age in ages) / len(ages)
        yield Figure(
            median(ages) if ages else None,
            number,
            len(ages),
            number,
            "assets",
            details,
            threshold=targets.lifetime_years,
            behind=(dict.fromkeys(range(len(ages)), 1),) if _of_people(group.devices) else (),
        )


def _of_people(devices: Iterable[DeviceGroup]) -> bool:
    """Tell if any device is a person's equipment: switches, servers and printers are not."""
    return any(one.population is not None for one in devices)
