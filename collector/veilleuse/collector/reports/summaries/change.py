# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compares the emissions of released months with those of the same months of the year before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from typing import Final

from veilleuse.collector.account.change import ChangeObstacle, PeriodFacts, why_not_demonstrated
from veilleuse.collector.account.server_rooms import OTHER_ROOM
from veilleuse.collector.calendars.periods import add_months
from veilleuse.collector.documents.document import RELEASED_UNTIL, Document, Head, Row
from veilleuse.collector.model.query import Basis, Query
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.summaries.rows import Ends, number, sum_ends

MONTHS: Final = "class_months"
"""Name of the question about the months of a period by class."""
BEFORE: Final = "before"
"""Name of the same question about the year before."""
_YEAR: Final = 12


@dataclass(frozen=True, slots=True)
class YearChange:
    """A demonstrated change from the year before, in kgCO2e: that of the energy, and that of the factor."""

    first: date
    """First day of this year's months that both years observed."""
    end: date
    before_kgco2e: float
    before_ends: Ends | None
    now_kgco2e: float
    now_ends: Ends | None
    activity_kgco2e: float
    """Change of the energy at the old factor."""
    factor_kgco2e: float
    """Change of the factor at the new energy."""

    @property
    def change_kgco2e(self) -> float:
        """This year less the year before."""
        return self.now_kgco2e - self.before_kgco2e


def change_questions(query: Query, head: Head) -> dict[str, Query]:
    """Return the questions behind a change; none for a period of parts of months, or of more than a year."""
    end = date.fromisoformat(str(head.get(RELEASED_UNTIL, query.end.isoformat())))
    if (query.first.day, end.day) != (1, 1) or not query.first < end <= add_months(query.first, _YEAR):
        return {}
    now = replace(query, end=end, dimensions=("device_class", "month"), level=None)
    return {
        MONTHS: now,
        BEFORE: replace(now, first=add_months(now.first, -_YEAR), end=add_months(end, -_YEAR)),
    }


def compare_years(now: Document | None, before: Document | None) -> YearChange | ChangeObstacle:
    """Compare two years over the last months in a row that both observed.

    The documents answer `change_questions`. Ends of months are added: the errors of months are common.
    """
    new, old = _months(now, 0), _months(before, _YEAR)
    shared = _last_run(sorted(new.keys() & old.keys()))
    if not shared:
        return ChangeObstacle.MONTHS
    one, other = (_Period.of([found[month] for month in shared]) for found in (old, new))
    if one is None or other is None or not one.kgco2e:
        return ChangeObstacle.FACTORS
    reason = why_not_demonstrated(one.observed, other.observed)
    if reason is not None:
        return reason
    of_factor = (other.factor - one.factor) * other.kwh
    return YearChange(
        shared[0],
        add_months(shared[-1], 1),
        float(one.kgco2e),
        one.ends,
        float(other.kgco2e),
        other.ends,
        float(other.kgco2e - one.kgco2e - of_factor),
        float(of_factor),
    )


@dataclass(frozen=True, slots=True)
class _Month:
    total: Row
    rows: tuple[Row, ...]
    """Its rows by class."""

    @property
    def is_observed(self) -> bool:
        """True where an agent or a room's meter told something of it."""
        return any(
            row.get("device_class") == OTHER_ROOM or number(row, "coverage_states") for row in self.rows
        )


def _months(document: Document | None, later: int) -> dict[date, _Month]:
    """Return the observed released months, by their first day, `later` months later."""
    if document is None or document.head.get(BASIS) != Basis.RELEASED.value:
        return {}
    rows = defaultdict[str, list[Row]](list)
    for row in document.tables.get("rows", ()):
        rows[str(row["period_from"])].append(row)
    months = {
        add_months(date.fromisoformat(str(total["period_from"])), later): _Month(
            total, tuple(rows[str(total["period_from"])])
        )
        for total in document.tables.get("totals", ())
    }
    return {first: month for first, month in months.items() if month.is_observed}


def _last_run(months: Sequence[date]) -> list[date]:
    """Return the last months without a hole between them."""
    found: list[date] = []
    for month in reversed(months):
        if found and add_months(month, 1) != found[0]:
            break
        found.insert(0, month)
    return found


@dataclass(frozen=True, slots=True)
class _Period:
    """Sum of months with one factor."""

    kwh: Fraction
    kgco2e: Fraction
    factor: Fraction
    """kgCO2e/kWh."""
    ends: Ends | None
    observed: PeriodFacts

    @classmethod
    def of(cls, months: Sequence[_Month]) -> _Period | None:
        """Return the sum of months; None where a figure is missing, or there are several factors."""
        totals = [month.total for month in months]
        names = ("kwh_total", "kgco2e_total", "factor_kgco2e_per_kwh")
        kwh, kgco2e, factors = ([number(row, name) for row in totals] for name in names)
        if None in (*kwh, *kgco2e, *factors) or len(set(factors)) > 1:
            return None
        ends = {unit: sum_ends(totals, unit) for unit in ("kwh", "kgco2e")}
        told = tuple(None if one is None else one[1:] for one in ends.values())
        return cls(
            _sum(kwh),
            _sum(kgco2e),
            _sum(factors[:1]),
            ends["kgco2e"],
            PeriodFacts(dict(_shares(months)), told),
        )


def _sum(values: Sequence[float | None]) -> Fraction:
    return sum((Fraction(repr(float(value or 0.0))) for value in values), Fraction(0))


def _shares(months: Sequence[_Month]) -> Iterator[tuple[str, float]]:
    """Yield the covered share of each class; of rooms, the share of months with a meter's readings.

    A row of few machines has no coverage, and screens have that of their PCs.
    """
    known, service = defaultdict[str, float](float), defaultdict[str, float](float)
    for row in (row for month in months for row in month.rows):
        share, days = number(row, "coverage_states"), number(row, "machine_days_fleet")
        if share is not None and days:
            name = str(row.get("device_class") or row.get("level"))
            known[name] += share * days
            service[name] += days
    yield from ((name, known[name] / time) for name, time in service.items())
    read = sum(any(row.get("device_class") == OTHER_ROOM for row in month.rows) for month in months)
    yield OTHER_ROOM, read / len(months)
