# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R18 for the outlets: how much of the last whole days of servers nobody accounts for. Of PCs it is in reports and `veilleuse doctor`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.disclosure import EXEMPT
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.records import HostId
from veilleuse.collector.ports import Reader
from veilleuse.wire.vocabulary import Population

KEEP_SECONDS: Final = 600.0
"""A balance reads the hours of a week: not at every scrape."""
DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class PopulationBalance:
    """Of one population, over its last whole periods."""

    population: Population
    periods: int
    """Machine-days; > 0."""
    unexplained_milliseconds: int
    excess_milliseconds: int


class BalanceReader:
    """Takes balances now and then. Not thread-safe: one at a time."""

    def __init__(self, reader: Reader, clock: Callable[[], float]) -> None:
        """`clock`: Unix seconds."""
        self._reader = reader
        self._clock = clock
        self._kept: tuple[float, tuple[PopulationBalance, ...]] | None = None

    def look(self, hosts: Mapping[HostId, Host], today: date) -> tuple[PopulationBalance, ...]:
        """As of at most ten minutes ago."""
        if self._kept is None or self._clock() >= self._kept[0]:
            self._kept = (self._clock() + KEEP_SECONDS, self._taken(hosts, today))
        return self._kept[1]

    def _taken(self, hosts: Mapping[HostId, Host], today: date) -> tuple[PopulationBalance, ...]:
        periods: Counter[Population] = Counter()
        unexplained: Counter[Population] = Counter()
        excess: Counter[Population] = Counter()
        for row in self._reader.balance(today - timedelta(days=DAYS), today - timedelta(days=1)):
            host = hosts.get(row.host_id)
            if host is not None and host.population in EXEMPT:
                periods[host.population] += 1
                unexplained[host.population] += row.unexplained_milliseconds
                excess[host.population] += row.excess_milliseconds
        return tuple(
            PopulationBalance(one, number, unexplained[one], excess[one])
            for one, number in sorted(periods.items())
        )
