# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S9: connections that send nothing, or slowly, are closed, and delay no other client."""

from __future__ import annotations

import contextlib
import re
import resource
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.promises.support.served import Heartbeat, served, where
from tests.promises.table import BY_NAME
from tests.support.peers import peer
from tests.support.stack import Stack, get
from tests.support.waiting import PATIENCE_SECONDS, comes

pytestmark = [pytest.mark.promise("S9"), pytest.mark.long]

SOCKETS = 2_000
CLOSED_SECONDS = 6.5
"""The collector waits for 5 s; one machine opens and closes 2,000 connections, both ends, in the rest."""


@pytest.fixture(autouse=True)
def _few_descriptors_at_start() -> Iterator[None]:
    """Start the collector with the 1,024 descriptors that a service manager gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    started = Stack.start

    def start(self: Stack, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, hard))
        try:
            return started(self, *command, **environment)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stack, "start", start)
        yield


def _silent(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=PATIENCE_SECONDS)


def _after_tls(address: tuple[str, int]) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(_silent(address))


def _half_a_request(address: tuple[str, int]) -> socket.socket:
    connection = _silent(address)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ")
    return connection


def _seconds_until_closed(opened: list[tuple[socket.socket, float]]) -> float:
    """Return the longest life of a connection; `opened` are (socket, monotonic time of its start)."""
    poller, born = select.poll(), {}
    for connection, at in opened:
        connection.setblocking(False)
        poller.register(connection, select.POLLIN | select.POLLHUP)
        born[connection.fileno()] = (connection, at)
    longest, until = 0.0, time.monotonic() + 30
    while born and time.monotonic() < until:
        for number, _ in poller.poll(200):
            connection, at = born[number]
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ConnectionError, ssl.SSLError):
                if connection.recv(4096):
                    continue  # SETTINGS or a session ticket
            with contextlib.suppress(OSError):
                if isinstance(connection, ssl.SSLSocket) and not _is_closed(connection):
                    continue
            longest = max(longest, time.monotonic() - at)
            poller.unregister(number)
            del born[number]
            connection.close()
    for connection, _ in born.values():
        connection.close()
    return float("inf") if born else longest


def _is_closed(connection: socket.socket) -> bool:
    """Return whether the other side ended the TCP connection, whatever TLS data are still unread."""
    raw = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
    with raw:
        raw.setblocking(False)
        try:
            return raw.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


@pytest.mark.parametrize(
    ("name", "kind", "door"),
    [
        ("silent on :8641", _silent, "GRPC__ADDRESS"),
        ("silent after TLS on :8642", _after_tls, "GRPC__ENROLMENT_ADDRESS"),
        ("half a request on :8640", _half_a_request, "HTTP__ADDRESS"),
    ],
)
def test_two_thousand_slow_connections_hold_nobody_up(
    tmp_path: Path,
    name: str,
    kind: Callable[[tuple[str, int]], socket.socket],
    door: str,
    figure: Callable[[str], None],
) -> None:
    """2,000 slow connections (500 after TLS) are closed in time; calls and page stay fast; none is left."""
    with served(tmp_path) as (stack, machine, process):
        whole = [process, *process.children(recursive=True)]
        before = sum(one.num_fds() for one in whole)
        count = SOCKETS if kind is not _after_tls else SOCKETS // 4  # a handshake costs both ends time
        with Heartbeat(machine) as agent, Heartbeat(stack.url) as page:
            opened = [(kind(where(stack, door)), time.monotonic()) for _ in range(count)]
            longest = _seconds_until_closed(opened)
        comes(lambda: sum(one.num_fds() for one in whole) <= before + 8)
        left = sum(one.num_fds() for one in whole) - before
        figure(
            f"{count:,} connections, {name}: closed in ≤ {longest:.1f} s, agent p99 {agent.p99 * 1000:.0f} ms, "
            f"page p99 {page.p99 * 1000:.0f} ms, {left:+d} descriptors"
        )
        assert f"closed in ≤ {CLOSED_SECONDS:g} s" in BY_NAME["S9"].figure
        assert longest <= CLOSED_SECONDS
        assert agent.p99 < 1.0
        assert page.p99 < 1.0
        assert left <= 8


def test_slowhttptest_finds_the_pages_available(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Debian's slowhttptest finds the service available: slow headers and slow reading, 500 connections."""
    program = peer("slowhttptest")
    with served(tmp_path) as (stack, _, _process):
        for mode in (["-H"], ["-X"]):
            command = [
                str(program),
                *mode,
                "-c",
                "500",
                "-r",
                "250",
                "-i",
                "1",
                "-l",
                "12",
                "-p",
                "1",
                "-u",
                stack.url,
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
            said = re.findall(r"service available:\s+(\w+)", text)
            figure(
                f"{said.count('YES')} of {len(said)} checks of slowhttptest {mode[0]} found the service available"
            )
            assert said
            assert set(said) == {"YES"}
            assert get(stack.url + "healthz")
