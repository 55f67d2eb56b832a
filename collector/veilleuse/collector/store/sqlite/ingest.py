# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The hot path: pushes → rows, sums, marks, in one transaction. PROMISES.md §2.2 item 2. Implements ports.IngestStore."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from veilleuse.collector.model import (
    AppendOutcome,
    AppendResult,
    DecodedRecord,
    Grain,
    HostId,
    RecordPeriod,
    StreamPosition,
    ValidPush,
)
from veilleuse.collector.store.sqlite.batch import Batch, Points
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.directory import Reserve
from veilleuse.collector.store.sqlite.periods import Elsewhere, Fullness, bucket_of
from veilleuse.collector.validate import Reason
from veilleuse.wire.chain import chain_start

log = logging.getLogger(__name__)

_REMEMBERED_HOSTS: Final = 20_000
"""Hosts whose streams stay in memory, some 1 kB each; all are dropped when there are more."""
_DATA_ERRORS: Final = (sqlite3.Error, OverflowError)
"""What the data of one push can cause; what the disk says is a CollectorError by then."""


@dataclass(slots=True)
class _Stream:
    """One (host, epoch) as it stands in the open transaction."""

    stream_id: int
    mark: int
    chain: bytes


class SqliteIngest:
    """Appends pushes. One caller at a time: the writer."""

    def __init__(self, database: Database, reserve: Reserve) -> None:
        self._database = database
        self._reserve = reserve
        self._points = Points(database)
        self._fullness = Fullness(database)
        self._streams: dict[HostId, dict[bytes, _Stream]] = {}
        self._zones: dict[HostId, ZoneInfo] = {}
        database.on_forget(self._forget)

    def append(self, pushes: Sequence[ValidPush]) -> list[AppendOutcome]:
        """Store a group in one transaction; a group that fails is taken one by one, under savepoints.

        Raises StoreFull (also below the reserve), StoreFailing or StoreDamaged with nothing of the group stored.
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
        """Where a stream stands; mark 0 when nothing of it was ever stored."""
        with self._database.translated():
            stream = self._host_streams(host_id).get(epoch)
        return StreamPosition(stream.mark, stream.chain) if stream else StreamPosition(0, chain_start(epoch))

    # --- one group

    def _alone(self, push: ValidPush) -> AppendOutcome:
        """One push under its own savepoint; a failure of the data is its own outcome."""
        try:
            with self._database.transaction():
                return self._apply([push])[0]
        except _DATA_ERRORS as error:
            log.error("push failed in the database", extra={"error": str(error)})
            position = self.position(push.host_id, push.epoch)
            return AppendOutcome(AppendResult.FAILED, position.mark, position.chain)

    def _apply(self, pushes: Sequence[ValidPush]) -> list[AppendOutcome]:
        """Everything of `pushes`, inside the open transaction."""
        batch = Batch(self._database.connection, self._points)
        outcomes = []
        hosts: set[HostId] = set()
        for push in pushes:
            if push.host_id in hosts:  # what it compares with must be in the tables
                batch.flush()
                hosts.clear()
            hosts.add(push.host_id)
            outcomes.append(self._one(push, batch))
        batch.flush()
        return outcomes

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
        known = mark - push.first_seq + 1  # records at or below the mark
        if (push.records[known - 1].chain if known else push.chain_before) != chain:
            return AppendOutcome(AppendResult.CONFLICT, mark, chain)
        fresh = push.records[known:]
        if not fresh:
            return AppendOutcome(AppendResult.STORED, mark, chain, duplicate_records=known)
        new = fresh
        if len(streams) > (stream is not None):  # other epochs may have brought some of it
            elsewhere = Elsewhere(self._database.connection, push.host_id, stream.stream_id if stream else 0)
            new = tuple(record for record in fresh if record not in elsewhere)
        if full := self._fullness.take(push.host_id, new):
            refusals = tuple((seq, Reason.PERIOD_FULL.value) for seq in full)
            return AppendOutcome(AppendResult.REFUSED, mark, chain, refusals=refusals)
        if stream is None:
            stream = self._new_stream(push)
        self._store(push.host_id, stream.stream_id, new, batch)
        stream.mark, stream.chain = fresh[-1].seq, fresh[-1].chain
        batch.mark(stream.stream_id, stream.mark, stream.chain)
        return AppendOutcome(
            AppendResult.STORED, stream.mark, stream.chain, len(new), known, len(fresh) - len(new)
        )

    def _store(self, host_id: HostId, stream_id: int, records: Sequence[DecodedRecord], batch: Batch) -> None:
        for record in records:
            period = record.period
            if period is None:
                batch.gap(host_id, stream_id, record)
                continue
            bucket, keys = self._keys(host_id, period)
            batch.measurement(host_id, stream_id, record, period, bucket, keys)

    # --- what the tables say

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
        cursor = self._database.connection.execute(
            "INSERT INTO streams (host_id, epoch, mark, chain) VALUES (?, ?, 0, ?)",
            (push.host_id, push.epoch, chain),
        )
        stream = _Stream(int(cursor.lastrowid or 0), 0, chain)
        self._streams[push.host_id][push.epoch] = stream
        return stream

    def _same(self, stream: _Stream | None, push: ValidPush) -> bool:
        """True when each record equals the stored one; a row that expired, or was a replay, cannot differ."""
        if stream is None:
            return False
        rows = self._database.connection.execute(
            "SELECT seq, hash FROM records WHERE stream_id = ? AND seq BETWEEN ? AND ?",
            (stream.stream_id, push.first_seq, push.records[-1].seq),
        )
        return all(push.records[seq - push.first_seq].hash == stored for seq, stored in rows)

    def _keys(self, host_id: HostId, period: RecordPeriod) -> tuple[int, tuple[tuple[int, int], ...]]:
        """(bucket, keys of the sums). A clock record counts in its UTC hour and in the civil day that hour starts in."""
        bucket = bucket_of(period)
        if period.grain is not Grain.HOUR:
            return bucket, ((int(period.grain), bucket),)
        zone = self._zones.get(host_id)
        if zone is None:
            (name,) = self._database.connection.execute(
                "SELECT time_zone FROM hosts JOIN sites USING (site) WHERE host_id = ?", (host_id,)
            ).fetchone()
            zone = self._zones[host_id] = ZoneInfo(name)
        return bucket, ((int(Grain.HOUR), bucket), (int(Grain.DAY), civil_day(zone, bucket)))

    def _forget(self) -> None:
        self._streams.clear()
        self._zones.clear()
        self._points.forget()


@lru_cache(maxsize=4096)
def civil_day(zone: ZoneInfo, unix_milliseconds: int) -> int:
    """Day number (date.toordinal) of an instant in a zone."""
    return datetime.fromtimestamp(unix_milliseconds / 1000, zone).toordinal()
