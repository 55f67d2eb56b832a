# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The emissions report: a statement as a Document, with METHOD.md §7's column names."""

from __future__ import annotations

import dataclasses
from typing import Final

from veilleuse.collector.figures import EmissionsRow, EmissionsStatement
from veilleuse.collector.report import Document, Row, Value

COLUMNS: Final = tuple(column.name for column in dataclasses.fields(EmissionsRow))
FIRST_COLUMNS: Final = (
    "period_from",
    "period_to",
    "entity",
    "site",
    "zone",
    "population",
    "device_class",
    "level",
    "n",
)
ASSUMPTIONS: Final = (
    "Use phase only, location-based, official ledger: one factor per zone and year; not additive to another energy line.",
    "Periods are half-open: period_to is the day after the last; a machine's days are the civil days of its site.",
    "Energy at the socket by the best method available; kwh_total = measured + modelled, exactly, in millijoules.",
    "kwh_measured = metered + battery + counter_calibrated; kwh_modelled = every other method.",
    "Virtual machines are a memo line: the host that runs them carries their energy.",
    "Coverage is observed over enrolled machine time, from the day of enrolment to the end of the period or to now.",
    "Intervals hold the model's uncertainty (common to all that rests on the priors of a device class) and the factor's.",
    "Nothing is extrapolated to machines without an agent.",
    "Publish one grouping of a period: two of them can be subtracted, and show fewer machines than k.",
)


def document(statement: EmissionsStatement, head: dict[str, Value | list[str] | None]) -> Document:
    """The report of a statement; `head` says what was asked."""
    notes = list(ASSUMPTIONS)
    if any(row.apportioned for row in (*statement.rows, *statement.memo)):
        notes.append(
            "Weeks were shared between their days in proportion to the calendar's open time (apportioned)."
        )
    if any(row.provisional for row in (*statement.rows, *statement.memo)):
        notes.append(
            "A factor is provisional: the year's own is not published, the last published one stands in."
        )
    if statement.withheld:
        notes.append("Some populations are too small to be shown and are in no row or total (withheld).")
    return Document(
        head={"kind": "emissions", "ledger": "official", **head},
        columns=(*FIRST_COLUMNS, *(name for name in COLUMNS if name not in FIRST_COLUMNS)),
        tables={
            "rows": [_row(row) for row in statement.rows],
            "totals": [_row(row) for row in statement.totals],
            "memo": [_row(row) for row in statement.memo],
            "factors": list(statement.factors),
            "withheld": list(statement.withheld),
        },
        tabular=("rows", "totals", "memo"),
        assumptions=tuple(notes),
    )


def _row(row: EmissionsRow) -> Row:
    """What exists of it, in the columns' order."""
    values = {name: getattr(row, name) for name in COLUMNS}
    order = (*FIRST_COLUMNS, *(name for name in COLUMNS if name not in FIRST_COLUMNS))
    return {name: values[name] for name in order if values[name] is not None}
