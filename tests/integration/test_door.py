# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The door: the process of :8642. What it bounds, and that nobody notices when it is gone (decision 0022)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from tests.support.machines import SECONDS, Machine, Served, refusal, served, settings_in
from tests.support.waiting import PATIENCE_SECONDS, at_its_best, has_ended, until
from veilleuse.collector.app.gateway import server
from veilleuse.collector.enrolment.ca_rotation import renew_intermediate
from veilleuse.collector.settings import child_environment
from veilleuse.wire.v1 import telemetry_pb2 as pb

Code = grpc.StatusCode
ENROL = "/veilleuse.wire.v1.EnrolmentService/Enrol"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Served]:
    """A collector of its own."""
    with served(settings_in(tmp_path)) as collector:
        yield collector


def door() -> psutil.Process:
    """Its process."""
    (found,) = [
        each for each in psutil.Process().children() if "veilleuse.collector.app.gateway" in _words(each)
    ]
    return found


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it ends just now
        return []


def shown(address: str) -> bytes:
    """The certificate that is shown there, DER."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), SECONDS) as plain,
        context.wrap_socket(plain) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def test_a_door_that_dies_comes_back_on_its_port(running):
    """Agents on :8641 notice nothing; after a second machines enrol again at the address they were told."""
    machine = Machine(running.token())
    machine.enrol()
    with machine.telemetry() as stub:
        killed = door()
        killed.kill()
        assert machine.hello() is not None
        other = Machine(running.token())
        until(lambda: enrols(other))
        assert door().pid != killed.pid
        assert stub is not None


def enrols(machine: Machine) -> bool:
    """Whether it got an identity."""
    try:
        return bool(machine.enrol().agent_id)
    except grpc.RpcError:
        return False


def test_it_is_behind_and_holds_no_key_of_the_authority(running):
    """It gives way to the collector, opens no file of the data directory, and its own files are private and
    go with it."""
    process, folder = door(), running.collector.settings.data_dir
    assert process.nice() == min(psutil.Process().nice() + 5, 19)
    assert not [file.path for file in process.open_files() if str(folder) in file.path]
    for name in ("door.sock", "door-inner.sock"):
        assert (folder / name).stat().st_mode & 0o077 == 0


def test_nothing_of_it_stays(tmp_path):
    """After the collector has stopped there is neither its process nor a socket."""
    settings = settings_in(tmp_path)
    with served(settings):
        process = door()
    assert not process.is_running()
    assert not list(settings.data_dir.glob("*.sock"))


def test_it_dies_with_the_collector(tmp_path):
    """`kill -9` of the collector takes the door with it."""
    with served(settings_in(tmp_path / "made")) as made:
        settings = made.collector.settings
    command = [sys.executable, "-m", "veilleuse.collector", "serve"]
    process = subprocess.Popen(command, env=child_environment(settings), stderr=subprocess.DEVNULL)
    try:
        of_it = psutil.Process(process.pid)
        until(lambda: len(of_it.children()) == 2)  # the pages and the door
        children = of_it.children()
        until(lambda: (settings.data_dir / "door-inner.sock").exists())
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)
    until(lambda: all(map(has_ended, children)))


def test_a_step_of_a_rotation_is_shown_at_once(running):
    """A new intermediate signs a new server certificate; whoever connects next is shown it."""
    address = Machine(running.token()).join["enrolment_address"]
    before = shown(address)
    assert shown(address) == before
    running.collector.issuing.authority.change(renew_intermediate(None))
    assert shown(address) != before


def test_many_refusals_on_one_connection(running):
    """A refused call gives its place on the connection back: a connection has four."""
    machine = Machine(running.token())
    with machine.enrolment() as stub:
        for _ in range(9):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Enrol(pb.EnrolRequest(token="wrong"), timeout=SECONDS)
            assert refusal(caught.value) == (Code.INVALID_ARGUMENT, "bad_request")
        request = pb.EnrolRequest(token=machine.join["token"], certificate_request_der=machine.request())
        assert stub.Enrol(request, timeout=SECONDS).agent_id


def test_what_is_no_call_of_the_contract(running):
    """Another method is unknown here, Hello too; bytes that are no message are refused for good."""
    machine = Machine(running.token())
    credentials = grpc.ssl_channel_credentials(machine.roots)
    with grpc.secure_channel(machine.join["enrolment_address"], credentials) as channel:
        for method, code in (
            ("/veilleuse.wire.v1.TelemetryService/Hello", Code.UNIMPLEMENTED),
            (ENROL, Code.INVALID_ARGUMENT),
        ):
            call: Callable[..., bytes] = channel.unary_unary(method)
            with pytest.raises(grpc.RpcError) as caught:
                call(b"\xff\xff\xff", timeout=SECONDS)
            assert refusal(caught.value)[0] is code


@pytest.mark.promise("S9")
def test_calls_that_say_nothing_give_their_places_back(running, figure):
    """256 calls without a request fill the door; the next one is told to come back, and 5 s later there is
    room again."""
    machine = Machine(running.token())
    silent = list[grpc.StatusCode]()

    def trial() -> tuple[float, list[grpc.StatusCode], tuple[grpc.StatusCode, str]]:
        began = time.monotonic()
        codes, refused = asyncio.run(_silent_calls(machine))
        silent.extend(codes)
        return began, codes, refused

    # On a machine that stalls, the next one comes before all of the others are there, or once their 5 s are
    # over.
    began, codes, refused = at_its_best(trial, lambda found: found[2][0] is Code.RESOURCE_EXHAUSTED)
    until(lambda: enrols(machine))
    until(lambda: refusals(running).get("too_many_calls", 0) >= 1)
    figure(
        f"{len(codes)} calls without a request: {refused[1]}, and an enrolment after {time.monotonic() - began:.1f} s"
    )
    assert refused == (Code.RESOURCE_EXHAUSTED, "too_many_calls")
    assert len(codes) == server.CALLS_INSIDE
    assert set(silent) == {Code.DEADLINE_EXCEEDED}
    until(lambda: refusals(running).get("deadline") == len(silent))


def refusals(running: Served) -> dict[str, int]:
    """What the collector has counted, by reason: the door's own refusals among them."""
    return dict(running.collector.health.snapshot()["calls_refused"])


async def _silent_calls(machine: Machine) -> tuple[list[grpc.StatusCode], tuple[grpc.StatusCode, str]]:
    """How 256 calls end that never send their request, and how one fares that comes while they are there."""
    credentials = grpc.ssl_channel_credentials(machine.roots)
    own = [("grpc.use_local_subchannel_pool", 1)]
    async with contextlib.AsyncExitStack() as opened:
        channels = [
            await opened.enter_async_context(
                grpc.aio.secure_channel(machine.join["enrolment_address"], credentials, own)
            )
            for _ in range(server.CALLS_INSIDE // 4 + 1)
        ]
        calls: list[Any] = [channel.stream_unary(ENROL)() for channel in channels[:-1] for _ in range(4)]
        await asyncio.gather(*(call.wait_for_connection() for call in calls))
        await asyncio.sleep(1)
        one_more: Any = channels[-1].unary_unary(ENROL)
        with pytest.raises(grpc.RpcError) as refused:
            await one_more(b"", timeout=SECONDS)
        return [await call.code() for call in calls], refusal(refused.value)


def test_a_long_path_is_no_obstacle(tmp_path):
    """The kernel allows a socket's path 108 bytes; data directories may be deeper."""
    with served(settings_in(tmp_path / ("x" * 120))) as running:
        assert enrols(Machine(running.token()))


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_every_interface_means_both_families(tmp_path):
    """0.0.0.0 is reached by IPv4 and by IPv6, as :8641 is."""
    with served(settings_in(tmp_path, **{"grpc.enrolment_address": "0.0.0.0:0"})) as running:
        port = running.collector.addresses.enrolment.rpartition(":")[2]
        assert shown(f"127.0.0.1:{port}") == shown(f"::1:{port}")
