# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How finely a machine measures and how often it sends: the local file and the population are the ceiling. docs/privacy.md §1."""

from __future__ import annotations

from datetime import date
from typing import Final, NamedTuple

from veilleuse.agent.errors import ConfigurationError
from veilleuse.agent.remote_config import choose_longer
from veilleuse.agent.settings import CONTACT_SECONDS, AgentSettings
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.limits import HOUR_MILLISECONDS
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_MINUTE, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

SHORTEST_PERIOD_SECONDS: Final = 10
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_FIRST_DAY: Final = date(2024, 1, 1).toordinal()
"""As state.EARLIEST_UNIX_MILLISECONDS: before it the clock is not set yet, and nobody knows whether a day is over."""
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


def grain_of(
    settings: AgentSettings, population: Population, remote: Configuration, unix_milliseconds: int
) -> Grain:
    """The local file and the population are the ceiling: nothing gets shorter than they say, now. Raises ConfigurationError."""
    period = period_milliseconds(settings, population, unix_milliseconds)
    if population is Population.SERVER:
        period = choose_longer(period, remote.period_milliseconds)
    tick = choose_longer(
        round(settings.measure.tick_seconds * MILLISECONDS_PER_SECOND), remote.tick_milliseconds
    )
    contact = (settings.collector.contact_seconds or CONTACT_SECONDS[population]) * MILLISECONDS_PER_SECOND
    rarer = choose_longer(contact, remote.contact_milliseconds)
    return Grain(min(tick, period), period, rarer // MILLISECONDS_PER_SECOND)


def period_milliseconds(settings: AgentSettings, population: Population, unix_milliseconds: int) -> int:
    """Length of a record, at that time. Raises ConfigurationError when the setting does not divide an hour, or is under 10 s."""
    seconds = settings.measure.period_seconds or DEFAULT_PERIOD_SECONDS[population]
    if seconds < SHORTEST_PERIOD_SECONDS or HOUR_MILLISECONDS % (seconds * MILLISECONDS_PER_SECOND):
        raise ConfigurationError(
            f"'measure.period_seconds' is {seconds}: use a divisor of 3600 from {SHORTEST_PERIOD_SECONDS} up, e.g. 60 or 300"
        )
    fine = seconds * MILLISECONDS_PER_SECOND < MILLISECONDS_PER_MINUTE
    if population is not Population.SERVER or (
        fine and _is_over(settings.measure.fine_until, unix_milliseconds)
    ):
        seconds = DEFAULT_PERIOD_SECONDS[population]  # a classroom's hour is its finest grain
    return seconds * MILLISECONDS_PER_SECOND


def _is_over(last_day: str, unix_milliseconds: int) -> bool:
    """Whether a day given as YYYY-MM-DD has ended, in UTC, or may have; an empty one never does."""
    if not last_day:
        return False
    today = unix_milliseconds // MILLISECONDS_PER_DAY + _EPOCH_DAY
    return not _FIRST_DAY <= today <= date.fromisoformat(last_day).toordinal()
