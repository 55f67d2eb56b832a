# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S1: the rights of a stolen key of machine A. Every field of every call is tried with machine B's values.

The rows are compared with the service descriptors: a new call or field without a row fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.machines import SECONDS, Machine, Served, hello_request, refusal, served, settings_in
from tests.support.pushes import Stream, gap
from veilleuse.collector.model.records import AgentId, HostId
from veilleuse.wire.renewal import renew_expired_message
from veilleuse.wire.v1 import telemetry_pb2 as pb

Code = grpc.StatusCode
EPOCH_A, EPOCH_B = b"\xaa" * 8, b"\xbb" * 8
DENIED: Final = Code.PERMISSION_DENIED


@dataclass
class Scene:
    """Two enrolled machines. The thief has A's state, and knows public values of B."""

    running: Served
    a: Machine
    b: Machine

    def kept_of_b(self) -> list[Any]:
        """Return all stored rows of B."""
        registry = self.running.collector.store.registry
        connection = self.running.collector.store.data.connection

        def job() -> list[Any]:
            host = registry.host_by_agent_id(AgentId(self.b.agent_id))
            assert host is not None
            rows = [
                connection.execute(f"SELECT * FROM {table} WHERE host_id = ?", (host.host_id,)).fetchall()
                for table in ("hosts", "streams", "records", "sums", "certificates")
            ]
            return [host.status, *rows]

        return self.running.collector.issuing.commit(job)

    def refused(self) -> int:
        """Return the counter of refused calls."""
        return sum(self.running.collector.health.snapshot()["calls_refused"].values())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Yield the two machines, which both have delivered records."""
    with served(settings_in(tmp_path)) as running:
        a, b = Machine(running.token(uses=9)), Machine(running.token(uses=9))
        for machine, epoch in ((a, EPOCH_A), (b, EPOCH_B)):
            machine.enrol()
            machine.hello()
            with machine.telemetry() as stub:
                assert stub.Push(stream(epoch).request(), timeout=SECONDS).mark == 2
        yield Scene(running, a, b)


def stream(epoch: bytes) -> Stream:
    """Return two records in an epoch."""
    made = Stream(HostId(0), epoch=epoch)
    made.add(gap(records=1), gap(records=2))
    return made


# --- requests with A's own values, except for what a row changes


def hello(scene: Scene, **changed: Any) -> pb.HelloRequest:
    """Return A's Hello."""
    request = hello_request()
    request.epoch, request.instance_id = EPOCH_A, scene.a.nonce
    request.MergeFrom(pb.HelloRequest(**changed))
    return request


def push(scene: Scene, epoch: bytes = EPOCH_A, **changed: Any) -> pb.PushRequest:
    """Return a push of A's next record."""
    made = stream(epoch)
    made.add(gap(records=3))
    request = made.request(3)
    if "records" in changed:
        del request.records[:]
    request.MergeFrom(pb.PushRequest(**changed))
    return request


def renew_expired(scene: Scene, **changed: Any) -> pb.RenewExpiredRequest:
    """Return A's RenewExpired, signed with A's key over its content."""
    key = ec.generate_private_key(ec.SECP256R1())
    with scene.a.enrolment() as stub:
        nonce = stub.Challenge(pb.ChallengeRequest(agent_id=scene.a.agent_id), timeout=SECONDS).nonce
    values = {
        "agent_id": scene.a.agent_id,
        "nonce": nonce,
        "certificate_der": scene.a.certificate_der,
        "certificate_request_der": scene.a.request(key),
    } | changed
    message = renew_expired_message(values["nonce"], values["certificate_request_der"])
    values.setdefault("signature_der", scene.a.key.sign(message, ec.ECDSA(hashes.SHA256())))
    return pb.RenewExpiredRequest(**values)


def copy_of(scene: Scene, **changed: bytes) -> pb.EnrolRequest:
    """Return the request of a copy of A."""
    return scene.a.copy_of(ec.generate_private_key(ec.SECP256R1()), **changed)


def enrol(scene: Scene, **changed: Any) -> pb.EnrolRequest:
    """Return an enrolment with a wrong token: a thief of A's key has no token."""
    request = pb.EnrolRequest(token="x" * 43, certificate_request_der=scene.a.request())
    request.MergeFrom(pb.EnrolRequest(**changed))
    return request


def nonce_of_b(scene: Scene) -> bytes:
    """Return a nonce of B, which anybody may ask for: it reveals nothing."""
    with scene.a.enrolment() as stub:
        answer = stub.Challenge(pb.ChallengeRequest(agent_id=scene.b.agent_id), timeout=SECONDS)
    nonce: bytes = answer.nonce
    return nonce


def request_for_b(scene: Scene) -> bytes:
    """Return a certificate request of A's thief that claims B's id."""
    name = x509.UniformResourceIdentifier(f"urn:veilleuse:agent:{scene.b.agent_id.hex()}")
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
    key = ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def signed_elsewhere(scene: Scene) -> bytes:
    """Return a signature with A's key: a thief of A has no key of B."""
    return scene.a.key.sign(b"something", ec.ECDSA(hashes.SHA256()))


# --- the rows

OWN: Final = "concerns A alone, or nobody"
OLDER: Final = (Code.RESOURCE_EXHAUSTED, "older_instance")
Row: TypeAlias = tuple[Callable[[Scene], Any], str | tuple[Code, str]]

ROWS: Final[dict[str, Row]] = {
    "TelemetryService.Hello.epoch": (lambda s: hello(s, epoch=EPOCH_B), OWN),
    "TelemetryService.Hello.last_seq": (lambda s: hello(s, last_seq=2), OWN),
    "TelemetryService.Hello.protocol": (lambda s: hello(s), OWN),
    "TelemetryService.Hello.features": (lambda s: hello(s, features=["admin"]), OWN),
    "TelemetryService.Hello.instance_id": (lambda s: hello(s, instance_id=s.b.nonce), OLDER),
    "TelemetryService.Hello.configuration": (
        lambda s: hello(s, configuration=pb.DocumentStatus(sha256=bytes(32), state=pb.APPLIED_STATE_CONFIRMED)), OWN,
    ),
    "TelemetryService.Hello.calendar": (lambda s: hello(s, calendar=pb.DocumentStatus(sha256=bytes(32))), OWN),
    "TelemetryService.Hello.facts": (lambda s: hello(s, facts=pb.Facts(model="B")), OWN),
    "TelemetryService.Hello.health": (lambda s: hello(s, health=pb.Health(agent_version="B")), OWN),
    "TelemetryService.Push.epoch": (lambda s: push(s, EPOCH_B), OWN),
    "TelemetryService.Push.first_seq": (lambda s: push(s, first_seq=99), OWN),
    "TelemetryService.Push.chain_before": (lambda s: push(s, chain_before=stream(EPOCH_B).chains[-1]), OWN),
    "TelemetryService.Push.records": (lambda s: push(s, records=stream(EPOCH_B).wires), OWN),
    "TelemetryService.Renew.certificate_request_der": (
        lambda s: pb.RenewRequest(certificate_request_der=request_for_b(s)), OWN,
    ),
    "EnrolmentService.Enrol.token": (lambda s: enrol(s), (DENIED, "unknown_token")),
    "EnrolmentService.Enrol.certificate_request_der": (
        lambda s: enrol(s, certificate_request_der=request_for_b(s)), (DENIED, "unknown_token"),
    ),
    "EnrolmentService.Enrol.chassis_pseudonym": (lambda s: enrol(s, chassis_pseudonym=bytes(32)), (DENIED, "unknown_token")),
    "EnrolmentService.Enrol.smbios_pseudonym": (lambda s: enrol(s, smbios_pseudonym=bytes(32)), (DENIED, "unknown_token")),
    "EnrolmentService.Enrol.facts": (lambda s: enrol(s, facts=pb.Facts(model="B")), (DENIED, "unknown_token")),
    "EnrolmentService.Enrol.host_name": (lambda s: enrol(s, host_name="b"), (DENIED, "unknown_token")),
    "EnrolmentService.Enrol.copy_of.agent_id": (lambda s: copy_of(s, agent_id=s.b.agent_id), (DENIED, "other_agent")),
    "EnrolmentService.Enrol.copy_of.nonce": (lambda s: copy_of(s, nonce=nonce_of_b(s)), (DENIED, "bad_signature")),
    "EnrolmentService.Enrol.copy_of.certificate_der": (
        lambda s: copy_of(s, certificate_der=s.b.certificate_der), (DENIED, "other_agent"),
    ),
    "EnrolmentService.Enrol.copy_of.signature_der": (
        lambda s: copy_of(s, agent_id=s.b.agent_id, certificate_der=s.b.certificate_der, signature_der=signed_elsewhere(s)),
        (DENIED, "bad_signature"),
    ),
    "EnrolmentService.Challenge.agent_id": (lambda s: pb.ChallengeRequest(agent_id=s.b.agent_id), OWN),
    "EnrolmentService.RenewExpired.agent_id": (lambda s: renew_expired(s, agent_id=s.b.agent_id), (DENIED, "other_agent")),
    "EnrolmentService.RenewExpired.nonce": (
        lambda s: renew_expired(s, nonce=nonce_of_b(s)), (Code.FAILED_PRECONDITION, "bad_nonce"),
    ),
    "EnrolmentService.RenewExpired.certificate_der": (
        lambda s: renew_expired(s, certificate_der=s.b.certificate_der), (DENIED, "other_agent"),
    ),
    "EnrolmentService.RenewExpired.signature_der": (
        lambda s: renew_expired(s, agent_id=s.b.agent_id, certificate_der=s.b.certificate_der, signature_der=signed_elsewhere(s)),
        (DENIED, "bad_signature"),
    ),
    "EnrolmentService.RenewExpired.certificate_request_der": (
        lambda s: renew_expired(s, certificate_request_der=request_for_b(s)), OWN,
    ),
}  # fmt: skip
"""Call and field → (a request with B's value in it, its result)."""

NOT_THERE: Final = (
    "/veilleuse.wire.v1.TelemetryService/Read",
    "/veilleuse.wire.v1.TelemetryService/SetConfiguration",
    "/veilleuse.wire.v1.EnrolmentService/Enrol",
    "/veilleuse.wire.v1.AdminService/HostStatus",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
"""Calls that do not exist on A's connection: no call reads, and none administers."""


def fields_of_the_contract() -> set[str]:
    """Return Service.Call.field of every request; the fields of a CopyOf are listed one by one."""
    found: set[str] = set()
    for service in pb.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            for field in method.input_type.fields:
                name = f"{service.name}.{method.name}.{field.name}"
                inner = field.message_type
                if inner is not None and inner.name == "CopyOf":
                    found |= {f"{name}.{each.name}" for each in inner.fields}
                else:
                    found.add(name)
    return found


def call(scene: Scene, name: str, request: Any) -> Any:
    """Call with A's key on a connection of A; keep the nonce of a Hello's answer, as A does."""
    service, method = name.split(".")[:2]
    opened = scene.a.telemetry() if service == "TelemetryService" else scene.a.enrolment()
    with opened as stub:
        answer = getattr(stub, method)(request, timeout=SECONDS)
    if method == "Hello":
        scene.a.nonce = answer.next_instance_id
    return answer


@pytest.mark.promise("S1")
def test_a_stolen_key_of_a_gets_permission_denied_for_everything_but_a_s_own_push(scene, figure):
    """Every field of every call with B's value is refused and counted, or has no effect on B.

    Nothing can be read, and no other id used. A's own Push is stored, and denied once A is revoked.
    """
    assert set(ROWS) == fields_of_the_contract(), "a call or a field of the contract without a row"
    before, denied, own, wrong = scene.kept_of_b(), 0, 0, []
    for name, (attack, expected) in ROWS.items():
        request, counted = attack(scene), scene.refused()
        try:
            answer = call(scene, name, request)
        except grpc.RpcError as error:
            if refusal(error) == expected and scene.refused() == counted + 1:
                denied += 1
            else:
                wrong.append(f"{name}: {refusal(error)}")
        else:
            if expected == OWN and not tells_of_b(scene, name, answer):
                own += 1
            else:
                wrong.append(f"{name}: answered")
        if scene.kept_of_b() != before:
            wrong.append(f"{name}: changed what is kept of B")
    for path in NOT_THERE:
        code = unknown_call(scene.a, path)
        if code is not Code.UNIMPLEMENTED:
            wrong.append(f"{path}: {code}")
    assert own_push(scene) == "stored"
    scene.running.collector.operations.perform(
        "host_status", {"host": scene.a.agent_id.hex(), "status": "revoked"}
    )
    after = own_push(scene)
    figure(
        f"{denied} of {denied + len(wrong)} attempts at another's identity refused and counted, {own} without effect on it, "
        f"the key's own Push stored before its revocation, and {after} afterwards"
    )
    assert wrong == []
    assert after == "revoked"


@pytest.mark.promise("S1")
@pytest.mark.parametrize("approve", [False, True])
def test_a_stolen_key_gives_no_second_identity(tmp_path, figure, approve):
    """A correct `copy_of` with the owner's valid token gives no identity: only a line for the operator.

    No certificate is given, no use of the token counted, no call served, however often and with whichever key
    the thief asks. Once the operator refused the copies, they stay refused.
    """
    with served(settings_in(tmp_path)) as running:
        perform = running.collector.operations.perform
        a = Machine(running.token(uses=9, approve=approve))
        if approve:
            perform("host_status", {"host": a.enrol().agent_id.hex(), "status": "active"})
        a.enrol()
        a.hello()
        key, answers = ec.generate_private_key(ec.SECP256R1()), []
        for new in (key, key, *(ec.generate_private_key(ec.SECP256R1()) for _ in range(3))):
            answers.append(a.clone().enrol_as_copy(new))
        given = sum(answer.HasField("certificate") for answer in answers)
        lines = [
            host
            for host in running.collector.issuing.commit(running.collector.store.registry.hosts)
            if host.copy_of
        ]
        (token,) = perform("token_list", {})
        figure(
            f"{given} identities given to {len(answers)} requests with a stolen key and copy_of, {len(lines)} entries for the operator"
        )
        assert given == 0
        assert {host.status.value for host in lines} == {"pending"}
        assert len(lines) == 4
        assert token["uses"] == 1
        perform("host_copies", {"original": a.agent_id.hex(), "status": "revoked"})
        with pytest.raises(grpc.RpcError) as caught:
            a.clone().enrol_as_copy(key)
        assert refusal(caught.value) == (DENIED, "revoked")
        a.hello()


@pytest.mark.promise("S1")
def test_a_stolen_key_is_worth_nothing_once_its_owner_renewed(scene):
    """Every call of the thief, Push too, is PERMISSION_DENIED once the owner used a newer certificate."""
    thief = scene.a.clone()
    key = ec.generate_private_key(ec.SECP256R1())
    with scene.a.telemetry() as stub:
        renewed = stub.Renew(pb.RenewRequest(certificate_request_der=scene.a.request(key)), timeout=SECONDS)
    scene.a.key = key
    scene.a.keep(renewed.certificate)
    scene.a.hello()
    stolen = Scene(scene.running, thief, scene.b)
    requests = {
        "TelemetryService.Hello": hello(stolen),
        "TelemetryService.Push": push(stolen),
        "TelemetryService.Renew": pb.RenewRequest(certificate_request_der=request_for_b(stolen)),
        "EnrolmentService.RenewExpired": renew_expired(stolen),
    }
    for name, request in requests.items():
        with pytest.raises(grpc.RpcError) as caught:
            call(stolen, name, request)
        assert refusal(caught.value)[0] is DENIED, name
    scene.a.hello()


def tells_of_b(scene: Scene, name: str, answer: Any) -> bool:
    """Return whether an answer reveals B's stream or gives B's identity."""
    if isinstance(answer, pb.HelloResponse | pb.PushResponse) and name.endswith(".epoch"):
        return bool(answer.mark == 2 or answer.chain == stream(EPOCH_B).chains[-1])
    if isinstance(answer, pb.RenewResponse | pb.RenewExpiredResponse):
        authority = scene.running.collector.issuing.authority
        return authority.recognise(answer.certificate.certificate_der).agent_id != scene.a.agent_id
    return False


def own_push(scene: Scene) -> str:
    """Return the result of A's own next push."""
    made = Stream(HostId(0), epoch=b"\xac" * 8)
    made.add(gap(records=7))
    try:
        answer = call(scene, "TelemetryService.Push", made.request())
    except grpc.RpcError as error:
        return refusal(error)[1]
    return "stored" if answer.outcome == pb.PUSH_OUTCOME_STORED else "not stored"


def unknown_call(machine: Machine, path: str) -> Code | None:
    """Return the status of a call that the port's contract does not have."""
    with machine.channel() as channel:
        try:
            unknown: Any = channel.unary_unary(path)
            unknown(b"", timeout=SECONDS)
        except grpc.RpcError as error:
            return refusal(error)[0]
    return None
