# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What I6, I7 and I8 ask of a server's load: p95 by buckets, and whether it was observed for long enough (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from veilleuse.collector.model.indicators import Figure, IndicatorMachine, Load
from veilleuse.wire.limits import (
    CPU_BUCKET_EDGES_PERCENT,
    MEMORY_BUCKET_EDGES_PERCENT,
    NETWORK_RATE_EDGES_BYTES_PER_SECOND,
)

COMATOSE_DAYS: Final = 180
SUSPECT_DAYS: Final = 30
UNDERUSED_DAYS: Final = 30
OVERSIZED_DAYS: Final = 90
WINDOWS: Final = (SUSPECT_DAYS, OVERSIZED_DAYS, COMATOSE_DAYS)
"""Days that loads are asked for."""
_P95_PERCENT: Final = 95


def is_p95_below(buckets: Sequence[int], edges: Sequence[int], edge: int) -> bool:
    """At least 95 % of the measured time lies in buckets below `edge`, which is one of `edges`. Raises ValueError otherwise."""
    below = sum(buckets[: edges.index(edge) + 1])
    return below * 100 >= sum(buckets) * _P95_PERCENT


def cpu_p95_below(load: Load, percent: int) -> bool:
    """Of the CPU."""
    return is_p95_below(load.cpu_buckets, CPU_BUCKET_EDGES_PERCENT, percent)


def memory_p95_below(load: Load, percent: int) -> bool:
    """Of the memory in use."""
    return is_p95_below(load.memory_buckets, MEMORY_BUCKET_EDGES_PERCENT, percent)


def network_p95_below(load: Load, bytes_per_second: int) -> bool:
    """Of others' traffic."""
    return is_p95_below(load.network_buckets, NETWORK_RATE_EDGES_BYTES_PER_SECOND, bytes_per_second)


def p95_edge(buckets: Sequence[int], edges: Sequence[int]) -> int | None:
    """The lowest edge that 95 % of the time lies below; None: none does, or nothing was measured."""
    if not sum(buckets):
        return None
    return next((edge for edge in edges if is_p95_below(buckets, edges, edge)), None)


def observed(machine: IndicatorMachine, days: int, least: float) -> Load | None:
    """Its load over so many days, when at least that share of them was observed and of its time on measured; None otherwise."""
    load = machine.loads.get(days)
    if load is None or load.on_milliseconds <= 0 or load.window_milliseconds <= 0:
        return None
    if load.known_milliseconds < least * load.window_milliseconds:
        return None
    return load if sum(load.cpu_buckets) >= least * load.on_milliseconds else None


def is_measured(buckets: Sequence[int], load: Load, least: float) -> bool:
    """Whether a list of buckets covers enough of the time on."""
    return sum(buckets) >= least * load.on_milliseconds


def by_verdict(figure: Figure, found: str, other: str, suspects: str | None = None) -> dict[str, float]:
    """Verdict → servers: `found` of those that the indicator is about, `other` of the other ones that could be judged, `suspects` of those
    between. Where none could be judged only how many could not: nobody knows that none is found."""
    counts = {
        name: float(figure.details[name]) for name in ("excluded", "not_judged") if name in figure.details
    }
    if figure.value is None or figure.numerator is None or figure.denominator is None:
        return counts
    between = int(figure.details.get("suspects", 0))
    if suspects is not None:
        counts[suspects] = between
    counts[found] = round(figure.numerator)
    counts[other] = round(figure.denominator - figure.numerator) - between
    return counts
