# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R18 for the outlets: how much of the last whole days and weeks nobody accounts for, per population."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.model import Grain, Host, HostId
from veilleuse.collector.ports import Reader
from veilleuse.wire.vocabulary import Population

KEEP_SECONDS: Final = 600.0
"""A balance reads the hours of a week: not at every scrape."""
DAYS: Final = 7
WEEKS: Final = 3
"""Workstations call once a day, and some days not: the newest closed week is seldom complete before the next one."""


@dataclass(frozen=True, slots=True)
class Account:
    """Of one population, over its last whole periods."""

    population: Population
    periods: int
    """Machine-days, or machine-weeks of workstations; > 0."""
    unexplained_milliseconds: int
    excess_milliseconds: int


class Accounts:
    """Takes balances now and then. Not thread-safe: one at a time."""

    def __init__(self, reader: Reader, clock: Callable[[], float]) -> None:
        """`clock`: Unix seconds."""
        self._reader = reader
        self._clock = clock
        self._days: tuple[float, tuple[Account, ...]] | None = None
        self._weeks: tuple[date, tuple[Account, ...]] | None = None

    def look(self, hosts: Mapping[HostId, Host], today: date) -> tuple[Account, ...]:
        """Servers and classroom PCs as of at most ten minutes ago; workstations as of the first look of the day, so that no
        scrape tells when one of them called (PROMISES.md P14)."""
        if self._days is None or self._clock() >= self._days[0]:
            self._days = (self._clock() + KEEP_SECONDS, self._taken(hosts, Grain.DAY, today, DAYS))
        if self._weeks is None or self._weeks[0] != today:
            self._weeks = (today, self._taken(hosts, Grain.WEEK, today, 7 * WEEKS + today.weekday()))
        return (*self._days[1], *self._weeks[1])

    def _taken(
        self, hosts: Mapping[HostId, Host], grain: Grain, today: date, days: int
    ) -> tuple[Account, ...]:
        if grain is Grain.WEEK and all(h.population is not Population.WORKSTATION for h in hosts.values()):
            return ()
        periods: Counter[Population] = Counter()
        unexplained: Counter[Population] = Counter()
        excess: Counter[Population] = Counter()
        for row in self._reader.balance(today - timedelta(days=days), today - timedelta(days=1)):
            host = hosts.get(row.host_id)
            if host is not None and row.grain is grain:
                periods[host.population] += 1
                unexplained[host.population] += row.unexplained_milliseconds
                excess[host.population] += row.excess_milliseconds
        return tuple(
            Account(one, number, unexplained[one], excess[one]) for one, number in sorted(periods.items())
        )
