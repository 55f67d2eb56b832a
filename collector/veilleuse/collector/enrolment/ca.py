# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The certificate authority: certificates of agents, of the collector, and of the authority itself.

veilleuse.collector.enrolment.ca_files describes the files in `<data_dir>/ca`. The root key signs an
intermediate. It may then be moved off-line: only the next intermediate needs it. An organisation's own
intermediate works as well.

Key usages limit each key. The root signs certificates only (path length 1). The intermediate signs leaves
only (path length 0, client and server authentication). An agent's leaf is a client only, so a stolen one can
never pose as the collector.

There are no X.509 name constraints. Constraints on URIs constrain a host name (RFC 5280 §4.2.1.10).
`urn:veilleuse:agent:` has no host name, so verifiers would refuse the whole chain. Clients trust this root
for this collector only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veilleuse.collector import clock
from veilleuse.collector.enrolment.ca_files import CaKeys, Folder, fingerprint, load
from veilleuse.collector.enrolment.ca_rotation import Step
from veilleuse.collector.enrolment.external_ca import ExternalCa
from veilleuse.collector.enrolment.root_key import FOLDER
from veilleuse.collector.enrolment.x509 import (
    CLOCK_SKEW,
    INTERMEDIATE_LIFE,
    INTERMEDIATE_NAME,
    ROOT_LIFE,
    ROOT_NAME,
    AgentCertificate,
    agent_extensions,
    authority_certificate,
    digest,
    general_names,
    issued_by,
    key_pem,
    key_usage,
    new_key,
    pem,
    read_certificate,
)
from veilleuse.collector.errors import DataDirectoryError
from veilleuse.collector.model.records import AgentId
from veilleuse.collector.settings import Pki
from veilleuse.wire.files import make_own_folder, remove_owned, rename_owned, replace_owned, sync_folder
from veilleuse.wire.vocabulary import Population

DRAFT: Final = "ca.new"
SERVER_LIFE: Final = timedelta(days=90)
DOCUMENT_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""id-kp-documentSigning, RFC 9336: no TLS peer accepts it."""
SERVER_RENEWAL: Final = timedelta(days=30)
"""The collector's own certificate is replaced when less than this is left."""


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """New certificate of an agent."""

    certificate_der: bytes
    facts: AgentCertificate


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """Certificate that the collector shows to agents, and roots that it accepts."""

    key_pem: bytes = field(repr=False)
    chain_pem: bytes
    """Leaf, then the certificates that link it to a root."""
    not_after: datetime
    roots_pem: bytes
    """Certificates of agents must chain to one of these roots."""


def create(data_dir: Path, now: datetime, external: ExternalCa | None = None) -> Path | None:
    """Create `<data_dir>/ca` with a new root and intermediate, or with an external one; all or nothing.

    Returns the path of the root key, when it was created here. Raises DataDirectoryError when an authority
    exists already, or cannot be written.
    """
    draft(data_dir, now, external)
    return adopt(data_dir)


def draft(data_dir: Path, now: datetime, external: ExternalCa | None = None) -> None:
    """Write a new authority into `<data_dir>/ca.new`; `adopt` activates it. Raises DataDirectoryError."""
    folder, made = data_dir / FOLDER, data_dir / DRAFT
    if folder.exists():
        raise DataDirectoryError(f"{folder} exists already: a second authority would disown every agent")
    files = _own_files(now) if external is None else _external_files(external)
    try:
        make_own_folder(made)
        # left by an interrupted init; the folder itself marks the interruption and stays
        for leftover in made.iterdir():
            remove_owned(leftover)
        for name, content in files.items():
            replace_owned(made / name, content)
    except OSError as error:
        raise DataDirectoryError(f"cannot write {made}: {error.strerror or error}") from error


def adopt(data_dir: Path) -> Path | None:
    """Move the draft into place, durably, and return the path of the root key, if present.

    Raises DataDirectoryError.
    """
    folder = data_dir / FOLDER
    try:
        rename_owned(data_dir / DRAFT, folder)
        sync_folder(data_dir)
    except OSError as error:
        raise DataDirectoryError(f"cannot write {folder}: {error.strerror or error}") from error
    return root_key_file(data_dir)


def root_key_file(data_dir: Path) -> Path | None:
    """Return the path of the root key, as long as it was not moved off-line."""
    path = data_dir / FOLDER / "root.key"
    return path if path.exists() else None


def _own_files(now: datetime) -> dict[str, bytes]:
    root_key, key = new_key(), new_key()
    root = authority_certificate(ROOT_NAME, root_key, None, now, ROOT_LIFE)
    intermediate = authority_certificate(INTERMEDIATE_NAME, key, (root, root_key), now, INTERMEDIATE_LIFE)
    return {
        "root.pem": pem(root),
        "root.key": key_pem(root_key),
        "intermediate.pem": pem(intermediate),
        "intermediate.key": key_pem(key),
    }


def _external_files(external: ExternalCa) -> dict[str, bytes]:
    return {
        "root.pem": pem(external.root),
        "intermediate.pem": b"".join(map(pem, external.chain)),
        "intermediate.key": key_pem(external.key),
    }


class Authority:
    """Issues and recognises certificates. Thread-safe: its state is replaced as a whole."""

    def __init__(self, data_dir: Path, pki: Pki, now: Callable[[], datetime] = clock.now) -> None:
        """Finish an interrupted change. Raises DataDirectoryError when files are missing or damaged."""
        self._folder = Folder(data_dir / FOLDER)
        self._pki = pki
        self._now = now
        self._making = threading.Lock()
        self._set_keys(load(self._folder, now()))

    def _set_keys(self, keys: CaKeys) -> None:
        self.keys = keys
        self._recognise = lru_cache(maxsize=8192)(keys.recognise)

    @property
    def root(self) -> x509.Certificate:
        """Root above the issuing intermediate."""
        return self.keys.current.root

    @property
    def intermediate(self) -> x509.Certificate:
        """Intermediate that issues certificates."""
        return self.keys.current.certificate

    @property
    def root_pem(self) -> bytes:
        """Root as PEM, for join files."""
        return pem(self.root)

    @property
    def root_sha256(self) -> str:
        """SHA-256 of the root's DER, hexadecimal: the `ca_sha256` that agents pin."""
        return fingerprint(self.root)

    @property
    def now(self) -> datetime:
        """Time of this authority's clock."""
        return self._now()

    def change(self, step: Step) -> CaKeys:
        """Apply a step of a rotation on disk, all or nothing, then in memory; return the new keys.

        Raises DataDirectoryError; UsageError or AdminError when the step is not possible.
        """
        with self._making:
            self._folder.change(step(self._folder, self.keys, self._now()))
            self._set_keys(load(self._folder, self._now()))
            return self.keys

    def bundle(self, certificate_der: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Return (intermediates, roots), DER, that an agent gets with its certificate.

        After a switch they include the cross certificate: an agent only accepts roots that its trusted roots
        vouch for.
        """
        held = self.keys
        chain = held.chain_above(x509.load_der_x509_certificate(certificate_der))
        if chain is None or chain == held.current.chain:
            chain = held.full_chain
        return _ders(chain), _ders(held.roots)

    def is_current(self, certificate_der: bytes) -> bool:
        """Return True when the present intermediate issued the certificate."""
        held = self.keys
        return held.chain_above(x509.load_der_x509_certificate(certificate_der)) == held.current.chain

    def issue(
        self, key: ec.EllipticCurvePublicKey, agent_id: AgentId, population: Population, generation: int
    ) -> IssuedCertificate:
        """Issue a certificate for an agent's key: 24 h on servers, 7 days elsewhere (docs/wire.md §6).

        Workstations and classroom PCs get whole UTC days, so that a certificate reveals no time of day.
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
    ) -> IssuedCertificate:
        """Issue a certificate for an agent's key, valid for exactly this span (whole seconds)."""
        held = self.keys
        builder = self._leaf(
            held, x509.Name([]), key, (not_before, not_after), ExtendedKeyUsageOID.CLIENT_AUTH
        )
        for extension, critical in agent_extensions(agent_id, generation):
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(held.key, digest(held.key))
        return IssuedCertificate(certificate.public_bytes(Encoding.DER), read_certificate(certificate))

    def document_chain(self, key: Ed25519PublicKey) -> tuple[x509.Certificate, ...]:
        """Issue a certificate for the key that signs closed years; return it with its chain and root.

        The certificate is valid for documents only. Raises DataDirectoryError when nobody would accept it
        now.
        """
        held, now = self.keys, self._now()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Veilleuse closed years")])
        validity = (now - CLOCK_SKEW, held.current.not_after)
        certificate = self._leaf(held, subject, key, validity, DOCUMENT_SIGNING).sign(
            held.key, digest(held.key)
        )
        return (certificate, *held.current.chain, held.current.root)

    def recognise(self, certificate: bytes) -> AgentCertificate:
        """Read a certificate (PEM or DER) signed by this authority, expired or not.

        Certificates of earlier intermediates are accepted. Raises NotAuthorised (not_an_agent, not_ours).
        Results are cached: a connection shows the same PEM on every call.
        """
        return self._recognise(certificate)

    def server_identity(self) -> ServerIdentity:
        """Return the collector's own key and certificate.

        Both are replaced near the end of the certificate, or when `pki.server_names` changed. Raises
        DataDirectoryError.
        """
        with self._making:  # both servers and `health` call this, from any thread
            held = self.keys
            return self._existing_server_identity(held) or self._new_server_identity(held)

    def _new_server_identity(self, held: CaKeys) -> ServerIdentity:
        key = new_key()
        now = self._now()
        names = x509.SubjectAlternativeName(general_names(self._pki.server_names))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Veilleuse collector")])
        validity = (now - CLOCK_SKEW, now + SERVER_LIFE)
        certificate = (
            self._leaf(held, subject, key.public_key(), validity, ExtendedKeyUsageOID.SERVER_AUTH)
            .add_extension(names, critical=False)
            .sign(held.key, digest(held.key))
        )
        try:
            replace_owned(self._folder.path / "server.key", key_pem(key))
            replace_owned(self._folder.path / "server.pem", pem(certificate) + _pems(held.current.chain))
        except OSError as error:
            raise DataDirectoryError(
                f"cannot write {self._folder.path}: {error.strerror or error}"
            ) from error
        return _server_identity(held, certificate, key_pem(key))

    def _existing_server_identity(self, held: CaKeys) -> ServerIdentity | None:
        try:
            chain, key_pem = self._folder.read("server.pem"), self._folder.read("server.key")
            leaf, *above = x509.load_pem_x509_certificates(chain or b"")
            key = load_pem_private_key(key_pem or b"", None)
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (DataDirectoryError, ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound):
            return None  # missing or damaged: only the collector's own key is lost by replacing it
        same_key = key.public_key() == leaf.public_key() and tuple(above) == held.current.chain
        same_names = list(names) == general_names(self._pki.server_names)
        now = self._now()  # before its beginning: it was created while the clock was ahead
        fresh = leaf.not_valid_before_utc <= now and leaf.not_valid_after_utc - now > SERVER_RENEWAL
        if not (same_key and same_names and fresh) or key_pem is None:
            return None
        return _server_identity(held, leaf, key_pem)

    def _leaf(
        self,
        held: CaKeys,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey | Ed25519PublicKey,
        validity: tuple[datetime, datetime],
        usage: x509.ObjectIdentifier,
    ) -> x509.CertificateBuilder:
        self._require_valid_now(held)
        issuer = held.current
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(validity[0], issuer.not_before))
            .not_valid_after(min(validity[1], issuer.not_after))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        return issued_by(builder, issuer.certificate)

    def _require_valid_now(self, held: CaKeys) -> None:
        """Raise DataDirectoryError when nobody would accept a certificate signed at this moment."""
        now, first, last = self._now(), held.current.not_before, held.current.not_after
        if now < first:
            raise DataDirectoryError(
                f"the clock says {now:%Y-%m-%d %H:%M} UTC, the authority in {self._folder.path} begins on "
                f"{first:%Y-%m-%d %H:%M}: set the clock, or make the data directory again if it was wrong "
                "then"
            )
        if now >= last:
            raise DataDirectoryError(
                f"the intermediate in {self._folder.path} ended on {last:%Y-%m-%d}: set the clock, or make a "
                "new one with "
                "'veilleuse ca renew-intermediate'"
            )


def _server_identity(held: CaKeys, certificate: x509.Certificate, key_pem: bytes) -> ServerIdentity:
    chain = pem(certificate) + _pems(held.full_chain)
    return ServerIdentity(key_pem, chain, certificate.not_valid_after_utc, _pems(held.roots))


def _pems(certificates: tuple[x509.Certificate, ...]) -> bytes:
    return b"".join(map(pem, certificates))


def _ders(certificates: tuple[x509.Certificate, ...]) -> tuple[bytes, ...]:
    return tuple(each.public_bytes(Encoding.DER) for each in certificates)
