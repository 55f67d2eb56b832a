# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores calibrations (implements ports.Calibrations), and reads the records of reference units beside the
writer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.calibration import (
    CalibrationBook,
    Fit,
    Hardware,
    KeptFit,
    Provenance,
    StoredFit,
)
from veilleuse.collector.model.records import Cell, Grain, HostId
from veilleuse.collector.store.sqlite.connection import Database, damaged
from veilleuse.collector.store.sqlite.migrations import BesideReader
from veilleuse.collector.store.sqlite.registry_rows import MARK_HOST
from veilleuse.collector.wire_codec import cells_from_wire, number
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Boundary, DeviceClass, PointKind

_FIT: Final = (
    "quantity, base_microwatts, slope_ppm, base_variance, covariance, slope_variance, expansion_ppm, meter_u_ppm,"
    " floor_u_ppm, ceiling_u_ppm"
)
"""Columns in the order of the fields of `Fit`."""
_COLUMNS: Final = (
    f"vendor, model, device_class, {_FIT}, provenance_json, calibration_id, applied_unix_milliseconds,"
    " ended_unix_milliseconds, ended_by, marking"
)
_IN_FORCE: Final = "ended_unix_milliseconds IS NULL"
_PAGE_HOURS: Final = 24
"""Hours of one host's records in one read: at most 8,640 records of ten seconds."""


class SqliteCalibrations:
    """Reads and writes calibrations. Each write is a transaction, or part of the caller's."""

    def __init__(self, data: Database, *, alone: bool = False) -> None:
        """`data`: a writing connection, or a reading one for reads only.

        `alone`: this object is the only writer.
        """
        self._data = data
        self._alone = alone
        self._book: CalibrationBook | None = None
        """Cache: derive reads the book every 20 ms, and 600 fits take 5 ms to read."""
        data.on_forget(self._forget)

    def book(self) -> CalibrationBook:
        """Return the calibrations in force. Raises StoreDamaged."""
        if self._book is not None and self._alone:
            return self._book
        fits = self._stored(f"WHERE {_IN_FORCE}")
        self._book = CalibrationBook((one.kept.hardware, one.kept.fit) for one in fits)
        return self._book

    def stored(self) -> tuple[StoredFit, ...]:
        """Return all calibrations, also withdrawn ones, oldest first. Raises StoreDamaged."""
        return self._stored("")

    def in_force(self, hardware: Hardware, quantity: str) -> StoredFit | None:
        """Return the calibration in force for this quantity of this model."""
        where = f"WHERE {_IN_FORCE} AND vendor = ? AND model = ? AND device_class = ? AND quantity = ?"
        found = self._stored(where, *_key(hardware), quantity)
        return found[0] if found else None

    def put(self, kept: KeptFit, now_unix_milliseconds: int) -> int:
        """Put a calibration into force in place of the one before; returns its id."""
        self._forget()
        before = self.in_force(kept.hardware, kept.fit.quantity)
        fit = asdict(kept.fit)
        with self._data.transaction() as connection:
            if before is not None:
                self._end(before.calibration_id, now_unix_milliseconds)
            made = connection.execute(
                f"INSERT INTO calibrations (vendor, model, device_class, {_FIT}, provenance_json, applied_unix_milliseconds,"
                f" marking) VALUES ({', '.join('?' * (len(fit) + 5))}, 1)",
                (
                    *_key(kept.hardware),
                    *fit.values(),
                    json.dumps(asdict(kept.provenance), ensure_ascii=False),
                    now_unix_milliseconds,
                ),
            ).lastrowid
            if made is None:
                raise damaged(self._data.path, "a calibration got no number")
            if before is not None:
                connection.execute(
                    "UPDATE calibrations SET ended_by = ?, marking = 0 WHERE calibration_id = ?",
                    (made, before.calibration_id),
                )
        return made

    def withdraw(self, calibration_id: int, now_unix_milliseconds: int) -> StoredFit:
        """Withdraw a calibration: the prior of the class takes its place.

        A second call, while periods are still to be marked, changes nothing. Raises AdminError unless it is
        in force.
        """
        found = {one.calibration_id: one for one in self.stored()}.get(calibration_id)
        if found is None:
            raise AdminError(f"no calibration {calibration_id}: see 'veilleuse calibrate list'")
        if found.ended_unix_milliseconds is None:
            with self._data.transaction():
                self._end(calibration_id, now_unix_milliseconds)
        elif found.ended_by is not None or not found.marking:
            raise AdminError(f"calibration {calibration_id} is not in force any more")
        return found

    def mark_dirty(self, host_id: HostId) -> int:
        """Mark every period of a host that still has records; returns how many of its periods wait now."""
        with self._data.transaction() as connection:
            connection.execute(MARK_HOST, (host_id,))
            waiting = connection.execute("SELECT count(*) FROM dirty WHERE host_id = ?", (host_id,))
            return int(waiting.fetchone()[0])

    def end_marking(self, calibration_id: int) -> None:
        """Note that all periods of the calibration's machines are marked."""
        self._data.write("UPDATE calibrations SET marking = 0 WHERE calibration_id = ?", calibration_id)

    def periods(self, hosts: Iterable[HostId]) -> int:
        """Return how many periods of these hosts `mark_dirty` would mark."""
        sql = "SELECT count(*) FROM (SELECT DISTINCT grain, bucket FROM records WHERE host_id = ? AND grain > 0)"
        return sum(int(self._data.row(sql, host_id)[0]) for host_id in hosts)

    def _forget(self) -> None:
        self._book = None

    def _end(self, calibration_id: int, now_unix_milliseconds: int) -> None:
        self._forget()
        self._data.connection.execute(
            "UPDATE calibrations SET ended_unix_milliseconds = ?, marking = 1 WHERE calibration_id = ?",
            (now_unix_milliseconds, calibration_id),
        )

    def _stored(self, where: str, *values: Any) -> tuple[StoredFit, ...]:
        rows = self._data.rows(
            f"SELECT {_COLUMNS} FROM calibrations {where} ORDER BY calibration_id", *values
        )
        try:
            return tuple(map(_from_row, rows))
        except (ValueError, TypeError) as error:
            raise damaged(self._data.path, f"a calibration in it: {error}") from error


class SqliteReferenceReader(BesideReader):
    """Reads records of reference units on a connection of its own; for one thread."""

    def __init__(self, directory: Path) -> None:
        """Raises the errors of BesideReader."""
        super().__init__(directory)
        self._calibrations = SqliteCalibrations(self._data)

    def stored(self) -> tuple[StoredFit, ...]:
        """Return all calibrations: Calibrations.stored."""
        return self._calibrations.stored()

    def periods(self, hosts: Iterable[HostId]) -> int:
        """Count the periods of these hosts that a calibration would derive again."""
        return self._calibrations.periods(hosts)

    def hosts_with(self, kinds: Iterable[PointKind], boundary: Boundary | None = None) -> frozenset[HostId]:
        """Return hosts that have sent a point of the machine itself of one of these kinds."""
        words = [number(kind) for kind in kinds]
        sql = (
            "SELECT DISTINCT host_id FROM host_points JOIN points USING (point_id) WHERE subject = 'machine'"
            f" AND kind IN ({', '.join('?' * len(words))})"
        )
        if boundary is not None:
            sql += f" AND boundary = {number(boundary)}"
        return frozenset(HostId(row[0]) for row in self._data.rows(sql, *words))

    def records(
        self, host_id: HostId, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[int, int, tuple[Cell, ...]]]:
        """Yield (start, milliseconds, cells) of a host's records with start ≤ bucket < end, in the order of
        time.

        Buckets are those of Grain. One day of hours is one snapshot: the WAL can restart in between.
        """
        step = _PAGE_HOURS * MILLISECONDS_PER_HOUR if grain is Grain.HOUR else max(1, end - start)
        for page in range(start, end, step):
            rows = self._data.rows(
                "SELECT start, milliseconds, wire FROM records WHERE host_id = ? AND grain = ? AND bucket >= ?"
                " AND bucket < ? ORDER BY start, record_id",
                host_id,
                int(grain),
                page,
                min(page + step, end),
            )
            for at, milliseconds, wire in rows:
                yield at, milliseconds, cells_from_wire(wire)


def _key(hardware: Hardware) -> tuple[str, str, str]:
    return hardware.vendor, hardware.model, hardware.device_class.value


def _from_row(row: Any) -> StoredFit:
    vendor, model, device_class, *fit, provenance, calibration_id, applied, ended, ended_by, marking = row
    kept = KeptFit(
        Hardware(vendor, model, DeviceClass(device_class)), Fit(*fit), Provenance(**json.loads(provenance))
    )
    return StoredFit(calibration_id, kept, applied, ended, ended_by, bool(marking))
