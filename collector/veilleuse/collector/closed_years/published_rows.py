# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reports closed years: a single year as frozen, with the first published values;
among other years, from its statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, TypeAlias

from veilleuse.collector.account.change import NoComparison
from veilleuse.collector.account.row import PeriodFigures, list_home_shares
from veilleuse.collector.account.statement import (
    METHOD_VERSION,
    ChooseFactor,
    StatementTerms,
    build_statement,
    home_row,
)
from veilleuse.collector.calendars.periods import Slice, add_months, slices
from veilleuse.collector.closed_years.document import FrozenTerms
from veilleuse.collector.closed_years.frozen import (
    GROUPING,
    ClosedRevision,
    NotAClosedYear,
    YearComparison,
    frozen_figures,
    frozen_statement,
    revision_of,
    statement_documents,
)
from veilleuse.collector.closed_years.restate import restate_year
from veilleuse.collector.errors import StoreDamaged, UsageError
from veilleuse.collector.model.closed_years import RELEASED, ClosedYear
from veilleuse.collector.model.factors import BilanMapping, ChosenFactor, Contract
from veilleuse.collector.model.figures import (
    COLUMNS,
    EmissionsRow,
    EmissionsStatement,
    RowChange,
    RowOrigin,
    column_type,
)
from veilleuse.collector.model.query import GroupKey, Perimeters, Query
from veilleuse.collector.ports.months import ClosedYearReader, PublicationReader
from veilleuse.collector.release.figures import PublishedFleet, divide_at_holes, sum_fleet
from veilleuse.collector.release.rows import FLEET, FleetMonth


@dataclass(frozen=True, slots=True)
class ClosedFigures:
    """Last revision of a year."""

    closed: ClosedRevision
    statement: EmissionsStatement
    periods: tuple[PeriodFigures, ...]


def load_closed(reader: ClosedYearReader, closed_year: ClosedYear) -> ClosedRevision:
    """Load a revision. Raises StoreDamaged for a contradictory one."""
    try:
        return revision_of(closed_year, reader.file(closed_year))
    except NotAClosedYear as error:
        raise StoreDamaged(
            f"closed year {closed_year.report_id}: {error}; run 'veilleuse verify {closed_year.year}', and restore a backup"
        ) from error


def require_publishable(
    closed: ClosedRevision, *, k: int, current_tree: bool, dimensions: Iterable[str]
) -> None:
    """Check a query against a closed year. Raises UsageError for what its statistics no longer allow."""
    closed_year = closed.closed_year
    if current_tree:
        raise UsageError(
            f"{closed_year.year} is closed: machines stand where they stood then, leave out --tree now"
        )
    if k > closed.kept.k:
        raise UsageError(
            f"{closed_year.year} was closed with cells of {closed.kept.k} machines or more: "
            f"reporting.k_anonymity {k} cannot be shown of it"
        )
    if "month" in dimensions:
        raise UsageError(f"{closed_year.year} is closed: what is kept of it is the year, leave out 'month'")


def closed_figures(
    reader: ClosedYearReader,
    year: int,
    dimensions: tuple[str, ...],
    level: int | None,
    *,
    compare: bool,
) -> ClosedFigures | None:
    """Return the figures as frozen; None for an open year. Raises UsageError, StoreDamaged.

    `level`: as in restate_year. `compare`: with the year before, only where that is closed too: otherwise
    the report would change once its machines are deleted.
    """
    revisions = reader.revisions(year)
    if not revisions:
        return None
    last = load_closed(reader, revisions[-1])
    compared = _year_before(reader, last, dimensions, level) if compare else None
    statement, periods = _state(last, dimensions, level, compared)
    published: EmissionsStatement | None = statement
    if len(revisions) > 1:
        first = load_closed(reader, revisions[0])
        published = (
            _state(first, dimensions, level, None)[0] if _can_state(first, dimensions, level) else None
        )
    return ClosedFigures(last, mark_rows(statement, last, published), periods)


def _year_before(
    reader: ClosedYearReader, closed: ClosedRevision, dimensions: tuple[str, ...], level: int | None
) -> YearComparison:
    """Return the year before under this year's assumptions,
    with its own factors, or the reason for its absence.
    """
    revisions = reader.revisions(closed.closed_year.year - 1)
    if not revisions:
        return YearComparison({}, closed.terms.choose, NoComparison.OPEN.value)
    before = load_closed(reader, revisions[-1])
    if before.kept.k < closed.kept.k:  # the change would reveal the smaller groups of the year before
        return YearComparison({}, closed.terms.choose, NoComparison.NOT_KEPT.value)
    period = restate_year(before.kept, dimensions, closed.terms.assumptions, level=level)
    if period.total is None or not period.total.estimate.energy_millijoules:
        return YearComparison({}, closed.terms.choose, NoComparison.NO_DATA.value)

    def choose(zone: str, year: int) -> ChosenFactor:
        """Return the zone's factor of the year before; a zone absent then has no other factor."""
        return before.terms.choose(zone, year) if zone in before.terms.factors else closed.terms.factors[zone]

    return YearComparison({0: period}, choose)


def _state(
    closed: ClosedRevision, dimensions: tuple[str, ...], level: int | None, compared: YearComparison | None
) -> tuple[EmissionsStatement, tuple[PeriodFigures, ...]]:
    if not _can_state(closed, dimensions, level):
        raise UsageError(
            f"{closed.closed_year.report_id} is of method {closed.report['method_version']}, this program "
            f"computes {METHOD_VERSION}: "
            f"only what was frozen can be shown of it, --group-by {','.join(GROUPING)}"
        )
    if closed.report["method_version"] == METHOD_VERSION:
        period = frozen_figures(closed.kept, closed.terms, dimensions, level)
        return frozen_statement(period, closed.terms, compared), (period,)
    written = _as_written(closed)
    if compared is None:
        return written, ()
    rows, totals = (
        tuple(replace(row, change=RowChange(NoComparison.METHOD.value)) for row in part)
        for part in (written.rows, written.totals)
    )
    return replace(written, rows=rows, totals=totals), ()


def _can_state(closed: ClosedRevision, dimensions: tuple[str, ...], level: int | None) -> bool:
    """Return whether the grouping can be computed: under another method, only as frozen."""
    as_frozen = tuple(sorted(dimensions)) == tuple(sorted(GROUPING)) and level is None
    return as_frozen or closed.report["method_version"] == METHOD_VERSION


def _as_written(closed: ClosedRevision) -> EmissionsStatement:
    figures = closed.report["figures"]
    rows, totals, memo = (tuple(map(_row, figures[name])) for name in ("rows", "totals", "memo"))
    kept = closed.kept
    homes = tuple(home_row(kept.first, kept.end, one) for one in list_home_shares(kept.homes))
    return EmissionsStatement(rows, totals, memo, (), tuple(figures["withheld"]), homes=homes)


def _row(document: Mapping[str, Any]) -> EmissionsRow:
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name in COLUMNS and column_type(name) is float:
            value = float(value)
        elif isinstance(value, dict):
            value = {key: float(one) for key, one in value.items()}
        values[name] = value
    return EmissionsRow.of(values)


def mark_rows(
    statement: EmissionsStatement, closed: ClosedRevision, published: EmissionsStatement | None
) -> EmissionsStatement:
    """Mark every row with the revision; `published`:
    statement of revision 1, None where this grouping is not possible.
    """
    told_then = () if published is None else (*published.rows, *published.totals, *published.memo)
    before = {_identity(row): row.emissions.kgco2e_total for row in told_then}
    closed_year = closed.closed_year

    def mark(row: EmissionsRow) -> EmissionsRow:
        origin = RowOrigin(
            row.origin.data,
            closed.report["method_version"],
            closed_year.report_id,
            closed_year.revision,
            closed_year.state.value,
            before.get(_identity(row)),
            closed_year.sha256,
        )
        return replace(row, origin=origin)

    return replace(
        statement,
        rows=tuple(map(mark, statement.rows)),
        totals=tuple(map(mark, statement.totals)),
        memo=tuple(map(mark, statement.memo)),
    )


def _identity(row: EmissionsRow) -> tuple[str, GroupKey, bool]:
    """Return what identifies a row: those of servers and of their rooms may have one key."""
    return row.level, row.key, row.level != "total" and row.room.kwh_it is not None


Months: TypeAlias = Sequence[tuple[Slice, FleetMonth]]


def released_document(months: Months, k: int, terms: FrozenTerms, perimeters: Perimeters) -> dict[str, Any]:
    """Return the released months of a year with their figures, ready for closed.canonical."""
    return {
        "k": k,
        "months": [{"month": part.first.isoformat(), **FLEET.encode(rows)} for part, rows in months],
        "figures": _figures(months, terms, perimeters),
    }


def released_months(report: Mapping[str, Any]) -> Months:
    """Return the released months of a closed year's report; () where it has none.

    Raises ValueError, KeyError, TypeError for a damaged one.
    """
    found = []
    for one in report.get(RELEASED, {}).get("months", ()):
        first = date.fromisoformat(one["month"])
        part = Slice(first, add_months(first, 1))
        found.append((part, FLEET.decode(one, part.first, part.end)))
    return tuple(found)


def released_again(closed: ClosedRevision) -> dict[str, Any]:
    """Compute the figures of a closed year's released months again. Raises as `released_months`."""
    return _figures(released_months(closed.report), closed.terms, closed.kept.perimeters)


def _figures(months: Months, terms: FrozenTerms, perimeters: Perimeters) -> dict[str, Any]:
    query = Query(months[0][0].first, months[-1][0].end, GROUPING)
    statement, _ = released_statement(months, query, terms, perimeters)
    return statement_documents(statement, terms)


def released_statement(
    months: Months, query: Query, terms: FrozenTerms, perimeters: Perimeters
) -> tuple[EmissionsStatement, tuple[PeriodFigures, ...]]:
    """Build the statement of a question from a year's released months, with the year's own terms."""
    query = replace(query, perimeters=(replace(perimeters, year=months[0][0].first.year),))
    rows = dict(months)
    periods = tuple(
        sum_fleet(
            stretch.part,
            [(part, rows[part]) for part in stretch.months],
            query,
            random_roll_out=terms.assumptions.random_roll_out,
        )
        for whole in slices(query.first, query.end, by_month="month" in query.dimensions)
        for stretch in divide_at_holes([part for part in rows if whole.first <= part.first < whole.end])
    )
    frozen = statement_terms(len(periods), terms.choose, terms.data, terms.mapping, terms.contracts)
    return build_statement(periods, frozen), periods


def statement_terms(
    number: int, choose: ChooseFactor, data: str, mapping: BilanMapping, contracts: Sequence[Contract]
) -> StatementTerms:
    """Return the terms of a statement of released months; `number`: of its periods."""
    not_compared = dict.fromkeys(range(number), NoComparison.RELEASED.value)
    return StatementTerms(choose, data, mapping, contracts, not_compared=not_compared)


def first_statement(
    reader: ClosedYearReader, closed: ClosedRevision, query: Query
) -> EmissionsStatement | None:
    """Return the statement of a year's first revision; None where it has no released months.

    Its own estimate is another figure, and could be subtracted from the months.
    """
    first = load_closed(reader, reader.revisions(closed.closed_year.year)[0])
    if RELEASED not in first.report:
        return None
    return released_statement(released_months(first.report), query, first.terms, first.kept.perimeters)[0]


class ReleasedFleet:
    """Fleet of released months: of a closed year as closed, else as published."""

    def __init__(self, published: PublicationReader, closings: ClosedYearReader) -> None:
        """Take the readers; each closed year is read once."""
        self._published, self._closings = PublishedFleet(published), closings
        self._last = {one.year: one for one in closings.revisions()}
        self._read: dict[int, tuple[ClosedRevision, dict[date, FleetMonth]]] = {}

    def closed(self, year: int) -> ClosedRevision | None:
        """Return the last revision of a year; None for an open year. Raises StoreDamaged."""
        return self._closed(year)[0] if year in self._last else None

    def has(self, part: Slice) -> bool:
        """See FleetReader. A year closed without its months has none."""
        if part.first.year not in self._last:
            return self._published.has(part)
        return part.first in self._closed(part.first.year)[1]

    def rows(self, part: Slice) -> FleetMonth:
        """See FleetReader."""
        if part.first.year not in self._last:
            return self._published.rows(part)
        return self._closed(part.first.year)[1][part.first]

    def _closed(self, year: int) -> tuple[ClosedRevision, dict[date, FleetMonth]]:
        if year not in self._read:
            closed = load_closed(self._closings, self._last[year])
            months = {part.first: rows for part, rows in released_months(closed.report)}
            self._read[year] = closed, months
        return self._read[year]
