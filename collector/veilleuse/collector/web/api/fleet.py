# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The fleet's figure for an administrator: the report itself, with one eye on the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date

from veilleuse.collector.documents.document import SHOWN, Document, Row
from veilleuse.collector.model.months import HostPeriod
from veilleuse.collector.ports import PeriodReader
from veilleuse.collector.reports.emissions import emissions_report_of, today
from veilleuse.collector.reports.fleet_year import YearQuestion
from veilleuse.collector.reports.inputs import opened
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite.bounded_reader import BoundedReader
from veilleuse.collector.web.api.query import Asked


def fleet_document(reader: BoundedReader, settings: CollectorSettings, asked: Asked) -> Document:
    """As `veilleuse report emissions` gives it. Inside `reader.within`. Raises QueryTooSlow, UsageError, UnknownZone."""
    reporting = settings.reporting
    question = YearQuestion(asked.first, asked.end, asked.dimensions, reporting.k_anonymity, today())
    with opened(settings.data_dir, reporting, reader) as sources:
        watched = replace(sources, periods=_Watched(sources.periods, reader.check_time))
        made = emissions_report_of(watched, question, random_roll_out=reporting.random_roll_out)
    reader.check_time()
    tables = {name: [_bare(row) for row in rows] for name, rows in made.document.tables.items()}
    return replace(made.document, tables=tables)


def _bare(row: Row) -> Row:
    """Without its texts for people, which neither JSON nor CSV holds."""
    return {name: value for name, value in row.items() if name != SHOWN}


@dataclass(frozen=True, slots=True)
class _Watched:
    """Months of machines; the clock is looked at between two rows, since most of a report's time is ours and not SQLite's."""

    periods: PeriodReader
    check_time: Callable[[], None]

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        """See ports.PeriodReader. Raises QueryTooSlow."""
        yield from self._in_time(self.periods.host_periods(first, end))

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        """Likewise."""
        yield from self._in_time(self.periods.host_months(first, end))

    def _in_time(self, rows: Iterator[HostPeriod]) -> Iterator[HostPeriod]:
        self.check_time()
        for row in rows:
            self.check_time()
            yield row
