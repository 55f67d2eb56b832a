# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Declared gaps → the days and weeks they fall in: what R18 sets beside the sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from veilleuse.collector.model.records import Grain, HostId, RecordPeriod
from veilleuse.collector.store.sqlite.batch import GAP_PERIOD
from veilleuse.collector.store.sqlite.civil_days import day_bounds, day_of_hour
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.wire_codec import gap_spans
from veilleuse.wire.sums import apportion
from veilleuse.wire.v1 import telemetry_pb2 as pb

Spans: TypeAlias = Iterable[tuple[RecordPeriod, int]]
"""(where, milliseconds lost); a clock span may be longer than a day."""

_FILLED: Final = "gap_periods_filled"
"""Key of `meta`: records of before schema 3 have been gone through."""


def periods_of(spans: Spans, zone: ZoneInfo) -> Iterator[tuple[int, int, int]]:
    """(grain, start, milliseconds > 0): clock spans cut at the civil days of the zone, in proportion, exactly."""
    for period, milliseconds in spans:
        if period.grain is not Grain.HOUR:
            parts = [(int(period.grain), period.start, milliseconds)]
        else:
            days = _days(period, zone)
            shares = apportion(milliseconds, [length for _, length in days])
            parts = [(int(Grain.DAY), day, share) for (day, _), share in zip(days, shares, strict=True)]
        yield from (part for part in parts if part[2] > 0)


def _days(period: RecordPeriod, zone: ZoneInfo) -> list[tuple[int, int]]:
    """(day number, milliseconds of the span in it)."""
    position, end = period.start, period.start + period.milliseconds
    found = []
    while position < end:
        day = day_of_hour(zone, position)
        stop = min(end, day_bounds(zone, day)[1])
        found.append((day, stop - position))
        position = stop
    return found


def fill(database: Database) -> None:
    """Once: the gaps that were stored before there was a table for their periods. One transaction, so it may be cut."""
    connection = database.connection
    with database.transaction():
        if connection.execute("SELECT 1 FROM meta WHERE key = ?", (_FILLED,)).fetchone():
            return
        connection.execute("DELETE FROM gap_periods")
        hosts = connection.execute("SELECT host_id, time_zone FROM hosts JOIN sites USING (site)").fetchall()
        for host_id, zone in hosts:
            connection.executemany(GAP_PERIOD, _stored(database, HostId(host_id), ZoneInfo(zone)))
        connection.execute("INSERT INTO meta (key, value) VALUES (?, '1')", (_FILLED,))


def _stored(database: Database, host_id: HostId, zone: ZoneInfo) -> Iterator[tuple[int, ...]]:
    sums: Counter[tuple[int, int, int]] = Counter()
    rows = database.connection.execute("SELECT wire FROM records WHERE host_id = ? AND grain = 0", (host_id,))
    for (wire,) in rows:
        gap = pb.Record.FromString(wire).gap
        for grain, start, milliseconds in periods_of(gap_spans(gap), zone):
            sums[grain, start, gap.reason] += milliseconds
    for (grain, start, reason), milliseconds in sums.items():
        yield grain, start, host_id, reason, milliseconds
