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
"""Longest a client may take to read the answer."""
TICK_SECONDS: Final = 1.0
"""The Date header is as old as this."""
_DATE_TICKS: Final = 10
"""uvicorn counts tenths of a second, and writes the date at every tenth."""


class QuietServer(uvicorn.Server):
    """uvicorn, one tick a second; a signal still ends it at once."""

    _signalled: asyncio.Event | None = None
    _loop: asyncio.AbstractEventLoop | None = None

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
    """uvicorn's HTTP/1.1, with a deadline on each request and on each answer."""

    _deadline: asyncio.TimerHandle | None = None
    _answering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """The first request is due."""
        super().connection_made(transport)
        self._within(REQUEST_SECONDS)

    def data_received(self, data: bytes) -> None:
        """A request that is whole gets its answer; one that only began is due."""
        super().data_received(data)
        cycle: Any = self.cycle  # None until the first request, whatever uvicorn's annotation says
        answering = cycle is not None and not cycle.response_complete
        if answering and not self._answering:
            self._within(ANSWER_SECONDS)
        elif not answering and self._deadline is None:
            self._within(REQUEST_SECONDS)
        self._answering = answering

    def on_response_complete(self) -> None:
        """From here on uvicorn's keep-alive timer counts."""
        self._answering = False
        self._cancel()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._cancel()
        super().connection_lost(exc)

    def _within(self, seconds: float) -> None:
        self._cancel()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
