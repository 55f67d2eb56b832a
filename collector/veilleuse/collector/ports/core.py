# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of the way of the data: ingest, derive, registry, readers, indicators."""

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
    """The hot path. One caller at a time: the writer."""

    def append(self, pushes: Sequence[ValidPush]) -> list[AppendOutcome]:
        """Store a group in ONE durable transaction and answer each push, in order. docs/wire.md §2.

        Inside the transaction, per push: the mark and chain of (host, epoch) decide; records above the mark are stored with
        their hash, hour/day/week sums, point sums, gap sums and a dirty mark; mark and chain advance. Returns after the
        commit's fsync. Raises StoreFull or StoreDamaged with nothing of the group stored.
        """

    def position(self, host_id: HostId, epoch: bytes) -> StreamPosition:
        """Where a stream stands."""

    def records_of(self, host_id: HostId) -> int:
        """How many records its streams brought so far; only goes up, unless the store is restored."""


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


class Registry(Protocol):
    """Hosts, tokens, certificates, sites, names. Short writes, in the writer's thread: `writer.submit(lambda: …)`.

    What one job does is one transaction: it is undone when the job raises, and durable when its future has a result.
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
        """Raises sqlite3.IntegrityError (or the backend's) when the agent id, token or site does not fit."""

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
        """Last contact (workstations: the UTC date only), facts and health when given.

        Both are the encoded Facts and Health of telemetry.proto after validate.clean_facts / clean_health.
        """

    def holders(self, host_id: HostId) -> Holders:
        """Nonces of its Hello answers; nothing at first."""

    def set_holders(self, host_id: HostId, holders: Holders) -> None: ...
    def note_use(self, host_id: HostId, generation: int) -> None:
        """A Hello came with a certificate of this generation; `Host.used_generation` only goes up."""

    def note_conflict(self, host_id: HostId) -> None:
        """One more in `Host.conflicts`."""

    def clear_conflicts(self, host_id: HostId) -> None:
        """An operator has looked: no conflict, no nonce of a copy; where one waits, whoever calls next is the machine."""

    def count_copies(self, original: HostId, status: HostStatus) -> int:
        """Machines with this status that said to be copies of it."""

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
        """Its token_id."""

    def token_by_hash(self, token_sha256: bytes) -> Token | None: ...
    def token_of_host(self, host_id: HostId) -> Token | None:
        """The one it enrolled with, or whose placement it has."""

    def raise_token_uses(self, token_id: int, uses: int) -> None:
        """At least so many: what a restored registry does not know of."""

    def tokens(self) -> tuple[Token, ...]: ...
    def use_token(self, token_id: int, now_unix_milliseconds: int) -> bool:
        """Count one use, atomically; False when it is used up, expired, revoked or unknown: nothing was counted."""

    def revoke_token(self, token_id: int) -> bool:
        """False when there is no such token."""

    # --- accounts that read over HTTP: what the register has to know of them
    def revoke_account(self, token_sha256: bytes, day: int) -> bool:
        """As of a UTC day number; False when there is none with this token, or it had ended."""

    def revoked_accounts(self) -> dict[bytes, int]:
        """SHA-256 of their tokens → UTC day number."""

    # --- certificates
    def insert_certificate(self, certificate: Certificate) -> None: ...
    def trim_certificates(self, host_id: HostId, oldest_generation: int) -> None:
        """Forget a host's renewed certificates of an older generation than that; the one of its token stays."""

    def latest_certificate(self, host_id: HostId) -> Certificate | None:
        """The one of the highest generation."""

    def certificate_dates(self) -> Iterator[CertificateDates]:
        """Of every certificate kept of active hosts; a host's together, the newest generation first."""

    def certificate_by_serial(self, serial: str) -> Certificate | None: ...
    def certificate_by_token(self, token_id: int, public_key_sha256: bytes) -> Certificate | None:
        """Enrolment is idempotent on (token, public key)."""

    def certificate_by_previous(self, previous_serial: str, public_key_sha256: bytes) -> Certificate | None:
        """Renewal is idempotent on (current serial, new public key)."""

    # --- machines that were forgotten
    def forgotten(self) -> dict[bytes, int]:
        """SHA-256 of their agent ids → day number."""

    def put_forgotten(self, agent_id_sha256: bytes, day: int) -> None:
        """No error when it is there."""

    # --- sites and the data directory
    def site(self, name: str) -> Site:
        """Raises UsageError when there is none."""

    def sites(self) -> tuple[Site, ...]: ...
    def put_site(self, site: Site) -> None: ...
    def data_kind(self) -> DataKind: ...
    def put_meta(self, key: str, value: str) -> None: ...

    # --- identity.db
    def put_name(self, agent_id: AgentId, host_name: str) -> None: ...
    def put_pseudonyms(self, agent_id: AgentId, chassis: bytes, smbios: bytes) -> None:
        """Each 32 bytes, or empty when not given."""

    def names(self) -> dict[AgentId, str]:
        """Names of the hosts that gave one. The caller writes to the journal why it looked."""

    def pseudonyms(self, agent_id: AgentId) -> tuple[bytes, bytes]:
        """(chassis, SMBIOS), each 32 bytes or empty."""

    def journal_of(self, agent_id: AgentId) -> list[dict[str, str | int]]:
        """Who looked at it, and why: unix_milliseconds, who, what, why."""

    def journal(
        self, since: int, until: int, *, who: str | None = None, limit: int
    ) -> list[dict[str, str | int]]:
        """The same of all lines of [since, until), Unix milliseconds, the newest first. The caller writes to the journal why it looked."""

    def write_journal(self, *, now_unix_milliseconds: int, who: str, what: str, why: str) -> None: ...


class HostEraser(Protocol):
    """Takes everything of one machine out of the store, in small steps. Used like the Registry."""

    is_compact: bool
    """False when the last sweep could not write the files anew: traces may lie beside rows until their pages are used again."""

    def forget_slice(self, host_id: HostId) -> bool:
        """Some rows of it, ≤ 20 ms; False when none is left but the host's own."""

    def forget_host(self, host: Host, agent_id_sha256: bytes) -> bool:
        """Its names, its certificates, itself; the journal keeps its hash. False, and nothing done, when rows came in meanwhile."""

    def sweep(self) -> bool:
        """Outside a transaction: what was deleted is in no file any more. False while a reader still needs the old state."""


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


class Calendars(Protocol):
    """What was declared of each site's days, and imported school holidays. Used like the Registry."""

    def versions(self, site: Site) -> tuple[CalendarVersion, ...]:
        """Oldest first, at least one; the last is what machines are given. Raises StoreDamaged."""

    def put(self, site: str, versions: Sequence[CalendarVersion]) -> None:
        """All of a site's, in place of what was there. The caller puts the last one into the site."""

    def has_machines(self, site: str) -> bool: ...
    def school_periods(self) -> tuple[SchoolPeriod, ...]: ...
    def replace_school_periods(self, periods: Sequence[SchoolPeriod]) -> None: ...


class Configurations(Protocol):
    """Remote configuration, one line a population. Used like the Registry."""

    def rollouts(self) -> tuple[Rollout, ...]:
        """Of the populations for which something was ever set. Raises StoreDamaged for what is no configuration."""

    def put(self, rollout: Rollout) -> None:
        """Insert or replace its population's."""

    def note(self, host_id: HostId, said: AppliedConfiguration | None) -> None:
        """What a host said in its Hello; None = it named no configuration. `hosts()` gives it back."""


class Committer(Protocol):
    """The writer, as its callers see it: one thread, one connection, group commit."""

    def append(
        self, push: ValidPush, deadline_monotonic_seconds: float | None = None
    ) -> Future[AppendOutcome]:
        """Queue a push. The future has its outcome after the commit's fsync; it is cancelled when the deadline passed
        before. It raises StoreFull, StoreFailing or StoreDamaged with nothing stored. Raises QueueFull at once."""

    def submit(self, job: Callable[[], T], *, alone: bool = False) -> Future[T]:
        """Run a small job (≤ 20 ms) in the writer's thread; its result appears after the commit. A job that raises is
        undone alone. `alone`: outside any transaction (backups, checkpoints)."""


class Authoriser(Protocol):
    """Who may call the mTLS port. In memory: safe and cheap on every call, from any thread."""

    def authorise(self, certificate_pem: bytes | None) -> Caller:
        """The holder of the peer's certificate: `context.auth_context().get("x509_pem_cert", [None])[0]`.

        Raises NotAuthorised: no_certificate, not_an_agent, not_ours, expired, not_yet_valid, unknown_agent, pending,
        suspended, revoked, forgotten.
        """


class Renewer(Protocol):
    """New certificates for agents that hold one."""

    def renew(self, caller: Caller, certificate_request_der: bytes) -> CertificateChain:
        """Idempotent on (the caller's serial, the new public key). Durable when it returns.

        Raises EnrolmentRefused (bad_request, key_reused), NotAuthorised (status changed meanwhile); StoreFull or StoreFailing when it cannot be written.
        """


class Reader(Protocol):
    """Read-only queries of the outlets: metrics, pages, reports. Any number of them, any process."""

    def data_kind(self) -> DataKind: ...
    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def calendars(self, site: Site) -> tuple[CalendarVersion, ...]: ...  # as Calendars.versions
    def sums(self, grain: Grain, start: int, end: int) -> Iterator[SumRow]:
        """Sums with start ≤ key < end (key as in Grain)."""

    def point_sums(self, grain: Grain, start: int, end: int) -> Iterator[PointSumRow]: ...
    def unit_sums(self, grain: Grain, start: int, end: int) -> Iterator[UnitSumRow]: ...
    def derived(self, grain: Grain, start: int, end: int) -> Iterator[DerivedRow]:
        """Derived cells; DAY covers clock records too (by civil day of the site)."""

    def state_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Band, State], StateSums]]:
        """`sums` added up by the backend over start ≤ key < end: a year is one row per host, band and state."""

    def energy_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Method, Band, State], EnergySums]]:
        """`derived` added up likewise."""

    def screen_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Method, Band, State], EnergySums]]:
        """The same of external screens, which are in no other sum. Milliseconds are display-milliseconds."""

    def dates_on(self, start: int, end: int, longer_than_milliseconds: int) -> Iterator[tuple[HostId, int]]:
        """(host, how many): DAY keys with start ≤ key < end whose `night` cells are on for longer."""

    def night_hours(self, population: Population, start: int, end: int) -> Iterator[tuple[HostId, int, int]]:
        """(host, hour, milliseconds on in its `night` cells) of HOUR keys with start ≤ key < end, where any."""

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Totals since the data directory was made, per key."""

    def gap_totals(self) -> tuple[tuple[HostId, str, int, int], ...]:
        """(host, reason, records, milliseconds)."""

    def balance(self, first_day: date, last_day: date, *, by_hour: bool = True) -> Iterator[BalanceRow]:
        """R18: per host and whole period in [first_day, last_day], both included, what was stored, declared lost, and neither.

        Servers and classroom PCs by civil day of the site, workstations by ISO week; only periods that lie between the days
        of the host's first and last record, both excluded. In (start, host) order. `by_hour`: an hour told twice does not
        hide one that is missing on the same day; without it, a year of a fleet is read in seconds.
        """

    def last_records(self, since_unix_milliseconds: int) -> tuple[LastRecord, ...]:
        """The newest derived clock record of each host that has one in an hour that begins since then: live watts."""

    def state_totals(self) -> tuple[tuple[HostId, State, int], ...]:
        """(host, state, milliseconds) of all records ever stored: kept as they come, never scanned for."""

    def rollouts(self) -> tuple[Rollout, ...]:
        """Configurations.rollouts."""

    def forgotten_states(self) -> tuple[tuple[str, str, State, int], ...]:
        """(entity, site, state, milliseconds) of servers that were forgotten: what counters still count."""

    def record_count(self) -> int: ...
    def dirty_count(self) -> int: ...
    def dirty_span(self) -> tuple[int, int] | None:
        """Turns of the oldest and the newest mark waiting for derive, of hours if there is any; they begin again when none was left."""


class Indicator(Protocol):
    """A named sobriety figure. Formula, period, unit, threshold, direction and owner stand in the class's docstring."""

    meta: IndicatorMeta

    def threshold(self, thresholds: Thresholds, /) -> float | None:
        """The target as set, in the indicator's unit; None when there is none."""

    def figure(self, key: GroupKey, sums: GroupSums, /) -> IndicatorFigure | None:
        """Its figure for one group; None when the indicator is not of this kind of machine. Pure."""
