# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks an organisation's own intermediate, with one clear error for each fault.

Source of the checks: RFC 5280 §4.2.1 and §6.1, as applied by BoringSSL, with which gRPC verifies.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veilleuse.collector.enrolment.ca_files import is_issued_by, parse_key
from veilleuse.collector.enrolment.x509 import (
    AuthorityKey,
    agent_extensions,
    digest,
    general_names,
    issued_by,
    key_pem,
    key_usage,
    new_key,
    pem,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.records import AgentId
from veilleuse.wire.limits import AGENT_ID_BYTES

T = TypeVar("T", bound=x509.ExtensionType)

MINIMUM_RSA_BITS: Final = 3072
ACCEPTED_KEYS: Final = f"P-256, P-384 and RSA of {MINIMUM_RSA_BITS} bits or more"
_WEAK_HASHES: Final = (hashes.MD5, hashes.SHA1)
_USAGES: Final = (
    (ExtendedKeyUsageOID.CLIENT_AUTH, "client authentication"),
    (ExtendedKeyUsageOID.SERVER_AUTH, "server authentication"),
)


@dataclass(frozen=True, slots=True)
class ExternalCa:
    """An external intermediate that passed the checks."""

    chain: tuple[x509.Certificate, ...]
    """The intermediate first, then those between it and the root; without the root."""
    key: AuthorityKey = field(repr=False)
    root: x509.Certificate


def read_external_ca(certificate_pem: bytes, key_pem: bytes, root_pem: bytes, now: datetime) -> ExternalCa:
    """Check an external intermediate with its key and root.

    `certificate_pem` holds the intermediate, then the certificates up to the root, if any. Raises UsageError,
    in one line, for the first fault that would keep agents or the collector from working.
    """
    chain = _certificates("the intermediate's file", certificate_pem)
    roots = _certificates("the root's file", root_pem)
    if len(roots) != 1:
        raise UsageError(f"the root's file holds {len(roots)} certificates: give the root alone")
    root = roots[0]
    chain = tuple(each for each in chain if each != root)
    if not chain:
        raise UsageError(
            "the certificate is the root itself: give an intermediate that it signed, so that its key stays "
            "off-line"
        )
    key = _key(key_pem)
    if key.public_key() != chain[0].public_key():
        raise UsageError(
            f"the key is not the one of {_quote_name(chain[0])}: give the intermediate's certificate first, "
            "and its key"
        )
    if not is_issued_by(root, root):
        raise UsageError(
            f"{_quote_name(root)} is no root (another signed it): give the self-signed certificate at the top"
        )
    for lower, upper in pairwise((*chain, root)):
        if not is_issued_by(lower, upper):
            raise UsageError(
                f"{_quote_name(lower)} was not signed by {_quote_name(upper)}: give every certificate "
                "between the intermediate and the root, in order"
            )
    for depth, certificate in enumerate((*chain, root)):
        for problem in _problems(certificate, depth, now):
            raise UsageError(f"{_quote_name(certificate)} {problem}")
    return ExternalCa(chain, key, root)


def _problems(certificate: x509.Certificate, depth: int, now: datetime) -> Iterator[str]:
    """Yield the faults of a certificate, the most telling first.

    `depth`: number of CA certificates between it and a leaf.
    """
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        yield "is not a certificate authority: ask for one with the CA flag (basic constraints)"
        return
    if constraints.path_length is not None and constraints.path_length < depth:
        yield (
            f"allows {constraints.path_length} certificate(s) below it before a leaf, this chain has "
            f"{depth}: ask for a longer path length"
        )
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        yield "may not sign certificates: ask for the key usage keyCertSign"
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    for oid, words in _USAGES:
        if extended is not None and oid not in extended:
            yield f"is not for {words}: ask for both clientAuth and serverAuth, or no extended key usage"
    if now < certificate.not_valid_before_utc:
        yield (
            f"begins on {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: wait, or set this machine's "
            "clock"
        )
    if now >= certificate.not_valid_after_utc:
        yield f"ended on {certificate.not_valid_after_utc:%Y-%m-%d}: ask for a new one"
    if wrong := _wrong_key(certificate.public_key()):
        yield f"has a key that is {wrong}: accepted are {ACCEPTED_KEYS}"
    self_signed = certificate.subject == certificate.issuer  # nobody verifies a root's own signature
    if not self_signed and isinstance(certificate.signature_hash_algorithm, _WEAK_HASHES):
        yield (
            f"is signed with {certificate.signature_hash_algorithm.name}: ask for one signed with SHA-256 or "
            "better"
        )


def _wrong_key(key: object) -> str:
    """Describe the fault of a public key; empty when there is none."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1) else f"on {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return "" if key.key_size >= MINIMUM_RSA_BITS else f"RSA of {key.key_size} bits"
    return f"{type(key).__name__.removesuffix('PublicKey').strip('_')}"


def _key(key_pem: bytes) -> AuthorityKey:
    try:
        return parse_key(key_pem)
    except TypeError as error:
        raise UsageError(
            "the key is encrypted: decrypt it first (openssl pkey -in FILE -out /dev/shm/key.pem), or run "
            "the command on a terminal"
        ) from error
    except ValueError as error:
        raise UsageError(f"the key cannot be used ({error}): accepted are {ACCEPTED_KEYS}, as PEM") from error


def _certificates(what: str, text: bytes) -> tuple[x509.Certificate, ...]:
    try:
        found = tuple(x509.load_pem_x509_certificates(text))
        for certificate in found:
            _ = certificate.extensions  # parsed here, so that later uses raise nothing
    except (ValueError, x509.DuplicateExtension) as error:
        raise UsageError(f"{what} holds no certificate that can be read: give it as PEM") from error
    return found


def _quote_name(certificate: x509.Certificate) -> str:
    return f"'{certificate.subject.rfc4514_string() or 'without a name'}'"


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


ROUNDS: Final = 10
"""Largest number of flights in a handshake, with a margin."""


def try_handshake(external: ExternalCa, server_names: Sequence[str], now: datetime) -> None:
    """Raise UsageError when a trial handshake between a machine and a collector of these names fails."""
    names = x509.SubjectAlternativeName(general_names(server_names))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Veilleuse collector")])
    with tempfile.TemporaryDirectory() as folder:
        roots = pem(external.root).decode()
        collector = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        collector.verify_mode = ssl.CERT_REQUIRED
        collector.load_verify_locations(cadata=roots)
        agent = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        agent.load_verify_locations(cadata=roots)
        for context, form, usage, extensions in (
            (collector, subject, ExtendedKeyUsageOID.SERVER_AUTH, ((names, False),)),
            (
                agent,
                x509.Name([]),
                ExtendedKeyUsageOID.CLIENT_AUTH,
                agent_extensions(AgentId(bytes(AGENT_ID_BYTES)), 1),
            ),
        ):
            file = Path(folder) / "leaf.pem"  # its key serves this handshake only
            file.write_bytes(_leaf(external, form, usage, extensions, now))
            context.load_cert_chain(file)
        try:
            _shake_hands(collector, agent, server_names[0].replace("*", "collector"))
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or error.reason or str(error)
            raise UsageError(
                f"a trial handshake under '{external.chain[0].subject.rfc4514_string()}' failed ({why}) for "
                "the names in "
                "pki.server_names: ask for an intermediate without such constraints, or correct "
                "pki.server_names"
            ) from error


def _leaf(
    external: ExternalCa,
    subject: x509.Name,
    usage: x509.ObjectIdentifier,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    now: datetime,
) -> bytes:
    key = new_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - timedelta(minutes=5), external.chain[0].not_valid_before_utc))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    leaf = issued_by(builder, external.chain[0]).sign(external.key, digest(external.key))
    return key_pem(key) + pem(leaf) + b"".join(map(pem, external.chain))


def _shake_hands(collector: ssl.SSLContext, agent: ssl.SSLContext, name: str) -> None:
    """Raise ssl.SSLError when either side rejects the other."""
    to_agent, to_collector = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        agent.wrap_bio(to_agent, to_collector, server_hostname=name),
        collector.wrap_bio(to_collector, to_agent, server_side=True),
    ]
    for _ in range(ROUNDS):
        waiting = 0
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            return
    raise ssl.SSLError("the handshake does not end")
