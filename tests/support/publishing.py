# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read and add publications of a data directory under construction, without a socket. For tests, benches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial

from tests.support.clock import unix_seconds
from tests.support.filled import Filled
from tests.support.rolled import roll
from veilleuse.collector.model.publications import (
    Publication,
    PublicationHold,
    PublicationKind,
    content_of,
)
from veilleuse.collector.ports.months import PublicationSummary
from veilleuse.collector.reports.fleet_publication import FleetPublisher
from veilleuse.collector.reports.readers import sobriety_sources_of
from veilleuse.collector.settings import CollectorSettings, ReportingSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.store.sqlite.publications import SqlitePublicationReader
from veilleuse.collector.web.metrics.indicators_monthly import MonthlyFigures


def publish_months(data: Filled, day: date, k: int = 10) -> list[str]:
    """Roll up and publish the months that are due on a day, as the collector does; return those that wait."""
    roll(data, day)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()
    return Publishing(data, lambda: noon).publish_months(day, ReportingSettings(k_anonymity=k))


def monthly_figures(
    data: Filled, clock: Callable[[], float] = unix_seconds, settings: CollectorSettings | None = None
) -> MonthlyFigures:
    """Return what the web process reads of the last month; `clock`: Unix seconds."""
    settings = settings or CollectorSettings(data_dir=data.directory)
    return MonthlyFigures(settings, partial(open_reader, data.directory), Publishing(data), clock)


class Publishing:
    """This object implements PublicationReader, and `publish` as the administration socket does it. It opens
    the store anew for each call and leaves nothing open."""

    def __init__(self, data: Filled, clock: Callable[[], float] = unix_seconds) -> None:
        """`clock` gives the Unix seconds of publication."""
        self._data = data
        self._clock = clock

    def summary(self, kind: PublicationKind, first: date, end: date) -> PublicationSummary | None:
        """See ports.PublicationReader."""
        with closing(SqlitePublicationReader(self._data.directory)) as reader:
            return reader.summary(kind, first, end)

    def find(self, kind: PublicationKind, first: date, end: date) -> Publication | None:
        """See ports.PublicationReader."""
        with closing(SqlitePublicationReader(self._data.directory)) as reader:
            return reader.find(kind, first, end)

    def years(self) -> frozenset[int]:
        """See ports.PublicationReader."""
        with closing(SqlitePublicationReader(self._data.directory)) as reader:
            return reader.years()

    def waits(self, first: date, end: date) -> bool:
        """See ports.PublicationReader."""
        with closing(SqlitePublicationReader(self._data.directory)) as reader:
            return reader.waits(first, end)

    def hold(self) -> PublicationHold | None:
        """See ports.PublicationReader."""
        with closing(SqlitePublicationReader(self._data.directory)) as reader:
            return reader.hold()

    def publish(self, one: Publication) -> None:
        """Store a publication as it arrives through the socket; an earlier one of the same period stays."""
        now = round(self._clock() * 1000)
        content = content_of(one.content.encode())
        self._data.store.publications.put(replace(one, published_unix_milliseconds=now, content=content))

    def publish_months(self, today: date, reporting: ReportingSettings | None = None) -> list[str]:
        """Publish what is due on a day, as the collector does each day; return the months that wait."""
        reporting = reporting or ReportingSettings()
        with open_reader(self._data.directory) as store:
            sources = sobriety_sources_of(store, reporting)
            return FleetPublisher(sources, self.publish, reporting.k_anonymity, today).run()
