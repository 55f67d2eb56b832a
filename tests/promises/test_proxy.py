# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The proxy that the tests of promises use behaves as documented."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.promises.support.proxy import REQUEST_BYTES, Proxy
from tests.support.waiting import PATIENCE_SECONDS, until

REQUEST = b"q" * REQUEST_BYTES


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """Yield the address of a server that returns the bytes that it receives."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            while heard := connection.recv(65_536):
                connection.sendall(heard)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def connect(proxy: Proxy) -> socket.socket:
    """Return a client's connection to the proxy."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_SECONDS)


def hear(client: socket.socket, length: int) -> bytes:
    """Return so many bytes; fewer when the connection was cut."""
    heard = b""
    with suppress(ConnectionError):
        while len(heard) < length and (chunk := client.recv(length - len(heard))):
            heard += chunk
    return heard


def ask(client: socket.socket, request: bytes = REQUEST) -> bytes:
    """Send a request and return the answer; empty when the connection was cut."""
    client.sendall(request)
    return hear(client, len(request))


def test_passes_everything(echo):
    """Without a rule, any number of bytes pass unchanged in both directions."""
    with Proxy(echo) as proxy, connect(proxy) as client:
        sent = bytes(range(256)) * 400
        threading.Thread(target=client.sendall, args=(sent,)).start()
        assert hear(client, len(sent)) == sent


def test_loses_the_next_answer_after_the_server_wrote_it(echo):
    """The next answer after the handshake's is cut; a short message is no answer; later answers arrive."""
    with Proxy(echo, handshake_answers=1) as proxy:
        with connect(proxy) as client:
            proxy.lose_next_answer()
            assert ask(client) == REQUEST
            assert ask(client, b"ping") == b"ping"
            assert ask(client) == b""
        with connect(proxy) as client:
            assert ask(client) == ask(client) == REQUEST
        assert proxy.counts == {"connections": 2, "answers": 2, "lost": 1}


def test_loses_a_share(echo):
    """A share of 0.2 loses about one answer in five."""
    with Proxy(echo, handshake_answers=0) as proxy:
        proxy.lose_answers = 0.2
        for _ in range(300):
            with connect(proxy) as client:
                ask(client)
        assert 30 <= proxy.counts["lost"] <= 90


class Waits(list[float]):
    """The waits of a proxy, none of which lasts."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def test_late_narrow_cut(echo):
    """Delay and rate add waiting time in both directions, a cut line ends."""
    waits = Waits()
    with Proxy(echo, sleep=waits) as proxy, connect(proxy) as client:
        proxy.delay_seconds = 0.1
        assert ask(client) == REQUEST
        assert waits == [0.1] * 2
        waits.clear()
        proxy.delay_seconds, proxy.bytes_per_second = 0.0, 1_000
        assert ask(client) == REQUEST
        assert sum(waits) == pytest.approx(2 * REQUEST_BYTES / 1_000)
        proxy.cut()
        assert ask(client) == b""


def test_frozen():
    """A frozen line passes nothing until it thaws."""
    waits = Waits()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Proxy(listener.getsockname(), sleep=waits) as proxy,
        connect(proxy) as client,
        listener.accept()[0] as server,
        connect(proxy) as second,
    ):
        proxy.delay_seconds = 0.1
        proxy.freeze()
        client.sendall(REQUEST)
        until(lambda: len(waits) == 1, "the proxy reads nothing")
        second.sendall(REQUEST)
        until(lambda: len(waits) == 2, "the proxy reads nothing")  # a thawed line would have passed the first
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(1)
        server.settimeout(PATIENCE_SECONDS)
        proxy.thaw()
        assert hear(server, len(REQUEST)) == REQUEST
