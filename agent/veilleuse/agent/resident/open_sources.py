# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Opens the sources of this machine, and builds a ticker over them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from veilleuse.agent.host.machine import Machine, detect_here
from veilleuse.agent.platforms import here
from veilleuse.agent.ports import Clock, SourceContext
from veilleuse.agent.resident.poller_child import something_to_poll
from veilleuse.agent.resident.ticker import Ticker
from veilleuse.agent.settings import AgentSettings, Measure
from veilleuse.agent.sources import UNITS, Sources, Unavailable, open_all
from veilleuse.agent.sources.snapshot import PUBLISHED_FILE
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE
from veilleuse.wire.vocabulary import DeviceClass, Population, Supply

_WITH_PANEL: Final = frozenset({DeviceClass.LAPTOP, DeviceClass.ALL_IN_ONE, DeviceClass.UNKNOWN})
SALT_FILE: Final = "id/salt"
"""Path below the state directory.

The sender writes it with the identity (identity/clone.py), before its first Hello.
"""


def default_supply(machine: Machine) -> Supply:
    """Return the supply of a machine whose sources report none: mains, unless it has a battery."""
    return Supply.UNKNOWN if machine.has_battery else Supply.AC


def open_sources(settings: AgentSettings) -> tuple[Machine, Sources]:
    """Detect the machine and open its sources. Raises ConfigurationError on an unknown source."""
    sysfs, procfs = str(settings.paths.sysfs), str(settings.paths.procfs)
    machine = detect_here(sysfs, procfs, device_class=settings.measure.device_class)
    refused = _refused_units(settings.measure)
    context = source_context(settings, machine)
    sources = open_all(settings.measure.sources, context, units=settings.measure.units and refused is None)
    return machine, sources if refused is None else sources._replace(
        unavailable=(*sources.unavailable, refused)
    )


def _refused_units(measure: Measure) -> Unavailable | None:
    """Return the reason why the requested units are refused; None when they are not.

    The population set by an enrolment is checked by the fold instead: only servers keep units.
    """
    if measure.units and measure.population not in ("", Population.SERVER):
        reason = f"units are reported for servers only, and measure.population is {measure.population}"
        return Unavailable(UNITS, "no_permission", reason, "remove measure.units")
    if UNITS in measure.sources and not measure.units:
        return Unavailable(UNITS, "no_permission", "only measure.units chooses it", "measure.units = true")
    return None


def source_context(settings: AgentSettings, machine: Machine | None = None) -> SourceContext:
    """Build the settings that the sources may read; without `machine`, for the names of files only.

    `published` is set only while there is something to poll.
    """
    context = SourceContext(
        str(settings.paths.sysfs),
        str(settings.paths.procfs),
        "none" if machine is None else machine.virtualisation,
        settings.measure.fake_watts,
        helper=str(settings.paths.rapl_helper),
        salt=str(settings.paths.state / SALT_FILE),
        may_have_panel=machine is None or machine.device_class in _WITH_PANEL,
    )
    polled = something_to_poll(settings, context.devfs)
    return context._replace(published=str(settings.paths.state / PUBLISHED_FILE) if polled else "")


def make_ticker(clock: Clock, machine: Machine, sources: Sources, tick_milliseconds: int) -> Ticker:
    """Build a ticker over opened sources."""
    return Ticker(
        clock,
        tuple((opened.source, opened.points) for opened in sources.opened),
        sources.load,
        default_supply=default_supply(machine),
        tick_milliseconds=tick_milliseconds,
        own_cpu=lambda: here.usage()[0],
    )


log = logging.getLogger(__name__)

FIRST_WAIT_MILLISECONDS: Final = 2 * MILLISECONDS_PER_MINUTE
LONGEST_WAIT_MILLISECONDS: Final = MILLISECONDS_PER_HOUR
"""Longest wait before a retry, about thirty a day: asking Windows for its energy meters costs tens of ms."""
_ALWAYS_RETRIED: Final = "polled"
"""Source retried at every call: it opens nothing, it only checks file names (`something_to_poll`)."""
_RETRIED: Final = frozenset({"no_device", "no_permission"})
"""Reasons worth a retry. A virtual machine stays one, and a missing library needs a restart."""


class LateSources:
    """Retries the unavailable sources: often at first, then once an hour.

    The first retries are frequent because drivers load while the machine starts.
    """

    def __init__(self, context: Callable[[], SourceContext]) -> None:
        """Take `context`, called at each retry: the presence of something to poll may change."""
        self._context = context
        self._due = 0  # boot-time, ms
        self._wait = FIRST_WAIT_MILLISECONDS

    def retry_unavailable(self, sources: Sources, ticker: Ticker, boottime_milliseconds: int) -> Sources:
        """Return the sources with those that have become available; the ticker polls these too."""
        due = boottime_milliseconds >= self._due
        if due:
            self._due = boottime_milliseconds + self._wait
            self._wait = min(2 * self._wait, LONGEST_WAIT_MILLISECONDS)
        wanted = [
            missing.name
            for missing in sources.unavailable
            if missing.name == _ALWAYS_RETRIED or (due and missing.word in _RETRIED)
        ]
        if not wanted:
            return sources
        context = self._context()
        for name in wanted:
            sources, late = sources.retry(name, context)
            if late is not None:
                log.info("source available now", extra={"source": name})
                ticker.add(*late)
        return sources
