# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Replace the authority's root under a running collector: real gRPC (BoringSSL), real agents, no restart."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.promises.support import previous
from tests.support import clock
from tests.support.authorities import Organisation
from tests.support.machines import SECONDS, Machine, Served, hello_request, refusal, served, settings_in
from tests.support.peers import peer
from tests.support.stack import Stack
from veilleuse.collector.ipc import ask
from veilleuse.wire.v1 import telemetry_pb2 as pb

Code = grpc.StatusCode


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Served]:
    """Give a running collector."""
    with served(settings_in(tmp_path)) as collector:
        yield collector


def step(running: Served, word: str, **arguments: Any) -> dict[str, Any]:
    """Make a step through the administration socket, as the command does; return its result."""
    made: dict[str, Any] = ask(running.collector.settings.data_dir, f"ca_{word}", **arguments)
    return made


def renew(machine: Machine) -> pb.IssuedCertificate:
    """Renew as an agent does: a new key, the certificate, and the roots that come with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    with machine.telemetry() as stub:
        request = pb.RenewRequest(certificate_request_der=machine.request(key))
        issued: pb.IssuedCertificate = stub.Renew(request, timeout=SECONDS).certificate
    machine.key = key
    machine.keep(issued)
    machine.roots = roots_pem(issued)
    return issued


def roots_pem(issued: pb.IssuedCertificate) -> bytes:
    """Return the PEM roots that an agent trusts after this answer."""
    return b"".join(
        x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in issued.roots_der
    )


def enrolled(running: Served) -> Machine:
    """Return a machine that trusts only the root of its join file."""
    machine = Machine(running.token())
    machine.enrol()
    return machine


def shut_out(machine: Machine) -> Code:
    """Make a call that must fail; return its status code."""
    with pytest.raises(grpc.RpcError) as caught:
        machine.hello()
    return refusal(caught.value)[0]


def test_root_replaced_without_a_restart_and_nobody_lost(running):
    """After rotate, switch and retire, all machines are served: one that was offline, one that renewed in
    time, and one that enrolled after the switch."""
    offline, diligent = enrolled(running), enrolled(running)
    with offline.telemetry() as held_open:
        held_open.Hello(hello_request(), timeout=SECONDS)
        old = running.token()["ca_sha256"]
        step(running, "rotate")
        assert len(renew(diligent).roots_der) == 2
        assert diligent.hello() is not None
        step(running, "switch")
        assert held_open.Hello(hello_request(), timeout=SECONDS) is not None  # an older connection
        newcomer = enrolled(running)  # by a join file with the new root only
        assert newcomer.join["ca_sha256"] != old
        for machine in (offline, diligent, newcomer):
            assert machine.hello() is not None
        with_old_root_alone = Machine(running.token(), ca_pem=offline.roots.decode())
        assert with_old_root_alone.enrol().agent_id, "a join file of before the switch is still good"
        for machine in (offline, diligent, newcomer):
            issued = renew(machine)
            assert len(issued.roots_der) == 2
        step(running, "retire", force=True)
        for machine in (offline, diligent, newcomer):
            assert machine.hello() is not None
    assert len(renew(newcomer).roots_der) == 1


def test_retire_cuts_who_has_the_old_root_alone(running):
    """`retire` is refused while a machine has only the old root; with --force that machine no longer trusts
    the collector."""
    offline = enrolled(running)
    step(running, "rotate")
    step(running, "switch")
    assert offline.hello() is not None
    with pytest.raises(Exception, match=r"1 machine\(s\) do not have the new root"):
        step(running, "retire")
    step(running, "retire", force=True)
    assert shut_out(offline) is Code.UNAVAILABLE


def test_without_cross_certificate_the_switch_would_cut_them_too(running):
    """Without a cross certificate `switch` is refused; with --force it excludes machines with the old one."""
    offline, diligent = enrolled(running), enrolled(running)
    step(running, "rotate", cross=False)
    renew(diligent)
    with pytest.raises(Exception, match="never trust this collector again"):
        step(running, "switch")
    step(running, "switch", force=True)
    assert diligent.hello() is not None
    assert shut_out(offline) is Code.UNAVAILABLE


def test_expired_under_the_old_intermediate_comes_back(running):
    """RenewExpired accepts a certificate of the old intermediate, on the old root by cross certificate."""
    machine = enrolled(running)
    step(running, "rotate")
    step(running, "switch")
    key = ec.generate_private_key(ec.SECP256R1())
    issued = machine.renew_expired(key).certificate
    machine.key = key
    machine.keep(issued)
    machine.roots = roots_pem(issued)
    step(running, "retire", force=True)
    assert machine.hello() is not None


def test_intermediate_renewed_on_a_live_connection(running):
    """Another intermediate under the same root changes nothing for old certificates and open connections."""
    machine = enrolled(running)
    with machine.telemetry() as stub:
        stub.Hello(hello_request(), timeout=SECONDS)
        step(running, "renew_intermediate")
        assert stub.Hello(hello_request(), timeout=SECONDS) is not None
    assert machine.hello() is not None
    before = machine.chain
    issued = renew(machine)
    assert machine.chain != before
    assert len(issued.roots_der) == 1
    assert machine.hello() is not None
    assert enrolled(running).hello() is not None


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA 3072"])
def test_an_organisation_s_own_intermediate(running, kind):
    """An imported intermediate replaces the old one like a new root: the offline machine, the one that
    renewed and the new one are all served."""
    offline, diligent = enrolled(running), enrolled(running)
    brought = Organisation(kind, between=1)
    step(running, "import", **brought.arguments())
    renew(diligent)
    step(running, "switch")
    newcomer = enrolled(running)
    assert newcomer.roots == brought.root_pem
    for machine in (offline, diligent, newcomer):
        assert machine.hello() is not None
        renew(machine)
    step(running, "retire", force=True)
    for machine in (offline, diligent, newcomer):
        assert machine.hello() is not None
    step(running, "import", **brought.next_intermediate().arguments())  # under the same root: at once
    assert offline.hello() is not None
    assert enrolled(running).hello() is not None


@contextmanager
def real(folder: Path) -> Iterator[Stack]:
    """Run `veilleuse serve` in a folder for agents' commands too."""
    with Stack(folder) as stack:
        stack.start_collector()
        yield stack


@pytest.mark.parametrize("release", ["present", previous.VERSION])
def test_real_agents_follow_a_rotation(tmp_path: Path, release: str) -> None:
    """`veilleuse-agent send` follows a rotation: one agent renews during the overlap, the other returns after
    the switch."""
    peer("faketime")
    path = ""
    if release != "present":
        path = str(tmp_path / "released")
        with zipfile.ZipFile(previous.WHEELS[-1]) as wheel:
            wheel.extractall(path)

    def run(stack: Stack, agent: dict[str, str], *arguments: str, hours: int = 0) -> int:
        """Run the agent with its clock `hours` ahead; two thirds of a certificate's life make it renew."""
        command = [sys.executable, "-m", "veilleuse.agent", *arguments]
        ahead = clock.environment_at(clock.now() + timedelta(hours=hours)) if hours else {}
        environment = stack.environment | agent | ahead
        done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
        return done.returncode

    def enrol(stack: Stack, name: str) -> dict[str, str]:
        join = tmp_path / f"{name}.json"
        where = ("--entity", "DSI", "--site", "Lyon", "--population", "server")
        stack.must("veilleuse", "token", "create", *where, "--output", str(join))
        agent = {"VEILLEUSE_AGENT__PATHS__STATE": str(tmp_path / name), "PYTHONPATH": path}
        assert run(stack, agent, "enrol", str(join)) == 0
        return agent

    def send(stack: Stack, agent: dict[str, str], hours: int = 0) -> int:
        return run(stack, agent, "send", hours=hours)

    def roots(name: str) -> int:
        return (tmp_path / name / "id/roots.pem").read_text().count("BEGIN")

    with real(tmp_path) as stack:
        diligent, absent = enrol(stack, "diligent"), enrol(stack, "absent")
        stack.must("veilleuse", "ca", "rotate")
        assert send(stack, diligent, hours=20) == 0
        assert (roots("diligent"), roots("absent")) == (2, 1)
        shown = json.loads(stack.must("veilleuse", "ca", "switch", "--json"))
        assert shown["phase"] == "switched"
        assert send(stack, diligent) == 0
        assert send(stack, absent, hours=20) == 0
        assert roots("absent") == 2
        assert stack.run("veilleuse", "ca", "retire").returncode == 1
        stack.must("veilleuse", "ca", "retire", "--force")
        assert send(stack, absent) == 0
        # Its certificate is of the old intermediate: it is refused once, then requests another with its key.
        assert [send(stack, diligent) for _ in range(2)][-1] == 0
        assert "no rotation" in stack.must("veilleuse", "ca", "show")
