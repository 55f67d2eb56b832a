# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Keeps a simulated data directory as the running collector does: months, releases, closings, retention.

The fleet's energy is published at the end of a year and of the simulation, not with each month: it takes
seconds, and only the last publication is read.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date
from functools import partial
from typing import Final

from veilleuse.collector.admin.operations import AdminServer
from veilleuse.collector.admin.publications import expire as expire_published
from veilleuse.collector.app.data_directory import Collector
from veilleuse.collector.app.month_publisher import publish_due
from veilleuse.collector.app.year_keeper import propose_year
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.ipc import pieces_of
from veilleuse.collector.model.closed_years import pack
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.months.worker import MonthWorker
from veilleuse.collector.reports.close_year import ClosingOrder

_TOGETHER_SECONDS: Final = 2.0
"""Length of a transaction: no other task waits for the writer here."""


def run_slices(collector: Collector, run_slice: Callable[[], int]) -> int:
    """Run slices in the writer's thread until one has nothing to do; return the sum of their numbers.

    Many are one transaction, and no savepoint is around it: SQLite would copy each page that changes.
    """

    def job() -> int:
        done, until = 0, time.monotonic() + _TOGETHER_SECONDS
        with collector.store.transaction():
            while time.monotonic() < until and (some := run_slice()):
                done += some
        return done

    total = 0
    while done := collector.writer.submit(job, alone=True).result():
        total += done
    return total


class Upkeep:
    """The daily tasks of `veilleuse serve`, on the days of the simulation."""

    def __init__(self, collector: Collector) -> None:
        """Take the collector, whose socket is open: `open_upkeep`."""
        self._collector, self._day = collector, date.min
        store = collector.store
        calendars = SiteCalendars(store.calendars.versions, store.calendars.school_periods)
        self._months = MonthWorker(
            collector.writer, store.rolls, store.derive, store.registry, calendars, today=lambda: self._day
        )

    def run(self, day: date, *, fleet: bool) -> None:
        """Run what is due on a day; `fleet`: publish the fleet's energy too. Raises CollectorError."""
        self._day, collector = day, self._collector
        run_slices(collector, self._months.run_slice)
        if waiting := publish_due(collector.settings, day, fleet=fleet):
            raise CollectorError(f"{waiting[0]} was not published: this is a defect")
        expire_published(collector.operations.context, day)
        collector.retention.run(day, alone=partial(run_slices, collector))

    def close(self, year: int) -> None:
        """Close a year provisionally, as `veilleuse close`. Raises CollectorError."""
        collector = self._collector
        now = collector.issuing.now_unix_milliseconds()
        made = propose_year(
            collector.settings, ClosingOrder(year, False, "veilleuse simulate", "", now, self._day)
        )
        small, upload, perform = pack(made.file), secrets.token_hex(16), collector.operations.perform
        for piece in pieces_of(upload, small.report + small.statistics):
            perform("close_part", piece)
        perform("close_put", {"upload": upload, "report_bytes": len(small.report)})


@contextmanager
def open_upkeep(collector: Collector) -> Iterator[Upkeep]:
    """Open the socket that the tasks' own processes use, while the block runs."""
    with closing(AdminServer(collector.settings.data_dir, collector.operations)):
        yield Upkeep(collector)
