# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I2: idle while on."""

from __future__ import annotations

from collections.abc import Iterable

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
from veilleuse.collector.model.sums import ON_STATES
from veilleuse.collector.ports.stages import Indicator
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, State

_ALL = frozenset(Band)


class IdleWhileOn(Indicator):
    """I2, idle while on.

    Formula: milliseconds on_idle ÷ milliseconds on (on_active + on_idle), in every band; idle is CPU < 5 %
    and disk + network < 100 kB/s over a tick, never keyboard or pointer. Details: the part of the on-time in
    idle runs beyond their first 15, 30 and 60 minutes (reading a PDF is not waste), absent when never
    measured; kWh while idle.
    Period: any. Unit: ratio, 0 to 1. Threshold: none yet. Direction: lower is better. Owner: system team.

    Worked example: 8 h on, of which 3 h idle, 1 h of it beyond 15 minutes and half an hour beyond 60: 3 ÷ 8 =
    0.375; beyond 15 min 1 ÷ 8 = 0.125; beyond 60 min 0.5 ÷ 8 = 0.0625.
    """

    meta = IndicatorMeta("I2", "idle while on", "ratio", "lower", "system team")

    def figures(self, group: IndicatorGroup, _targets: Targets) -> Iterable[Figure]:
        """Yield the figure of any population."""
        sums = group.sums
        if sums is None:
            return
        idle = sums.milliseconds(_ALL, frozenset({State.ON_IDLE}))
        on = sums.milliseconds(_ALL, ON_STATES)
        if idle is None or on is None:
            yield Figure(None, sums.hosts, counted_in=MILLISECONDS, withheld=True)
            return
        details: dict[str, Detail] = {}
        cells = [cell for (_, state), cell in sums.states.items() if state is State.ON_IDLE]
        runs = {
            "beyond_15_minutes_ratio": [cell.idle_beyond_15_minutes_milliseconds for cell in cells],
            "beyond_30_minutes_ratio": [cell.idle_beyond_30_minutes_milliseconds for cell in cells],
            "beyond_60_minutes_ratio": [cell.idle_beyond_60_minutes_milliseconds for cell in cells],
        }
        for name, values in runs.items():
            measured = [value for value in values if value is not None]
            if measured and on:
                details[name] = sum(measured) / on
        energy = sums.millijoules(_ALL, frozenset({State.ON_IDLE}))
        if energy is not None:
            details["kwh"] = energy / MILLIJOULES_PER_KWH
        yield Figure(idle / on if on else None, sums.hosts, idle, on, MILLISECONDS, details)

    def parts(self, figure: Figure) -> GaugeParts:
        """Return the ratio, and the kWh."""
        return known_part(figure.value), known_part(figure.details.get("kwh"))

    def pair(self, machine: IndicatorMachine, _targets: Targets) -> Pair:
        """Return milliseconds idle, and on."""
        use = machine.use()
        return use.on_idle_milliseconds, use.on_milliseconds
