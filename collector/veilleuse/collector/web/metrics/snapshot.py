# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Takes one snapshot for the pages, /metrics and `top`.

It holds the fleet, the last released month, the indicators, the factors and the collector's health.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from veilleuse.collector.clock import unix_seconds
from veilleuse.collector.errors import AdminError, UnknownZone
from veilleuse.collector.factors.book import FactorBook, KnownFactors
from veilleuse.collector.gc_pause import without_garbage_collection
from veilleuse.collector.ipc import ask
from veilleuse.collector.model.factors import ChosenFactor
from veilleuse.collector.ports.store import DataReader
from veilleuse.collector.release.indicator_rows import IndicatorRow
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.silence import Silence, judge_of
from veilleuse.collector.web.metrics.disk import Disk, read_disk
from veilleuse.collector.web.metrics.fleet import FleetView, PcCounts, ServerFleetReader
from veilleuse.collector.web.metrics.fleet_emissions import FleetEmissions
from veilleuse.collector.web.metrics.grid import GridView
from veilleuse.collector.web.metrics.indicators_daily import DAY, TODAY, DailyIndicators, indicators_of_day
from veilleuse.collector.web.metrics.indicators_monthly import ServerBalance
from veilleuse.collector.web.metrics.released_month import MonthFacts, MonthView
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

KEEP_SECONDS: Final = 1.0
"""Seconds that requests share one snapshot."""
HEALTH_TIMEOUT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class DayStart:
    """First look of a day, shown instead of live values that one PC's call or enrolment changes."""

    fleet: FleetView
    pcs: PcCounts
    disk: Disk


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
    day_start: DayStart
    balance: ServerBalance | None
    """None before the first computation, and without whole days."""
    grid: GridView
    """Indicative ledger and grid intensity; empty before the first reading."""
    machine_figures: tuple[IndicatorRow, ...]
    """I3 to I8 of the last released month; empty until they are read."""
    month: MonthView | None
    """Last released month of populations under the k rule; None until there is one."""
    month_is_of_older_rule: bool
    """True when the month was published in an older format, and so is not shown."""
    month_facts: MonthFacts
    """When the next month is due, and what changed with the last one."""
    fleet_emissions: FleetEmissions
    """Released months and years of the whole fleet; empty until they are read."""
    silence: tuple[Silence, ...]
    """Silence of each population that can be judged."""

    @property
    def today(self) -> date:
        """Return the current civil day."""
        return self.fleet.today.day

    def has_few_pcs(self, k: int) -> bool:
        """Return true when PCs are enrolled, and fewer than k.

        Values that each PC's call changes are then absent, or of the day's first snapshot (docs/privacy.md).
        """
        return 0 < self.fleet.active_pcs < k

    def factor_of_site(self, site: str, year: int) -> ChosenFactor | None:
        """Return the factor applied to a site's energy of a year; None without a factor."""
        known = self.fleet.sites.get(site)
        return self.factors.get((known.zone, year)) if known else None

    def factors_now(self) -> list[tuple[str, ChosenFactor]]:
        """Return (zone, factor) of the current year."""
        year = self.today.year
        return [(zone, one) for (zone, of), one in sorted(self.factors.items()) if of == year]


class SnapshotCache:
    """Takes snapshots one at a time and caches the last one for KEEP_SECONDS. Thread-safe."""

    def __init__(
        self,
        reader: DataReader,
        settings: CollectorSettings,
        clock: Callable[[], float] = unix_seconds,
        machine_figures: Callable[[], tuple[IndicatorRow, ...]] = tuple,
        month: Callable[[], MonthView | None] = lambda: None,
        month_is_of_older_rule: Callable[[], bool] = lambda: False,
        month_facts: Callable[[], MonthFacts] = MonthFacts,
        balance: Callable[[], ServerBalance | None] = lambda: None,
        grid: Callable[[], GridView] = GridView,
        fleet_emissions: Callable[[], FleetEmissions] = FleetEmissions,
    ) -> None:
        """Take a clock in Unix seconds and functions that must not wait: see Snapshot."""
        self._settings = settings
        self._machine_figures = machine_figures
        self._month = month
        self._month_is_of_older_rule, self._month_facts = month_is_of_older_rule, month_facts
        self._sizes = reader.sizes
        self._factors = KnownFactors(reader.factor_versions)
        self._balance, self._grid, self._fleet_emissions = balance, grid, fleet_emissions
        self.fleet = ServerFleetReader(reader, settings.reporting, clock)
        self._lock = threading.Lock()
        self._last: tuple[float, Snapshot] | None = None
        self._day_start: DayStart | None = None

    def take_snapshot(self) -> Snapshot:
        """Return a snapshot at most one second old. Raises StoreDamaged, another DataDirectoryError."""
        with self._lock:
            now = time.monotonic()
            if self._last is None or now - self._last[0] > KEEP_SECONDS:
                self._last = (now, self._take())
            return self._last[1]

    def follow(self) -> None:
        """Read the servers that changed, so that the next snapshot takes no longer after a long pause."""
        with self._lock:
            self.fleet.follow()

    def _take(self) -> Snapshot:
        with without_garbage_collection():
            fleet, health, disk = self.fleet.read_view(), self._health(), self._disk()
            if self._day_start is None or self._day_start.fleet.today.day != fleet.today.day:
                self._day_start = DayStart(fleet, self.fleet.count_pcs(), disk)
            k, now = self._settings.reporting.k_anonymity, fleet.now_unix_milliseconds
            month = self._month()
            return Snapshot(
                fleet,
                (
                    *indicators_of_day(fleet.today, TODAY),
                    *indicators_of_day(fleet.yesterday, DAY),
                    *(month.sobriety if month else ()),
                ),
                factors_of(fleet, self._settings.reporting.zone, self._factors.latest()),
                health,
                disk,
                self._day_start,
                self._balance(),
                self._grid(),
                self._machine_figures(),
                month,
                self._month_is_of_older_rule(),
                self._month_facts(),
                self._fleet_emissions(),
                judge_of(fleet.kind, health, now, k).conditions_in_order(
                    fleet.servers.members, fleet.rollouts
                ),
            )

    def _disk(self) -> Disk:
        return read_disk(self._settings, self._sizes())

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


def local_time(snapshot: Snapshot) -> datetime:
    """Return the snapshot's time in the reporting time zone."""
    zone = ZoneInfo(snapshot.fleet.time_zone)
    return datetime.fromtimestamp(snapshot.fleet.now_unix_milliseconds / MILLISECONDS_PER_SECOND, zone)
