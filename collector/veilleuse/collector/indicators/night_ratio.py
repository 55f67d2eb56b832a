# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I5: night and weekend ratio."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from veilleuse.collector.model.indicators import (
    Figure,
    GaugeParts,
    IndicatorGroup,
    IndicatorMeta,
    Targets,
    known_part,
)
from veilleuse.collector.model.sums import KNOWN_STATES, GroupSums
from veilleuse.collector.model.sums import Detail as Part
from veilleuse.collector.ports.stages import Indicator
from veilleuse.wire.vocabulary import Band, State

_OUTSIDE: Final = frozenset({Band.NIGHT, Band.CLOSED})
_OPEN: Final = frozenset({Band.OPEN})
_LEAST_WITH_ENERGY: Final = 0.99
"""Least share of known time with an energy, where it is told: below it, energy and time do not match."""


class NightRatio(Indicator):
    """I5, night and weekend ratio.

    Formula: mean wall power of the bands night and closed ÷ mean wall power of the band open; power = derived
    energy ÷ milliseconds of known state, so that off and asleep count. The default timetable opens from
    Monday to Friday. Weekends, public holidays and closures have no open band: all their time is in the
    numerator.
    Period: any. Unit: ratio, 0 upwards; 1 = the night draws as much as the day. Threshold: none. Direction:
    lower is better. Owner: system team.

    Worked example: 168 h of a week: 50 h open at 40 W mean, 118 h night and closed at 10 W mean: 10 ÷ 40 =
    0.25.
    """

    meta = IndicatorMeta("I5", "night and weekend ratio", "ratio", "lower", "system team")

    def figures(self, group: IndicatorGroup, _targets: Targets) -> Iterable[Figure]:
        """Yield the figure; no value where more than 1 % of the known time has no energy."""
        sums = group.sums
        if sums is None or not sums.observed_milliseconds:
            return
        if not sums.separates(_OPEN, frozenset(State)) or Part.ENERGIES in sums.withheld:
            yield Figure(None, sums.hosts, counted_in="W", withheld=True)
            return
        night, day = _mean_watts(sums, _OUTSIDE), _mean_watts(sums, _OPEN)
        with_energy = sums.derived_milliseconds / sums.observed_milliseconds
        if Part.DERIVED not in sums.withheld and with_energy < _LEAST_WITH_ENERGY:
            night, day = None, None
        value = night / day if night is not None and day else None
        yield Figure(value, sums.hosts, night, day, "W")

    def parts(self, figure: Figure) -> GaugeParts:
        """Return the ratio."""
        return (known_part(figure.value),)


def _mean_watts(sums: GroupSums, bands: frozenset[Band]) -> float | None:
    """Return the mean power, 1 mJ in 1 ms being 1 W; None without known time or energy."""
    time, energy = sums.milliseconds(bands, KNOWN_STATES), sums.millijoules(bands, frozenset(State))
    return energy / time if time and energy is not None else None
