# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test which certificates and CAs agents accept: docs/wire.md §6, docs/guarantees.md S24,
docs/decisions/0017."""

from __future__ import annotations

import hashlib
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.support.fakes.authority import DER, TestAuthority
from veilleuse.agent.errors import IdentityError
from veilleuse.agent.identity import certificates, keys
from veilleuse.agent.identity.join_file import fingerprints
from veilleuse.agent.identity.store import IdentityStore, ders_of
from veilleuse.wire.v1 import telemetry_pb2 as pb


def test_a_certificate_for_another_key_is_refused():
    """A certificate for another key, without a chain to a given root, or unreadable is refused."""
    authority, other = TestAuthority(), TestAuthority()
    mine, another = keys.new_key_pem(), keys.new_key_pem()
    leaf = authority.issue(
        keys.request_der(mine),
        bytes(16),
        authority.root.certificate.not_valid_before_utc,
        authority.root.certificate.not_valid_after_utc,
    ).public_bytes(DER)
    chain, roots = [authority.intermediate.der], [authority.root.der]
    assert keys.check_validity(leaf, chain, roots, mine, roots)[1] > 0
    with pytest.raises(IdentityError, match="another key"):
        keys.check_validity(leaf, chain, roots, another, roots)
    with pytest.raises(IdentityError, match="does not chain"):
        keys.check_validity(leaf, chain, [other.root.der], mine, roots)
    with pytest.raises(IdentityError, match="does not chain"):
        keys.check_validity(leaf, [other.intermediate.der], roots, mine, roots)
    with pytest.raises(IdentityError, match="cannot be read"):
        keys.check_validity(b"x", chain, roots, mine, roots)


def rotation() -> tuple[TestAuthority, TestAuthority, bytes, bytes]:
    """Return (old, new, the new root signed by the old one, an agent's key)."""
    old, new = TestAuthority("old"), TestAuthority("new")
    root = new.root.certificate
    cross = (
        x509.CertificateBuilder()
        .subject_name(root.subject)
        .issuer_name(old.root.certificate.subject)
        .public_key(new.root.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(root.not_valid_before_utc)
        .not_valid_after(root.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(old.root.key, hashes.SHA256())
    )
    return old, new, cross.public_bytes(DER), keys.new_key_pem()


def leaf_of(authority: TestAuthority, key: bytes) -> bytes:
    """Return an agent's certificate."""
    root = authority.root.certificate
    return authority.issue(
        keys.request_der(key), bytes(16), root.not_valid_before_utc, root.not_valid_after_utc
    ).public_bytes(DER)


def test_a_new_ca_is_trusted_on_the_old_ones_word_only():
    """A new root needs the old root's signature, in any order of the chain; an unknown CA is refused."""
    old, new, cross, key = rotation()
    leaf, between = leaf_of(new, key), [new.intermediate.der]
    both = [new.root.der, old.root.der]
    for chain in ([*between, cross], [cross, *between]):
        assert keys.check_validity(leaf, chain, both, key, [old.root.der])[1] > 0
        assert keys.check_validity(leaf, chain, [new.root.der], key, [old.root.der])[1] > 0
    assert keys.check_validity(leaf, between, [new.root.der], key, both)[1] > 0
    for roots in (both, [new.root.der]):
        with pytest.raises(IdentityError, match="not signed by a CA that this machine trusts"):
            keys.check_validity(leaf, between, roots, key, [old.root.der])


def test_an_agents_own_certificate_signs_nothing():
    """A chain through an agent's own certificate is refused, though its signature is valid."""
    authority = TestAuthority()
    holder, victim = keys.new_key_pem(), keys.new_key_pem()
    agents = x509.load_der_x509_certificate(leaf_of(authority, holder))
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(agents.subject)
        .public_key(keys._key(victim).public_key())
        .serial_number(1)
        .not_valid_before(agents.not_valid_before_utc)
        .not_valid_after(agents.not_valid_after_utc)
        .sign(keys._key(holder), hashes.SHA256())
        .public_bytes(DER)
    )
    chain, roots = [agents.public_bytes(DER), authority.intermediate.der], [authority.root.der]
    with pytest.raises(IdentityError, match="does not chain"):
        keys.check_validity(forged, chain, roots, victim, roots)


def test_a_pinned_ca_needs_no_other_word(agent, collector):
    """A new root in `collector.ca_sha256` is trusted without a signature; a root not sent is dropped."""
    agent.enrol(collector)
    old, (new, store) = collector.authority, (TestAuthority("new"), IdentityStore(agent.state))

    def answers(roots: list[bytes], authority: TestAuthority):
        def call(request: pb.RenewRequest) -> pb.RenewResponse:
            root = authority.root.certificate
            leaf = authority.issue(
                request.certificate_request_der,
                agent.identity.agent_id,
                root.not_valid_before_utc,
                root.not_valid_after_utc,
            )
            issued = pb.IssuedCertificate(
                certificate_der=leaf.public_bytes(DER),
                intermediates_der=[authority.intermediate.der],
                roots_der=roots,
            )
            return pb.RenewResponse(certificate=issued)

        return call

    own = cast("certificates.Keys", keys)
    with pytest.raises(IdentityError, match="not signed by a CA that this machine trusts"):
        certificates.renew(answers([new.root.der], new), own, store)
    pinned = fingerprints(f"{'AB' * 32} , {hashlib.sha256(new.root.der).hexdigest()}")
    certificates.renew(answers([new.root.der], new), own, store, pinned)
    assert ders_of(agent.identity.roots_pem) == [new.root.der]
    with pytest.raises(IdentityError, match="not signed by a CA that this machine trusts"):
        certificates.renew(answers([old.root.der], old), own, store, pinned)


def test_both_roots_while_the_old_one_still_issues(agent, collector):
    """During a rotation the trusted CA issues, and the agent keeps the next root too; then that one alone."""
    agent.enrol(collector)
    old, new, store = collector.authority, TestAuthority("new"), IdentityStore(agent.state)

    def renew_from(authority: TestAuthority, roots: list[bytes]) -> list[bytes]:
        def call(request: pb.RenewRequest) -> pb.RenewResponse:
            collector.authority = authority
            issued = collector.issued(request.certificate_request_der, agent.identity.agent_id)
            issued.roots_der[:] = roots
            return pb.RenewResponse(certificate=issued)

        certificates.renew(call, cast("certificates.Keys", keys), store)
        return ders_of(agent.identity.roots_pem)

    assert renew_from(old, [old.root.der, new.root.der]) == [old.root.der, new.root.der]
    assert agent.send()
    assert renew_from(new, [new.root.der]) == [new.root.der]
