# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""I6, I7 and I8 server by server, for operations: which ones, and why. Never published; servers are nobody's (DESIGN.md §7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from veilleuse.collector.documents.document import Row, Value
from veilleuse.collector.indicators.comatose_server import verdict
from veilleuse.collector.indicators.oversized_server import is_oversized
from veilleuse.collector.indicators.server_loads import (
    COMATOSE_DAYS,
    OVERSIZED_DAYS,
    UNDERUSED_DAYS,
    observed,
    p95_edge,
)
from veilleuse.collector.indicators.underused_server import is_underused
from veilleuse.collector.model.indicators import Load, Machine, Targets, Verdict
from veilleuse.wire.limits import (
    CPU_BUCKET_EDGES_PERCENT,
    MEMORY_BUCKET_EDGES_PERCENT,
    NETWORK_RATE_EDGES_BYTES_PER_SECOND,
)
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Population

_ORDER: Final = {kind: place for place, kind in enumerate(Verdict)}


def server_rows(machines: Iterable[Machine], targets: Targets, *, data: str) -> list[Row]:
    """Comatose ones first, then by what they draw."""
    servers = [one for one in machines if one.population is Population.SERVER]
    servers.sort(key=lambda one: (_ORDER[verdict(one, targets)], -one.use().derived_millijoules, one.label))
    return [_row(one, targets, data) for one in servers]


def _row(one: Machine, targets: Targets, data: str) -> Row:
    short = observed(one, UNDERUSED_DAYS, targets.observed_ratio)
    middle = observed(one, OVERSIZED_DAYS, targets.observed_ratio)
    long = one.loads.get(COMATOSE_DAYS)
    use = one.use()
    values: dict[str, Value | None] = {
        "server": one.label,
        "entity": one.entity,
        "site": one.site,
        "device_class": one.device_class.value,
        "server_role": one.role.value if one.role else None,
        "comatose": verdict(one, targets).value,
        "under_used": is_underused(one, targets),
        "oversized": is_oversized(one, targets),
        "observed_180_days_ratio": _ratio(long.known_milliseconds, long.window_milliseconds) if long else 0.0,
        "quiet_180_days_ratio": _quiet(long, targets) if long else None,
        "mean_cpu_30_days_ratio": _ratio(short.cpu_busy_milliseconds, short.cpu_covered_milliseconds)
        if short
        else None,
        "cpu_p95_90_days_below_percent": p95_edge(middle.cpu_buckets, CPU_BUCKET_EDGES_PERCENT)
        if middle
        else None,
        "memory_p95_90_days_below_percent": p95_edge(middle.memory_buckets, MEMORY_BUCKET_EDGES_PERCENT)
        if middle
        else None,
        "core_busy_90_days_ratio": _ratio(middle.any_core_busy_milliseconds, sum(middle.cpu_buckets))
        if middle
        else None,
        "kwh": use.derived_millijoules / MILLIJOULES_PER_KWH if use.derived_milliseconds else None,
        "data": data,
    }
    return {name: value for name, value in values.items() if value is not None}


def _quiet(load: Load, targets: Targets) -> float | None:
    """Share of its measured time on below I6's rate of others' traffic."""
    place = NETWORK_RATE_EDGES_BYTES_PER_SECOND.index(targets.comatose_network_bytes_per_second)
    return _ratio(sum(load.network_buckets[: place + 1]), sum(load.network_buckets))


def _ratio(part: int | None, whole: int) -> float | None:
    return None if part is None or not whole else part / whole
