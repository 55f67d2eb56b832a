# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How an agent gets a certificate: the first one, the next one, and one after the last has expired. docs/wire.md §6.

The logic alone: calls and keys come in through protocols, so that grpc and cryptography stay behind `sending/process.py`.
The key is on disk before the call: an answer that is lost is asked for again with the same key.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from veilleuse.agent.errors import CollectorAway, IdentityError, RequestRefused
from veilleuse.agent.identity.store import Identity, IdentityStore, Placement, ders_of
from veilleuse.wire.limits import AGENT_ID_BYTES, AGENT_ID_DIGITS
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

log = logging.getLogger(__name__)

_NONCE_BYTES: Final = 32
USED_TOKEN: Final = "used_token"
"""docs/wire.md."""


class EnrolmentApi(Protocol):
    """The three calls of :8642. Each raises CollectorAway, IdentityError or RequestRefused."""

    def enrol(self, request: pb.EnrolRequest) -> pb.EnrolResponse:
        """First identity, against a token."""

    def challenge(self, request: pb.ChallengeRequest) -> pb.ChallengeResponse:
        """A nonce to sign."""

    def renew_expired(self, request: pb.RenewExpiredRequest) -> pb.RenewExpiredResponse:
        """A certificate against the signed nonce."""


class Keys(Protocol):
    """What the module `keys` offers."""

    def new_key_pem(self) -> bytes: ...
    def request_der(self, key_pem: bytes) -> bytes: ...
    def sign_renew_expired(self, key_pem: bytes, nonce: bytes, certificate_request_der: bytes) -> bytes: ...
    def sign_copy_of(self, key_pem: bytes, nonce: bytes, certificate_request_der: bytes) -> bytes: ...
    def checked_validity(
        self,
        certificate_der: bytes,
        intermediates_der: list[bytes],
        roots_der: list[bytes],
        key_pem: bytes,
        trusted_der: list[bytes],
    ) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class Trust:
    """The CAs that may bring others."""

    roots_pem: bytes
    """Trusted already: the join file's, or those of the identity."""
    pinned: frozenset[str] = frozenset()
    """SHA-256 of more, as `collector.ca_sha256` names them."""

    def among(self, roots_der: Iterable[bytes]) -> list[bytes]:
        """All that is trusted, given what the collector sent; DER."""
        known = ders_of(self.roots_pem)
        return known + [der for der in roots_der if hashlib.sha256(der).hexdigest() in self.pinned]


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a machine says of itself when it enrols."""

    token: str = field(repr=False)
    """Empty for a copy: it shows whose it is instead."""
    facts: pb.Facts
    chassis_pseudonym: bytes = b""
    """32 bytes; empty when opted out or not readable."""
    smbios_pseudonym: bytes = b""
    """32 bytes; empty likewise."""
    host_name: str = ""
    """Empty unless the local file allows it."""


def enrol(
    desk: EnrolmentApi,
    keys: Keys,
    store: IdentityStore,
    introduction: Introduction,
    place_of: Callable[[pb.Placement], Placement],
    trust: Trust,
    original: Identity | None = None,
) -> Identity:
    """An identity of its own, kept in `store`: against the token, or with `original` as that machine's copy.

    Raises CollectorAway, also while an operator has to approve, or IdentityError.
    """
    key_pem = _request_key(keys, store)
    request = pb.EnrolRequest(
        token=introduction.token,
        certificate_request_der=keys.request_der(key_pem),
        chassis_pseudonym=introduction.chassis_pseudonym,
        smbios_pseudonym=introduction.smbios_pseudonym,
        facts=introduction.facts,
    )
    if introduction.host_name:
        request.host_name = introduction.host_name
    if original is not None:
        request.copy_of.CopyFrom(_copy_of(desk, keys, original, request.certificate_request_der))
    with _key_may_be_refused(store):
        answer = desk.enrol(request)
    if len(answer.agent_id) != AGENT_ID_BYTES:
        raise IdentityError("the collector gave an agent id that is not 16 bytes: upgrade one of the two")
    if not answer.HasField("certificate"):
        raise CollectorAway(
            f"this machine waits for an operator's approval: `veilleuse hosts activate {answer.agent_id.hex()[:AGENT_ID_DIGITS]}`; "
            "it asks again by itself while the service runs, else run the same command again",
            answer.retry_after_milliseconds,
        )
    place = place_of(answer.placement)
    validity = _validity(keys, answer.certificate, key_pem, trust)
    store.keep_place(answer.agent_id, place)
    _keep(store, answer.certificate, validity)
    return store.load()


def renew(
    call: Callable[[pb.RenewRequest], pb.RenewResponse],
    keys: Keys,
    store: IdentityStore,
    pinned: frozenset[str] = frozenset(),
) -> Identity:
    """The next certificate, with a new key, while the present one is valid. `pinned` as in Trust."""
    trust = Trust(store.load().roots_pem, pinned)
    key_pem = _request_key(keys, store)
    with _key_may_be_refused(store):
        answer = call(pb.RenewRequest(certificate_request_der=keys.request_der(key_pem)))
    _keep(store, answer.certificate, _validity(keys, answer.certificate, key_pem, trust))
    log.info("certificate renewed")
    return store.load()


def renew_expired(
    desk: EnrolmentApi, keys: Keys, store: IdentityStore, pinned: frozenset[str] = frozenset()
) -> Identity:
    """The next certificate after the present one expired: the collector's nonce signed with the bound key."""
    identity = store.load()
    key_pem = _request_key(keys, store)
    request_der = keys.request_der(key_pem)
    nonce = _nonce(desk, identity)
    request = pb.RenewExpiredRequest(
        agent_id=identity.agent_id,
        nonce=nonce,
        certificate_der=identity.leaf_der(),
        signature_der=keys.sign_renew_expired(identity.key_pem, nonce, request_der),
        certificate_request_der=request_der,
    )
    with _key_may_be_refused(store):
        answer = desk.renew_expired(request)
    trust = Trust(identity.roots_pem, pinned)
    _keep(store, answer.certificate, _validity(keys, answer.certificate, key_pem, trust))
    log.info("expired certificate renewed")
    return store.load()


def population_word(number: int) -> str:
    """The word of the vocabulary. Raises IdentityError on anything else."""
    name = pb.Population.Name(number) if number in pb.Population.values() else ""
    try:
        return Population[name.removeprefix("POPULATION_")].value
    except KeyError as error:
        raise IdentityError(
            f"the collector placed this machine in no known population ({number}): upgrade the agent"
        ) from error


def _request_key(keys: Keys, store: IdentityStore) -> bytes:
    key_pem = store.pending_key()
    if key_pem is None:
        key_pem = keys.new_key_pem()
        store.keep_pending_key(key_pem)
    return key_pem


def _copy_of(desk: EnrolmentApi, keys: Keys, original: Identity, request_der: bytes) -> pb.CopyOf:
    """Proof that this machine was made from `original`: a nonce and the request, signed with that one's key."""
    nonce = _nonce(desk, original)
    return pb.CopyOf(
        agent_id=original.agent_id,
        nonce=nonce,
        certificate_der=original.leaf_der(),
        signature_der=keys.sign_copy_of(original.key_pem, nonce, request_der),
    )


def _nonce(desk: EnrolmentApi, identity: Identity) -> bytes:
    nonce = desk.challenge(pb.ChallengeRequest(agent_id=identity.agent_id)).nonce
    if len(nonce) != _NONCE_BYTES:
        raise IdentityError("the collector gave a nonce that is not 32 bytes: upgrade one of the two")
    return nonce


@contextmanager
def _key_may_be_refused(store: IdentityStore) -> Iterator[None]:
    """A request refused for good takes its key with it: asking again with it would be refused for ever.

    So does a token that was used with this key more than ten minutes ago: the answer was lost, and comes no more.
    """
    try:
        yield
    except RequestRefused:
        store.drop_pending_key()
        raise
    except IdentityError as error:
        if error.reason == USED_TOKEN:
            store.drop_pending_key()
        raise


def _validity(keys: Keys, issued: pb.IssuedCertificate, key_pem: bytes, trust: Trust) -> tuple[int, int]:
    roots = list(issued.roots_der)
    return keys.checked_validity(
        issued.certificate_der, list(issued.intermediates_der), roots, key_pem, trust.among(roots)
    )


def _keep(store: IdentityStore, issued: pb.IssuedCertificate, validity: tuple[int, int]) -> None:
    store.keep_certificate(
        [issued.certificate_der, *issued.intermediates_der], list(issued.roots_der), validity
    )
