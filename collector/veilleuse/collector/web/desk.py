# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Gives the API and the pages their figures, within limits of simultaneous queries and of requests a minute.

Every access of an account is logged in the access journal before its answer is sent.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

from veilleuse.collector.documents.document import Document
from veilleuse.collector.errors import AdminError, QueryTooSlow, UnknownZone, UsageError
from veilleuse.collector.model.accounts import Account, Role
from veilleuse.collector.model.query import Query
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.api.answers import Figures
from veilleuse.collector.web.api.query import ApiQuery
from veilleuse.collector.web.problems import Problem

MAXIMUM_CONCURRENT: Final = 2
"""Queries answered at the same time, of all accounts: each has a thread and a connection."""
WAIT_SECONDS: Final = 2.0
"""Most seconds that a query waits for the one before it: the panels of a dashboard run one after another."""
MAXIMUM_LOOKS: Final = 4
"""Readings of the pages themselves at the same time, beside the queries: live pages wait for no figure."""
MAXIMUM_WAITING: Final = 16
"""Most waiting queries of one account."""
RETRY_SECONDS: Final = 5
MINUTE_SECONDS: Final = 60.0
KEPT_ANSWERS: Final = 32
KEPT_ROWS: Final = 100_000
"""Most rows of all cached answers together, about 4 kB each."""
KEEP_SECONDS: Final = 60.0
"""Seconds that an answer with live data is cached, so that its pages are cut from one answer."""
LOCAL: Final = Account(0, "local", Role.READER, (), b"", 0, 0)
"""Who reads pages without an account, here or with the token of /metrics: released figures only."""
WARMER: Final = replace(LOCAL, account_id=-1)
"""Who builds pages before anybody reads them, in a turn of its own."""
KEEP_RELEASED_SECONDS: Final = 600.0
"""The same of a released answer, unless its inputs change: a note may tell of what is not among them."""
NoteAccess = Callable[[int, str, str, int, int], None]
"""Writes (account_id, route, query, status, rows) to the access journal. Raises AdminError."""
log = logging.getLogger(__name__)
T = TypeVar("T")


class Turns:
    """Runs one query at a time per account, and MAXIMUM_CONCURRENT of all accounts. For one event loop."""

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


class _Kept(NamedTuple):
    """A cached answer."""

    until: float
    """Monotonic seconds."""
    inputs: object
    """What a released answer depends on; None for one with live data."""
    document: Document


class Desk:
    """Answers one query after the other for each account, and notes each access."""

    def __init__(self, figures: Figures, settings: CollectorSettings, note_access: NoteAccess) -> None:
        """Take the maker of figures; `note_access` writes to the journal."""
        self._figures = figures
        self._note_access = note_access
        self._turns = Turns()
        self._rate = Rate(settings.http.api_requests_per_minute)
        self._answer_threads: Executor = ThreadPoolExecutor(MAXIMUM_CONCURRENT, "figures")
        self._look_threads: Executor = ThreadPoolExecutor(MAXIMUM_LOOKS, "looks")
        self._journal_thread: Executor = ThreadPoolExecutor(1, "journal")
        self._cache: OrderedDict[tuple[Any, ...], _Kept] = OrderedDict()

    def count(self, account: Account) -> None:
        """Count a request of this minute. Raises Problem after too many."""
        if account is not LOCAL:
            self._rate.count(account)

    async def document(self, query: ApiQuery, account: Account) -> Document:
        """Return the cached answer, or build it in this account's turn.

        A released answer stays good longer, for all readers of the same entities, until its inputs change.
        """
        async with self._turns.turn(account):
            inputs = await self.run(lambda: self._figures.inputs(query, account))
            reader = account.account_id if inputs is None else (account.role, account.entities)
            key = (reader, *query.without_page)
            cached = self._cache.get(key)
            if cached is not None and time.monotonic() < cached.until and cached.inputs == inputs:
                self._cache.move_to_end(key)
                return cached.document
            document = await self.run(lambda: self._figures.document(query, account))
            self._keep(key, document, inputs)
            return document

    async def groups(
        self, asked: Mapping[str, Query], basis: object, account: Account
    ) -> Mapping[str, Document]:
        """Build the answers behind a summary in this account's turn. Raises Problem."""
        async with self._turns.turn(account):
            return await self.run(lambda: self._figures.groups(asked, basis, account))

    def _keep(self, key: tuple[Any, ...], document: Document, inputs: object = None) -> None:
        """Cache the newest answer always, and earlier ones while good and within the limits."""
        now = time.monotonic()
        for old in [key for key, one in self._cache.items() if now >= one.until]:
            del self._cache[old]
        seconds = KEEP_SECONDS if inputs is None else KEEP_RELEASED_SECONDS
        self._cache[key] = _Kept(now + seconds, inputs, document)
        self._cache.move_to_end(key)
        while len(self._cache) > 1 and (
            len(self._cache) > KEPT_ANSWERS
            or sum(_rows(one.document) for one in self._cache.values()) > KEPT_ROWS
        ):
            self._cache.popitem(last=False)

    async def look(self, job: Callable[[], T]) -> T:
        """Run a page's own reading, which waits for no query; its errors become a Problem."""
        return await self.run(job, self._look_threads)

    async def run(self, job: Callable[[], T], threads: Executor | None = None) -> T:
        """Run a job in a thread, of the queries by default; its errors become a Problem."""
        try:
            return await asyncio.get_running_loop().run_in_executor(threads or self._answer_threads, job)
        except QueryTooSlow as error:
            raise Problem(
                503,
                "too_slow",
                str(error),
                where="query parameters from and to",
                remedy="ask for a shorter period, or without month; what a reader asks goes further the second time: months that were"
                " done are kept; 'veilleuse report' on the collector has no bound",
                retry_after_seconds=RETRY_SECONDS,
            ) from error
        except UsageError as error:
            raise Problem(
                422, "unanswerable", _name_parameters(str(error)), remedy="ask for another period or grouping"
            ) from error
        except UnknownZone as error:
            raise Problem(
                422, "unanswerable", str(error), remedy="see /api/v1/factors for the zones"
            ) from error

    async def note(self, account: Account, route: str, query: str, status: int, rows: int) -> None:
        """Log an access. Raises Problem when it cannot be written: no answer without its journal entry.

        The journal has no line for a person at this machine: no name is known.
        """
        if account is LOCAL or account is WARMER:
            return
        loop = asyncio.get_running_loop()
        line = (account.account_id, route, query, status, rows)
        try:
            await loop.run_in_executor(self._journal_thread, lambda: self._note_access(*line))
        except AdminError as error:
            log.warning("access not noted, nothing answered", extra={"reason": str(error)})
            raise Problem(
                503,
                "no_journal",
                "the collector could not note this access, and figures are given to nobody unnoted",
                remedy="start 'veilleuse serve'; 'veilleuse doctor' says what is wrong",
                retry_after_seconds=RETRY_SECONDS,
            ) from error


def _rows(document: Document) -> int:
    return sum(map(len, document.tables.values()))


def _name_parameters(text: str) -> str:
    """Replace the commands' option names in a text by the query's parameter names."""
    return re.sub("--([a-z-]+)", lambda match: match[1].replace("-", "_"), text)
