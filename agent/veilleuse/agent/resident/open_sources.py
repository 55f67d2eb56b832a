# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What this machine measures with: its sources, opened, and a ticker over them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from veilleuse.agent.host.machine import Machine, detect_here
from veilleuse.agent.ports import Clock, SourceContext
from veilleuse.agent.resident.poller_child import something_to_poll
from veilleuse.agent.resident.ticker import Ticker
from veilleuse.agent.settings import AgentSettings, Measure
from veilleuse.agent.sources import UNITS, Sources, Unavailable, open_all
from veilleuse.agent.sources.snapshot import PUBLISHED_FILE
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE
from veilleuse.wire.vocabulary import Population, Supply

SALT_FILE: Final = "id/salt"
"""Below the state directory. The sender makes it (identity/clone.py) with the identity, before its first Hello."""


def default_supply(machine: Machine) -> Supply:
    """What feeds a machine of which no source tells: the mains, unless it has a battery."""
    return Supply.UNKNOWN if machine.has_battery else Supply.AC


def open_sources(settings: AgentSettings) -> tuple[Machine, Sources]:
    """What the machine is, and its sources, opened. Raises ConfigurationError on an unknown source."""
    sysfs, procfs = str(settings.paths.sysfs), str(settings.paths.procfs)
    machine = detect_here(sysfs, procfs, device_class=settings.measure.device_class)
    refused = _refused_units(settings.measure)
    context = source_context(settings, machine.virtualisation)
    sources = open_all(settings.measure.sources, context, units=settings.measure.units and refused is None)
    return machine, sources if refused is None else sources._replace(
        unavailable=(*sources.unavailable, refused)
    )


def _refused_units(measure: Measure) -> Unavailable | None:
    """Asked for, but not as it has to be. What an enrolment says of the population is the fold's to heed: only servers keep units."""
    if measure.units and measure.population not in ("", Population.SERVER):
        reason = f"units are told of servers only, and measure.population is {measure.population}"
        return Unavailable(UNITS, "no_permission", reason, "take measure.units out")
    if UNITS in measure.sources and not measure.units:
        return Unavailable(UNITS, "no_permission", "only measure.units chooses it", "measure.units = true")
    return None


def source_context(settings: AgentSettings, virtualisation: str = "none") -> SourceContext:
    """What the sources may know; where the polling process publishes only while there is something to poll."""
    context = SourceContext(
        str(settings.paths.sysfs),
        str(settings.paths.procfs),
        virtualisation,
        settings.measure.fake_watts,
        helper=str(settings.paths.rapl_helper),
        salt=str(settings.paths.state / SALT_FILE),
    )
    polled = something_to_poll(settings, context.devfs)
    return context._replace(published=str(settings.paths.state / PUBLISHED_FILE) if polled else "")


def make_ticker(clock: Clock, machine: Machine, sources: Sources, tick_milliseconds: int) -> Ticker:
    """A ticker over opened sources."""
    return Ticker(
        clock,
        tuple((opened.source, opened.points) for opened in sources.opened),
        sources.load,
        default_supply=default_supply(machine),
        tick_milliseconds=tick_milliseconds,
    )


log = logging.getLogger(__name__)

FIRST_WAIT_MILLISECONDS: Final = 2 * MILLISECONDS_PER_MINUTE
LONGEST_WAIT_MILLISECONDS: Final = MILLISECONDS_PER_HOUR
"""Some thirty looks a day: to ask Windows for its energy meters costs tens of milliseconds."""
_AT_EVERY_LOOK: Final = "polled"
"""It opens nothing: a few looks at names (poller.something_to_poll)."""
_RETRIED: Final = frozenset({"no_device", "no_permission"})
"""A virtual machine stays one, a library is installed with a restart."""


class LateSources:
    """Tries again what was unavailable: at the first looks often, since drivers load while the machine starts, then once an hour."""

    def __init__(self, context: Callable[[], SourceContext]) -> None:
        """`context`: what a source may know now; whether there is something to poll may change."""
        self._context = context
        self._due = 0  # boot-time, ms
        self._wait = FIRST_WAIT_MILLISECONDS

    def look(self, sources: Sources, ticker: Ticker, boottime_milliseconds: int) -> Sources:
        """The sources with those that are there now, and the ticker polls them too."""
        due = boottime_milliseconds >= self._due
        if due:
            self._due = boottime_milliseconds + self._wait
            self._wait = min(2 * self._wait, LONGEST_WAIT_MILLISECONDS)
        wanted = [
            missing.name
            for missing in sources.unavailable
            if missing.name == _AT_EVERY_LOOK or (due and missing.word in _RETRIED)
        ]
        if not wanted:
            return sources
        context = self._context()
        for name in wanted:
            sources, late = sources.tried_again(name, context)
            if late is not None:
                log.info("source available now", extra={"source": name})
                ticker.add(*late)
        return sources
