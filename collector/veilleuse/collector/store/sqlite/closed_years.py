# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores closed years, and the statistics kept of open ones. Rows are added, never changed.

Implements ports.closing; tables of data_0016 and data_0020.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Final

from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.closed_years import ClosedFile, ClosedYear, KeptYear, PackedFile, YearState
from veilleuse.collector.model.records import Grain
from veilleuse.collector.ports.months import MayGo, PendingMonths
from veilleuse.collector.store.sqlite.connection import DataTables, damaged
from veilleuse.collector.store.sqlite.migrations import BesideReader
from veilleuse.collector.wire_codec import number
from veilleuse.wire.units import MILLISECONDS_PER_DAY, UNIX_EPOCH_DAY
from veilleuse.wire.vocabulary import Population

_REVISIONS: Final = (
    "SELECT year, revision, state, unix_milliseconds, statistics_sha256, sha256 FROM closed_years"
    " WHERE year = coalesce(?, year) ORDER BY year, revision"
)
_FILE: Final = (
    "SELECT report, json, signature FROM closed_years LEFT JOIN closed_statistics ON closed_statistics.sha256 = statistics_sha256"
    " WHERE year = ? AND revision = ?"
)
_KEPT: Final = (
    "SELECT year, kept_day, readings_may_go, months_may_go, statistics_sha256 FROM kept_years ORDER BY year"
)
_HAS_MONTHS: Final = (
    "SELECT EXISTS (SELECT 1 FROM hosts WHERE population IN (%s) AND EXISTS (SELECT 1 FROM host_months m"
    " WHERE m.host_id = hosts.host_id AND m.month >= ? AND m.month < ?))"
)
_METERS: Final = (
    "WITH RECURSIVE m (meter) AS (SELECT min(meter) FROM meter_hours UNION ALL"
    " SELECT (SELECT min(meter) FROM meter_hours h WHERE h.meter > m.meter) FROM m WHERE m.meter IS NOT NULL)"
)
"""Meters with a reading, and NULL: one key lookup for each meter, however many hours it has."""


def _unix_milliseconds(day: date) -> int:
    """Return 00:00 UTC of a day, in Unix milliseconds."""
    return (day.toordinal() - UNIX_EPOCH_DAY) * MILLISECONDS_PER_DAY


class SqliteClosings(DataTables):
    """Reads and writes closed years. Each write is a transaction, or part of the caller's."""

    def revisions(self, year: int | None = None) -> tuple[ClosedYear, ...]:
        """Return all revisions, or those of one year, by year and revision. Raises StoreDamaged."""
        try:
            return tuple(
                ClosedYear(row[0], row[1], YearState(row[2]), *row[3:])
                for row in self._data.rows(_REVISIONS, year)
            )
        except ValueError as error:
            raise damaged(self._data.path, f"a closed year: {error}") from error

    def file(self, one: ClosedYear) -> ClosedFile:
        """Return the content of a revision. Raises StoreDamaged."""
        rows = self._data.rows(_FILE, one.year, one.revision)
        try:
            ((report, statistics, signature),) = rows
            return PackedFile(report, statistics, signature).unpack()
        except (ValueError, TypeError) as error:
            raise damaged(self._data.path, f"closed year {one.report_id}: {error}") from error

    def waiting(self, year: int) -> PendingMonths:
        """Return the days, weeks, hours and months of the year and its edge weeks that still wait."""
        first, end = date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()
        hours = [_unix_milliseconds(date(one, 1, 1)) for one in (year, year + 1)]
        ((periods,),) = self._data.rows(
            "SELECT count(*) FROM dirty WHERE (grain = ? AND start >= ? AND start < ?)"
            " OR (grain = ? AND start >= ? AND start < ?) OR (grain = ? AND start > ? AND start < ?)",
            Grain.HOUR,
            *hours,
            Grain.DAY,
            first,
            end,
            Grain.WEEK,
            first - 7,
            end,
        )
        ((months,),) = self._data.rows(
            "SELECT count(*) FROM stale_months WHERE month >= ? AND month < ?", first, end
        )
        return PendingMonths(periods, months)

    def kept_years(self) -> tuple[KeptYear, ...]:
        """Return the years that have statistics and are not closed, in order."""
        return tuple(
            KeptYear(row[0], date.fromordinal(row[1]), row[2] == 1, row[3] == 1, row[4])
            for row in self._data.rows(_KEPT)
        )

    def kept_file(self, one: KeptYear) -> ClosedFile:
        """Return the settings in force (`report`) and the statistics of a kept year, unsigned.

        Raises StoreDamaged.
        """
        rows = self._data.rows("SELECT facts, json FROM kept_years WHERE year = ?", one.year)
        try:
            ((facts, statistics),) = rows
            return PackedFile(facts, statistics).unpack()
        except (ValueError, TypeError) as error:
            raise damaged(self._data.path, f"what is kept of {one.year}: {error}") from error

    def first_year(self) -> int | None:
        """Return the first year with a month of a machine or a reading of a meter; None without any."""
        ((month,),) = self._data.rows("SELECT min(month) FROM host_months")
        ((hour,),) = self._data.rows(
            f"{_METERS} SELECT min((SELECT min(start) FROM meter_hours h WHERE h.meter = m.meter)) FROM m"
        )
        days = [month] if month is not None else []
        if hour is not None:
            days.append(UNIX_EPOCH_DAY + hour // MILLISECONDS_PER_DAY)
        return date.fromordinal(min(days)).year if days else None

    def has_months(self, first: date, end: date, populations: Collection[Population]) -> bool:
        """Tell whether any machine of these populations has a month that begins in [first, end)."""
        numbers = ", ".join(str(number(one)) for one in populations)
        return bool(self._data.rows(_HAS_MONTHS % numbers, first.toordinal(), end.toordinal())[0][0])

    def has_readings(self, first: date, end: date) -> bool:
        """Tell whether any meter has a reading of an hour that begins in these days of UTC."""
        asked = (
            f"{_METERS} SELECT EXISTS (SELECT 1 FROM m WHERE EXISTS"
            " (SELECT 1 FROM meter_hours h WHERE h.meter = m.meter AND start >= ? AND start < ?))"
        )
        return bool(self._data.rows(asked, _unix_milliseconds(first), _unix_milliseconds(end))[0][0])

    def keep(self, one: KeptYear, file: PackedFile | None) -> None:
        """Replace what is kept of a year; None: it cannot be kept.

        Raises AdminError when the year is closed.
        """
        content = (None, None) if file is None else (file.report, file.statistics)
        with self._data.transaction() as connection:
            if self.revisions(one.year):
                raise AdminError(f"{one.year} is closed: it is kept already")
            connection.execute(
                "INSERT OR REPLACE INTO kept_years (year, kept_day, readings_may_go, months_may_go, statistics_sha256, facts, json)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    one.year,
                    one.kept_on.toordinal(),
                    int(one.readings_may_go),
                    int(one.months_may_go),
                    one.statistics_sha256,
                    *content,
                ),
            )

    def put(self, one: ClosedYear, file: PackedFile) -> None:
        """Add the next revision of a year and delete what was kept while it was open.

        Raises AdminError when it is not the next revision.
        """
        with self._data.transaction() as connection:
            last = len(self.revisions(one.year))
            if one.revision != last + 1:
                raise AdminError(
                    f"{one.year} has {last} revisions: another one was made meanwhile, close it again"
                )
            connection.execute(
                "INSERT INTO closed_statistics (sha256, json) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (one.statistics_sha256, file.statistics),
            )
            connection.execute(
                "INSERT INTO closed_years (year, revision, state, unix_milliseconds, statistics_sha256, sha256, report, signature)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    one.year,
                    one.revision,
                    one.state.value,
                    one.closed_unix_milliseconds,
                    one.statistics_sha256,
                    one.sha256,
                    file.report,
                    file.signature,
                ),
            )
            connection.execute("DELETE FROM kept_years WHERE year = ?", (one.year,))

    def may_go(self, today: date) -> MayGo:
        """Return what retention may delete of past years."""
        closed = {row[0] for row in self._data.rows("SELECT DISTINCT year FROM closed_years")}
        kept = self.kept_years()
        months = frozenset(closed | {one.year for one in kept if one.months_may_go})
        readings = closed | {one.year for one in kept if one.readings_may_go}
        for year in range(self.first_year() or today.year, today.year):
            if year not in readings and self.has_readings(date(year, 1, 1), date(year + 1, 1, 1)):
                # a zone's year begins before UTC's
                return MayGo(months, _unix_milliseconds(date(year - 1, 12, 31)))
        return MayGo(months)

    def definitive_years(self) -> frozenset[int]:
        """Return the years with a definitive revision."""
        rows = self._data.rows(
            "SELECT DISTINCT year FROM closed_years WHERE state = ?", YearState.CLOSED_DEFINITIVE.value
        )
        return frozenset(row[0] for row in rows)


class SqliteClosingsReader(BesideReader, SqliteClosings):
    """Reads closed years, in any process."""
