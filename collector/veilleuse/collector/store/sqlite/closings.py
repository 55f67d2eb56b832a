# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Closed years: rows are added, never changed. Implements ports.closing; the tables of data_0016."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.closed import ClosedFile, ClosedYear, PackedFile, YearState
from veilleuse.collector.errors import AdminError
from veilleuse.collector.model import Grain
from veilleuse.collector.ports.closing import Waiting
from veilleuse.collector.store.sqlite.connection import Database, damaged
from veilleuse.collector.store.sqlite.directory import DATA_FILE
from veilleuse.collector.store.sqlite.migrations import require_current
from veilleuse.wire.units import MILLISECONDS_PER_DAY

_REVISIONS: Final = (
    "SELECT year, revision, state, unix_milliseconds, statistics_sha256, sha256 FROM closed_years"
    " WHERE year = coalesce(?, year) ORDER BY year, revision"
)
_FILE: Final = (
    "SELECT report, json, signature FROM closed_years LEFT JOIN closed_statistics ON closed_statistics.sha256 = statistics_sha256"
    " WHERE year = ? AND revision = ?"
)
_EPOCH: Final = date(1970, 1, 1).toordinal()


class SqliteClosings:
    """Short reads and writes; each write is a transaction, or part of the caller's."""

    def __init__(self, data: Database) -> None:
        """`data`: a writing connection, or for reading alone a reading one."""
        self._data = data

    def revisions(self, year: int | None = None) -> tuple[ClosedYear, ...]:
        """All, or a year's, by year and revision. Raises StoreDamaged."""
        try:
            return tuple(
                ClosedYear(row[0], row[1], YearState(row[2]), *row[3:])
                for row in self._rows(_REVISIONS, year)
            )
        except ValueError as error:
            raise damaged(self._data.path, f"a closed year: {error}") from error

    def file(self, one: ClosedYear) -> ClosedFile:
        """The content of a revision. Raises StoreDamaged."""
        rows = self._rows(_FILE, one.year, one.revision)
        try:
            ((report, statistics, signature),) = rows
            return PackedFile(report, statistics, signature).unpacked()
        except (ValueError, TypeError) as error:
            raise damaged(self._data.path, f"closed year {one.report_id}: {error}") from error

    def waiting(self, year: int) -> Waiting:
        """Days, weeks and hours of the year, and of the weeks across its edges, that wait; months likewise."""
        first, end = date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()
        hours = [(day - _EPOCH) * MILLISECONDS_PER_DAY for day in (first, end)]
        ((periods,),) = self._rows(
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
        ((months,),) = self._rows(
            "SELECT count(*) FROM stale_months WHERE month >= ? AND month < ?", first, end
        )
        return Waiting(periods, months)

    def put(self, one: ClosedYear, file: PackedFile) -> None:
        """The next revision of its year. Raises AdminError when it is not the next."""
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

    def definitive_years(self) -> frozenset[int]:
        """Years of which a revision is definitive."""
        rows = self._rows(
            "SELECT DISTINCT year FROM closed_years WHERE state = ?", YearState.CLOSED_DEFINITIVE.value
        )
        return frozenset(row[0] for row in rows)

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with self._data.translated():
            return self._data.connection.execute(sql, values).fetchall()


class SqliteClosingsReader(SqliteClosings):
    """Read-only, any process."""

    def __init__(self, directory: Path) -> None:
        """Raises DataDirectoryError, StoreDamaged."""
        data = Database(directory / DATA_FILE, writing=False)
        try:
            require_current(data, "data")
        except BaseException:
            data.close()
            raise
        super().__init__(data)

    def close(self) -> None:
        """Close the connection."""
        self._data.close()
