# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A short look at what this machine measures, for `veilleuse-agent once`. Not in the resident process."""

from __future__ import annotations

from typing import NamedTuple

from veilleuse.agent.host.machine import Machine
from veilleuse.agent.model import Reading, Record, Tick
from veilleuse.agent.platforms.clock import SystemClock
from veilleuse.agent.ports import Clock
from veilleuse.agent.resident.fold import Fold
from veilleuse.agent.resident.open_sources import make_ticker, open_sources
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources import Sources
from veilleuse.wire.limits import HOUR_MILLISECONDS
from veilleuse.wire.vocabulary import Population


class Glance(NamedTuple):
    """What a short look at this machine gives."""

    machine: Machine
    sources: Sources
    """Closed already; what was opened and what is not available."""
    readings: tuple[tuple[str, Reading], ...]
    """(source, reading) of the last poll."""
    ticks: tuple[Tick, ...]
    records: tuple[Record, ...]
    """One, or two over an hour's edge; as a server would keep it, not filled up. Nothing of it is stored or sent."""


def once(settings: AgentSettings, seconds: float, clock: Clock | None = None) -> Glance:
    """Two polls `seconds` apart. Raises ConfigurationError."""
    if clock is not None:
        return _glance(settings, seconds, clock)
    own_clock = SystemClock(str(settings.paths.procfs))
    try:
        return _glance(settings, seconds, own_clock)
    finally:
        own_clock.close()


def _glance(settings: AgentSettings, seconds: float, clock: Clock) -> Glance:
    machine, sources = open_sources(settings)
    try:
        ticker = make_ticker(clock, machine, sources, round(seconds * 1000))
        ticker.tick()
        clock.sleep(round(seconds * 1000))
        _, ticks = ticker.tick(last=True)
    finally:
        sources.close()
    fold = Fold(Population.SERVER, HOUR_MILLISECONDS)
    closed = [record for tick in ticks for record in fold.add(tick)]
    readings = tuple((polled.source.name, reading) for polled in ticker.polled for reading in polled.readings)
    return Glance(machine, sources, readings, ticks, (*closed, *fold.flush()))
