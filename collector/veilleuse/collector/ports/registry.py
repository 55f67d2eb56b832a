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


class Accounts(Protocol):
    """Accounts and their access journal. In the writer's thread; what one job does is one transaction."""

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
        """All that ever were, in the order they were made."""

    def account(self, account_id: int) -> Account | None: ...
    def revoke_account(self, token_sha256: bytes, now_unix_milliseconds: int) -> bool:
        """False when there is none with this token."""

    def note_use(self, account_id: int, now_unix_milliseconds: int) -> None: ...
    def note_access(
        self, account_id: int, now_unix_milliseconds: int, *, route: str, query: str, status: int, rows: int
    ) -> None:
        """One line of the journal, or one more on the line of this hour."""

    def accesses(
        self,
        since_unix_milliseconds: int,
        until_unix_milliseconds: int,
        *,
        account_id: int | None,
        limit: int,
    ) -> tuple[Access, ...]:
        """The newest first."""

    def expire_accesses(self, before_unix_milliseconds: int, limit: int) -> int:
        """How many went, at most `limit`."""


class AccountReader(Protocol):
    """Read-only, in the web process."""

    def account_by_hash(self, token_sha256: bytes) -> Account | None:
        """As it is this moment."""

    def close(self) -> None: ...
