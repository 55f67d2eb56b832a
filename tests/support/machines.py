# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Serve a collector on free loopback ports, and speak to it as a bare agent, for the tests of identity."""

from __future__ import annotations

import atexit
import copy
import shutil
import socket
import ssl
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
"""Timeout of a call that takes milliseconds, because a test machine may stall."""
EPOCH = b"\x01" * EPOCH_BYTES


def certificate_of(address: str) -> bytes:
    """Return the certificate that the server at this address shows, DER."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), SECONDS) as plain,
        context.wrap_socket(plain) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def settings_in(folder: Path, **overrides: str) -> CollectorSettings:
    """Return settings of the data directory `folder/data`: free ports, no minimum of free disk space."""
    free = {
        "grpc.address": "127.0.0.1:0",
        "grpc.enrolment_address": "127.0.0.1:0",
        "http.address": "127.0.0.1:0",
    }
    room = {"store.free_bytes_minimum": "0"}
    return read_settings(None, {}, {"data_dir": str(folder / "data"), **free, **room, **overrides})


def make(settings: CollectorSettings, site: str) -> None:
    """Create the data directory of `settings_in` as `initialise` does, by copying one made per process."""
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
    """This object gives tests access to a running collector."""

    collector: Collector

    def token(self, **more: Any) -> dict[str, Any]:
        """Create a token and return the content of its join file; `more` changes the request."""
        asked = {"org_entity": "DSI", "site": "Lyon", "population": "server", **more}
        made: dict[str, Any] = self.collector.operations.perform("token_create", asked)
        return {**made["join"], "token_id": made["token_id"]}


@contextmanager
def served(settings: CollectorSettings) -> Iterator[Served]:
    """Serve a collector without web pages while the block runs; create its data directory if missing."""
    if not settings.data_dir.exists():
        initialise(settings, site="Lyon")
    with open_collector(settings) as collector, run_servers(collector, web=False):
        yield Served(collector)


class Machine:
    """This agent has an identity and makes single calls; it measures nothing."""

    def __init__(self, join: dict[str, Any], ca_pem: str | None = None) -> None:
        self.join = join
        self.roots = (ca_pem or join["ca_pem"]).encode()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.agent_id = b""
        self.chain = b""
        self.certificate_der = b""
        self.nonce = b""

    def clone(self) -> Machine:
        """Return another machine with the same join file, key, certificate and nonce."""
        return copy.copy(self)

    def copy_of(
        self, key: ec.EllipticCurvePrivateKey, signer: Any = None, **changed: bytes
    ) -> pb.EnrolRequest:
        """Return the request with which a copy of this machine asks for its own identity, with the new `key`;
        `signer` and `changed` replace valid parts of the proof."""
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
        """Request an own identity as a copy; keep the new key, agent id and certificate if one is issued."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        request = self.copy_of(key)
        with self.enrolment() as stub:
            answer: pb.EnrolResponse = stub.Enrol(request, timeout=SECONDS)
        if answer.HasField("certificate"):
            self.key, self.agent_id, self.nonce = key, answer.agent_id, b""
            self.keep(answer.certificate)
        return answer

    def enrol(self) -> pb.EnrolResponse:
        """Enrol with the join file's token and the present key; keep the agent id and any certificate."""
        request = pb.EnrolRequest(token=self.join["token"], certificate_request_der=self.request())
        with self.enrolment() as stub:
            answer: pb.EnrolResponse = stub.Enrol(request, timeout=SECONDS)
        self.agent_id = answer.agent_id
        if answer.HasField("certificate"):
            self.keep(answer.certificate)
        return answer

    def keep(self, issued: pb.IssuedCertificate) -> None:
        """Use the issued certificate and its intermediates from now on."""
        self.certificate_der = issued.certificate_der
        ders = [issued.certificate_der, *issued.intermediates_der]
        self.chain = b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in ders)

    def request(self, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        """Return a DER certificate request for `key`, or for the present key."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(key or self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def hello(self) -> pb.HelloResponse:
        """Send one Hello on its own connection, with the nonce of the last answer; keep the new nonce."""
        request = hello_request()
        request.instance_id = self.nonce
        with self.telemetry() as stub:
            answer: pb.HelloResponse = stub.Hello(request, timeout=SECONDS)
        self.nonce = answer.next_instance_id
        return answer

    def renew_expired(
        self, new_key: ec.EllipticCurvePrivateKey, signer: Any = None
    ) -> pb.RenewExpiredResponse:
        """Renew an expired certificate: request a challenge, sign it with `signer` or the present key, return
        the answer. Nothing is kept."""
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
        """Give a stub of the enrolment port :8642."""
        credentials = grpc.ssl_channel_credentials(self.roots)
        with grpc.secure_channel(self.join["enrolment_address"], credentials) as channel:
            yield pb_grpc.EnrolmentServiceStub(channel)

    @contextmanager
    def telemetry(self) -> Iterator[Any]:
        """Give a stub of the telemetry port :8641, authenticated by the certificate."""
        with self.channel() as channel:
            yield pb_grpc.TelemetryServiceStub(channel)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """Give a connection to the telemetry port :8641, authenticated by the certificate."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        credentials = grpc.ssl_channel_credentials(self.roots, key, self.chain)
        with grpc.secure_channel(self.join["address"], credentials) as channel:
            yield channel


def hello_request() -> pb.HelloRequest:
    """Return the smallest valid Hello."""
    return pb.HelloRequest(epoch=EPOCH, protocol=pb.ProtocolRange(minimum=1, maximum=1))


def refusal(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    """Return (status code, reason) of a refused call; the reason may be empty."""
    metadata: Any = error.trailing_metadata() or ()
    reasons = [str(value) for key, value in metadata if key == "veilleuse-reason"]
    return error.code(), "".join(reasons)


def refused(call: Callable[..., object], *arguments: Any, **more: Any) -> tuple[grpc.StatusCode, str]:
    """Make a call that must be refused, and return its (status code, reason)."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **more)
    return refusal(caught.value)


def enrolled(running: Served, **token: Any) -> Machine:
    """Enrol a new machine, send its first Hello, and return it; `token` changes the token's request."""
    machine = Machine(running.token(**token))
    machine.enrol()
    machine.hello()
    return machine
