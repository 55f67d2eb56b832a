# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Make reports of any number of entities and classes, with the sums of their rows as total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from tests.support.reported import FACTOR, HEAD, row
from veilleuse.collector.documents.document import SHOWN, Document, Row, Text
from veilleuse.collector.model.figures import COLUMNS
from veilleuse.collector.reports.emissions_document import ASSUMPTIONS, FIRST_COLUMNS

CLASSES = ("laptop", "sff", "all_in_one", "printer", "switch", "projector", "wifi_access_point")
SUMS = ("kwh_total", "kgco2e_total", "n", "n_fleet", "machine_days_observed", "energy_millijoules")
RELEASED: dict[str, Any] = {**HEAD, "basis": "released", "released_until": "2026-01-01", "state": "open"}


def emissions(
    entities: Sequence[str],
    classes: Sequence[str] = CLASSES,
    *,
    head: dict[str, Any] = RELEASED,
    language: str = "fr",
    notes: Sequence[Text] = ASSUMPTIONS,
) -> Document:
    """Return a report with a row for each entity and class; no two rows are equal."""
    rows = [
        {**row(number, entity, device_class), "machine_days_fleet": 365.0, "power_context": "own_site"}
        for number, (entity, device_class) in enumerate(product(entities, classes))
    ]
    return Document(
        head=head,
        columns=tuple(dict.fromkeys((*FIRST_COLUMNS, *COLUMNS))),
        tables={
            "rows": rows,
            "totals": [total_of(rows)] if rows else [],
            "memo": [],
            "items": [{"beges_item": "2.1", "ghg_category": "2", "kgco2e_total": 12.5}],
            "factors": [FACTOR],
            "withheld": [{"reason": "period", "released_on": "2026-12-04"}],
        },
        tabular=("rows", "totals", "memo"),
        assumptions=tuple(notes),
        language=language,
    )


def total_of(rows: Sequence[Row]) -> Row:
    """Return the total of rows, with an interval of ± 10 %."""
    total: dict[str, Any] = {name: sum(float(str(one[name])) for one in rows) for name in SUMS}
    for unit in ("kwh", "kgco2e"):
        total |= {
            f"{unit}_{end}95": total[f"{unit}_total"] * part for end, part in (("lo", 0.9), ("hi", 1.1))
        }
    same = ("period_from", "period_to", "zone", "factor_kgco2e_per_kwh", "provisional")
    return {
        **total,
        **{name: rows[0][name] for name in same},
        "level": "total",
        "interval": "95 %",
        "coverage_states": 0.4,
        "kwh_extrapolated": total["kwh_total"] / 4,
        "representativeness": "demonstrated",
    }


def with_total(document: Document, **values: Any) -> Document:
    """Return the report with other values in its total; None takes one out."""
    (old,) = document.tables["totals"]
    new = {name: value for name, value in {**old, **values}.items() if value is not None and name != SHOWN}
    return replace(document, tables={**document.tables, "totals": [new]})
