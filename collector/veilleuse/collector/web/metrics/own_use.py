# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Exports what Veilleuse itself uses: the last published month, and live counters of the collector."""

from __future__ import annotations

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.release.own_rows import OwnPart, whole_use
from veilleuse.collector.release.own_use import OwnMonth
from veilleuse.collector.web.metrics.snapshot import Snapshot
from veilleuse.wire.units import MILLISECONDS_PER_SECOND, joules_from_millijoules
from veilleuse.wire.vocabulary import Population

_DIRECTIONS = ("received", "sent")


def add_own_use(out: Exposition, snapshot: Snapshot, k: int) -> None:
    """Add the samples; what is not known has none.

    Each call moves the collector's CPU time: where few PCs are enrolled, it is absent.
    Bytes are of servers only.
    """
    if snapshot.month_facts.own is not None:
        _month(out, snapshot.month_facts.own, snapshot.fleet.time_zone)
    health = snapshot.health or {}
    if "own_cpu_milliseconds" in health and not snapshot.has_few_pcs(k):
        out.add(c.OWN_COLLECTOR_CPU, (), int(health["own_cpu_milliseconds"]) / MILLISECONDS_PER_SECOND)
    server = Population.SERVER.value
    for direction in _DIRECTIONS:
        counted = (snapshot.health or {}).get(f"{direction}_bytes")
        if isinstance(counted, dict):
            out.add(c.OWN_WIRE, (server, direction), int(counted.get(server, 0)))


def _month(out: Exposition, month: OwnMonth, time_zone: str) -> None:
    out.add(
        c.OWN_START, (), day_start_unix_milliseconds(month.part.first, time_zone) / MILLISECONDS_PER_SECOND
    )
    used = [
        *(
            (OwnPart.AGENTS, one.population.value, one.energy_millijoules, one.cpu_milliseconds)
            for one in month.agents
        ),
        (OwnPart.COLLECTOR, "", month.collector_energy_millijoules, month.collector_cpu_milliseconds),
    ]
    for part, population, energy, milliseconds in used:
        if energy is not None:
            out.add(c.OWN_ENERGY, (part.value, population), joules_from_millijoules(energy))
        if milliseconds is not None:
            out.add(c.OWN_CPU, (part.value, population), milliseconds / MILLISECONDS_PER_SECOND)
    for one in month.agents:
        for direction, number in zip(_DIRECTIONS, (one.received_bytes, one.sent_bytes), strict=True):
            if number is not None:
                out.add(c.OWN_BYTES, (one.population.value, direction), number)
    ratio = whole_use((month,)).get("own_avoidable_ratio")
    if isinstance(ratio, float):
        out.add(c.OWN_AVOIDABLE, (), ratio)
