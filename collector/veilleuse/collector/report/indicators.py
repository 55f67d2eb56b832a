# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The indicators report: one row per indicator and group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from veilleuse.collector.figures import AUTRES, GroupKey, IndicatorFigure, IndicatorMeta
from veilleuse.collector.report import Document, Row, Value

COLUMNS: Final = (
    "indicator",
    "name",
    "period_from",
    "period_to",
    "entity",
    "site",
    "population",
    "device_class",
    "level",
    "n",
    "value",
    "unit",
    "threshold",
    "direction",
    "owner",
    "numerator_milliseconds",
    "denominator_milliseconds",
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
)
ASSUMPTIONS: Final = (
    "Ratios are of observed time only; coverage (I13) says how much of the enrolled time that is.",
    "Groups of fewer than k workstations or classroom PCs are merged into autres, or withheld.",
)


def row(
    meta: IndicatorMeta,
    threshold: float | None,
    key: GroupKey,
    hosts: int,
    figure: IndicatorFigure,
    *,
    coverage_states: float | None,
    data: str,
) -> Row:
    """One line: figure, what it is, what it is of, and its coverage; a value that does not exist is left out."""
    autres = AUTRES in (key.entity, key.site, key.device_class)
    values: dict[str, Value | None] = {
        "indicator": meta.indicator,
        "name": meta.name,
        "period_from": key.period_from.isoformat(),
        "period_to": key.period_to.isoformat(),
        "entity": key.entity,
        "site": key.site,
        "population": key.population.value,
        "device_class": key.device_class,
        "level": AUTRES if autres else "memo" if key.memo else "row",
        "n": hosts,
        "value": figure.value,
        "unit": meta.unit,
        "threshold": threshold,
        "direction": meta.direction,
        "owner": meta.owner,
        "numerator_milliseconds": figure.numerator_milliseconds,
        "denominator_milliseconds": figure.denominator_milliseconds,
        **figure.details,
        "coverage_states": coverage_states,
        "data": data,
    }
    return {name: value for name, value in values.items() if value is not None}


def document(rows: Iterable[Row], head: dict[str, Value | list[str] | None]) -> Document:
    """The report of its rows."""
    return Document(
        head={"kind": "indicators", **head},
        columns=COLUMNS,
        tables={"rows": list(rows)},
        tabular=("rows",),
        assumptions=ASSUMPTIONS,
    )
