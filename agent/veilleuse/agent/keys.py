# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Keys and certificate requests; the only user of `cryptography` on the agent, reached from `sending` alone."""

from __future__ import annotations

from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from veilleuse.agent.errors import IdentityError
from veilleuse.wire.renewal import renew_expired_message


def new_key_pem() -> bytes:
    """A fresh P-256 key, PKCS#8 PEM, not encrypted: its file's mode guards it."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def request_der(key_pem: bytes) -> bytes:
    """A PKCS#10 request for the key, empty subject, DER. Raises IdentityError when the key cannot be read."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(_key(key_pem), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def sign_renew_expired(key_pem: bytes, nonce: bytes, certificate_request_der: bytes) -> bytes:
    """ECDSA-SHA256 over `renew_expired_message`, DER."""
    message = renew_expired_message(nonce, certificate_request_der)
    return _key(key_pem).sign(message, ec.ECDSA(hashes.SHA256()))


def checked_validity(
    certificate_der: bytes, intermediates_der: list[bytes], roots_der: list[bytes], key_pem: bytes
) -> tuple[int, int]:
    """(not before, not after) of an issued certificate, Unix milliseconds.

    Raises IdentityError when it is not for this key, or does not hang on one of the roots.
    """
    try:
        leaf = x509.load_der_x509_certificate(certificate_der)
        chain = [leaf, *(x509.load_der_x509_certificate(der) for der in intermediates_der)]
        roots = [x509.load_der_x509_certificate(der) for der in roots_der]
    except ValueError as error:
        raise IdentityError(
            f"the collector sent a certificate that cannot be read ({error}): try again"
        ) from error
    if leaf.public_key() != _key(key_pem).public_key():
        raise IdentityError("the collector sent a certificate for another key: try again")
    for certificate, issuer in pairwise(chain):
        _require_issued_by(certificate, issuer)
    if not any(_issued_by(chain[-1], root) for root in roots):
        raise IdentityError(
            "the certificate the collector sent does not hang on the roots it sent: try again"
        )
    return (
        round(leaf.not_valid_before_utc.timestamp() * 1000),
        round(leaf.not_valid_after_utc.timestamp() * 1000),
    )


def _require_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    if not _issued_by(certificate, issuer):
        raise IdentityError("the certificates the collector sent do not form a chain: try again")


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"the agent's key cannot be read ({error}): enrol again") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError("the agent's key is not a P-256 key: enrol again")
    return key
