# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Every seam of the collector and its contract, on one page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from dataclasses import dataclass
from typing import Protocol

from veilleuse.collector.model import (
    AgentId,
    AppendOutcome,
    DataKind,
    DerivedCell,
    DerivedRecord,
    DerivedRow,
    DirtyPeriod,
    Grain,
    Host,
    HostHealth,
    HostId,
    HostStatus,
    LedgerEntry,
    MachineFacts,
    PointSumRow,
    RecordCells,
    Site,
    StreamPosition,
    SumRow,
    ValidPush,
)


class IngestStore(Protocol):
    """The hot path. One caller at a time: the writer."""

    def append(self, pushes: Sequence[ValidPush]) -> list[AppendOutcome]:
        """Store a group in ONE durable transaction and answer each push, in order. PROMISES.md §2.2.

        Inside the transaction, per push: the mark and chain of (host, epoch) decide; records above the mark are stored with
        their hash, hour/day/week sums, point sums, gap sums and a dirty mark; mark and chain advance. Returns after the
        commit's fsync. Raises StoreFull or StoreDamaged with nothing of the group stored.
        """

    def position(self, host_id: HostId, epoch: bytes) -> StreamPosition:
        """Where a stream stands."""


class DeriveStore(Protocol):
    """What derive reads and writes; called through the writer."""

    def dirty(self, limit: int) -> tuple[DirtyPeriod, ...]:
        """Oldest marks first."""

    def record_cells(self, period: DirtyPeriod) -> tuple[RecordCells, ...]:
        """All measurements of the period, in stream order."""

    def write_derived(
        self,
        period: DirtyPeriod,
        cells: Sequence[DerivedCell],
        records: Sequence[DerivedRecord],
        ledger: Sequence[LedgerEntry],
    ) -> None:
        """In one transaction: replace the period's derived cells (and carry the difference into its day), set each
        record's energy, advance the ledger, clear the dirty mark."""

    def mark_all_dirty(self) -> int:
        """For `veilleuse derive`: a corrected model repairs the past. How many periods."""


class Registry(Protocol):
    """Hosts, tokens, certificates, sites. Short writes, through the writer's connection."""

    def host_by_agent_id(self, agent_id: AgentId) -> Host | None: ...
    def hosts(self) -> tuple[Host, ...]: ...
    def set_status(self, host_id: HostId, status: HostStatus) -> None: ...
    def record_hello(
        self, host_id: HostId, facts: MachineFacts | None, health: HostHealth | None, now_unix_milliseconds: int
    ) -> None:
        """Last contact (workstations: the date only), facts when given, health."""

    def site(self, name: str) -> Site: ...
    def sites(self) -> tuple[Site, ...]: ...
    def put_site(self, site: Site) -> None: ...


class Reader(Protocol):
    """Read-only queries of the outlets: metrics, pages, reports. Any number of them, any process."""

    def data_kind(self) -> DataKind: ...
    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def sums(self, grain: Grain, start: int, end: int) -> Iterator[SumRow]:
        """Sums with start ≤ key < end (key as in Grain)."""

    def point_sums(self, grain: Grain, start: int, end: int) -> Iterator[PointSumRow]: ...
    def derived(self, grain: Grain, start: int, end: int) -> Iterator[DerivedRow]:
        """Derived cells; DAY covers clock records too (by civil day of the site)."""

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Totals since the data directory was made, per key."""

    def gap_totals(self) -> tuple[tuple[HostId, str, int, int], ...]:
        """(host, reason, records, milliseconds)."""

    def record_count(self) -> int: ...
    def dirty_count(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Factor:
    """Grams of CO2e per kWh of one zone over one validity. Source, licence and method are part of it."""

    factor_id: str
    zone: str
    valid_from: date
    valid_to: date
    """Inclusive."""
    series: str
    """annual, smoothed-4y, …"""
    total_kgco2e_per_kwh: Decimal
    components: tuple[tuple[str, Decimal], ...]
    """(combustion | upstream | losses, kgCO2e/kWh); empty when only the total is published."""
    uncertainty_percent: Decimal
    """95 % half-width; inherited 10 when the source gives none (then `uncertainty_inherited`)."""
    uncertainty_inherited: bool
    source: str
    published: str
    licence: str


@dataclass(frozen=True, slots=True)
class ChosenFactor:
    """A factor as applied to a year."""

    factor: Factor
    year: int
    provisional: bool
    """True when the year's own value is not published yet: the last published one stands in."""


class FactorSource(Protocol):
    """Where factors come from."""

    name: str

    def factors(self) -> Iterable[Factor]:
        """All it has. Raises ConfigurationError when its table lacks licence metadata or cannot be read."""
