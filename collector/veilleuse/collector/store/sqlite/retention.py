# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Deletes old rows of one machine other than its days and months, in steps of ≤ 20 ms. docs/privacy.md §3,
docs/guarantees.md P7.

SQLite overwrites deleted content (secure_delete) and uses its pages again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import civil_day
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.ports.months import Limits
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.wire_codec import gap_spans, number
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

SLICE_ROWS: Final = 400
SLICE_HOURS: Final = 8
"""Hours whose sums are deleted at once: each may have 32 cells with 64 points."""
_GAPS_LOOKED_AT: Final = 64
_UTC: Final = ZoneInfo("UTC")

_RECORDS: Final = (
    "DELETE FROM records WHERE record_id IN (SELECT record_id FROM records WHERE host_id = ? AND grain = ? AND bucket < ?"
    f" LIMIT {SLICE_ROWS})"
)
_RECORDS_OF: Final = "DELETE FROM records WHERE host_id = ? AND grain = ? AND bucket = ?"
_OF_A_UNIT: Final = ("point_sums", "unit_sums", "sums", "derived", "derived_screens")
_COUNT: Final = "UPDATE totals SET value = value - ? WHERE name = 'records'"
_OLDEST_RECORD: Final = "SELECT min(record_id) FROM records WHERE host_id = ? AND grain = ?"
_OF_POPULATION: Final = "host_id IN (SELECT host_id FROM hosts WHERE population = ?)"
_GAP_PERIODS: Final = (
    "DELETE FROM gap_periods WHERE (grain, start, host_id, reason) IN (SELECT grain, start, host_id, reason FROM gap_periods"
    f" WHERE {_OF_POPULATION} AND grain = ? AND start < ? LIMIT {SLICE_ROWS})"
)
_SERVERS_METERS: Final = f"(SELECT meter FROM meter_shares JOIN hosts USING (host_id) WHERE population = {number(Population.SERVER)})"
_READINGS: Final = (
    "DELETE FROM meter_hours WHERE (meter, start, host_id) IN (SELECT meter, start, host_id FROM meter_hours h"
    f" WHERE {{whose}} AND start < ? AND NOT EXISTS (SELECT 1 FROM meter_shares s JOIN records r ON r.host_id = s.host_id"
    f" AND r.grain = {Grain.HOUR:d} AND r.bucket = h.start WHERE s.meter = h.meter) LIMIT {SLICE_ROWS})"
)
"""Readings stay as long as records of machines on the meter, whose hours end at local midnight: derive may
need them.
"""
_READ_BY: Final = _READINGS.format(whose=f"{_OF_POPULATION} AND meter NOT IN {_SERVERS_METERS}")
_READ_OF_SERVERS: Final = _READINGS.format(whose=f"meter IN {_SERVERS_METERS}")
"""Readings of servers' meters stay as long as the servers' own hours, whichever agent reads the meter."""
_OLD_HOURS: Final = (
    "SELECT DISTINCT start FROM sums s WHERE host_id = ? AND grain = ? AND start < ? AND NOT EXISTS (SELECT 1 FROM dirty d"
    f" WHERE d.host_id = s.host_id AND d.grain = s.grain AND d.start = s.start) LIMIT {SLICE_HOURS}"
)
"""An hour that waits to be derived stays: its day would lack what arrived late."""
_DATED: Final = (int(Grain.HOUR), int(Grain.DAY), int(Grain.WEEK))


def expire_rest(connection: sqlite3.Connection, host_id: HostId, limits: Limits) -> int:
    """Delete some rows of one machine; returns their number, 0 when none is left."""
    for step in _STEPS:
        if done := step(connection, host_id, limits):
            return done
    return 0


def expire_population(connection: sqlite3.Connection, population: Population, limits: Limits) -> int:
    """Delete some rows of all machines of a population, in the order of time.

    Gaps stay as long as days that R18 balances.
    """
    deleted = 0
    for grain, bound in ((Grain.DAY, limits.days), (Grain.WEEK, limits.days - 6)):
        deleted += connection.execute(_GAP_PERIODS, (number(population), grain, bound)).rowcount
    hours = limits.hours_unix_milliseconds
    if population is Population.SERVER:
        deleted += connection.execute(_READ_OF_SERVERS, (hours,)).rowcount
    return deleted + connection.execute(_READ_BY, (number(population), hours)).rowcount


def delete_unit(connection: sqlite3.Connection, host_id: HostId, grain: Grain, start: int) -> int:
    """Delete an hour, day or week of a machine; returns the number of its records.

    Derived rows are deleted in one transaction with their inputs: deriving the rest again would remove their
    energy from the day, or add it twice.
    """
    for table in _OF_A_UNIT:
        connection.execute(
            f"DELETE FROM {table} WHERE grain = ? AND start = ? AND host_id = ?", (grain, start, host_id)
        )
    records = connection.execute(_RECORDS_OF, (host_id, grain, start)).rowcount
    connection.execute(_COUNT, (records,))
    return records


def _records(connection: sqlite3.Connection, host_id: HostId, limits: Limits) -> int:
    """Delete records that an earlier program left of days and weeks it had deleted."""
    deleted = 0
    for grain, bound in ((Grain.DAY, limits.records), (Grain.WEEK, limits.records - 6)):
        deleted += connection.execute(_RECORDS, (host_id, grain, bound)).rowcount
    connection.execute(_COUNT, (deleted,))
    return deleted


def _hours(connection: sqlite3.Connection, host_id: HostId, limits: Limits) -> int:
    """Delete hours: their days hold the sums."""
    values = (host_id, Grain.HOUR, limits.hours_unix_milliseconds)
    rows = connection.execute(_OLD_HOURS, values).fetchall()
    done = records = 0
    for (start,) in rows:
        records += delete_unit(connection, host_id, Grain.HOUR, start)
        done += 1
        if records >= SLICE_ROWS:
            break
    return done


def _gap_records(connection: sqlite3.Connection, host_id: HostId, limits: Limits) -> int:
    """Delete gaps.

    A gap's dates are in its bytes, if any; an undated gap is as old as the record after it.
    """
    ids = [connection.execute(_OLDEST_RECORD, (host_id, grain)).fetchone()[0] for grain in _DATED]
    oldest = min((one for one in ids if one is not None), default=None)
    rows = connection.execute(
        "SELECT record_id, wire FROM records WHERE host_id = ? AND grain = 0 AND record_id < ?"
        f" ORDER BY record_id LIMIT {_GAPS_LOOKED_AT}",
        (host_id, 2**62 if oldest is None else oldest),
    ).fetchall()
    limit = max(limits.records, civil_day(_UTC, limits.hours_unix_milliseconds))
    gone = [(record_id,) for record_id, wire in rows if _ended_by(wire, limit, undated=oldest is not None)]
    connection.executemany("DELETE FROM records WHERE record_id = ?", gone)
    connection.execute(_COUNT, (len(gone),))
    return len(gone)


def _ended_by(wire: bytes, limit: int, *, undated: bool) -> bool:
    ends = [
        civil_day(_UTC, period.start + period.milliseconds) + 1
        if period.grain is Grain.HOUR
        else period.start + (7 if period.grain is Grain.WEEK else 1)
        for period, _ in gap_spans(pb.Record.FromString(wire).gap)
    ]
    return max(ends) <= limit if ends else undated


def _psys(connection: sqlite3.Connection, host_id: HostId, limits: Limits) -> int:
    """Add the checks of old periods into a row without a period: the comparison of psys and battery stays the
    same.
    """
    old = (
        "host_id = :host AND (grain = 1 AND start < :hours OR grain = 2 AND start < :days OR grain = 3 AND start < :days - 6)"
        " AND NOT EXISTS (SELECT 1 FROM dirty d WHERE d.host_id = psys_checks.host_id AND d.grain = psys_checks.grain"
        " AND d.start = psys_checks.start)"
    )
    values = {"host": host_id, "hours": limits.hours_unix_milliseconds, "days": limits.records}
    connection.execute(
        "INSERT INTO psys_checks SELECT host_id, 0, 0, sum(psys_millijoules), sum(discharge_millijoules), sum(milliseconds),"
        " sum(base_millijoules), sum(base_milliseconds)"
        f" FROM psys_checks WHERE {old} GROUP BY host_id ON CONFLICT DO UPDATE SET"
        " psys_millijoules = psys_millijoules + excluded.psys_millijoules,"
        " discharge_millijoules = discharge_millijoules + excluded.discharge_millijoules,"
        " milliseconds = milliseconds + excluded.milliseconds,"
        " base_millijoules = base_millijoules + excluded.base_millijoules,"
        " base_milliseconds = base_milliseconds + excluded.base_milliseconds",
        values,
    )
    return connection.execute(f"DELETE FROM psys_checks WHERE {old}", values).rowcount


_Step = Callable[[sqlite3.Connection, HostId, Limits], int]
_STEPS: Final[tuple[_Step, ...]] = (_records, _hours, _gap_records, _psys)
