# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The embedded certificate authority: root, intermediate, agents' certificates, the collector's own.

Files of `<data_dir>/ca` (0700): root.pem, root.key, intermediate.pem, intermediate.key, server.pem, server.key
(0600). The root key signs the intermediate once, at `init`, and may be moved off-line at once: nothing else needs it.

Usages bound what each key can do: the root signs certificates only (path length 1), the intermediate signs leaves
only (path length 0, client and server authentication), an agent's leaf is a client only, so that a stolen one can
never pose as the collector. There are no X.509 name constraints: those on URIs constrain a host name (RFC 5280
§4.2.1.10), and `urn:veilleuse:agent:` has none, so that verifiers refuse the whole chain. Clients trust this root
for this collector only.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veilleuse.collector.enrolment.certificates import AgentCertificate, agent_extensions, read_certificate
from veilleuse.collector.enrolment.forms import (
    CLOCK_SKEW,
    authority_certificate,
    general_names,
    key_pem,
    key_usage,
    new_key,
    pem,
    sync_directory,
    write_private,
)
from veilleuse.collector.errors import DataDirectoryError, NotAuthorised
from veilleuse.collector.model import AgentId
from veilleuse.collector.settings import Pki
from veilleuse.wire.vocabulary import Population

FOLDER: Final = "ca"
DRAFT: Final = "ca.new"
ROOT_LIFE: Final = timedelta(days=3653)
INTERMEDIATE_LIFE: Final = timedelta(days=1826)
SERVER_LIFE: Final = timedelta(days=90)
SERVER_RENEWAL: Final = timedelta(days=30)
"""The collector's own certificate is made again when less than this is left."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new certificate of an agent."""

    certificate_der: bytes
    facts: AgentCertificate


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What the collector shows to agents."""

    key_pem: bytes = field(repr=False)
    chain_pem: bytes
    """Leaf, then intermediate."""
    not_after: datetime


def create(data_dir: Path, now: datetime) -> Path:
    """Make `<data_dir>/ca` with a new root and intermediate; all or nothing. Returns the path of the root's key.

    Raises DataDirectoryError when there is one already or it cannot be written.
    """
    draft(data_dir, now)
    return adopt(data_dir)


def draft(data_dir: Path, now: datetime) -> None:
    """Write a new authority into `<data_dir>/ca.new`, where it is none until `adopt`. Raises DataDirectoryError."""
    folder, made = data_dir / FOLDER, data_dir / DRAFT
    if folder.exists():
        raise DataDirectoryError(f"{folder} exists already: a second authority would disown every agent")
    root_key, key = new_key(), new_key()
    root = authority_certificate("Veilleuse root", root_key, None, now, ROOT_LIFE)
    intermediate = authority_certificate(
        "Veilleuse intermediate", key, (root, root_key), now, INTERMEDIATE_LIFE
    )
    try:
        made.mkdir(mode=0o700, exist_ok=True)
        for leftover in made.iterdir():  # of an init that was cut; the folder itself says so and stays
            leftover.unlink()
        for name, content in (
            ("root.pem", pem(root)),
            ("root.key", key_pem(root_key)),
            ("intermediate.pem", pem(intermediate)),
            ("intermediate.key", key_pem(key)),
        ):
            write_private(made / name, content)
    except OSError as error:
        raise DataDirectoryError(f"cannot write {made}: {error.strerror or error}") from error


def adopt(data_dir: Path) -> Path:
    """Put the draft in place, durably. Returns the path of the root's key. Raises DataDirectoryError."""
    folder = data_dir / FOLDER
    try:
        (data_dir / DRAFT).rename(folder)
        sync_directory(data_dir)
    except OSError as error:
        raise DataDirectoryError(f"cannot write {folder}: {error.strerror or error}") from error
    return folder / "root.key"


class Authority:
    """Issues and recognises certificates. Safe to share between threads."""

    def __init__(
        self, data_dir: Path, pki: Pki, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Raises DataDirectoryError when the authority's files are missing or damaged."""
        self._folder = data_dir / FOLDER
        self._pki = pki
        self._now = now
        self.root = self._read_certificate("root.pem")
        self.intermediate = self._read_certificate("intermediate.pem")
        self._key = self._read_key("intermediate.key")
        issuer = self.intermediate.public_key()
        if not isinstance(issuer, ec.EllipticCurvePublicKey) or issuer != self._key.public_key():
            raise DataDirectoryError(
                f"{self._folder}: intermediate.key and intermediate.pem do not belong together"
            )
        self._making = threading.Lock()
        self._recognise = lru_cache(maxsize=8192)(self._recognise_uncached)

    @property
    def root_pem(self) -> bytes:
        """The root, for join files and as the anchor of client certificates."""
        return pem(self.root)

    @property
    def root_der(self) -> bytes:
        """The root, DER."""
        return self.root.public_bytes(Encoding.DER)

    @property
    def intermediate_der(self) -> bytes:
        """The intermediate, DER."""
        return self.intermediate.public_bytes(Encoding.DER)

    @property
    def root_sha256(self) -> str:
        """SHA-256 of the root's DER, hexadecimal: the `ca_sha256` agents pin."""
        return hashlib.sha256(self.root_der).hexdigest()

    def issue(
        self, key: ec.EllipticCurvePublicKey, agent_id: AgentId, population: Population, generation: int
    ) -> Issued:
        """A certificate for an agent's key: 24 h on servers, 7 days elsewhere (PROMISES.md §2.6.4).

        Workstations and classroom PCs get whole UTC days, so that a certificate tells no time of day.
        """
        now = self._now()
        if population is Population.SERVER:
            not_before, not_after = now - CLOCK_SKEW, now + timedelta(hours=self._pki.server_leaf_hours)
        else:
            not_before = now.replace(hour=0, minute=0, second=0, microsecond=0)
            not_after = not_before + timedelta(days=self._pki.pc_leaf_days)
        return self.issue_between(key, agent_id, generation, not_before, not_after)

    def issue_between(
        self,
        key: ec.EllipticCurvePublicKey,
        agent_id: AgentId,
        generation: int,
        not_before: datetime,
        not_after: datetime,
    ) -> Issued:
        """A certificate for an agent's key, valid for exactly this span (whole seconds)."""
        builder = self._leaf(x509.Name([]), key, not_before, not_after, ExtendedKeyUsageOID.CLIENT_AUTH)
        for extension, critical in agent_extensions(agent_id, generation):
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(Encoding.DER), read_certificate(certificate))

    def recognise(self, certificate: bytes) -> AgentCertificate:
        """What a certificate (PEM or DER) signed by this authority says, expired or not.

        Raises NotAuthorised (not_an_agent, not_ours). Results are remembered: a connection shows the same PEM on every call.
        """
        return self._recognise(certificate)

    def _recognise_uncached(self, certificate: bytes) -> AgentCertificate:
        try:
            is_pem = certificate.startswith(b"-----")
            parsed = (
                x509.load_pem_x509_certificate(certificate)
                if is_pem
                else x509.load_der_x509_certificate(certificate)
            )
        except ValueError as error:
            raise NotAuthorised(
                "not_an_agent", "the certificate cannot be read: enrol this machine again"
            ) from error
        try:
            parsed.verify_directly_issued_by(self.intermediate)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise NotAuthorised(
                "not_ours", "the certificate is not one of this collector: enrol this machine again"
            ) from error
        return read_certificate(parsed)

    def server_identity(self) -> ServerIdentity:
        """The collector's own key and certificate, made again when near its end or when `pki.server_names` changed.

        Raises DataDirectoryError.
        """
        with self._making:  # asked for by both servers and by `health`, from any thread
            return self._existing_server_identity() or self._new_server_identity()

    def _new_server_identity(self) -> ServerIdentity:
        key = new_key()
        now = self._now()
        names = x509.SubjectAlternativeName(general_names(self._pki.server_names))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Veilleuse collector")])
        certificate = (
            self._leaf(
                subject,
                key.public_key(),
                now - CLOCK_SKEW,
                now + SERVER_LIFE,
                ExtendedKeyUsageOID.SERVER_AUTH,
            )
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        chain = pem(certificate) + pem(self.intermediate)
        try:
            write_private(self._folder / "server.key", key_pem(key))
            write_private(self._folder / "server.pem", chain)
        except OSError as error:
            raise DataDirectoryError(f"cannot write {self._folder}: {error.strerror or error}") from error
        return ServerIdentity(key_pem(key), chain, certificate.not_valid_after_utc)

    def _existing_server_identity(self) -> ServerIdentity | None:
        try:
            chain, key_pem = (
                (self._folder / "server.pem").read_bytes(),
                (self._folder / "server.key").read_bytes(),
            )
            leaf, issuer = x509.load_pem_x509_certificates(chain)[:2]
            key = load_pem_private_key(key_pem, None)
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound):
            return None  # missing or damaged: nothing but its own key is lost by making it again
        same_key = key.public_key() == leaf.public_key() and issuer == self.intermediate
        same_names = list(names) == general_names(self._pki.server_names)
        now = self._now()  # before its beginning: it was made while the clock was ahead
        fresh = leaf.not_valid_before_utc <= now and leaf.not_valid_after_utc - now > SERVER_RENEWAL
        if not (same_key and same_names and fresh):
            return None
        return ServerIdentity(key_pem, chain, leaf.not_valid_after_utc)

    def _leaf(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        not_before: datetime,
        not_after: datetime,
        usage: x509.ObjectIdentifier,
    ) -> x509.CertificateBuilder:
        self._require_valid_now()
        issuer_key = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.intermediate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(not_before, self.intermediate.not_valid_before_utc))
            .not_valid_after(min(not_after, self.intermediate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        )

    def _require_valid_now(self) -> None:
        """Raises DataDirectoryError when nobody would accept what this authority signs at this moment."""
        now, first, last = (
            self._now(),
            self.intermediate.not_valid_before_utc,
            self.intermediate.not_valid_after_utc,
        )
        if now < first:
            raise DataDirectoryError(
                f"the clock says {now:%Y-%m-%d %H:%M} UTC, the authority in {self._folder} begins on "
                f"{first:%Y-%m-%d %H:%M}: set the clock, or make the data directory again if it was wrong then"
            )
        if now >= last:
            raise DataDirectoryError(
                f"the intermediate in {self._folder} ended on {last:%Y-%m-%d}: set the clock, or make a new authority"
            )

    def _read_certificate(self, name: str) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate((self._folder / name).read_bytes())
        except (OSError, ValueError) as error:
            raise self._unreadable(name, error) from error

    def _read_key(self, name: str) -> ec.EllipticCurvePrivateKey:
        try:
            key = load_pem_private_key((self._folder / name).read_bytes(), None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise self._unreadable(name, error) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise DataDirectoryError(
                f"{self._folder / name} is not an elliptic-curve key: restore it from a backup"
            )
        return key

    def _unreadable(self, name: str, error: Exception) -> DataDirectoryError:
        what = error.strerror if isinstance(error, OSError) and error.strerror else "damaged"
        return DataDirectoryError(f"cannot read {self._folder / name} ({what}): restore it from a backup")
