# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the last released month, its indicators, the fleet's emissions, the balance and the grid's view in a
background thread: too much work for a look.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import Slice, add_months, months_before
from veilleuse.collector.clock import unix_seconds
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.indicators import NIGHTS, TABLE, load_indicator
from veilleuse.collector.model.indicators import PCS, IndicatorGroup, Targets
from veilleuse.collector.model.query import GroupKey, Query
from veilleuse.collector.model.sums import GroupSums
from veilleuse.collector.ports.directory import OpenReadStore
from veilleuse.collector.ports.months import PublicationReader
from veilleuse.collector.ports.store import Reader
from veilleuse.collector.release.answer import add_shares, add_sums, sum_indicators
from veilleuse.collector.release.format import FORM as RELEASE
from veilleuse.collector.release.indicator_rows import INDICATORS, IndicatorMonth, IndicatorRow
from veilleuse.collector.release.own_use import OWN_USE
from veilleuse.collector.release.publications import PublicationCache, held_months, publish_nothing
from veilleuse.collector.release.rows import FLEET
from veilleuse.collector.release.tables import Month, released_on
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.metrics.fleet_emissions import FleetEmissions, FleetEmissionsReader
from veilleuse.collector.web.metrics.grid import GridView, read_grid
from veilleuse.collector.web.metrics.indicators_daily import add_parts
from veilleuse.collector.web.metrics.released_month import (
    MonthFacts,
    MonthView,
    build_month_view,
    coverages,
    last_month,
)
from veilleuse.wire.vocabulary import Population


@dataclass(frozen=True, slots=True)
class ServerBalance:
    """Time balance of servers (R18) over their last whole days: time that no record explains.

    For PCs, it is only in reports and in `veilleuse doctor`.
    """

    unexplained_milliseconds: int
    excess_milliseconds: int


def read_balance(reader: Reader, today: date) -> ServerBalance | None:
    """Read the balance of the BALANCE_DAYS before today; None without whole days."""
    first, last = today - timedelta(days=BALANCE_DAYS), today - timedelta(days=1)
    rows = list(reader.balance(first, last, population=Population.SERVER))
    if not rows:
        return None
    unexplained = sum(row.unexplained_milliseconds for row in rows)
    return ServerBalance(unexplained, sum(row.excess_milliseconds for row in rows))


log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 60.0
"""Seconds between two checks of the thread for a new day or month, and two readings of the grid."""
BALANCE_SECONDS: Final = 600.0
"""Seconds between two balances: each reads the hours of a week."""
BALANCE_DAYS: Final = 7


class MonthlyFigures:
    """Reads what is published of the last month, and caches it. No method but `refresh` waits.

    The service calls `start` and `stop`; tests call `refresh`.
    """

    def __init__(
        self,
        settings: CollectorSettings,
        open_store: OpenReadStore,
        published: PublicationReader,
        clock: Callable[[], float] = unix_seconds,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        """Read nothing yet. `open_store` opens the store for one reading; `clock`: Unix seconds."""
        self._settings = settings
        self._open_store = open_store
        self._clock = clock
        self._check_seconds = check_seconds
        self._published, k = published, settings.reporting.k_anonymity
        self._indicators = PublicationCache(INDICATORS, published, publish_nothing, k)
        self._months = PublicationCache(RELEASE, published, publish_nothing, k)
        self._own = PublicationCache(OWN_USE, published, publish_nothing, k)
        self._figures: tuple[IndicatorRow, ...] = ()
        self._month: MonthView | None = None
        self._is_of_older_rule = False
        self._month_facts = MonthFacts()
        self._balance: ServerBalance | None = None
        self._balance_due = 0.0
        self._grid = GridView()
        self._emissions_reader = FleetEmissionsReader()
        self._emissions = FleetEmissions()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="indicators", daemon=True)

    def figures(self) -> tuple[IndicatorRow, ...]:
        """Return I3 to I8 of each population in the last released month; empty until they are read."""
        return self._figures

    def month(self) -> MonthView | None:
        """Return the newest released month; None until there is one."""
        return self._month

    def is_of_older_rule(self) -> bool:
        """Return true when the newest month was published in an older format.

        Such a month is not shown.
        """
        return self._is_of_older_rule

    def month_facts(self) -> MonthFacts:
        """Return when the next month is due, and what changed with the newest one."""
        return self._month_facts

    def balance(self) -> ServerBalance | None:
        """Return the newest balance."""
        return self._balance

    def grid(self) -> GridView:
        """Return the newest view of the grid."""
        return self._grid

    def fleet_emissions(self) -> FleetEmissions:
        """Return the newest released months and years of the whole fleet."""
        return self._emissions

    def refresh(self) -> None:
        """Read what is new. Raises DataDirectoryError, StoreTooNew, StoreDamaged."""
        with self._open_store() as store:
            self._grid = read_grid(store.data, self._settings, self._clock())
            if self._clock() >= self._balance_due:
                self._balance_due = self._clock() + BALANCE_SECONDS
                self._balance = read_balance(store.data, self._today())
        self.refresh_month()
        self._emissions = self._read_emissions(self._today())

    def refresh_month(self) -> None:
        """Read the newest month alone. Raises as `refresh`."""
        today = self._today()
        period = last_month(today)
        try:
            month, indicators = self._months.read(*period), self._indicators.read(*period)
        except CollectorError as error:
            log.warning("the last released month is not shown", extra={"reason": str(error)})
            month = indicators = None
        self._is_of_older_rule = any(
            cache.is_of_older_rule(*period) for cache in (self._months, self._indicators)
        )
        shown = month or (None if self._is_of_older_rule else self._nothing_published(*period))
        self._month = build_month_view(shown) if shown else None
        self._figures = figures_of_month(month, indicators)
        self._month_facts = self._read_facts(today, period[0], month, indicators)

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), ZoneInfo(self._settings.reporting.time_zone)).date()

    def _read_facts(
        self, today: date, first: date, shown: Month | None, indicators: IndicatorMonth | None
    ) -> MonthFacts:
        """Compare the month that begins at `first` with the one before; find the next month's day."""
        with self._open_store() as store:
            sources = sources_of(store, self._settings.reporting)
            newest = sources.newest_months(today, most=1)
            due = newest[0].end if newest else None
            since = months_before(today, self._settings.retention.pc_monthly_months)
            held = held_months(self._published, store.closings, store.data.hosts, since)
            while due is not None and released_on(due) <= today:
                end = add_months(due, 1)
                if due in held:
                    due = end
                    continue
                if sources.may_have_months(due, end) or self._published.waits(due, end):
                    break
                due = end  # no machine was there in that month: there is nothing to release
        due_on = released_on(due) if due else None
        before = (first - timedelta(days=1)).replace(day=1)
        try:
            own = self._own.read(*last_month(today))
        except CollectorError as error:
            log.warning("what Veilleuse itself used is not shown", extra={"reason": str(error)})
            own = None
        try:
            month, of_servers = self._months.read(before, first), self._indicators.read(before, first)
        except CollectorError as error:
            log.warning("the month before the last one is not compared", extra={"reason": str(error)})
            return MonthFacts(due_on, own=own, held=held)
        earlier = (*(month.whole if month else ()), *(of_servers.servers if of_servers else ()))
        later = (*(shown.whole if shown else ()), *(indicators.servers if indicators else ()))
        return MonthFacts(due_on, coverages(earlier, later), own, held)

    def _nothing_published(self, first: date, end: date) -> Month | None:
        """Return a month of which too few PCs have records; None while it is not published."""
        with self._open_store() as store:
            sources = sources_of(store, self._settings.reporting)
            few = [one for one in sorted(PCS) if sources.has_pcs(end, (one,))]
        is_published = self._published.summary(FLEET.kind, first, end) is not None
        if self._published.waits(first, end) or (few and not is_published):
            return None
        withheld = tuple(GroupKey(first, end, population=one) for one in few)
        return Month(Slice(first, end), (), (), (), withheld)

    def _read_emissions(self, today: date) -> FleetEmissions:
        """Return the fleet's emissions; none while they cannot be computed."""
        try:
            with self._open_store() as store:
                return self._emissions_reader.read(sources_of(store, self._settings.reporting), today)
        except CollectorError as error:
            log.warning("emissions of the whole fleet are not shown", extra={"reason": str(error)})
            return FleetEmissions()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Start no further computation; a running one ends with the process."""
        self._stop.set()

    def _run(self) -> None:
        logged: set[type[Exception]] = set()
        try:
            while not self._stop.is_set():
                try:
                    self.refresh()
                    logged.clear()
                except CollectorError as error:
                    self._forget()
                    log.warning("released months are not shown", extra={"reason": str(error)})
                except Exception as error:  # a bug must not end the thread: decisions/0011
                    self._forget()
                    if type(error) not in logged:
                        log.error("released months cannot be shown", exc_info=error)
                    logged.add(type(error))
                self._stop.wait(self._check_seconds)
        finally:
            self._forget()  # without this thread the figures would grow old

    def _forget(self) -> None:
        self._figures, self._month, self._is_of_older_rule = (), None, False
        self._month_facts = MonthFacts()
        self._balance, self._balance_due, self._grid = None, 0.0, GridView()
        self._emissions = FleetEmissions()


def figures_of_month(month: Month | None, indicators: IndicatorMonth | None) -> tuple[IndicatorRow, ...]:
    """Return the figures of each population of a month, of physical and virtual machines separately."""

    def group(key: GroupKey) -> GroupKey:
        return GroupKey(population=key.population, memo=key.memo)

    part = month.part if month else indicators.part if indicators else None
    if part is None:
        return ()
    query = Query(part.first, part.end, ())
    rows = sum_indicators([indicators] if indicators else (), query, group)
    sums: dict[GroupKey, GroupSums] = {}
    for one in (*(month.uses if month else ()), *(indicators.servers if indicators else ())):
        key = group(one.key)
        sums[key] = add_sums(sums[key], one.sums, same_time=True) if key in sums else one.sums
    nights = (
        IndicatorRow(NIGHTS, key.over(part.first, part.end), figure)
        for key, of_key in sums.items()
        for figure in load_indicator(NIGHTS).figures(IndicatorGroup(key, sums=of_key), Targets())
    )
    return (*add_shares(rows, (month,) if month else (), group), *nights)


# --- exposition


def add_machine_figures(out: Exposition, rows: Iterable[IndicatorRow]) -> None:
    """Add the samples. Values that are unknown or may not be disclosed have none."""
    for indicator, key, figure in rows:
        labels = {"population": key.population or "", "machines": "virtual" if key.memo else "physical"}
        shown = load_indicator(indicator).parts(figure)
        for gauge, parts in zip(TABLE[indicator].gauges, shown, strict=True):
            add_parts(out, gauge, labels, parts)
