# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A TCP proxy that behaves as a bad network: late, slow, frozen, or cut before an answer arrives.

    with Proxy(("127.0.0.1", 8641)) as proxy:
        proxy.lose_answers = 0.2  # every fifth answer on average is written and never arrives
        proxy.lose_next_answer()          # just one
        proxy.delay_seconds, proxy.bytes_per_second = 0.1, 32_000
        proxy.freeze(); proxy.thaw(); proxy.cut()

It sees TLS records, not calls. An answer is what the server sends after a client has sent `REQUEST_BYTES` or
more since the server last sent. The first `handshake_answers` of a connection are never lost: 2 with client
certificates, 1 without.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from tests.support.waiting import PATIENCE_SECONDS

REQUEST_BYTES: Final = 300
"""Pushes and enrolments are longer; window updates, pings and most Hellos are shorter."""
CHUNK_BYTES: Final = 16_384


class _Connection:
    """Traffic of one connection."""

    def __init__(self) -> None:
        self.asked_bytes = 0
        self.answers = 0


class Proxy:
    """A context manager. Its attributes may be set while it runs, from any thread."""

    def __init__(
        self,
        target: tuple[str, int],
        *,
        port: int = 0,
        handshake_answers: int = 2,
        seed: int = 1,
        source: str = "127.0.0.1",
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`target`: host and port of the server; `port`: port to listen on at 127.0.0.1, 0 = any; `source`:
        address that the server sees; `sleep`: waits for a delay in the proxy's thread.
        """
        self.target = target
        self.source = source
        self._sleep = sleep
        self.asked = bytearray()
        """All bytes that clients have sent."""
        self.port = port
        self.delay_seconds = 0.0
        self.bytes_per_second = 0
        """0 = no limit."""
        self.lose_answers = 0.0
        """Share of the answers to lose, 0 to 1."""
        self.counts: Counter[str] = Counter()
        """Numbers of connections, answers and lost answers."""
        self._handshake_answers = handshake_answers
        self._chance = random.Random(seed)
        self._lose_next = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thawed = asyncio.Event()
        self._stop = asyncio.Event()
        self._listening = threading.Event()

    @property
    def address(self) -> str:
        """host:port to connect to."""
        return f"127.0.0.1:{self.port}"

    def lose_next_answer(self) -> None:
        """Lose the next answer, on any connection."""
        self._lose_next = True

    def freeze(self) -> None:
        """Stop all traffic, without closing connections."""
        self._loop.call_soon_threadsafe(self._thawed.clear)

    def thaw(self) -> None:
        """Let traffic pass again, what waited included."""
        self._loop.call_soon_threadsafe(self._thawed.set)

    def cut(self) -> None:
        """Cut every open connection."""
        self._loop.call_soon_threadsafe(self._cut_all)

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._listening.wait(PATIENCE_SECONDS), "the proxy does not listen"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_SECONDS)

    # --- in the loop's thread

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._thawed.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        self._thawed.set()
        self._cut_all()
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        try:
            there, back = await asyncio.open_connection(*self.target, local_addr=(self.source, 0))
        except OSError:
            writer.transport.abort()
            return
        both = {writer, back}
        self._writers |= both
        connection = _Connection()
        passing = [
            asyncio.ensure_future(self._pass(reader, back, connection, answers=False)),
            asyncio.ensure_future(self._pass(there, writer, connection, answers=True)),
        ]
        try:
            await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in passing:
                task.cancel()
            self._writers -= both
            for each in both:
                each.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: _Connection,
        *,
        answers: bool,
    ) -> None:
        """Pass bytes on until one side ends, or an answer is lost."""
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if answers and self._is_lost(connection):
                    self.counts["lost"] += 1
                    return
                if not answers:
                    connection.asked_bytes += len(chunk)
                    self.asked += chunk
                rate = self.bytes_per_second
                if wait := self.delay_seconds + (len(chunk) / rate if rate else 0.0):
                    await self._sleep(wait)
                await self._thawed.wait()
                writer.write(chunk)
                await writer.drain()

    def _is_lost(self, connection: _Connection) -> bool:
        asked, connection.asked_bytes = connection.asked_bytes, 0
        if asked < REQUEST_BYTES:
            return False
        connection.answers += 1
        if connection.answers <= self._handshake_answers:
            return False
        self.counts["answers"] += 1
        lost = self._lose_next or self._chance.random() < self.lose_answers
        self._lose_next = False
        return lost

    def _cut_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()
