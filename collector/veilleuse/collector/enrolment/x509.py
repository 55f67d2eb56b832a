# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The forms of keys and certificates: builders without state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far behind another clock may be and still find a new certificate valid."""
ROOT_NAME: Final = "Veilleuse root"
"""Of every root made here: a cross certificate between two of one name is self-issued, and no step of a path (RFC 5280 §4.2.1.9)."""
INTERMEDIATE_NAME: Final = "Veilleuse intermediate"
ROOT_LIFE: Final = timedelta(days=3653)
INTERMEDIATE_LIFE: Final = timedelta(days=1826)

AuthorityKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""Of a root or an intermediate. P-256 when made here."""


def authority_certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, AuthorityKey] | None,
    now: datetime,
    life: timedelta,
) -> x509.Certificate:
    """A root (`issuer` None, path length 1) or an intermediate (path length 0): keys that sign certificates and nothing else.

    An intermediate does not outlive its root.
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
    """The name and key of the newer root, signed by the older one: who trusts the older alone can verify what hangs on the newer.

    `chain_length`: certificates between the newer root and a leaf. Ends with the first of the two roots.
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
    """Names the issuer and its key, by the very identifier that its certificate gives it: verifiers compare the two."""
    key_id = x509.AuthorityKeyIdentifier(subject_key_id(issuer), None, None)
    return builder.issuer_name(issuer.subject).add_extension(key_id, critical=False)


def subject_key_id(certificate: x509.Certificate) -> bytes:
    """What identifies a certificate's key: its own extension, else the SHA-1 of the key (RFC 5280 §4.2.1.2)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest


def digest(key: AuthorityKey) -> hashes.SHA256 | hashes.SHA384:
    """As strong as the key: SHA-384 with P-384, SHA-256 with the others."""
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
    """Signs certificates and revocation lists, or handshakes: never both."""
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
    """IP addresses as such, anything else as a DNS name; in order."""
    result: list[x509.GeneralName] = []
    for name in names:
        try:
            result.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            result.append(x509.DNSName(name))
    return result


def new_key() -> ec.EllipticCurvePrivateKey:
    """P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: AuthorityKey) -> bytes:
    """A key as PKCS#8 PEM, not encrypted: its file's mode guards it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
