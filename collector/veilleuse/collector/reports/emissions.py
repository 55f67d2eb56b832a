# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the emissions report for the commands, the API and the publication."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from veilleuse.collector.account.emissions import kwh
from veilleuse.collector.account.equivalences import equivalences
from veilleuse.collector.account.ghg_items import DEFAULT_MAPPING
from veilleuse.collector.account.rounding import format_row
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.account.statement import (
    METHOD_VERSION,
    ChooseFactor,
    StatementTerms,
    build_statement,
)
from veilleuse.collector.calendars.periods import civil_day, day_start_unix_milliseconds
from veilleuse.collector.closed_years.frozen import ClosedRevision
from veilleuse.collector.closed_years.published_rows import (
    closed_figures,
    first_statement,
    mark_rows,
    require_publishable,
    statement_terms,
)
from veilleuse.collector.closed_years.signed_year import SignedYear, read_signed_year
from veilleuse.collector.documents.document import (
    PUBLIC,
    RELEASED_FROM,
    RELEASED_UNTIL,
    SHOWN,
    Document,
    Head,
    Row,
    Value,
    add_under_way,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.closed_years import MONTHS_OF_YEAR, YearState
from veilleuse.collector.model.factors import ChosenFactor, Contract
from veilleuse.collector.model.figures import (
    ESTIMATE,
    SINCE_PUBLICATION,
    Activity,
    EmissionsRow,
    EmissionsStatement,
    EnergyByOrigin,
    RowEmissions,
    RowOrigin,
)
from veilleuse.collector.model.query import Basis, Query
from veilleuse.collector.release.figures import (
    ReleasedStretch,
    find_stretches,
    missing_months,
    read_figures,
)
from veilleuse.collector.reports import emissions_document as emissions_report
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.fleet_year import (
    compare_with_year_before,
    factor_chooser,
    has_data,
    query_of_year_before,
    read_assumptions,
    servers_in_rooms,
    year_figures,
)
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.reports.rooms import no_room_warning, room_warnings
from veilleuse.collector.reports.year_statistics_file import missing_data, missing_data_warning, statistics_of

IN_NO_ROOM: Final = "servers_in_no_room"
MISSING_DATA: Final = "missing_data"
"""Field of the head of a report of present data: see `missing_data`."""
_OF_DEVICES: Final = ("devices_without_day", "devices_without_site", "default_zone")
UNDECLARED: Final = (*_OF_DEVICES, IN_NO_ROOM)
"""Fields of a report's head about missing declarations."""


def read_undeclared(
    sources: Sources, first: date, end: date, *, devices: bool = True
) -> dict[str, Value | list[str] | None]:
    """Count the devices in service in [first, end) whose site or service day nobody declared.

    A device without a day counts from the first day on; one without a site takes the default zone. The counts
    are None without an inventory. Servers placed in no room of their site are listed, where there are any.
    `devices`: with these counts.
    """
    servers = list(servers_in_no_room(sources, first, end))
    counts = _devices(sources, first, end) if devices else {}
    return {**counts, **({IN_NO_ROOM: servers} if servers else {})}


def servers_in_no_room(sources: Sources, first: date, end: date) -> Iterator[str]:
    """Yield servers of sites with a metered room that are in no room on a day with meter readings.

    Such servers may count twice.
    """
    if not sources.metering.declarations().meters:
        return
    query = Query(first, end, (), 1, end)
    servers = servers_in_rooms(sources, query)
    zones = {site.site: site.time_zone for site in sources.reader.sites()}
    read: defaultdict[str, set[int]] = defaultdict(set)
    for meter in servers.declared.meters:
        if servers.may_hold_servers(meter.room):
            zone = zones[meter.site]
            start, stop = (day_start_unix_milliseconds(day, zone) for day in (first, end))
            hours = sources.metering.hours([meter.meter], start, stop)[meter.meter]
            read[meter.site].update({civil_day(ZoneInfo(zone), hour) for hour in hours})
    yield from servers.in_no_room(read)


def servers_in_no_room_on(sources: Sources, day: date) -> list[str]:
    """Return the servers of `servers_in_no_room` on one day, with or without meter readings on that day."""
    end = day + timedelta(days=1)
    servers = servers_in_rooms(sources, Query(day, end, (), 1, end))
    sites = {meter.site for meter in servers.declared.meters if servers.may_hold_servers(meter.room)}
    return list(servers.in_no_room({site: (day.toordinal(),) for site in sites}))


def _devices(sources: Sources, first: date, end: date) -> dict[str, Value | None]:
    devices = sources.inventory.devices(first, end - timedelta(days=1))
    if not devices:
        return dict.fromkeys(_OF_DEVICES)
    sites = {site.site for site in sources.reader.sites()}
    without_site = sum(one.number for one in devices if (one.site or one.machine_site) not in sites)
    return {
        "devices_without_day": sum(one.ages_years.get(None, 0) for one in devices),
        "devices_without_site": without_site,
        "default_zone": sources.reporting.zone if without_site else None,
    }


_LIVE: Final = ("periods_not_derived", "unexplained_milliseconds")
MOST_DAYS_BALANCED: Final = timedelta(days=62)
"""Longest period whose balance is read day by day: days of workstations are kept as long."""


@dataclass(frozen=True, slots=True)
class EmissionsReport:
    """A report with the figures that it was built from."""

    statement: EmissionsStatement
    periods: tuple[PeriodFigures, ...]
    document: Document
    warnings: tuple[Mapping[str, str], ...] = ()
    """Errors and doubts about its server rooms; the document holds them too."""
    signed_year: SignedYear | None = None
    """Sign-off of a closed year; the commands add it to the document."""


def emissions_report_of(
    sources: Sources,
    query: Query,
    *,
    compare: bool = True,
    random_roll_out: bool = False,
    undeclared: bool = True,
) -> EmissionsReport:
    """Build the official ledger of every group; `compare` adds the change from the year before.

    `undeclared`: its head counts devices without a declared day or site. Raises UnknownZone, UsageError.
    """
    if stretches := find_stretches(sources.released, query):
        return released_report(
            sources, query, stretches, random_roll_out=random_roll_out, undeclared=undeclared
        )
    revisions = sources.closings.revisions(query.first.year) if query.civil_year else ()
    if revisions and ("month" not in query.dimensions or revisions[-1].state is YearState.CLOSED_DEFINITIVE):
        return _closed_year_report(sources, query, compare=compare)
    if query.basis is Basis.OBSERVED:
        raise UsageError(
            f"no month of {query.first} to {query.end} is released in this grouping: ask for whole months that ended, "
            "by entity, population, device class, year or month"
        )
    known = read_assumptions(sources, random_roll_out=random_roll_out)
    data = "simulated" if sources.reader.data_kind().simulated else "real"
    query = replace(query, is_compared=compare and has_data(sources, query_of_year_before(query)))
    periods = year_figures(sources, query, known)
    mappings = sources.factors.mappings()
    earlier, why_not = compare_with_year_before(sources, query, known, len(periods)) if compare else ({}, {})
    terms = StatementTerms(
        factor_chooser(sources),
        data,
        mappings[-1] if mappings else DEFAULT_MAPPING,
        _contracts(sources),
        earlier,
        why_not,
    )
    statement = build_statement(periods, terms)
    if "month" in query.dimensions and query.civil_year:
        whole = replace(query, dimensions=())
        year = emissions_report_of(sources, whole, compare=compare, random_roll_out=random_roll_out)
        own = year.statement.totals
        if len(statement.totals) == MONTHS_OF_YEAR:
            own = _year_total_rows(own, statement.totals, query.k_anonymity)
        statement = replace(statement, year=own)
    head = _head(sources, query, data) | read_undeclared(sources, query.first, query.end, devices=undeclared)
    head[MISSING_DATA] = list(missing_data(sources, query)) or None
    report = _build_report(statement, periods, {**head, BASIS: Basis.UNRELEASED.value})
    return replace(report, document=_mark_under_way(report.document, query))


def released_report(
    sources: Sources,
    query: Query,
    stretches: Sequence[ReleasedStretch],
    *,
    random_roll_out: bool = False,
    undeclared: bool = True,
    servers: bool = True,
) -> EmissionsReport:
    """Build the report of released months: every outlet and account has the same digits.

    `undeclared`: see `emissions_report_of`. `servers`: it names the servers that are in no room, for those
    who may see single servers. Raises UnknownZone, StoreDamaged.
    """
    query, closed = sources.add_perimeters(query), _closed_revision(sources, query)
    statement, periods, data = _read_released(sources, query, stretches, closed, random_roll_out)
    facts = _released_facts(query, stretches)
    used = sorted(frozenset[str]().union(*(one.declared for one in periods)))
    facts[emissions_report.DECLARED_POWERS] = used or None
    since = min((one.since for one in periods if one.since), default=query.first)
    if since > query.first:
        facts[RELEASED_FROM] = since.isoformat()
    statement = replace(statement, withheld=tuple(missing_months(stretches, query)))
    if closed is None:
        head = _head(sources, query, data)
        if servers:
            head |= read_undeclared(sources, query.first, query.end, devices=undeclared)
        return _build_report(statement, periods, {**head, **facts})
    statement = mark_rows(statement, closed, first_statement(sources.closings, closed, query))
    if not query.entities and query.basis is Basis.RELEASED:
        own = closed_figures(sources.closings, query.first.year, (), None, compare=True)
        assert own is not None, "there are revisions, and none is ever removed"
        estimates = tuple(replace(row, level=ESTIMATE) for row in own.statement.totals)
        months = () if statement.withheld else statement.totals
        statement = replace(statement, year=_year_total_rows(estimates, months, query.k_anonymity))
    head_of_closed = {**_head_of_closed(sources, query, closed), **facts}
    if not servers:
        head_of_closed |= dict.fromkeys(UNDECLARED)
    return replace(
        _build_report(statement, periods, head_of_closed),
        signed_year=read_signed_year(sources.closings, closed.report),
    )


def released_groups(
    sources: Sources, query: Query, stretches: Sequence[ReleasedStretch], *, random_roll_out: bool
) -> Document:
    """Build the rows and totals of released months alone, in another grouping than the report's.

    Raises UnknownZone, StoreDamaged.
    """
    query = sources.add_perimeters(query)
    closed = _closed_revision(sources, query)
    statement, _, _ = _read_released(sources, query, stretches, closed, random_roll_out)
    return emissions_report.document(statement, _released_facts(query, stretches))


def _released_facts(query: Query, stretches: Sequence[ReleasedStretch]) -> dict[str, Any]:
    until = {RELEASED_UNTIL: stretches[-1].part.end.isoformat()} if stretches else {}
    return {BASIS: query.basis.value, **until}


def _closed_revision(sources: Sources, query: Query) -> ClosedRevision | None:
    return sources.released.closed(query.first.year) if query.civil_year else None


def _read_released(
    sources: Sources,
    query: Query,
    stretches: Sequence[ReleasedStretch],
    closed: ClosedRevision | None,
    random_roll_out: bool,
) -> tuple[EmissionsStatement, tuple[PeriodFigures, ...], str]:
    """Return statement and figures of released months, and whether the data are real or simulated."""
    data = "simulated" if sources.reader.data_kind().simulated else "real"
    if closed is None:
        mappings, contracts = sources.factors.mappings(), _contracts(sources)
        mapping = mappings[-1] if mappings else DEFAULT_MAPPING
    else:
        mapping, contracts, data = closed.terms.mapping, list(closed.terms.contracts), closed.terms.data
        random_roll_out = closed.terms.assumptions.random_roll_out
    periods = read_figures(sources.released, stretches, query, random_roll_out=random_roll_out)
    terms = statement_terms(len(periods), _choose_as_closed(sources), data, mapping, contracts)
    return build_statement(periods, terms), periods, data


def _choose_as_closed(sources: Sources) -> ChooseFactor:
    """Return a function (zone, year) → factor: of a closed year its own. It raises UnknownZone."""
    book = factor_chooser(sources)

    def choose(zone: str, year: int) -> ChosenFactor:
        closed = sources.released.closed(year)
        return book(zone, year) if closed is None else closed.terms.choose(zone, year)

    return choose


def _contracts(sources: Sources) -> list[Contract]:
    return [kept.contract for kept in sources.factors.contracts() if kept.withdrawn_unix_milliseconds is None]


def prepare_for_publication(report: EmissionsReport) -> EmissionsReport:
    """Return what may be published: released rows, without what counts present machines.

    Raises UsageError for an unreleased report: two of them can be subtracted.
    """
    head = report.document.head
    if head.get(BASIS) not in (Basis.RELEASED.value, Basis.OBSERVED.value):
        raise UsageError(
            f"--public is of released months, and {head['from']} to {head['to']} is not released in this grouping: ask for whole "
            "months that ended, by entity, population, device class, perimeter, year or month"
        )
    kept = {name: value for name, value in head.items() if name not in _LIVE}
    made = _build_report(replace(report.statement, year=()), report.periods, {**kept, PUBLIC: True})
    return replace(made, signed_year=report.signed_year)


def _mark_under_way(document: Document, query: Query) -> Document:
    """Mark a period under way: the fleet counts until yesterday, and today counts what is measured by now."""
    if query.end <= query.today:
        return document
    noted = replace(document, assumptions=(*document.assumptions, emissions_report.UNDER_WAY))
    return add_under_way(noted, query.today, query.today - timedelta(days=1))


def _closed_year_report(sources: Sources, query: Query, *, compare: bool) -> EmissionsReport:
    """Build the report as it was frozen, whatever happened to factors and machines since."""
    found = closed_figures(
        sources.closings,
        query.first.year,
        query.dimensions,
        query.level,
        compare=compare,
    )
    assert found is not None, "there are revisions, and none is ever removed"
    require_publishable(
        found.closed,
        k=query.k_anonymity,
        current_tree=query.current_tree,
        dimensions=query.dimensions,
    )
    head = {**_head_of_closed(sources, query, found.closed), BASIS: Basis.UNRELEASED.value}
    signed_year = read_signed_year(sources.closings, found.closed.report)
    return replace(_build_report(found.statement, found.periods, head), signed_year=signed_year)


def _head_of_closed(sources: Sources, query: Query, closed: ClosedRevision) -> Head:
    closed_year = closed.closed_year
    return {
        **_head(sources, query, closed.terms.data),
        "inventory_imported_on": closed.report["inventory_imported_on"],
        **{name: closed.report.get(name) for name in UNDECLARED},
        emissions_report.DECLARED_POWERS: sorted(closed.terms.assumptions.declared) or None,
        "k_anonymity": closed.kept.k,
        "state": closed_year.state.value,
        "report_id": closed_year.report_id,
        "revision": closed_year.revision,
        "sha256": closed_year.sha256,
        "closed_unix_milliseconds": closed_year.closed_unix_milliseconds,
        "method_version": closed.report["method_version"],
        "periods_not_derived": 0,
        "unexplained_milliseconds": None,
    }


def _build_report(
    statement: EmissionsStatement, periods: tuple[PeriodFigures, ...], head: Head
) -> EmissionsReport:
    texts = _texts(statement)
    warnings = tuple(_warnings(periods, head))
    document = emissions_report.document(statement, head, texts, _equivalents(statement), warnings)
    return EmissionsReport(statement, periods, document, warnings)


def _warnings(periods: Iterable[PeriodFigures], head: Head) -> Iterator[Mapping[str, str]]:
    for period in periods:
        for room in period.rooms:
            if room.servers is not None:
                yield from room_warnings(room.room, period.first, period.end, room.servers)
    if isinstance(servers := head.get(IN_NO_ROOM), list):
        yield no_room_warning(servers)
    if isinstance(missing := head.get(MISSING_DATA), list):
        yield missing_data_warning(missing)


def _texts(statement: EmissionsStatement) -> list[dict[str, Mapping[str, str]]]:
    alone = len(statement.totals) == 1
    every = (*statement.rows, *statement.totals, *statement.memo)
    return [*(format_row(row, in_words=alone) for row in every), *map(format_row, statement.year)]


def _year_total_rows(
    year: tuple[EmissionsRow, ...], months: tuple[EmissionsRow, ...], k: int
) -> tuple[EmissionsRow, ...]:
    """Return the year's own total and its difference from the sum of its months' totals.

    `months` is () where some are not released. The difference is left out then, and where a month or the year
    lacks machines, or has fewer than k: it could be theirs.
    """
    if len(year) != 1 or not months:
        return year
    (total,) = year
    if any(
        row.activity.incomplete or (row.activity.n or 0) < k or row.energy.energy_millijoules is None
        for row in (total, *months)
    ):
        return year
    energy = (total.energy.energy_millijoules or 0) - sum(
        row.energy.energy_millijoules or 0 for row in months
    )
    kilograms = math.fsum(
        (total.emissions.kgco2e_total or 0.0, *(-(row.emissions.kgco2e_total or 0.0) for row in months))
    )
    since = EmissionsRow(
        total.key,
        SINCE_PUBLICATION,
        Activity(total.activity.n, total.activity.machine_days_observed),
        EnergyByOrigin(energy_millijoules=energy, kwh_total=float(kwh(energy))),
        emissions=RowEmissions(kilograms),
        origin=RowOrigin(total.origin.data, total.origin.method_version),
    )
    return total, since


def _head(sources: Sources, query: Query, data: str) -> dict[str, Value | list[str] | None]:
    imported = sources.inventory.inventory_imported_on()
    return {
        "from": query.first.isoformat(),
        "to": query.end.isoformat(),
        "group_by": list(query.dimensions),
        **({"level": query.level} if query.level else {}),
        "k_anonymity": query.k_anonymity,
        "tree": "current, pro forma" if query.current_tree else "as of then",
        "inventory_imported_on": imported.isoformat() if imported else None,
        "data": data,
        "state": "open",
        "years_of_statistics": statistics_of(sources, query.first, query.end) or None,
        emissions_report.DECLARED_POWERS: sorted(sources.declared_powers.by_class) or None,
        "method_version": METHOD_VERSION,
        "periods_not_derived": sources.reader.dirty_count(),
        "unexplained_milliseconds": _unexplained_milliseconds(sources, query),
        "generated_unix_milliseconds": query.now_unix_milliseconds,
    }


def _equivalents(statement: EmissionsStatement) -> Iterator[Row]:
    """Yield the equivalences of a single total; several totals are compared with each other instead."""
    if len(statement.totals) == 1 and statement.totals[0].emissions.kgco2e_total:
        for one in equivalences(statement.totals[0].emissions.kgco2e_total):
            yield {
                "equivalent": one.slug,
                "number": one.number,
                "source": one.source,
                "published": one.published,
                SHOWN: {"number": one.shown},
            }


def _unexplained_milliseconds(sources: Sources, query: Query) -> int | None:
    """Return the time (R18) neither stored nor declared lost, while the days are kept.

    None for longer periods, whose coverage shows the gap.
    """
    if query.end - query.first > MOST_DAYS_BALANCED:
        return None
    rows = sources.reader.balance(query.first, query.end - timedelta(days=1), by_hour=False)
    return sum(row.unexplained_milliseconds for row in rows)
