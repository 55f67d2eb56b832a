# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores pushes: rows, sums and marks in one transaction.

The hot path. docs/wire.md §2 item 2. Implements ports.IngestStore.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from veilleuse.collector import clock
from veilleuse.collector.calendars.periods import civil_day
from veilleuse.collector.model.records import (
    AppendOutcome,
    AppendResult,
    DecodedRecord,
    Grain,
    HostId,
    Reason,
    RecordPeriod,
    StreamPosition,
    ValidPush,
)
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.directory import Reserve
from veilleuse.collector.store.sqlite.batch import Batch, Points, UnreadCells, first_number, next_number
from veilleuse.collector.store.sqlite.bounds import HostPoints, HostUnits, may_begin_a_stream
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.months import StaleMonths
from veilleuse.collector.store.sqlite.periods import Elsewhere, Fullness, bucket_of, has_expired, periods_of
from veilleuse.collector.wire_codec import POPULATIONS
from veilleuse.wire.chain import chain_start

log = logging.getLogger(__name__)

_REMEMBERED_HOSTS: Final = 20_000
"""Hosts whose streams are cached, some 1 kB each; the cache is emptied when there are more."""
_DATA_ERRORS: Final = (sqlite3.Error, OverflowError)
"""Errors that the data of one push can cause; errors of the disk are CollectorErrors by then."""
_CONSTRAINTS_ON_VALUES: Final = frozenset(
    {sqlite3.SQLITE_CONSTRAINT_CHECK, sqlite3.SQLITE_CONSTRAINT_NOTNULL, 19 | 12 << 8}
)
"""The last is SQLITE_CONSTRAINT_DATATYPE: a sum beyond 2^63 in a STRICT table.

Source: sqlite.org/rescode.html.
"""


class _Undo(Exception):
    """Rolls a trial back."""


@dataclass(slots=True)
class _Stream:
    """State of one (host, epoch) in the open transaction."""

    stream_id: int
    mark: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class _Known:
    """Facts of a host from the registry."""

    zone: ZoneInfo
    """Time zone of its site."""
    numbers: int
    """First number of the range of its rows."""


class SqliteIngest:
    """Appends pushes. Only the writer calls it."""

    def __init__(
        self,
        database: Database,
        reserve: Reserve,
        stale: StaleMonths,
        unread: UnreadCells,
        today: Callable[[], int] = lambda: clock.today().toordinal(),
    ) -> None:
        """`today`: returns the day number in UTC."""
        self._stale = stale
        self._unread = unread
        self._today = today
        self._database = database
        self._reserve = reserve
        self._points = Points(database)
        self._units = HostUnits(database)
        self._fullness = Fullness(database)
        self._host_points = HostPoints(database)
        self._streams: dict[HostId, dict[bytes, _Stream]] = {}
        self._known: dict[HostId, _Known] = {}
        database.on_forget(self._forget)

    def append(self, pushes: Sequence[ValidPush]) -> list[AppendOutcome]:
        """Store a group in one transaction; when that fails, store its pushes one by one, under savepoints.

        Raises StoreFull (also below the reserve), StoreFailing or StoreDamaged; nothing of the group is
        stored then.
        """
        self._reserve.check()
        with self._database.transaction():
            try:
                with self._database.transaction():
                    return self._apply(pushes)
            except _DATA_ERRORS as error:
                log.warning(
                    "group failed, taking it one by one", extra={"pushes": len(pushes), "error": str(error)}
                )
            return [self._alone(push) for push in pushes]

    def position(self, host_id: HostId, epoch: bytes) -> StreamPosition:
        """Return the position of a stream; mark 0 when it has never had a record."""
        with self._database.translated():
            stream = self._host_streams(host_id).get(epoch)
        return StreamPosition(stream.mark, stream.chain) if stream else StreamPosition(0, chain_start(epoch))

    def records_of(self, host_id: HostId) -> int:
        """Return the number of records that a host's streams have brought."""
        with self._database.translated():
            return sum(stream.mark for stream in self._host_streams(host_id).values())

    # --- one group

    def _alone(self, push: ValidPush) -> AppendOutcome:
        """Store one push under its own savepoint; records that the database rejects are refused by number."""
        try:
            with self._database.transaction():
                return self._apply([push])[0]
        except _DATA_ERRORS as error:
            log.error("push failed in the database", extra={"error": str(error)})
        position = self.position(push.host_id, push.epoch)
        if unstorable := self._unstorable(push, position.mark):
            return _refused(position.mark, position.chain, Reason.NOT_STORABLE, unstorable)
        return AppendOutcome(AppendResult.FAILED, position.mark, position.chain)

    def _unstorable(self, push: ValidPush, mark: int) -> list[int]:
        """Return seqs of records above the mark that fail after those before them; stores nothing.

        For a failed push.
        """
        found: list[int] = []
        try:
            with self._database.transaction():
                stream = self._host_streams(push.host_id).get(push.epoch) or self._new_stream(push)
                found += [
                    one.seq
                    for one in push.records
                    if one.seq > mark and self._fails(push.host_id, stream, one)
                ]
                raise _Undo
        except _Undo:
            return found
        except _DATA_ERRORS:  # a defect of ours or of the file: refuse no record for it
            return []

    def _fails(self, host_id: HostId, stream: _Stream, record: DecodedRecord) -> bool:
        """Return True when the database rejects the record's own values; otherwise the record is stored."""
        try:
            with self._database.transaction():
                batch = self._batch()
                self._store(host_id, stream.stream_id, [record], batch)
                batch.flush()
        except (sqlite3.DataError, OverflowError):
            return True
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode not in _CONSTRAINTS_ON_VALUES:
                raise
            return True
        return False

    def _apply(self, pushes: Sequence[ValidPush]) -> list[AppendOutcome]:
        """Store all pushes inside the open transaction."""
        batch = self._batch()
        outcomes = []
        hosts: set[HostId] = set()
        for push in pushes:
            if push.host_id in hosts:  # the rows to compare with must be in the tables
                batch.flush()
                hosts.clear()
            hosts.add(push.host_id)
            outcomes.append(self._one(push, batch))
        batch.flush()
        return outcomes

    def _batch(self) -> Batch:
        return Batch(self._database.connection, self._points, self._units, self._stale, self._unread)

    def _one(self, push: ValidPush, batch: Batch) -> AppendOutcome:
        streams = self._host_streams(push.host_id)
        stream = streams.get(push.epoch)
        mark, chain = (stream.mark, stream.chain) if stream else (0, chain_start(push.epoch))
        last_seq = push.first_seq + len(push.records) - 1
        if push.first_seq > mark + 1:
            return AppendOutcome(AppendResult.EXPECTED_EARLIER, mark, chain)
        if last_seq < mark:
            result = AppendResult.STORED if self._same(stream, push) else AppendResult.CONFLICT
            duplicates = len(push.records) if result is AppendResult.STORED else 0
            return AppendOutcome(result, mark, chain, duplicate_records=duplicates)
        known = mark - push.first_seq + 1  # number of records at or below the mark
        if (push.records[known - 1].chain if known else push.chain_before) != chain:
            return AppendOutcome(AppendResult.CONFLICT, mark, chain)
        fresh = push.records[known:]
        if not fresh:
            return AppendOutcome(AppendResult.STORED, mark, chain, duplicate_records=known)
        new = fresh
        if len(streams) > (stream is not None):  # other epochs may have brought some of the records
            elsewhere = Elsewhere(self._database.connection, push.host_id, stream.stream_id if stream else 0)
            new = tuple(record for record in fresh if record not in elsewhere)
        if stream is None and not may_begin_a_stream(self._database, push.host_id, self._today()):
            return AppendOutcome(AppendResult.TOO_MANY_EPOCHS, mark, chain)
        points, strange = self._host_points.strange(push.host_id, new)
        if refused := strange or self._fullness.take(push.host_id, new):
            reason = Reason.TOO_MANY_POINTS_OF_HOST if strange else Reason.PERIOD_FULL
            return _refused(mark, chain, reason, refused)
        if stream is None:
            stream = self._new_stream(push)
        self._host_points.keep(push.host_id, points)
        for point in points:
            batch.host_point(push.host_id, point)
        self._store(push.host_id, stream.stream_id, new, batch)
        stream.mark, stream.chain = fresh[-1].seq, fresh[-1].chain
        batch.mark(stream.stream_id, stream.mark, stream.chain)
        return AppendOutcome(
            AppendResult.STORED, stream.mark, stream.chain, len(new), known, len(fresh) - len(new)
        )

    def _store(self, host_id: HostId, stream_id: int, records: Sequence[DecodedRecord], batch: Batch) -> None:
        known = self._host(host_id)
        for record in records:
            period = record.period
            if period is None:
                spans = record.gap_spans
                periods = periods_of(spans, known.zone) if spans else ()
                batch.gap(host_id, known.numbers, stream_id, record, periods)
                continue
            bucket, keys = self._keys(host_id, period)
            batch.measurement(host_id, known.numbers, stream_id, record, period, bucket, keys)

    # --- reads of the tables

    def _host_streams(self, host_id: HostId) -> dict[bytes, _Stream]:
        streams = self._streams.get(host_id)
        if streams is None:
            if len(self._streams) >= _REMEMBERED_HOSTS:
                self._streams.clear()
            rows = self._database.connection.execute(
                "SELECT epoch, stream_id, mark, chain FROM streams WHERE host_id = ?", (host_id,)
            )
            streams = self._streams[host_id] = {row[0]: _Stream(*row[1:]) for row in rows}
        return streams

    def _new_stream(self, push: ValidPush) -> _Stream:
        chain = chain_start(push.epoch)
        connection, first = self._database.connection, self._host(push.host_id).numbers
        stream = _Stream(next_number(connection, "streams", "stream_id", first), 0, chain)
        connection.execute(
            "INSERT INTO streams (stream_id, host_id, epoch, mark, chain, created_day) VALUES (?, ?, ?, 0, ?, ?)",
            (stream.stream_id, push.host_id, push.epoch, chain, self._today()),
        )
        self._streams[push.host_id][push.epoch] = stream
        return stream

    def _same(self, stream: _Stream | None, push: ValidPush) -> bool:
        """Return True when each record equals a stored one of any epoch; records that have expired count as
        equal.
        """
        if stream is None:
            return False
        connection = self._database.connection
        rows = connection.execute(
            "SELECT seq, hash FROM records WHERE stream_id = ? AND seq BETWEEN ? AND ?",
            (stream.stream_id, push.first_seq, push.records[-1].seq),
        )
        stored = dict(rows)
        elsewhere = Elsewhere(connection, push.host_id, stream.stream_id)
        return all(
            stored[record.seq] == record.hash
            if record.seq in stored
            else record in elsewhere or has_expired(record, self._today())
            for record in push.records
        )

    def _keys(self, host_id: HostId, period: RecordPeriod) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Return (bucket, keys of the sums).

        A clock record counts in its UTC hour and in the civil day of that hour.
        """
        bucket = bucket_of(period)
        if period.grain is not Grain.HOUR:
            return bucket, ((int(period.grain), bucket),)
        day = civil_day(self._host(host_id).zone, bucket)
        return bucket, ((int(Grain.HOUR), bucket), (int(Grain.DAY), day))

    def _host(self, host_id: HostId) -> _Known:
        known = self._known.get(host_id)
        if known is None:
            found = self._database.connection.execute(
                "SELECT time_zone, population FROM hosts JOIN sites USING (site) WHERE host_id = ?",
                (host_id,),
            ).fetchone()
            if found is None:  # forgotten during the call: same error as for a row without its machine
                raise sqlite3.IntegrityError(f"host {host_id} is not there any more")
            zone, population = found
            numbers = first_number(host_id, POPULATIONS[population])
            known = self._known[host_id] = _Known(ZoneInfo(zone), numbers)
        return known

    def _forget(self) -> None:
        self._streams.clear()
        self._known.clear()
        self._points.forget()


def _refused(mark: int, chain: bytes, reason: Reason, seqs: Sequence[int]) -> AppendOutcome:
    refusals = tuple((seq, reason.value) for seq in seqs)
    return AppendOutcome(AppendResult.REFUSED, mark, chain, refusals=refusals)
