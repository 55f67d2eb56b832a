# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Summarises the list of recommendations for people: whole sentences, ranked, and the declared actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from veilleuse.collector.documents.document import KeyFigure, Row, ShortTable, Summary, SummaryPart
from veilleuse.collector.reports.summaries.rows import both

COLUMNS: Final = ("rank", "sentence", "yearly_kwh", "owner", "entity")
ACTIONS: Final = ("what", "from_day", "saving_kwh", "saving_lo95_kwh", "saving_hi95_kwh", "claimed", "sites")
MOST: Final = 60
MOST_SENTENCES: Final = 8


def summary_of(rows: Sequence[Row], declared: Sequence[Row]) -> Summary:
    """Return the summary of ranked rows and of the table of declared actions."""
    known = [kwh for row in rows if isinstance(kwh := row.get("avoidable_kwh"), float)]
    figures = (
        KeyFigure(
            both(lambda w: w("actions.sum")),
            both(lambda w: w.kwh(math.fsum(known))),
            both(lambda w: w("actions.sum_note")),
        ),
        KeyFigure(
            both(lambda w: w("actions.ranked")),
            both(lambda w: w.number(len(rows))),
            both(lambda w: w("actions.ranked_note")),
        ),
    )
    tables = (
        ShortTable(both(lambda w: w("actions.first")), _used(COLUMNS, rows), rows, most=MOST),
        ShortTable(both(lambda w: w("actions.saved_title")), _used(ACTIONS, declared), declared),
    )
    return Summary(
        "",
        figures if known else (),
        tuple(str(row["sentence"]) for row in rows[:MOST_SENTENCES]),
        (SummaryPart(both(lambda w: w("actions.list")), tuple(one for one in tables if one.rows)),),
    )


def _used(columns: Sequence[str], rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(one for one in columns if one == columns[0] or any(one in row for row in rows))
