# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Deletes expired data every day, in the writer's thread, in slices of at most 20 ms. docs/privacy.md.

Days are deleted only after their month is stored and up to date. Months and readings of shared meters stay
until their year's statistics are stored: docs/closing.md. Deleted data is overwritten: in the file by SQLite
(secure_delete), in the WAL by `sweep`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Final, TypeAlias

from veilleuse.collector import settings
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds, months_before
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.records import HostId
from veilleuse.collector.months.aggregate import contributions
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.ports.months import Limits, MayGo, MonthStore
from veilleuse.collector.ports.registry import Registry
from veilleuse.collector.ports.stages import Committer
from veilleuse.wire.vocabulary import Population

log = logging.getLogger(__name__)

SLICE_SECONDS: Final = 0.020
MOST_DAYS: Final = 8
"""Days of one machine per step: a step takes some milliseconds, even after years without retention."""
_REST_SECONDS: Final = 0.010

_MOST_DAYS_ALONE: Final = 62
RunSlices: TypeAlias = Callable[[Callable[[], int]], object]
"""Runs a slice in the writer's thread again and again, until it returns 0."""
_SWEEPS: Final = 20
_SWEEP_SECONDS: Final = 0.5


def limits(
    retention: settings.RetentionSettings,
    population: Population,
    time_zone: str,
    today: date,
    closed_years: frozenset[int] = frozenset(),
) -> Limits:
    """Return the expiry limits of a day, for machines of a population."""
    if population is Population.SERVER:
        days = month_limit(retention, population, today)
        fine = months_before(today, retention.server_records_months)
        return Limits(
            days.toordinal(),
            day_start_unix_milliseconds(fine, time_zone),
            fine.toordinal(),
            days.toordinal(),
        )
    days = today - timedelta(days=retention.pc_daily_days)
    return Limits(
        days.toordinal(),
        day_start_unix_milliseconds(days, time_zone),
        days.toordinal(),
        month_limit(retention, population, today).toordinal(),
        closed_years,
    )


def month_limit(retention: settings.RetentionSettings, population: Population, today: date) -> date:
    """Return the day by which months must have ended to be expired."""
    months = retention.server_daily_months if population is Population.SERVER else retention.pc_monthly_months
    return months_before(today, months)


@dataclass(frozen=True, slots=True)
class RetentionResult:
    """Result of a run."""

    steps: int
    """Number of steps that deleted something."""
    blocked: int
    """Machines with old days whose month is not stored yet."""
    whole: bool
    """True when the run finished, and no file contains the deleted data any more."""


@dataclass(slots=True)
class _Work:
    """Progress of a run."""

    waiting: deque[HostId]
    today: date
    most_days: int = MOST_DAYS
    steps: int = 0
    blocked: int = 0


class Retention:
    """Deletes expired data: `run` once a day, or on request; a repeated run costs one query."""

    def __init__(
        self,
        writer: Committer,
        store: MonthStore,
        registry: Registry,
        site_calendars: SiteCalendars,
        kept: settings.RetentionSettings,
        *,
        closed_years: Callable[[], frozenset[int]] = frozenset,
        may_go: Callable[[date], MayGo] = lambda _: MayGo(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the stores and rules; both callables run in the writer's thread.

        `closed_years`: definitively closed years. `may_go`: data that may be deleted on a day, because its
        year's statistics are stored.
        """
        self._writer = writer
        self._store = store
        self._registry = registry
        self._site_calendars = site_calendars
        self._kept = kept
        self._closed_years = closed_years
        self._may_go = may_go
        self._clock = clock

    def run(
        self, today: date, stop: threading.Event | None = None, alone: RunSlices | None = None
    ) -> RetentionResult:
        """Delete the data expired on `today`. Raises the store's errors.

        `alone`: runs the slices where nobody else waits for the writer: at once, and of many days.
        """
        stop = stop or threading.Event()
        work = _Work(deque(self._writer.submit(self._hosts).result()), today)
        if alone is not None:
            work.most_days = _MOST_DAYS_ALONE
            alone(partial(self._slice, work))
        while work.waiting and not stop.is_set():
            self._writer.submit(partial(self._slice, work)).result()
            stop.wait(_REST_SECONDS)
        for population in Population:
            while (
                not stop.is_set()
                and self._writer.submit(partial(self._population, population, today)).result()
            ):
                work.steps += 1
        swept = self._sweep(stop) if work.steps else True
        if work.steps or work.blocked:
            facts = {"steps": work.steps, "machines_with_months_not_kept": work.blocked, "swept": swept}
            log.info("old rows removed", extra=facts)
        return RetentionResult(work.steps, work.blocked, swept and not work.waiting)

    def _hosts(self) -> list[HostId]:
        return [host.host_id for host in self._registry.hosts()]

    def _population(self, population: Population, today: date) -> int:
        bounds, until = limits(self._kept, population, "UTC", today), self._may_go(today).readings_until
        if until is not None:
            until = min(bounds.hours_unix_milliseconds, until)
            bounds = replace(bounds, hours_unix_milliseconds=until)
        return self._store.expire_population(population, bounds)

    def _slice(self, work: _Work) -> int:
        """Process machines for at most 20 ms, at least one step of one machine; return the number of steps
        and machines.
        """
        until, done = self._clock() + SLICE_SECONDS, 0
        self._site_calendars.discard_declarations()
        closed, kept = self._closed_years(), self._may_go(work.today).months
        while work.waiting:
            host = self._registry.host(work.waiting[0])
            if host is not None and self._step(host, self._registry.site(host.site), work, closed, kept):
                work.steps += 1
            else:
                work.waiting.popleft()
            done += 1
            if self._clock() >= until:
                break
        return done

    def _step(
        self, host: Host, site: Site, work: _Work, closed: frozenset[int], kept: frozenset[int] | None
    ) -> bool:
        """Delete a few rows of one machine; False when none is left to delete."""
        bounds = limits(self._kept, host.population, site.time_zone, work.today, closed)
        bounds = replace(bounds, kept_years=kept)
        units = self._store.expiring(host, site, bounds.days, work.most_days)
        if units is None:
            if host.population is not Population.SERVER:  # its hours are needed until its days are deleted
                work.blocked += 1
                return False
        elif starts := units.starts:
            psys = self._store.psys(host.host_id)
            days = self._site_calendars.days(site, host.population)
            gone = contributions(units, days, site.time_zone, psys)
            self._store.move(
                host.host_id, starts, {month: gone.rows(host.host_id, month) for month in gone.sums}
            )
            return True
        return self._store.expire_rest(host.host_id, bounds) > 0

    def _sweep(self, stop: threading.Event) -> bool:
        """Overwrite the WAL once no reader needs the old state; otherwise the next day does it."""
        for _ in range(_SWEEPS):
            if self._writer.submit(self._store.sweep, alone=True).result():
                return True
            if stop.wait(_SWEEP_SECONDS):
                break
        return False
