# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Summarises the REEN sheet: a cover with what changed, the objectives with target and trend, measures,
the use phase.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Final

from veilleuse.collector.documents.document import (
    SHOWN,
    UNDER_WAY_UNTIL,
    Document,
    KeyFigure,
    Row,
    ShortTable,
    Summary,
    SummaryPart,
    Text,
    read_columns,
)
from veilleuse.collector.documents.text import Words
from veilleuse.collector.indicators import TABLE, IndicatorInput
from veilleuse.collector.model.actions import OBJECTIVES
from veilleuse.collector.model.indicators import PCS
from veilleuse.collector.model.query import TOTAL
from veilleuse.collector.reports.summaries.emissions import not_demonstrated_text, quality_table
from veilleuse.collector.reports.summaries.rows import (
    both,
    ends_of,
    interval_text,
    number,
    said,
    signed,
    status_of,
)

MOST_CHANGES: Final = 4
OBJECTIVE_COLUMNS: Final = (
    *("name", "value", "value_low", "value_high", "baseline_year", "baseline_value", "trend_ratio"),
    *("target_year", "target_value", "reached", "reason"),
)
MEASURES: Final = (
    *("what", "objective", "pilot", "status", "from_day", "to_day"),
    *("saving_kwh", "saving_lo95_kwh", "saving_hi95_kwh", "claimed", "means_eur", "means_fte"),
)
PERIMETERS: Final = ("perimeter", "kgco2e_total", "share_of_total", "kgco2e_low", "kgco2e_high", "kwh_total")
BILAN: Final = (
    *("item", "year", "part_of_bilan", "kgco2e_total", "kgco2e_low", "kgco2e_high"),
    *("share_of_whole", "in_whole"),
)


def add_summary(document: Document) -> Document:
    """Add the summary of the sheet."""
    rows = [_objective(row) for row in document.tables["rows"]]
    perimeters = _perimeters(document.tables["perimeters"])
    measures = document.tables["measures"]
    bilan = [_with_ends(row) for row in document.tables["bilan"]]
    use_phase = _table(said("use_phase"), PERIMETERS, perimeters, bar="kgco2e_total")
    tables = [
        _table(said("measures"), MEASURES, measures),
        use_phase,
        _table(said("digital_bilan"), BILAN, bilan),
        *filter(None, (quality_table(document, name) for name in ("sign_off", "exclusions"))),
    ]
    objectives = (
        _table(both(partial(_objective_title, key)), OBJECTIVE_COLUMNS, list(mine), most=15)
        for key, mine in groupby(rows, lambda row: str(row["objective"]))
    )
    summary = Summary(
        status_of(document),
        tuple(_figures(document, rows, measures)),
        tuple(_sentences(rows, measures, bilan)),
        (
            SummaryPart(said("objectives"), tuple(objectives)),
            SummaryPart(
                said("measures_and_use"),
                tuple(one for one in tables if one.rows),
                notes=() if measures else (said("no_measures"),),
            ),
        ),
        use_phase if len(perimeters) > 1 else None,
        "bar",
    )
    return replace(document, summary=summary)


def _table(
    title: Text, columns: Sequence[str], rows: Sequence[Row], *, bar: str | None = None, most: int = 20
) -> ShortTable:
    used = tuple(one for one in columns if one == columns[0] or any(one in row for row in rows))
    return ShortTable(title, used, rows, bar=bar, most=most)


def _objective(row: Row) -> Row:
    """Return a row of an objective: its name, its interval of either kind, and its best-known trend."""
    found = dict(row)
    for kind in ("95", "_sample"):
        for end, column in (("lo", "value_low"), ("hi", "value_high")):
            if f"value_{end}{kind}" in row:
                found[column] = row[f"value_{end}{kind}"]
    if "restated_trend_ratio" in row:
        found["trend_ratio"] = row["restated_trend_ratio"]
        found["baseline_value"] = row["restated_baseline_value"]
    line = TABLE.get(str(row.get("indicator")))
    if "target_value" not in row and "threshold" in row and line is not None and line.is_threshold_a_goal:
        found["target_value"] = row["threshold"]
    shown = {"name": both(lambda w: _name(row, w))}
    if (trend := number(found, "trend_ratio")) is not None:
        shown["trend_ratio"] = both(lambda w: signed(w.percent(abs(trend)), trend))
    elif reason := str(row.get("not_demonstrated", "")):
        found["trend_ratio"] = reason
        shown["trend_ratio"] = both(lambda w: not_demonstrated_text(reason, w))
    return {**found, "name": str(row.get("name", "")), SHOWN: shown}


def _name(row: Row, w: Words) -> str:
    if row.get("origin") == "missing":
        return w("summary.nothing_entered")
    indicator = str(row.get("indicator", ""))
    name = w.word("name", str(row["name"])) if "name" in row else indicator
    if "name" in row and indicator in TABLE:
        name = f"{indicator} {name}"
    details = [str(row["category"])] if "category" in row else []
    if "population" in row:
        details.append(w.word("population", str(row["population"])))
    elif scope := scope_of(row, w):
        details.append(scope)
    if suspects := int(number(row, "suspects") or 0):
        details.append(w.count("summary.suspects", suspects))
    return f"{name} ({', '.join(details)})" if details else name


def scope_of(row: Row, w: Words) -> str:
    """Say which machines a computed value is of, where that is not all that its name says; else empty."""
    line = TABLE.get(str(row.get("indicator")))
    if line is None or row.get("origin") != "computed" or "population" in row:
        return ""
    if line.also_of and line.populations == PCS:
        return w("summary.of_pcs")
    if line.made_of is not IndicatorInput.DEVICES:
        return ""
    if UNDER_WAY_UNTIL in row:
        return w("summary.of_inventory_now")
    year = row.get("current_year")
    return w("summary.of_inventory", day=w.day(f"{year}-12-31")) if year else ""


def _perimeters(rows: Sequence[Row]) -> list[Row]:
    total = next((number(row, "kgco2e_total") for row in rows if row["perimeter"] == TOTAL), None)
    found = []
    for row in rows:
        if row["perimeter"] == TOTAL:
            continue
        made = dict(_with_ends(row))
        kilograms = number(row, "kgco2e_total")
        if total and kilograms is not None:
            made["share_of_total"] = kilograms / total
        found.append(made)
    return sorted(found, key=lambda row: -(number(row, "kgco2e_total") or 0.0))


def _with_ends(row: Row) -> Row:
    ends = ends_of(row)
    found = {name: value for name, value in row.items() if name != SHOWN}
    return found if ends is None else {**found, "kgco2e_low": ends[1], "kgco2e_high": ends[2]}


# --- the cover


def _figures(document: Document, rows: Sequence[Row], measures: Sequence[Row]) -> Iterator[KeyFigure]:
    total = next((row for row in document.tables["perimeters"] if row["perimeter"] == TOTAL), None)
    if total is not None and (kilograms := number(total, "kgco2e_total")) is not None:
        yield KeyFigure(
            said("use_phase_total"),
            both(lambda w: w.kilograms(kilograms)),
            both(lambda w: interval_text(total, w)),
        )
    judged = [bool(row["reached"]) for row in rows if "reached" in row]
    if judged:
        yield KeyFigure(
            said("targets"),
            both(lambda w: w("summary.of", part=sum(judged), whole=len(judged))),
            said("targets_note"),
        )
    yield KeyFigure(said("measures"), both(lambda w: w.number(len(measures))), _claimed(measures))


def _claimed(measures: Sequence[Row]) -> Text:
    kwh = [value for row in measures if row.get("claimed") == "yes" and (value := number(row, "saving_kwh"))]
    if not kwh:
        return said("nothing_claimed")
    return both(lambda w: w.count("summary.claimed", len(kwh), value=w.kwh(math.fsum(kwh))))


def _sentences(rows: Sequence[Row], measures: Sequence[Row], bilan: Sequence[Row]) -> Iterator[Text]:
    """Yield what changed since the baselines, the largest first, and what is missing."""
    moved = [
        row for row in rows if number(row, "trend_ratio") is not None and number(row, "value") is not None
    ]
    moved.sort(key=lambda row: -abs(number(row, "trend_ratio") or 0.0))
    for row in moved[:MOST_CHANGES]:
        yield both(partial(_moved, row))
    if not moved:
        yield said("no_baseline")
    without = [
        one for one in OBJECTIVES if not any(row["objective"] == one and "value" in row for row in rows)
    ]
    if without:
        yield both(
            lambda w: w.count(
                "summary.objectives_without",
                len(without),
                names=", ".join(w.word("objective", one) for one in without),
            )
        )
    use = next((row for row in bilan if row.get("part_of_bilan") == "use" and "share_of_whole" in row), None)
    if use is not None:
        yield both(
            lambda w: w("summary.share_of_bilan", share=w.percent(number(use, "share_of_whole") or 0.0))
        )


def _objective_title(objective: str, w: Words) -> str:
    return w.word("objective", objective)


def _moved(row: Row, w: Words) -> str:
    of = read_columns()
    trend = number(row, "trend_ratio") or 0.0
    target = number(row, "target_value")
    reached = row.get("reached")
    text = w(
        "summary.moved",
        name=_shown_name(row, w),
        value=w.amount(of["value"], number(row, "value") or 0.0, row),
        year=row.get("current_year", ""),
        before=w.amount(of["baseline_value"], number(row, "baseline_value") or 0.0, row),
        baseline=row.get("baseline_year", ""),
        trend=signed(w.percent(abs(trend)), trend),
    )
    if target is None or reached is None:
        return f"{text}."
    key = "target_reached" if reached else "target_missed"
    return f"{text}{w(f'summary.{key}', target=w.amount(of['target_value'], target, row))}"


def _shown_name(row: Row, w: Words) -> str:
    shown = row[SHOWN]
    text = shown["name"] if isinstance(shown, Mapping) else ""
    return w.text(text)[0] if not isinstance(text, (int, float)) else ""
