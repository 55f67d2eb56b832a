# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Knows what the periods of a host already hold: records of other epochs, and the number of records."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import day_bounds, day_of_hour
from veilleuse.collector.model.records import DecodedRecord, Grain, HostId, RecordPeriod
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.sqlite.batch import GAP_PERIOD, gap_bucket
from veilleuse.collector.store.sqlite.connection import Database, padded
from veilleuse.collector.wire_codec import gap_spans
from veilleuse.wire.sums import apportion
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_HOUR, UNIX_EPOCH_DAY
from veilleuse.wire.v1 import telemetry_pb2 as pb

TIMES_OVER: Final = 4
"""How often one period may come: after a clock that went back, or a restored snapshot.

Beyond this it is no measurement: a machine could claim any energy for one hour.
"""
MOST_RECORDS: Final = TIMES_OVER * 360
"""Records in one hour, day or week: an hour of 10 s records, the finest, TIMES_OVER times.

Derive reads all at once.
"""
MOST_MILLISECONDS: Final = {
    Grain.HOUR: TIMES_OVER * MILLISECONDS_PER_HOUR,
    Grain.DAY: TIMES_OVER * (MILLISECONDS_PER_DAY + MILLISECONDS_PER_HOUR),
    Grain.WEEK: TIMES_OVER * (7 * MILLISECONDS_PER_DAY + MILLISECONDS_PER_HOUR),
}
_REMEMBERED: Final = 40_000
"""Cached pairs of host and grain, some 250 bytes each; the cache is emptied when there are more."""

_RECORDS_HELD: Final = "SELECT bucket, count(*) FROM records WHERE host_id = ? AND grain = ? AND bucket IN ({marks}) GROUP BY bucket"
_MILLISECONDS_HELD: Final = "SELECT start, sum(milliseconds) FROM sums WHERE host_id = ? AND grain = ? AND start IN ({marks}) GROUP BY start"
_Key: TypeAlias = tuple[Grain, int]
_Held: TypeAlias = tuple[int, int]
"""(number of records, milliseconds of their cells)."""


class Fullness:
    """Limits the records of a period. The last period of each host and grain is cached for the next push.

    The cache holds no more: a cache of every hour of each machine would grow for months (R19).
    """

    def __init__(self, database: Database) -> None:
        self._connection = database.connection
        self._last: dict[tuple[HostId, Grain], tuple[int, _Held]] = {}
        """Key → (bucket, its contents)."""
        database.on_forget(self._last.clear)

    def take(self, host_id: HostId, records: Iterable[DecodedRecord]) -> tuple[int, ...]:
        """Count all of `records`, or none: then returns the seqs of those whose period is full."""
        measured = [
            (record, (record.period.grain, bucket_of(record.period)))
            for record in records
            if record.period is not None
        ]
        held = self._held(host_id, [key for _, key in measured])
        refused: list[int] = []
        for record, key in measured:
            before, milliseconds = held[key]
            more = (before + 1, milliseconds + sum([cell.milliseconds for cell in record.cells]))
            if more[0] > MOST_RECORDS or more[1] > MOST_MILLISECONDS[key[0]]:
                refused.append(record.seq)
            else:
                held[key] = more
        if not refused:
            self._remember(host_id, held)
        return tuple(refused)

    def _remember(self, host_id: HostId, held: dict[_Key, _Held]) -> None:
        if len(self._last) >= _REMEMBERED:
            self._last.clear()
        for (grain, bucket), contents in held.items():
            self._last[host_id, grain] = (bucket, contents)

    def _held(self, host_id: HostId, keys: Iterable[_Key]) -> dict[_Key, _Held]:
        """Return what these periods hold, in the order of `keys`."""
        found: dict[_Key, _Held] = dict.fromkeys(keys, (0, 0))
        unknown: defaultdict[Grain, list[int]] = defaultdict(list)
        for grain, bucket in found:
            last = self._last.get((host_id, grain))
            if last is not None and last[0] == bucket:
                found[grain, bucket] = last[1]
            else:
                unknown[grain].append(bucket)
        for grain, buckets in unknown.items():
            some = padded(buckets)
            marks = ", ".join("?" * len(some))
            records = self._ask(_RECORDS_HELD.format(marks=marks), host_id, grain, some)
            milliseconds = self._ask(_MILLISECONDS_HELD.format(marks=marks), host_id, grain, some)
            for bucket in buckets:
                found[grain, bucket] = (records.get(bucket, 0), milliseconds.get(bucket, 0))
        return found

    def _ask(self, sql: str, host_id: HostId, grain: Grain, buckets: Sequence[int]) -> dict[int, int]:
        return dict(self._connection.execute(sql, (host_id, grain, *buckets)).fetchall())


SURELY_KEPT_DAYS: Final = 28
"""Days that records are kept at least, whatever is set: `settings.Retention`."""


class Elsewhere:
    """Finds records that other epochs of a host brought: one query a period, however many records are
    compared.
    """

    def __init__(self, connection: sqlite3.Connection, host_id: HostId, stream_id: int) -> None:
        """`stream_id`: the epoch to leave out; 0 for a new one."""
        self._connection = connection
        self._host_id = host_id
        self._stream_id = stream_id
        self._periods: dict[tuple[int, int], set[bytes]] = {}

    def __contains__(self, record: DecodedRecord) -> bool:
        """Return True when another epoch brought the same record: same period, same bytes."""
        period = record.period
        if period is None and not record.gap_told_apart:
            return False  # an agent of 0.1: two undated gaps look alike
        grain, bucket = (0, gap_bucket(record)) if period is None else (int(period.grain), bucket_of(period))
        hashes = self._periods.get((grain, bucket))
        if hashes is None:
            rows = self._connection.execute(
                "SELECT hash FROM records WHERE host_id = ? AND grain = ? AND bucket = ? AND stream_id <> ?",
                (self._host_id, grain, bucket, self._stream_id),
            )
            hashes = self._periods[grain, bucket] = {row[0] for row in rows}
        return record.hash in hashes


def has_expired(record: DecodedRecord, today: int) -> bool:
    """Tell whether a missing record may have expired.

    `today`: day number (date.toordinal) in UTC. A gap may: its period gives no limit.
    """
    if record.period is None:
        return True
    bucket = bucket_of(record.period)
    clock = record.period.grain is Grain.HOUR
    day = UNIX_EPOCH_DAY + bucket // MILLISECONDS_PER_DAY if clock else bucket
    return day < today - SURELY_KEPT_DAYS


def bucket_of(period: RecordPeriod) -> int:
    """Return records.bucket: the UTC hour of a clock record, or the day or Monday of another one."""
    if period.grain is Grain.HOUR:
        return period.start - period.start % MILLISECONDS_PER_HOUR
    return period.start


Spans: TypeAlias = Iterable[tuple[RecordPeriod, int]]
"""(period, milliseconds lost); a clock span may be longer than a day."""

_FILLED: Final = "gap_periods_filled"
"""Key in the table meta: records older than schema 3 have been processed."""


def periods_of(spans: Spans, zone: ZoneInfo) -> Iterator[tuple[int, int, int]]:
    """Yield (grain, start, milliseconds > 0).

    Clock spans are cut at civil days of the zone, in exact proportion.
    """
    for period, milliseconds in spans:
        if period.grain is not Grain.HOUR:
            parts = [(int(period.grain), period.start, milliseconds)]
        else:
            days = _days(period, zone)
            shares = apportion(milliseconds, [length for _, length in days])
            parts = [(int(Grain.DAY), day, share) for (day, _), share in zip(days, shares, strict=True)]
        yield from (part for part in parts if part[2] > 0)


def _days(period: RecordPeriod, zone: ZoneInfo) -> list[tuple[int, int]]:
    """Return (day number, milliseconds of the span in that day)."""
    position, end = period.start, period.start + period.milliseconds
    found = []
    while position < end:
        day = day_of_hour(zone, position)
        stop = min(end, day_bounds(zone, day)[1])
        found.append((day, stop - position))
        position = stop
    return found


def fill(database: Database) -> None:
    """Fill the table of gap periods from older gaps, once. One transaction, so it may be interrupted."""
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
