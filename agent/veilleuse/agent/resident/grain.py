# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Chooses the record length, the tick and the contact interval. docs/privacy.md §1.

No interval is shorter than the local file and the population allow.
"""

from __future__ import annotations

from datetime import date
from typing import Final, NamedTuple

from veilleuse.agent.errors import ConfigurationError
from veilleuse.agent.remote_config import choose_longer
from veilleuse.agent.settings import CONTACT_SECONDS, AgentSettings
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.limits import HOUR_MILLISECONDS
from veilleuse.wire.units import (
    MILLISECONDS_PER_DAY,
    MILLISECONDS_PER_MINUTE,
    MILLISECONDS_PER_SECOND,
    UNIX_EPOCH_DAY,
)
from veilleuse.wire.vocabulary import Population

SHORTEST_PERIOD_SECONDS: Final = 10
_FIRST_DAY: Final = date(2024, 1, 1).toordinal()
"""First plausible day, as state.EARLIEST_UNIX_MILLISECONDS.

Before it the clock is not set yet, and it is not known whether a day is over.
"""
DEFAULT_PERIOD_SECONDS: Final = {
    Population.SERVER: 300,
    Population.CLASSROOM: 3_600,
    Population.WORKSTATION: 3_600,
}


class Grain(NamedTuple):
    """Intervals of measuring and sending, after the collector's configuration has made them longer."""

    tick_milliseconds: int
    period_milliseconds: int
    contact_seconds: int


def grain_of(
    settings: AgentSettings, population: Population, remote: Configuration, unix_milliseconds: int
) -> Grain:
    """Return the grain to use now. Raises ConfigurationError.

    The collector's configuration can only make an interval longer than the local file and the population set.
    """
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
    """Return the length of a record at that time, in ms.

    Raises ConfigurationError when the setting does not divide an hour, or is under 10 s.
    """
    seconds = settings.measure.period_seconds or DEFAULT_PERIOD_SECONDS[population]
    if seconds < SHORTEST_PERIOD_SECONDS or HOUR_MILLISECONDS % (seconds * MILLISECONDS_PER_SECOND):
        raise ConfigurationError(
            f"'measure.period_seconds' is {seconds}: use a divisor of 3600 from {SHORTEST_PERIOD_SECONDS} up,"
            " e.g. 60 or 300"
        )
    fine = seconds * MILLISECONDS_PER_SECOND < MILLISECONDS_PER_MINUTE
    if population is not Population.SERVER or (
        fine and _is_over(settings.measure.fine_until, unix_milliseconds)
    ):
        seconds = DEFAULT_PERIOD_SECONDS[population]  # a classroom's finest grain is one hour
    return seconds * MILLISECONDS_PER_SECOND


def _is_over(last_day: str, unix_milliseconds: int) -> bool:
    """Tell whether the day YYYY-MM-DD has ended in UTC, or may have; an empty day never ends."""
    if not last_day:
        return False
    today = unix_milliseconds // MILLISECONDS_PER_DAY + UNIX_EPOCH_DAY
    return not _FIRST_DAY <= today <= date.fromisoformat(last_day).toordinal()
