# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Manages the key that signs closed years, and checks signatures.

The key is Ed25519 (RFC 8032), in the authority's folder, mode 0600, so that a backup contains it. The active
authority certifies the public key when it signs: for signing documents (RFC 9336), nothing else. A signature
holds no secret. Its value depends on the reader's trust in the key.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from veilleuse.collector.enrolment.ca import Authority
from veilleuse.collector.enrolment.ca_files import fingerprint, is_issued_by
from veilleuse.collector.enrolment.root_key import FOLDER
from veilleuse.collector.errors import DataDirectoryError, UsageError
from veilleuse.collector.model.closed_years import canonical, sha256
from veilleuse.wire.files import read_owned, replace_owned

KEY_BYTES: Final = 4096
KEY_FILE: Final = "closing.key"
ALGORITHM: Final = "Ed25519"
_CONTEXT: Final = b"veilleuse closed year 1\n"
"""Prefix of the digest: a signature of this key on other content is not valid for a closed year."""
_PUBLIC_HEX: Final = 64


class SignatureWrong(ValueError):
    """Raised with the reason why a signature is wrong."""


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """Facts of a valid signature."""

    public_key: str
    """64 hexadecimal digits."""
    root_sha256: str
    """Root certificate of the authority that certified the key."""
    certified_until: datetime


def signing_key(data_dir: Path) -> Ed25519PrivateKey:
    """Return the key of a data directory; generated when there is none. For the holder of the lock.
    Raises DataDirectoryError.
    """
    path = data_dir / FOLDER / KEY_FILE
    found = _read_key(path)
    if found is not None:
        return found
    made = Ed25519PrivateKey.generate()
    try:
        replace_owned(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except OSError as error:
        raise DataDirectoryError(f"cannot write {path}: {error.strerror or error}") from error
    return made


def known_public_key(data_dir: Path) -> str | None:
    """Return the public key of a data directory, 64 hexadecimal digits; None where no year was closed.

    Raises DataDirectoryError.
    """
    found = _read_key(data_dir / FOLDER / KEY_FILE)
    return None if found is None else public_hex(found.public_key())


def missing_key(data_dir: Path) -> str:
    """Return the remedy where years were signed and the key is missing."""
    return (
        f"{data_dir / FOLDER / KEY_FILE} is missing, and years were signed with it: restore it from a "
        "backup; where none has it, "
        "'veilleuse close --key' makes another, and what was signed before no longer verifies here"
    )


def public_hex(key: Ed25519PublicKey) -> str:
    """Return 64 hexadecimal digits."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def public_pem(key_hex: str) -> bytes:
    """Return the key as PEM, for other programs."""
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key_hex))
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def parse_public_key(text: str) -> str:
    """Parse a public key, hexadecimal or PEM, to hexadecimal digits. Raises UsageError."""
    text = text.strip()
    try:
        if text.startswith("-----"):
            key = load_pem_public_key(text.encode())
            if isinstance(key, Ed25519PublicKey):
                return public_hex(key)
        elif len(text) == _PUBLIC_HEX:
            return public_hex(Ed25519PublicKey.from_public_bytes(bytes.fromhex(text)))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"no public key: {error}") from error
    raise UsageError("no public key: give 64 hexadecimal digits, or a file with an Ed25519 public key in PEM")


def sign(content: bytes, key: Ed25519PrivateKey, authority: Authority) -> bytes:
    """Return the .sig file of a file's content. Raises DataDirectoryError when the authority cannot certify
    the key now.
    """
    public = key.public_key()
    chain = authority.document_chain(public)
    return (
        canonical(
            {
                "algorithm": ALGORITHM,
                "certificates": [one.public_bytes(Encoding.PEM).decode("ascii") for one in chain],
                "public_key": public_hex(public),
                "sha256": sha256(content),
                "signature": key.sign(_CONTEXT + bytes.fromhex(sha256(content))).hex(),
            }
        )
        + b"\n"
    )


def check(content: bytes, signature: bytes, signed_at: datetime | None = None) -> SignatureFacts:
    """Check a signature. Raises SignatureWrong unless every byte of content and signature is unchanged.

    `signed_at`: moment at which the certificates must be valid.
    """
    fields = _parse(signature)
    if fields["sha256"] != sha256(content):
        raise SignatureWrong("its content was changed: it is not what was signed")
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(fields["public_key"]))
        key.verify(bytes.fromhex(fields["signature"]), _CONTEXT + bytes.fromhex(fields["sha256"]))
    except (ValueError, InvalidSignature) as error:
        raise SignatureWrong("its signature is not one of the key it names") from error
    try:
        chain = _chain(fields["certificates"])
        _require_certified(chain, key, signed_at)
        return SignatureFacts(fields["public_key"], fingerprint(chain[-1]), chain[0].not_valid_after_utc)
    except SignatureWrong:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise SignatureWrong("its certificates cannot be read") from error


def _require_certified(
    chain: Sequence[x509.Certificate], key: Ed25519PublicKey, signed_at: datetime | None
) -> None:
    if chain[0].public_key() != key:
        raise SignatureWrong("its certificate is of another key")
    for one, above in zip(chain, [*chain[1:], chain[-1]], strict=True):
        if not is_issued_by(one, above):
            raise SignatureWrong("its certificates do not hang together")
        if signed_at is not None and not one.not_valid_before_utc <= signed_at <= one.not_valid_after_utc:
            raise SignatureWrong(f"a certificate was not valid on {signed_at:%Y-%m-%d}, when it was signed")


def _parse(signature: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(signature)
        wanted = {"algorithm", "certificates", "public_key", "sha256", "signature"}
        if not isinstance(fields, dict) or set(fields) != wanted or fields["algorithm"] != ALGORITHM:
            raise SignatureWrong("its .sig file is none of a closed year")
        plain = [
            fields[name] == bytes.fromhex(fields[name]).hex()
            for name in ("public_key", "sha256", "signature")
        ]
        if canonical(fields) + b"\n" != signature or not all(plain):
            raise SignatureWrong("its .sig file was changed")
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, SignatureWrong):
            raise
        raise SignatureWrong("its .sig file cannot be read") from error
    return fields


def _chain(texts: Sequence[Any]) -> list[x509.Certificate]:
    chain = [x509.load_pem_x509_certificate(str(text).encode("ascii")) for text in texts]
    if len(chain) < 2 or [one.public_bytes(Encoding.PEM).decode("ascii") for one in chain] != list(texts):
        raise SignatureWrong("its certificates were changed")
    return chain


def _read_key(path: Path) -> Ed25519PrivateKey | None:
    try:
        found = load_pem_private_key(read_owned(path, KEY_BYTES), None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise DataDirectoryError(f"cannot read {path} ({error}): restore it from a backup") from error
    if not isinstance(found, Ed25519PrivateKey):
        raise DataDirectoryError(f"{path} is no Ed25519 key: restore it from a backup")
    return found
