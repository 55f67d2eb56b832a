# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of what slow clients may cost the web process, on real sockets with one large answer.

The server's time stands still until a test moves it.
"""

from __future__ import annotations

import asyncio
import http.client
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import psutil
import pytest
import uvicorn

from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.web import connections, server
from veilleuse.collector.web.connections import (
    LOOPBACK,
    MOST_CONNECTIONS,
    MOST_OF_ADDRESS,
    Connections,
    Verdict,
    origin_of,
)
from veilleuse.collector.web.server import (
    REQUEST_SECONDS,
    SEND_BUFFER_BYTES,
    STALL_SECONDS,
    DeadlineProtocol,
    OneTickServer,
)

LARGE = bytes(4 * 1024 * 1024)
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def large(scope: Any, receive: Any, send: Any) -> None:
    """Answer 4 MiB to any request. /block holds the server up first, /form reads the body, /wait waits."""
    if scope["path"] == "/block":
        loop: Any = asyncio.get_running_loop()
        loop.go_on.wait(PATIENCE_SECONDS)  # the loop itself has to stop
    while scope["path"] in ("/form", "/wait"):
        message = await receive()
        if message["type"] == "http.disconnect" or (scope["path"] == "/form" and not message["more_body"]):
            break
    headers = [(b"content-length", str(len(LARGE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": LARGE})


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until the test moves it."""

    def __init__(self) -> None:
        self.moment: float | None = 0.0
        self.go_on = threading.Event()
        super().__init__()

    def time(self) -> float:
        return super().time() if self.moment is None else self.moment

    def move(self, seconds: float) -> None:
        """Move the time and return when what is due has run. Called from another thread."""

        async def moved() -> None:
            assert self.moment is not None
            self.moment += seconds
            for _ in range(3):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(moved(), self).result(PATIENCE_SECONDS)


class Served:
    """A running server with fewer connections than the product's, on its own loop."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.listener.bind(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        config = uvicorn.Config(large, log_config=None, lifespan="off", ws="none", http=DeadlineProtocol)
        self.server = OneTickServer(config)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self.server.serve(sockets=[self.listener]))

    @property
    def connections(self) -> list[Any]:
        return list(self.server.bounds)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Run a server while the test runs."""
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 20)
    monkeypatch.setattr(connections, "MOST_IN_GRACE", 80)
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0)
    made = Served()
    made.thread.start()
    until(lambda: made.server.started, "it listens")
    yield made
    made.loop.moment = None  # its end waits for a while
    made.server.handle_exit(signal.SIGTERM, None)
    made.thread.join(PATIENCE_SECONDS)


@pytest.fixture
def address(served: Served) -> tuple[str, int]:
    """Return the address of the server."""
    found: tuple[str, int] = served.address
    return found


def slow(address: tuple[str, int], sent: bytes = REQUEST) -> socket.socket:
    """Connect a client that sends a request and reads nothing."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(address)
    made.sendall(sent)
    return made


def held(address: tuple[str, int]) -> int:
    """Return the number of connections that the server has open."""
    connections = psutil.Process().net_connections("tcp")
    return sum(one.laddr == address and one.status == "ESTABLISHED" for one in connections)


def read(address: tuple[str, int]) -> int:
    """Return the number of bytes that a reading client gets."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/")
        return len(connection.getresponse().read())
    finally:
        connection.close()


def test_a_client_that_takes_nothing_is_cut(served, address, monkeypatch):
    """uvicorn kept connection and answer as long as the client did."""
    monkeypatch.setattr(server, "ANSWER_SECONDS", 1e9)
    clients = [slow(address) for _ in range(10)]
    until(lambda: held(address) == 10, "ten answers wait")
    until(lambda: served.loop.move(STALL_SECONDS) or held(address) == 0, "all are cut")
    for client in clients:
        client.close()


def test_a_slow_client_that_goes_on_taking_is_not_cut(served, address):
    """Some KiB in each interval are enough."""
    with slow(address) as client:
        taken = 0
        for interval in range(1, 11):
            while taken < interval * 256 * 1024:  # more than the kernel keeps
                part = client.recv(4096)
                assert part, "it is cut"
                taken += len(part)
            served.loop.move(STALL_SECONDS)
        rest = iter(lambda: client.recv(1 << 20), b"")
        taken += sum(map(len, rest))
    assert taken > len(LARGE)


def test_the_slowest_goes_where_there_are_too_many(address):
    """With forty clients that read nothing or send half a request, a new client is served."""
    clients = []
    for number in range(40):
        clients.append(slow(address, REQUEST if number % 2 else REQUEST[:9]))
        if number > 30:
            assert read(address) == len(LARGE)
        until(lambda: held(address) <= 21, "the slowest goes")
    for client in clients:
        client.close()


def test_a_request_among_many_new_connections_is_read(served, address, monkeypatch):
    """Of many connections accepted at once, the first was cut before its request was read: S9 found it."""
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.25)
    with slow(address, REQUEST.replace(b"/", b"/block", 1)), ExitStack() as others:
        asks = others.enter_context(socket.create_connection(address))
        asks.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        for _ in range(60):
            others.enter_context(slow(address, REQUEST[:9]))
        served.loop.go_on.set()
        answer = b"".join(iter(lambda: asks.recv(1 << 20), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(answer) > len(LARGE)


def test_one_request_at_a_time(address):
    """A client that sends a hundred requests at once gets one answer: others must not wait for it."""
    with slow(address, REQUEST * 100) as client:
        answer = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert answer.count(b"HTTP/1.1 200") == 1
    assert len(answer) > len(LARGE)


POST = b"POST /form HTTP/1.1\r\nHost: 127.0.0.1\r\n"
UNFINISHED = {
    "no body": POST + b"Content-Length: 10\r\n\r\n",
    "no chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n",
    "no permission wanted": POST + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
    "half a head": POST,
    "answered before its end": POST.replace(b"/form", b"/") + b"Content-Length: 99999\r\n\r\n",
}


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
def test_a_request_has_an_end_in_time(served, address, sent):
    """Bytes of a body or a head that come one by one prolong nothing, nor does an answer before the end."""
    with socket.create_connection(address) as client:
        client.sendall(sent)
        client.setblocking(False)
        until(lambda: served.connections, "it is accepted")
        for _ in range(4):
            served.loop.move(REQUEST_SECONDS / 5)
            assert not is_cut(client)
        assert held(address) == 1
        served.loop.move(REQUEST_SECONDS / 5)
        until(lambda: is_cut(client), "it is cut")


def is_cut(client: socket.socket) -> bool:
    """Read what there is and send a byte; return whether the connection is gone."""
    try:
        with suppress(BlockingIOError):
            while client.recv(1 << 20):
                pass
        client.send(b"1")
    except ConnectionError:
        return True
    return False


def test_a_body_in_two_parts_is_read(served, address):
    """A body that comes after its head, in time, gets its answer."""
    with socket.create_connection(address) as client:
        client.sendall(UNFINISHED["no body"])
        until(lambda: any(one.cycle for one in served.connections), "its head is read")
        client.sendall(b"token=1234")
        assert client.recv(15) == b"HTTP/1.1 200 OK"


def test_who_asks_for_a_web_socket_gets_the_page(address, caplog):
    """The log gives no advice to install something: none is offered, and anybody may ask."""
    with socket.create_connection(address) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.1 200 OK"
    assert "WebSocket" not in caplog.text
    assert "upgrade" not in caplog.text


@pytest.mark.parametrize("path", [b"/", b"/form", b"/wait"])
@pytest.mark.parametrize("cut_in_two", [False, True])
def test_a_broken_chunk_is_no_error_of_ours(served, address, caplog, path, cut_in_two):
    """A malformed body before, with or after the answer ends the connection, and logs no exception."""
    head = POST.replace(b"/form", path) + b"Transfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(address) as client:
        client.sendall(head if cut_in_two else head + b"not hex\r\n")
        if cut_in_two:
            until(lambda: any(one.cycle for one in served.connections), "its head is read")
            if path == b"/":
                until(lambda: served.connections[0].cycle.response_started, "the answer has begun")
            client.sendall(b"not hex\r\n")
        with suppress(ConnectionError):
            while client.recv(1 << 20):
                pass
    assert read(address) == len(LARGE)
    assert not [one for one in caplog.records if one.exc_info]


def test_room_is_kept_for_those_who_watch(served, address, monkeypatch):
    """While all connections wait for our answers, one more gets /healthz, and no other path."""
    monkeypatch.setattr(connections, "GRACE_SECONDS", PATIENCE_SECONDS)
    with ExitStack() as opened:
        for _ in range(80):
            opened.enter_context(slow(address, REQUEST.replace(b"/ ", b"/wait ")))
        until(lambda: sum(one.waits_for_us for one in served.connections) == 80, "all wait")
        for path, status in (b"/healthz ", b"200"), (b"/ ", b"503"):
            client = opened.enter_context(slow(address, REQUEST.replace(b"/ ", path, 1)))
            assert client.recv(12) == b"HTTP/1.1 " + status


class Peer:
    """A connection as the bounds see it."""

    def __init__(self, host: str, since: float = 0.0, *, waits_for_us: bool = False) -> None:
        self.host, self.origin = host, origin_of(host)
        self.since, self.waits_for_us = since, waits_for_us
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True


def arrive(bounds: Connections, peer: Peer, now: float) -> bool:
    """Tell whether a connection is accepted and stays."""
    if not bounds.admits(peer.host, now):
        return False
    bounds.add(peer)
    return bounds.judge(peer, now) is not Verdict.CUT


def test_an_address_has_a_bound():
    """Beyond it the slowest of the same address goes, once its grace is over; others keep theirs."""
    bounds, other = Connections(), Peer("192.0.2.2")
    assert arrive(bounds, other, 0)
    first, *rest = (Peer("192.0.2.1", number / 1_000) for number in range(MOST_OF_ADDRESS))
    assert all(arrive(bounds, one, one.since) for one in (first, *rest))
    assert not arrive(bounds, Peer("::ffff:192.0.2.1"), 0.1)  # all are in their grace
    assert arrive(bounds, Peer("192.0.2.1", 10), 10)
    assert (first.is_cut, rest[0].is_cut, other.is_cut) == (True, False, False)
    assert arrive(bounds, Peer("192.0.2.2", 10), 10)
    for one in rest:
        one.waits_for_us = True
    assert arrive(bounds, Peer("192.0.2.1", 20), 20)  # the one of second 10 goes
    assert not arrive(bounds, Peer("192.0.2.1", 20, waits_for_us=True), 20)


def test_what_shares_a_bound():
    """An IPv6 network of 64 bits is one address; loopback has no bound."""
    assert origin_of("2001:db8::1") == origin_of("2001:db8::ffff:1")
    assert origin_of("2001:db8::1") != origin_of("2001:db8:0:1::1")
    assert origin_of("fe80::1%eth0") == "fe80::/64"
    assert {origin_of(one) for one in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1")} == {LOOPBACK}
    bounds = Connections()
    assert all(arrive(bounds, Peer("127.0.0.1"), 0) for _ in range(10 * MOST_OF_ADDRESS))


def test_a_proxy_that_proves_itself_has_no_bound():
    """One request with the secret frees the address of its proxy, and no other."""
    bounds = Connections(lambda headers: (b"secret", b"1") in headers)
    proxy, stranger = Peer("192.0.2.1"), Peer("192.0.2.2")
    for one, headers in ((proxy, [(b"secret", b"1")]), (stranger, [(b"secret", b"2")])):
        assert arrive(bounds, one, 0)
        bounds.meet(one, headers)
    assert all(arrive(bounds, Peer("192.0.2.1"), 0) for _ in range(10 * MOST_OF_ADDRESS))
    arrived = [arrive(bounds, Peer("192.0.2.2"), 0) for _ in range(10 * MOST_OF_ADDRESS)]
    assert sum(arrived) == MOST_OF_ADDRESS - 1


def test_strangers_cut_each_other_never_loopback():
    """Of many addresses, the one with most connections loses its slowest; loopback has a pool of its own."""
    bounds, here, lone = Connections(), Peer("127.0.0.1"), Peer("192.0.2.1")
    assert arrive(bounds, here, 0)
    assert arrive(bounds, lone, 0)
    many = [Peer(f"198.51.100.{1 + number // 8}", 1) for number in range(MOST_CONNECTIONS)]
    assert all(arrive(bounds, one, 10) for one in many)
    assert arrive(bounds, Peer("203.0.113.1", 10), 10)
    assert sum(one.is_cut for one in many) == 2
    assert not here.is_cut
    assert not lone.is_cut
