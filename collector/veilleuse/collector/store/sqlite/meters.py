# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores shared meters: declarations, readings, and each machine's share.

Implements ports.MeteringStore; in the writer's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import astuple
from datetime import date
from typing import Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import civil_day
from veilleuse.collector.model.meters import (
    NOT_SHARED,
    WHOLE_PPM,
    DeclaredMeter,
    MeterBoundary,
    MeterDeclarations,
    MeterReading,
    MeterShare,
    PsysCheck,
    Pue,
    RoomServer,
    SharedEnergy,
    SharedReadings,
    SharePart,
)
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import DirtyPeriod
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.sqlite.batch import TURN
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.migrations import BesideReader
from veilleuse.collector.store.sqlite.registry_rows import MARK_HOST
from veilleuse.collector.wire_codec import POINT_KINDS, number
from veilleuse.wire.ladder import METER_KINDS
from veilleuse.wire.sums import apportion

_BEST_HOUR: Final = (
    "SELECT kind, energy_millijoules, covered_milliseconds FROM meter_hours WHERE meter = ? AND start = ?"
    " ORDER BY covered_milliseconds DESC, host_id LIMIT 1"
)
"""Selects one of several agents that read one meter: the one that covers more of the hour."""
_PUT_READING: Final = (
    "INSERT INTO meter_hours VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET kind = excluded.kind,"
    " energy_millijoules = excluded.energy_millijoules, covered_milliseconds = excluded.covered_milliseconds"
    " WHERE (kind, energy_millijoules, covered_milliseconds)"
    " IS NOT (excluded.kind, excluded.energy_millijoules, excluded.covered_milliseconds)"
)
"""Changes no row where the same reading is stored."""
_SHARES: Final = (
    "SELECT host_id, meter, part, share_ppm, time_zone, from_day, to_day FROM meter_shares JOIN meters USING (meter)"
    " JOIN sites USING (site) ORDER BY meter, host_id, part, from_day"
)
_LAST_READ: Final = (
    "WITH RECURSIVE names (meter) AS (SELECT min(meter) FROM meter_hours UNION ALL"
    " SELECT (SELECT min(meter) FROM meter_hours h WHERE h.meter > n.meter) FROM names n WHERE n.meter IS NOT NULL)"
    " SELECT meter, (SELECT max(start) FROM meter_hours h WHERE h.meter = names.meter) FROM names WHERE meter IS NOT NULL"
)
"""Steps from name to name along the key: some microseconds a meter, however many hours there are."""
_HOUR: Final = int(Grain.HOUR)
_HAS_RECORDS: Final = f"EXISTS (SELECT 1 FROM records r WHERE r.host_id = s.host_id AND r.grain = {_HOUR} AND r.bucket = {{hour}})"
_MARK: Final = (
    f"INSERT INTO dirty SELECT DISTINCT host_id, {_HOUR}, ?1, {TURN.format(grain=_HOUR)} FROM meter_shares s"
    f" WHERE meter = ?2 AND {_HAS_RECORDS.format(hour='?1')} ON CONFLICT DO NOTHING"
)
_MARK_ALL: Final = (
    f"INSERT INTO dirty SELECT DISTINCT s.host_id, {_HOUR}, h.start, {TURN.format(grain=_HOUR)} FROM meter_shares s"
    f" JOIN meter_hours h USING (meter) WHERE s.meter = ? AND {_HAS_RECORDS.format(hour='h.start')}"
    " ON CONFLICT DO NOTHING"
)


class _Share(NamedTuple):
    """A row of _SHARES."""

    host_id: HostId
    meter: str
    part: SharePart
    ppm: int
    zone: ZoneInfo
    """Time zone of the meter's site."""
    first: int
    last: int


_Shares: TypeAlias = tuple[dict[HostId, list[_Share]], dict[str, list[_Share]]]
"""All shares, by machine and by meter."""


class SqliteMeters:
    """Reads and writes the tables of data_0007."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shares: _Shares | None = None
        """Cache: derive asks for each hour, and few machines have a share."""
        database.on_forget(self._forget)

    def _forget(self) -> None:
        self._shares = None

    # --- for derive

    def put_readings(self, period: DirtyPeriod, readings: Sequence[MeterReading]) -> None:
        """Store this agent's readings of an hour, in the caller's transaction.

        A new reading marks that hour of the meter's machines dirty.
        """
        execute = self._database.connection.execute
        with self._database.translated():
            for one in readings:
                key = (one.meter, period.start, period.host_id)
                row = (number(one.kind), one.energy_millijoules, one.covered_milliseconds)
                if execute(_PUT_READING, (*key, *row)).rowcount:
                    execute(_MARK, (period.start, one.meter))

    def shared_readings(self, period: DirtyPeriod) -> SharedReadings:
        """Return the shares of a machine and of its screens in this hour's readings; NOT_SHARED without a
        meter.
        """
        of_host, _ = self._read_shares()
        shares = of_host.get(period.host_id)
        if shares is None:
            return NOT_SHARED
        with self._database.translated():
            valid = [
                (one.meter, one.part, day)
                for one in shares
                if one.first <= (day := civil_day(one.zone, period.start)) <= one.last
            ]
            if not valid:
                return NOT_SHARED
            parts = {
                part: self._energy(period, part, [(meter, day) for meter, of, day in valid if of is part])
                for part in SharePart
            }
        declared = any(part is SharePart.MONITOR for _, part, _ in valid)
        return SharedReadings(parts[SharePart.MACHINE], parts[SharePart.MONITOR], declared)

    def _read_shares(self) -> _Shares:
        if self._shares is None:
            rows = self._database.rows(_SHARES)
            of_host: dict[HostId, list[_Share]] = {}
            of_meter: dict[str, list[_Share]] = {}
            for host_id, meter, part, ppm, zone, first, last in rows:
                share = _Share(HostId(host_id), meter, SharePart(part), ppm, ZoneInfo(zone), first, last)
                of_host.setdefault(share.host_id, []).append(share)
                of_meter.setdefault(meter, []).append(share)
            self._shares = of_host, of_meter
        return self._shares

    def _energy(
        self, period: DirtyPeriod, part: SharePart, valid: Sequence[tuple[str, int]]
    ) -> SharedEnergy | None:
        """Sum the meters of the best kind that feed one machine together; None when one of them has no
        reading.
        """
        found: list[SharedEnergy] = []
        above = self._above([meter for meter, _ in valid]) if len(valid) > 1 else set()
        for meter, day in valid:
            if meter in above:  # the meters below it count
                continue
            read = self._of_meter(period, part, meter, day)
            if read is None:
                return None
            found.append(read)
        if not found:
            return None
        order = {kind: place for place, kind in enumerate(METER_KINDS)}
        best = min((one.kind for one in found), key=order.__getitem__)
        feeds = [one for one in found if one.kind is best]
        common = min(one.covered_milliseconds for one in feeds)
        if not common:
            return None
        energy = sum(one.energy_millijoules * common // one.covered_milliseconds for one in feeds)
        return SharedEnergy(best, energy, common, all(one.whole for one in feeds))

    def _of_meter(self, period: DirtyPeriod, part: SharePart, meter: str, day: int) -> SharedEnergy | None:
        """Return a machine's share of a reading, in integers that sum to it; None without a reading."""
        read = self._database.connection.execute(_BEST_HOUR, (meter, period.start)).fetchone()
        if read is None:
            return None
        kind, energy, covered = read
        _, of_meter = self._read_shares()
        shares = [one for one in of_meter[meter] if one.first <= day <= one.last]
        weights = [one.ppm for one in shares]
        parts = apportion(energy, [*weights, max(0, WHOLE_PPM - sum(weights))])
        mine = [
            (given, one.ppm)
            for given, one in zip(parts, shares, strict=False)
            if one.host_id == period.host_id and one.part is part
        ]
        given, share = mine[0]
        return SharedEnergy(POINT_KINDS[kind], given, covered, share == WHOLE_PPM)

    def _above(self, meters: Sequence[str]) -> set[str]:
        """Return all meters above one of these, at any height."""
        parents = dict(self._database.connection.execute("SELECT meter, parent FROM meters"))
        found: set[str] = set()
        for meter in meters:
            parent = parents.get(meter)
            while parent is not None and parent not in found:
                found.add(parent)
                parent = parents.get(parent)
        return found

    def psys_seen(self, host_id: HostId) -> PsysCheck:
        """Return the check over all periods of a host."""
        sql = (
            "SELECT coalesce(sum(psys_millijoules), 0), coalesce(sum(discharge_millijoules), 0),"
            " coalesce(sum(milliseconds), 0), coalesce(sum(base_millijoules), 0),"
            " coalesce(sum(base_milliseconds), 0) FROM psys_checks WHERE host_id = ?"
        )
        return PsysCheck(*self._database.row(sql, host_id))

    def put_psys(self, period: DirtyPeriod, check: PsysCheck) -> None:
        """Replace the check of one period."""
        self._database.write(
            "REPLACE INTO psys_checks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            period.host_id,
            period.grain,
            period.start,
            *astuple(check),
        )

    def mark_host_dirty(self, host_id: HostId) -> None:
        """Mark every period of a host that still has records."""
        self._database.write(MARK_HOST, host_id)

    # --- declarations

    def declarations(self) -> MeterDeclarations:
        """Return all declarations, by name."""
        with self._database.translated():
            return read_declared(self._database.connection)

    def declare(
        self,
        meters: Sequence[DeclaredMeter],
        shares: Sequence[MeterShare],
        pues: Sequence[Pue],
        servers: Sequence[RoomServer] = (),
    ) -> None:
        """Replace the declarations of these meters and rooms; machines that they fed or feed are derived
        again.

        One transaction. The caller has checked the declarations.
        """
        with self._database.transaction() as connection:
            moved = _moved(connection, meters)
            for one in meters:
                connection.execute(_MARK_ALL, (one.meter,))
                connection.execute("DELETE FROM meter_shares WHERE meter = ?", (one.meter,))
                connection.execute(
                    "INSERT INTO meters VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (meter) DO UPDATE SET site = excluded.site,"
                    " room = excluded.room, boundary = excluded.boundary, parent = excluded.parent,"
                    " efficiency_ppm = excluded.efficiency_ppm",
                    (one.meter, one.site, one.room, one.boundary.value, one.parent, one.efficiency_ppm),
                )
            connection.executemany(
                "INSERT INTO meter_shares VALUES (?, ?, ?, ?, ?, ?)", [_share_row(one) for one in shares]
            )
            for name in {one.meter for one in meters} | _below(connection, moved):
                connection.execute(_MARK_ALL, (name,))
            for room in {pue.room for pue in pues}:
                connection.execute("DELETE FROM room_pues WHERE room = ?", (room,))
            connection.executemany(
                "INSERT INTO room_pues VALUES (?, ?, ?, ?, ?)", [_pue_row(one) for one in pues]
            )
            for room in {one.room for one in servers}:
                connection.execute("DELETE FROM room_servers WHERE room = ?", (room,))
            connection.executemany(
                "INSERT INTO room_servers VALUES (?, ?, ?, ?, ?, ?)", [_server_row(one) for one in servers]
            )
        self._forget()


class SqliteMeteringReader(BesideReader):
    """Reads meters beside a running collector."""

    def declarations(self) -> MeterDeclarations:
        """Return all declarations, by name."""
        with self._data.translated():
            return read_declared(self._data.connection)

    def hours(self, meters: Iterable[str], start: int, end: int) -> dict[str, dict[int, MeterReading]]:
        """Return meter → hour → its best reading, for hours with start ≤ hour < end (Unix milliseconds)."""
        sql = (
            "SELECT start, kind, energy_millijoules, covered_milliseconds FROM meter_hours"
            " WHERE meter = ? AND start >= ? AND start < ? ORDER BY start, covered_milliseconds, host_id DESC"
        )
        return {
            meter: {
                hour: MeterReading(meter, POINT_KINDS[kind], energy, covered)
                for hour, kind, energy, covered in self._data.rows(sql, meter, start, end)
            }
            for meter in meters
        }

    def first_read(self) -> int | None:
        """Return the oldest hour of any meter (Unix milliseconds); None without readings."""
        (hour,) = self._data.row("SELECT min(start) FROM meter_hours")
        return None if hour is None else int(hour)

    def last_read(self) -> dict[str, int]:
        """Return every meter with a reading, declared or not → its newest hour (Unix milliseconds)."""
        return dict(self._data.rows(_LAST_READ))


def _moved(connection: sqlite3.Connection, meters: Sequence[DeclaredMeter]) -> set[str]:
    """Return the meters whose parent changes. A new meter has none below it yet."""
    before = dict(connection.execute("SELECT meter, parent FROM meters"))
    return {one.meter for one in meters if one.meter in before and before[one.meter] != one.parent}


def _below(connection: sqlite3.Connection, meters: set[str]) -> set[str]:
    """Return all meters below these: their machines have other meters above them now."""
    children: dict[str, list[str]] = {}
    for meter, parent in connection.execute("SELECT meter, parent FROM meters WHERE parent IS NOT NULL"):
        children.setdefault(parent, []).append(meter)
    found: set[str] = set()
    waiting = list(meters)
    while waiting:
        new = [child for child in children.get(waiting.pop(), ()) if child not in found]
        found.update(new)
        waiting += new
    return found


def read_declared(connection: sqlite3.Connection) -> MeterDeclarations:
    """Read the four tables of declarations."""
    with closing(connection.cursor()) as cursor:
        meters = tuple(
            DeclaredMeter(meter, site, room, MeterBoundary(boundary), parent, efficiency)
            for meter, site, room, boundary, parent, efficiency in cursor.execute(
                "SELECT meter, site, room, boundary, parent, efficiency_ppm FROM meters ORDER BY meter"
            )
        )
        shares = tuple(
            MeterShare(
                meter,
                HostId(host_id),
                SharePart(part),
                share,
                date.fromordinal(first),
                date.fromordinal(last),
            )
            for meter, host_id, part, share, first, last in cursor.execute(
                "SELECT meter, host_id, part, share_ppm, from_day, to_day FROM meter_shares"
                " ORDER BY meter, from_day, host_id, part"
            )
        )
        pues = tuple(
            Pue(room, date.fromordinal(first), date.fromordinal(last), pue, MeterBoundary(point))
            for room, first, last, pue, point in cursor.execute(
                "SELECT room, from_day, to_day, pue_ppm, point FROM room_pues ORDER BY room, from_day"
            )
        )
        servers = tuple(
            RoomServer(
                room,
                site,
                HostId(host_id) if host_id else None,
                asset_id or None,
                date.fromordinal(first),
                date.fromordinal(last),
            )
            for room, site, host_id, asset_id, first, last in cursor.execute(
                "SELECT room, site, host_id, asset_id, from_day, to_day FROM room_servers"
                " ORDER BY room, from_day, host_id, asset_id"
            )
        )
    return MeterDeclarations(meters, shares, pues, servers)


def _share_row(share: MeterShare) -> tuple[str | int, ...]:
    first, last = share.valid_from.toordinal(), share.valid_to.toordinal()
    return (share.meter, share.host_id, share.part.value, share.share_ppm, first, last)


def _pue_row(pue: Pue) -> tuple[str | int, ...]:
    return (pue.room, pue.valid_from.toordinal(), pue.valid_to.toordinal(), pue.pue_ppm, pue.point.value)


def _server_row(one: RoomServer) -> tuple[str | int, ...]:
    first, last = one.valid_from.toordinal(), one.valid_to.toordinal()
    return (one.room, one.site, one.host_id or 0, one.asset_id or 0, first, last)
