# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Marks months that are not stored, or no longer true. Every record passes here: marks are cached."""

from __future__ import annotations

import sqlite3
from datetime import date
from functools import lru_cache
from typing import Final, TypeAlias

from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.store.sqlite.connection import Database

Changed: TypeAlias = tuple[HostId, tuple[int, int]]
"""(host, (grain DAY or WEEK, start)) of a changed day or week."""

_REMEMBERED: Final = 200_000
"""Cached marks, some 150 B each: 20 days and two months of 10,000 machines."""
_MARK: Final = "INSERT INTO stale_months (month, host_id) VALUES (?, ?) ON CONFLICT DO NOTHING"


@lru_cache(maxsize=8192)
def months_of(grain: int, start: int) -> tuple[int, ...]:
    """Return day numbers of the 1st of the months of a day or week.

    A day also touches the month of the day before: an evening ends the next morning.
    """
    days = (start, start + 6) if grain == Grain.WEEK else (start, start - 1)
    return tuple(dict.fromkeys(date.fromordinal(max(day, 1)).replace(day=1).toordinal() for day in days))


class StaleMonths:
    """Sets marks once: a known mark costs no statement, and a day with known marks costs one lookup."""

    def __init__(self, database: Database) -> None:
        """One object serves all writers of a database."""
        self._database = database
        self._days: set[Changed] = set()
        self._months: set[tuple[int, HostId]] = set()
        database.on_forget(self._forget)

    def mark(self, changed: set[Changed]) -> None:
        """Mark the months of these days and weeks, in the open transaction."""
        new = changed - self._days
        if not new:
            return
        self.mark_months({(month, host_id) for host_id, key in new for month in months_of(*key)})
        if len(self._days) >= _REMEMBERED:
            self._days.clear()
        self._days |= new

    def mark_months(self, months: set[tuple[int, HostId]]) -> None:
        """Mark months, given as (month, host)."""
        new = months - self._months
        if new:
            self._database.connection.executemany(_MARK, sorted(new))
            if len(self._months) >= _REMEMBERED:
                self._months.clear()
            self._months |= new

    def clear(self, host_id: HostId, month: int) -> None:
        """Clear the mark of a month that is stored now."""
        self._database.connection.execute(
            "DELETE FROM stale_months WHERE month = ? AND host_id = ?", (month, host_id)
        )
        self._months.discard((month, host_id))
        self._days.clear()

    def _forget(self) -> None:
        self._days.clear()
        self._months.clear()


def mark_kept(connection: sqlite3.Connection, site: str, first_day: int, last_day: int) -> None:
    """Mark stored months of a site's machines over these days: its calendar has changed, and all their days
    are there.
    """
    first = date.fromordinal(max(1, first_day)).replace(day=1).toordinal()
    connection.execute(
        "INSERT INTO stale_months (month, host_id) SELECT DISTINCT month, host_id FROM hosts JOIN host_months USING (host_id)"
        " WHERE site = ? AND month BETWEEN ? AND ? AND days_gone = 0 ON CONFLICT DO NOTHING",
        (site, first, last_day),
    )
