# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What `veilleuse doctor` asks about the store itself, and what `serve` notes for it once a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from veilleuse.collector.model.records import HostStatus
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.directory import database_bytes
from veilleuse.collector.wire_codec import POPULATIONS
from veilleuse.wire.vocabulary import Population

SIZES_KEPT_DAYS: Final = 400


@dataclass(frozen=True, slots=True)
class DaySize:
    """The databases on one day."""

    day: date
    data_bytes: int
    records: int


@dataclass(frozen=True, slots=True)
class LatestCertificate:
    """The newest certificate of an active machine."""

    population: Population
    issued_unix_milliseconds: int
    not_after_unix_milliseconds: int


def note_size(database: Database, today: date) -> None:
    """The size of both databases and the number of records, for this day. A job of the writer."""
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO sizes SELECT ?, ?, value FROM totals WHERE name = 'records'"
            " ON CONFLICT (day) DO UPDATE SET data_bytes = excluded.data_bytes, records = excluded.records",
            (today.toordinal(), database_bytes(database.path.parent)),
        )
        connection.execute("DELETE FROM sizes WHERE day < ?", (today.toordinal() - SIZES_KEPT_DAYS,))


def sizes(database: Database) -> tuple[DaySize, ...]:
    """Oldest first."""
    rows = _rows(database, "SELECT day, data_bytes, records FROM sizes ORDER BY day")
    return tuple(DaySize(date.fromordinal(day), *rest) for day, *rest in rows)


def ran_since(database: Database, today: date) -> date:
    """The first of the days up to this one on each of which a size was noted: `serve` ran on them."""
    noted, first = {size.day for size in sizes(database)}, today
    while (before := first - timedelta(days=1)) in noted:
        first = before
    return first


def latest_certificates(database: Database) -> tuple[LatestCertificate, ...]:
    """One of each active machine that has any."""
    rows = _rows(
        database,
        "SELECT population, issued_unix_milliseconds, max(not_after_unix_milliseconds)"
        " FROM hosts JOIN certificates USING (host_id) WHERE status = ? GROUP BY host_id",
        HostStatus.ACTIVE.value,
    )
    return tuple(LatestCertificate(POPULATIONS[population], *rest) for population, *rest in rows)


def _rows(database: Database, sql: str, *values: object) -> Sequence[Any]:
    with database.translated():
        return database.connection.execute(sql, values).fetchall()
