# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Months and years of machines, as kept, and the days of those that are not: read-only. Implements ports.RollReader with SqliteReader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, Final

from veilleuse.collector.model.months import HostPeriod
from veilleuse.collector.model.records import Grain, Host, HostId, Site
from veilleuse.collector.ports.months import KeptRows, MonthSource, OldestKept, StaleMonth
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.month_rows import month_source
from veilleuse.collector.store.sqlite.month_vectors import DAY_TYPES, Layouts
from veilleuse.collector.wire_codec import BANDS, POPULATIONS
from veilleuse.wire.vocabulary import Population

_PAGE: Final = "host_id > ? AND host_id <= ?"
_YEARS: Final = (
    f"SELECT host_id, day_type, band, apportioned, layout, sums FROM host_years WHERE year = ? AND {_PAGE}"
    " ORDER BY host_id, day_type, band"
)
_MONTHS: Final = (
    "SELECT host_id, day_type, band, apportioned, layout, sums FROM host_months"
    f" WHERE month = ? AND {_PAGE} ORDER BY host_id, day_type, band"
)
_STALE: Final = f"SELECT host_id FROM stale_months WHERE month = ? AND {_PAGE} ORDER BY host_id"
_KEPT: Final = (
    "SELECT host_id, day_type, band, apportioned, layout, sums FROM host_months"
    " WHERE month = ? AND host_id = ? ORDER BY day_type, band"
)
_OLDEST_UNIT: Final = (
    "SELECT min(o) FROM (SELECT (SELECT min(start) FROM sums s WHERE s.host_id = h.host_id AND s.grain = ?) AS o"
    " FROM hosts h WHERE population = ?)"
)
_OLDEST_MONTH: Final = (
    "SELECT min(o) FROM (SELECT (SELECT min(month) FROM host_months m WHERE m.host_id = h.host_id) AS o"
    " FROM hosts h WHERE population = ?)"
)
_LATE: Final = (
    "SELECT count(*) FROM stale_months JOIN hosts USING (host_id) WHERE population = ? AND month < ?"
)


class PeriodRows:
    """On the connection of one thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._layouts = Layouts(database.connection)

    def kept(self, years: Sequence[int], months: Sequence[date], after: HostId, upto: HostId) -> KeptRows:
        """See ports.RollReader; one read transaction, ended on return."""
        with self._one_state():
            year_rows = [
                row
                for year in years
                for row in self._periods(date(year, 1, 1), _YEARS, year, after, upto, sparse=False)
            ]
            month_rows = [
                row
                for month in months
                for row in self._periods(month, _MONTHS, month.toordinal(), after, upto, sparse=True)
            ]
            of_years = [date(year, month, 1) for year in years for month in range(1, 13)]
            stale = [
                StaleMonth(HostId(host_id), month)
                for month in (*of_years, *months)
                for (host_id,) in self._ask(_STALE, month.toordinal(), after, upto)
            ]
            kept = [
                row
                for host_id, month in stale
                for row in self._periods(month, _KEPT, month.toordinal(), host_id, sparse=True)
            ]
        return KeptRows(year_rows, month_rows, frozenset(stale), kept)

    def _periods(self, first: date, sql: str, *values: Any, sparse: bool) -> Iterator[HostPeriod]:
        """The loop that a year over 10,000 machines is made of: nothing but what each row needs."""
        unpack: dict[int, Any] = {}
        for host_id, kind, band, apportioned, layout, blob in self._ask(sql, *values):
            if layout not in unpack:
                unpack[layout] = self._layouts.unpack(layout, sparse=sparse)
            yield HostPeriod(
                host_id, first, DAY_TYPES[kind], BANDS[band], unpack[layout](blob), apportioned == 1
            )

    def month_source(self, host: Host, site: Site, month: date) -> MonthSource:
        """What a month of a machine is made of, as one state."""
        with self._one_state():
            return month_source(self._ask, self._layouts, host, site, month)

    def oldest(self, population: Population, ended_by: date) -> OldestKept:
        """How old the oldest rows of a population are."""
        number = next(key for key, word in POPULATIONS.items() if word is population)
        return OldestKept(
            self._ask(_OLDEST_UNIT, Grain.DAY, number)[0][0],
            self._ask(_OLDEST_UNIT, Grain.WEEK, number)[0][0],
            self._ask(_OLDEST_MONTH, number)[0][0],
            self._ask(_OLDEST_UNIT, Grain.HOUR, number)[0][0],
            self._ask(_LATE, number, ended_by.toordinal())[0][0],
        )

    @contextmanager
    def _one_state(self) -> Iterator[None]:
        with self._database.translated():
            self._database.connection.execute("BEGIN")
            try:
                yield
            finally:
                self._database.connection.execute("COMMIT")

    def _ask(self, sql: str, *values: Any) -> list[Any]:
        with self._database.translated():
            return self._database.connection.execute(sql, values).fetchall()
