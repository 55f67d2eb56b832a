# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the time balance of servers: time of the last whole days that no record explains (R18).

For PCs, the time balance is only in reports and in `veilleuse doctor`.
"""

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
"""Seconds between two balances: each reads the hours of a week, too much for every scrape."""
DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class PopulationBalance:
    """Time balance of one population, over its last whole periods."""

    population: Population
    periods: int
    """Machine-days; > 0."""
    unexplained_milliseconds: int
    excess_milliseconds: int


class BalanceReader:
    """Reads balances and caches them for KEEP_SECONDS. Not thread-safe: one caller at a time."""

    def __init__(self, reader: Reader, clock: Callable[[], float]) -> None:
        """Take the reader and a clock in Unix seconds."""
        self._reader = reader
        self._clock = clock
        self._kept: tuple[float, tuple[PopulationBalance, ...]] | None = None

    def read_balances(self, hosts: Mapping[HostId, Host], today: date) -> tuple[PopulationBalance, ...]:
        """Return the balance of each population, at most ten minutes old."""
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
