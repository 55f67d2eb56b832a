# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Takes one snapshot for the pages, /metrics and `top`.

It holds the fleet, the last released month, the indicators, the factors and the collector's health.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.errors import AdminError, UnknownZone
from veilleuse.collector.factors.book import FactorBook, KnownFactors
from veilleuse.collector.ipc import ask
from veilleuse.collector.model.factors import ChosenFactor, FactorVersion
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.records import HostId
from veilleuse.collector.ports.store import HourReader, Reader
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.silence import Condition, judge_of
from veilleuse.collector.web.metrics.fleet import CLOSED_DAY_SECONDS, FleetView, ServerFleetReader
from veilleuse.collector.web.metrics.grid import GridReader, GridView
from veilleuse.collector.web.metrics.indicators_daily import DAY, TODAY, DailyIndicators, indicators_of_day
from veilleuse.collector.web.metrics.indicators_monthly import MachineFigure
from veilleuse.collector.web.metrics.released_month import MonthView
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

BALANCE_SECONDS: Final = 600.0
"""Seconds between two balances: each reads the hours of a week, too much for every scrape."""
BALANCE_DAYS: Final = 7
KEEP_SECONDS: Final = 1.0
"""Seconds that requests share one snapshot."""


@dataclass(frozen=True, slots=True)
class PopulationBalance:
    """Time balance of one population, over its last whole periods: time that no record explains.

    For PCs, it is only in reports and in `veilleuse doctor`.
    """

    population: Population
    periods: int
    """Machine-days; > 0."""
    unexplained_milliseconds: int
    excess_milliseconds: int


class BalanceReader:
    """Reads time balances of servers (R18), and caches them for BALANCE_SECONDS.

    Not thread-safe: one caller at a time.
    """

    def __init__(self, reader: Reader, clock: Callable[[], float]) -> None:
        """Take the reader and a clock in Unix seconds."""
        self._reader = reader
        self._clock = clock
        self._kept: tuple[float, tuple[PopulationBalance, ...]] | None = None

    def read_balances(self, hosts: Mapping[HostId, Host], today: date) -> tuple[PopulationBalance, ...]:
        """Return the balance of each population, at most ten minutes old."""
        if self._kept is None or self._clock() >= self._kept[0]:
            self._kept = (self._clock() + BALANCE_SECONDS, self._taken(hosts, today))
        return self._kept[1]

    def _taken(self, hosts: Mapping[HostId, Host], today: date) -> tuple[PopulationBalance, ...]:
        periods: Counter[Population] = Counter()
        unexplained: Counter[Population] = Counter()
        excess: Counter[Population] = Counter()
        for row in self._reader.balance(today - timedelta(days=BALANCE_DAYS), today - timedelta(days=1)):
            host = hosts.get(row.host_id)
            if host is not None and host.population in EXEMPT:
                periods[host.population] += 1
                unexplained[host.population] += row.unexplained_milliseconds
                excess[host.population] += row.excess_milliseconds
        return tuple(
            PopulationBalance(one, number, unexplained[one], excess[one])
            for one, number in sorted(periods.items())
        )


HEALTH_TIMEOUT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Disk:
    """Disk space used by the store, and free space."""

    size_bytes: int
    free_bytes: int
    reserve_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the pages, /metrics and `top` show."""

    fleet: FleetView
    sobriety: tuple[DailyIndicators, ...]
    factors: Mapping[tuple[str, int], ChosenFactor]
    """(grid zone, year) → factor, of this year and the last one; zones without a factor are absent."""
    health: Mapping[str, Any] | None
    """Health of the running collector; None when the collector does not answer."""
    disk: Disk
    day_start: FleetView
    """First fleet view of the day: source of the counts of PCs' agents.

    A live count would reveal when one of the PCs connected.
    """
    day_health: Mapping[str, Any] | None
    """`health` at the first snapshot of the day: shown for calls where PCs are few."""
    day_disk: Disk
    """`disk` at the first snapshot of the day, shown where PCs are few."""
    accounts: tuple[PopulationBalance, ...]
    """Time balance (R18) of each population with whole periods."""
    grid: GridView
    """Indicative ledger and grid intensity."""
    machine_figures: tuple[MachineFigure, ...]
    """I3 to I8, computed in another thread; empty until the first computation."""
    month: MonthView | None
    """Last released month of populations under the k rule; None until there is one."""
    month_is_of_older_rule: bool
    """True when the month was published under a smaller k or in an older format, and so is not shown."""
    silence: tuple[Condition, ...]
    """Silence of each population that can be judged."""

    @property
    def today(self) -> date:
        """Return the current civil day."""
        return self.fleet.today.day

    def has_few_pcs(self, k: int) -> bool:
        """Return true when PCs are enrolled, and fewer than k.

        Values that each PC's call changes then come from the first snapshot of the day (docs/privacy.md).
        """
        return 0 < sum(host.population not in EXEMPT for host in self.fleet.active) < k

    def factor_of_site(self, site: str, year: int) -> ChosenFactor | None:
        """Return the factor applied to a site's energy of a year; None without a factor."""
        known = self.fleet.sites.get(site)
        return self.factors.get((known.zone, year)) if known else None

    def factors_now(self) -> list[tuple[str, ChosenFactor]]:
        """Return (zone, factor) of the current year."""
        year = self.today.year
        return [(zone, one) for (zone, of), one in sorted(self.factors.items()) if of == year]


class SnapshotReader(Reader, HourReader, Protocol):
    """Reader of everything that a snapshot holds."""

    def factor_versions(self) -> tuple[FactorVersion, ...]: ...  # see FactorReader.versions


class SnapshotCache:
    """Takes snapshots one at a time and caches the last one for KEEP_SECONDS. Thread-safe."""

    def __init__(
        self,
        reader: SnapshotReader,
        settings: CollectorSettings,
        clock: Callable[[], float] = time.time,
        machine_figures: Callable[[], tuple[MachineFigure, ...]] = tuple,
        month: Callable[[], MonthView | None] = lambda: None,
        month_is_of_older_rule: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take a clock in Unix seconds and three functions that must not wait.

        `machine_figures` returns the current I3 to I8. `month` returns the last released month.
        `month_is_of_older_rule` tells if that month was published under an older rule.
        """
        self._settings = settings
        self._reader = reader
        self._zone = ZoneInfo(settings.reporting.time_zone)
        self._clock = clock
        self._machine_figures = machine_figures
        self._month = month
        self._month_is_of_older_rule = month_is_of_older_rule
        self._factors = KnownFactors(reader.factor_versions)
        self._fleet = ServerFleetReader(reader, settings.reporting.time_zone, clock)
        self._accounts = BalanceReader(reader, clock)
        self._grid = GridReader(reader, settings, clock)
        self._yesterday: tuple[float, date, tuple[DailyIndicators, ...]] | None = None
        self._lock = threading.Lock()
        self._last: tuple[float, Snapshot] | None = None
        self._day_start: FleetView | None = None
        self._day_health: Mapping[str, Any] | None = None
        self._day_disk: Disk | None = None

    def take_snapshot(self) -> Snapshot:
        """Return a snapshot at most one second old. Raises StoreDamaged, another DataDirectoryError."""
        with self._lock:
            now = time.monotonic()
            if self._last is None or now - self._last[0] > KEEP_SECONDS:
                self._last = (now, self._take())
            return self._last[1]

    def _take(self) -> Snapshot:
        fleet, health, disk = self._fleet.read_view(), self._health(), disk_of(self._settings)
        new_day = self._day_start is None or self._day_start.today.day != fleet.today.day
        if self._day_start is None or self._day_disk is None or new_day:
            self._day_start, self._day_health, self._day_disk = fleet, health, disk
        judge = judge_of(
            fleet.kind, health, fleet.now_unix_milliseconds, self._settings.reporting.k_anonymity
        )
        month = self._month()
        return Snapshot(
            fleet,
            (*self._read_indicators(fleet), *(month.sobriety if month else ())),
            factors_of(fleet, self._settings.reporting.zone, self._factors.latest()),
            health,
            disk,
            self._day_start,
            self._day_health,
            self._day_disk,
            self._accounts.read_balances(fleet.hosts, fleet.today.day),
            self._grid.read_view(),
            self._machine_figures(),
            month,
            self._month_is_of_older_rule(),
            judge.conditions(fleet.hosts.values(), fleet.rollouts),
        )

    def _read_indicators(self, fleet: FleetView) -> tuple[DailyIndicators, ...]:
        today = fleet.today.day
        yesterday = today - timedelta(days=1)
        if self._yesterday is None or self._yesterday[1] != yesterday or self._clock() >= self._yesterday[0]:
            until = self._clock() + CLOSED_DAY_SECONDS
            self._yesterday = (
                until,
                yesterday,
                tuple(indicators_of_day(fleet, fleet.yesterday, DAY)),
            )
        return (*indicators_of_day(fleet, fleet.today, TODAY), *self._yesterday[2])

    def _health(self) -> Mapping[str, Any] | None:
        try:
            answer = ask(self._settings.data_dir, "health", timeout_seconds=HEALTH_TIMEOUT_SECONDS)
        except AdminError:
            return None
        return answer if isinstance(answer, dict) else None


def factors_of(fleet: FleetView, default_zone: str, book: FactorBook) -> dict[tuple[str, int], ChosenFactor]:
    """Choose the factors of the sites' grid zones; of the reporting zone while there is no site."""
    found: dict[tuple[str, int], ChosenFactor] = {}
    year = fleet.today.day.year
    for zone in {site.zone for site in fleet.sites.values()} or {default_zone}:
        for of in (year - 1, year):
            try:
                found[zone, of] = book.choose(zone, of)
            except UnknownZone:
                continue  # emissions of this zone are not shown
    return found


def disk_of(settings: CollectorSettings) -> Disk:
    """Return sizes of the database's files and the disk's free space, bytes; 0 for missing files."""
    directory: Path = settings.data_dir
    size = sum(
        path.stat().st_size
        for name in ("data.db", "data.db-wal", "identity.db", "identity.db-wal")
        if (path := directory / name).exists()
    )
    usage = shutil.disk_usage(directory)
    reserve = min(settings.store.free_bytes_minimum, int(settings.store.free_ratio_minimum * usage.total))
    return Disk(size, usage.free, reserve)


def local_time(snapshot: Snapshot) -> datetime:
    """Return the snapshot's time in the reporting time zone."""
    zone = ZoneInfo(snapshot.fleet.time_zone)
    return datetime.fromtimestamp(snapshot.fleet.now_unix_milliseconds / MILLISECONDS_PER_SECOND, zone)
