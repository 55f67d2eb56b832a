# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the figures of a closed year from its statistics, and compares them with the frozen ones.

Integers stay integers and exact values are fractions. The rest (intervals, uncertainties) are decimals of
twelve digits: exponentials and logarithms may differ in the sixteenth digit between machines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any, Final

from veilleuse.collector.account.emissions import kwh
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.account.statement import ChooseFactor, StatementTerms, build_statement
from veilleuse.collector.closed_years.document import (
    FrozenTerms,
    statistics_from_document,
    terms_from_document,
)
from veilleuse.collector.closed_years.restate import restate_year
from veilleuse.collector.closed_years.year_statistics import YearStatistics
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.closed_years import (
    FORMAT,
    ClosedFile,
    ClosedYear,
    YearState,
    canonical,
    sha256,
)
from veilleuse.collector.model.factors import ChosenFactor
from veilleuse.collector.model.figures import EmissionsRow, EmissionsStatement

GROUPING: Final = ("entity", "device_class")
"""Grouping of the frozen rows: docs/methodology.md §10."""
DIGITS: Final = 12
_LAST_DIGIT: Final = 1.5e-11
"""Relative tolerance: one unit of the twelfth digit, at most."""
EXACT: Final = "kgco2e_total_exact"
"""Column with kgCO2e as a fraction, for every row with a factor."""


@dataclass(frozen=True, slots=True)
class YearComparison:
    """Comparison of a year with the year before."""

    before: Mapping[int, PeriodFigures]
    """Empty: the year before is not known."""
    choose: ChooseFactor
    """Factors of the year before."""
    not_compared: str = ""
    """Reason why the change is not published; empty where it is."""


def frozen_figures(
    kept: YearStatistics,
    terms: FrozenTerms,
    dimensions: Sequence[str] = GROUPING,
    level: int | None = None,
) -> PeriodFigures:
    """Compute the figures in energy; `level`: as in restate_year."""
    return restate_year(kept, dimensions, terms.assumptions, level=level)


def frozen_statement(
    period: PeriodFigures, terms: FrozenTerms, compared: YearComparison | None = None
) -> EmissionsStatement:
    """Build the statement with the year's own factors."""

    def choose(zone: str, year: int) -> ChosenFactor:
        own = year == period.first.year or compared is None
        return terms.choose(zone, year) if own or compared is None else compared.choose(zone, year)

    before = {} if compared is None else compared.before
    why_not = {} if compared is None or before else {0: compared.not_compared}
    return build_statement(
        [period], StatementTerms(choose, terms.data, terms.mapping, terms.contracts, before, why_not)
    )


def frozen_documents(kept: YearStatistics, terms: FrozenTerms) -> dict[str, Any]:
    """Return rows, totals, memo and withheld, ready for closed.canonical. Raises UnknownZone."""
    return statement_documents(frozen_statement(frozen_figures(kept, terms), terms), terms)


def statement_documents(statement: EmissionsStatement, terms: FrozenTerms) -> dict[str, Any]:
    """Return the same of a statement. Raises UnknownZone."""
    exact = [_exact(row, terms) for row in statement.rows]
    return {
        "rows": [_document(row, kilograms) for row, kilograms in zip(statement.rows, exact, strict=True)],
        "totals": [_document(row, sum(exact, Fraction(0))) for row in statement.totals],
        "memo": [_document(row, _exact(row, terms)) for row in statement.memo],
        "withheld": [dict(one) for one in statement.withheld],
    }


def _exact(row: EmissionsRow, terms: FrozenTerms) -> Fraction:
    energy, zone = row.energy.energy_millijoules, row.key.zone
    if not zone or not energy:
        return Fraction(0)
    return kwh(energy) * Fraction(terms.factors[zone].factor.total_kgco2e_per_kwh)


def _document(row: EmissionsRow, exact: Fraction) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column, value in row.columns.items():
        if isinstance(value, Mapping):
            found[column] = {name: decimal(one) for name, one in value.items()}
        elif value is not None:
            found[column] = decimal(value) if isinstance(value, float) else value
    if row.emissions.kgco2e_total is not None:
        found[EXACT] = f"{exact.numerator}/{exact.denominator}"
    return found


def decimal(value: float) -> str:
    """Format with twelve significant digits."""
    return f"{value:.{DIGITS}g}"


def reproduces(again: Mapping[str, Any], frozen: Mapping[str, Any]) -> bool:
    """Return whether recomputed figures equal the frozen ones.

    A column without any frozen value was added by a later program: it contradicts none.
    """
    known = {name for rows in frozen.values() for row in rows for name in row}
    kept = {
        table: [{name: value for name, value in row.items() if name in known} for row in rows]
        for table, rows in again.items()
    }
    return is_same(kept, frozen)


def is_same(one: Any, other: Any) -> bool:
    """Return whether two documents are equal; decimals may differ in the twelfth digit by rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if one == other:
        return bool(type(one) is type(other))
    if not isinstance(one, str) or not isinstance(other, str) or "/" in one:
        return False
    try:
        first, second = float(one), float(other)
    except ValueError:
        return False
    return abs(first - second) <= _LAST_DIGIT * max(abs(first), abs(second))


KIND = "veilleuse closed year"


class NotAClosedYear(ValueError):
    """Raised with the reason why a file is not a valid closed year."""


@dataclass(frozen=True, slots=True)
class ClosedRevision:
    """Content of one revision."""

    closed_year: ClosedYear
    report: Mapping[str, Any]
    """Report as written: figures, who, when, why."""
    kept: YearStatistics
    terms: FrozenTerms


def read_report(report: bytes, statistics_sha256: str, file_sha256: str) -> tuple[ClosedYear, dict[str, Any]]:
    """Read a report's header, without its statistics. Raises NotAClosedYear."""
    try:
        document = json.loads(report)
        if document["kind"] != KIND:
            raise NotAClosedYear("it is no closed year")
        if document["format"] != FORMAT:
            raise NotAClosedYear(
                f"its format is {document['format']!r}, this program knows {FORMAT}: use the version "
                "of veilleuse that made it"
            )
        if document["statistics_sha256"] != statistics_sha256:
            raise NotAClosedYear("its statistics are not those of its report")
        if canonical(document) != report:
            raise NotAClosedYear("it is not written as this program writes it")
        closed_year = ClosedYear(
            int(document["year"]),
            int(document["revision"]),
            YearState(document["state"]),
            int(document["closed_unix_milliseconds"]),
            statistics_sha256,
            file_sha256,
        )
        if document["report_id"] != closed_year.report_id or closed_year.revision < 1:
            raise NotAClosedYear("it contradicts itself")
        return closed_year, document
    except NotAClosedYear:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotAClosedYear(f"it cannot be read ({error})") from error


def read_closed(report: bytes, statistics: bytes, file_sha256: str) -> ClosedRevision:
    """Read a revision. Raises NotAClosedYear for another document, or a contradictory one."""
    closed_year, document = read_report(report, sha256(statistics), file_sha256)
    try:
        kept_document = json.loads(statistics)
        if canonical(kept_document) != statistics:
            raise NotAClosedYear("it is not written as this program writes it")
        kept = statistics_from_document(kept_document)
        if (kept.first, kept.end) != (date(closed_year.year, 1, 1), date(closed_year.year + 1, 1, 1)):
            raise NotAClosedYear(
                f"its statistics are of {kept.first} to {kept.end}, not of {closed_year.year}"
            )
        return ClosedRevision(closed_year, document, kept, terms_from_document(document["terms"]))
    except NotAClosedYear:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise NotAClosedYear(f"it cannot be read ({error})") from error


def revision_of(closed_year: ClosedYear, file: ClosedFile) -> ClosedRevision:
    """Read the revision of a store row and its content. Raises NotAClosedYear where they do not match."""
    found = read_closed(file.report, file.statistics, sha256(file.content))
    if found.closed_year != closed_year:
        raise NotAClosedYear(f"what is stored as {closed_year.report_id} is not that: it was changed")
    return found
