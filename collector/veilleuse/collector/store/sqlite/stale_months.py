# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Marks of months that are not kept yet, or no longer true. On the way of every record: what is marked is remembered."""

from __future__ import annotations

import sqlite3
from datetime import date
from functools import lru_cache
from typing import Final, TypeAlias

from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.store.sqlite.connection import Database

Changed: TypeAlias = tuple[HostId, tuple[int, int]]
"""(host, (grain DAY or WEEK, start)) of a day or a week that changed."""

_REMEMBERED: Final = 200_000
"""Some 150 B each: 20 days, and two months, of 10,000 machines."""
_MARK: Final = "INSERT INTO stale_months (month, host_id) VALUES (?, ?) ON CONFLICT DO NOTHING"


@lru_cache(maxsize=8192)
def months_of(grain: int, start: int) -> tuple[int, ...]:
    """Day numbers of the 1st of the months a day or a week lies in; of a day, the month of its eve too: an evening ends the next
    morning."""
    days = (start, start + 6) if grain == Grain.WEEK else (start, start - 1)
    return tuple(dict.fromkeys(date.fromordinal(max(day, 1)).replace(day=1).toordinal() for day in days))


class StaleMonths:
    """Sets marks once: a mark that is known to stand costs no statement, and a day whose marks are known one look."""

    def __init__(self, database: Database) -> None:
        """One for all that write in a database."""
        self._database = database
        self._days: set[Changed] = set()
        self._months: set[tuple[int, HostId]] = set()
        database.on_forget(self._forget)

    def mark(self, changed: set[Changed]) -> None:
        """The months of these days and weeks, in the open transaction."""
        new = changed - self._days
        if not new:
            return
        self.mark_months({(month, host_id) for host_id, key in new for month in months_of(*key)})
        if len(self._days) >= _REMEMBERED:
            self._days.clear()
        self._days |= new

    def mark_months(self, months: set[tuple[int, HostId]]) -> None:
        """(month, host)."""
        new = months - self._months
        if new:
            self._database.connection.executemany(_MARK, sorted(new))
            if len(self._months) >= _REMEMBERED:
                self._months.clear()
            self._months |= new

    def clear(self, host_id: HostId, month: int) -> None:
        """It is kept now."""
        self._database.connection.execute(
            "DELETE FROM stale_months WHERE month = ? AND host_id = ?", (month, host_id)
        )
        self._months.discard((month, host_id))
        self._days.clear()

    def _forget(self) -> None:
        self._days.clear()
        self._months.clear()


def mark_kept(connection: sqlite3.Connection, site: str, first_day: int, last_day: int) -> None:
    """Kept months of a site's machines over these days, whose days are all there: what its calendar says of them has changed."""
    first = date.fromordinal(max(1, first_day)).replace(day=1).toordinal()
    connection.execute(
        "INSERT INTO stale_months (month, host_id) SELECT DISTINCT month, host_id FROM hosts JOIN host_months USING (host_id)"
        " WHERE site = ? AND month BETWEEN ? AND ? AND days_gone = 0 ON CONFLICT DO NOTHING",
        (site, first, last_day),
    )
