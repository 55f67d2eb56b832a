# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores ended months in the writer's thread, in slices of at most 20 ms, while derive is idle."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from veilleuse.collector.errors import CollectorError
from veilleuse.collector.model.months import WAIT_DAYS
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
_REST_SECONDS: Final = 0.020
"""Pause between two slices: it leaves half the writer's time to received records."""


def ended_by(today: date) -> date:
    """Return the first month that may not be stored yet: earlier ones ended 3 days ago or before."""
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
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
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
        """Store every month that may be stored; return their number. Raises the store's errors."""
        self._failed.clear()
        done = 0
        while count := self._writer.submit(self.run_slice).result():
            done += count
        return done

    def run_slice(self) -> int:
        """Store months for at most 20 ms, at least one; return their number.

        It stores none while derive has much to do. Runs in the writer's thread.
        """
        if len(self._derive.dirty(BACKLOG_PERIODS)) == BACKLOG_PERIODS:
            return 0
        until = self._clock() + SLICE_SECONDS
        done = 0
        self._site_calendars.discard_declarations()
        for one in self._store.due(ended_by(self._today()), _PER_SLICE + len(self._failed)):
            if one in self._failed:
                continue
            try:
                self._roll(one)
            except CollectorError:
                raise
            except Exception as error:  # one month never stops the others: decisions/0011
                self._failed.add(one)
                log.error("a month cannot be kept", extra={"month": one.month.isoformat()}, exc_info=error)
            done += 1
            if self._clock() >= until:
                break
        return done

    def _roll(self, one: StaleMonth) -> None:
        host = self._registry.host(one.host_id)
        if host is None:
            self._store.drop_mark(*one)
            return
        site = self._registry.site(host.site)
        source = self._store.source(host, site, one.month)
        rows = month_rows(source, self._site_calendars.days(site, host.population), site.time_zone)
        self._store.write_month(one.host_id, one.month, rows)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                while not self._stop.is_set() and self._writer.submit(self.run_slice).result():
                    self._stop.wait(_REST_SECONDS)
            except CollectorError as error:
                log.warning("months not kept yet", extra={"reason": str(error)})
            self._wake.wait(_LOOK_SECONDS)
            self._wake.clear()

    def wake(self) -> None:
        """Wake the background thread now. From any thread."""
        self._wake.set()
