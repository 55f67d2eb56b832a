# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A collector on free loopback ports, and a bare agent's side of enrolment: what the tests of identity speak
with."""

from __future__ import annotations

import atexit
import copy
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from veilleuse.collector.app.data_directory import Collector, initialise, open_collector
from veilleuse.collector.app.service import run_servers
from veilleuse.collector.settings import CollectorSettings, read_settings
from veilleuse.wire.limits import EPOCH_BYTES
from veilleuse.wire.renewal import copy_of_message, renew_expired_message
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.v1 import telemetry_pb2_grpc as pb_grpc

SECONDS = 30.0
"""For an answer that takes milliseconds: a machine may stall."""
EPOCH = b"\x01" * EPOCH_BYTES


def settings_in(folder: Path, **overrides: str) -> CollectorSettings:
    """Settings of a data directory in `folder`, on free ports."""
    free = {
        "grpc.address": "127.0.0.1:0",
        "grpc.enrolment_address": "127.0.0.1:0",
        "http.address": "127.0.0.1:0",
    }
    room = {"store.free_bytes_minimum": "0"}
    return read_settings(None, {}, {"data_dir": str(folder / "data"), **free, **room, **overrides})


def make(settings: CollectorSettings, site: str) -> None:
    """As `initialise` with the settings of `settings_in`, which it does once a process: then it copies."""
    shutil.copytree(_made(site), settings.data_dir)


@cache
def _made(site: str) -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = settings_in(folder)
    initialise(settings, site=site)
    return settings.data_dir


@dataclass
class Served:
    """A running collector."""

    collector: Collector

    def token(self, **more: Any) -> dict[str, Any]:
        """The content of a new join file."""
        asked = {"org_entity": "DSI", "site": "Lyon", "population": "server", **more}
        made: dict[str, Any] = self.collector.operations.perform("token_create", asked)
        return {**made["join"], "token_id": made["token_id"]}


@contextmanager
def served(settings: CollectorSettings) -> Iterator[Served]:
    """A collector that serves while the block runs, made first when it is not there."""
    if not settings.data_dir.exists():
        initialise(settings, site="Lyon")
    with open_collector(settings) as collector, run_servers(collector, web=False):
        yield Served(collector)


class Machine:
    """An agent reduced to its identity."""

    def __init__(self, join: dict[str, Any], ca_pem: str | None = None) -> None:
        self.join = join
        self.roots = (ca_pem or join["ca_pem"]).encode()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.agent_id = b""
        self.chain = b""
        self.certificate_der = b""
        self.nonce = b""

    def clone(self) -> Machine:
        """Another machine with all that this one has."""
        return copy.copy(self)

    def copy_of(
        self, key: ec.EllipticCurvePrivateKey, signer: Any = None, **changed: bytes
    ) -> pb.EnrolRequest:
        """What a copy of this machine asks for its new key with; everything right but what is `changed`."""
        request = self.request(key)
        with self.enrolment() as stub:
            nonce = stub.Challenge(pb.ChallengeRequest(agent_id=self.agent_id), timeout=SECONDS).nonce
        signature = (signer or self.key).sign(copy_of_message(nonce, request), ec.ECDSA(hashes.SHA256()))
        proof = {
            "agent_id": self.agent_id,
            "nonce": nonce,
            "certificate_der": self.certificate_der,
            "signature_der": signature,
        }
        return pb.EnrolRequest(certificate_request_der=request, copy_of=pb.CopyOf(**proof | changed))

    def enrol_as_copy(self, key: ec.EllipticCurvePrivateKey | None = None) -> pb.EnrolResponse:
        """Ask for an identity of its own; keeps what it gets, and the new key."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        request = self.copy_of(key)
        with self.enrolment() as stub:
            answer: pb.EnrolResponse = stub.Enrol(request, timeout=SECONDS)
        if answer.HasField("certificate"):
            self.key, self.agent_id, self.nonce = key, answer.agent_id, b""
            self.keep(answer.certificate)
        return answer

    def enrol(self) -> pb.EnrolResponse:
        """With the present key; keeps what it gets."""
        request = pb.EnrolRequest(token=self.join["token"], certificate_request_der=self.request())
        with self.enrolment() as stub:
            answer: pb.EnrolResponse = stub.Enrol(request, timeout=SECONDS)
        self.agent_id = answer.agent_id
        if answer.HasField("certificate"):
            self.keep(answer.certificate)
        return answer

    def keep(self, issued: pb.IssuedCertificate) -> None:
        """Use a certificate from now on."""
        self.certificate_der = issued.certificate_der
        ders = [issued.certificate_der, *issued.intermediates_der]
        self.chain = b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in ders)

    def request(self, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        """A certificate request for a key, DER."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(key or self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def hello(self) -> pb.HelloResponse:
        """One call on a connection of its own; shows the nonce of the last answer, and keeps the new one."""
        request = hello_request()
        request.instance_id = self.nonce
        with self.telemetry() as stub:
            answer: pb.HelloResponse = stub.Hello(request, timeout=SECONDS)
        self.nonce = answer.next_instance_id
        return answer

    def renew_expired(
        self, new_key: ec.EllipticCurvePrivateKey, signer: Any = None
    ) -> pb.RenewExpiredResponse:
        """Challenge, signature, new certificate."""
        request = self.request(new_key)
        with self.enrolment() as stub:
            nonce = stub.Challenge(pb.ChallengeRequest(agent_id=self.agent_id), timeout=SECONDS).nonce
            message = renew_expired_message(nonce, request)
            signature = (signer or self.key).sign(message, ec.ECDSA(hashes.SHA256()))
            answer: pb.RenewExpiredResponse = stub.RenewExpired(
                pb.RenewExpiredRequest(
                    agent_id=self.agent_id,
                    nonce=nonce,
                    certificate_der=self.certificate_der,
                    signature_der=signature,
                    certificate_request_der=request,
                ),
                timeout=SECONDS,
            )
            return answer

    @contextmanager
    def enrolment(self) -> Iterator[Any]:
        """A stub of :8642."""
        credentials = grpc.ssl_channel_credentials(self.roots)
        with grpc.secure_channel(self.join["enrolment_address"], credentials) as channel:
            yield pb_grpc.EnrolmentServiceStub(channel)

    @contextmanager
    def telemetry(self) -> Iterator[Any]:
        """A stub of :8641, with the certificate."""
        with self.channel() as channel:
            yield pb_grpc.TelemetryServiceStub(channel)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A connection to :8641, with the certificate."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        credentials = grpc.ssl_channel_credentials(self.roots, key, self.chain)
        with grpc.secure_channel(self.join["address"], credentials) as channel:
            yield channel


def hello_request() -> pb.HelloRequest:
    """The smallest one that is valid."""
    return pb.HelloRequest(epoch=EPOCH, protocol=pb.ProtocolRange(minimum=1, maximum=1))


def refusal(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """(code, reason) of a refused call."""
    metadata: Any = error.trailing_metadata() or ()
    reasons = [str(value) for key, value in metadata if key == "veilleuse-reason"]
    return error.code(), "".join(reasons)


def refused(call: Callable[..., object], *arguments: Any, **more: Any) -> tuple[grpc.StatusCode, str]:
    """How a call that must be refused is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **more)
    return refusal(caught.value)


def enrolled(running: Served, **token: Any) -> Machine:
    """A machine that has said Hello."""
    machine = Machine(running.token(**token))
    machine.enrol()
    machine.hello()
    return machine
