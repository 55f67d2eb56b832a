# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Formats of keys and certificates: builders without state."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veilleuse.collector.errors import EnrolmentRefused, NotAuthorised
from veilleuse.collector.model.records import AgentId
from veilleuse.wire.limits import AGENT_ID_BYTES, MAX_CERTIFICATE_REQUEST_BYTES

CLOCK_SKEW: Final = timedelta(minutes=5)
"""Largest lag of another clock that still finds a new certificate valid."""
ROOT_NAME: Final = "Veilleuse root"
"""Name of every root created here.

A cross certificate between two roots of one name is self-issued, and does not count in a path (RFC 5280
§4.2.1.9).
"""
INTERMEDIATE_NAME: Final = "Veilleuse intermediate"
ROOT_LIFE: Final = timedelta(days=3653)
INTERMEDIATE_LIFE: Final = timedelta(days=1826)

AuthorityKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""Key of a root or an intermediate; P-256 when created here."""


def authority_certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, AuthorityKey] | None,
    now: datetime,
    life: timedelta,
) -> x509.Certificate:
    """Create a root (`issuer` None, path length 1) or an intermediate (path length 0).

    Their keys sign certificates and nothing else. An intermediate does not outlive its root.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin, end = now - CLOCK_SKEW, now + life
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    if issuer is None:
        own = x509.AuthorityKeyIdentifier(key_id.digest, None, None)
        builder = _authority(subject, key.public_key(), key_id, 1, begin, end).issuer_name(subject)
        return builder.add_extension(own, critical=False).sign(key, hashes.SHA256())
    root, root_key = issuer
    begin, end = max(begin, root.not_valid_before_utc), min(end, root.not_valid_after_utc)
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    builder = _authority(subject, key.public_key(), key_id, 0, begin, end)
    return issued_by(builder, root).add_extension(usages, critical=False).sign(root_key, digest(root_key))


def cross_certificate(
    newer: x509.Certificate,
    chain_length: int,
    older: x509.Certificate,
    older_key: AuthorityKey,
    now: datetime,
) -> x509.Certificate:
    """Sign the name and key of the newer root with the older one.

    A client that only trusts the older root can then verify certificates under the newer. `chain_length`:
    number of certificates between the newer root and a leaf. Ends with the first of the two roots.
    """
    key = newer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise TypeError("a root on a kind of key that is not accepted")
    begin = max(now - CLOCK_SKEW, newer.not_valid_before_utc, older.not_valid_before_utc)
    end = min(newer.not_valid_after_utc, older.not_valid_after_utc)
    key_id = x509.SubjectKeyIdentifier(subject_key_id(newer))
    builder = _authority(newer.subject, key, key_id, chain_length, begin, end)
    return issued_by(builder, older).sign(older_key, digest(older_key))


def issued_by(builder: x509.CertificateBuilder, issuer: x509.Certificate) -> x509.CertificateBuilder:
    """Name the issuer and its key, with the identifier of the issuer's certificate.

    Verifiers compare the two.
    """
    key_id = x509.AuthorityKeyIdentifier(subject_key_id(issuer), None, None)
    return builder.issuer_name(issuer.subject).add_extension(key_id, critical=False)


def subject_key_id(certificate: x509.Certificate) -> bytes:
    """Return the identifier of a certificate's key.

    Its extension, else the SHA-1 of the key (RFC 5280 §4.2.1.2).
    """
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest


def digest(key: AuthorityKey) -> hashes.SHA256 | hashes.SHA384:
    """Return a digest as strong as the key: SHA-384 with P-384, SHA-256 with the others."""
    long = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1)
    return hashes.SHA384() if long else hashes.SHA256()


def _authority(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    key_id: x509.SubjectKeyIdentifier,
    path_length: int,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(key_id, critical=False)
    )


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return the usage of a CA (certificates and revocation lists) or of a leaf (handshakes): never both."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    """Return IP addresses as such and anything else as a DNS name, in order."""
    result: list[x509.GeneralName] = []
    for name in names:
        try:
            result.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            result.append(x509.DNSName(name))
    return result


def new_key() -> ec.EllipticCurvePrivateKey:
    """Create a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(certificate: x509.Certificate) -> bytes:
    """Encode a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: AuthorityKey) -> bytes:
    """Encode a key as PKCS#8 PEM, not encrypted: its file mode protects it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


AGENT_URI_PREFIX: Final = "urn:veilleuse:agent:"
"""Followed by the agent id, 32 lower-case hexadecimal digits."""
GENERATION_OID: Final = x509.ObjectIdentifier("2.25.216499113030546141442279570288783169625")
"""Private extension: the generation, a DER INTEGER ≥ 1.

The arc is the UUID version 5 of the URL "urn:veilleuse:certificate-generation" under 2.25 (ITU-T X.667: no
registration needed).
"""


@dataclass(frozen=True, slots=True)
class AgentCertificate:
    """Fields of an agent's certificate; its signature is checked elsewhere (CaKeys.recognise)."""

    agent_id: AgentId
    serial: str
    """Lower-case hexadecimal, as in the store."""
    generation: int
    """1 for the first certificate of an agent; one more at each renewal."""
    public_key: ec.EllipticCurvePublicKey
    public_key_sha256: bytes
    """SHA-256 of the SubjectPublicKeyInfo, DER; 32 bytes."""
    not_before: datetime
    not_after: datetime
    """Both UTC, aware."""


def public_key_sha256(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the SHA-256 of the key's SubjectPublicKeyInfo; 32 bytes."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def serial_text(serial: int) -> str:
    """Return a serial number in the form of the store and the logs: lower-case hexadecimal."""
    return f"{serial:x}"


def read_request(certificate_request_der: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key for which a request asks a certificate; nothing else of the request is used.

    Raises EnrolmentRefused (bad_request) unless it is DER, at most 4 KiB, on P-256, and signed by that key.
    """
    if not 0 < len(certificate_request_der) <= MAX_CERTIFICATE_REQUEST_BYTES:
        raise _bad_request(f"must be 1 to {MAX_CERTIFICATE_REQUEST_BYTES} bytes long")
    try:
        request = x509.load_der_x509_csr(certificate_request_der)
        key = request.public_key()
        curve = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        signed = curve and request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion) as error:
        raise _bad_request("is not a PKCS#10 request in DER") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not curve:
        raise _bad_request("must be for a key on P-256")
    if not signed:
        raise _bad_request("is not signed by its own key")
    return key


def read_certificate(certificate: x509.Certificate) -> AgentCertificate:
    """Read an agent's certificate. Raises NotAuthorised (not_an_agent) when it is none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        generation = certificate.extensions.get_extension_for_oid(GENERATION_OID).value
        key = certificate.public_key()
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        raise _not_an_agent() from error
    if len(uris) != 1 or len(names) != 1 or not isinstance(generation, x509.UnrecognizedExtension):
        raise _not_an_agent()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _not_an_agent()
    return AgentCertificate(
        agent_id=_agent_id(uris[0]),
        serial=serial_text(certificate.serial_number),
        generation=_decode_generation(generation.value),
        public_key=key,
        public_key_sha256=public_key_sha256(key),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def agent_extensions(agent_id: AgentId, generation: int) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    """Return the extensions that mark an agent's certificate: (extension, critical)."""
    uri = x509.UniformResourceIdentifier(AGENT_URI_PREFIX + agent_id.hex())
    return (
        (x509.SubjectAlternativeName([uri]), True),
        (x509.UnrecognizedExtension(GENERATION_OID, _encode_generation(generation)), False),
    )


def verify_signature(key: ec.EllipticCurvePublicKey, signature_der: bytes, message: bytes) -> bool:
    """Return True when `key` made this ECDSA-SHA256 signature of `message`."""
    try:
        key.verify(signature_der, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _agent_id(uri: str) -> AgentId:
    text = uri.removeprefix(AGENT_URI_PREFIX)
    if text == uri or len(text) != 2 * AGENT_ID_BYTES or text != text.lower():
        raise _not_an_agent()
    try:
        return AgentId(bytes.fromhex(text))
    except ValueError as error:
        raise _not_an_agent() from error


def _encode_generation(generation: int) -> bytes:
    # a leading zero bit: DER integers are signed
    body = generation.to_bytes(generation.bit_length() // 8 + 1, "big")
    return bytes((0x02, len(body))) + body


def _decode_generation(der: bytes) -> int:
    if len(der) < 3 or der[0] != 0x02 or der[1] != len(der) - 2 or len(der) > 10:
        raise _not_an_agent()
    generation = int.from_bytes(der[2:], "big", signed=True)
    if generation < 1:
        raise _not_an_agent()
    return generation


def _bad_request(what: str) -> EnrolmentRefused:
    return EnrolmentRefused("bad_request", f"the certificate request {what}")


def _not_an_agent() -> NotAuthorised:
    return NotAuthorised("not_an_agent", "the certificate is not one of an agent: enrol this machine again")
