# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Issues certificates in jobs of the writer, and renews them: Renew before they end, RenewExpired after.
docs/wire.md §6.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from veilleuse.collector import clock
from veilleuse.collector.enrolment.authorise import AccessTable, check_access
from veilleuse.collector.enrolment.ca import Authority
from veilleuse.collector.enrolment.register import Register, RegisterEntry
from veilleuse.collector.enrolment.x509 import (
    AgentCertificate,
    public_key_sha256,
    read_request,
    verify_signature,
)
from veilleuse.collector.errors import EnrolmentRefused, NotAuthorised, StoreFailing
from veilleuse.collector.ingest.admission import Buckets
from veilleuse.collector.model.hosts import Caller, Certificate, CertificateChain, Host
from veilleuse.collector.model.records import AgentId
from veilleuse.collector.ports.registry import Registry
from veilleuse.collector.ports.stages import Committer
from veilleuse.wire.limits import AGENT_ID_BYTES
from veilleuse.wire.renewal import renew_expired_message
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_MINUTE, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

T = TypeVar("T")

COMMIT_SECONDS: Final = 15.0
"""Longest wait for the writer: the deadline of a call (docs/wire.md §3)."""
IDEMPOTENCE_MILLISECONDS: Final = 10 * MILLISECONDS_PER_MINUTE


@dataclass(frozen=True, slots=True)
class IssuingContext:
    """Dependencies of issuing. Thread-safe."""

    authority: Authority
    access_table: AccessTable
    registry: Registry
    """Used only in jobs of the writer."""
    writer: Committer
    register: Register
    """Appended to only in jobs of the writer."""
    now: Callable[[], datetime] = clock.now

    def now_unix_milliseconds(self) -> int:
        """Return the present Unix time in milliseconds."""
        return unix_milliseconds(self.now())

    def commit(self, job: Callable[[], T]) -> T:
        """Run a job in the writer's thread and wait until it is durable. Raises its error or StoreFailing."""
        try:
            return self.writer.submit(job).result(COMMIT_SECONDS)
        except (TimeoutError, CancelledError) as error:
            raise StoreFailing("the store did not answer in time: try again") from error

    def commit_with_register(self, job: Callable[[RegisterEntry], T]) -> T:
        """Run a job that admits or excludes machines; it notes each in the register before the commit."""
        notes = RegisterEntry(self.register, self.registry.put_meta)
        result = self.commit(lambda: job(notes))
        notes.confirm()
        return result

    def issue(
        self,
        key: ec.EllipticCurvePublicKey,
        host: Host,
        generation: int,
        *,
        token_id: int | None = None,
        previous_serial: str | None = None,
    ) -> Certificate:
        """Issue and record a certificate. Call it in a job of the writer."""
        issued = self.authority.issue(key, host.agent_id, host.population, generation)
        certificate = Certificate(
            serial=issued.facts.serial,
            host_id=host.host_id,
            generation=generation,
            public_key_sha256=issued.facts.public_key_sha256,
            certificate_der=issued.certificate_der,
            issued_unix_milliseconds=store_moment(self.now_unix_milliseconds(), host.population),
            not_after_unix_milliseconds=unix_milliseconds(issued.facts.not_after),
            token_id=token_id,
            previous_serial=previous_serial,
        )
        self.registry.insert_certificate(certificate)
        return certificate

    def chain(self, certificate: Certificate) -> CertificateChain:
        """Return a certificate with its chain, as sent to an agent."""
        intermediates, roots = self.authority.bundle(certificate.certificate_der)
        return CertificateChain(certificate.certificate_der, intermediates, roots)

    def is_good(self, certificate: Certificate) -> bool:
        """Return True when a certificate may be sent again.

        Not expired, and from the present intermediate.
        """
        return (
            certificate.not_after_unix_milliseconds > self.now_unix_milliseconds()
            and self.authority.is_current(certificate.certificate_der)
        )

    def is_recent(self, certificate: Certificate, population: Population) -> bool:
        """Return True when a certificate is recent enough to be sent again.

        The limit is 10 minutes, or the same UTC day where only the day is stored.
        """
        now = self.now_unix_milliseconds()
        if population is Population.SERVER:
            return now - certificate.issued_unix_milliseconds <= IDEMPOTENCE_MILLISECONDS
        return store_moment(now, population) == certificate.issued_unix_milliseconds


def unix_milliseconds(moment: datetime) -> int:
    """Return the Unix time of an aware datetime."""
    return round(moment.timestamp() * MILLISECONDS_PER_SECOND)


def store_moment(moment_unix_milliseconds: int, population: Population) -> int:
    """Return a time as the store may keep it: only the UTC day, except on servers (docs/privacy.md §1)."""
    if population is Population.SERVER:
        return moment_unix_milliseconds
    return moment_unix_milliseconds - moment_unix_milliseconds % MILLISECONDS_PER_DAY


EXPIRED_LIMIT: Final = timedelta(days=400)
NONCE_SECONDS: Final = 60.0
KEPT_GENERATIONS: Final = 8
"""Generations kept before the last one of each host.

Endless renewals then fill no disk, and the answer to a lost call is still found.
"""
RETURNS_AT_ONCE: Final = 10
RETURN_SECONDS: Final = 60.0
"""Limit of RenewExpired per machine: ten at once, then one a minute.

A machine needs one, or a few when answers are lost.
"""
_CLOCK_BYTES, _RANDOM_BYTES, _MAC_BYTES = 8, 8, 16


class Renewal:
    """Implements ports.Renewer, and renewal after expiry. Thread-safe."""

    def __init__(
        self,
        context: IssuingContext,
        challenges: Challenges,
        on_expired_renewal: Callable[[], None] = lambda: None,
        monotonic_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_expired_renewal` counts machines that came back after their certificate had ended."""
        self._context = context
        self._challenges = challenges
        self._on_expired_renewal = on_expired_renewal
        self._buckets = Buckets(RETURNS_AT_ONCE, RETURN_SECONDS, monotonic_seconds)

    def renew(self, caller: Caller, certificate_request_der: bytes) -> CertificateChain:
        """See ports.Renewer."""
        key = read_request(certificate_request_der)
        return self._renew(caller.agent_id, caller.serial, caller.generation, key)

    def renew_expired(
        self,
        *,
        agent_id: AgentId,
        nonce: bytes,
        certificate_der: bytes,
        signature_der: bytes,
        certificate_request_der: bytes,
    ) -> CertificateChain:
        """Replace an expired certificate, up to 400 days after its end, for the holder of its key.

        Raises NotAuthorised: not_an_agent, not_ours, other_agent, bad_signature, expired_too_long,
        superseded, unknown_agent, pending, suspended, revoked, forgotten. Raises EnrolmentRefused:
        bad_request, key_reused, rate_limited, bad_nonce.
        """
        key = read_request(certificate_request_der)
        held = self._context.authority.recognise(certificate_der)
        if held.agent_id != agent_id:
            raise NotAuthorised("other_agent", "the certificate is another machine's")
        message = renew_expired_message(nonce, certificate_request_der)
        if not verify_signature(held.public_key, signature_der, message):
            raise NotAuthorised("bad_signature", "the request is not signed by the certificate's key")
        if not self._buckets.take(agent_id):  # only a holder of the key gets here
            raise EnrolmentRefused("rate_limited", "this machine comes back too often: wait a minute")
        self._challenges.redeem(agent_id, nonce)
        if self._context.now() > held.not_after + EXPIRED_LIMIT:
            raise NotAuthorised(
                "expired_too_long", "the certificate ended more than 400 days ago: enrol this machine again"
            )
        self._require_current(held)
        chain = self._renew(agent_id, held.serial, held.generation, key)
        self._on_expired_renewal()
        return chain

    def _require_current(self, held: AgentCertificate) -> None:
        access = check_access(self._context.access_table.get(held.agent_id))
        # The one before the last is valid too, unless the last was used: its answer may have been lost.
        if held.generation < max(access.generation - 1, access.used):
            raise NotAuthorised("superseded", "a newer certificate of this machine exists: enrol it again")

    def _renew(
        self, agent_id: AgentId, serial: str, generation: int, key: ec.EllipticCurvePublicKey
    ) -> CertificateChain:
        certificate = self._context.commit(lambda: self._issue(agent_id, serial, generation, key))
        self._context.access_table.raise_generation(agent_id, certificate.generation)
        return self._context.chain(certificate)

    def _issue(
        self, agent_id: AgentId, serial: str, generation: int, key: ec.EllipticCurvePublicKey
    ) -> Certificate:
        """Run in one job of the writer.

        The status is checked again: a revocation may just have been committed.
        """
        registry, key_sha256 = self._context.registry, public_key_sha256(key)
        host = registry.host_by_agent_id(agent_id)
        check_access(self._context.access_table.get(agent_id))
        if host is None:
            raise StoreFailing("the registry does not have this host yet: try again")
        given = registry.certificate_by_previous(serial, key_sha256)
        if given is not None and self._context.is_good(given):
            return given
        current = registry.certificate_by_serial(serial)
        if current is not None and current.public_key_sha256 == key_sha256:
            raise EnrolmentRefused("key_reused", "a renewal needs a new key: make one")
        latest = registry.latest_certificate(host.host_id)
        following = max(generation, latest.generation if latest else 0) + 1
        registry.trim_certificates(host.host_id, following - KEPT_GENERATIONS)
        return self._context.issue(key, host, following, previous_serial=serial)


class Challenges:
    """Nonces that need no memory until their use: each carries its time and a MAC, bound to one agent id.

    Only used nonces are remembered, for the minute of their validity. Only signed requests use a nonce.
    """

    def __init__(self, monotonic_seconds: Callable[[], float] = time.monotonic) -> None:
        """`monotonic_seconds`: a clock that only goes forward."""
        self._now = monotonic_seconds
        self._key = secrets.token_bytes(32)
        self._used: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def issue(self, agent_id: bytes) -> bytes:
        """Create a nonce of 32 bytes, valid for one minute and one use.

        Raises EnrolmentRefused for a bad agent id.
        """
        if len(agent_id) != AGENT_ID_BYTES:
            raise EnrolmentRefused("bad_request", f"an agent id has {AGENT_ID_BYTES} bytes")
        clock = round(self._now() * MILLISECONDS_PER_SECOND).to_bytes(_CLOCK_BYTES, "big")
        head = clock + secrets.token_bytes(_RANDOM_BYTES)
        return head + self._mac(agent_id, head)

    def redeem(self, agent_id: bytes, nonce: bytes) -> None:
        """Use up a nonce.

        Raises EnrolmentRefused (bad_nonce) when it is foreign, another agent's, too old or used.
        """
        head, mac = nonce[: _CLOCK_BYTES + _RANDOM_BYTES], nonce[_CLOCK_BYTES + _RANDOM_BYTES :]
        now = self._now()
        age_seconds = now - int.from_bytes(head[:_CLOCK_BYTES], "big") / MILLISECONDS_PER_SECOND
        good = hmac.compare_digest(mac, self._mac(agent_id, head)) and age_seconds <= NONCE_SECONDS
        with self._lock:
            while self._used and next(iter(self._used.values())) <= now:
                self._used.popitem(last=False)
            if not good or nonce in self._used:
                raise EnrolmentRefused("bad_nonce", "the nonce is too old or was used: ask for another")
            self._used[nonce] = now + NONCE_SECONDS

    def _mac(self, agent_id: bytes, head: bytes) -> bytes:
        return hmac.digest(self._key, agent_id + head, "sha256")[:_MAC_BYTES]
