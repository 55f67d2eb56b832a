# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Serve the application with /api over a store under construction to accounts, without a socket."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from typing import Any, Self

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from tests.support.clock import unix_seconds
from tests.support.filled import Filled
from tests.support.publishing import monthly_figures
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector.enrolment.tokens import FailureLimiter
from veilleuse.collector.factors.book import book_of
from veilleuse.collector.model.accounts import Role, new_token, token_sha256
from veilleuse.collector.settings import CollectorSettings, Http
from veilleuse.collector.store import open_reader
from veilleuse.collector.store.sqlite.accounts import SqliteAccountReader
from veilleuse.collector.store.sqlite.read_store import SqliteBoundedReader
from veilleuse.collector.web.access import AccessControl, MetricsAuth
from veilleuse.collector.web.api.answers import Figures
from veilleuse.collector.web.api.handlers import ApiContext
from veilleuse.collector.web.app import SecurityMiddleware, make_app
from veilleuse.collector.web.desk import Desk
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.collector.web.pages.preparation import Preparation

DAY = 86_400_000
DOOR_TOKEN = "0123456789abcdef0123456789abcdef"


class Reading:
    """A context manager that asks the application itself; its access journal goes into the store."""

    def __init__(
        self,
        data: Filled,
        *,
        door_token: str | None = None,
        proxy_secret: str | None = None,
        clock: Callable[[], float] = unix_seconds,
        impatient: bool = False,
        settings: CollectorSettings | None = None,
        **http: Any,
    ) -> None:
        """`door_token`: the token of a collector that is not on loopback. `proxy_secret`: that of a reverse
        proxy. `clock`: Unix seconds. `http`: settings where no `settings` are given. Unless `impatient`, the
        failure limiter's clock advances 1,000 s at each look."""
        self.data = data
        self.clock = clock
        self._cleanup = ExitStack()
        self._writing = threading.Lock()
        self._ages = itertools.count(0, 1_000)
        self.settings = settings or CollectorSettings(data_dir=data.directory, http=Http(**http))
        outlook_reader, self.reader = data.reader(), SqliteBoundedReader(data.directory)
        accounts = SqliteAccountReader(data.directory)
        for opened in (outlook_reader, self.reader, accounts):
            self._cleanup.callback(opened.close)
        door = MetricsAuth("127.0.0.1" if door_token is None else "192.0.2.1", 8640, door_token, proxy_secret)
        open_store = partial(open_reader, data.directory)
        self.figures = Figures(
            self.reader,
            open_store,
            self.settings,
            cache(book_of),
            clock,
        )
        self.desk = ApiContext(Desk(self.figures, self.settings, self._note_access), "0.1.0")
        limiter = FailureLimiter() if impatient else FailureLimiter(lambda: next(self._ages))
        self.access = AccessControl(
            door,
            accounts,
            self._note_use,
            clock=clock,
            limiter=limiter,
            account_header=self.settings.http.account_header,
        )
        self.indicators = monthly_figures(data, clock, self.settings)
        """They are read when a test calls `refresh`."""
        found = self.indicators
        worked_out = found.figures, found.month, found.is_of_older_rule, found.month_facts
        outlook = SnapshotCache(outlook_reader, self.settings, clock, *worked_out)
        self.app = make_app(outlook, self.settings, door, "0.1.0", self.desk, self.access, open_store, clock)
        self.preparation.look_seconds = PATIENCE_SECONDS  # on a slow machine a page is still its figures

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def account(
        self, name: str = "grafana", role: Role = Role.READER, *entities: str, days: float = 1
    ) -> str:
        """Insert an account that expires after `days`; return its token."""
        token, now = new_token(), round(self.clock() * 1000)
        self.data.store.accounts.insert_account(
            name=name,
            role=role,
            entities=entities,
            token_sha256=token_sha256(token),
            created_unix_milliseconds=now,
            expires_unix_milliseconds=now + round(days * DAY),
        )
        return token

    @property
    def preparation(self) -> Preparation:
        """Return what prepares the application's pages."""
        found = self._starlette.state.preparation
        assert isinstance(found, Preparation)
        return found

    async def keep_warm(self) -> None:
        """Do what the server does beside its answers, without an end."""
        await self._starlette.state.keep_warm()

    @property
    def routes(self) -> set[str]:
        """Return the paths of the application's routes."""
        return {route.path for route in self._starlette.routes if isinstance(route, Route)}

    @property
    def _starlette(self) -> Starlette:
        assert isinstance(self.app, SecurityMiddleware)
        return self.app.application

    def get(self, url: str, token: str | None = None, method: str = "GET", **headers: str) -> httpx.Response:
        """Return the answer of any status; a `_` in a header's name is sent as `-`."""
        (answer,) = self.all([(url, token)], method, bool, **headers)
        return answer

    def all(
        self,
        asked: list[tuple[str, str | None]],
        method: str = "GET",
        answered: Callable[[int], object] = bool,
        **headers: str,
    ) -> list[httpx.Response]:
        """Send all requests at once; return the answers in order. After each answer, `answered` is called
        with the number of answers so far."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return asyncio.run(self._ask(asked, method, given, answered))

    async def _ask(
        self,
        asked: list[tuple[str, str | None]],
        method: str,
        headers: dict[str, str],
        answered: Callable[[int], object],
    ) -> list[httpx.Response]:
        so_far = itertools.count(1)

        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8640") as client:

            async def one(url: str, token: str | None) -> httpx.Response:
                own = {"authorization": f"Bearer {token}"} if token else {}
                answer = await client.request(method, url, headers=headers | own)
                answered(next(so_far))
                return answer

            return await asyncio.gather(*(one(url, token) for url, token in asked))

    def _note_access(self, account_id: int, route: str, query: str, status: int, rows: int) -> None:
        now = round(self.clock() * 1000)
        with self._writing:
            self.data.store.accounts.note_access(
                account_id, now, route=route, query=query, status=status, rows=rows
            )

    def _note_use(self, account_id: int) -> None:
        with self._writing:
            self.data.store.accounts.note_use(account_id, round(self.clock() * 1000))
