# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines machines, their certificates and their sites."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from veilleuse.collector.model.records import AgentId, HostId
from veilleuse.wire.vocabulary import (
    DeviceClass,
    GapReason,
    Population,
)


class HostStatus(StrEnum):
    """Access status of a host."""

    ACTIVE = "active"
    PENDING = "pending"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Facts of a machine that the wall model needs; None = not known."""

    device_class: DeviceClass = DeviceClass.UNKNOWN
    vendor: str | None = None
    model: str | None = None
    cpu_model: str | None = None
    cpu_count: int | None = None
    memory_bytes: int | None = None
    memory_modules: int | None = None
    hard_disks: int | None = None
    solid_state_disks: int | None = None
    virtualisation: str | None = None
    display_off_ac_seconds: int | None = None
    """Power plan on mains: time until the display goes off; 0 = never."""
    sleep_ac_seconds: int | None = None
    """Power plan on mains: time until it sleeps; 0 = never."""


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
    """Machine of which it is a clone, as it reported; None = none, or forgotten since."""
    conflicts: int = 0
    """Number of times two holders were seen under this identity since an operator checked."""
    used_generation: int = 0
    """Highest generation of certificate in a Hello; 0 = none yet."""


class AppliedState(StrEnum):
    """State of a configuration on a machine, as in telemetry.proto."""

    APPLIED = "applied"
    CONFIRMED = "confirmed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AppliedConfiguration:
    """State of the last configuration, as reported by the agent in its last Hello."""

    sha256: bytes
    """Name of the configuration; 32 bytes."""
    state: AppliedState


@dataclass(frozen=True, slots=True)
class HostHealth:
    """Health of the agent, as reported in its last Hello."""

    agent_version: str
    spool_records: int
    spool_bytes: int
    drops: tuple[tuple[GapReason, int], ...] = ()
    sources: tuple[SourceHealth, ...] = ()
    resident_cpu_milliseconds: int | None = None
    resident_rss_bytes: int | None = None
    quarantine_records: int | None = None
    """Originals of refused records that the agent still stores; None = an agent of before 0.2."""


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """Reads of one source of one agent."""

    name: str
    successes: int
    failures: int
    unavailable: str | None


@dataclass(frozen=True, slots=True)
class Token:
    """An enrolment token as stored: its text is not stored."""

    token_id: int
    token_sha256: bytes
    created_unix_milliseconds: int
    expires_unix_milliseconds: int
    max_uses: int
    uses: int
    networks: tuple[str, ...]
    """CIDR networks that may use it; empty = any."""
    org_entity: str
    site: str
    population: Population
    approve: bool
    """True when an operator has to approve each machine."""
    revoked: bool
    admit_copies: bool = False
    """True: a clone of a machine that enrolled with it is admitted at once while it is valid.
    False: an operator decides.
    """


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
    """Caller, by its certificate and our current registry."""

    host_id: HostId
    agent_id: AgentId
    population: Population
    serial: str
    """Serial of the certificate in use, lower-case hexadecimal."""
    generation: int


@dataclass(frozen=True, slots=True)
class CertificateDates:
    """Dates of one certificate of an active host, for a rotation of the authority."""

    agent_id: AgentId
    generation: int
    issued_unix_milliseconds: int
    """Workstations and classroom PCs: midnight UTC of the day."""
    not_after_unix_milliseconds: int


@dataclass(frozen=True, slots=True)
class CertificateChain:
    """A certificate for an agent with its chain to the root; all DER."""

    certificate_der: bytes
    intermediates_der: tuple[bytes, ...]
    """Leaf side first."""
    roots_der: tuple[bytes, ...]
    """All roots to trust from now on."""


@dataclass(frozen=True, slots=True)
class Site:
    """A site: it determines the grid zone, the civil day and the timetable."""

    site: str
    zone: str
    """Grid zone of the factors, e.g. FR."""
    time_zone: str
    calendar_json: str
    """veilleuse.wire.bands.Calendar.to_json()."""


@dataclass(frozen=True, slots=True)
class LatestCertificate:
    """The newest certificate of an active machine."""

    population: Population
    issued_unix_milliseconds: int
    not_after_unix_milliseconds: int
