# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ports of the stages: receiving, derivation with its meters and calibrations, and indicators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar, runtime_checkable

from veilleuse.collector.model.calibration import CalibrationBook, Hardware, KeptFit, StoredFit
from veilleuse.collector.model.hosts import (
    Caller,
    CertificateChain,
)
from veilleuse.collector.model.indicators import (
    Figure,
    GaugeParts,
    IndicatorGroup,
    IndicatorMachine,
    IndicatorMeta,
    Pair,
    Targets,
    add_figures,
)
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
    AppendOutcome,
    HostId,
    StreamPosition,
    ValidPush,
)
from veilleuse.collector.model.sums import (
    DirtyPeriod,
    PeriodResult,
    RecordCells,
)

T = TypeVar("T")


class IngestStore(Protocol):
    """Store of the hot path. One caller at a time: the writer."""

    def append(self, pushes: Sequence[ValidPush]) -> list[AppendOutcome]:
        """Store a group in ONE durable transaction and answer each push, in order. docs/wire.md §2.

        Inside the transaction, per push, the mark and chain of (host, epoch) decide. Records above the mark
        are stored with their hash, hour/day/week sums, point sums, gap sums and a dirty mark. Mark and chain
        advance. Returns after the commit's fsync. Raises StoreFull or StoreDamaged with nothing of the group
        stored.
        """

    def position(self, host_id: HostId, epoch: bytes) -> StreamPosition:
        """Return the position of a stream."""

    def records_of(self, host_id: HostId) -> int:
        """Return the number of records its streams have brought; it only rises, except after a restore."""


class Committer(Protocol):
    """The writer as its callers see it: one thread, one connection, group commit."""

    def append(
        self, push: ValidPush, deadline_monotonic_seconds: float | None = None
    ) -> Future[AppendOutcome]:
        """Queue a push. Raises QueueFull at once.

        The future has its outcome after the commit's fsync; it is cancelled when the deadline passes before.
        It raises StoreFull, StoreFailing or StoreDamaged with nothing stored.
        """

    def submit(self, job: Callable[[], T], *, alone: bool = False) -> Future[T]:
        """Run a small job (≤ 20 ms) in the writer's thread; its result is set after the commit.

        A job that raises is undone alone. `alone`: outside any transaction (backups, checkpoints).
        """


class Authoriser(Protocol):
    """Authorises callers of the mTLS port. In memory: safe and cheap on every call, from any thread."""

    def authorise(self, certificate_pem: bytes | None) -> Caller:
        """Return the holder of the peer's certificate (`x509_pem_cert` of the gRPC auth context).

        Raises NotAuthorised: no_certificate, not_an_agent, not_ours, expired, not_yet_valid, unknown_agent,
        pending, suspended, revoked, forgotten.
        """


class Renewer(Protocol):
    """Issues new certificates to agents that hold one."""

    def renew(self, caller: Caller, certificate_request_der: bytes) -> CertificateChain:
        """Renew a certificate, idempotent on (the caller's serial, the new public key).
        Durable when it returns.

        Raises EnrolmentRefused (bad_request, key_reused), NotAuthorised (status changed during the call);
        StoreFull or StoreFailing when the certificate cannot be written.
        """


class DeriveStore(Protocol):
    """Reads and writes of derive; called through the writer."""

    def dirty(self, limit: int) -> tuple[DirtyPeriod, ...]:
        """Return the oldest marks first."""

    def record_cells(self, period: DirtyPeriod) -> tuple[RecordCells, ...]:
        """Return all measurements of the period, in stream order."""

    def write_derived(self, results: Sequence[PeriodResult]) -> None:
        """Write derived periods, each one once, in one transaction.

        Replace the period's derived cells and, separately, its screens' cells. Add the difference to its day,
        set each record's energy, advance the ledger. Clear the mark, unless a record arrived meanwhile.
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


class Indicator(Protocol):
    """Defines an indicator. Its docstring has formula, period, unit, threshold, direction and owner."""

    meta: IndicatorMeta

    def figures(self, group: IndicatorGroup, targets: Targets, /) -> Iterable[Figure]:
        """Return its figures for one group; none when it does not apply to this kind of group. Pure."""
        ...

    def add(self, figures: Sequence[Figure], /, *, same_time: bool) -> Figure:
        """Add figures of other machines, or of later months: model.indicators.add_figures."""
        return add_figures(figures, same_time=same_time, is_ratio=self.meta.unit == "ratio")

    def parts(self, _figure: Figure, /) -> GaugeParts:
        """Return the value of each of its gauges; by default it has none."""
        return ()


@runtime_checkable
class MachineRatio(Protocol):
    """Defines an indicator that is a ratio of sums over machines: a sample then gives an interval for the
    fleet.
    """

    def pair(self, machine: IndicatorMachine, targets: Targets, /) -> Pair:
        """Return (part, whole) of one machine; 0 of 0 where it is in neither."""
