# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A year out of the store, as it is kept for ever. DESIGN.md §6."""

from __future__ import annotations

from datetime import date

from veilleuse.collector.closed_years.year_statistics import Kept
from veilleuse.collector.reports.fleet_year import YearQuestion, year_kept
from veilleuse.collector.reports.inputs import Sources


def keep_year(sources: Sources, year: int, *, k: int, today: date) -> Kept:
    """Of the calendar year; `k`: fewest workstations or classroom PCs of a cell. Raises UsageError for a year that lies nowhere."""
    question = YearQuestion(date(year, 1, 1), date(year + 1, 1, 1), (), k, today)
    return year_kept(sources, question)
