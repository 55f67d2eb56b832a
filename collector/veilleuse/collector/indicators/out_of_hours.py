# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I1: on outside opening hours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from veilleuse.collector.model.indicators import (
    MILLISECONDS,
    Detail,
    Figure,
    GaugeParts,
    IndicatorGroup,
    IndicatorMachine,
    IndicatorMeta,
    Pair,
    Targets,
    known_part,
)
from veilleuse.collector.model.sums import KNOWN_STATES, ON_STATES
from veilleuse.collector.ports.stages import Indicator
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, Population

_OUTSIDE: Final = frozenset({Band.NIGHT, Band.CLOSED})


class OutOfHours(Indicator):
    """I1, on outside opening hours.

    Formula: milliseconds on (on_active + on_idle) in the bands night and closed ÷ milliseconds of known state
    in those bands. A closed day (weekend, public holiday, site closure) has no open band: the whole day
    counts.
    Period: any number of whole days. Unit: ratio, 0 to 1. Threshold: 0.05 (ours; LBNL-46930 found only 44 %
    of computers off at night). Direction: lower is better. Owner: system team (shutdown and sleep policy).
    Servers are excluded. Details: kWh drawn in that time; machine-nights on for more than 4 h, "evenings"
    where hours are known (classrooms), "dates" where only days are (workstations).

    Worked example: a PC over one Monday, timetable 08-18: night 8 h, of which 2 h on; closed 6 h, of which 1
    h on: (2 + 1) ÷ (8 + 6) = 0.21428571428571427.
    """

    meta = IndicatorMeta("I1", "on outside opening hours", "ratio", "lower", "system team")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield the figure; none for servers."""
        sums = group.sums
        if sums is None or group.key.population is Population.SERVER:
            return
        threshold = targets.out_of_hours_target_ratio
        on = sums.milliseconds(_OUTSIDE, ON_STATES)
        whole = sums.milliseconds(_OUTSIDE, KNOWN_STATES)
        if on is None or whole is None:
            yield Figure(None, sums.hosts, counted_in=MILLISECONDS, threshold=threshold, withheld=True)
            return
        energy = sums.millijoules(_OUTSIDE, ON_STATES)
        details: dict[str, Detail] = {}
        if energy is not None:
            details["kwh"] = energy / MILLIJOULES_PER_KWH
        if sums.nights is not None and sums.nights_are is not None:
            details["nights_on"] = sums.nights
            details["nights_are"] = sums.nights_are
        value = on / whole if whole else None
        yield Figure(value, sums.hosts, on, whole, MILLISECONDS, details, threshold=threshold)

    def parts(self, figure: Figure) -> GaugeParts:
        """Return the ratio, and the kWh."""
        return known_part(figure.value), known_part(figure.details.get("kwh"))

    def pair(self, machine: IndicatorMachine, _targets: Targets) -> Pair:
        """Return milliseconds on, and of known state, outside opening hours."""
        use = machine.use(*_OUTSIDE)
        return use.on_milliseconds, use.known_milliseconds
