# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I8: oversized servers."""

from __future__ import annotations

from collections.abc import Iterable

from veilleuse.collector.indicators.server_loads import (
    OVERSIZED_DAYS,
    by_verdict,
    cpu_p95_below,
    find_load,
    is_measured,
    memory_p95_below,
)
from veilleuse.collector.model.indicators import (
    Figure,
    GaugeParts,
    IndicatorGroup,
    IndicatorMachine,
    IndicatorMeta,
    Pair,
    Targets,
    judged,
)
from veilleuse.collector.ports.stages import Indicator
from veilleuse.wire.vocabulary import Population


class OversizedServer(Indicator):
    """I8, oversized servers: the next smaller class would be enough.

    Formula: oversized servers ÷ servers that could be judged. A server is oversized if three tests hold for
    its measured time on over the last 90 days: at least 95 % in CPU buckets below 20 %; at least 95 % in
    memory buckets below 40 %; at most 1 % with any core at 80 % or more. A server is judged if it was
    observed for 90 % of these days, with cores measured, and with CPU and memory measured for 90 % of its
    time on. The result is evidence for a purchase, not a number of joules.
    Period: the 90 days before the end of the period asked. Unit: ratio, 0 to 1.
    Threshold: none for the share; the test's own are `indicators.oversized_cpu_percent`,
    `indicators.oversized_memory_percent` (edges of buckets) and `indicators.oversized_core_ratio`, ours.
    Direction: lower is better. Owner: operations, at renewal the buyer.

    Worked example: four servers, all with 96 % of the time below 20 % CPU and 40 % memory: one with 0.5 % of
    a busy core, one with 2 %, one with exactly 1 %, one whose memory was never measured: 2 ÷ 3 =
    0.6666666666666666.
    """

    meta = IndicatorMeta("I8", "oversized servers", "ratio", "lower", "operations")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield the figure of servers."""
        servers = [one for one in group.machines if one.population is Population.SERVER]
        if not servers:
            return
        verdicts = [is_oversized(one, targets) for one in servers]
        known = sum(one is not None for one in verdicts)
        found = sum(one is True for one in verdicts)
        yield Figure(
            found / known if known else None,
            len(servers),
            found,
            known,
            details={"not_judged": len(servers) - known},
        )

    def parts(self, figure: Figure) -> GaugeParts:
        """Return servers by verdict."""
        return (by_verdict(figure, "oversized", "fitting"),)

    def pair(self, machine: IndicatorMachine, targets: Targets) -> Pair:
        """Return (numerator, denominator) of one machine: is it oversized?"""
        return judged(is_oversized(machine, targets))


def is_oversized(machine: IndicatorMachine, targets: Targets) -> bool | None:
    """Judge one server; None when it cannot be judged."""
    load = find_load(machine, OVERSIZED_DAYS, targets.observed_ratio)
    if load is None or load.any_core_busy_milliseconds is None:
        return None
    if not is_measured(load.memory_buckets, load, targets.observed_ratio):
        return None
    return (
        cpu_p95_below(load, targets.oversized_cpu_percent)
        and load.any_core_busy_milliseconds <= targets.oversized_core_ratio * sum(load.cpu_buckets)
        and memory_p95_below(load, targets.oversized_memory_percent)
    )
