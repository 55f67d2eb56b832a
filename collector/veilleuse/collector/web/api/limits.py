# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How much one account, and all together, may ask at once. For one event loop."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from veilleuse.collector.model.accounts import Account
from veilleuse.collector.web.problems import Problem

AT_ONCE: Final = 2
"""Questions worked on at the same time, of all accounts: each has a thread and a connection."""
LINE_SECONDS: Final = 2.0
"""A question waits so long for the one before it, so that the panels of a dashboard come one after the other."""
LINE_LENGTH: Final = 16
"""Questions of one account that wait."""
RETRY_SECONDS: Final = 5
MINUTE_SECONDS: Final = 60.0


class Turns:
    """One question at a time per account, and AT_ONCE of all."""

    def __init__(self, line_seconds: float = LINE_SECONDS) -> None:
        self._line_seconds = line_seconds
        self._mine: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: defaultdict[int, int] = defaultdict(int)
        self._all = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def turn(self, account: Account) -> AsyncIterator[None]:
        """Wait for one's turn. Raises Problem: 429 while another question of the account runs, 503 while others' do."""
        number = account.account_id
        if self._waiting[number] >= LINE_LENGTH:
            raise _mine()
        self._waiting[number] += 1
        try:
            await asyncio.wait_for(self._mine[number].acquire(), self._line_seconds)
        except TimeoutError as error:
            raise _mine() from error
        finally:
            self._waiting[number] -= 1
        try:
            try:
                await asyncio.wait_for(self._all.acquire(), self._line_seconds)
            except TimeoutError as error:
                raise Problem(
                    503,
                    "busy",
                    "questions of other accounts are being worked on",
                    remedy=f"ask again in {RETRY_SECONDS} s",
                    retry_after_seconds=RETRY_SECONDS,
                ) from error
            try:
                yield
            finally:
                self._all.release()
        finally:
            self._mine[number].release()


def _mine() -> Problem:
    return Problem(
        429,
        "too_many_requests",
        "another question of this account is being worked on",
        remedy="ask one after the other, or make another account for another use",
        retry_after_seconds=RETRY_SECONDS,
    )


class Rate:
    """Requests of each account within a minute."""

    def __init__(self, most: int, monotonic_seconds: Callable[[], float] = time.monotonic) -> None:
        """`most`: in a minute."""
        self._most = most
        self._now = monotonic_seconds
        self._seen: defaultdict[int, deque[float]] = defaultdict(deque)

    def count(self, account: Account) -> None:
        """One more. Raises Problem when there were too many: it says when there is room again."""
        seen, now = self._seen[account.account_id], self._now()
        while seen and seen[0] <= now - MINUTE_SECONDS:
            seen.popleft()
        if len(seen) >= self._most:
            wait_seconds = max(1, round(seen[0] + MINUTE_SECONDS - now))
            raise Problem(
                429,
                "too_many_requests",
                f"this account made {self._most} requests within a minute",
                remedy=f"ask again in {wait_seconds} s, and more rarely: http.api_requests_per_minute",
                retry_after_seconds=wait_seconds,
            )
        seen.append(now)
