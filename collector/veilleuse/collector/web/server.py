# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The HTTP server, idle when nobody asks: uvicorn's own loop wakes ten times a second for the life of the process."""

from __future__ import annotations

import asyncio
from types import FrameType
from typing import Final

import uvicorn

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
