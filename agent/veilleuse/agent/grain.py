# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How finely a machine measures and how often it sends: the local file and the population are the ceiling. DESIGN.md §3."""

from __future__ import annotations

from typing import Final, NamedTuple

from veilleuse.agent.errors import ConfigurationError
from veilleuse.agent.settings import CONTACT_SECONDS, AgentSettings
from veilleuse.agent.trial import coarser
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.limits import HOUR_MILLISECONDS
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

SHORTEST_PERIOD_SECONDS: Final = 10
DEFAULT_PERIOD_SECONDS: Final = {
    Population.SERVER: 300,
    Population.CLASSROOM: 3_600,
    Population.WORKSTATION: 3_600,
}


class Grain(NamedTuple):
    """How finely and how often, once the collector's configuration has made it coarser or rarer."""

    tick_milliseconds: int
    period_milliseconds: int
    contact_seconds: int


def grain_of(settings: AgentSettings, population: Population, remote: Configuration) -> Grain:
    """The local file and the population are the ceiling: nothing gets shorter than they say. Raises ConfigurationError."""
    period = period_milliseconds(settings, population)
    if population is Population.SERVER:
        period = coarser(period, remote.period_milliseconds)
    tick = coarser(round(settings.measure.tick_seconds * MILLISECONDS_PER_SECOND), remote.tick_milliseconds)
    contact = (settings.collector.contact_seconds or CONTACT_SECONDS[population]) * MILLISECONDS_PER_SECOND
    rarer = coarser(contact, remote.contact_milliseconds)
    return Grain(min(tick, period), period, rarer // MILLISECONDS_PER_SECOND)


def period_milliseconds(settings: AgentSettings, population: Population) -> int:
    """Length of a record. Raises ConfigurationError when the setting does not divide an hour, or is under 10 s."""
    seconds = settings.measure.period_seconds or DEFAULT_PERIOD_SECONDS[population]
    if seconds < SHORTEST_PERIOD_SECONDS or HOUR_MILLISECONDS % (seconds * MILLISECONDS_PER_SECOND):
        raise ConfigurationError(
            f"'measure.period_seconds' is {seconds}: use a divisor of 3600 from {SHORTEST_PERIOD_SECONDS} up, e.g. 60 or 300"
        )
    if population is not Population.SERVER:
        seconds = DEFAULT_PERIOD_SECONDS[population]  # a classroom's hour is its finest grain
    return seconds * MILLISECONDS_PER_SECOND
