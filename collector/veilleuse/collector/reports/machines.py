# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Machines as the sobriety indicators take them: what they did, how busy, what they draw at rest, where they stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

from veilleuse.collector.derive.priors import STATE_POWERS
from veilleuse.collector.indicators.server_loads import WINDOWS
from veilleuse.collector.model.calibration import CalibrationBook
from veilleuse.collector.model.indicators import BandUse, Load, Machine, PowerPlan, added, use_of
from veilleuse.collector.model.inventory import Asset
from veilleuse.collector.model.records import Host, HostId
from veilleuse.collector.reports.kept_months import is_enrolled
from veilleuse.collector.reports.sobriety_sources import SobrietySources
from veilleuse.wire.limits import AGENT_ID_DIGITS
from veilleuse.wire.vocabulary import Band, Population, State


class Stretch(NamedTuple):
    """When."""

    months: tuple[date, date]
    """The whole months looked at, end exclusive; equal where there is none."""
    until: date
    """Loads of servers are of the days before."""
    last_day: date


def machines_of(
    sources: SobrietySources, stretch: Stretch, hosts: Sequence[Host], assets: Sequence[Asset]
) -> tuple[Machine, ...]:
    """Of `hosts`, every machine that is enrolled or was observed, where it stood on the last day."""
    bands: dict[HostId, dict[Band, BandUse]] = {}
    chosen = {host.host_id for host in hosts}
    first, end = stretch.months
    for row in sources.base.periods.host_periods(first, end) if first < end else ():
        if row.host_id not in chosen:
            continue
        of_host, use = bands.setdefault(row.host_id, {}), use_of(row.values)
        of_host[row.band] = added(of_host[row.band], use) if row.band in of_host else use
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
) -> Machine:
    placed = asset.placed(day) if asset else None
    return Machine(
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
    )


def _standby(host: Host, book: CalibrationBook) -> tuple[int | None, int | None]:
    """Microwatts off and asleep: calibrated for the model, else the class's; None of a virtual machine."""
    powers = STATE_POWERS.get(host.facts.device_class)
    if powers is None:
        return None, None
    calibration = book.of(host.facts)
    found = []
    for state, prior in ((State.OFF, powers.off_microwatts), (State.ASLEEP, powers.sleep_microwatts)):
        fit = calibration.standby(state) if calibration else None
        found.append(prior if fit is None else fit.power()[0])
    return found[0], found[1]
