# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Authorises every call: gRPC keeps a connection open after its certificate has expired or was revoked.

Nothing is read from disk here. Certificates are parsed once per PEM. The access of each host is kept in
memory, and updated by each change of the registry (`put`).
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from veilleuse.collector import clock
from veilleuse.collector.enrolment.ca import Authority
from veilleuse.collector.enrolment.x509 import AgentCertificate
from veilleuse.collector.errors import NotAuthorised
from veilleuse.collector.model.hosts import Caller, Host, HostStatus
from veilleuse.collector.model.records import AgentId, HostId
from veilleuse.wire.vocabulary import Population

log = logging.getLogger(__name__)

_ADVICE = {
    HostStatus.PENDING: "this machine waits for an operator's approval",
    HostStatus.SUSPENDED: "this machine is suspended: ask the collector's operator",
    HostStatus.REVOKED: "this machine was revoked: enrol it again with a new join file",
    HostStatus.FORGOTTEN: "this machine was forgotten: enrol it again with a new join file",
}
_CONFLICT = (
    "a newer certificate of this machine was used already: it is a copy, or was set back; enrol it again "
    "with a new "
    "join file"
)
"""Two machines with one identity are never both served: docs/wire.md §6."""


@dataclass(frozen=True, slots=True)
class HostAccess:
    """Access of one agent, as recorded in the registry."""

    host_id: HostId
    population: Population
    status: HostStatus
    generation: int
    """Highest generation issued, as far as this registry knows; 0 when none."""
    used: int = 0
    """Highest generation shown in a call; 0 when none. The registry keeps that of Hellos across a restart."""


_FORGOTTEN: Final = HostAccess(HostId(0), Population.WORKSTATION, HostStatus.FORGOTTEN, 0)
"""Access of a forgotten machine, of which only the hash of its id is left."""


def agent_id_sha256(agent_id: bytes) -> bytes:
    """Return the hash that is kept of a forgotten machine; 32 bytes."""
    return hashlib.sha256(agent_id).digest()


class AccessTable:
    """Table of the access of all agents, in memory. Thread-safe: each entry is replaced as a whole."""

    def __init__(
        self, entries: Iterable[tuple[AgentId, HostAccess]] = (), forgotten: Iterable[bytes] = ()
    ) -> None:
        """`entries`: all agents of the registry at start; `forgotten`: results of `agent_id_sha256`."""
        self._entries = dict(entries)
        self._forgotten = set(forgotten)
        self._lock = threading.Lock()

    def get(self, agent_id: AgentId) -> HostAccess | None:
        """Return the access of an agent; None for an agent that was never enrolled here."""
        known = self._entries.get(agent_id)
        if known is None and agent_id_sha256(agent_id) in self._forgotten:
            return _FORGOTTEN
        return known

    def forget(self, agent_id: AgentId) -> None:
        """Keep only the hash of the agent's id; called in the writer's job that forgets the agent."""
        with self._lock:
            self._forgotten.add(agent_id_sha256(agent_id))
            self._entries.pop(agent_id, None)

    def add_host(self, host: Host, generation: int) -> None:
        """Add a host in the writer's job that enrols it, so that a following revocation finds it here."""
        with self._lock:
            self._entries.setdefault(
                host.agent_id, HostAccess(host.host_id, host.population, host.status, generation)
            )
        self.raise_generation(host.agent_id, generation)

    def set_status(self, agent_id: AgentId, status: HostStatus) -> None:
        """Set a status in the writer's job that stores it, so that changes keep the order of the store.

        If the commit fails, memory is ahead of the store until the next start. The operator is told of the
        failure.
        """
        with self._lock:
            known = self._entries.get(agent_id)
            if known is not None:
                self._entries[agent_id] = replace(known, status=status)

    def note_use(self, agent_id: AgentId, generation: int) -> None:
        """Record that a call showed a certificate of this generation."""
        with self._lock:
            known = self._entries.get(agent_id)
            if known is not None and generation > known.used:
                self._entries[agent_id] = replace(known, used=generation)

    def raise_generation(self, agent_id: AgentId, generation: int) -> None:
        """Record the generation of a certificate that was issued, or of a newer one that was shown."""
        with self._lock:
            known = self._entries.get(agent_id)
            if known is not None and generation > known.generation:
                self._entries[agent_id] = replace(known, generation=generation)


class CertificateAuthoriser:
    """Implements ports.Authoriser with the certificate authority and the access table."""

    def __init__(
        self,
        authority: Authority,
        access_table: AccessTable,
        *,
        now: Callable[[], datetime] = clock.now,
        on_collector_behind: Callable[[], None] = lambda: None,
        on_conflict: Callable[[HostAccess, AgentId], None] = lambda access, agent_id: None,
    ) -> None:
        """`on_collector_behind` is called once per agent whose certificate is newer than this registry.

        `on_conflict` is called on every call with a certificate older than one in use.
        """
        self._authority = authority
        self._access_table = access_table
        self._now = now
        self._on_collector_behind = on_collector_behind
        self._on_conflict = on_conflict

    def authorise(self, certificate_pem: bytes | None) -> Caller:
        """See ports.Authoriser. Raises NotAuthorised."""
        if not certificate_pem:
            raise NotAuthorised("no_certificate", "no certificate was shown: enrol this machine")
        certificate = self._authority.recognise(certificate_pem)
        now = self._now()
        if now >= certificate.not_after:
            raise NotAuthorised("expired", "the certificate has expired: renew it")
        if now < certificate.not_before:
            raise NotAuthorised("not_yet_valid", "the certificate is not valid yet: check the clocks")
        access = check_access(self._access_table.get(certificate.agent_id))
        if certificate.generation < access.used:
            self._on_conflict(access, certificate.agent_id)
            raise NotAuthorised("identity_conflict", _CONFLICT)
        if certificate.generation > access.used:
            self._access_table.note_use(certificate.agent_id, certificate.generation)
        if certificate.generation > access.generation:
            self._behind(certificate)
        return Caller(
            access.host_id,
            certificate.agent_id,
            access.population,
            certificate.serial,
            certificate.generation,
        )

    def _behind(self, certificate: AgentCertificate) -> None:
        # Signed by us, but newer than the registry: the registry was restored from a backup (docs/wire.md
        # §6).
        self._access_table.raise_generation(certificate.agent_id, certificate.generation)
        self._on_collector_behind()
        log.warning("certificate newer than the registry", extra={"generation": certificate.generation})


def check_access(access: HostAccess | None) -> HostAccess:
    """Return the access if it is active.

    Raises NotAuthorised: unknown_agent, pending, suspended, revoked, forgotten.
    """
    if access is None:
        raise NotAuthorised("unknown_agent", "this machine is not known here: enrol it again")
    if access.status is not HostStatus.ACTIVE:
        raise NotAuthorised(access.status.value, _ADVICE[access.status])
    return access
