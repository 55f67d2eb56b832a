# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run a collector in memory that keeps the protocol only, on two real gRPC ports with real TLS.

Tests make it fail as real collectors do: lose a reply after the commit, refuse records, go back in time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent import futures
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import clock
from tests.support.fakes.authority import DER, TestAuthority, agent_id_of
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.v1 import telemetry_pb2_grpc as rpc


@dataclass
class Stream:
    """Stored records and chains of one epoch of one agent."""

    chain: bytes
    records: list[bytes] = field(default_factory=list)
    chains: list[bytes] = field(default_factory=list)

    @property
    def mark(self) -> int:
        return len(self.records)


class FakeCollector:
    """A context manager that serves while the block runs; its attributes set its answers and faults."""

    def __init__(self, authority: TestAuthority | None = None) -> None:
        self.authority = authority or TestAuthority()
        self.token = "t" * 43
        self.fleet_key = bytes(range(32))
        self.streams: dict[tuple[bytes, bytes], Stream] = {}
        self.enrolments: dict[tuple[str, bytes], bytes] = {}
        self.requests: list[Any] = []
        self.placement = pb.Placement(org_entity="DINUM", site="Part-Dieu", population=pb.POPULATION_SERVER)
        self.calendar: pb.Calendar | None = None
        self.configuration: pb.RemoteConfiguration | None = None
        self.version = "0.2.0"
        self.next_send_after_milliseconds = 0
        self.leaf_life = timedelta(hours=24)
        self.leaf_age = timedelta(minutes=5)
        # Faults.
        self.lose_replies = 0
        self.refuse: Callable[[pb.Record], str] = lambda record: ""
        self.invalid: Callable[[pb.Record], bool] = lambda record: False
        self.abort: tuple[grpc.StatusCode, str, int] | None = None
        self.forbidden: set[bytes] = set()
        self.conflicting: set[bytes] = set()
        """Instance ids whose Hello is refused as if another holder of the identity had been served."""
        self.approve = False
        """True: copies wait for an operator's approval."""
        self.copies: dict[tuple[bytes, bytes], bytes] = {}
        """(original's agent id, public key) → the copy's agent id."""
        self._nonces: set[bytes] = set()
        self._servers: list[grpc.Server] = []
        self.address = self.enrolment_address = ""

    def __enter__(self) -> FakeCollector:
        server = self.authority.server
        chain = server.pem + self.authority.intermediate.pem
        mutual = grpc.ssl_server_credentials([(server.key_pem, chain)], self.authority.root.pem, True)
        plain = grpc.ssl_server_credentials([(server.key_pem, chain)])
        self.address = self._serve(rpc.add_TelemetryServiceServicer_to_server, _Telemetry(self), mutual)
        self.enrolment_address = self._serve(
            rpc.add_EnrolmentServiceServicer_to_server, _Enrolment(self), plain
        )
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.stop(None).wait()
        self._servers = []

    def join_file(self, path: Path, **changes: Any) -> Path:
        """Write the join file of `veilleuse token create`, with these `changes`; return its path."""
        content = {
            "version": 1,
            "address": self.address,
            "enrolment_address": self.enrolment_address,
            "ca_pem": self.authority.root.pem.decode(),
            "ca_sha256": hashlib.sha256(self.authority.root.der).hexdigest(),
            "token": self.token,
            "fleet_key": self.fleet_key.hex(),
        } | changes
        path.touch(mode=0o600)
        path.write_text(json.dumps(content))
        return path

    def stored(self, agent_id: bytes) -> list[pb.Record]:
        """Return an agent's records, epoch by epoch; a record with the same bytes appears once."""
        seen: dict[bytes, pb.Record] = {}
        for (owner, _), stream in self.streams.items():
            if owner == agent_id:
                for wire in stream.records:
                    seen.setdefault(wire, pb.Record.FromString(wire))
        return list(seen.values())

    def backup(self) -> dict[tuple[bytes, bytes], Stream]:
        """Return a copy of `streams`; assign it to `streams` to restore the backup."""
        return deepcopy(self.streams)

    def issued(self, request_der: bytes, agent_id: bytes) -> pb.IssuedCertificate:
        """Return a new certificate for the key of a DER request."""
        now = clock.now()
        leaf = self.authority.issue(
            request_der, agent_id, now - self.leaf_age, now - self.leaf_age + self.leaf_life
        )
        return pb.IssuedCertificate(
            certificate_der=leaf.public_bytes(DER),
            intermediates_der=[self.authority.intermediate.der],
            roots_der=[self.authority.root.der],
        )

    def caller(self, context: grpc.ServicerContext) -> bytes:
        """Return the agent id in the caller's certificate; aborts the call if a test asks for it."""
        if self.abort is not None:
            code, details, retry = self.abort
            if retry:
                context.set_trailing_metadata((("retry-after-milliseconds", str(retry)),))
            context.abort(code, details)
        pem: Any = next(iter(context.auth_context()["x509_pem_cert"]))
        agent_id = agent_id_of(x509.load_pem_x509_certificate(pem))
        if agent_id in self.forbidden:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "this machine was revoked")
        return agent_id

    def push(self, agent_id: bytes, request: pb.PushRequest) -> pb.PushResponse:
        """Store a push by docs/wire.md §2, rule 2, and return the answer."""
        stream = self.streams.setdefault((agent_id, request.epoch), Stream(chain_start(request.epoch)))
        parsed = [pb.Record.FromString(wire) for wire in request.records]
        refusals = [
            pb.Refusal(seq=request.first_seq + offset, reason=reason)
            for offset, record in enumerate(parsed)
            if (reason := self.refuse(record))
        ]
        if request.first_seq > stream.mark + 1:
            return self._answer(pb.PUSH_OUTCOME_EXPECTED_EARLIER, stream)
        if refusals:
            answer = self._answer(pb.PUSH_OUTCOME_REFUSED, stream)
            answer.refusals.extend(refusals)
            return answer
        chain, chains = request.chain_before, [request.chain_before]
        for wire in request.records:
            chain = chain_next(chain, wire)
            chains.append(chain)
        at_mark = stream.mark - (request.first_seq - 1)
        if at_mark < len(chains) and chains[at_mark] != stream.chain:
            return self._answer(pb.PUSH_OUTCOME_CONFLICT, stream)
        for wire, after in list(zip(request.records, chains[1:], strict=True))[at_mark:]:
            stream.records.append(wire)
            stream.chains.append(after)
            stream.chain = after
        return self._answer(pb.PUSH_OUTCOME_STORED, stream)

    def truncate(self, agent_id: bytes, epoch: bytes, mark: int) -> None:
        """Delete the records of a stream after number `mark`."""
        stream = self.streams[agent_id, epoch]
        stream.records, stream.chains = stream.records[:mark], stream.chains[:mark]
        stream.chain = stream.chains[-1] if stream.chains else chain_start(epoch)

    def _answer(self, outcome: Any, stream: Stream) -> pb.PushResponse:
        return pb.PushResponse(
            outcome=outcome,
            mark=stream.mark,
            chain=stream.chain,
            next_send_after_milliseconds=self.next_send_after_milliseconds,
        )

    def _serve(self, add: Callable[..., None], servicer: object, credentials: grpc.ServerCredentials) -> str:
        server = grpc.server(futures.ThreadPoolExecutor(2))
        add(servicer, server)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        self._servers.append(server)
        return f"127.0.0.1:{port}"


class _Telemetry(rpc.TelemetryServiceServicer):
    def __init__(self, collector: FakeCollector) -> None:
        self._collector = collector

    def Hello(self, request: pb.HelloRequest, context: grpc.ServicerContext) -> pb.HelloResponse:
        collector = self._collector
        agent_id = collector.caller(context)
        collector.requests.append(request)
        if request.instance_id in collector.conflicting:
            context.set_trailing_metadata((("veilleuse-reason", "identity_conflict"),))
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "a newer certificate was used already")
        stream = collector.streams.get((agent_id, request.epoch), Stream(chain_start(request.epoch)))
        answer = pb.HelloResponse(
            mark=stream.mark,
            chain=stream.chain,
            protocol=1,
            next_instance_id=os.urandom(16),
            next_send_after_milliseconds=collector.next_send_after_milliseconds,
            collector_version=collector.version,
        )
        wanted = collector.configuration
        if wanted is not None and request.configuration.sha256 != wanted.sha256:
            answer.configuration.CopyFrom(wanted)
        if collector.calendar is not None and request.calendar.sha256 != (
            _sha256(collector.calendar) or b"-"
        ):
            answer.calendar.CopyFrom(collector.calendar)
        return answer

    def Push(self, request: pb.PushRequest, context: grpc.ServicerContext) -> pb.PushResponse:
        collector = self._collector
        agent_id = collector.caller(context)
        collector.requests.append(request)
        if any(collector.invalid(pb.Record.FromString(wire)) for wire in request.records):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a record cannot be read")
        answer = collector.push(agent_id, request)
        if collector.lose_replies:
            collector.lose_replies -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection was cut")
        return answer

    def Renew(self, request: pb.RenewRequest, context: grpc.ServicerContext) -> pb.RenewResponse:
        collector = self._collector
        agent_id = collector.caller(context)
        collector.requests.append(request)
        return pb.RenewResponse(certificate=collector.issued(request.certificate_request_der, agent_id))


class _Enrolment(rpc.EnrolmentServiceServicer):
    def __init__(self, collector: FakeCollector) -> None:
        self._collector = collector

    def Enrol(self, request: pb.EnrolRequest, context: grpc.ServicerContext) -> pb.EnrolResponse:
        collector = self._collector
        collector.requests.append(request)
        public = x509.load_der_x509_csr(request.certificate_request_der).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        key = public.public_numbers().x.to_bytes(32, "big")
        if request.HasField("copy_of"):
            return self._copied(request, key, context)
        used = {token for token, _ in collector.enrolments}
        if request.token != collector.token or (
            request.token in used and (request.token, key) not in collector.enrolments
        ):
            context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "the token is unknown, used or expired: make another"
            )
        agent_id = collector.enrolments.setdefault((request.token, key), os.urandom(16))
        if collector.lose_replies:
            collector.lose_replies -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection was cut")
        issued = collector.issued(request.certificate_request_der, agent_id)
        return pb.EnrolResponse(agent_id=agent_id, certificate=issued, placement=collector.placement)

    def _copied(
        self, request: pb.EnrolRequest, key: bytes, context: grpc.ServicerContext
    ) -> pb.EnrolResponse:
        collector, proof = self._collector, request.copy_of
        bound = x509.load_der_x509_certificate(proof.certificate_der)
        public = bound.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        asked = hashlib.sha256(request.certificate_request_der).digest()
        try:
            public.verify(
                proof.signature_der,
                b"veilleuse copy-of v1" + proof.nonce + asked,
                ec.ECDSA(hashes.SHA256()),
            )
        except InvalidSignature:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "the signature is wrong")
        if request.token or proof.nonce not in collector._nonces or agent_id_of(bound) != proof.agent_id:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "the nonce is not ours")
        collector._nonces.discard(proof.nonce)
        if proof.agent_id in collector.forbidden:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "its original was revoked")
        agent_id = collector.copies.setdefault((proof.agent_id, key), os.urandom(16))
        if collector.lose_replies:
            collector.lose_replies -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection was cut")
        answer = pb.EnrolResponse(agent_id=agent_id, placement=collector.placement)
        if collector.approve:
            answer.retry_after_milliseconds = 900_000
        else:
            answer.certificate.CopyFrom(collector.issued(request.certificate_request_der, agent_id))
        return answer

    def Challenge(self, request: pb.ChallengeRequest, context: grpc.ServicerContext) -> pb.ChallengeResponse:
        nonce = os.urandom(32)
        self._collector._nonces.add(nonce)
        return pb.ChallengeResponse(nonce=nonce)

    def RenewExpired(
        self, request: pb.RenewExpiredRequest, context: grpc.ServicerContext
    ) -> pb.RenewExpiredResponse:
        collector = self._collector
        collector.requests.append(request)
        bound = x509.load_der_x509_certificate(request.certificate_der)
        public = bound.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        message = (
            b"veilleuse renew-expired v1"
            + request.nonce
            + hashlib.sha256(request.certificate_request_der).digest()
        )
        try:
            public.verify(request.signature_der, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "the signature is wrong")
        if request.nonce not in collector._nonces or agent_id_of(bound) != request.agent_id:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "the nonce is not ours")
        collector._nonces.discard(request.nonce)
        issued = collector.issued(request.certificate_request_der, request.agent_id)
        return pb.RenewExpiredResponse(certificate=issued)


def _sha256(calendar: pb.Calendar) -> bytes:
    from veilleuse.agent.ports import ControlKey
    from veilleuse.agent.sending.remote_config import calendar_control

    return bytes.fromhex(calendar_control(calendar).get(ControlKey.CALENDAR_SHA256) or "")
