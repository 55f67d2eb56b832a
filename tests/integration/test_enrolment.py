# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test identity over real gRPC with real certificates: docs/wire.md §6, docs/guarantees.md S2 to S5."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support import clock
from tests.support.machines import SECONDS, Machine, Served, hello_request, refused, served, settings_in
from tests.support.ports import free_port
from tests.support.processes import ran
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.app.data_directory import initialise, open_collector
from veilleuse.collector.app.service import run_servers
from veilleuse.collector.enrolment.ca import Authority, create
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.ipc import ask
from veilleuse.collector.model.records import AgentId
from veilleuse.collector.settings import child_environment
from veilleuse.wire.v1 import telemetry_pb2 as pb

Code = grpc.StatusCode
STOP_SECONDS: Final = 5.0
"""A service manager waits longer for the end of `serve`."""


def test_enrol_and_hello(running):
    """A valid token gives an identity of 16 random bytes with the token's placement, for the mTLS port."""
    machine = Machine(running.token())
    answer = machine.enrol()
    assert len(answer.agent_id) == 16
    assert (answer.placement.org_entity, answer.placement.site) == ("DSI", "Lyon")
    assert answer.placement.population == pb.POPULATION_SERVER
    assert machine.hello().mark == 0
    leaf = x509.load_der_x509_certificate(machine.certificate_der)
    assert leaf.subject.rdns == []
    assert leaf.not_valid_after_utc - clock.now() < timedelta(hours=24)


def test_mtls_port_needs_a_certificate(running):
    """Without a client certificate no connection to :8641 is possible."""
    machine = Machine(running.token())
    with grpc.secure_channel(machine.join["address"], grpc.ssl_channel_credentials(machine.roots)) as channel:
        call: Any = channel.unary_unary("/veilleuse.wire.v1.TelemetryService/Hello")
        assert refused(call, hello_request().SerializeToString(), timeout=SECONDS)[0] is Code.UNAVAILABLE


def test_wrong_ca_is_refused_by_the_agent(running, tmp_path):
    """A machine that trusts another root opens no connection, so its token is not sent."""
    (tmp_path / "other").mkdir()
    create(tmp_path / "other", clock.now())
    machine = Machine(running.token(), ca_pem=(tmp_path / "other/ca/root.pem").read_text())
    assert refused(machine.enrol)[0] is Code.UNAVAILABLE


def test_certificate_of_another_authority_is_refused(running, tmp_path):
    """A certificate of another authority is refused at the mTLS port."""
    machine = Machine(running.token())
    machine.enrol()
    with served(settings_in(tmp_path / "elsewhere")) as other:
        thief = Machine(other.token())
        thief.enrol()
    thief.join, thief.roots = machine.join, machine.roots
    assert refused(thief.hello)[0] is Code.UNAVAILABLE


def test_bad_requests(running):
    """A request that is no PKCS#10, too long, or not on P-256 is refused permanently."""
    machine = Machine(running.token())
    bad = [b"", b"x", b"\0" * 5000, machine.request(ec.generate_private_key(ec.SECP384R1()))]
    with machine.enrolment() as stub:
        for der in bad:
            request = pb.EnrolRequest(token=machine.join["token"], certificate_request_der=der)
            assert refused(stub.Enrol, request, timeout=SECONDS) == (Code.INVALID_ARGUMENT, "bad_request")
    assert machine.enrol().agent_id


def test_lost_reply_does_not_burn_the_token(running):
    """The same token with the same key gives the same identity again."""
    machine = Machine(running.token())
    first, second = machine.enrol(), machine.enrol()
    assert first == second
    assert machine.hello() is not None


def test_approval(running):
    """A machine with a token of --approve gets no certificate until it is activated."""
    machine = Machine(running.token(approve=True))
    waiting = machine.enrol()
    assert not waiting.HasField("certificate")
    assert waiting.retry_after_milliseconds > 0
    host = waiting.agent_id.hex()
    running.collector.operations.perform("host_status", {"host": host[:8], "status": "active"})
    assert machine.enrol().agent_id == waiting.agent_id
    assert machine.hello() is not None


@pytest.mark.promise("S3")
def test_expired_leaf_is_refused_on_a_live_connection(tmp_path, figure):
    """On a connection that gRPC still serves, the collector refuses a certificate from the millisecond of its
    end. A handshake with an expired one fails."""
    settings, moment = settings_in(tmp_path), clock.now()
    initialise(settings, site="Lyon")
    with open_collector(settings) as opened:
        collector = replace(opened, issuing=replace(opened.issuing, now=lambda: moment))
        with run_servers(collector, web=False):
            machine = Machine(Served(collector).token())
            machine.enrol()
            end = _hold_between(collector.issuing.authority, machine, moment, moment + timedelta(hours=1))
            with machine.telemetry() as stub:
                stub.Hello(hello_request(), timeout=SECONDS)
                moment = end - timedelta(milliseconds=1)
                stub.Hello(hello_request(), timeout=SECONDS)
                moment = end
                said = refused(stub.Hello, hello_request(), timeout=SECONDS)
            figure(
                f"2 calls answered until the certificate expired, the next refused with {said[0].name} ({said[1]})"
            )
            assert said == (Code.UNAUTHENTICATED, "expired")
            moment = clock.now()
            _hold_between(
                collector.issuing.authority,
                machine,
                moment - timedelta(hours=1),
                moment - timedelta(minutes=1),
            )
            assert refused(machine.hello)[0] is Code.UNAVAILABLE


def _hold_between(authority: Authority, machine: Machine, begin: datetime, end: datetime) -> datetime:
    """Give the machine a certificate of this span; return its end."""
    leaf = authority.issue_between(machine.key.public_key(), AgentId(machine.agent_id), 2, begin, end)
    machine.keep(
        pb.IssuedCertificate(
            certificate_der=leaf.certificate_der,
            intermediates_der=[authority.intermediate.public_bytes(Encoding.DER)],
        )
    )
    return leaf.facts.not_after


@pytest.mark.parametrize("status", ["suspended", "revoked"])
def test_status_holds_for_the_next_call_on_a_live_connection(running, status):
    """A suspended or revoked machine is refused at its next call; only a suspension can end."""
    machine = Machine(running.token())
    machine.enrol()
    data_dir, host = running.collector.settings.data_dir, machine.agent_id.hex()
    with machine.telemetry() as stub:
        assert stub.Hello(hello_request(), timeout=SECONDS) is not None
        ask(data_dir, "host_status", host=host, status=status)
        assert refused(stub.Hello, hello_request(), timeout=SECONDS) == (Code.PERMISSION_DENIED, status)
        request = pb.RenewRequest(
            certificate_request_der=machine.request(ec.generate_private_key(ec.SECP256R1()))
        )
        assert refused(stub.Renew, request, timeout=SECONDS)[1] == status
        if status == "suspended":
            ask(data_dir, "host_status", host=host, status="active")
            assert stub.Hello(hello_request(), timeout=SECONDS) is not None


def test_renew_is_idempotent(running):
    """Two requests for the same new key get the same certificate, of the next generation; the old key is
    refused."""
    machine = Machine(running.token())
    machine.enrol()
    new_key = ec.generate_private_key(ec.SECP256R1())
    request = pb.RenewRequest(certificate_request_der=machine.request(new_key))
    with machine.telemetry() as stub:
        first, second = stub.Renew(request, timeout=SECONDS), stub.Renew(request, timeout=SECONDS)
        same_key = pb.RenewRequest(certificate_request_der=machine.request())
        assert refused(stub.Renew, same_key, timeout=SECONDS)[1] == "key_reused"
    assert first == second
    authority = running.collector.issuing.authority
    assert authority.recognise(first.certificate.certificate_der).generation == 2
    machine.key = new_key
    machine.keep(first.certificate)
    assert machine.hello() is not None


def test_identity_survives_a_restart(tmp_path):
    """After a restart the collector knows its machines, and accepts a certificate newer than its records."""
    settings = settings_in(tmp_path)
    with served(settings) as running:
        machine = Machine(running.token())
        machine.enrol()
    with served(settings) as running:
        machine.join["address"] = running.collector.addresses.telemetry
        assert machine.hello() is not None
        now, authority = clock.now(), running.collector.issuing.authority
        public = machine.key.public_key()
        newer = authority.issue_between(public, AgentId(machine.agent_id), 7, now, now + timedelta(hours=1))
        machine.keep(
            pb.IssuedCertificate(
                certificate_der=newer.certificate_der,
                intermediates_der=[authority.intermediate.public_bytes(Encoding.DER)],
            )
        )
        assert machine.hello() is not None
        assert running.collector.health.snapshot()["collector_behind"] == {"certificate": 1}


def test_renew_expired(running):
    """The holder of an expired certificate's key gets a new one. A thief who has only the certificate does
    not, nor does a revoked machine."""
    machine = Machine(running.token())
    machine.enrol()
    now, authority = clock.now(), running.collector.issuing.authority

    def hold(ended_days_ago: int) -> None:
        end = now - timedelta(days=ended_days_ago)
        public = machine.key.public_key()
        old = authority.issue_between(public, AgentId(machine.agent_id), 1, end - timedelta(days=1), end)
        machine.certificate_der = old.certificate_der

    # The intermediate is younger than such a certificate, which may not begin before it.
    hold(0)
    thief, new_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    assert refused(machine.renew_expired, new_key, thief) == (Code.PERMISSION_DENIED, "bad_signature")
    answer = machine.renew_expired(new_key)
    machine.key = new_key
    machine.keep(answer.certificate)
    assert machine.hello() is not None
    assert running.collector.health.snapshot()["renewals"] == {"expired": 1}
    host = machine.agent_id.hex()
    running.collector.operations.perform("host_status", {"host": host, "status": "revoked"})
    assert refused(machine.renew_expired, ec.generate_private_key(ec.SECP256R1()))[1] == "revoked"


def test_serve_speaks_tls_1_3_only_and_stops(tmp_path):
    """`serve` refuses TLS 1.2 on both ports (S17), logs no secret (S19), and ends on SIGTERM with exit
    code 0."""
    ports = {name: free_port() for name in ("grpc.address", "grpc.enrolment_address", "http.address")}
    settings = settings_in(tmp_path, **{name: f"127.0.0.1:{port}" for name, port in ports.items()})
    initialise(settings, site="Lyon")
    command = [sys.executable, "-m", "veilleuse.collector", "serve"]
    process = subprocess.Popen(command, env=child_environment(settings), stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: ask(settings.data_dir, "ping"))
        for name in ("grpc.address", "grpc.enrolment_address"):
            assert not handshake(ports[name], ssl.TLSVersion.TLSv1_2)
        assert handshake(ports["grpc.enrolment_address"], ssl.TLSVersion.TLSv1_3)
        made = ask(settings.data_dir, "token_create", org_entity="DSI", site="Lyon", population="server")
        machine = Machine(made["join"])
        machine.enrol()
        assert refused(Machine(made["join"]).enrol)[1] == "used_token"
        machine.hello()
        second = ran(command, env=child_environment(settings), timeout=PATIENCE_SECONDS)
        assert second.returncode == 1
        assert f"in use by pid {process.pid}" in second.stderr
    finally:
        process.terminate()
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, log
    assert "Traceback" not in log
    assert "agent enrolled" in log
    secrets = (made["join"]["token"], made["join"]["fleet_key"], "PRIVATE KEY")
    assert not [secret for secret in secrets if secret in log]


@pytest.mark.long
def test_serve_stops_in_time(tmp_path):
    """`serve` ends on SIGTERM within 5 s."""
    settings = settings_in(tmp_path)
    initialise(settings, site="Lyon")
    command = [sys.executable, "-m", "veilleuse.collector", "serve"]
    process = subprocess.Popen(command, env=child_environment(settings), stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: ask(settings.data_dir, "ping"))
    finally:
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0


def test_killed_collector_leaves_no_web_process(tmp_path):
    """`kill -9` of the collector ends the web process too, and the same ports can be used again."""
    ports = {name: free_port() for name in ("grpc.address", "grpc.enrolment_address", "http.address")}
    settings = settings_in(tmp_path, **{name: f"127.0.0.1:{port}" for name, port in ports.items()})
    initialise(settings, site="Lyon")
    command = [sys.executable, "-m", "veilleuse.collector", "serve"]
    for ending in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(command, env=child_environment(settings), stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: ask(settings.data_dir, "ping")["pid"] == process.pid)  # noqa: B023
            wait_for(lambda: connects(ports["http.address"]))
        finally:
            process.send_signal(ending)
            process.wait(PATIENCE_SECONDS)
    wait_for(lambda: not connects(ports["http.address"]))


def wait_for(what: Callable[[], object]) -> None:
    """Wait until it is true and raises nothing."""

    def holds() -> bool:
        try:
            return bool(what())
        except (CollectorError, OSError):
            return False

    until(holds)


def connects(port: int) -> bool:
    """Return whether a server listens at the port."""
    try:
        socket.create_connection(("127.0.0.1", port), SECONDS).close()
    except OSError:
        return False
    return True


def handshake(port: int, version: ssl.TLSVersion) -> bool:
    """Return whether a handshake of exactly this version succeeds."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as plain, context.wrap_socket(plain):
            return True
    except (ssl.SSLError, ConnectionResetError):
        return False


def test_bounds_of_a_call(running):
    """S8: more than 16 KiB of metadata, or 1 MiB of message even if compressed, is refused; other calls are
    served."""
    machine = Machine(running.token())
    rubbish = pb.EnrolRequest(token="x" * 2_000_000, certificate_request_der=machine.request())
    with (
        machine.enrolment() as stub
    ):  # one connection each, because a connection that sent so much is read slowly afterwards
        big = refused(stub.Enrol, rubbish, timeout=SECONDS)
    with machine.enrolment() as stub:
        bomb = refused(stub.Enrol, rubbish, timeout=SECONDS, compression=grpc.Compression.Gzip)
    with machine.enrolment() as stub:
        heavy = refused(stub.Enrol, pb.EnrolRequest(), metadata=(("x-heavy", "y" * 40_000),), timeout=SECONDS)
    assert [code for code, _ in (big, bomb)] == [Code.RESOURCE_EXHAUSTED] * 2
    assert heavy[0] in (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.INTERNAL)
    assert machine.enrol().agent_id


def test_without_the_file_of_names_nobody_enrols(running):
    """After `identity.db` was removed, enrolment once continued, with pseudonyms in a file without a name."""
    machine = Machine(running.token())
    (running.collector.settings.data_dir / "identity.db").unlink()
    code, _ = refused(machine.enrol)
    assert code is Code.UNAVAILABLE
    assert running.collector.store.registry.hosts() == ()
