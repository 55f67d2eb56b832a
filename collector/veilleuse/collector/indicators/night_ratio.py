# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I5: night and weekend ratio."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from veilleuse.collector.model.indicators import (
    Figure,
    GaugeParts,
    IndicatorGroup,
    IndicatorMeta,
    Targets,
    known_part,
)
from veilleuse.collector.ports.stages import Indicator
from veilleuse.wire.vocabulary import Band

_MILLIJOULES_PER_MILLISECOND_WATT: Final = 1
"""1 mJ in 1 ms is 1 W."""


class NightRatio(Indicator):
    """I5, night and weekend ratio.

    Formula: mean wall power of the bands night and closed ÷ mean wall power of the band open; power = derived
    energy ÷ the milliseconds with derived energy, so that off and asleep count. The default timetable opens
    from Monday to Friday. Weekends, public holidays and closures have no open band: all their time is in the
    numerator.
    Period: the whole months inside the period asked. Unit: ratio, 0 upwards; 1 = the night draws as much as
    the day. Threshold: none. Direction: lower is better. Owner: system team.

    Worked example: 168 h of a week: 50 h open at 40 W mean, 118 h night and closed at 10 W mean: 10 ÷ 40 =
    0.25.
    """

    meta = IndicatorMeta("I5", "night and weekend ratio", "ratio", "lower", "system team")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield the figures of machines with derived energy; virtual machines are in their own groups."""
        outside = {one.host_id: one.use(Band.NIGHT, Band.CLOSED) for one in group.machines if one.bands}
        inside = {one.host_id: one.use(Band.OPEN) for one in group.machines if one.bands}
        if not outside:
            return
        watts = []
        for uses in (outside, inside):
            time = sum(use.derived_milliseconds for use in uses.values())
            energy = sum(use.derived_millijoules for use in uses.values())
            watts.append(energy / time / _MILLIJOULES_PER_MILLISECOND_WATT if time else None)
        night, day = watts
        yield Figure(
            None if night is None or not day else night / day,
            len(outside),
            night,
            day,
            "W",
            behind=tuple(
                {host_id: energy(use) for host_id, use in uses.items()}
                for uses in (outside, inside)
                for energy in (attrgetter("derived_millijoules"), attrgetter("on_millijoules"))
            ),
        )

    def parts(self, figure: Figure) -> GaugeParts:
        """Return the ratio."""
        return (known_part(figure.value),)
