# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The open port: passes connections to gRPC, within limits of number and bytes per second.

A PING of 17 bytes costs gRPC 23 µs, and a client that does not read the answers cannot be told to leave.
Eight such connections took all processor time. Unread bytes of a connection wait in the kernel, then at the
sender.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Final


class Budget:
    """Bytes a second, with a burst. Callers that take more wait, in the order of their calls."""

    def __init__(
        self, bytes_a_second: int, burst_bytes: int, monotonic_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """Both > 0. `monotonic_seconds`: a clock that only goes forward."""
        self._second_a_byte = 1 / bytes_a_second
        self._burst_seconds = burst_bytes / bytes_a_second
        self._now = monotonic_seconds
        self._paid_until = self._now() - self._burst_seconds

    def take(self, number: int) -> float:
        """Take bytes, and return the seconds ≥ 0 to wait before their use."""
        now = self._now()
        self._paid_until = max(self._paid_until, now - self._burst_seconds) + number * self._second_a_byte
        return max(0.0, self._paid_until - now)


log = logging.getLogger(__name__)

CONNECTIONS: Final = 2_048
"""Largest number of connections; the next one is closed. Each takes some 70 KiB and three descriptors."""
BYTES_A_SECOND: Final = 512 * 1024
"""Limit over all connections: a hundred enrolments, or 30,000 PINGs, half of a processor."""
CONNECTION_BYTES_A_SECOND: Final = 16 * 1024
CONNECTION_BURST_BYTES: Final = 32 * 1024
"""An enrolment with its handshake sends some 4 KiB, and never waits; the largest request waits for 2 s."""
HANDSHAKE_BYTES: Final = 2 * 1024
"""Cost of a new connection, as bytes that take as much processor time."""
PIECE_BYTES: Final = 4 * 1024
BUFFER_BYTES: Final = 32 * 1024
"""Kernel buffer for each direction of a connection."""
SILENCE_SECONDS: Final = 5.0
"""Longest wait for the first byte; later gRPC limits the time."""
STALL_SECONDS: Final = 5.0
"""A side that takes no bytes for this time is closed."""
BACKLOG: Final = 1_024


class Relay:
    """Relays between the listening sockets and gRPC's own socket. Runs on the event loop."""

    def __init__(self, listeners: Sequence[socket.socket], connect_to: str) -> None:
        """`listeners`: from `bind`, closed by `close`. `connect_to`: path of gRPC's socket."""
        self._listeners = listeners
        self._connect_to = connect_to
        self._all = Budget(BYTES_A_SECOND, BYTES_A_SECOND)
        self._peers: dict[str, str] = {}
        self._secret = secrets.token_hex(8)
        self._made = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start accepting connections."""
        for listener in self._listeners:
            listener.setblocking(False)
            self._spawn(self._accept(listener))

    async def close(self) -> None:
        """Stop accepting, and end all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    def peer(self, peer: str) -> str:
        """Client address (gRPC format) for a relay-side peer; empty if the connection was not relayed."""
        return self._peers.get(peer.removeprefix("unix-abstract:"), "")

    def _spawn(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:  # no descriptor left, or the caller has gone
                log.warning("connection not accepted", extra={"error": str(error)})
                await asyncio.sleep(1)
                continue
            if len(self._tasks) >= CONNECTIONS:
                connection.close()
                continue
            self._spawn(self._carry(connection, _as_grpc_writes(connection.family, address)))

    async def _carry(self, connection: socket.socket, peer: str) -> None:
        """Relay one connection, from its first byte to its end."""
        loop = asyncio.get_running_loop()
        self._made += 1
        name = f"veilleuse-{self._secret}-{self._made}"
        try:
            with closing(connection), socket.socket(socket.AF_UNIX) as inner:
                connection.setblocking(False)
                async with asyncio.timeout(SILENCE_SECONDS):
                    first = await loop.sock_recv(connection, PIECE_BYTES)
                await asyncio.sleep(self._all.take(HANDSHAKE_BYTES))
                # an abstract name, unix(7), which gRPC takes for the caller's address
                inner.bind("\0" + name)
                inner.setblocking(False)
                await loop.sock_connect(inner, self._connect_to)
                self._peers[name] = peer
                await self._both_ways(connection, inner, first)
        except (OSError, TimeoutError) as error:  # also when no descriptor is left for the second socket
            log.debug("connection ended", extra={"error": str(error)})
        finally:
            self._peers.pop(name, None)

    async def _both_ways(self, outer: socket.socket, inner: socket.socket, first: bytes) -> None:
        """Relay both directions until one of them ends."""
        own = Budget(CONNECTION_BYTES_A_SECOND, CONNECTION_BURST_BYTES)

        def wait_seconds(number: int) -> float:
            return max(own.take(number), self._all.take(number))

        directions = [
            asyncio.create_task(_pump(outer, inner, first, wait_seconds)),
            asyncio.create_task(_pump(inner, outer, b"", lambda number: 0.0)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)


async def _pump(
    source: socket.socket, sink: socket.socket, first: bytes, wait_seconds: Callable[[int], float]
) -> None:
    loop = asyncio.get_running_loop()
    piece = first or await loop.sock_recv(source, PIECE_BYTES)
    while piece:
        if (seconds := wait_seconds(len(piece))) > 0:
            await asyncio.sleep(seconds)
        async with asyncio.timeout(STALL_SECONDS):
            await loop.sock_sendall(sink, piece)
        piece = await loop.sock_recv(source, PIECE_BYTES)


def bind(address: str) -> list[socket.socket]:
    """Open sockets that listen on host:port, all on one port. Raises OSError when there is none.

    0.0.0.0 and [::] mean both families, as with gRPC on :8641.
    """
    host, _, port_text = address.rpartition(":")
    host, port = host.strip("[]"), int(port_text)
    if host in ("", "0.0.0.0", "::") and socket.has_dualstack_ipv6():
        return [_bound(socket.AF_INET6, ("::", port), both=True)]
    bound: list[socket.socket] = []
    trouble: OSError | None = None
    for family, _, _, _, where in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        try:
            bound.append(_bound(family, (where[0], port, *where[2:]), both=False))
            port = bound[0].getsockname()[1]
        except OSError as error:  # localhost also resolves to ::1, where IPv6 may be absent
            trouble = error
    if not bound:
        raise trouble or OSError("no address")
    return bound


def _bound(family: socket.AddressFamily, where: tuple[Any, ...], *, both: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
        for direction in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            made.setsockopt(socket.SOL_SOCKET, direction, BUFFER_BYTES)  # each connection inherits it
        made.bind(where)
        made.listen(BACKLOG)  # only now the port is ours alone, because of SO_REUSEADDR
    except OSError:
        made.close()
        raise
    return made


def _as_grpc_writes(family: socket.AddressFamily, address: tuple[Any, ...]) -> str:
    if family == socket.AF_INET6:
        return f"ipv6:[{address[0]}]:{address[1]}"
    return f"ipv4:{address[0]}:{address[1]}"
