# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""HTTP server that is idle without requests and cuts slow clients.

uvicorn's own loop wakes ten times a second, and uvicorn waits for a request without a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS: Final = 5.0
"""Most seconds to send a request, from the connection's start or the request's first byte (S9)."""
ANSWER_SECONDS: Final = 60.0
"""Most seconds to produce an answer; an answer sent in parts includes the client's reading time."""
STALL_SECONDS: Final = 5.0
STALL_BYTES: Final = 1024
"""Least bytes that a client must read of its answer in STALL_SECONDS, or its connection is cut."""
MOST_CONNECTIONS: Final = 512
"""Most connections at once; one more is accepted and the slowest is cut.

There is no bound per address: behind a proxy all clients have the same one.
"""
GRACE_SECONDS: Final = 0.25
"""Time in which a connection is not cut for others: when many come at once, its request is read first."""
MOST_IN_GRACE: Final = 4 * MOST_CONNECTIONS
"""Most connections at once where all are in their grace; beyond, the slowest is cut all the same."""
SEND_BUFFER_BYTES: Final = 64 * 1024
"""Kernel send buffer of each connection; the rest waits in this process, where stalls are visible."""
TICK_SECONDS: Final = 1.0
"""Greatest age of the Date header, s."""
_DATE_TICKS: Final = 10
"""Ticks counted per second: uvicorn counts tenths of a second and writes the date every ten."""


class Connections(dict[Any, None]):
    """uvicorn's set of connections, ordered: first the one that has waited longest at one step."""

    def add(self, one: Any) -> None:
        """Append a connection unless it is present."""
        self.setdefault(one)

    def discard(self, one: Any) -> None:
        """Remove a connection; no error when absent."""
        self.pop(one, None)


class OneTickServer(uvicorn.Server):
    """uvicorn with one tick a second; a signal still stops it at once."""

    _signalled: asyncio.Event | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(
        self, config: uvicorn.Config, background: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """Take uvicorn's configuration, and what runs beside it in its event loop until it stops."""
        super().__init__(config)
        self._background = background
        self.server_state.connections = Connections()  # type: ignore[assignment]  # all that uvicorn asks of a set

    async def main_loop(self) -> None:
        """Tick until `should_exit`."""
        self._loop, self._signalled = asyncio.get_running_loop(), asyncio.Event()
        counter = 0
        beside = self._loop.create_task(self._background()) if self._background else None
        while not await self.on_tick(counter):
            counter += _DATE_TICKS
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

    _deadline: asyncio.TimerHandle | None = None
    _stall_check: asyncio.TimerHandle | None = None
    _answering = False
    _resumed = False
    _since = 0.0
    """Time of the connection or of its last complete answer: its place in Connections."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's type
        """Start the deadline of the first request. Beyond MOST_CONNECTIONS, cut the slowest connection."""
        super().connection_made(transport)
        self._since = self.loop.time()
        while len(self.connections) > MOST_CONNECTIONS and self._cut_slowest():
            pass
        self._set_deadline(REQUEST_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Start the answer's deadline for a complete request, else the request's own deadline."""
        super().data_received(data)
        cycle: Any = self.cycle  # None until the first request, in spite of uvicorn's annotation
        answering = cycle is not None and not cycle.response_complete
        if answering and not self._answering:
            self._set_deadline(ANSWER_SECONDS)
            if self._stall_check is None:
                self._schedule_stall_check()
        elif not answering and self._deadline is None:
            self._set_deadline(REQUEST_SECONDS)
        self._answering = answering

    def resume_writing(self) -> None:
        """Note that the client read something."""
        self._resumed = True
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Stop our deadlines: uvicorn's keep-alive timer and the stall check go on.

        A client that sent its next request before it had this answer gets only this one: no client of ours
        pipelines. Hundreds of requests in a row on each connection would delay clients with one request.
        """
        self._answering = False
        self.connections.discard(self)
        self.connections.add(self)
        self._since = self.loop.time()
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
        return cycle is not None and not cycle.response_complete and not self.flow.write_paused

    def _cut_slowest(self) -> bool:
        """Cut the slowest connection whose client we wait for; this connection when there is none.

        Returns false, without any effect, while the slowest is in its grace.
        """
        others: Any = self.connections  # a Connections: QuietServer sets it
        slowest = next((one for one in others if one is not self and not one.waits_for_us), self)
        in_grace = self.loop.time() - slowest._since < GRACE_SECONDS
        if in_grace and len(self.connections) <= MOST_IN_GRACE:
            return False
        self.connections.discard(slowest)  # at once, since the next new connection counts them too
        slowest.transport.abort()
        return True

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
