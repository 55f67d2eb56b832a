# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines sums of records, and the values derived from them.

Those of each record are NamedTuples, as in model.records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from veilleuse.collector.model.records import Cell, Grain, HostId, Point
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import (
    Band,
    DeviceClass,
    Population,
    State,
    Supply,
)


class WallEnergy(NamedTuple):
    """Derived wall energy of one cell, or of the part that one method covers."""

    method: Method
    energy_millijoules: int
    uncertainty_millijoules: int
    """Standard uncertainty, k = 1. Errors of one machine's model are common to its cells,
    so it adds linearly.
    """
    milliseconds: int
    """Part of the cell of this method: parts of one cell have distinct methods and never overlap."""


class DirtyPeriod(NamedTuple):
    """A period to derive again."""

    host_id: HostId
    grain: Grain
    """HOUR, DAY or WEEK: the grain of its records."""
    start: int


class RecordCells(NamedTuple):
    """One stored record as derive sees it."""

    record_id: int
    first_time: bool
    """True until it has been derived once: only then does it advance the ledger."""
    cells: tuple[Cell, ...]


class DerivedCell(NamedTuple):
    """Derived energy of one key within a period."""

    band: Band
    state: State
    supply: Supply
    method: Method
    milliseconds: int
    energy_millijoules: int
    uncertainty_millijoules: int


class DerivedRecord(NamedTuple):
    """Energy of one record: the sum of its cells' integer millijoules; None when nothing could be derived."""

    record_id: int
    energy_millijoules: int | None


class LedgerEntry(NamedTuple):
    """An increment of the counters, as first derived."""

    org_entity: str
    site: str
    population: Population
    device_class: DeviceClass
    method: Method
    state: State
    factor_id: str
    factor_kgco2e_per_kwh: str
    """Decimal text, part of the key: a corrected factor never changes what was counted."""
    energy_millijoules: int


class PeriodResult(NamedTuple):
    """What derive writes of one period."""

    period: DirtyPeriod
    time_zone: str
    """Of the host's site: an hour counts in its civil day."""
    cells: Sequence[DerivedCell] = ()
    """Of distinct keys."""
    records: Sequence[DerivedRecord] = ()
    """All records that were read."""
    ledger: Sequence[LedgerEntry] = ()
    screens: Sequence[DerivedCell] = ()
    """Cells of external screens, in no sum of the machine."""


@dataclass(frozen=True, slots=True)
class SumRow:
    """Sums of one host, period and cell, from the same transaction as the records."""

    host_id: HostId
    grain: Grain
    start: int
    cell: Cell
    """`energies`, `update_window_energies` and `units` are empty here; see PointSumRow and UnitSumRow."""


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
    """Part inside update windows; None = not measured there: 0 J where the cell's
    `update_window_milliseconds` is 0.
    """


@dataclass(frozen=True, slots=True)
class UnitSumRow:
    """CPU time of one unit of one host and period, over all its cells."""

    host_id: HostId
    grain: Grain
    start: int
    unit: str
    """`unit:<name>`, `guest:<id>`, or `unit:other`: the rest."""
    cpu_milliseconds: int


@dataclass(frozen=True, slots=True)
class DerivedRow:
    """Derived energy of one host, period and cell."""

    host_id: HostId
    grain: Grain
    start: int
    cell: DerivedCell
