# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Enrols a machine with a token. The use of the token, the host and its certificate are one transaction."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from veilleuse.collector.enrolment.issuing import IssuingContext
from veilleuse.collector.enrolment.register import HOST, RegisterEntry
from veilleuse.collector.enrolment.register_replay import host_facts
from veilleuse.collector.enrolment.tokens import (
    Address,
    FailureLimiter,
    check_token,
    token_sha256,
    used_token,
)
from veilleuse.collector.enrolment.x509 import public_key_sha256, read_request
from veilleuse.collector.errors import CollectorError, EnrolmentRefused, StoreFailing
from veilleuse.collector.model.clones import log_facts
from veilleuse.collector.model.hosts import Certificate, CertificateChain, Host, HostStatus, Token
from veilleuse.collector.model.records import AgentId
from veilleuse.wire.limits import AGENT_ID_BYTES
from veilleuse.wire.units import MILLISECONDS_PER_MINUTE
from veilleuse.wire.vocabulary import Population

log = logging.getLogger(__name__)

PENDING_RETRY_MILLISECONDS: Final = 15 * MILLISECONDS_PER_MINUTE
PSEUDONYM_BYTES: Final = 32
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Application:
    """Request data of a machine that enrols."""

    token: str = field(repr=False)
    """Empty for a clone of an enrolled machine."""
    certificate_request_der: bytes
    address: Address | None
    """Address of the caller; compared with the token's networks, then discarded."""
    chassis_pseudonym: bytes = b""
    smbios_pseudonym: bytes = b""
    """Each 32 bytes, or empty."""
    facts_wire: bytes | None = None
    """Encoded Facts, cleaned."""
    host_name: str | None = None


@dataclass(frozen=True, slots=True)
class EnrolResult:
    """Result of an enrolment."""

    host: Host
    chain: CertificateChain | None
    """None while an operator has to approve."""
    fresh: bool
    """False when the same machine had asked before."""

    @property
    def retry_after_milliseconds(self) -> int:
        """Wait before the next request; 0 when there is nothing to wait for."""
        return 0 if self.chain is not None else PENDING_RETRY_MILLISECONDS


class Enroller:
    """Enrols machines. Thread-safe."""

    def __init__(
        self,
        context: IssuingContext,
        limiter: FailureLimiter,
        on_failure: Callable[[str], None] = lambda reason: None,
        on_joined: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        """`on_failure` counts rejections by reason, `on_joined` answers by outcome: fresh, again, pending."""
        self._context = context
        self._placing = HostPlacement(context)
        self._limiter = limiter
        self._on_failure = on_failure
        self._on_joined = on_joined

    def join(self, application: Application) -> EnrolResult:
        """Enrol a machine. Idempotent on (token, public key) for 10 minutes.

        Raises EnrolmentRefused: rate_limited, bad_request, unknown_token, revoked_token, wrong_network,
        expired_token, used_token, suspended, revoked, forgotten. Raises StoreFull or StoreFailing when
        nothing could be written.
        """
        try:
            self._require_try(application)
            key = read_request(application.certificate_request_der)
            joined = self._context.commit_with_register(lambda note: self._join(application, key, note))
        except EnrolmentRefused as error:
            self._on_failure(error.reason)
            if error.reason != "rate_limited":
                self._limiter.count_failure(application.address)
            raise
        self._on_joined("pending" if joined.chain is None else "fresh" if joined.fresh else "again")
        return joined

    def _require_try(self, application: Application) -> None:
        """Raise EnrolmentRefused (rate_limited) when the address has no try left and the token is invalid.

        A whole college enrols from one address: a known token is no guess, whoever guessed before. A guess
        then costs only one look-up by its hash.
        """
        try:
            self._limiter.check(application.address)
        except EnrolmentRefused as limited:
            hashed, registry = token_sha256(application.token), self._context.registry
            found = self._context.commit(lambda: registry.token_by_hash(hashed))
            try:
                check_token(found, application.address, self._context.now_unix_milliseconds(), known_key=True)
            except EnrolmentRefused:
                raise limited from None

    def _join(
        self, application: Application, key: ec.EllipticCurvePublicKey, note: RegisterEntry
    ) -> EnrolResult:
        """Run in one job of the writer: all changes below are committed together, or not at all."""
        registry, now = self._context.registry, self._context.now_unix_milliseconds()
        found = registry.token_by_hash(token_sha256(application.token))
        bound = registry.certificate_by_token(found.token_id, public_key_sha256(key)) if found else None
        token = check_token(found, application.address, now, known_key=bound is not None)
        if bound is not None:
            return self._placing.answer_again(bound, key)
        if not registry.use_token(token.token_id, now):
            raise used_token()
        status = HostStatus.PENDING if token.approve else HostStatus.ACTIVE
        return self._placing.place(application, key, token, status, note)


class HostPlacement:
    """Places a machine according to its token. Used in jobs of the writer."""

    def __init__(self, context: IssuingContext) -> None:
        self._context = context

    def place(
        self,
        application: Application,
        key: ec.EllipticCurvePublicKey,
        token: Token,
        status: HostStatus,
        note: RegisterEntry,
        original: Host | None = None,
    ) -> EnrolResult:
        """Create a host with its first certificate, which a pending host receives after approval."""
        registry = self._context.registry
        host = self._new_host(application, token, status, original)
        certificate = self._context.issue(key, host, 1, token_id=token.token_id)
        used = registry.token_of_host(host.host_id) or token
        note(HOST, **host_facts(host, used, original))
        # Last: identity.db is another file, and its changes cannot be undone with the rest of this job.
        self._keep_identity(host.agent_id, host.population, application)
        return self._make_result(host, certificate, fresh=True)

    def answer_again(self, bound: Certificate, key: ec.EllipticCurvePublicKey) -> EnrolResult:
        """Answer the same machine again: its answer was lost, or it comes back after its approval."""
        registry = self._context.registry
        host, latest = registry.host(bound.host_id), registry.latest_certificate(bound.host_id)
        if host is None or latest is None:
            raise StoreFailing("the registry lost a host: run 'veilleuse doctor'")
        if host.status not in (HostStatus.ACTIVE, HostStatus.PENDING):
            raise EnrolmentRefused(
                host.status.value, f"this machine is {host.status.value}: ask the collector's operator"
            )
        same_key = latest.public_key_sha256 == bound.public_key_sha256
        recent = same_key and self._context.is_recent(latest, host.population)
        if host.status is HostStatus.ACTIVE and not recent:
            # Only a machine that waited for approval never got its first certificate: it gets one now.
            if not (self._needed_approval(host) and latest.serial == bound.serial):
                raise used_token()
            latest = self._context.issue(key, host, latest.generation + 1, previous_serial=bound.serial)
        return self._make_result(host, latest, fresh=False)

    def _needed_approval(self, host: Host) -> bool:
        """Return True when an operator may have had to approve the host."""
        token = self._context.registry.token_of_host(host.host_id)
        return host.copy_of is not None or (token is not None and token.approve)

    def _make_result(self, host: Host, certificate: Certificate, *, fresh: bool) -> EnrolResult:
        self._context.access_table.add_host(host, certificate.generation)
        chain = self._context.chain(certificate) if host.status is HostStatus.ACTIVE else None
        return EnrolResult(host, chain, fresh)

    def _new_host(
        self, application: Application, token: Token, status: HostStatus, original: Host | None
    ) -> Host:
        """Create the host where the token places it; a clone where its original is."""
        registry, agent_id = self._context.registry, AgentId(secrets.token_bytes(AGENT_ID_BYTES))
        placement = token if original is None else original
        host_id = registry.insert_host(
            agent_id=agent_id,
            token_id=token.token_id,
            org_entity=placement.org_entity,
            site=placement.site,
            population=placement.population,
            status=status,
            enrolled_on=self._context.now().date(),
            facts_wire=application.facts_wire,
            copy_of=original.host_id if original else None,
        )
        host = registry.host(host_id)
        if host is None:
            raise CollectorError("the host just written cannot be read: run 'veilleuse doctor'")
        return host

    def _keep_identity(self, agent_id: AgentId, population: Population, application: Application) -> None:
        """Store names and pseudonyms in identity.db.

        The name of a workstation or classroom PC is dropped here.
        """
        registry = self._context.registry
        chassis, smbios = (
            pseudonym if len(pseudonym) == PSEUDONYM_BYTES else b""
            for pseudonym in (application.chassis_pseudonym, application.smbios_pseudonym)
        )
        if chassis or smbios:
            registry.put_pseudonyms(agent_id, chassis, smbios)
            if registry.has_twin(agent_id):
                registry.mark_shared_pseudonyms()
                log.info(
                    "a machine installed again, or two identities in use: 'veilleuse doctor' tells from tomorrow",
                    extra=log_facts(population, agent_id),
                )
        name = application.host_name
        if population is Population.SERVER and name and _HOST_NAME.fullmatch(name):
            registry.put_name(agent_id, name)
