# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The HTTP server: idle when nobody asks (uvicorn's own loop wakes ten times a second for the life of the process), and
with no patience for clients that send or read a byte at a time (uvicorn waits for a request for ever)."""

from __future__ import annotations

import asyncio
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS: Final = 5.0
"""Longest a connection may take to send its request, from its beginning or from the request's first byte: S9."""
ANSWER_SECONDS: Final = 60.0
"""Longest that an answer may be in the making; a client that takes it slowly is part of it where it comes in parts."""
STALL_SECONDS: Final = 5.0
STALL_BYTES: Final = 1024
"""A client that takes less than so much of its answer in so long is cut."""
MOST_CONNECTIONS: Final = 512
"""At once: the next one is let in, and the slowest is cut. No bound per address: behind a proxy all have the same."""
SEND_BUFFER_BYTES: Final = 64 * 1024
"""Of the kernel, for each connection; what does not fit waits here, where it is seen."""
TICK_SECONDS: Final = 1.0
"""The Date header is as old as this."""
_DATE_TICKS: Final = 10
"""uvicorn counts tenths of a second, and writes the date at every tenth."""


class Connections(dict[Any, None]):
    """uvicorn's set of connections, in order: first the one that is longest on one thing."""

    def add(self, one: Any) -> None:
        """At the end, where it was not there."""
        self.setdefault(one)

    def discard(self, one: Any) -> None:
        """No error when it is not there."""
        self.pop(one, None)


class QuietServer(uvicorn.Server):
    """uvicorn, one tick a second; a signal still ends it at once."""

    _signalled: asyncio.Event | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, config: uvicorn.Config) -> None:
        """As uvicorn's own."""
        super().__init__(config)
        self.server_state.connections = Connections()  # type: ignore[assignment]  # all that uvicorn asks of a set

    async def main_loop(self) -> None:
        """Until `should_exit`."""
        self._loop, self._signalled = asyncio.get_running_loop(), asyncio.Event()
        counter = 0
        while not await self.on_tick(counter):
            counter += _DATE_TICKS
            try:
                await asyncio.wait_for(self._signalled.wait(), TICK_SECONDS)
            except TimeoutError:
                continue

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """In the signal's handler: note it, then wake the loop."""
        super().handle_exit(sig, frame)
        if self._loop is not None and self._signalled is not None:
            self._loop.call_soon_threadsafe(self._signalled.set)


class HastyProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with a deadline on each request, on the making of each answer, and on how it is taken."""

    _deadline: asyncio.TimerHandle | None = None
    _looking: asyncio.TimerHandle | None = None
    _answering = False
    _resumed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """The first request is due. Where there are too many connections, the slowest is cut."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()
        self._within(REQUEST_SECONDS)

    def data_received(self, data: bytes) -> None:
        """A request that is whole gets its answer; one that only began is due."""
        super().data_received(data)
        cycle: Any = self.cycle  # None until the first request, whatever uvicorn's annotation says
        answering = cycle is not None and not cycle.response_complete
        if answering and not self._answering:
            self._within(ANSWER_SECONDS)
            if self._looking is None:
                self._look_later()
        elif not answering and self._deadline is None:
            self._within(REQUEST_SECONDS)
        self._answering = answering

    def resume_writing(self) -> None:
        """The client took something."""
        self._resumed = True
        super().resume_writing()

    def on_response_complete(self) -> None:
        """From here on uvicorn's keep-alive timer counts, and whether the client takes what was handed over.

        A client that sent its next request before it had this answer (no program of our readers does) gets this one alone:
        hundreds of requests in a row on each connection would hold up those who ask for one.
        """
        self._answering = False
        self.connections.discard(self)
        self.connections.add(self)
        self._cancel()
        if self.conn.trailing_data[0]:
            self.transport.close()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._cancel()
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    @property
    def in_our_hands(self) -> bool:
        """Whether its answer is being made: it waits for us, not we for it."""
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete and not self.flow.write_paused

    def _make_room(self) -> None:
        """Cut the slowest connection that we wait for; this one when all wait for us."""
        others: Any = self.connections  # of this class: uvicorn was told so
        slowest = next((one for one in others if one is not self and not one.in_our_hands), self)
        self.connections.discard(slowest)  # now, not when the loop comes to it: the next one counts too
        slowest.transport.abort()

    def _look_later(self) -> None:
        self._resumed = False
        unread = self.transport.get_write_buffer_size()
        self._looking = self.loop.call_later(STALL_SECONDS, self._look, unread)

    def _look(self, unread_before: int) -> None:
        """Cut a client that takes nothing, or next to nothing, of what waits for it."""
        self._looking = None
        unread = self.transport.get_write_buffer_size()
        if unread_before and unread > unread_before - STALL_BYTES and unread and not self._resumed:
            self.transport.abort()
        elif unread or self._answering:
            self._look_later()

    def _within(self, seconds: float) -> None:
        self._cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
