# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ports of derivation: records in, energy out; meters and calibrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from veilleuse.collector.model.calibration import CalibrationBook, Hardware, KeptFit, StoredFit
from veilleuse.collector.model.meters import (
    DeclaredMeter,
    MeterDeclarations,
    MeterReading,
    MeterShare,
    PsysCheck,
    Pue,
    RoomServer,
    SharedReadings,
)
from veilleuse.collector.model.records import (
    HostId,
)
from veilleuse.collector.model.sums import (
    DerivedCell,
    DerivedRecord,
    DirtyPeriod,
    LedgerEntry,
    RecordCells,
)


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
        screens: Sequence[DerivedCell] = (),
    ) -> None:
        """In one transaction: replace the period's derived cells, and apart from them its screens' (and carry the difference
        into its day), set each record's energy, advance the ledger, clear the dirty mark."""

    def put_aside(self, period: DirtyPeriod) -> None:
        """Clear the mark of a period that cannot be derived; what was derived before stands."""

    def mark_all_dirty(self) -> int:
        """For `veilleuse derive`: a corrected model repairs the past. How many periods."""


class MeteringStore(Protocol):
    """Meters that several machines share, and what else one period says of others; called through the writer."""

    def put_readings(self, period: DirtyPeriod, readings: Sequence[MeterReading]) -> None:
        """What a machine read of meters in this hour; where that is new, the hour of the machines on them is marked dirty."""

    def shared(self, period: DirtyPeriod) -> SharedReadings:
        """What is a machine's, and its screens', of its meters in this hour."""

    def psys_seen(self, host_id: HostId) -> PsysCheck:
        """Its platform counter beside its battery's discharge, over all its periods."""

    def put_psys(self, period: DirtyPeriod, check: PsysCheck) -> None:
        """The same of one period; replaces what it said before."""

    def mark_host_dirty(self, host_id: HostId) -> None:
        """Every period of it that still has records."""

    def declared(self) -> MeterDeclarations:
        """All that is declared of meters, by name."""

    def declare(
        self,
        meters: Sequence[DeclaredMeter],
        shares: Sequence[MeterShare],
        pues: Sequence[Pue],
        servers: Sequence[RoomServer] = (),
    ) -> None:
        """Each of these meters and rooms is now what is said here, and nothing else; checked by the caller.

        The hours of the machines on them, before and after, are marked dirty.
        """


class Calibrations(Protocol):
    """What is calibrated of hardware models. Used like the Registry."""

    def book(self) -> CalibrationBook:
        """What is in force. Raises StoreDamaged for what is no calibration, as all that read."""

    def stored(self) -> tuple[StoredFit, ...]:
        """All that ever were, oldest first."""

    def in_force(self, hardware: Hardware, quantity: str) -> StoredFit | None: ...
    def put(self, kept: KeptFit, now_unix_milliseconds: int) -> int:
        """Into force, in the place of the one before; its id."""

    def withdraw(self, calibration_id: int, now_unix_milliseconds: int) -> StoredFit:
        """Out of force. Raises AdminError unless it is in force, or its periods are not all marked yet."""

    def mark_dirty(self, host_id: HostId) -> int:
        """Every period of a host that still has records is derived again. How many of its periods wait now."""

    def marked(self, calibration_id: int) -> None:
        """All periods of its machines are: `StoredFit.marking` ends."""
