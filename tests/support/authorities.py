# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Build an organisation's certificate authority for tests: any key, any number of levels, any defect."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support import clock

Key = Any
"""A private key of any type that `cryptography` generates."""


@dataclass
class Form:
    """These fields set the extensions and validity of an authority's certificate; the defaults are valid."""

    ca: bool = True
    path_length: int | None = 0
    signs: bool = True
    usages: tuple[x509.ObjectIdentifier, ...] = (
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    )
    begins: timedelta = timedelta(hours=-1)
    ends: timedelta = timedelta(days=1000)
    constraints: x509.NameConstraints | None = None
    odd_key_id: bool = True
    """True: the subject key identifier is not the standard hash of the key, as some authorities make it."""


def new_key(kind: str) -> Key:
    """Generate a private key: `P-256`, `P-384`, `P-521`, `Ed25519`, or `RSA` and its bits, as `RSA 2048`."""
    word, _, bits = kind.partition(" ")
    if word == "RSA":
        return rsa.generate_private_key(65537, int(bits))
    if word == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    return ec.generate_private_key(curves[word])


class Organisation:
    """An organisation has a root, `between` authorities below it, and the collector's intermediate."""

    def __init__(
        self,
        kind: str = "P-256",
        *,
        between: int = 0,
        form: Form | None = None,
        root_form: Form | None = None,
    ) -> None:
        self.kind = kind
        self.form = form or Form()
        self._levels = [_Level.root(root_form or Form(path_length=None))]
        for number in range(between):
            self._levels.append(self._levels[-1].below(f"Ville CA {number}", "P-384", Form(path_length=None)))
        self._issue()

    def _issue(self) -> None:
        self.intermediate = self._levels[-1].below("Ville issuing CA", self.kind, self.form)

    def next_intermediate(self) -> Organisation:
        """Replace the intermediate by a new one, in place; return this organisation."""
        self._issue()
        return self

    @property
    def chain_pem(self) -> bytes:
        """The PEM certificates from the intermediate up to the root, without the root."""
        return b"".join(_pem(level.certificate) for level in [self.intermediate, *reversed(self._levels[1:])])

    @property
    def key_pem(self) -> bytes:
        """The intermediate's private key, as unencrypted PEM."""
        return _key_pem(self.intermediate.key)

    @property
    def root_pem(self) -> bytes:
        """The root's certificate, as PEM."""
        return _pem(self._levels[0].certificate)

    def encrypted_key_pem(self, passphrase: bytes) -> bytes:
        """Return the intermediate's private key as PEM, encrypted with the passphrase."""
        encryption = BestAvailableEncryption(passphrase)
        pem: bytes = self.intermediate.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        return pem

    def files(self, folder: Path, prefix: str = "--") -> list[str]:
        """Write `certificate.pem`, `key.pem` and `root.pem`; return the options that name them."""
        files = {"certificate": self.chain_pem, "key": self.key_pem, "root": self.root_pem}
        for name, content in files.items():
            (folder / f"{name}.pem").write_bytes(content)
        return [word for name in files for word in (f"{prefix}{name}", str(folder / f"{name}.pem"))]

    def arguments(self) -> dict[str, str]:
        """Return the arguments of the administration operation `ca_import`."""
        return {
            "certificate_pem": self.chain_pem.decode(),
            "key_pem": self.key_pem.decode(),
            "root_pem": self.root_pem.decode(),
        }


@dataclass
class _Level:
    certificate: x509.Certificate
    key: Key = field(repr=False)

    @classmethod
    def root(cls, form: Form) -> _Level:
        key = new_key("P-384")
        return cls(_certificate("Ville root", key, None, form), key)

    def below(self, name: str, kind: str, form: Form) -> _Level:
        key = new_key(kind)
        return _Level(_certificate(name, key, self, form), key)


def _certificate(name: str, key: Key, issuer: _Level | None, form: Form) -> x509.Certificate:
    now, subject = clock.now(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    public = key.public_key()
    key_id = x509.SubjectKeyIdentifier.from_public_key(public)
    if form.odd_key_id:
        key_id = x509.SubjectKeyIdentifier(key_id.digest[:8])
    above = key_id if issuer is None else _key_id(issuer.certificate)
    usage = x509.KeyUsage(not form.signs, False, False, False, False, form.signs, form.signs, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + form.begins)
        .not_valid_after(now + form.ends)
        .add_extension(x509.BasicConstraints(form.ca, form.path_length if form.ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(above.digest, None, None), critical=False)
    )
    if issuer is not None and form.usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(form.usages), critical=False)
    if form.constraints is not None:
        builder = builder.add_extension(form.constraints, critical=True)
    return builder.sign(key if issuer is None else issuer.key, hashes.SHA384())


def _key_id(certificate: x509.Certificate) -> x509.SubjectKeyIdentifier:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: Key) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem
