# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores months in the writer's thread, in slices of at most 20 ms, while derive is idle.

Ended months come first. A month under way is stored too, and again when its days have changed: a report of
the year then reads it like the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from typing import Final

from veilleuse.collector import clock
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.model.months import WAIT_DAYS
from veilleuse.collector.model.records import HostId
from veilleuse.collector.months.imputation import month_rows
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.ports.months import MonthStore, StaleMonth
from veilleuse.collector.ports.registry import Registry
from veilleuse.collector.ports.stages import Committer, DeriveStore

log = logging.getLogger(__name__)

SLICE_SECONDS: Final = 0.020
"""Length of a slice, as derive's: an acknowledgement waits for as long."""
BACKLOG_PERIODS: Final = 256
"""Dirty periods from which derive is not idle. A few always wait for half a second where servers send."""
_PER_SLICE: Final = 64
_LOOK_SECONDS: Final = 60.0
SERVER_SECONDS: Final = 3600.0
"""Time between two rounds over months under way that include servers: their days change every few minutes."""
_REST_SECONDS: Final = 0.020
"""Pause between two slices: it leaves half the writer's time to received records."""


def ended_by(today: date) -> date:
    """Return the first month under way: earlier ones ended 3 days ago or before."""
    return (today - timedelta(days=WAIT_DAYS)).replace(day=1)


class MonthWorker:
    """Stores ended months: `run_slice` inside the writer, `drain` for a command,
    `start`/`stop` for the service.
    """

    def __init__(
        self,
        writer: Committer,
        store: MonthStore,
        derive: DeriveStore,
        registry: Registry,
        site_calendars: SiteCalendars,
        *,
        today: Callable[[], date] = clock.today,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the stores; `almanac` uses the writer's connection, inside the writer's jobs only."""
        self._writer = writer
        self._store = store
        self._derive = derive
        self._registry = registry
        self._site_calendars = site_calendars
        self._today = today
        self._clock = clock
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed: set[StaleMonth] = set()
        self._round: StaleMonth | None = None
        """Last month of the round over months under way; None between two rounds."""
        self._with_servers = True
        self._servers_at = -SERVER_SECONDS

    def start(self) -> None:
        """Store months in the background until `stop`."""
        self._thread = threading.Thread(target=self._run, name="roll", daemon=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Stop after the current slice; remaining months stay marked."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def drain(self) -> int:
        """Store every ended month; return their number. Raises the store's errors."""
        self._failed.clear()
        done = 0
        while count := self._writer.submit(self.run_slice).result():
            done += count
        return done

    def run_slice(self) -> int:
        """Store ended months for at most 20 ms, at least one; return their number.

        It stores none while derive has much to do. Runs in the writer's thread.
        """
        if self._derive_is_busy():
            return 0
        due = self._store.due(ended_by(self._today()), _PER_SLICE + len(self._failed))
        return sum(1 for _ in self._store_each(due, is_under_way=False))

    def run_slice_under_way(self) -> int:
        """Store months under way likewise; 0 ends a round over the machines.

        Servers are in a round at most once an hour.
        """
        if self._derive_is_busy():
            return 0
        if self._round is None:
            self._round = StaleMonth(HostId(-1), ended_by(self._today()))
            self._with_servers = self._clock() >= self._servers_at + SERVER_SECONDS
            if self._with_servers:
                self._servers_at = self._clock()
        due = self._store.under_way(
            self._round, _PER_SLICE + len(self._failed), with_servers=self._with_servers
        )
        self._round, done = None, 0
        for one in self._store_each(due, is_under_way=True):
            self._round, done = one, done + 1
        return done

    def _derive_is_busy(self) -> bool:
        return len(self._derive.dirty(BACKLOG_PERIODS)) == BACKLOG_PERIODS

    def _store_each(self, due: Iterable[StaleMonth], *, is_under_way: bool) -> Iterator[StaleMonth]:
        """Store months for at most 20 ms, at least one; yield each."""
        until = self._clock() + SLICE_SECONDS
        self._site_calendars.discard_declarations()
        for one in due:
            if one in self._failed:
                continue
            try:
                self._roll(one, is_under_way=is_under_way)
            except CollectorError:
                raise
            except Exception as error:  # one month never stops the others: decisions/0011
                self._failed.add(one)
                log.error("a month cannot be kept", extra={"month": one.month.isoformat()}, exc_info=error)
            yield one
            if self._clock() >= until:
                break

    def _roll(self, one: StaleMonth, *, is_under_way: bool) -> None:
        host = self._registry.host(one.host_id)
        if host is None:
            self._store.drop_mark(*one)
            return
        site = self._registry.site(host.site)
        source = self._store.source(host, site, one.month)
        rows = month_rows(source, self._site_calendars.days(site, host.population), site.time_zone)
        self._store.write_month(one.host_id, one.month, rows, is_under_way=is_under_way)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                while not self._stop.is_set() and any(
                    self._writer.submit(piece).result()
                    for piece in (self.run_slice, self.run_slice_under_way)
                ):
                    self._stop.wait(_REST_SECONDS)
            except CollectorError as error:
                log.warning("months not kept yet", extra={"reason": str(error)})
            self._wake.wait(_LOOK_SECONDS)
            self._wake.clear()

    def wake(self) -> None:
        """Wake the background thread now. From any thread."""
        self._wake.set()
