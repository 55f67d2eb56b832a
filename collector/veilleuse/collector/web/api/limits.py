# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Limits simultaneous queries, of one account and of all together. For one event loop."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from veilleuse.collector.model.accounts import Account
from veilleuse.collector.web.problems import Problem

MAXIMUM_CONCURRENT: Final = 2
"""Queries answered at the same time, of all accounts: each has a thread and a connection."""
WAIT_SECONDS: Final = 2.0
"""Most seconds that a query waits for the one before it: the panels of a dashboard run one after another."""
MAXIMUM_WAITING: Final = 16
"""Most waiting queries of one account."""
RETRY_SECONDS: Final = 5
MINUTE_SECONDS: Final = 60.0


class Turns:
    """Runs one query at a time per account, and AT_ONCE of all accounts."""

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        self._by_account: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: defaultdict[int, int] = defaultdict(int)
        self._slots = asyncio.Semaphore(MAXIMUM_CONCURRENT)

    @asynccontextmanager
    async def turn(self, account: Account) -> AsyncIterator[None]:
        """Wait for a turn.

        Raises Problem: 429 while another query of the account runs, 503 while other accounts' queries run.
        """
        number = account.account_id
        if self._waiting[number] >= MAXIMUM_WAITING:
            raise _busy_account()
        self._waiting[number] += 1
        try:
            await asyncio.wait_for(self._by_account[number].acquire(), self._wait_seconds)
        except TimeoutError as error:
            raise _busy_account() from error
        finally:
            self._waiting[number] -= 1
        try:
            try:
                await asyncio.wait_for(self._slots.acquire(), self._wait_seconds)
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
                self._slots.release()
        finally:
            self._by_account[number].release()


def _busy_account() -> Problem:
    return Problem(
        429,
        "too_many_requests",
        "another question of this account is being worked on",
        remedy="ask one after the other, or make another account for another use",
        retry_after_seconds=RETRY_SECONDS,
    )


class Rate:
    """Counts the requests of each account within a minute."""

    def __init__(self, most: int, monotonic_seconds: Callable[[], float] = time.monotonic) -> None:
        """Allow at most `most` requests a minute."""
        self._most = most
        self._now = monotonic_seconds
        self._request_times: defaultdict[int, deque[float]] = defaultdict(deque)

    def count(self, account: Account) -> None:
        """Count one request. Raises Problem after too many; it tells how long to wait."""
        times, now = self._request_times[account.account_id], self._now()
        while times and times[0] <= now - MINUTE_SECONDS:
            times.popleft()
        if len(times) >= self._most:
            wait_seconds = max(1, round(times[0] + MINUTE_SECONDS - now))
            raise Problem(
                429,
                "too_many_requests",
                f"this account made {self._most} requests within a minute",
                remedy=f"ask again in {wait_seconds} s, and more rarely: http.api_requests_per_minute",
                retry_after_seconds=wait_seconds,
            )
        times.append(now)
