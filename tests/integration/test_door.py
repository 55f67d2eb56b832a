# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the gateway, the process of :8642: its bounds, and that its death disturbs nobody (decision 0022)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import psutil
import pytest

from tests.support import clock
from tests.support.machines import SECONDS, Machine, Served, certificate_of, refusal, served, settings_in
from tests.support.waiting import PATIENCE_SECONDS, has_ended, until
from veilleuse.collector.app.gateway import server
from veilleuse.collector.enrolment.ca_rotation import renew_intermediate
from veilleuse.collector.settings import child_environment
from veilleuse.wire.v1 import telemetry_pb2 as pb

Code = grpc.StatusCode
ENROL = "/veilleuse.wire.v1.EnrolmentService/Enrol"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Served]:
    """Give a running collector."""
    with served(settings_in(tmp_path)) as collector:
        yield collector


def door() -> psutil.Process:
    """Return the gateway's process."""
    (found,) = [
        each for each in psutil.Process().children() if "veilleuse.collector.app.gateway" in _words(each)
    ]
    return found


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it is ending
        return []


def test_a_door_that_dies_comes_back_on_its_port(running):
    """After the gateway's death, agents on :8641 are served, and machines soon enrol at the same address."""
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
    """Return whether the machine gets an identity."""
    try:
        return bool(machine.enrol().agent_id)
    except grpc.RpcError:
        return False


def test_it_is_behind_and_holds_no_key_of_the_authority(running):
    """The gateway has a lower priority than the collector, opens no file of the data directory, and its
    sockets are private."""
    process, folder = door(), running.collector.settings.data_dir
    assert process.nice() == min(psutil.Process().nice() + 5, 19)
    assert not [file.path for file in process.open_files() if str(folder) in file.path]
    for name in ("door.sock", "door-inner.sock"):
        assert (folder / name).stat().st_mode & 0o077 == 0


def test_nothing_of_it_stays(tmp_path):
    """A stopped collector leaves no gateway process and no socket."""
    settings = settings_in(tmp_path)
    with served(settings):
        process = door()
    until(lambda: has_ended(process))
    assert not list(settings.data_dir.glob("*.sock"))


def test_it_dies_with_the_collector(tmp_path):
    """`kill -9` of the collector ends the gateway too."""
    with served(settings_in(tmp_path / "made")) as made:
        settings = made.collector.settings
    command = [sys.executable, "-m", "veilleuse.collector", "serve"]
    process = subprocess.Popen(command, env=child_environment(settings), stderr=subprocess.DEVNULL)
    try:
        of_it = psutil.Process(process.pid)
        until(lambda: len(of_it.children()) == 2)  # the web process and the gateway
        children = of_it.children()
        until(lambda: (settings.data_dir / "door-inner.sock").exists())
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)
    until(lambda: all(map(has_ended, children)))


def test_a_step_of_a_rotation_is_shown_at_once(running):
    """A new intermediate signs a new server certificate, which the next connection gets."""
    address = Machine(running.token()).join["enrolment_address"]
    before = certificate_of(address)
    assert certificate_of(address) == before
    running.collector.issuing.authority.change(renew_intermediate(None))
    assert certificate_of(address) != before


def test_many_refusals_on_one_connection(running):
    """A refused call frees its stream; a connection has four."""
    machine = Machine(running.token())
    with machine.enrolment() as stub:
        for _ in range(9):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Enrol(pb.EnrolRequest(token="wrong"), timeout=SECONDS)
            assert refusal(caught.value) == (Code.INVALID_ARGUMENT, "bad_request")
        request = pb.EnrolRequest(token=machine.join["token"], certificate_request_der=machine.request())
        assert stub.Enrol(request, timeout=SECONDS).agent_id


def test_what_is_no_call_of_the_contract(running):
    """Other methods, Hello too, are unknown here; bytes that are no message are refused permanently."""
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
    """256 calls without a request fill the gateway. The next call is refused with too_many_calls, and once
    their 5 s are over there is room again."""
    machine = Machine(running.token())
    began = clock.unix_seconds()
    ends = asyncio.run(_silent_calls(machine, server.CALLS_INSIDE + 1))
    until(lambda: enrols(machine))
    figure(
        f"{server.CALLS_INSIDE} calls without a request: the next refused with {FULL[1]}, an enrolment served "
        f"after {clock.unix_seconds() - began:.1f} s"
    )
    late = ends.pop((Code.DEADLINE_EXCEEDED, "deadline"))
    assert ends == {FULL: 1}
    assert late >= server.CALLS_INSIDE
    until(lambda: refusals(running) == {"too_many_calls": 1, "deadline": late})


def refusals(running: Served) -> dict[str, int]:
    """Return the collector's counts of refused calls by reason, the gateway's included."""
    return dict(running.collector.health.snapshot()["calls_refused"])


FULL: Final = (Code.RESOURCE_EXHAUSTED, "too_many_calls")


async def _silent_calls(machine: Machine, places: int) -> Counter[tuple[grpc.StatusCode, str]]:
    """Hold `places` calls that never send their request until one is refused; return how each call ended.

    A call that ended before all others had come is made again.
    """
    credentials = grpc.ssl_channel_credentials(machine.roots)
    own = [("grpc.use_local_subchannel_pool", 1)]
    async with contextlib.AsyncExitStack() as opened:
        channels = [
            await opened.enter_async_context(
                grpc.aio.secure_channel(machine.join["enrolment_address"], credentials, own)
            )
            for _ in range(places // 4 + 1)
        ]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        ends = Counter[tuple[grpc.StatusCode, str]]()

        async def hold(channel: Any) -> None:
            while FULL not in ends:
                call = channel.stream_unary(ENROL)()
                code = await call.code()
                reasons = [
                    value for key, value in await call.trailing_metadata() if key == "veilleuse-reason"
                ]
                ends[code, "".join(reasons)] += 1

        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(hold(channels[number // 4]) for number in range(places)))
        return ends


def test_a_long_path_is_no_obstacle(tmp_path):
    """A data directory may be deeper than the kernel's 108 bytes for a socket's path."""
    with served(settings_in(tmp_path / ("x" * 120))) as running:
        assert enrols(Machine(running.token()))


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_every_interface_means_both_families(tmp_path):
    """0.0.0.0 is reachable by IPv4 and by IPv6, as :8641 is."""
    with served(settings_in(tmp_path, **{"grpc.enrolment_address": "0.0.0.0:0"})) as running:
        port = running.collector.addresses.enrolment.rpartition(":")[2]
        assert certificate_of(f"127.0.0.1:{port}") == certificate_of(f"::1:{port}")
