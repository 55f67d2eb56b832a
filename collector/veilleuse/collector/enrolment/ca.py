# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The certificate authority: agents' certificates, the collector's own, and the authority's own files.

What lies in `<data_dir>/ca` is told by veilleuse.collector.enrolment.ca_files. The root key signs an intermediate, and
may be moved off-line at once: until the next one nothing else needs it. An organisation's own intermediate does as well.

Usages bound what each key can do: the root signs certificates only (path length 1), the intermediate signs leaves
only (path length 0, client and server authentication), an agent's leaf is a client only, so that a stolen one can
never pose as the collector. There are no X.509 name constraints: those on URIs constrain a host name (RFC 5280
§4.2.1.10), and `urn:veilleuse:agent:` has none, so that verifiers refuse the whole chain. Clients trust this root
for this collector only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veilleuse.collector.enrolment.ca_files import CaKeys, Folder, fingerprint, load
from veilleuse.collector.enrolment.ca_rotation import Step
from veilleuse.collector.enrolment.external_ca import ExternalCa
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

FOLDER: Final = "ca"
DRAFT: Final = "ca.new"
SERVER_LIFE: Final = timedelta(days=90)
DOCUMENT_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""id-kp-documentSigning, RFC 9336: no TLS peer takes it for its own."""
SERVER_RENEWAL: Final = timedelta(days=30)
"""The collector's own certificate is made again when less than this is left."""


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A new certificate of an agent."""

    certificate_der: bytes
    facts: AgentCertificate


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What the collector shows to agents, and what it asks of theirs."""

    key_pem: bytes = field(repr=False)
    chain_pem: bytes
    """Leaf, then what hangs it on a root."""
    not_after: datetime
    roots_pem: bytes
    """Agents' certificates must hang on one of them."""


def create(data_dir: Path, now: datetime, brought: ExternalCa | None = None) -> Path | None:
    """Make `<data_dir>/ca` with a new root and intermediate, or with one brought; all or nothing.

    Returns the path of the root's key, when it was made here. Raises DataDirectoryError when there is one already or it
    cannot be written.
    """
    draft(data_dir, now, brought)
    return adopt(data_dir)


def draft(data_dir: Path, now: datetime, brought: ExternalCa | None = None) -> None:
    """Write a new authority into `<data_dir>/ca.new`, where it is none until `adopt`. Raises DataDirectoryError."""
    folder, made = data_dir / FOLDER, data_dir / DRAFT
    if folder.exists():
        raise DataDirectoryError(f"{folder} exists already: a second authority would disown every agent")
    files = _own_files(now) if brought is None else _brought_files(brought)
    try:
        make_own_folder(made)
        for leftover in made.iterdir():  # of an init that was cut; the folder itself says so and stays
            remove_owned(leftover)
        for name, content in files.items():
            replace_owned(made / name, content)
    except OSError as error:
        raise DataDirectoryError(f"cannot write {made}: {error.strerror or error}") from error


def adopt(data_dir: Path) -> Path | None:
    """Put the draft in place, durably. Returns the path of the root's key, if it is there. Raises DataDirectoryError."""
    folder = data_dir / FOLDER
    try:
        rename_owned(data_dir / DRAFT, folder)
        sync_folder(data_dir)
    except OSError as error:
        raise DataDirectoryError(f"cannot write {folder}: {error.strerror or error}") from error
    return root_key_file(data_dir)


def root_key_file(data_dir: Path) -> Path | None:
    """Where the root's key lies, as long as nobody moved it off-line."""
    path = data_dir / FOLDER / "root.key"
    return path if path.exists() else None


def root_key_files(data_dir: Path) -> list[Path]:
    """The keys of roots, old, present and next, that nobody moved off-line yet."""
    return sorted((data_dir / FOLDER).glob("*root.key"))


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


def _brought_files(brought: ExternalCa) -> dict[str, bytes]:
    return {
        "root.pem": pem(brought.root),
        "intermediate.pem": b"".join(map(pem, brought.chain)),
        "intermediate.key": key_pem(brought.key),
    }


class Authority:
    """Issues and recognises certificates. Safe to share between threads: what it holds is replaced as a whole."""

    def __init__(
        self, data_dir: Path, pki: Pki, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Finishes a step that was cut. Raises DataDirectoryError when the authority's files are missing or damaged."""
        self._folder = Folder(data_dir / FOLDER)
        self._pki = pki
        self._now = now
        self._making = threading.Lock()
        self._hold(load(self._folder, now()))

    def _hold(self, holdings: CaKeys) -> None:
        self.holdings = holdings
        self._recognise = lru_cache(maxsize=8192)(holdings.recognise)

    @property
    def root(self) -> x509.Certificate:
        """The root that the issuing intermediate hangs on."""
        return self.holdings.current.root

    @property
    def intermediate(self) -> x509.Certificate:
        """The one that issues."""
        return self.holdings.current.certificate

    @property
    def root_pem(self) -> bytes:
        """The root, for join files."""
        return pem(self.root)

    @property
    def intermediate_der(self) -> bytes:
        """The issuing intermediate, DER."""
        return self.intermediate.public_bytes(Encoding.DER)

    @property
    def root_sha256(self) -> str:
        """SHA-256 of the root's DER, hexadecimal: the `ca_sha256` agents pin."""
        return fingerprint(self.root)

    @property
    def now(self) -> datetime:
        """This authority's clock."""
        return self._now()

    def change(self, step: Step) -> CaKeys:
        """Make a step of a rotation: on disk at once or not at all, then for everyone who asks. What is held now.

        Raises DataDirectoryError, or UsageError or AdminError when the step cannot be made.
        """
        with self._making:
            self._folder.change(step(self._folder, self.holdings, self._now()))
            self._hold(load(self._folder, self._now()))
            return self.holdings

    def bundle(self, certificate_der: bytes) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """(intermediates, roots), DER, that go to an agent with its certificate.

        After a switch the cross certificate is among them: an agent takes no root that those it trusts do not vouch for.
        """
        held = self.holdings
        chain = held.chain_above(x509.load_der_x509_certificate(certificate_der))
        if chain is None or chain == held.current.chain:
            chain = held.full_chain
        return _ders(chain), _ders(held.roots)

    def is_current(self, certificate_der: bytes) -> bool:
        """Whether the intermediate that issues now made it."""
        held = self.holdings
        return held.chain_above(x509.load_der_x509_certificate(certificate_der)) == held.current.chain

    def issue(
        self, key: ec.EllipticCurvePublicKey, agent_id: AgentId, population: Population, generation: int
    ) -> IssuedCertificate:
        """A certificate for an agent's key: 24 h on servers, 7 days elsewhere (docs/wire.md §6).

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
    ) -> IssuedCertificate:
        """A certificate for an agent's key, valid for exactly this span (whole seconds)."""
        held = self.holdings
        builder = self._leaf(
            held, x509.Name([]), key, (not_before, not_after), ExtendedKeyUsageOID.CLIENT_AUTH
        )
        for extension, critical in agent_extensions(agent_id, generation):
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(held.key, digest(held.key))
        return IssuedCertificate(certificate.public_bytes(Encoding.DER), read_certificate(certificate))

    def document_chain(self, key: Ed25519PublicKey) -> tuple[x509.Certificate, ...]:
        """A certificate for the key that signs closed years, what hangs it on its root, and that root. Good for documents alone.

        Raises DataDirectoryError when nobody would accept it now.
        """
        held, now = self.holdings, self._now()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Veilleuse closed years")])
        validity = (now - CLOCK_SKEW, held.current.not_after)
        certificate = self._leaf(held, subject, key, validity, DOCUMENT_SIGNING).sign(
            held.key, digest(held.key)
        )
        return (certificate, *held.current.chain, held.current.root)

    def recognise(self, certificate: bytes) -> AgentCertificate:
        """What a certificate (PEM or DER) signed by this authority says, expired or not, of an earlier intermediate too.

        Raises NotAuthorised (not_an_agent, not_ours). Results are remembered: a connection shows the same PEM on every call.
        """
        return self._recognise(certificate)

    def server_identity(self) -> ServerIdentity:
        """The collector's own key and certificate, made again when near its end or when `pki.server_names` changed.

        Raises DataDirectoryError.
        """
        with self._making:  # asked for by both servers and by `health`, from any thread
            held = self.holdings
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
            return None  # missing or damaged: nothing but its own key is lost by making it again
        same_key = key.public_key() == leaf.public_key() and tuple(above) == held.current.chain
        same_names = list(names) == general_names(self._pki.server_names)
        now = self._now()  # before its beginning: it was made while the clock was ahead
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
        """Raises DataDirectoryError when nobody would accept what this authority signs at this moment."""
        now, first, last = self._now(), held.current.not_before, held.current.not_after
        if now < first:
            raise DataDirectoryError(
                f"the clock says {now:%Y-%m-%d %H:%M} UTC, the authority in {self._folder.path} begins on "
                f"{first:%Y-%m-%d %H:%M}: set the clock, or make the data directory again if it was wrong then"
            )
        if now >= last:
            raise DataDirectoryError(
                f"the intermediate in {self._folder.path} ended on {last:%Y-%m-%d}: set the clock, or make a new one with "
                "'veilleuse ca renew-intermediate'"
            )


def _server_identity(held: CaKeys, certificate: x509.Certificate, key_pem: bytes) -> ServerIdentity:
    chain = pem(certificate) + _pems(held.full_chain)
    return ServerIdentity(key_pem, chain, certificate.not_valid_after_utc, _pems(held.roots))


def _pems(certificates: tuple[x509.Certificate, ...]) -> bytes:
    return b"".join(map(pem, certificates))


def _ders(certificates: tuple[x509.Certificate, ...]) -> tuple[bytes, ...]:
    return tuple(each.public_bytes(Encoding.DER) for each in certificates)
