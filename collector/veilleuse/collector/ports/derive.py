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
    """Reads and writes of derive; called through the writer."""

    def dirty(self, limit: int) -> tuple[DirtyPeriod, ...]:
        """Return the oldest marks first."""

    def record_cells(self, period: DirtyPeriod) -> tuple[RecordCells, ...]:
        """Return all measurements of the period, in stream order."""

    def write_derived(
        self,
        period: DirtyPeriod,
        cells: Sequence[DerivedCell],
        records: Sequence[DerivedRecord],
        ledger: Sequence[LedgerEntry],
        screens: Sequence[DerivedCell] = (),
    ) -> None:
        """Replace the period's derived cells and, separately, its screens' cells, in one transaction.

        Add the difference to its day, set each record's energy, advance the ledger, clear the dirty mark.
        """

    def put_aside(self, period: DirtyPeriod) -> None:
        """Clear the mark of a period that cannot be derived; earlier derived values stay."""

    def mark_all_dirty(self) -> int:
        """Mark all periods, so that a corrected model repairs the past; return their number."""


class MeteringStore(Protocol):
    """Shared meters, and one machine's effects on other periods; called through the writer."""

    def put_readings(self, period: DirtyPeriod, readings: Sequence[MeterReading]) -> None:
        """Store a machine's readings of this hour; mark the hour of machines on meters with new readings."""

    def shared_readings(self, period: DirtyPeriod) -> SharedReadings:
        """Return the energy of a machine and of its screens from its meters in this hour."""

    def psys_seen(self, host_id: HostId) -> PsysCheck:
        """Return its platform counter and its battery's discharge, over all its periods."""

    def put_psys(self, period: DirtyPeriod, check: PsysCheck) -> None:
        """Store the check of one period; it replaces the earlier one of that period."""

    def mark_host_dirty(self, host_id: HostId) -> None:
        """Mark every period of it that still has records."""

    def declarations(self) -> MeterDeclarations:
        """Return all declarations of meters, by name."""

    def declare(
        self,
        meters: Sequence[DeclaredMeter],
        shares: Sequence[MeterShare],
        pues: Sequence[Pue],
        servers: Sequence[RoomServer] = (),
    ) -> None:
        """Replace these declarations, checked by the caller; mark the hours of old and new machines dirty."""


class Calibrations(Protocol):
    """Calibrations of hardware models. Used like the Registry."""

    def book(self) -> CalibrationBook:
        """Return the calibrations in force. Raises StoreDamaged for a damaged one, as all reads do."""

    def stored(self) -> tuple[StoredFit, ...]:
        """Return all calibrations ever stored, oldest first."""

    def in_force(self, hardware: Hardware, quantity: str) -> StoredFit | None: ...
    def put(self, kept: KeptFit, now_unix_milliseconds: int) -> int:
        """Put a calibration into force in place of the previous one; return its id."""

    def withdraw(self, calibration_id: int, now_unix_milliseconds: int) -> StoredFit:
        """Withdraw a calibration. Raises AdminError unless it is in force, with all its periods marked."""

    def mark_dirty(self, host_id: HostId) -> int:
        """Mark every period of a host that still has records; return the number of its waiting periods."""

    def end_marking(self, calibration_id: int) -> None:
        """End `StoredFit.marking`: all periods of its machines are marked."""
