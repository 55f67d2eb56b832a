# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Issue certificates for tests: root, intermediate, server and agent leaves."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support import clock

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER


@dataclass
class Signed:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(DER)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class TestAuthority:
    """Issues certificates like the product's authority: an agent's URI, client authentication only."""

    __test__ = False

    def __init__(self, name: str = "test") -> None:
        self.root = self._authority(f"{name} root", None)
        self.intermediate = self._authority(f"{name} intermediate", self.root)
        self.server = self.new_server()

    def new_server(
        self, begins: timedelta = timedelta(hours=-1), ends: timedelta = timedelta(days=1), name: str = ""
    ) -> Signed:
        """Return a collector's certificate, valid from now + begins to now + ends, for `name` or loopback."""
        names: list[x509.GeneralName] = [x509.DNSName(name or "localhost")]
        if not name:
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        key = ec.generate_private_key(ec.SECP256R1())
        now = clock.now()
        certificate = (
            self._builder(_name("collector"), key.public_key(), now + begins, now + ends)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self.intermediate.key, hashes.SHA256())
        )
        return Signed(certificate, key)

    def issue(
        self, request_der: bytes, agent_id: bytes, not_before: datetime, not_after: datetime
    ) -> x509.Certificate:
        """Return an agent's certificate for the key of a DER request, whose signature must be valid."""
        request = x509.load_der_x509_csr(request_der)
        assert request.is_signature_valid
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        uri = x509.UniformResourceIdentifier(f"urn:veilleuse:agent:{agent_id.hex()}")
        return (
            self._builder(x509.Name([]), key, not_before, not_after)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self.intermediate.key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, not_before: datetime, not_after: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.intermediate.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )

    def _authority(self, name: str, issuer: Signed | None) -> Signed:
        key = ec.generate_private_key(ec.SECP256R1())
        now = clock.now()
        signer = issuer.key if issuer else key
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(issuer.certificate.subject if issuer else _name(name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(signer, hashes.SHA256())
        )
        return Signed(certificate, key)


def agent_id_of(certificate: x509.Certificate) -> bytes:
    """Return the agent id in an agent's certificate."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return bytes.fromhex(names.get_values_for_type(x509.UniformResourceIdentifier)[0].rpartition(":")[2])


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
