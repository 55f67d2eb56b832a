# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Chooses the source of a year's figure: its machines while their months are stored, else kept statistics.

It also keeps the statistics of open years before retention deletes the data behind them: docs/closing.md. The
running collector checks each day which years are due. A process of its own computes them (`python -m
veilleuse.collector.app.year_keeper`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final, NamedTuple, TypeAlias

from veilleuse.collector.calendars.periods import add_months, day_start_unix_milliseconds, months_before
from veilleuse.collector.closed_years.document import statistics_document
from veilleuse.collector.closed_years.frozen import ClosedRevision
from veilleuse.collector.closed_years.preconditions import not_over
from veilleuse.collector.closed_years.year_statistics import YearStatistics
from veilleuse.collector.errors import AdminError, CollectorError, UsageError
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.ipc import pieces_of
from veilleuse.collector.model.calibration import facts_of
from veilleuse.collector.model.closed_years import KeptYear, YearState, canonical, pack, sha256
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.query import Query
from veilleuse.collector.months.retention import month_limit
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.ports.months import ClosedYearReader
from veilleuse.collector.reports.emissions import IN_NO_ROOM, UNDECLARED, read_undeclared
from veilleuse.collector.reports.fleet_year import read_assumptions, reduce_whole_year
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.reports.rooms import readings_gone_before
from veilleuse.collector.reports.year_statistics_file import build_kept_file, load_kept
from veilleuse.collector.settings import CollectorSettings, RetentionSettings
from veilleuse.wire.vocabulary import Population

ROOMS_BASIS: Final = "rooms_basis"
LATER: Final = "readings since "
_FACTS: Final = (
    "inventory_imported_on",
    *UNDECLARED,
    "calendars",
    "school_holidays_sha256",
    "calibrations",
    ROOMS_BASIS,
)
Perform: TypeAlias = Callable[[str, Mapping[str, Any]], Any]
"""(operation, its arguments) → result of the running collector."""


def keep_year(sources: Sources, year: int, *, k: int, today: date) -> YearStatistics:
    """Reduce a calendar year; `k` is the fewest workstations or classroom PCs of a cell.

    Raises UsageError for a year out of range.
    """
    query = Query(date(year, 1, 1), date(year + 1, 1, 1), (), k, today)
    return reduce_whole_year(sources, query)


@dataclass(frozen=True, slots=True)
class YearBasis:
    """Source of a year's figure."""

    kept: YearStatistics
    statistics: bytes
    """`kept` as it is stored."""
    facts: Mapping[str, Any]
    """Declarations in force when `kept` was computed from machines."""
    known: Assumptions
    source: str
    """Name of the source in the report: machines, or which statistics."""

    @property
    def is_of_machines(self) -> bool:
        """Return false for statistics: they include no data received since."""
        return self.source == "machines"


def choose_basis(
    sources: Sources, settings: CollectorSettings, year: int, today: date, last: ClosedRevision | None
) -> YearBasis:
    """Choose the source of a year; `last` is its last revision.

    Raises UsageError when machines' months are deleted and no statistics of them were kept.
    """
    kept_year = next((one for one in sources.closings.kept_years() if one.year == year), None)
    before: YearBasis | None
    if last is not None:
        before = _basis_of_revision(sources, last)
        if last.closed_year.state is YearState.CLOSED_DEFINITIVE:
            return before
    else:
        before = basis_of_kept(sources, settings, kept_year)
    if not (
        (kept_year is not None and kept_year.months_may_go)
        or has_deleted_months(sources, settings.retention, year, today)
    ):
        return basis_of_machines(sources, settings, year, today, before)
    if before is None:
        raise UsageError(
            f"months of machines in {year} are gone, they are kept for {settings.retention.pc_monthly_months} months, and {year} was "
            "never closed meanwhile, nor kept by the collector itself, which an earlier program did not do"
        )
    return before


def basis_of_machines(
    sources: Sources, settings: CollectorSettings, year: int, today: date, before: YearBasis | None
) -> YearBasis:
    """Compute the year from the store's machines.

    `before` is an earlier basis; its rooms are used when meter readings are deleted since.
    """
    kept = keep_year(sources, year, k=settings.reporting.k_anonymity, today=today)
    kept, rooms_basis = _with_rooms(sources, settings, year, today, kept, before)
    known = read_assumptions(sources, random_roll_out=settings.reporting.random_roll_out)
    facts = {**_facts(sources, year), ROOMS_BASIS: rooms_basis}
    if before is not None and kept.rooms == before.kept.rooms:  # their readings may be deleted
        facts |= {IN_NO_ROOM: before.facts[IN_NO_ROOM]} if IN_NO_ROOM in before.facts else {}
    return YearBasis(kept, canonical(statistics_document(kept)), facts, known, "machines")


def _basis_of_revision(sources: Sources, last: ClosedRevision) -> YearBasis:
    facts = {name: last.report[name] for name in _FACTS if name in last.report}
    statistics = sources.closings.file(last.closed_year).statistics  # as stored, whatever program wrote them
    return YearBasis(
        last.kept, statistics, facts, last.terms.assumptions, f"statistics of {last.closed_year.report_id}"
    )


def basis_of_kept(
    sources: Sources, settings: CollectorSettings, kept_year: KeptYear | None
) -> YearBasis | None:
    """Return the statistics that the collector kept by itself; None when it could not keep them."""
    if kept_year is None or kept_year.statistics_sha256 is None:
        return None
    found = load_kept(sources.closings, kept_year)
    known = found.with_stored_calibrations(
        read_assumptions(sources, random_roll_out=settings.reporting.random_roll_out)
    )
    return YearBasis(
        found.kept, found.statistics, found.facts, known, f"statistics kept on {kept_year.kept_on}"
    )


def _with_rooms(
    sources: Sources,
    settings: CollectorSettings,
    year: int,
    today: date,
    kept: YearStatistics,
    before: YearBasis | None,
) -> tuple[YearStatistics, str]:
    """Return (statistics with rooms, source of the rooms).

    Meter readings are deleted before the year's own factor is published. Then the rooms of an earlier basis
    are used.
    """
    gone = readings_gone_before(sources, year, today, settings.retention.server_records_months)
    if gone is None or not (kept.rooms or (before and before.kept.rooms)):
        return kept, "readings"
    if before is None:
        return kept, f"{LATER}{gone}"
    basis = str(before.facts.get(ROOMS_BASIS, ""))
    return replace(kept, rooms=before.kept.rooms), basis if basis.startswith(LATER) else before.source


def _facts(sources: Sources, year: int) -> dict[str, Any]:
    """Return the declarations in force."""
    imported = sources.inventory.inventory_imported_on()
    return {
        "inventory_imported_on": imported.isoformat() if imported else None,
        **read_undeclared(sources, date(year, 1, 1), date(year + 1, 1, 1)),
        "calendars": {site.site: _calendar_sha256(sources, site) for site in sources.reader.sites()},
        "school_holidays_sha256": sha256(
            canonical(
                [
                    [one.zone.value, one.first.isoformat(), one.last.isoformat(), one.name]
                    for one in sources.reader.school_periods()
                ]
            )
        ),
        "calibrations": [
            {"calibration_id": stored.calibration_id, **facts_of(stored.kept)}
            for stored in sources.reader.calibrations()
            if stored.ended_unix_milliseconds is None
        ],
    }


def _calendar_sha256(sources: Sources, site: Site) -> str:
    """Return the SHA-256 of all versions of a site's calendar."""
    versions = [
        [
            version.from_day.isoformat(),
            version.calendar.to_json(),
            version.declaration.to_json() if version.declaration else None,
        ]
        for version in sources.reader.calendars(site)
    ]
    return sha256(canonical(versions))


def has_deleted_months(sources: Sources, kept: RetentionSettings, year: int, today: date) -> bool:
    """Return true when retention has deleted months of the year: old months that must have existed are
    missing.

    A few machines with such a month prove nothing: a late record creates one, and a month that cannot be
    stored holds one back. A machine last heard of before the year never had such a month.
    """
    january = date(year, 1, 1)
    seen = {host_id for host_id, _, _ in sources.reader.state_totals()}
    hosts = [
        host
        for host in sources.reader.hosts()
        if host.host_id in seen and not _is_silent_since(host, january)
    ]
    for population in Population:
        mine = [host for host in hosts if host.population is population]
        if not mine or month_limit(kept, population, today) < january.replace(month=2):
            continue
        first = max(january, min(host.enrolled_on for host in mine).replace(day=1))
        end = add_months(first, 1)
        there = {row.host_id for row in sources.periods.host_months(first, end)}
        enrolled = [host.host_id for host in mine if host.enrolled_on < end]
        if first.year == year and 2 * sum(one in there for one in enrolled) < len(enrolled):
            return True
    return False


def _is_silent_since(host: Host, day: date) -> bool:
    """Return true when the host's last contact was before that UTC day; false when its last contact is
    unknown.
    """
    last = host.last_contact_unix_milliseconds
    return last is not None and last < day_start_unix_milliseconds(day, "UTC")


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


def keep_due(
    store: ReadStore,
    settings: CollectorSettings,
    today: date,
    perform: Perform,
    tell: Callable[[int], None] = lambda _: None,
) -> dict[int, str]:
    """Keep the due years. Return year → reason of a failure: nothing of this year may be deleted today.

    `tell` hears of each year before its work. Raises CollectorError when nothing can be read.
    """
    failed: dict[int, str] = {}
    sources = sources_of(store, settings.reporting)
    for one in tuple(years_due(sources.closings, settings.retention, today)):
        tell(one.year)
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
