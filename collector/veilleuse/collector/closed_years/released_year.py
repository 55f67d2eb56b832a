# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Freezes the released months of a closed year: its figure is their sum. docs/closing.md, docs/decisions/0048."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, TypeAlias

from veilleuse.collector.account.change import NoComparison
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.account.statement import ChooseFactor, StatementTerms, build_statement
from veilleuse.collector.calendars.periods import Slice, add_months, slices
from veilleuse.collector.closed_years.document import FrozenTerms
from veilleuse.collector.closed_years.frozen import GROUPING, ClosedRevision, statement_documents
from veilleuse.collector.closed_years.published_rows import load_closed, state_if_possible
from veilleuse.collector.model.closed_years import RELEASED
from veilleuse.collector.model.factors import BilanMapping, Contract
from veilleuse.collector.model.figures import EmissionsStatement
from veilleuse.collector.model.query import Perimeters, Query
from veilleuse.collector.ports.months import ClosedYearReader, PublicationReader
from veilleuse.collector.release.figures import sum_fleet
from veilleuse.collector.release.rows import FLEET, FleetMonth
from veilleuse.collector.release.stretches import PublishedFleet

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
    periods = tuple(
        sum_fleet(
            part,
            [one for one in months if part.first <= one[0].first and one[0].end <= part.end],
            query,
            random_roll_out=terms.assumptions.random_roll_out,
        )
        for part in slices(query.first, query.end, by_month="month" in query.dimensions)
    )
    frozen = statement_terms(len(periods), terms.choose, terms.data, terms.mapping, terms.contracts)
    return build_statement(periods, frozen), periods


def statement_terms(
    number: int, choose: ChooseFactor, data: str, mapping: BilanMapping, contracts: Sequence[Contract]
) -> StatementTerms:
    """Return the terms of a statement of released months; `number`: of its periods.

    Released rows have no site: contracts apply where none names one.
    """
    not_compared = dict.fromkeys(range(number), NoComparison.RELEASED.value)
    applied = () if any(one.site for one in contracts) else contracts
    return StatementTerms(choose, data, mapping, applied, not_compared=not_compared)


def first_statement(
    reader: ClosedYearReader, closed: ClosedRevision, query: Query
) -> EmissionsStatement | None:
    """Return the statement of a year's first revision; None in a grouping that it does not allow."""
    first = load_closed(reader, reader.revisions(closed.closed_year.year)[0])
    if RELEASED not in first.report:
        return state_if_possible(first, query.dimensions, query.level)
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

    def has(self, part: Slice, k: int) -> bool:
        """See FleetReader. A year closed without its months has none."""
        if part.first.year not in self._last:
            return self._published.has(part, k)
        closed, months = self._closed(part.first.year)
        return part.first in months and closed.report[RELEASED]["k"] >= k

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
