# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read sums and derived energies cell by cell: no outlet does, tests compare them with what they stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from veilleuse.collector.model.records import Cell, Grain, HostId, Point
from veilleuse.collector.model.sums import DerivedCell
from veilleuse.collector.ports.store import DataReader
from veilleuse.collector.store.sqlite.batch import VALUE_COLUMNS
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.collector.wire_codec import BANDS, BOUNDARIES, POINT_KINDS, STATES, SUPPLIES
from veilleuse.wire.ladder import Method
from veilleuse.wire.limits import BUCKETS, CELL_SUMS
from veilleuse.wire.vocabulary import Band, State, Supply


@dataclass(frozen=True, slots=True)
class SumRow:
    """Sums of one host, period and cell, without its energies and units."""

    host_id: HostId
    grain: Grain
    start: int
    cell: Cell


@dataclass(frozen=True, slots=True)
class PointSumRow:
    """Energy of one host, period, cell and point."""

    host_id: HostId
    grain: Grain
    start: int
    band: Band
    state: State
    supply: Supply
    point: Point
    energy_millijoules: int
    covered_milliseconds: int
    update_window_energy_millijoules: int | None = None


@dataclass(frozen=True, slots=True)
class UnitSumRow:
    """CPU time of one unit of one host and period, over all its cells."""

    host_id: HostId
    grain: Grain
    start: int
    unit: str
    cpu_milliseconds: int


@dataclass(frozen=True, slots=True)
class DerivedRow:
    """Derived energy of one host, period and cell."""

    host_id: HostId
    grain: Grain
    start: int
    cell: DerivedCell


class SumReader(DataReader, Protocol):
    """A store's reader that also yields rows with start ≤ key < end, in the order (start, host)."""

    def sums(self, grain: Grain, start: int, end: int) -> Iterator[SumRow]: ...
    def point_sums(self, grain: Grain, start: int, end: int) -> Iterator[PointSumRow]: ...
    def unit_sums(self, grain: Grain, start: int, end: int) -> Iterator[UnitSumRow]: ...
    def derived(self, grain: Grain, start: int, end: int) -> Iterator[DerivedRow]: ...


class SqliteSumReader(SqliteReader):
    """The SQLite store's."""

    def sums(self, grain: Grain, start: int, end: int) -> Iterator[SumRow]:
        """Yield sums."""
        columns = ", ".join(("band", "state", "supply", *VALUE_COLUMNS))
        for host_id, key, *cell in self._cells("sums", columns, "band, state, supply", grain, start, end):
            yield SumRow(HostId(host_id), grain, key, _cell(cell))

    def point_sums(self, grain: Grain, start: int, end: int) -> Iterator[PointSumRow]:
        """Yield energy by point."""
        columns = (
            "band, state, supply, energy_millijoules, covered_milliseconds, update_window_energy_millijoules,"
            " kind, domain, boundary, subject"
        )
        table, order = "point_sums JOIN points USING (point_id)", "band, state, supply, point_id"
        for host_id, key, band, state, supply, energy, covered, window, *point in self._cells(
            table, columns, order, grain, start, end
        ):
            kind, domain, boundary, subject = point
            yield PointSumRow(
                HostId(host_id),
                grain,
                key,
                BANDS[band],
                STATES[state],
                SUPPLIES[supply],
                Point(POINT_KINDS[kind], domain, BOUNDARIES[boundary], subject),
                energy,
                covered,
                window,
            )

    def unit_sums(self, grain: Grain, start: int, end: int) -> Iterator[UnitSumRow]:
        """Yield CPU time by unit."""
        table = "unit_sums JOIN units USING (unit_id)"
        for host_id, key, name, spent in self._cells(
            table, "name, cpu_milliseconds", "unit_id", grain, start, end
        ):
            yield UnitSumRow(HostId(host_id), grain, key, name, spent)

    def derived(self, grain: Grain, start: int, end: int) -> Iterator[DerivedRow]:
        """Yield derived cells."""
        columns = "band, state, supply, method, milliseconds, energy_millijoules, uncertainty_millijoules"
        order = "band, state, supply, method"
        for host_id, key, band, state, supply, method, *values in self._cells(
            "derived", columns, order, grain, start, end
        ):
            cell = DerivedCell(BANDS[band], STATES[state], SUPPLIES[supply], Method(method), *values)
            yield DerivedRow(HostId(host_id), grain, key, cell)

    def _cells(self, table: str, columns: str, order: str, grain: Grain, start: int, end: int) -> list[Any]:
        return self._rows(
            f"SELECT host_id, start, {columns} FROM {table} WHERE grain = ? AND start >= ? AND start < ?"
            f" ORDER BY start, host_id, {order}",
            grain,
            start,
            end,
        )


def _cell(row: list[Any]) -> Cell:
    band, state, supply, milliseconds, *rest = row
    buckets: dict[str, Any] = {}
    position = len(CELL_SUMS)
    for name, size in BUCKETS.items():
        values = tuple(rest[position : position + size])
        position += size
        buckets[name] = () if values[0] is None else values
    sums: dict[str, Any] = dict(zip(CELL_SUMS, rest, strict=False))
    return Cell(BANDS[band], STATES[state], SUPPLIES[supply], milliseconds, **sums, **buckets)
