# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the seams of the data path: ingest, derive, registry, readers, indicators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import date
from typing import Protocol, TypeVar

from veilleuse.collector.model.calendars import CalendarVersion, SchoolPeriod
from veilleuse.collector.model.calibration import CalibrationBook, Hardware, KeptFit, StoredFit
from veilleuse.collector.model.clones import Holders
from veilleuse.collector.model.figures import (
    BalanceRow,
    EnergySums,
    GroupKey,
    GroupSums,
    IndicatorFigure,
    IndicatorMeta,
    StateSums,
    Thresholds,
)
from veilleuse.collector.model.hosts import (
    AppliedConfiguration,
    Caller,
    Certificate,
    CertificateChain,
    CertificateDates,
    Host,
    HostStatus,
    LastRecord,
    Site,
    Token,
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
    AgentId,
    AppendOutcome,
    DataKind,
    Grain,
    HostId,
    StreamPosition,
    ValidPush,
)
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.model.sums import (
    DerivedCell,
    DerivedRecord,
    DerivedRow,
    DirtyPeriod,
    LedgerEntry,
    PointSumRow,
    RecordCells,
    SumRow,
    UnitSumRow,
)
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Population, State

T = TypeVar("T")


class IngestStore(Protocol):
    """Store of the hot path. One caller at a time: the writer."""

    def append(self, pushes: Sequence[ValidPush]) -> list[AppendOutcome]:
        """Store a group in ONE durable transaction and answer each push, in order. PROMISES.md §2.2.

        Inside the transaction, per push, the mark and chain of (host, epoch) decide. Records above the mark
        are stored with their hash, hour/day/week sums, point sums, gap sums and a dirty mark. Mark and chain
        advance. Returns after the commit's fsync. Raises StoreFull or StoreDamaged with nothing of the group
        stored.
        """

    def position(self, host_id: HostId, epoch: bytes) -> StreamPosition:
        """Return the position of a stream."""

    def records_of(self, host_id: HostId) -> int:
        """Return the number of records its streams have brought; it only rises, except after a restore."""


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
        """Return the shared energy of a machine and of its screens in this hour."""

    def psys_seen(self, host_id: HostId) -> PsysCheck:
        """Return its platform counter and its battery's discharge, over all its periods."""

    def put_psys(self, period: DirtyPeriod, check: PsysCheck) -> None:
        """Store the check of one period; it replaces the earlier one of that period."""

    def mark_host_dirty(self, host_id: HostId) -> None:
        """Mark every period of it that still has records."""

    def declarations(self) -> MeterDeclarations:
        """Return all meter declarations, by name."""

    def declare(
        self,
        meters: Sequence[DeclaredMeter],
        shares: Sequence[MeterShare],
        pues: Sequence[Pue],
        servers: Sequence[RoomServer] = (),
    ) -> None:
        """Replace these declarations, checked by the caller; mark the hours of old and new machines dirty."""


class Registry(Protocol):
    """Hosts, tokens, certificates, sites, names. Used in jobs of the writer: `writer.submit(lambda: …)`.

    One job is one transaction: it is undone when the job raises, and durable when its future has a result.
    """

    # --- hosts
    def insert_host(
        self,
        *,
        agent_id: AgentId,
        token_id: int,
        org_entity: str,
        site: str,
        population: Population,
        status: HostStatus,
        enrolled_on: date,
        facts_wire: bytes | None,
        copy_of: HostId | None = None,
    ) -> HostId:
        """Insert a host. Raises the backend's IntegrityError for an invalid agent id, token or site."""

    def host(self, host_id: HostId) -> Host | None: ...
    def host_by_agent_id(self, agent_id: AgentId) -> Host | None: ...
    def hosts(self) -> tuple[Host, ...]: ...
    def hosts_of_token(self, token_id: int) -> tuple[HostId, ...]: ...
    def set_status(self, host_id: HostId, status: HostStatus) -> None: ...
    def record_hello(
        self,
        host_id: HostId,
        *,
        facts_wire: bytes | None,
        health_wire: bytes | None,
        now_unix_milliseconds: int,
    ) -> None:
        """Store the last contact (workstations: the UTC date only), and facts and health when given.

        Both are the encoded Facts and Health of telemetry.proto after validate.clean_facts / clean_health.
        """

    def holders(self, host_id: HostId) -> Holders:
        """Return the nonces of its Hello answers; empty at first."""

    def set_holders(self, host_id: HostId, holders: Holders) -> None: ...
    def note_use(self, host_id: HostId, generation: int) -> None:
        """Record a Hello with a certificate of this generation; `Host.used_generation` only rises."""

    def note_conflict(self, host_id: HostId) -> None:
        """Add one to `Host.conflicts`."""

    def clear_conflicts(self, host_id: HostId) -> None:
        """Remove conflicts and nonces of clones; if a holder waits, the next caller counts as the machine."""

    def count_copies(self, original: HostId, status: HostStatus) -> int:
        """Count the machines with this status that declared themselves clones of it."""

    # --- tokens
    def insert_token(
        self,
        *,
        token_sha256: bytes,
        created_unix_milliseconds: int,
        expires_unix_milliseconds: int,
        max_uses: int,
        networks: tuple[str, ...],
        org_entity: str,
        site: str,
        population: Population,
        approve: bool,
        admit_copies: bool = False,
    ) -> int:
        """Insert a token and return its token_id."""

    def token_by_hash(self, token_sha256: bytes) -> Token | None: ...
    def token_of_host(self, host_id: HostId) -> Token | None:
        """Return the token of its enrolment, or the one with its placement."""

    def raise_token_uses(self, token_id: int, uses: int) -> None:
        """Raise a token's uses to at least `uses`: a restored registry may have lost some."""

    def tokens(self) -> tuple[Token, ...]: ...
    def use_token(self, token_id: int, now_unix_milliseconds: int) -> bool:
        """Count one use, atomically; False, uncounted, when it is used up, expired, revoked or unknown."""

    def revoke_token(self, token_id: int) -> bool:
        """Revoke a token; False when there is none with this id."""

    # --- accounts that read over HTTP, as the register needs them
    def revoke_account(self, token_sha256: bytes, day: int) -> bool:
        """Revoke an account as of a UTC day number; False when none has this token, or it had ended."""

    def revoked_accounts(self) -> dict[bytes, int]:
        """Return SHA-256 of the token → UTC day number."""

    # --- certificates
    def insert_certificate(self, certificate: Certificate) -> None: ...
    def trim_certificates(self, host_id: HostId, oldest_generation: int) -> None:
        """Delete a host's renewed certificates of an older generation; the one of its token stays."""

    def latest_certificate(self, host_id: HostId) -> Certificate | None:
        """Return the certificate of the highest generation."""

    def certificate_dates(self) -> Iterator[CertificateDates]:
        """Yield every stored certificate of active hosts; a host's together, the newest generation first."""

    def certificate_by_serial(self, serial: str) -> Certificate | None: ...
    def certificate_by_token(self, token_id: int, public_key_sha256: bytes) -> Certificate | None:
        """Return the certificate of (token, public key): enrolment is idempotent on it."""

    def certificate_by_previous(self, previous_serial: str, public_key_sha256: bytes) -> Certificate | None:
        """Return the certificate of (current serial, new public key): renewal is idempotent on it."""

    # --- forgotten machines
    def forgotten(self) -> dict[bytes, int]:
        """Return SHA-256 of the agent id → day number."""

    def put_forgotten(self, agent_id_sha256: bytes, day: int) -> None:
        """Insert a forgotten machine; no error when it exists."""

    # --- sites and the data directory
    def site(self, name: str) -> Site:
        """Return a site. Raises UsageError for an unknown one."""

    def sites(self) -> tuple[Site, ...]: ...
    def put_site(self, site: Site) -> None: ...
    def data_kind(self) -> DataKind: ...
    def put_meta(self, key: str, value: str) -> None: ...

    # --- identity.db
    def put_name(self, agent_id: AgentId, host_name: str) -> None: ...
    def put_pseudonyms(self, agent_id: AgentId, chassis: bytes, smbios: bytes) -> None:
        """Store pseudonyms; each has 32 bytes, or is empty when not given."""

    def names(self) -> dict[AgentId, str]:
        """Return the names of hosts with one. The caller writes the reason of the access to the journal."""

    def pseudonyms(self, agent_id: AgentId) -> tuple[bytes, bytes]:
        """Return (chassis, SMBIOS), each 32 bytes or empty."""

    def journal_of(self, agent_id: AgentId) -> list[dict[str, str | int]]:
        """Return who accessed the machine's data, and why: unix_milliseconds, who, what, why."""

    def journal(
        self, since: int, until: int, *, who: str | None = None, limit: int
    ) -> list[dict[str, str | int]]:
        """Return all lines of [since, until), Unix ms, newest first. The caller writes the reason to the
        journal.
        """

    def write_journal(self, *, now_unix_milliseconds: int, who: str, what: str, why: str) -> None: ...


class HostEraser(Protocol):
    """Deletes all data of one machine, in small steps. Used like the Registry."""

    is_compact: bool
    """False when the last sweep could not rewrite the files: deleted data stay until their pages are reused.
    """

    def forget_slice(self, host_id: HostId) -> bool:
        """Delete some of its rows, ≤ 20 ms; False when only the host's own row is left."""

    def forget_host(self, host: Host, agent_id_sha256: bytes) -> bool:
        """Delete its names, certificates and itself, not its hash in the journal; False when rows came
        meanwhile.
        """

    def sweep(self) -> bool:
        """Overwrite deleted data in all files, outside a transaction. False while a reader needs the old
        state.
        """


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
        """Record that all periods of its machines are marked: `StoredFit.marking` ends."""


class Calendars(Protocol):
    """Declared calendars of each site, and imported school holidays. Used like the Registry."""

    def versions(self, site: Site) -> tuple[CalendarVersion, ...]:
        """Return the calendars, oldest first, at least one; the last is in use. Raises StoreDamaged."""

    def put(self, site: str, versions: Sequence[CalendarVersion]) -> None:
        """Replace all calendars of a site. The caller puts the last one into the site."""

    def has_machines(self, site: str) -> bool: ...
    def school_periods(self) -> tuple[SchoolPeriod, ...]: ...
    def replace_school_periods(self, periods: Sequence[SchoolPeriod]) -> None: ...


class Configurations(Protocol):
    """Remote configurations, one row per population. Used like the Registry."""

    def rollouts(self) -> tuple[Rollout, ...]:
        """Return the roll-outs of populations with a setting. Raises StoreDamaged."""

    def put(self, rollout: Rollout) -> None:
        """Insert or replace the roll-out of its population."""

    def note(self, host_id: HostId, said: AppliedConfiguration | None) -> None:
        """Store the configuration that a host named in its Hello; None = none. `hosts()` returns it."""


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

        Raises EnrolmentRefused (bad_request, key_reused), NotAuthorised (status changed meanwhile); StoreFull
        or StoreFailing when it cannot be written.
        """


class Reader(Protocol):
    """Read-only queries of metrics, pages and reports. Any number of readers, in any process."""

    def data_kind(self) -> DataKind: ...
    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def calendars(self, site: Site) -> tuple[CalendarVersion, ...]: ...  # as Calendars.versions
    def sums(self, grain: Grain, start: int, end: int) -> Iterator[SumRow]:
        """Yield sums with start ≤ key < end (key as in Grain)."""

    def point_sums(self, grain: Grain, start: int, end: int) -> Iterator[PointSumRow]: ...
    def unit_sums(self, grain: Grain, start: int, end: int) -> Iterator[UnitSumRow]: ...
    def derived(self, grain: Grain, start: int, end: int) -> Iterator[DerivedRow]:
        """Yield derived cells; DAY covers clock records too (by civil day of the site)."""

    def state_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Band, State], StateSums]]:
        """Yield `sums` added up over start ≤ key < end: a year is one row per host, band and state."""

    def energy_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Method, Band, State], EnergySums]]:
        """Yield `derived` added up likewise."""

    def screen_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Method, Band, State], EnergySums]]:
        """Yield the energy of external screens, in display-milliseconds; it is in no other sum."""

    def dates_on(self, start: int, end: int, longer_than_milliseconds: int) -> Iterator[tuple[HostId, int]]:
        """Yield (host, count) of DAY keys with start ≤ key < end whose `night` cells are on for longer."""

    def night_hours(self, population: Population, start: int, end: int) -> Iterator[tuple[HostId, int, int]]:
        """Yield (host, hour, ms on in its `night` cells > 0) of HOUR keys with start ≤ key < end."""

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Return the totals since the data directory was created, per key."""

    def gap_totals(self) -> tuple[tuple[HostId, str, int, int], ...]:
        """Return (host, reason, records, milliseconds)."""

    def balance(self, first_day: date, last_day: date, *, by_hour: bool = True) -> Iterator[BalanceRow]:
        """Yield stored, declared lost and missing time per host and whole period (R18).

        Periods are in [first_day, last_day], both included. Servers and classroom PCs by civil day of the
        site, workstations by ISO week. Only periods between the days of the host's first and last record
        count, both excluded. In (start, host) order. `by_hour`: an hour reported twice does not hide a
        missing one on the same day. Without it, a year of a fleet is read in seconds.
        """

    def last_records(self, since_unix_milliseconds: int) -> tuple[LastRecord, ...]:
        """Return the newest derived clock record of each host, in an hour begun since then."""

    def state_totals(self) -> tuple[tuple[HostId, State, int], ...]:
        """Return (host, state, milliseconds) of all records ever stored: updated on insert, never scanned."""

    def rollouts(self) -> tuple[Rollout, ...]:
        """Return the same as Configurations.rollouts."""

    def forgotten_states(self) -> tuple[tuple[str, str, State, int], ...]:
        """Return (entity, site, state, milliseconds) of forgotten servers, which counters still include."""

    def record_count(self) -> int: ...
    def dirty_count(self) -> int: ...
    def dirty_span(self) -> tuple[int, int] | None:
        """Return the sequence numbers of the oldest and newest waiting mark, of hours if there are any.

        The numbers restart when none was left.
        """


class Indicator(Protocol):
    """A named indicator. Its docstring has the formula, period, unit, threshold, direction and owner."""

    meta: IndicatorMeta

    def threshold(self, thresholds: Thresholds, /) -> float | None:
        """Return the configured target, in the indicator's unit; None when there is none."""

    def figure(self, key: GroupKey, sums: GroupSums, /) -> IndicatorFigure | None:
        """Return its figure for one group; None when it does not apply to this kind of machine. Pure."""
