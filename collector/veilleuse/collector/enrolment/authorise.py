# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Who may call, decided on every call: gRPC keeps serving a connection whose certificate has expired or was revoked.

Nothing is read from disk here: certificates are parsed once per PEM, and what the registry says of each host is kept
in memory, refreshed by whoever changes it (`put`).
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

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
    "a newer certificate of this machine was used already: it is a copy, or was set back; enrol it again with a new "
    "join file"
)
"""Two holders of one identity are never served both: docs/wire.md §6."""


@dataclass(frozen=True, slots=True)
class HostAccess:
    """What the registry says of one agent."""

    host_id: HostId
    population: Population
    status: HostStatus
    generation: int
    """Highest generation issued, as far as this registry knows; 0 when none."""
    used: int = 0
    """Highest generation a call came with; 0 when none. The registry keeps those of Hellos across a restart."""


_FORGOTTEN: Final = HostAccess(HostId(0), Population.WORKSTATION, HostStatus.FORGOTTEN, 0)
"""Of whom it was, nothing is known any more."""


def agent_id_sha256(agent_id: bytes) -> bytes:
    """All that is left of a forgotten machine; 32 bytes."""
    return hashlib.sha256(agent_id).digest()


class Standings:
    """The in-memory map of all agents. Thread-safe: each entry is replaced as a whole."""

    def __init__(
        self, entries: Iterable[tuple[AgentId, HostAccess]] = (), forgotten: Iterable[bytes] = ()
    ) -> None:
        """`entries`: all that the registry knows at start; `forgotten`: hashes of agent ids, as `agent_id_sha256`."""
        self._entries = dict(entries)
        self._forgotten = set(forgotten)
        self._lock = threading.Lock()

    def get(self, agent_id: AgentId) -> HostAccess | None:
        """None for an agent nobody enrolled here."""
        known = self._entries.get(agent_id)
        if known is None and agent_id_sha256(agent_id) in self._forgotten:
            return _FORGOTTEN
        return known

    def forget(self, agent_id: AgentId) -> None:
        """Nothing but the hash of its id is left; inside the writer's job that forgets it."""
        with self._lock:
            self._forgotten.add(agent_id_sha256(agent_id))
            self._entries.pop(agent_id, None)

    def add_host(self, host: Host, generation: int) -> None:
        """Inside the writer's job that enrols it, like `set_status`: a revocation that follows finds it here."""
        with self._lock:
            self._entries.setdefault(
                host.agent_id, HostAccess(host.host_id, host.population, host.status, generation)
            )
        self.raise_generation(host.agent_id, generation)

    def set_status(self, agent_id: AgentId, status: HostStatus) -> None:
        """Inside the writer's job that stores it, so that the order of changes is the store's.

        Should the commit fail, memory is ahead of the store until the next start, and the operator was told of the failure.
        """
        with self._lock:
            known = self._entries.get(agent_id)
            if known is not None:
                self._entries[agent_id] = replace(known, status=status)

    def note_use(self, agent_id: AgentId, generation: int) -> None:
        """A call came with a certificate of this generation."""
        with self._lock:
            known = self._entries.get(agent_id)
            if known is not None and generation > known.used:
                self._entries[agent_id] = replace(known, used=generation)

    def raise_generation(self, agent_id: AgentId, generation: int) -> None:
        """After a certificate was issued, or a newer one was seen."""
        with self._lock:
            known = self._entries.get(agent_id)
            if known is not None and generation > known.generation:
                self._entries[agent_id] = replace(known, generation=generation)


class CertificateAuthoriser:
    """ports.Authoriser from the certificate authority and the standings."""

    def __init__(
        self,
        authority: Authority,
        standings: Standings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_collector_behind: Callable[[], None] = lambda: None,
        on_conflict: Callable[[HostAccess, AgentId], None] = lambda standing, agent_id: None,
    ) -> None:
        """`on_collector_behind`: called once per agent whose certificate is newer than this registry. `on_conflict`: on
        every call of a holder whose certificate is older than one in use."""
        self._authority = authority
        self._standings = standings
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
        standing = check_standing(self._standings.get(certificate.agent_id))
        if certificate.generation < standing.used:
            self._on_conflict(standing, certificate.agent_id)
            raise NotAuthorised("identity_conflict", _CONFLICT)
        if certificate.generation > standing.used:
            self._standings.note_use(certificate.agent_id, certificate.generation)
        if certificate.generation > standing.generation:
            self._behind(certificate)
        return Caller(
            standing.host_id,
            certificate.agent_id,
            standing.population,
            certificate.serial,
            certificate.generation,
        )

    def _behind(self, certificate: AgentCertificate) -> None:
        # Signed by us, yet newer than all we remember: this registry was restored from a backup (docs/wire.md §6).
        self._standings.raise_generation(certificate.agent_id, certificate.generation)
        self._on_collector_behind()
        log.warning("certificate newer than the registry", extra={"generation": certificate.generation})


def check_standing(standing: HostAccess | None) -> HostAccess:
    """The standing, when it is active. Raises NotAuthorised: unknown_agent, pending, suspended, revoked, forgotten."""
    if standing is None:
        raise NotAuthorised("unknown_agent", "this machine is not known here: enrol it again")
    if standing.status is not HostStatus.ACTIVE:
        raise NotAuthorised(standing.status.value, _ADVICE[standing.status])
    return standing
