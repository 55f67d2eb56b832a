# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I12: equipment and screens per user, and hours that screens are on."""

from __future__ import annotations

from collections.abc import Iterable

from veilleuse.collector.model.indicators import (
    PC_CLASSES,
    Contributions,
    Detail,
    Figure,
    IndicatorGroup,
    IndicatorMeta,
    Targets,
    contributions,
)
from veilleuse.collector.model.sums import EnergyClass
from veilleuse.collector.ports.stages import Indicator
from veilleuse.wire.units import MILLISECONDS_PER_HOUR

_DAY_MILLISECONDS = 24 * MILLISECONDS_PER_HOUR


class EquipmentPerUser(Indicator):
    """I12, equipment and screens per user, screen-on hours.

    Formula: PCs and thin clients of workstations in service on the last day ÷ headcount of their entity then
    (the nearest entity at or above theirs that declares one). External screens ÷ the same headcount: the
    inventory's monitors, or the screens that its PCs report where the inventory lists none. An entity without
    a PC in the inventory has no value. Screen-on hours: display-hours of external screens ÷ observed
    machine-days, as reported by agents; an agent that cannot detect a display adds none.
    Period: the last day; hours: the whole months inside the period asked. Unit: per user. Threshold: none.
    Direction: lower is better. Owner: system team.

    Worked example: 120 laptops, 30 towers, 90 monitors, 100 users: 150 ÷ 100 = 1.5 per user, 0.9 screens; 900
    display-hours over 150 machine-days: 6 h.
    """

    meta = IndicatorMeta("I12", "equipment per user", "per user", "lower", "system team")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield the figure of an entity with a known headcount."""
        if group.users is None:
            return
        pcs = [one for one in group.devices if one.device_class in PC_CLASSES]
        number = sum(one.number for one in pcs)
        monitors = sum(one.number for one in group.devices if one.device_class == EnergyClass.MONITOR.value)
        said = [one.displays for one in pcs if one.displays is not None]
        details: dict[str, Detail] = {"users": group.users}
        screens = monitors if monitors or not said else sum(said)
        if group.users and (monitors or said):
            details["screens_per_user"] = screens / group.users
        behind: dict[str, Contributions] = {}
        days = sum(one.observed_milliseconds for one in group.machines) / _DAY_MILLISECONDS
        if days:
            time = contributions((one, one.use().screens_milliseconds) for one in group.machines)
            details["screen_hours_per_machine_day"] = sum(time.values()) / MILLISECONDS_PER_HOUR / days
            behind["screen_hours_per_machine_day"] = time
        yield Figure(
            number / group.users if group.users and pcs else None,
            number,
            number,
            group.users,
            "devices, users",
            details,
            behind=(dict.fromkeys(range(number), 1),),
            behind_details=behind,
        )
