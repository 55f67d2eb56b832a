# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The authority's root replaced under a running collector: real gRPC (BoringSSL), real agents, no restart."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.authorities import Organisation
from tests.support.machines import SECONDS, Machine, Served, hello_request, refusal, served, settings_in
from tests.support.peers import peer
from tests.support.stack import Stack
from veilleuse.collector.ipc import ask
from veilleuse.wire.v1 import telemetry_pb2 as pb

Code = grpc.StatusCode
RELEASES = Path(__file__).parents[1] / "fixtures/releases"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Served]:
    """A collector of its own."""
    with served(settings_in(tmp_path)) as collector:
        yield collector


def step(running: Served, word: str, **arguments: Any) -> dict[str, Any]:
    """A step through the administration socket, as the command makes it."""
    made: dict[str, Any] = ask(running.collector.settings.data_dir, f"ca_{word}", **arguments)
    return made


def renew(machine: Machine) -> pb.IssuedCertificate:
    """As an agent does: a new key, the certificate and the roots that come with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    with machine.telemetry() as stub:
        request = pb.RenewRequest(certificate_request_der=machine.request(key))
        issued: pb.IssuedCertificate = stub.Renew(request, timeout=SECONDS).certificate
    machine.key = key
    machine.keep(issued)
    machine.roots = roots_pem(issued)
    return issued


def roots_pem(issued: pb.IssuedCertificate) -> bytes:
    """What an agent trusts afterwards."""
    return b"".join(
        x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in issued.roots_der
    )


def enrolled(running: Served) -> Machine:
    """A machine with the root of its join file alone."""
    machine = Machine(running.token())
    machine.enrol()
    return machine


def shut_out(machine: Machine) -> Code:
    """How its next call fails."""
    with pytest.raises(grpc.RpcError) as caught:
        machine.hello()
    return refusal(caught.value)[0]


def test_root_replaced_without_a_restart_and_nobody_lost(running):
    """Rotate, switch, retire: who was offline all along, who renewed in time and who came last all go on
    being served."""
    offline, diligent = enrolled(running), enrolled(running)
    with offline.telemetry() as held_open:
        held_open.Hello(hello_request(), timeout=SECONDS)
        old = running.token()["ca_sha256"]
        step(running, "rotate")
        assert len(renew(diligent).roots_der) == 2
        assert diligent.hello() is not None
        step(running, "switch")
        assert held_open.Hello(hello_request(), timeout=SECONDS) is not None  # a connection from before
        newcomer = enrolled(running)  # by a join file with the new root alone
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
    """What the refusal of `retire` is for: with --force such a machine does not believe the collector any
    more."""
    offline = enrolled(running)
    step(running, "rotate")
    step(running, "switch")
    assert offline.hello() is not None
    with pytest.raises(Exception, match=r"1 machine\(s\) do not have the new root"):
        step(running, "retire")
    step(running, "retire", force=True)
    assert shut_out(offline) is Code.UNAVAILABLE


def test_without_cross_certificate_the_switch_would_cut_them_too(running):
    """The cross certificate is what serves them: without it `switch` is refused, and forced it shuts them
    out."""
    offline, diligent = enrolled(running), enrolled(running)
    step(running, "rotate", cross=False)
    renew(diligent)
    with pytest.raises(Exception, match="never trust this collector again"):
        step(running, "switch")
    step(running, "switch", force=True)
    assert diligent.hello() is not None
    assert shut_out(offline) is Code.UNAVAILABLE


def test_expired_under_the_old_intermediate_comes_back(running):
    """RenewExpired takes a certificate of an intermediate that issues no more, on the old root through the
    cross certificate."""
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
    """The same root, another intermediate: nothing changes for anybody, old certificates and connections
    included."""
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
    """An imported intermediate takes over as a new root does; the offline machine, the diligent one and the
    newcomer stay."""
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
    """`veilleuse serve` and room for agents' commands."""
    with Stack(folder) as stack:
        stack.start_collector()
        yield stack


@pytest.mark.parametrize("release", ["present", "0.1.0"])
def test_real_agents_follow_a_rotation(tmp_path: Path, release: str) -> None:
    """`veilleuse-agent send` through all of it: renewed in the overlap, absent until the switch, back after
    it."""
    faketime = str(peer("faketime"))
    path = ""
    if release != "present":
        path = str(tmp_path / "released")
        with zipfile.ZipFile(RELEASES / f"veilleuse-{release}-py3-none-any.whl") as wheel:
            wheel.extractall(path)

    def run(stack: Stack, agent: dict[str, str], *arguments: str, hours: int = 0) -> int:
        """The agent, with its clock so many hours ahead: two thirds of a certificate's life make it renew."""
        ahead = [faketime, "-f", f"+{hours}h"] if hours else []
        command = [*ahead, sys.executable, "-m", "veilleuse.agent", *arguments]
        environment = stack.environment | agent
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
        # Its certificate is of the old intermediate: refused at first, then it asks for another with its key.
        assert [send(stack, diligent) for _ in range(2)][-1] == 0
        assert "no rotation" in stack.must("veilleuse", "ca", "show")
