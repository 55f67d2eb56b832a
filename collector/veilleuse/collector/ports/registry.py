# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ports of the registry: hosts, tokens, certificates, sites, names, accounts, calendars, configurations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Protocol

from veilleuse.collector.model.accounts import Access, Account, Role
from veilleuse.collector.model.calendars import CalendarVersion, SchoolPeriod
from veilleuse.collector.model.clones import Holders
from veilleuse.collector.model.hosts import (
    AppliedConfiguration,
    Certificate,
    CertificateDates,
    Host,
    HostStatus,
    Site,
    Token,
)
from veilleuse.collector.model.records import (
    AgentId,
    DataKind,
    HostId,
)
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.wire.vocabulary import Population


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

    # --- accounts that read over HTTP: the part that the register needs
    def revoke_account(self, token_sha256: bytes, day: int) -> bool:
        """Revoke an account as of a UTC day number; False when none has this token, or it had ended."""

    def accounts(self) -> tuple[Account, ...]:
        """Return all accounts ever created, in order of creation."""

    def insert_account(
        self,
        *,
        name: str,
        role: Role,
        entities: Sequence[str],
        token_sha256: bytes,
        created_unix_milliseconds: int,
        expires_unix_milliseconds: int,
    ) -> Account: ...

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

    # --- machines that were forgotten
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

    def has_twin(self, agent_id: AgentId) -> bool:
        """Return whether another host has one of its pseudonyms."""

    def mark_shared_pseudonyms(self) -> None:
        """Store which hosts share a pseudonym, for `find_twins`."""

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


class Accounts(Protocol):
    """Accounts and their access journal. In the writer's thread; one job is one transaction."""

    def insert_account(
        self,
        *,
        name: str,
        role: Role,
        entities: Sequence[str],
        token_sha256: bytes,
        created_unix_milliseconds: int,
        expires_unix_milliseconds: int,
    ) -> Account: ...
    def accounts(self) -> tuple[Account, ...]:
        """Return all accounts ever created, in order of creation."""

    def account(self, account_id: int) -> Account | None: ...
    def revoke_account(self, token_sha256: bytes, now_unix_milliseconds: int) -> bool:
        """Revoke an account; False when none has this token."""

    def note_use(self, account_id: int, now_unix_milliseconds: int) -> None: ...
    def note_access(
        self, account_id: int, now_unix_milliseconds: int, *, route: str, query: str, status: int, rows: int
    ) -> None:
        """Add a journal line, or one to the count of this hour's line."""

    def accesses(
        self,
        since_unix_milliseconds: int,
        until_unix_milliseconds: int,
        *,
        account_id: int | None,
        limit: int,
    ) -> tuple[Access, ...]:
        """Return the newest first."""

    def expire_accesses(self, before_unix_milliseconds: int, limit: int) -> int:
        """Delete old lines, at most `limit`; return their number."""


class AccountReader(Protocol):
    """Accounts, read-only, in the web process."""

    def account_by_hash(self, token_sha256: bytes) -> Account | None:
        """Return the account as it is now."""

    def account_by_name(self, name: str) -> Account | None:
        """Return the newest account of this name that is not revoked."""

    def close(self) -> None: ...
