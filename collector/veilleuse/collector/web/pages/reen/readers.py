# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Cuts the REEN sheet to what everybody may read: released months, the inventory, what was entered (pure).

Left out are what is of machines' present data, names of servers, and who signed a year.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

from veilleuse.collector.closed_years.signed_year import EXCLUSIONS, SIGN_OFF
from veilleuse.collector.documents.document import Document, Row
from veilleuse.collector.indicators import SERVER_KWH, USE_PHASE
from veilleuse.collector.model.actions import ActionLine, ActionTable, StoredAction
from veilleuse.collector.model.query import Basis
from veilleuse.collector.ports.imports import ActionReader
from veilleuse.collector.reports.emissions_document import BASIS

_OF_EMISSIONS: Final = frozenset({SERVER_KWH, USE_PHASE})
"""Values that the emissions report computes; I1 to I8 are of released months always."""
_RESTATED: Final = ("restated_baseline_value", "restated_trend_ratio")
_LIVE: Final = ("periods_not_derived",)
_COMPUTED: Final = "computed"


@dataclass(frozen=True, slots=True)
class LinesAlone:
    """Reads entered lines, and no action: savings of actions are made of machines' present data."""

    follows: ActionReader

    def actions(self) -> tuple[StoredAction, ...]:
        """Return none."""
        return ()

    def lines(self, table: ActionTable) -> tuple[ActionLine, ...]:
        """Return the lines in force."""
        return self.follows.lines(table)


def without_names(document: Document) -> Document:
    """Return the sheet without the sign-off, which no page shows: it names people."""
    tables = {name: rows for name, rows in document.tables.items() if name not in (SIGN_OFF, EXCLUSIONS)}
    tabular = tuple(name for name in document.tabular if name in tables)
    return replace(document, tables=tables, tabular=tabular)


def for_readers(document: Document) -> Document:
    """Return the sheet that every reader of the whole fleet may have, of one that was made of LinesAlone."""
    document = without_names(document)
    is_released = document.head.get(BASIS) == Basis.RELEASED.value
    tables = {
        "rows": list(_objectives(document.tables["rows"], is_released=is_released)),
        "measures": document.tables["measures"],
        "perimeters": document.tables["perimeters"] if is_released else [],
        "bilan": [row for row in document.tables["bilan"] if is_released or row.get("origin") != _COMPUTED],
    }
    return replace(
        document,
        head={name: value for name, value in document.head.items() if name not in _LIVE},
        tables=tables,
        assumptions=tuple(one for one in document.assumptions if isinstance(one, str)),
        charts=document.charts if is_released else (),
    )


def _objectives(rows: Collection[Row], *, is_released: bool) -> Iterator[Row]:
    for row in rows:
        if row.get("origin") != _COMPUTED:
            yield row
        elif row.get("indicator") in _OF_EMISSIONS:
            yield _without(row, _RESTATED) if is_released else _without(row, _of_machines(row))
        else:
            yield row if is_released else _without(row, _doubts(row))


def _of_machines(row: Row) -> tuple[str, ...]:
    """Return the columns that hold a figure: what was entered stays."""
    return ("value", "trend_ratio", "not_demonstrated", "reached", *_RESTATED, *_doubts(row))


def _doubts(row: Row) -> tuple[str, ...]:
    """Return the columns of intervals and coverage, which come from the emissions report."""
    return (
        "interval",
        "coverage_states",
        *(name for name in row if name.startswith(("value_lo", "value_hi"))),
    )


def _without(row: Row, names: Collection[str]) -> Row:
    return {name: value for name, value in row.items() if name not in names}
