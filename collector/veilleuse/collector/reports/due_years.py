# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Keeps the statistics of open years before retention deletes the data behind them. docs/closing.md.

The running collector checks each day which years are due. A process of its own computes them
(`python -m veilleuse.collector.app.year_keeper`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple, TypeAlias

from veilleuse.collector.closed_years.preconditions import not_over
from veilleuse.collector.errors import AdminError, CollectorError
from veilleuse.collector.ipc import pieces_of
from veilleuse.collector.model.closed_years import KeptYear, pack, sha256
from veilleuse.collector.months.retention import month_limit, months_before
from veilleuse.collector.ports.months import ClosedYearReader
from veilleuse.collector.ports.store import ReadStore
from veilleuse.collector.reports.inputs import Sources, sources_of
from veilleuse.collector.reports.year_basis import basis_of_kept, basis_of_machines, has_deleted_months
from veilleuse.collector.reports.year_statistics_file import build_kept_file
from veilleuse.collector.settings import CollectorSettings, RetentionSettings
from veilleuse.wire.vocabulary import Population

Perform: TypeAlias = Callable[[str, Mapping[str, Any]], Any]
"""(operation, its arguments) → result of the running collector."""


class DueYear(NamedTuple):
    """A year to keep, and the data that may then be deleted."""

    year: int
    readings_may_go: bool
    months_may_go: bool


def years_due(reader: ClosedYearReader, kept: RetentionSettings, today: date) -> Iterator[DueYear]:
    """Yield the ended years that are not closed and need to be kept.

    Such a year was never kept, or more of its data is about to be deleted since it was kept.
    """
    closed = {one.year for one in reader.revisions()}
    known = {one.year: one for one in reader.kept_years()}
    readings = months_before(today, kept.server_records_months)
    for year in range(reader.first_year() or today.year, today.year):
        first, end = date(year, 1, 1), date(year + 1, 1, 1)
        if year in closed or not_over(year, today) or not _has_anything(reader, first, end):
            continue
        kept_year = known.get(year, KeptYear(year, today, False, False, None))
        wanted = DueYear(
            year,
            kept_year.readings_may_go or reader.has_readings(date(year - 1, 12, 31), min(readings, end)),
            kept_year.months_may_go
            or any(_deletes_month(reader, kept, one, first, today) for one in Population),
        )
        if year not in known or wanted != (year, kept_year.readings_may_go, kept_year.months_may_go):
            yield wanted


def _has_anything(reader: ClosedYearReader, first: date, end: date) -> bool:
    return reader.has_months(first, end, tuple(Population)) or reader.has_readings(first, end)


def _deletes_month(
    reader: ClosedYearReader, kept: RetentionSettings, population: Population, first: date, today: date
) -> bool:
    """Return true when retention deletes a month of the year today."""
    limit = min(month_limit(kept, population, today).replace(day=1), first.replace(year=first.year + 1))
    return first < limit and reader.has_months(first, limit, (population,))


def keep_due(store: ReadStore, settings: CollectorSettings, today: date, perform: Perform) -> dict[int, str]:
    """Keep the due years. Return year → reason of a failure: nothing of this year may be deleted today.

    Raises CollectorError when nothing can be read.
    """
    failed: dict[int, str] = {}
    sources = sources_of(store, settings.reporting)
    for one in tuple(years_due(sources.closings, settings.retention, today)):
        try:
            _keep(sources, settings, one, today, perform)
        except CollectorError as error:
            failed[one.year] = str(error)
    return failed


def _keep(sources: Sources, settings: CollectorSettings, one: DueYear, today: date, perform: Perform) -> None:
    closings = sources.closings
    before = next((kept_year for kept_year in closings.kept_years() if kept_year.year == one.year), None)
    if waiting := closings.waiting(one.year).periods:
        raise AdminError(f"{waiting} periods of {one.year} wait to be derived")
    if before is None and has_deleted_months(sources, settings.retention, one.year, today):
        perform("keep_put", {"year": one.year, "day": today.isoformat()})
        return
    found = basis_of_machines(sources, settings, one.year, today, basis_of_kept(sources, settings, before))
    file = build_kept_file(one.year, found.kept, found.facts, found.known)
    digest = sha256(file.statistics)
    day = before.kept_on if before is not None and before.statistics_sha256 == digest else today
    small, upload = pack(file), secrets.token_hex(16)
    for piece in pieces_of(upload, small.report + small.statistics):
        perform("close_part", piece)
    perform(
        "keep_put",
        {
            **one._asdict(),
            "day": day.isoformat(),
            "statistics_sha256": digest,
            "upload": upload,
            "facts_bytes": len(small.report),
        },
    )
