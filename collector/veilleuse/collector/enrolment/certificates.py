# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What an agent's certificate says, and what a certificate request must be. No I/O, no clock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from veilleuse.collector.errors import EnrolmentRefused, NotAuthorised
from veilleuse.collector.model.records import AgentId
from veilleuse.wire.limits import AGENT_ID_BYTES, MAX_CERTIFICATE_REQUEST_BYTES

AGENT_URI_PREFIX: Final = "urn:veilleuse:agent:"
"""Followed by the agent id, 32 lower-case hexadecimal digits."""
GENERATION_OID: Final = x509.ObjectIdentifier("2.25.216499113030546141442279570288783169625")
"""Private extension: the generation, a DER INTEGER ≥ 1. The arc is the UUID version 5 of the URL
"urn:veilleuse:certificate-generation" under 2.25 (ITU-T X.667: no registration needed)."""


@dataclass(frozen=True, slots=True)
class AgentCertificate:
    """An agent's certificate as read; its signature is another matter (Authority.signed)."""

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
    """SHA-256 of the key's SubjectPublicKeyInfo; 32 bytes."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def serial_text(serial: int) -> str:
    """A serial number as the store and the logs write it: lower-case hexadecimal."""
    return f"{serial:x}"


def read_request(certificate_request_der: bytes) -> ec.EllipticCurvePublicKey:
    """The key that a request asks a certificate for; nothing else of the request is used.

    Raises EnrolmentRefused (bad_request) unless it is DER, at most 4 KiB, on P-256, and signed by that very key.
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
    """What an agent's certificate says. Raises NotAuthorised (not_an_agent) when it is none."""
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
    """What tells an agent's certificate from any other: (extension, critical)."""
    uri = x509.UniformResourceIdentifier(AGENT_URI_PREFIX + agent_id.hex())
    return (
        (x509.SubjectAlternativeName([uri]), True),
        (x509.UnrecognizedExtension(GENERATION_OID, _encode_generation(generation)), False),
    )


def verify_signature(key: ec.EllipticCurvePublicKey, signature_der: bytes, message: bytes) -> bool:
    """Whether `key` made this ECDSA-SHA256 signature of `message`."""
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
    body = generation.to_bytes(
        generation.bit_length() // 8 + 1, "big"
    )  # a leading zero bit: DER integers are signed
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
