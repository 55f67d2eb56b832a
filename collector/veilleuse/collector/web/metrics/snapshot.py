# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One look for all outlets: the fleet, the last released month, the indicators, the factors, the collector's health."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from veilleuse.collector.disclosure import EXEMPT
from veilleuse.collector.errors import AdminError, UnknownZone
from veilleuse.collector.factors.book import FactorBook, KnownFactors
from veilleuse.collector.ipc.unix_socket import ask
from veilleuse.collector.model.factors import FactorVersion
from veilleuse.collector.ports import ChosenFactor, HourReader, Reader
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.silence import Condition, judge_of
from veilleuse.collector.web.metrics.balance import BalanceReader, PopulationBalance
from veilleuse.collector.web.metrics.fleet import CLOSED_DAY_SECONDS, FleetView, ServerFleetReader
from veilleuse.collector.web.metrics.grid import GridReader, GridView
from veilleuse.collector.web.metrics.indicators_daily import DAY, TODAY, DailyIndicators, sobriety
from veilleuse.collector.web.metrics.indicators_monthly import MachineFigure
from veilleuse.collector.web.metrics.released_month import MonthView
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

KEEP_SECONDS: Final = 1.0
"""A second request within this time gets the same look."""
HEALTH_TIMEOUT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Disk:
    """What the store takes and leaves."""

    size_bytes: int
    free_bytes: int
    reserve_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the outlets show."""

    fleet: FleetView
    sobriety: tuple[DailyIndicators, ...]
    factors: Mapping[tuple[str, int], ChosenFactor]
    """(grid zone, year) → factor, this year and the last; zones without one are absent."""
    health: Mapping[str, Any] | None
    """Of the running collector; None when it does not answer."""
    disk: Disk
    day_start: FleetView
    """The first look of the day: what is shown of PCs' agents. Live, it would tell when one of them called."""
    day_health: Mapping[str, Any] | None
    """`health` then: what is shown of calls where the PCs are few."""
    day_disk: Disk
    """`disk` then, likewise."""
    accounts: tuple[PopulationBalance, ...]
    """R18, per population that has whole periods."""
    grid: GridView
    """The indicative ledger, and the grid's intensity."""
    machine_figures: tuple[MachineFigure, ...]
    """I3 to I8, worked out apart; none until they are."""
    month: MonthView | None
    """The last released month of populations under the k rule; None until there is one."""
    month_is_of_older_rule: bool
    """True when there is one, and it is not shown: it was published under a smaller k or in an older format."""
    silence: tuple[Condition, ...]
    """Of each population that can be judged."""

    @property
    def today(self) -> date:
        """The current civil day."""
        return self.fleet.today.day

    def pcs_are_few(self, k: int) -> bool:
        """Whether PCs are enrolled, and fewer than k: what each of their calls moves is shown as at the first look of the day (docs/privacy.md)."""
        return 0 < sum(host.population not in EXEMPT for host in self.fleet.active) < k

    def factor_of_site(self, site: str, year: int) -> ChosenFactor | None:
        """The factor applied to a site's energy of a year."""
        known = self.fleet.sites.get(site)
        return self.factors.get((known.zone, year)) if known else None

    def factors_now(self) -> list[tuple[str, ChosenFactor]]:
        """(zone, factor) of the current year."""
        year = self.today.year
        return [(zone, one) for (zone, of), one in sorted(self.factors.items()) if of == year]


class LookReader(Reader, HourReader, Protocol):
    """What a look reads."""

    def factor_versions(self) -> tuple[FactorVersion, ...]: ...  # as FactorReader.versions


class SnapshotCache:
    """Takes looks, one at a time, and keeps the last one for a moment. Safe from any thread."""

    def __init__(
        self,
        reader: LookReader,
        settings: CollectorSettings,
        clock: Callable[[], float] = time.time,
        machine_figures: Callable[[], tuple[MachineFigure, ...]] = tuple,
        month: Callable[[], MonthView | None] = lambda: None,
        month_is_of_older_rule: Callable[[], bool] = lambda: False,
    ) -> None:
        """`clock`: Unix seconds; `machine_figures`: I3 to I8 as they are now, `month`: the last released one, or whether it is of an older
        rule; none of them may wait."""
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

    def look(self) -> Snapshot:
        """As of now, or of at most a second ago. Raises StoreDamaged or another DataDirectoryError."""
        with self._lock:
            now = time.monotonic()
            if self._last is None or now - self._last[0] > KEEP_SECONDS:
                self._last = (now, self._take())
            return self._last[1]

    def _take(self) -> Snapshot:
        fleet, health, disk = self._fleet.look(), self._health(), disk_of(self._settings)
        new_day = self._day_start is None or self._day_start.today.day != fleet.today.day
        if self._day_start is None or self._day_disk is None or new_day:
            self._day_start, self._day_health, self._day_disk = fleet, health, disk
        judge = judge_of(
            fleet.kind, health, fleet.now_unix_milliseconds, self._settings.reporting.k_anonymity
        )
        month = self._month()
        return Snapshot(
            fleet,
            (*self._sobriety(fleet), *(month.sobriety if month else ())),
            factors_of(fleet, self._settings.reporting.zone, self._factors.latest()),
            health,
            disk,
            self._day_start,
            self._day_health,
            self._day_disk,
            self._accounts.look(fleet.hosts, fleet.today.day),
            self._grid.look(),
            self._machine_figures(),
            month,
            self._month_is_of_older_rule(),
            judge.conditions(fleet.hosts.values(), fleet.rollouts),
        )

    def _sobriety(self, fleet: FleetView) -> tuple[DailyIndicators, ...]:
        today = fleet.today.day
        servers = {key: host for key, host in fleet.hosts.items() if host.population in EXEMPT}
        now = fleet.now_unix_milliseconds
        figures = sobriety(self._reader, servers, TODAY, today, now)
        yesterday = today - timedelta(days=1)
        if self._yesterday is None or self._yesterday[1] != yesterday or self._clock() >= self._yesterday[0]:
            until = self._clock() + CLOSED_DAY_SECONDS
            self._yesterday = (until, yesterday, sobriety(self._reader, servers, DAY, yesterday, now))
        return (*figures, *self._yesterday[2])

    def _health(self) -> Mapping[str, Any] | None:
        try:
            answer = ask(self._settings.data_dir, "health", timeout_seconds=HEALTH_TIMEOUT_SECONDS)
        except AdminError:
            return None
        return answer if isinstance(answer, dict) else None


def factors_of(fleet: FleetView, default_zone: str, book: FactorBook) -> dict[tuple[str, int], ChosenFactor]:
    """Per grid zone of the sites; of the reporting zone when there is no site yet."""
    found: dict[tuple[str, int], ChosenFactor] = {}
    year = fleet.today.day.year
    for zone in {site.zone for site in fleet.sites.values()} or {default_zone}:
        for of in (year - 1, year):
            try:
                found[zone, of] = book.choose(zone, of)
            except UnknownZone:
                continue  # no emissions are shown for it
    return found


def disk_of(settings: CollectorSettings) -> Disk:
    """Sizes of the database's files, and the disk's free space; 0 bytes for files that are not there."""
    directory: Path = settings.data_dir
    size = sum(
        path.stat().st_size
        for name in ("data.db", "data.db-wal", "identity.db", "identity.db-wal")
        if (path := directory / name).exists()
    )
    usage = shutil.disk_usage(directory)
    reserve = min(settings.store.free_bytes_minimum, int(settings.store.free_ratio_minimum * usage.total))
    return Disk(size, usage.free, reserve)


def local_time(look: Snapshot) -> datetime:
    """The moment of the look on the reporting zone's clock."""
    zone = ZoneInfo(look.fleet.time_zone)
    return datetime.fromtimestamp(look.fleet.now_unix_milliseconds / MILLISECONDS_PER_SECOND, zone)
