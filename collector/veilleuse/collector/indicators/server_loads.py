# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests a server's load for I6, I7 and I8: p95 by buckets, and minimum observed time. Pure."""

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
"""Lengths of the windows that loads are read for, in days."""
_P95_PERCENT: Final = 95


def is_p95_below(buckets: Sequence[int], edges: Sequence[int], edge: int) -> bool:
    """Tell if at least 95 % of the measured time lies in buckets below `edge`.

    Raises ValueError unless `edge` is in `edges`.
    """
    below = sum(buckets[: edges.index(edge) + 1])
    return below * 100 >= sum(buckets) * _P95_PERCENT


def cpu_p95_below(load: Load, percent: int) -> bool:
    """Test the CPU load."""
    return is_p95_below(load.cpu_buckets, CPU_BUCKET_EDGES_PERCENT, percent)


def memory_p95_below(load: Load, percent: int) -> bool:
    """Test the memory in use."""
    return is_p95_below(load.memory_buckets, MEMORY_BUCKET_EDGES_PERCENT, percent)


def network_p95_below(load: Load, bytes_per_second: int) -> bool:
    """Test the network traffic of others."""
    return is_p95_below(load.network_buckets, NETWORK_RATE_EDGES_BYTES_PER_SECOND, bytes_per_second)


def p95_edge(buckets: Sequence[int], edges: Sequence[int]) -> int | None:
    """Return the lowest edge with at least 95 % of the time below it; None: no such edge, or nothing was
    measured.
    """
    if not sum(buckets):
        return None
    return next((edge for edge in edges if is_p95_below(buckets, edges, edge)), None)


def find_load(machine: IndicatorMachine, days: int, least: float) -> Load | None:
    """Return the load over so many days; None if less than `least` of the days or of the CPU's time on was
    measured.

    `least`: a share, 0 to 1.
    """
    load = machine.loads.get(days)
    if load is None or load.on_milliseconds <= 0 or load.window_milliseconds <= 0:
        return None
    if load.known_milliseconds < least * load.window_milliseconds:
        return None
    return load if sum(load.cpu_buckets) >= least * load.on_milliseconds else None


def is_measured(buckets: Sequence[int], load: Load, least: float) -> bool:
    """Tell if the buckets cover at least `least` of the time on."""
    return sum(buckets) >= least * load.on_milliseconds


def by_verdict(figure: Figure, found: str, other: str, suspects: str | None = None) -> dict[str, float]:
    """Return verdict → servers: `found` for positive, `suspects` for suspect, `other` for the other judged
    servers.

    A server is in one of them: suspects that could not be judged are not in `not_judged` too. Where no server
    could be judged, the result holds only the counts of the others: absent, not 0.
    """
    counts = {
        name: float(figure.details[name]) for name in ("excluded", "not_judged") if name in figure.details
    }
    between = int(figure.details.get("suspects", 0))
    apart = int(figure.details.get("suspects_not_judged", 0))
    if apart:
        counts["not_judged"] -= apart
    if suspects is not None and (between or figure.value is not None):
        counts[suspects] = between
    if figure.value is None or figure.numerator is None or figure.denominator is None:
        return counts
    counts[found] = round(figure.numerator)
    counts[other] = round(figure.denominator - figure.numerator) - (between - apart)
    return counts
