# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Issue of certificates to an agent: the first, a renewal, and a renewal after expiry. docs/wire.md §6.

This module holds the logic only. Calls and keys come in through protocols, so that only `sending/process.py`
imports grpc and cryptography. The key is on disk before the call: after a lost answer, the agent asks again
with the same key.
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
"""Reason of a refusal: the token was already used. docs/wire.md."""


class EnrolmentApi(Protocol):
    """The three calls of :8642. Each raises CollectorAway, IdentityError or RequestRefused."""

    def enrol(self, request: pb.EnrolRequest) -> pb.EnrolResponse:
        """Request the first identity with a token."""

    def challenge(self, request: pb.ChallengeRequest) -> pb.ChallengeResponse:
        """Request a nonce to sign."""

    def renew_expired(self, request: pb.RenewExpiredRequest) -> pb.RenewExpiredResponse:
        """Request a certificate with the signed nonce."""


class Keys(Protocol):
    """Functions of the module `keys`."""

    def new_key_pem(self) -> bytes: ...
    def request_der(self, key_pem: bytes) -> bytes: ...
    def sign_renew_expired(self, key_pem: bytes, nonce: bytes, certificate_request_der: bytes) -> bytes: ...
    def sign_copy_of(self, key_pem: bytes, nonce: bytes, certificate_request_der: bytes) -> bytes: ...
    def check_validity(
        self,
        certificate_der: bytes,
        intermediates_der: list[bytes],
        roots_der: list[bytes],
        key_pem: bytes,
        trusted_der: list[bytes],
    ) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class Trust:
    """CAs that the agent trusts to introduce further CAs."""

    roots_pem: bytes
    """CAs already trusted: those of the join file or of the identity."""
    pinned: frozenset[str] = frozenset()
    """SHA-256 of further CAs, as in `collector.ca_sha256`."""

    def select_trusted(self, roots_der: Iterable[bytes]) -> list[bytes]:
        """Return all trusted CAs (DER).

        The known ones, and those of `roots_der` whose fingerprint is pinned.
        """
        known = ders_of(self.roots_pem)
        return known + [der for der in roots_der if hashlib.sha256(der).hexdigest() in self.pinned]


@dataclass(frozen=True, slots=True)
class Introduction:
    """Data that a machine sends about itself when it enrols."""

    token: str = field(repr=False)
    """Token from the join file. Empty for a clone, which proves its original instead."""
    facts: pb.Facts
    chassis_pseudonym: bytes = b""
    """32 bytes; empty when opted out or not readable."""
    smbios_pseudonym: bytes = b""
    """32 bytes; empty when opted out or not readable."""
    host_name: str = ""
    """Empty unless the local configuration allows it."""


def enrol(
    api: EnrolmentApi,
    keys: Keys,
    store: IdentityStore,
    introduction: Introduction,
    place_of: Callable[[pb.Placement], Placement],
    trust: Trust,
    original: Identity | None = None,
) -> Identity:
    """Enrol this machine and keep its identity in `store`: with the token, or as a clone of `original`.

    Raises CollectorAway (also while an operator has to approve) or IdentityError.
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
        request.copy_of.CopyFrom(_prove_clone(api, keys, original, request.certificate_request_der))
    with _drop_refused_key(store):
        answer = api.enrol(request)
    if len(answer.agent_id) != AGENT_ID_BYTES:
        raise IdentityError("the collector gave an agent id that is not 16 bytes: upgrade one of the two")
    if not answer.HasField("certificate"):
        raise CollectorAway(
            "this machine waits for an operator's approval: `veilleuse hosts activate "
            f"{answer.agent_id.hex()[:AGENT_ID_DIGITS]}`; "
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
    """Get the next certificate, with a new key, while the present one is valid. `pinned` as in Trust."""
    trust = Trust(store.load().roots_pem, pinned)
    key_pem = _request_key(keys, store)
    with _drop_refused_key(store):
        answer = call(pb.RenewRequest(certificate_request_der=keys.request_der(key_pem)))
    _keep(store, answer.certificate, _validity(keys, answer.certificate, key_pem, trust))
    log.info("certificate renewed")
    return store.load()


def renew_expired(
    api: EnrolmentApi, keys: Keys, store: IdentityStore, pinned: frozenset[str] = frozenset()
) -> Identity:
    """Get a new certificate after expiry: sign the collector's nonce with the key of the expired one."""
    identity = store.load()
    key_pem = _request_key(keys, store)
    request_der = keys.request_der(key_pem)
    nonce = _nonce(api, identity)
    request = pb.RenewExpiredRequest(
        agent_id=identity.agent_id,
        nonce=nonce,
        certificate_der=identity.leaf_der(),
        signature_der=keys.sign_renew_expired(identity.key_pem, nonce, request_der),
        certificate_request_der=request_der,
    )
    with _drop_refused_key(store):
        answer = api.renew_expired(request)
    trust = Trust(identity.roots_pem, pinned)
    _keep(store, answer.certificate, _validity(keys, answer.certificate, key_pem, trust))
    log.info("expired certificate renewed")
    return store.load()


def population_word(number: int) -> str:
    """Return the vocabulary word of a population. Raises IdentityError when it is unknown."""
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


def _prove_clone(api: EnrolmentApi, keys: Keys, original: Identity, request_der: bytes) -> pb.CopyOf:
    """Prove that this machine is a clone of `original`.

    Sign a nonce and the request with the original's key.
    """
    nonce = _nonce(api, original)
    return pb.CopyOf(
        agent_id=original.agent_id,
        nonce=nonce,
        certificate_der=original.leaf_der(),
        signature_der=keys.sign_copy_of(original.key_pem, nonce, request_der),
    )


def _nonce(api: EnrolmentApi, identity: Identity) -> bytes:
    nonce = api.challenge(pb.ChallengeRequest(agent_id=identity.agent_id)).nonce
    if len(nonce) != _NONCE_BYTES:
        raise IdentityError("the collector gave a nonce that is not 32 bytes: upgrade one of the two")
    return nonce


@contextmanager
def _drop_refused_key(store: IdentityStore) -> Iterator[None]:
    """Drop the pending key when its request is refused for good: a retry would be refused for ever.

    A token used with this key more than ten minutes ago is refused for good too. The first answer was lost.
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
    return keys.check_validity(
        issued.certificate_der, list(issued.intermediates_der), roots, key_pem, trust.select_trusted(roots)
    )


def _keep(store: IdentityStore, issued: pb.IssuedCertificate, validity: tuple[int, int]) -> None:
    store.keep_certificate(
        [issued.certificate_der, *issued.intermediates_der], list(issued.roots_der), validity
    )
