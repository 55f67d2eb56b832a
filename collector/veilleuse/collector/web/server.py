# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""HTTP server that is idle without requests and cuts slow clients.

uvicorn's own loop wakes ten times a second, and uvicorn waits for a request without a limit.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from functools import partial
from types import FrameType
from typing import Any, Final

import h11
import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import service_unavailable
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import get_remote_addr

from veilleuse.collector.web.connections import Connections, Verdict, origin_of

REQUEST_SECONDS: Final = 5.0
"""Most seconds to send a whole request, from the connection's start or the request's first byte (S9)."""
ANSWER_SECONDS: Final = 60.0
"""Most seconds to produce an answer; an answer sent in parts includes the client's reading time."""
STALL_SECONDS: Final = 5.0
STALL_BYTES: Final = 1024
"""Least bytes that a client must read of its answer in STALL_SECONDS, or its connection is cut."""
SEND_BUFFER_BYTES: Final = 64 * 1024
"""Kernel send buffer of each connection; the rest waits in this process, where stalls are visible."""
WATCHED: Final = ("/healthz", "/metrics")
"""Paths that are answered even when all connections are taken by requests in work."""
MOST_REFUSED: Final = 256
"""Most connections refused in a row."""
TICK_SECONDS: Final = 1.0
"""Greatest age of the Date header, s."""
_DATE_TICKS: Final = 10
"""Ticks counted per second: uvicorn counts tenths of a second and writes the date every ten."""


class BoundedListener(socket.socket):
    """Listening socket that closes connections beyond their address's bound before they cost more."""

    connections: Connections | None = None
    """None: all are accepted."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection that is admitted. Raises BlockingIOError when there is none."""
        for _ in range(MOST_REFUSED):
            connection, address = super().accept()
            if self.connections is None or self.connections.admits(address[0], time.monotonic()):
                return connection, address
            connection.close()
        raise BlockingIOError  # the loop comes back, after other work


class OneTickServer(uvicorn.Server):
    """uvicorn with one tick a second; a signal still stops it at once."""

    _signalled: asyncio.Event | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(
        self,
        config: uvicorn.Config,
        connections: Connections | None = None,
        background: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Take uvicorn's configuration, the bounds of connections, and what runs beside the answers."""
        super().__init__(config)
        self._background = background
        self.bounds = Connections() if connections is None else connections
        self.server_state.connections = self.bounds  # type: ignore[assignment]  # all that uvicorn asks of a set

    async def main_loop(self) -> None:
        """Tick until `should_exit`."""
        self._loop, self._signalled = asyncio.get_running_loop(), asyncio.Event()
        counter = 0
        beside = self._loop.create_task(self._background()) if self._background else None
        while not await self.on_tick(counter):
            counter += _DATE_TICKS
            self.bounds.forget_arriving()
            try:
                await asyncio.wait_for(self._signalled.wait(), TICK_SECONDS)
            except TimeoutError:
                continue
        if beside is not None:
            beside.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal in its handler, then wake the loop."""
        super().handle_exit(sig, frame)
        if self._loop is not None and self._signalled is not None:
            self._loop.call_soon_threadsafe(self._signalled.set)


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with deadlines: for each request, each answer, and the client's reading."""

    connections: Any
    """A Connections: OneTickServer sets it."""
    origin = ""
    since = 0.0
    _deadline: asyncio.TimerHandle | None = None
    _stall_check: asyncio.TimerHandle | None = None
    _answering = False
    _resumed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's type
        """Start the deadline of the first request, or cut connections where there are too many."""
        address = get_remote_addr(transport)
        self.origin = origin_of(address[0] if address else None)
        super().connection_made(transport)
        self.since = self.loop.time()
        verdict = self.connections.judge(self, self.since)
        if verdict is Verdict.IN_ROOM:
            self.app = partial(_answer_watched, self.app)
        if verdict is not Verdict.CUT:
            self._set_deadline(REQUEST_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Start the answer's deadline for a whole request; until then the request's own deadline runs."""
        before: Any = self.cycle  # None until the first request, in spite of uvicorn's annotation
        super().data_received(data)
        cycle: Any = self.cycle
        if cycle is not before:
            self.connections.meet(self, self.headers)
        answering = cycle is not None and not cycle.response_complete and not cycle.more_body
        if answering and not self._answering:
            self._set_deadline(ANSWER_SECONDS)
            if self._stall_check is None:
                self._schedule_stall_check()
        elif not answering and self._deadline is None:
            self._set_deadline(REQUEST_SECONDS)
        self._answering = answering
        if cycle is not None and cycle.response_complete and cycle.more_body and not self._sends_body:
            self.transport.close()  # the rest of a request that was answered before its end

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: we offer no WebSocket, and anybody may ask for one."""

    def resume_writing(self) -> None:
        """Note that the client read something."""
        self._resumed = True
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request, or cut the connection when an answer has begun."""
        cycle: Any = self.cycle
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.cut()
            return
        if cycle is not None:
            cycle.disconnected = True  # its application has nobody to answer any more
        super().send_400_response(msg)

    def on_response_complete(self) -> None:
        """Stop our deadlines: uvicorn's keep-alive timer and the stall check go on.

        A client that sent its next request before it had this answer gets only this one: no client of ours
        pipelines. Hundreds of requests in a row on each connection would delay clients with one request.
        The deadline of a request that was answered before its end stays.
        """
        self._answering = False
        self.connections.discard(self)
        self.connections.add(self)
        self.since = self.loop.time()
        if not self._sends_body:
            self._cancel()
        if self.conn.trailing_data[0]:
            self.transport.close()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._cancel()
        if self._stall_check is not None:
            self._stall_check.cancel()
        super().connection_lost(exc)

    @property
    def waits_for_us(self) -> bool:
        """Return true while we produce the answer: the client waits for us, not we for the client."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        return not self.flow.write_paused

    def cut(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    @property
    def _sends_body(self) -> bool:
        """Return true until the request's end has come."""
        return self.conn.their_state is h11.SEND_BODY

    def _schedule_stall_check(self) -> None:
        self._resumed = False
        unread = self.transport.get_write_buffer_size()
        self._stall_check = self.loop.call_later(STALL_SECONDS, self._check_stall, unread)

    def _check_stall(self, unread_before: int) -> None:
        """Cut a client that read fewer than STALL_BYTES of the bytes that wait for it."""
        self._stall_check = None
        unread = self.transport.get_write_buffer_size()
        if unread_before and unread > unread_before - STALL_BYTES and unread and not self._resumed:
            self.transport.abort()
        elif unread or self._answering:
            self._schedule_stall_check()

    def _set_deadline(self, seconds: float) -> None:
        self._cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


async def _answer_watched(app: ASGI3Application, scope: Any, receive: Any, send: Any) -> None:
    """Answer the WATCHED paths only: all other connections wait for answers."""
    await (app if scope["path"] in WATCHED else service_unavailable)(scope, receive, send)
