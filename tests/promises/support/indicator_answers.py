# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Explains every number of I3 and I4 of PCs in answers and on /metrics by the published rows of their look.

The rows become equations (indicator_equations.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta

from tests.promises.support.indicator_equations import ENERGY, PLANS, K, Unexplained
from tests.promises.support.number_names import ENERGY_SERIES, PLANS_SERIES
from tests.promises.support.publications import FleetOfMonth, released_month
from tests.promises.support.read_together import Row, Watched
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.fleet.census import at_default_context
from veilleuse.collector.model.indicators import Figure
from veilleuse.collector.model.query import GroupKey, Query, is_within
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Population


def unexplained_indicators(data: Watched) -> Iterator[Unexplained]:
    """Yield the numbers of answers and of /metrics that the published rows of their look do not give."""
    for row in data.rows:
        if row.outlet == "api" and row.labels.get("indicator") in (PLANS, ENERGY):
            expected = _expected(data, row)
            for name, value in row.numbers.items():
                if not math.isclose(expected.get(name, math.nan), value, rel_tol=1e-9, abs_tol=1e-12):
                    yield row, name, value
        elif row.outlet == "metrics":
            yield from _unexplained_series(data, row)


def _months_of(data: Watched, row: Row) -> list[tuple[Slice, FleetOfMonth]]:
    first, end = (date.fromisoformat(row.labels[name]) for name in ("period_from", "period_to"))
    return [
        (part, month)
        for part, month in data.fleets[row.version].items()
        if first <= part.first < end and month.indicators is not None
    ]


def rows_without_counts(data: Watched) -> Iterator[Row]:
    """Yield the rows of answers; of indicators, without the n that the month's rows give."""
    for row in data.rows:
        if row.outlet == "api" and "indicator" in row.labels:
            is_in = _grouping(row)
            counts = [
                sum(group.sums.hosts for group in released_month(part, month).uses if is_in(group.key))
                for part, month in _months_of(data, row)
            ]
            if row.numbers.get("n") == max(counts, default=0):
                numbers = {name: value for name, value in row.numbers.items() if name != "n"}
                yield replace(row, numbers=numbers)
                continue
        yield row


def _grouping(row: Row) -> Callable[[GroupKey], bool]:
    """Return whether a published row is one of those that an answer's row sums."""
    (role,) = row.roles
    scope = (role.removeprefix("reader of "),) if role.startswith("reader of ") else ()
    grouping = row.answer.partition(" by ")[2].rpartition(" ")[0]
    words, _, level = grouping.partition("&level=")
    dimensions = tuple(words.split(","))
    first, end = (date.fromisoformat(row.labels[name]) for name in ("period_from", "period_to"))
    query = Query(first, end, dimensions, K, entities=scope, level=int(level) if level else None)

    def is_in(key: GroupKey) -> bool:
        if key.population is Population.SERVER or (scope and not (key.path and is_within(key.entity, scope))):
            return False
        group = query.group_observed(at_default_context(key))
        words = {name: word for name, word in group.columns.items() if not name.startswith("period")}
        return group.level == row.labels["level"] and all(
            row.labels.get(name) == word for name, word in words.items()
        )

    return is_in


def _expected(data: Watched, row: Row) -> dict[str, float]:
    """Return the numbers that the published rows of its groups give an answer's row."""
    is_in = _grouping(row)
    months, energy = [], 0
    for part, month in _months_of(data, row):
        assert month.indicators is not None
        rows = [
            one.figure
            for one in month.indicators.rows
            if one.indicator == row.labels["indicator"] and is_in(one.key)
        ]
        months.append(rows)
        energy += sum(
            one.energy_millijoules
            for cell in released_month(part, month).cells
            if is_in(cell.key)
            for one in cell.sums.energies.values()
        )
    found = _sum([figure for figures in months for figure in figures])
    told = [figures for figures in months if any(not one.withheld for one in figures)]
    found["n"] = max(map(_machines, told or months[-1:]), default=0)
    if energy and "value" in found and row.labels["indicator"] == ENERGY:
        found["avoidable_share"] = found["value"] * MILLIJOULES_PER_KWH / energy
    return found


def _machines(figures: Sequence[Figure]) -> int:
    """Return the machines of figures that are shown, or of all where none is."""
    return sum(one.n for one in figures if not one.withheld) or sum(one.n for one in figures)


def _sum(figures: Iterable[Figure]) -> dict[str, float]:
    found = Counter[str]()
    error = 0.0
    for one in figures:
        if one.withheld:
            continue
        for name in ("numerator", "denominator"):
            if (number := getattr(one, name)) is not None:
                found[name] += number
        for name, amount in one.details.items():
            found[name] += amount  # type: ignore[assignment,operator]
        if one.value is not None and one.denominator is None:
            found["value"] += one.value  # type: ignore[assignment]
            if one.interval is not None and one.value:
                error += one.value * math.log(one.interval[1] / one.value)
    numbers: dict[str, float] = dict(found)
    if numbers.get("denominator"):
        numbers["value"] = numbers["numerator"] / numbers["denominator"]
    elif numbers.get("value"):
        share = error / numbers["value"]
        numbers["value_lo95"] = numbers["value"] * math.exp(-share)
        numbers["value_hi95"] = numbers["value"] * math.exp(share)
    return numbers


def _unexplained_series(data: Watched, row: Row) -> Iterator[Unexplained]:
    moment = data.versions[row.version].moment.date()
    month = next(
        (
            one
            for part, one in data.fleets[row.version].items()
            if part.first <= moment.replace(day=1) - timedelta(days=1) < part.end
        ),
        None,
    )
    rows = month.indicators.rows if month and month.indicators else ()
    for name, value in row.numbers.items():
        if name.startswith((PLANS_SERIES, ENERGY_SERIES)):
            indicator = PLANS if name.startswith(PLANS_SERIES) else ENERGY
            sums = _sum(
                one.figure
                for one in rows
                if one.indicator == indicator and str(one.key.population) == row.labels["population"]
            )
            cause = name.removeprefix(ENERGY_SERIES).partition(",")[0].rstrip("}")
            told = sums["value"] if indicator == PLANS else sums.get(f"{cause}_kwh", 0) * 3.6e6
            if not math.isclose(told, value, rel_tol=1e-9, abs_tol=1e-12):
                yield row, name, value
