# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Energy → emissions, coverage and uncertainty (pure)."""

from __future__ import annotations

from datetime import date
from typing import Final

from veilleuse.collector.errors import UsageError

FIRST_YEAR: Final = 2000
LAST_YEAR: Final = 2200
"""Years a period may lie in: outside, a date is a slip of the hand."""


def check_day(option: str, day: date) -> date:
    """The day. Raises UsageError outside of the years that a period may lie in."""
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise UsageError(f"{option} {day} must be between the years {FIRST_YEAR} and {LAST_YEAR}")
    return day


def check_period(first: date, end: date) -> None:
    """Raises UsageError for a period that is empty, `end` being exclusive, or lies nowhere."""
    if first >= end:
        raise UsageError(f"--from {first} must be before --to {end}, which is exclusive")
    check_day("--from", first)
    check_day("--to", end)
