# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fill a running collector with many workstations in seconds: one sends two months, its rows are copied."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Final

from tests.support import clock
from tests.support.machines import SECONDS, Served, enrolled
from tests.support.pushes import Stream, cell, day, measurement, rapl, week
from veilleuse.collector.model.records import HostId
from veilleuse.wire.limits import EPOCH_BYTES
from veilleuse.wire.v1 import telemetry_pb2 as pb

HOUR: Final = 3_600_000
DAYS: Final = 60
FIRST: Final = 1_000_000
"""Copy n gets the number FIRST + n, above those of enrolled machines."""
_NEW: Final = {
    "host_id": ":first + n",
    "stream_id": ":first + n",
    "agent_id": "randomblob(16)",
    "record_id": "NULL",
}
"""Columns in which a copy differs; with NULL, SQLite assigns the next number."""


def crowd(running: Served, machines: int) -> int:
    """Add `machines` workstations with two months of records each: one sends them, the others are copies.
    Return the number of records that the store then has."""
    _two_months(running)
    running.collector.operations.perform("flush", {})
    connection = running.collector.store.data.connection

    def copy() -> int:
        (like,) = connection.execute("SELECT max(host_id) FROM hosts").fetchone()
        for table in _tables(connection):
            _copy(connection, table, like, machines - 1)
        connection.execute("UPDATE totals SET value = (SELECT count(*) FROM records) WHERE name = 'records'")
        return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])

    return running.collector.issuing.commit(copy)


def _two_months(running: Served) -> None:
    machine = enrolled(running, population="workstation")
    stream = Stream(HostId(0), epoch=bytes(EPOCH_BYTES))
    last = clock.today() - timedelta(days=2)
    for when in (last - timedelta(days=ago) for ago in range(DAYS, 0, -1)):
        energies = [(0, 90_000_000, 2 * HOUR)]
        cells = [cell(2 * HOUR, band=band, energies=energies) for band in (pb.BAND_CLOSED, pb.BAND_NIGHT)]
        stream.add(measurement(day(when), cells, [rapl()]))
        if when.isoweekday() == 7:
            year, number, _ = when.isocalendar()
            stream.add(measurement(week(year, number), [cell(30 * HOUR)]))
    with machine.telemetry() as stub:
        answer = stub.Push(stream.request(), timeout=SECONDS)
    assert answer.outcome == pb.PUSH_OUTCOME_STORED


def _tables(connection: sqlite3.Connection) -> list[str]:
    """Return the tables with rows of machines, `hosts` first. The table of certificates is left out, because
    a certificate belongs to one machine."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = [name for name in names if "host_id" in _columns(connection, name)]
    return sorted(set(found) - {"certificates"}, key=lambda name: name != "hosts")


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _copy(connection: sqlite3.Connection, table: str, like: int, copies: int) -> None:
    columns = _columns(connection, table)
    values = ", ".join(_NEW.get(column, column) for column in columns)
    connection.execute(
        f"WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :copies)"
        f" INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, numbers WHERE host_id = :like",
        {"first": FIRST, "copies": copies, "like": like},
    )
