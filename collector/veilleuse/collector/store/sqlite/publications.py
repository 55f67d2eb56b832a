# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores publications in data.db.

Rows are added and deleted, never changed; one of kind `fleet` may be replaced. Implements ports.Publications;
table of data_0018.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Any, Final

from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.publications import (
    HOLD_NOTE,
    MAXIMUM_ALL_BYTES,
    MAXIMUM_PERIODS,
    Publication,
    PublicationHold,
    PublicationKind,
)
from veilleuse.collector.model.records import Grain
from veilleuse.collector.ports.months import PublicationSummary
from veilleuse.collector.store.sqlite.connection import Database, DataTables, damaged
from veilleuse.collector.store.sqlite.migrations import BesideReader
from veilleuse.collector.wire_codec import number
from veilleuse.wire.units import MILLISECONDS_PER_DAY, UNIX_EPOCH_DAY

_COLUMNS: Final = "kind, first_day, end_day, format, k_anonymity, method_version, published_unix_milliseconds"
_OF: Final = "FROM published_periods WHERE kind = ? AND first_day = ? AND end_day = ?"
_FIND: Final = f"SELECT {_COLUMNS}, content {_OF}"
_TOLD_OF: Final = f"SELECT {_COLUMNS}, content_bytes {_OF}"
"""The content is the last column of a row: its pages are not read."""
_TOLD: Final = f"SELECT {_COLUMNS}, content_bytes FROM published_periods ORDER BY first_day, end_day, kind"
_PUT: Final = (
    f"INSERT INTO published_periods ({_COLUMNS}, content_bytes, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)
_SIZE: Final = "SELECT count(*), coalesce(sum(content_bytes), 0) FROM published_periods"
_KEPT: Final = PublicationKind.OWN_USE.value
_EXEMPT: Final = ", ".join(str(number(population)) for population in EXEMPT)
_WAITS: Final = (
    "SELECT EXISTS (SELECT 1 FROM dirty JOIN hosts USING (host_id)"
    f" WHERE population NOT IN ({_EXEMPT}) AND (grain = ? AND start > ? AND start < ? OR grain = ? AND start >= ? AND start < ?"
    " OR grain = ? AND start > ? AND start < ?))"
)


class SqlitePublications(DataTables):
    """Reads and writes publications."""

    def put(self, one: Publication) -> bool:
        """Store a publication.

        False: its kind and period already have one, and it is none of the fleet, which is replaced. Raises
        AdminError when there is no room.
        """
        days = (one.first.toordinal(), one.end.toordinal())
        size = len(one.content.encode())
        with self._data.transaction() as connection:
            if one.kind is PublicationKind.FLEET:
                connection.execute(f"DELETE {_OF}", (one.kind.value, *days))
            elif connection.execute(_TOLD_OF, (one.kind.value, *days)).fetchone():
                return False
            periods, whole = connection.execute(_SIZE).fetchone()
            if periods >= MAXIMUM_PERIODS or whole + size > MAXIMUM_ALL_BYTES:
                raise AdminError(
                    f"{periods} published periods of {whole} bytes are kept: there is no room for {one.name}"
                )
            connection.execute(
                _PUT,
                (
                    one.kind.value,
                    *days,
                    one.format,
                    one.k_anonymity,
                    one.method_version,
                    one.published_unix_milliseconds,
                    size,
                    one.content,
                ),
            )
            return True

    def summaries(self) -> tuple[PublicationSummary, ...]:
        """Return all publications by period and kind, without content. Raises StoreDamaged."""
        return tuple(_told(self._data, row) for row in self._data.rows(_TOLD))

    def find(self, kind: PublicationKind, first: date, end: date) -> Publication | None:
        """Return the publication of a period; None: not published. Raises StoreDamaged."""
        rows = self._data.rows(_FIND, kind.value, first.toordinal(), end.toordinal())
        return _publication(self._data, rows[0]) if rows else None

    def remove(self, kind: PublicationKind, first: date, end: date) -> None:
        """Delete one publication, if there is one."""
        self._data.write(f"DELETE {_OF}", kind.value, first.toordinal(), end.toordinal())

    def take_back(self, first: date, end: date, servers_from: date = date.min) -> int:
        """Delete the publications inside [first, end); returns their number.

        What was measured of servers in a month that began before `servers_from` stays.
        """
        sql = (
            "DELETE FROM published_periods WHERE first_day >= ? AND end_day <= ?"
            f" AND (kind <> '{PublicationKind.SERVERS}' OR first_day >= ?)"
        )
        return self._data.write(sql, first.toordinal(), end.toordinal(), servers_from.toordinal())

    def expire(self, until: date, years: Collection[int]) -> int:
        """Delete those that ended by `until`, or began in one of the years; returns their number.

        What Veilleuse itself used stays: a few numbers a month, which nothing could compute again.
        """
        with self._data.transaction() as connection:
            gone = connection.execute(
                f"DELETE FROM published_periods WHERE end_day <= ? AND kind <> '{_KEPT}'",
                (until.toordinal(),),
            ).rowcount
            for year in years:
                gone += connection.execute(
                    "DELETE FROM published_periods WHERE first_day >= ? AND first_day < ?"
                    f" AND kind <> '{_KEPT}'",
                    (date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()),
                ).rowcount
            return gone


class SqlitePublicationReader(BesideReader):
    """Reads publications, in any process."""

    def summary(self, kind: PublicationKind, first: date, end: date) -> PublicationSummary | None:
        """Return the publication of a period, without content; None: not published. Raises StoreDamaged."""
        row = self._row(_TOLD_OF, kind.value, first.toordinal(), end.toordinal())
        return None if row is None else _told(self._data, row)

    def find(self, kind: PublicationKind, first: date, end: date) -> Publication | None:
        """Return the publication of a period; None: not published. Raises StoreDamaged."""
        row = self._row(_FIND, kind.value, first.toordinal(), end.toordinal())
        return None if row is None else _publication(self._data, row)

    def hold(self) -> PublicationHold | None:
        """Return what may not be published since a restore. Raises StoreDamaged."""
        row = self._row("SELECT value FROM meta WHERE key = ?", HOLD_NOTE)
        try:
            return None if row is None else PublicationHold.from_json(row[0])
        except ValueError as error:
            raise damaged(self._data.path, f"held publications: {error}") from error

    def years(self) -> frozenset[int]:
        """Return the years of the stored publications."""
        with self._asking() as connection:
            sql = f"SELECT DISTINCT first_day FROM published_periods WHERE kind <> '{_KEPT}'"
            rows = connection.execute(sql).fetchall()
        return frozenset(date.fromordinal(first).year for (first,) in rows)

    def waits(self, first: date, end: date) -> bool:
        """Tell whether records of machines under the rule of disclosure, of days in [first, end), wait to be
        derived.

        Hours reach one day further on both sides, for any zone; weeks across the edges count too.
        """
        days = (first.toordinal(), end.toordinal())
        hours = [
            (day - UNIX_EPOCH_DAY) * MILLISECONDS_PER_DAY
            for day in (first.toordinal() - 1, end.toordinal() + 1)
        ]
        weeks = (first.toordinal() - 7, end.toordinal())
        row = self._row(_WAITS, Grain.HOUR, *hours, Grain.DAY, *days, Grain.WEEK, *weeks)
        return bool(row[0])

    def _row(self, sql: str, *values: Any) -> Any:
        with self._asking() as connection:
            return connection.execute(sql, values).fetchone()


def _told(data: Database, row: Any) -> PublicationSummary:
    return PublicationSummary(*_dated(data, row[:3]), *row[3:])


def _publication(data: Database, row: Any) -> Publication:
    return Publication(*_dated(data, row[:3]), *row[3:])


def _dated(data: Database, row: Any) -> tuple[PublicationKind, date, date]:
    kind, first, end = row
    try:
        return PublicationKind(kind), date.fromordinal(first), date.fromordinal(end)
    except ValueError as error:  # written by a later version, or damaged
        raise damaged(data.path, f"a published period: {error}") from error
