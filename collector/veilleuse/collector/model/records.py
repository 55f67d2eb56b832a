# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What flows through the collector between its stages. No I/O, no protobuf."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum, StrEnum
from typing import NewType, TypeAlias

from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import (
    Band,
    Boundary,
    DeviceClass,
    GapReason,
    PointKind,
    Population,
    State,
    Supply,
)

HostId = NewType("HostId", int)
"""Row id of a host; never leaves the collector."""
AgentId = NewType("AgentId", bytes)
"""16 random bytes, in the certificate."""


class Grain(IntEnum):
    """What a sum is keyed by; the value is stored."""

    HOUR = 1
    """`start` is Unix milliseconds of the UTC hour."""
    DAY = 2
    """`start` is the day number (date.toordinal()) of the site's civil day."""
    WEEK = 3
    """`start` is the day number of the Monday of the ISO week."""


class HostStatus(StrEnum):
    """Whether a host may talk to us."""

    ACTIVE = "active"
    PENDING = "pending"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True)
class Point:
    """One place where energy is measured."""

    kind: PointKind
    domain: str
    boundary: Boundary
    subject: str


CellKey: TypeAlias = tuple[Band, State, Supply]


@dataclass(frozen=True, slots=True)
class Cell:
    """The sums of one (band, state, supply); None = not measured, never zero."""

    band: Band
    state: State
    supply: Supply
    milliseconds: int
    energies: tuple[tuple[Point, int, int], ...] = ()
    """(point, millijoules, covered milliseconds)."""
    cpu_covered_milliseconds: int | None = None
    cpu_busy_milliseconds: int | None = None
    cpu_bucket_milliseconds: tuple[int, ...] = ()
    """13 values (edges: veilleuse.wire.limits) or none."""
    memory_bucket_milliseconds: tuple[int, ...] = ()
    any_core_busy_milliseconds: int | None = None
    idle_beyond_15_minutes_milliseconds: int | None = None
    idle_beyond_30_minutes_milliseconds: int | None = None
    idle_beyond_60_minutes_milliseconds: int | None = None
    disk_read_bytes: int | None = None
    disk_written_bytes: int | None = None
    network_received_bytes: int | None = None
    network_sent_bytes: int | None = None
    network_rate_milliseconds: tuple[int, ...] = ()
    gpu_busy_milliseconds: int | None = None
    agent_cpu_milliseconds: int | None = None
    update_window_milliseconds: int | None = None
    """Inside declared update windows; None = the calendar declares none, or they are not told at this grain."""
    display_milliseconds: tuple[int, ...] = ()
    """Display-milliseconds in the order of veilleuse.wire.limits.DISPLAY_SIZES: four values, or none."""
    update_window_energies: tuple[tuple[Point, int, int], ...] = ()
    """(point, millijoules, covered milliseconds): the part of `energies` inside update windows."""
    units: tuple[tuple[str, int], ...] = ()
    """(`unit:<name>` or `guest:<id>`, CPU milliseconds); servers only, opt-in."""


@dataclass(frozen=True, slots=True)
class RecordPeriod:
    """When a record is of. Clock records: `grain` HOUR, `start` Unix ms of the record itself, not of the hour."""

    grain: Grain
    start: int
    milliseconds: int
    """Clock: the period's length. Date and week: the sum of the cells."""


@dataclass(frozen=True, slots=True)
class DecodedRecord:
    """One record after validation, with the bytes it came as."""

    seq: int
    wire: bytes
    hash: bytes
    """veilleuse.wire.chain.record_hash(wire); 8 bytes."""
    chain: bytes
    """Chain at this record; 32 bytes."""
    period: RecordPeriod | None
    """None for a Gap."""
    cells: tuple[Cell, ...] = ()
    sensor_gaps: tuple[tuple[GapReason, str, int], ...] = ()
    """(reason, source, milliseconds) inside a measurement."""
    gap: GapReason | None = None
    """Set when the record is a Gap."""
    gap_milliseconds: int = 0
    gap_records: int = 0
    gap_spans: tuple[tuple[RecordPeriod, int], ...] = ()
    """(where, milliseconds) of the spans of a Gap that have a period; a clock span may be longer than a day."""
    gap_told_apart: bool = False
    """True when a Gap has an id, or at least (0.1) a period for every span: only then is it known again in a new epoch."""


@dataclass(frozen=True, slots=True)
class ValidPush:
    """A Push that passed validation. `records` is not empty and contiguous."""

    host_id: HostId
    epoch: bytes
    first_seq: int
    chain_before: bytes
    records: tuple[DecodedRecord, ...]


class AppendResult(StrEnum):
    """What became of a push inside the store."""

    STORED = "stored"
    EXPECTED_EARLIER = "expected_earlier"
    CONFLICT = "conflict"
    REFUSED = "refused"
    """Some records can never be stored; nothing of the push was."""
    TOO_MANY_EPOCHS = "too_many_epochs"
    """The host began as many streams today as it may; nothing was stored."""
    FAILED = "failed"
    """The database refused this push alone; nothing of it was stored, the rest of its group was."""


@dataclass(frozen=True, slots=True)
class AppendOutcome:
    """Answer of the store to one push."""

    result: AppendResult
    mark: int
    chain: bytes
    stored_records: int = 0
    duplicate_records: int = 0
    """At or below the mark already."""
    replayed_records: int = 0
    """Acknowledged in a new epoch without being summed again."""
    refusals: tuple[tuple[int, str], ...] = ()
    """(seq, reason) of each record that can never be stored; the reasons are in docs/wire.md."""


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Where a stream stands; mark 0 and the start of the chain for an unknown epoch."""

    mark: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What the wall model needs to know of a machine; None = not known."""

    device_class: DeviceClass = DeviceClass.UNKNOWN
    vendor: str | None = None
    model: str | None = None
    cpu_model: str | None = None
    cpu_count: int | None = None
    cpu_sockets: int | None = None
    memory_bytes: int | None = None
    memory_modules: int | None = None
    hard_disks: int | None = None
    solid_state_disks: int | None = None
    virtualisation: str | None = None
    agent_version: str | None = None
    points: tuple[Point, ...] = ()
    display_off_ac_seconds: int | None = None
    """Power plan on mains: until the display goes off; 0 = never."""
    sleep_ac_seconds: int | None = None
    """Power plan on mains: until it sleeps; 0 = never."""


@dataclass(frozen=True, slots=True)
class Host:
    """One enrolled machine."""

    host_id: HostId
    agent_id: AgentId
    org_entity: str
    site: str
    population: Population
    status: HostStatus
    facts: MachineFacts
    enrolled_on: date
    last_contact_unix_milliseconds: int | None
    """Workstations: midnight UTC of the date only."""
    health: HostHealth | None = None
    configuration: AppliedConfiguration | None = None
    """None = it never named one."""
    copy_of: HostId | None = None
    """The machine it was copied from, as it said itself; None = none, or forgotten since."""
    conflicts: int = 0
    """How often two holders were seen under this identity since an operator looked."""
    used_generation: int = 0
    """Highest generation of certificate a Hello came with; 0 = none yet."""


class AppliedState(StrEnum):
    """Where a configuration stands on a machine, as telemetry.proto has it."""

    APPLIED = "applied"
    CONFIRMED = "confirmed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AppliedConfiguration:
    """What the agent said in its last Hello of the configuration it was given last."""

    sha256: bytes
    """Names it; 32 bytes."""
    state: AppliedState


@dataclass(frozen=True, slots=True)
class HostHealth:
    """What the agent said of itself in its last Hello."""

    agent_version: str
    spool_records: int
    spool_bytes: int
    drops: tuple[tuple[GapReason, int], ...] = ()
    sources: tuple[SourceHealth, ...] = ()
    resident_cpu_milliseconds: int | None = None
    resident_rss_bytes: int | None = None
    quarantine_records: int | None = None
    """Originals of refused records that the agent still keeps; None = an agent of before 0.2."""


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """Reads of one source of one agent."""

    name: str
    successes: int
    failures: int
    unavailable: str | None


@dataclass(frozen=True, slots=True)
class Token:
    """An enrolment token as stored: its text is nowhere."""

    token_id: int
    token_sha256: bytes
    created_unix_milliseconds: int
    expires_unix_milliseconds: int
    max_uses: int
    uses: int
    networks: tuple[str, ...]
    """CIDR networks it may be used from; empty = any."""
    org_entity: str
    site: str
    population: Population
    approve: bool
    """True when an operator has to approve each machine."""
    revoked: bool
    admit_copies: bool = False
    """True when a copy of a machine that enrolled with it gets in at once, while it is good; else an operator decides."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate we issued to an agent."""

    serial: str
    """Lower-case hexadecimal."""
    host_id: HostId
    generation: int
    """1 at enrolment, one more at each renewal."""
    public_key_sha256: bytes
    """SHA-256 of the SubjectPublicKeyInfo, DER."""
    certificate_der: bytes
    issued_unix_milliseconds: int
    not_after_unix_milliseconds: int
    token_id: int | None = None
    """Set on the first one."""
    previous_serial: str | None = None
    """Set on a renewed one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, as their certificate and our registry say at this very moment."""

    host_id: HostId
    agent_id: AgentId
    population: Population
    serial: str
    """Of the certificate in use, lower-case hexadecimal."""
    generation: int


@dataclass(frozen=True, slots=True)
class CertificateDates:
    """Of one certificate of an active host: what a rotation of the authority asks."""

    agent_id: AgentId
    generation: int
    issued_unix_milliseconds: int
    """Workstations and classroom PCs: midnight UTC of the day."""
    not_after_unix_milliseconds: int


@dataclass(frozen=True, slots=True)
class CertificateChain:
    """A certificate for an agent with what hangs it on the root; all DER."""

    certificate_der: bytes
    intermediates_der: tuple[bytes, ...]
    """Leaf side first."""
    roots_der: tuple[bytes, ...]
    """All roots to trust from now on."""


@dataclass(frozen=True, slots=True)
class WallEnergy:
    """Wall energy of one cell, or of the part of it one method covers, derived."""

    method: Method
    energy_millijoules: int
    uncertainty_millijoules: int
    """Standard uncertainty, k = 1. Errors of one machine's model are common to its cells, so it adds linearly."""
    milliseconds: int
    """The part of the cell this method answers for: parts of one cell have distinct methods and never overlap."""


@dataclass(frozen=True, slots=True)
class DirtyPeriod:
    """Something to derive again."""

    host_id: HostId
    grain: Grain
    """HOUR, DAY or WEEK: the grain records come at."""
    start: int


@dataclass(frozen=True, slots=True)
class RecordCells:
    """One stored record as derive sees it."""

    record_id: int
    first_time: bool
    """True until it has been derived once: only then does it advance the ledger."""
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class DerivedCell:
    """Derived energy of one key within a period."""

    band: Band
    state: State
    supply: Supply
    method: Method
    milliseconds: int
    energy_millijoules: int
    uncertainty_millijoules: int


@dataclass(frozen=True, slots=True)
class DerivedRecord:
    """Energy of one record: the sum of its cells' integer millijoules; None when nothing could be derived."""

    record_id: int
    energy_millijoules: int | None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """An advance of the counters, as first derived."""

    org_entity: str
    site: str
    population: Population
    device_class: DeviceClass
    method: Method
    state: State
    factor_id: str
    factor_kgco2e_per_kwh: str
    """Decimal text: part of the key, so that a corrected factor never changes what was counted."""
    energy_millijoules: int


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
    """The part inside update windows; None = nothing was measured there: 0 J where the cell's `update_window_milliseconds` is 0."""


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


@dataclass(frozen=True, slots=True)
class LastRecord:
    """The newest clock record of one host that derive has seen."""

    host_id: HostId
    start_unix_milliseconds: int
    milliseconds: int
    energy_millijoules: int | None
    """None when nothing could be derived, which is not zero."""


@dataclass(frozen=True, slots=True)
class Site:
    """A place: fixes the grid zone, the civil day and the timetable."""

    site: str
    zone: str
    """Grid zone of the factors, e.g. FR."""
    time_zone: str
    calendar_json: str
    """veilleuse.wire.bands.Calendar.to_json()."""


@dataclass(frozen=True, slots=True)
class DataKind:
    """A data directory is real or simulated, never both."""

    simulated: bool = False
    created_unix_milliseconds: int = 0
    schema_version: int = 0
    extra: dict[str, str] = field(default_factory=dict)
