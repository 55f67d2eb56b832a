# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I7: under-used servers."""

from __future__ import annotations

from collections.abc import Iterable

from veilleuse.collector.indicators.server_loads import UNDERUSED_DAYS, by_verdict, cpu_p95_below, find_load
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


class UnderusedServer(Indicator):
    """I7, under-used servers.

    Formula: under-used servers ÷ servers that could be judged. Under-used: over the last 30 days, a mean CPU
    below 10 % and at least 95 % of the time on in CPU buckets below 30 %. A server is judged if it was
    observed for 90 % of these days, with CPU measured for 90 % of its time on.
    Period: the 30 days before the end of the period asked. Unit: ratio, 0 to 1.
    Threshold: none for the share; the test's own are `indicators.underused_mean_cpu_ratio` and
    `indicators.underused_cpu_percent` (an edge of the buckets), ours. Direction: lower is better. Owner:
    operations.

    Worked example: three servers: mean 4 %, 97 % of the time below 30 %; mean 4 %, 94 % below 30 %; mean 12
    %, always below 30 %: 1 ÷ 3 = 0.3333333333333333.
    """

    meta = IndicatorMeta("I7", "under-used servers", "ratio", "lower", "operations")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield the figure of servers."""
        servers = [one for one in group.machines if one.population is Population.SERVER]
        if not servers:
            return
        verdicts = [is_underused(one, targets) for one in servers]
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
        return (by_verdict(figure, "underused", "in_use"),)

    def pair(self, machine: IndicatorMachine, targets: Targets) -> Pair:
        """Return (numerator, denominator) of one machine: is it under-used?"""
        return judged(is_underused(machine, targets))


def is_underused(machine: IndicatorMachine, targets: Targets) -> bool | None:
    """Judge one server; None when it cannot be judged."""
    load = find_load(machine, UNDERUSED_DAYS, targets.observed_ratio)
    if load is None or load.cpu_covered_milliseconds <= 0:
        return None
    mean = load.cpu_busy_milliseconds / load.cpu_covered_milliseconds
    return mean < targets.underused_mean_cpu_ratio and cpu_p95_below(load, targets.underused_cpu_percent)
