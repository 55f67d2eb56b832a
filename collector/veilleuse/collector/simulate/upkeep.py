# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Keeps a simulated data directory as the running collector does: months, releases, closings, retention.

The fleet's energy is published at the end of a year and of the simulation, not with each month: it takes
seconds, and only the last publication is read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from typing import Final

from veilleuse.collector.admin.operations import AdminServer
from veilleuse.collector.admin.publications import expire as expire_published
from veilleuse.collector.app.child import leashed_command, run_command
from veilleuse.collector.app.data_directory import Collector
from veilleuse.collector.app.month_publisher import publish_due
from veilleuse.collector.app.schedule import keep_apart
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.months.worker import MonthWorker
from veilleuse.collector.settings import child_environment

CLOSING_SECONDS: Final = 300.0


class Upkeep:
    """The daily tasks of `veilleuse serve`, on the days of the simulation."""

    def __init__(self, collector: Collector) -> None:
        """Take the collector, whose socket is open: `open_upkeep`."""
        self._collector, self._day = collector, date.min
        self._stop = threading.Event()
        store = collector.store
        calendars = SiteCalendars(store.calendars.versions, store.calendars.school_periods)
        self._months = MonthWorker(
            collector.writer, store.rolls, store.derive, store.registry, calendars, today=lambda: self._day
        )

    def run(self, day: date, *, fleet: bool) -> None:
        """Run what is due on a day; `fleet`: publish the fleet's energy too. Raises CollectorError."""
        import time,sys; t=time.time(); c=time.process_time()
        self._day, collector = day, self._collector
        n=self._months.drain()
        t1=time.time();c1=time.process_time()
        if waiting := publish_due(collector.settings, day, fleet=fleet):
            raise CollectorError(f"{waiting[0]} was not published: this is a defect")
        t2=time.time();c2=time.process_time()
        expire_published(collector.operations.context, day)
        r=collector.retention.run(day, alone=True)
        print(day,"months",n,round(t1-t,1),round(c1-c,1),"publish",fleet,round(t2-t1,1),round(c2-c1,1),"retention",r,round(time.time()-t2,1),round(time.process_time()-c2,1),file=sys.stderr)

@contextmanager
def open_upkeep(collector: Collector) -> Iterator[Upkeep]:
    """Open the socket that the tasks' own processes use, while the block runs."""
    with closing(AdminServer(collector.settings.data_dir, collector.operations)):
        yield Upkeep(collector)
