# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Keys and certificates of the authority: present, next and earlier issuers. Immutable, replaced as a whole.

Files of `<data_dir>/ca` (0700, each 0600):

- root.pem, intermediate.pem, intermediate.key: in use. intermediate.pem goes up to the root, without it.
- root.key: until the operator moves it off-line. server.pem, server.key: of the collector itself.
- next-root.pem, next-intermediate.pem, next-intermediate.key, next-root.key, cross.pem: next, during the
  overlap.
- old-root.pem, old-root.key, cross.pem: after the switch, until the old root is retired.
- rotation.json: times of the start of the rotation, and of the switch.
- previous-*.pem: intermediates that no longer issue, but whose leaves are still recognised.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from veilleuse.collector.enrolment.x509 import (
    AgentCertificate,
    AuthorityKey,
    pem,
    read_certificate,
    subject_key_id,
)
from veilleuse.collector.errors import DataDirectoryError, NotAuthorised
from veilleuse.wire.files import read_owned, remove_owned, replace_owned, sync_folder
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

CHANGE_FILE: Final = "change.json"
MOST_BYTES: Final = 4 << 20
"""Largest size of a file of the authority; the journal of a change holds a dozen others."""


class Folder:
    """Flat folder of PEM files by name. The caller holds the data directory's lock and serialises changes."""

    def __init__(self, path: Path) -> None:
        """Finish the change of a killed process. Raises DataDirectoryError."""
        self.path = path
        self._finish_change()

    def names(self, beginning: str) -> list[str]:
        """Return the names with this prefix, sorted. Raises DataDirectoryError."""
        try:
            return sorted(path.name for path in self.path.iterdir() if path.name.startswith(beginning))
        except OSError as error:
            raise DataDirectoryError(
                f"cannot read {self.path} ({error.strerror}): restore it from a backup"
            ) from error

    def read(self, name: str) -> bytes | None:
        """Return the content; None when there is no such file. Raises DataDirectoryError."""
        try:
            return read_owned(self.path / name, MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(self.path / name, error.strerror or str(error)) from error

    def change(self, files: Mapping[str, bytes | None]) -> None:
        """Write these contents, and remove files with None: all or nothing, durably.

        Raises DataDirectoryError. After an error, either nothing was changed, or the next change or start
        completes it.
        """
        self._finish_change()
        plain = {
            name: None if content is None else content.decode("ascii") for name, content in files.items()
        }
        try:
            replace_owned(self.path / CHANGE_FILE, json.dumps(plain).encode())
        except OSError as error:
            raise DataDirectoryError(
                f"cannot write {self.path}: {error.strerror or error}; nothing was changed"
            ) from error
        self._finish_change()

    def _finish_change(self) -> None:
        journal = self.read(CHANGE_FILE)
        if journal is None:
            return
        try:
            for name, content in json.loads(journal).items():
                if content is None:
                    remove_owned(self.path / name)
                else:
                    replace_owned(self.path / name, content.encode("ascii"))
            sync_folder(self.path)  # removals must be durable before the journal is removed
            remove_owned(self.path / CHANGE_FILE)
            sync_folder(self.path)
        except (ValueError, AttributeError) as error:
            raise unreadable(self.path / CHANGE_FILE, "damaged") from error
        except OSError as error:
            raise DataDirectoryError(
                f"cannot write {self.path}: {error.strerror or error}; the change is finished at the next "
                "start"
            ) from error


def unreadable(path: Path, what: str) -> DataDirectoryError:
    """Create the error for an unusable file of the authority."""
    return DataDirectoryError(f"cannot read {path} ({what}): restore it from a backup")


PREVIOUS_KEPT: Final = timedelta(days=460)
"""Time for which an intermediate is recognised after it stopped issuing.

It is the longest leaf (`pki.pc_leaf_days`, 60) and 400 days.
"""
_REPLACED = re.compile(rb"^replaced-unix-milliseconds: (\d+)$", re.MULTILINE)


class Phase(StrEnum):
    """Phase of a rotation of the root."""

    STEADY = "steady"
    """No rotation is in progress."""
    OVERLAP = "overlap"
    """Agents get both roots; the present intermediate issues."""
    SWITCHED = "switched"
    """The new intermediate issues; both roots are trusted."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """An intermediate and its chain up to the root."""

    chain: tuple[x509.Certificate, ...]
    """The intermediate first, then those between it and the root; without the root."""
    root: x509.Certificate

    @property
    def certificate(self) -> x509.Certificate:
        """Certificate of the intermediate."""
        return self.chain[0]

    @property
    def not_before(self) -> datetime:
        """Start of the time when its whole chain is valid."""
        return max(each.not_valid_before_utc for each in (*self.chain, self.root))

    @property
    def not_after(self) -> datetime:
        """End of the time when its whole chain is valid."""
        return min(each.not_valid_after_utc for each in (*self.chain, self.root))


@dataclass(frozen=True, slots=True)
class Previous:
    """An intermediate that no longer issues."""

    chain: tuple[x509.Certificate, ...]
    """Chain as in Issuer."""
    replaced_unix_milliseconds: int
    """Time when it stopped issuing."""


@dataclass(frozen=True, slots=True)
class CaKeys:
    """All keys and certificates of the authority."""

    current: Issuer
    key: AuthorityKey = field(repr=False)
    """Key of the current intermediate."""
    coming: Issuer | None
    """Next issuer; during the overlap only."""
    old_root: x509.Certificate | None
    """Old root; after the switch only."""
    cross: x509.Certificate | None
    """Name and key of the newer root, signed by the older; None when the older key was not available."""
    began_unix_milliseconds: int | None
    """Certificates issued from then on came with both roots."""
    switched_unix_milliseconds: int | None
    """Certificates issued from then on come from the new intermediate."""
    previous: tuple[Previous, ...]
    """Newest first."""

    @property
    def phase(self) -> Phase:
        """Phase of the rotation."""
        if self.coming is not None:
            return Phase.OVERLAP
        return Phase.STEADY if self.old_root is None else Phase.SWITCHED

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """Roots that agents trust, and that their certificates chain to; the present root first."""
        other = self.coming.root if self.coming is not None else self.old_root
        return (self.current.root,) if other is None else (self.current.root, other)

    @property
    def full_chain(self) -> tuple[x509.Certificate, ...]:
        """Chain below the root, sent after a certificate of the current intermediate.

        After the switch it includes the cross certificate, for agents that only have the old root.
        """
        crossed = self.cross if self.phase is Phase.SWITCHED else None
        return self.current.chain if crossed is None else (*self.current.chain, crossed)

    def chain_above(self, certificate: x509.Certificate) -> tuple[x509.Certificate, ...] | None:
        """Return our intermediate that signed a certificate and the chain above it; None when none did.

        The next intermediate counts before it issues: this may be a backup from before its switch.
        """
        try:
            value = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
            return None
        chains = [self.current.chain, *(kept.chain for kept in self.previous)]
        if self.coming is not None:
            chains.append(self.coming.chain)
        for chain in chains:
            if subject_key_id(chain[0]) == value.key_identifier and is_issued_by(certificate, chain[0]):
                return chain
        return None

    def recognise(self, certificate: bytes) -> AgentCertificate:
        """Read one of our agents' certificates (PEM or DER), expired or not. Raises NotAuthorised."""
        try:
            is_pem = certificate.startswith(b"-----")
            load = x509.load_pem_x509_certificate if is_pem else x509.load_der_x509_certificate
            parsed = load(certificate)
        except (ValueError, x509.InvalidVersion) as error:
            raise NotAuthorised(
                "not_an_agent", "the certificate cannot be read: enrol this machine again"
            ) from error
        if self.chain_above(parsed) is None:
            raise NotAuthorised(
                "not_ours", "the certificate is not one of this collector: enrol this machine again"
            )
        return read_certificate(parsed)


def load(folder: Folder, now: datetime) -> CaKeys:
    """Load the keys from the folder.

    Raises DataDirectoryError when a file is missing or damaged, or two do not belong together.
    """
    root, chain = _one(folder, "root.pem"), _chain(folder, "intermediate.pem")
    current = Issuer(chain, root)
    key = _key(folder, "intermediate.key")
    if key.public_key() != current.certificate.public_key():
        raise DataDirectoryError(
            f"{folder.path}: intermediate.key and intermediate.pem do not belong together"
        )
    coming = None
    if folder.read("next-root.pem") is not None:
        coming = Issuer(_chain(folder, "next-intermediate.pem"), _one(folder, "next-root.pem"))
    old_root = _optional(folder, "old-root.pem")
    began, switched = _moments(folder)
    return CaKeys(
        current,
        key,
        coming,
        old_root,
        _optional(folder, "cross.pem"),
        began,
        switched,
        _previous(folder, now),
    )


def parse_key(key_pem: bytes) -> AuthorityKey:
    """Parse a private key of an accepted kind. Raises ValueError with the fault, TypeError when encrypted."""
    try:
        key = load_pem_private_key(key_pem, None)
    except UnsupportedAlgorithm as error:
        raise ValueError("it is of an unknown kind") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError(f"it is a {type(key).__name__.removesuffix('PrivateKey').strip('_')} key")
    return key


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return True when the issuer's name and key signed it."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the DER, 64 hexadecimal digits."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def previous_name(certificate: x509.Certificate) -> str:
    """Return the file name for an intermediate that no longer issues."""
    return f"previous-{fingerprint(certificate)[:16]}.pem"


def previous_content(issuer: Issuer, now: datetime) -> bytes:
    """Return the content of that file, for an issuer that stops now."""
    head = f"replaced-unix-milliseconds: {round(now.timestamp() * MILLISECONDS_PER_SECOND)}\n".encode()
    return head + b"".join(map(pem, issuer.chain))


def _previous(folder: Folder, now: datetime) -> tuple[Previous, ...]:
    found: list[Previous] = []
    for name in folder.names("previous-"):
        text = folder.read(name) or b""
        moment = _REPLACED.search(text)
        if moment is None:
            raise unreadable(folder.path / name, "damaged")
        replaced = int(moment[1])
        if now - datetime.fromtimestamp(replaced / MILLISECONDS_PER_SECOND, UTC) < PREVIOUS_KEPT:
            found.append(Previous(_chain(folder, name), replaced))
    return tuple(sorted(found, key=lambda kept: kept.replaced_unix_milliseconds, reverse=True))


def _moments(folder: Folder) -> tuple[int | None, int | None]:
    text = folder.read("rotation.json")
    if text is None:
        return None, None
    try:
        moments = json.loads(text)
        began, switched = moments["began_unix_milliseconds"], moments.get("switched_unix_milliseconds")
        return int(began), None if switched is None else int(switched)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(folder.path / "rotation.json", "damaged") from error


def _one(folder: Folder, name: str) -> x509.Certificate:
    return _chain(folder, name)[0]


def _optional(folder: Folder, name: str) -> x509.Certificate | None:
    return None if folder.read(name) is None else _one(folder, name)


def _chain(folder: Folder, name: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(_content(folder, name)))
    except ValueError as error:
        raise unreadable(folder.path / name, "damaged") from error


def _key(folder: Folder, name: str) -> AuthorityKey:
    try:
        return parse_key(_content(folder, name))
    except (ValueError, TypeError) as error:
        raise unreadable(folder.path / name, "damaged") from error


def _content(folder: Folder, name: str) -> bytes:
    content = folder.read(name)
    if content is None:
        raise unreadable(folder.path / name, "No such file or directory")
    return content
