# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the indicators report: one row per indicator and group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from veilleuse.collector.documents.document import Document, Row, Value
from veilleuse.collector.model.figures import AUTRES, GroupKey, IndicatorFigure, IndicatorMeta

COLUMNS: Final = (
    "indicator",
    "name",
    "period_from",
    "period_to",
    "entity",
    "site",
    "zone",
    "population",
    "device_class",
    "level",
    "incomplete",
    "n",
    "value",
    "unit",
    "threshold",
    "direction",
    "owner",
    "numerator_milliseconds",
    "denominator_milliseconds",
    "withheld",
    "kwh",
    "nights_on",
    "nights_are",
    "beyond_15_minutes_ratio",
    "beyond_30_minutes_ratio",
    "beyond_60_minutes_ratio",
    "coverage_energy",
    "derived_milliseconds",
    "coverage_states",
    "data",
    "method_version",
)
ASSUMPTIONS: Final = (
    "Ratios are of observed time only; coverage (I13) says how much of the enrolled time that is.",
    "Groups of fewer than k workstations or classroom PCs, or with one above 85 %, are merged into autres, or withheld.",
    "Where few machines stand behind a part of a figure, or behind the rest, nothing of it is told (withheld); of coverage, not even a row.",
)


def row(
    meta: IndicatorMeta,
    threshold: float | None,
    key: GroupKey,
    hosts: int,
    figure: IndicatorFigure,
    *,
    coverage_states: float | None,
    incomplete: bool,
    data: str,
) -> Row:
    """Build one row: figure, indicator, group and coverage; missing values are left out."""
    values: dict[str, Value | None] = {
        "indicator": meta.indicator,
        "name": meta.name,
        "period_from": key.period_from.isoformat(),
        "period_to": key.period_to.isoformat(),
        "entity": key.entity,
        "site": key.site,
        "zone": key.zone,
        "population": key.population.value,
        "device_class": key.device_class,
        "level": "memo" if key.memo else AUTRES if key.autres else "row",
        "incomplete": incomplete or None,
        "n": hosts,
        "value": figure.value,
        "unit": meta.unit,
        "threshold": threshold,
        "direction": meta.direction,
        "owner": meta.owner,
        "numerator_milliseconds": figure.numerator_milliseconds,
        "denominator_milliseconds": figure.denominator_milliseconds,
        "withheld": True if figure.numerator_milliseconds is None else None,
        **figure.details,
        "coverage_states": coverage_states,
        "data": data,
    }
    return {name: value for name, value in values.items() if value is not None}


def document(
    rows: Iterable[Row], withheld: Iterable[Row], head: dict[str, Value | list[str] | None]
) -> Document:
    """Build the report of its rows; `withheld` holds the populations too small to be shown.

    Each row repeats the head's `method_version`: a table without a head must still tell how its kWh were
    derived.
    """
    method: dict[str, Value] = {name: str(head[name]) for name in ("method_version",) if name in head}
    return Document(
        head={"kind": "indicators", **head},
        columns=COLUMNS,
        tables={"rows": [{**row, **method} for row in rows], "withheld": list(withheld)},
        tabular=("rows",),
        assumptions=ASSUMPTIONS,
    )
