# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of what slow clients may cost the web process, on real sockets with one large answer."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
import uvicorn

from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.web import server
from veilleuse.collector.web.server import SEND_BUFFER_BYTES, DeadlineProtocol, OneTickServer

LARGE = bytes(4 * 1024 * 1024)
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def large(scope: Any, receive: Any, send: Any) -> None:
    """Answer 4 MiB to any request; /block first holds the whole server up."""
    if scope["path"] == "/block":
        time.sleep(0.3)  # noqa: ASYNC251  # the loop itself has to stop
    headers = [(b"content-length", str(len(LARGE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": LARGE})


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Run a server with a shorter patience and fewer connections than the product's."""
    monkeypatch.setattr(server, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 20)
    monkeypatch.setattr(server, "GRACE_SECONDS", 0)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(large, log_config=None, lifespan="off", ws="none", http=DeadlineProtocol)
    running = OneTickServer(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    until(lambda: running.started, "it listens")
    yield listener.getsockname()
    running.should_exit = True
    thread.join(PATIENCE_SECONDS)


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


def test_a_client_that_takes_nothing_is_cut(address):
    """uvicorn kept connection and answer as long as the client did."""
    clients = [slow(address) for _ in range(10)]
    until(lambda: held(address) == 10, "ten answers wait")
    until(lambda: held(address) == 0, "all are cut")
    for client in clients:
        client.close()


def test_a_slow_client_that_goes_on_taking_is_not_cut(address):
    """Some KiB in each interval are enough."""
    with slow(address) as client:
        taken = 0
        for _ in range(40):
            threading.Event().wait(0.05)
            taken += len(client.recv(64 * 1024))
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
        assert held(address) <= 21
    for client in clients:
        client.close()


def test_a_request_among_many_new_connections_is_read(address, monkeypatch):
    """Of many connections accepted at once, the first was cut before its request was read: S9 found it."""
    monkeypatch.setattr(server, "GRACE_SECONDS", 0.25)
    with slow(address, REQUEST.replace(b"/", b"/block", 1)), ExitStack() as others:
        asks = others.enter_context(socket.create_connection(address))
        asks.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        for _ in range(60):
            others.enter_context(slow(address, REQUEST[:9]))
        answer = b"".join(iter(lambda: asks.recv(1 << 20), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(answer) > len(LARGE)


def test_one_request_at_a_time(address):
    """A client that sends a hundred requests at once gets one answer: others must not wait for it."""
    with slow(address, REQUEST * 100) as client:
        answer = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert answer.count(b"HTTP/1.1 200") == 1
    assert len(answer) > len(LARGE)
