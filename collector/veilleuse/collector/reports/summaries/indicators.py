# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Summarises the indicators report: the avoidable energy, values beside targets, and where to act first."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from veilleuse.collector.documents.document import (
    SHOWN,
    Document,
    KeyFigure,
    Row,
    ShortTable,
    Summary,
    SummaryPart,
    Text,
    Value,
    read_columns,
)
from veilleuse.collector.documents.text import Words
from veilleuse.collector.indicators import COVERAGE, TABLE
from veilleuse.collector.model.indicators import is_reached
from veilleuse.collector.model.query import Query
from veilleuse.collector.reports.summaries.emissions import remedies
from veilleuse.collector.reports.summaries.rows import both, number, said, shown_entity, status_of

DIMENSIONS: Final = ("population", "entity")
OUTSIDE, IDLE, AVOIDABLE = "I1", "I2", "I4"
CAUSES: Final = ("closed_bands_kwh", "open_idle_kwh", "screens_kwh", "comatose_servers_kwh", "mixed_kwh")
VALUES: Final = (
    *("name", "population", "value", "value_low", "value_high", "threshold", "reached", "n"),
    *("owner", "reason"),
)
PLACES: Final = ("entity", "avoidable_kwh", "outside_ratio", "nights_on", "idle_ratio")
MOST_VALUES: Final = 36


def questions(query: Query) -> dict[str, Query]:
    """Return the questions behind the summary: the same indicators by population, and by entity."""
    return {
        name: replace(query, dimensions=(name,), level=query.level if name == "entity" else None)
        for name in DIMENSIONS
    }


def add_summary(document: Document, answers: Mapping[str, Document]) -> Document:
    """Add the summary; `answers` are those to `questions`."""
    values = [_value(row) for row in _shown_rows(answers["population"])]
    places = _places(_shown_rows(answers["entity"]))
    causes = _causes(_shown_rows(answers["population"]))
    chart = _short(said("by_cause"), ("cause", "avoidable_kwh"), causes, bar="avoidable_kwh")
    where = _short(said("by_entity"), PLACES, places, bar="avoidable_kwh", note=said("incomplete_note"))
    summary = Summary(
        status_of(document),
        tuple(_figures(values)),
        tuple(_sentences(values, places, causes)) if values else tuple(remedies(document)),
        (
            SummaryPart(said("values"), (_short(said("by_population"), VALUES, values, most=MOST_VALUES),)),
            SummaryPart(said("places"), (where, *((chart,) if causes else ()))),
            *_withheld(document),
        ),
        chart if len(causes) > 1 else None,
        "bar",
    )
    return replace(document, summary=summary)


def _shown_rows(document: Document) -> list[Row]:
    """Return the rows without virtual machines, by indicator and population."""
    rows = [row for row in document.tables["rows"] if row.get("level") != "memo"]
    order = list(TABLE)
    return sorted(rows, key=lambda row: (order.index(str(row["indicator"])), str(row.get("population", ""))))


def _short(
    title: Text,
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    bar: str | None = None,
    most: int = 20,
    note: Text = "",
) -> ShortTable:
    used = tuple(one for one in columns if any(one in row for row in rows)) or (columns[0],)
    return ShortTable(title, used, rows, bar=bar if bar in used else None, most=most, note=note)


def _value(row: Row) -> Row:
    """Return a row of the table of values: with its interval, and whether it is at its target."""
    found = dict(row)
    for end, low_or_high in (("low", "value_lo95"), ("high", "value_hi95")):
        if low_or_high in row:
            found[f"value_{end}"] = row[low_or_high]
    reached = _reaches_target(row)
    if reached is not None:
        found["reached"] = reached
    if row.get("withheld"):
        found["reason"] = "few_in_a_part"
    return {**found, SHOWN: {"name": both(lambda w: _name(row, w))}}


def _name(row: Row, w: Words) -> str:
    name = f"{row['indicator']} {w.word('name', str(row['name']))}"
    details = [str(row[key]) for key in ("category", "what") if row.get(key)]
    if suspects := int(number(row, "suspects") or 0):
        details.append(w.count("summary.suspects", suspects))
    return f"{name} ({', '.join(details)})" if details else name


def _reaches_target(row: Row) -> bool | None:
    """Tell if a value is at its target; None without a target, or where the threshold is none."""
    if not TABLE[str(row["indicator"])].is_threshold_a_goal:
        return None
    direction, suspects = str(row.get("direction")), number(row, "suspects") or 0
    return is_reached(number(row, "value"), number(row, "threshold"), direction, suspects)


def _places(rows: Iterable[Row]) -> list[Row]:
    """Return one row for each entity: what it could avoid, the most first."""
    groups: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["indicator"] in (OUTSIDE, IDLE, AVOIDABLE):
            groups[str(row.get("entity") or ""), str(row.get("level"))].append(row)
    found: list[Row] = []
    for (entity, level), mine in groups.items():
        made: dict[str, Value] = {"entity": entity}
        kwh = [
            value
            for row in mine
            if row["indicator"] == AVOIDABLE and (value := number(row, "value")) is not None
        ]
        if kwh:
            made["avoidable_kwh"] = math.fsum(kwh)
        for name, indicator in (("outside_ratio", OUTSIDE), ("idle_ratio", IDLE)):
            if (ratio := _ratio(mine, indicator)) is not None:
                made[name] = ratio
        nights = [value for row in mine if (value := number(row, "nights_on")) is not None]
        if nights:
            made["nights_on"] = round(sum(nights))
        shown = shown_entity(mine[0], entity, level)
        if len(made) > 1:
            found.append({**made, SHOWN: {"entity": shown}})
    return sorted(found, key=lambda row: -(number(row, "avoidable_kwh") or 0.0))


def _ratio(rows: Iterable[Row], indicator: str) -> float | None:
    """Return the ratio of an indicator over groups and periods together: sum over sum."""
    parts = [
        [number(row, f"{end}_milliseconds") for end in ("numerator", "denominator")]
        for row in rows
        if row["indicator"] == indicator
    ]
    known = [(part, whole) for part, whole in parts if part is not None and whole]
    whole = sum(each for _, each in known)
    return sum(part for part, _ in known) / whole if whole else None


def _causes(rows: Sequence[Row]) -> list[Row]:
    found: list[Row] = []
    for name in CAUSES:
        kwh = math.fsum(number(row, name) or 0.0 for row in rows if row["indicator"] == AVOIDABLE)
        if kwh:
            label = read_columns()[name].labels
            found.append({"cause": name, "avoidable_kwh": kwh, SHOWN: {"cause": label}})
    return sorted(found, key=lambda row: -(number(row, "avoidable_kwh") or 0.0))


def _figures(rows: Sequence[Row]) -> Iterator[KeyFigure]:
    avoidable = [row for row in rows if row["indicator"] == AVOIDABLE and number(row, "value") is not None]
    if avoidable:
        total = math.fsum(number(row, "value") or 0.0 for row in avoidable)
        ends = [(number(row, "value_low"), number(row, "value_high")) for row in avoidable]
        note: Text = ""
        if all(low is not None and high is not None for low, high in ends):
            low, high = (math.fsum(one or 0.0 for one in side) for side in zip(*ends, strict=True))
            note = both(lambda w: w("summary.between", low=w.kwh(low), high=w.kwh(high)))
        yield KeyFigure(said("avoidable"), both(lambda w: w.kwh(total)), note)
    outside = _ratio(rows, OUTSIDE)
    if outside is not None:
        threshold = next(
            one for row in rows if row["indicator"] == OUTSIDE for one in (number(row, "threshold"),)
        )
        yield KeyFigure(
            said("outside"),
            both(lambda w: w.percent(outside)),
            both(lambda w: w("summary.target", target=w.percent(threshold))) if threshold is not None else "",
        )
    judged = [reached for row in rows if (reached := row.get("reached")) is not None]
    if judged:
        yield KeyFigure(
            said("at_target"),
            both(lambda w: w("summary.of", part=sum(map(bool, judged)), whole=len(judged))),
            said("at_target_note"),
        )


def _sentences(values: Sequence[Row], places: Sequence[Row], causes: Sequence[Row]) -> Iterator[Text]:
    total = math.fsum(number(row, "avoidable_kwh") or 0.0 for row in places)
    if places and total:
        first = places[0]
        kwh = number(first, "avoidable_kwh") or 0.0
        yield both(
            lambda w: w(
                "summary.first_place",
                name=w.text(_shown(first, "entity"))[0],
                value=w.kwh(kwh),
                share=w.percent(kwh / total),
                cause=w.text(_shown(causes[0], "cause"))[0] if causes else "",
            )
        )
    missed = [row for row in values if row.get("reached") is False]
    if missed:
        worst = max(missed, key=_distance)
        yield both(lambda w: _missed(worst, w))
    elif any("reached" in row for row in values):
        yield said("all_reached")
    covered = [row for row in values if row["indicator"] == COVERAGE and number(row, "value") is not None]
    if covered:
        yield both(lambda w: w("summary.seen", covered=", ".join(_covered(row, w) for row in covered)))
    else:
        yield said("only_seen")


def _covered(row: Row, w: Words) -> str:
    return f"{w.word('population', str(row.get('population')))} {w.percent(number(row, 'value') or 0.0)}"


def _distance(row: Row) -> float:
    value, threshold = number(row, "value") or 0.0, number(row, "threshold") or 0.0
    return abs(value - threshold) / threshold if threshold else math.inf


def _missed(row: Row, w: Words) -> str:
    of = {name: read_columns()[name] for name in ("value", "threshold")}
    population = row.get("population")
    return w(
        "summary.missed",
        name=w.text(_shown(row, "name"))[0],
        population="" if population is None else f" ({w.word('population', str(population))})",
        value=w.amount(of["value"], number(row, "value") or 0.0, row),
        target=w.amount(of["threshold"], number(row, "threshold") or 0.0, row),
    )


def _shown(row: Row, name: str) -> Text:
    shown = row[SHOWN]
    text = shown[name] if isinstance(shown, Mapping) else ""
    return text if not isinstance(text, (int, float)) else ""


def _withheld(document: Document) -> Iterator[SummaryPart]:
    rows = document.tables.get("withheld", ())
    if rows:
        columns = ("period_from", "period_to", "population", "reason", "released_on")
        yield SummaryPart(
            said("missing"), (_short(both(lambda w: w.get("tables", "withheld")), columns, rows, most=10),)
        )
