# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the machines of the sobriety indicators: their use, load, standby power and place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple

from veilleuse.collector.calendars.periods import add_months
from veilleuse.collector.derive.loadmodel import thread_slope_microwatts
from veilleuse.collector.documents.document import Row, Value
from veilleuse.collector.fleet.census import default_context
from veilleuse.collector.indicators.comatose_server import verdict
from veilleuse.collector.indicators.oversized_server import is_oversized
from veilleuse.collector.indicators.server_loads import (
    COMATOSE_DAYS,
    OVERSIZED_DAYS,
    UNDERUSED_DAYS,
    WINDOWS,
    find_load,
    p95_edge,
)
from veilleuse.collector.indicators.underused_server import is_underused
from veilleuse.collector.model.calibration import CalibrationBook
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.indicators import (
    BandUse,
    IndicatorMachine,
    Load,
    PowerPlan,
    ServerVerdict,
    Targets,
    add_uses,
    use_of,
)
from veilleuse.collector.model.inventory import Asset
from veilleuse.collector.model.months import OWN_CPU
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.reports.inputs import is_enrolled
from veilleuse.collector.reports.readers import SobrietySources
from veilleuse.collector.shipped_tables import STATE_POWERS
from veilleuse.wire.limits import (
    AGENT_ID_DIGITS,
    CPU_BUCKET_EDGES_PERCENT,
    MEMORY_BUCKET_EDGES_PERCENT,
    NETWORK_RATE_EDGES_BYTES_PER_SECOND,
)
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, Population, State


class Stretch(NamedTuple):
    """Months and days of an indicators report."""

    months: tuple[date, date]
    """Whole months of the period, end exclusive; equal when there is none."""
    until: date
    """Exclusive end of the days of server loads."""
    last_day: date


def stretch_of(query: Query) -> Stretch:
    """Return the whole ended months inside the period, and its last day that has begun."""
    first = query.first if query.first.day == 1 else add_months(query.first, 1)
    end = min(query.end, query.today).replace(day=1)
    last = max(query.first, min(query.end - timedelta(days=1), query.today))
    return Stretch((first, max(first, end)), min(query.end, query.today), last)


def machines_of(
    sources: SobrietySources, stretch: Stretch, hosts: Sequence[Host], assets: Sequence[Asset]
) -> tuple[IndicatorMachine, ...]:
    """Return the machines of `hosts` that are enrolled or were observed, at their place on the last day."""
    bands: dict[HostId, dict[Band, BandUse]] = {}
    own: Counter[HostId] = Counter()
    chosen = {host.host_id for host in hosts}
    first, end = stretch.months
    for row in sources.base.periods.host_periods(first, end) if first < end else ():
        if row.host_id not in chosen:
            continue
        of_host, use = bands.setdefault(row.host_id, {}), use_of(row.values)
        of_host[row.band] = add_uses(of_host[row.band], use) if row.band in of_host else use
        own[row.host_id] += row.value(OWN_CPU)
    servers = any(host.population is Population.SERVER for host in hosts)
    loads = sources.loads.server_loads(stretch.until, WINDOWS) if servers else {}
    matched = {host_id: asset for asset in assets for host_id in asset.host_ids}
    book = sources.loads.book()
    return tuple(
        _machine(
            host,
            matched.get(host.host_id),
            bands.get(host.host_id, {}),
            loads.get(host.host_id, {}),
            _standby(host, book),
            stretch.last_day,
            own[host.host_id],
        )
        for host in hosts
        if host.host_id in bands or is_enrolled(host, stretch.until)
    )


def _machine(
    host: Host,
    asset: Asset | None,
    bands: Mapping[Band, BandUse],
    loads: Mapping[int, Load],
    standby: tuple[int | None, int | None],
    day: date,
    own_cpu_milliseconds: int,
) -> IndicatorMachine:
    placed = asset.placement_on(day) if asset else None
    return IndicatorMachine(
        host.host_id,
        host.agent_id.hex()[:AGENT_ID_DIGITS],
        placed.entity if placed and placed.entity else host.org_entity,
        placed.site if placed and placed.site else host.site,
        host.population,
        host.facts.device_class,
        PowerPlan(host.facts.display_off_ac_seconds, host.facts.sleep_ac_seconds),
        *standby,
        bands,
        loads if host.population is Population.SERVER else {},
        asset.server_role if asset else None,
        sum(use.known_milliseconds for use in bands.values()),
        own_cpu_milliseconds,
        thread_slope_microwatts(host.facts),
        asset.power_context if asset else default_context(host.population),
    )


def _standby(host: Host, book: CalibrationBook) -> tuple[int | None, int | None]:
    """Return the power (off, asleep) in µW: calibrated for the model, else the class's prior.

    Both are None for a virtual machine.
    """
    powers = STATE_POWERS.get(host.facts.device_class)
    if powers is None:
        return None, None
    calibration = book.of(host.facts)
    found = []
    for state, prior in ((State.OFF, powers.off_microwatts), (State.ASLEEP, powers.sleep_microwatts)):
        fit = calibration.standby(state) if calibration else None
        found.append(prior if fit is None else fit.power()[0])
    return found[0], found[1]


_ORDER: Final = {kind: place for place, kind in enumerate(ServerVerdict)}


def server_rows(machines: Iterable[IndicatorMachine], targets: Targets, *, data: str) -> list[Row]:
    """Return the servers' rows, comatose servers first, then by energy."""
    servers = [one for one in machines if one.population is Population.SERVER]
    servers.sort(key=lambda one: (_ORDER[verdict(one, targets)], -one.use().derived_millijoules, one.label))
    return [_row(one, targets, data) for one in servers]


def _row(one: IndicatorMachine, targets: Targets, data: str) -> Row:
    short = find_load(one, UNDERUSED_DAYS, targets.observed_ratio)
    middle = find_load(one, OVERSIZED_DAYS, targets.observed_ratio)
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
        "quiet_180_days_ratio": _quiet_ratio(long, targets) if long else None,
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


def _quiet_ratio(load: Load, targets: Targets) -> float | None:
    """Return the share of measured time on with traffic below I6's threshold; None without measured time."""
    place = NETWORK_RATE_EDGES_BYTES_PER_SECOND.index(targets.comatose_network_bytes_per_second)
    return _ratio(sum(load.network_buckets[: place + 1]), sum(load.network_buckets))


def _ratio(part: int | None, whole: int) -> float | None:
    return None if part is None or not whole else part / whole
