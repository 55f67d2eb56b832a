# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A year out of the store, as it is kept for ever. DESIGN.md §6."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from veilleuse.collector.account.fleet import Assumptions
from veilleuse.collector.account.keeping import Keeper
from veilleuse.collector.account.kept import Kept
from veilleuse.collector.reporting.rooms import rooms
from veilleuse.collector.reporting.sources import Sources
from veilleuse.collector.reporting.year import YearQuestion, year_stretch


def keep_year(sources: Sources, year: int, *, k: int, today: date) -> Kept:
    """Of the calendar year; `k`: fewest workstations or classroom PCs of a cell. Raises UsageError for a year that lies nowhere."""
    question = YearQuestion(date(year, 1, 1), date(year + 1, 1, 1), (), k, today)
    stretch = year_stretch(sources, question, Assumptions())
    keeper = Keeper(question.first, question.end, k, sources.inventory.headcounts())
    for standing in stretch.devices:
        keeper.stands(standing)
    for one, standing in stretch.measured:
        keeper.measured(one, standing)
    for one, standing in stretch.virtual:
        keeper.virtual(one, standing)
    kept = keeper.kept()
    return replace(kept, rooms=tuple(rooms(sources, question.first, question.end, stretch.servers)))
