# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reports closed years: a single year as frozen, with the first published values;
among other years, from its statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from veilleuse.collector.account.change import NoComparison
from veilleuse.collector.account.row import PeriodFigures, list_home_shares
from veilleuse.collector.account.statement import METHOD_VERSION, home_row
from veilleuse.collector.closed_years.frozen import (
    GROUPING,
    ClosedRevision,
    NotAClosedYear,
    YearComparison,
    frozen_figures,
    frozen_statement,
    revision_of,
)
from veilleuse.collector.closed_years.restate import restate_year
from veilleuse.collector.errors import StoreDamaged, UsageError
from veilleuse.collector.model.closed_years import ClosedYear
from veilleuse.collector.model.factors import ChosenFactor
from veilleuse.collector.model.figures import (
    COLUMNS,
    EmissionsRow,
    EmissionsStatement,
    RowChange,
    RowOrigin,
    column_type,
)
from veilleuse.collector.ports.months import ClosedYearReader


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
        published = state_if_possible(load_closed(reader, revisions[0]), dimensions, level)
    return ClosedFigures(last, mark_rows(statement, last, published), periods)


def state_if_possible(
    closed: ClosedRevision, dimensions: tuple[str, ...], level: int | None
) -> EmissionsStatement | None:
    """Return the statement of a revision's own estimate; None in a grouping that it does not allow."""
    return _state(closed, dimensions, level, None)[0] if _can_state(closed, dimensions, level) else None


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
    before = {(row.level, row.key): row.emissions.kgco2e_total for row in told_then}
    closed_year = closed.closed_year

    def mark(row: EmissionsRow) -> EmissionsRow:
        origin = RowOrigin(
            row.origin.data,
            closed.report["method_version"],
            closed_year.report_id,
            closed_year.revision,
            closed_year.state.value,
            before.get((row.level, row.key)),
            closed_year.sha256,
        )
        return replace(row, origin=origin)

    return replace(
        statement,
        rows=tuple(map(mark, statement.rows)),
        totals=tuple(map(mark, statement.totals)),
        memo=tuple(map(mark, statement.memo)),
    )
