# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Gives a clone of an enrolled machine its own identity: docs/wire.md §7, decision 0017.

The clone holds the original's key and can prove no more than a thief of that key could. It therefore waits
for an operator, unless the original's token was created to admit clones. It is placed where the original is,
and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from veilleuse.collector.enrolment.authorise import check_access
from veilleuse.collector.enrolment.enrol import Application, EnrolResult, HostPlacement
from veilleuse.collector.enrolment.issuing import EXPIRED_LIMIT, Challenges, IssuingContext
from veilleuse.collector.enrolment.register import RegisterEntry
from veilleuse.collector.enrolment.tokens import Address, FailureLimiter, check_token
from veilleuse.collector.enrolment.x509 import public_key_sha256, read_request, verify_signature
from veilleuse.collector.errors import EnrolmentRefused, NotAuthorised, StoreFailing
from veilleuse.collector.ingest.admission import Buckets
from veilleuse.collector.model.hosts import Host, HostStatus, Token
from veilleuse.collector.model.records import AgentId
from veilleuse.wire.renewal import copy_of_message

log = logging.getLogger(__name__)

MAX_PENDING_COPIES: Final = 1_000
"""Limit per original: a thief of its key must not fill the list."""


def copy_buckets() -> Buckets:
    """Return buckets per original.

    A hundred at once (a classroom started from one image), then one a second.
    """
    return Buckets(100, 1.0)


@dataclass(frozen=True, slots=True)
class CopyProof:
    """Proof that the caller holds an enrolled machine's key: telemetry.proto, CopyOf."""

    agent_id: AgentId
    nonce: bytes
    certificate_der: bytes
    signature_der: bytes


class CloneEnrolment:
    """Enrols clones. Thread-safe."""

    def __init__(
        self,
        context: IssuingContext,
        limiter: FailureLimiter,
        challenges: Challenges,
        on_failure: Callable[[str], None] = lambda reason: None,
        on_joined: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        """`limiter` is that of Enroller. `on_failure` counts rejections by reason.

        `on_joined` counts answers by outcome: fresh, again, pending.
        """
        self._context = context
        self._placing = HostPlacement(context)
        self._limiter = limiter
        self._challenges = challenges
        self._buckets = copy_buckets()
        self._on_failure = on_failure
        self._on_joined = on_joined

    def join(self, proof: CopyProof, application: Application) -> EnrolResult:
        """Enrol a clone. Idempotent on (the original's token, public key), like Enroller.

        Raises EnrolmentRefused: rate_limited, bad_request, bad_nonce, key_reused, used_token,
        too_many_copies, suspended, revoked. Raises NotAuthorised: not_an_agent, not_ours, other_agent,
        bad_signature, expired_too_long, unknown_agent, pending, suspended, revoked, forgotten. Raises
        StoreFull or StoreFailing when nothing could be written.
        """
        try:
            self._require_try(proof, application)
            key = self._verify_proof(proof, application)
            joined = self._context.commit_with_register(
                lambda note: self._join(proof.agent_id, application, key, note)
            )
        except (EnrolmentRefused, NotAuthorised) as error:
            self._on_failure(error.reason)
            if error.reason != "rate_limited":
                self._limiter.count_failure(application.address)
            raise
        self._on_joined("pending" if joined.chain is None else "fresh" if joined.fresh else "again")
        return joined

    def _require_try(self, proof: CopyProof, application: Application) -> None:
        """Raise EnrolmentRefused (rate_limited) when the address has no try left and the original is unknown.

        A caller that names an enrolled machine is allowed to try: its signature is checked, as in
        RenewExpired.
        """
        try:
            self._limiter.check(application.address)
        except EnrolmentRefused:
            if self._context.access_table.get(proof.agent_id) is None:
                raise

    def _verify_proof(self, proof: CopyProof, application: Application) -> ec.EllipticCurvePublicKey:
        """Return the new key, after the caller proved that it holds the original's."""
        key = read_request(application.certificate_request_der)
        held = self._context.authority.recognise(proof.certificate_der)
        if held.agent_id != proof.agent_id:
            raise NotAuthorised("other_agent", "the certificate is another machine's")
        message = copy_of_message(proof.nonce, application.certificate_request_der)
        if not verify_signature(held.public_key, proof.signature_der, message):
            raise NotAuthorised("bad_signature", "the request is not signed by the certificate's key")
        if not self._buckets.take(proof.agent_id):
            raise EnrolmentRefused("rate_limited", "too many copies of this machine at once: wait a minute")
        self._challenges.redeem(proof.agent_id, proof.nonce)
        if self._context.now() > held.not_after + EXPIRED_LIMIT:
            raise NotAuthorised(
                "expired_too_long", "the certificate ended more than 400 days ago: enrol this machine again"
            )
        if public_key_sha256(key) == held.public_key_sha256:
            raise EnrolmentRefused("key_reused", "a copy needs a key of its own: make one")
        return key

    def _join(
        self, agent_id: AgentId, application: Application, key: ec.EllipticCurvePublicKey, note: RegisterEntry
    ) -> EnrolResult:
        """Run in one job of the writer: all changes below are committed together, or not at all."""
        registry = self._context.registry
        original = registry.host_by_agent_id(agent_id)
        token = registry.token_of_host(original.host_id) if original else None
        bound = registry.certificate_by_token(token.token_id, public_key_sha256(key)) if token else None
        if bound is not None:
            return self._placing.answer_again(bound, key)
        check_access(self._context.access_table.get(agent_id))
        if original is None or token is None:
            raise StoreFailing("the registry does not have this host yet: try again")
        status = self._status(token, original, application.address)
        joined = self._placing.place(application, key, token, status, note, original)
        log.warning(
            "copy of an enrolled machine",
            extra={"status": status.value, "site": original.site, "population": original.population.value},
        )
        return joined

    def _status(self, token: Token, original: Host, address: Address | None) -> HostStatus:
        """Return ACTIVE when the original's token admits clones and is valid, and count one use of it.

        Else return PENDING for an operator, and use nothing up: a thief of a key must not exhaust a token.
        """
        registry = self._context.registry
        if token.admit_copies and not token.approve and self._use_token(token, address):
            return HostStatus.ACTIVE
        if registry.count_copies(original.host_id, HostStatus.PENDING) >= MAX_PENDING_COPIES:
            raise EnrolmentRefused(
                "too_many_copies", "too many copies of this machine wait for approval: ask the operator"
            )
        return HostStatus.PENDING

    def _use_token(self, token: Token, address: Address | None) -> bool:
        """Return True when the token admitted the clone, and count the use."""
        now = self._context.now_unix_milliseconds()
        try:
            check_token(token, address, now)
        except EnrolmentRefused:
            return False
        return self._context.registry.use_token(token.token_id, now)
