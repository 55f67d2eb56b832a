# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Keys and certificate requests. Only this module uses `cryptography` on the agent.

Only `sending` calls it.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from veilleuse.agent.errors import IdentityError
from veilleuse.wire.renewal import copy_of_message, renew_expired_message
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

MAX_INTERMEDIATES: Final = 6
"""Number of intermediates that are read: one intermediate, and cross-signed roots during a rotation."""


def new_key_pem() -> bytes:
    """Create a P-256 key: PKCS#8 PEM, not encrypted, protected by its file mode."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def request_der(key_pem: bytes) -> bytes:
    """Create a PKCS#10 request (DER, empty subject) for the key. Raises IdentityError for a bad key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(_key(key_pem), hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def sign_renew_expired(key_pem: bytes, nonce: bytes, certificate_request_der: bytes) -> bytes:
    """Sign `renew_expired_message`: ECDSA-SHA256, DER."""
    message = renew_expired_message(nonce, certificate_request_der)
    return _key(key_pem).sign(message, ec.ECDSA(hashes.SHA256()))


def sign_copy_of(key_pem: bytes, nonce: bytes, certificate_request_der: bytes) -> bytes:
    """Sign `copy_of_message` with the original's key: ECDSA-SHA256, DER."""
    message = copy_of_message(nonce, certificate_request_der)
    return _key(key_pem).sign(message, ec.ECDSA(hashes.SHA256()))


def check_validity(
    certificate_der: bytes,
    intermediates_der: list[bytes],
    roots_der: list[bytes],
    key_pem: bytes,
    trusted_der: list[bytes],
) -> tuple[int, int]:
    """Check an issued certificate and return (not before, not after) in Unix milliseconds.

    It must be for this key. It must chain to one of the roots sent with it, and to one trusted already. The
    second check stops an attacker who holds only the collector's TLS key from introducing a CA. A rotation of
    the CA brings a cross-signed certificate. Raises IdentityError.
    """
    try:
        leaf = x509.load_der_x509_certificate(certificate_der)
        between = [x509.load_der_x509_certificate(der) for der in intermediates_der[:MAX_INTERMEDIATES]]
        roots = [x509.load_der_x509_certificate(der) for der in roots_der]
        trusted = [x509.load_der_x509_certificate(der) for der in trusted_der]
    except ValueError as error:
        raise IdentityError(
            f"the collector sent a certificate that cannot be read ({error}): try again"
        ) from error
    if leaf.public_key() != _key(key_pem).public_key():
        raise IdentityError("the collector sent a certificate for another key: try again")
    if not _chains_to(leaf, between, roots):
        raise IdentityError(
            "the certificate from the collector does not chain to the roots from the collector: try again"
        )
    if not _chains_to(leaf, between, trusted):
        raise IdentityError(
            "the collector's new CA is not signed by a CA that this machine trusts: enrol again with a "
            "new join file"
        )
    return (
        round(leaf.not_valid_before_utc.timestamp() * MILLISECONDS_PER_SECOND),
        round(leaf.not_valid_after_utc.timestamp() * MILLISECONDS_PER_SECOND),
    )


def _chains_to(
    certificate: x509.Certificate, between: list[x509.Certificate], roots: list[x509.Certificate]
) -> bool:
    """Return True when CA certificates of `between`, in any order, link this one to one of `roots`."""
    if any(_issued_by(certificate, root) for root in roots):
        return True
    return any(
        _chains_to(issuer, [other for other in between if other is not issuer], roots)
        for issuer in between
        if _is_authority(issuer) and _issued_by(certificate, issuer)
    )


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


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
