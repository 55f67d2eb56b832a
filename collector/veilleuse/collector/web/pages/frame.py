# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What every page has: its route, who may open it, its words, and its access to snapshots and figures.

Pages only read. Their figures are the API's answers: what a page shows, the same account may ask there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from veilleuse.collector.clock import unix_seconds
from veilleuse.collector.documents.document import MEDIA_TYPES, Document, renderer
from veilleuse.collector.documents.text import Words
from veilleuse.collector.model.accounts import Account, Role
from veilleuse.collector.model.query import Query
from veilleuse.collector.ports.directory import OpenReadStore, ReadStore
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.access import Guard, HttpCaller
from veilleuse.collector.web.api.query import ApiQuery
from veilleuse.collector.web.api.resources import ResourceKind
from veilleuse.collector.web.desk import LOCAL, Desk
from veilleuse.collector.web.metrics.snapshot import Snapshot, SnapshotCache
from veilleuse.collector.web.problems import Problem

T = TypeVar("T")
LANGUAGE: Final = "lang"
"""Parameter of every page."""


@dataclass(slots=True)
class LastScrape:
    """When a Prometheus last read /metrics of this process, Unix seconds; None: not since its start."""

    unix_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PageContext:
    """What the pages of one application share."""

    snapshots: SnapshotCache
    settings: CollectorSettings
    reading: Executor
    """The one thread of the snapshots' connection."""
    desk: Desk | None = None
    """None: an application without figures, in tests of the snapshot alone."""
    open_store: OpenReadStore | None = None
    clock: Callable[[], float] = unix_seconds
    """Unix seconds."""
    scrape: LastScrape = field(default_factory=LastScrape)
    results: dict[str, tuple[object, Any]] = field(default_factory=dict)
    """Name → (inputs, result) of what is too much work for each look."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a page: who looks, in which language, and the means to read."""

    request: Request
    w: Words
    caller: HttpCaller
    context: PageContext

    @property
    def account(self) -> Account:
        """Return the reader's account; LOCAL without one."""
        return self.caller.account or LOCAL

    @property
    def signed_in_as(self) -> str:
        """Return the name to show beside the way out; empty without a session."""
        if not self.caller.by_session:
            return ""
        return self.caller.account.name if self.caller.account else "metrics" * self.caller.has_metrics_access

    @property
    def account_of_proxy(self) -> str:
        """Return the account that the reverse proxy named; empty without one."""
        account = self.caller.account
        return account.name if account is not None and self.settings.http.account_header else ""

    @property
    def can_sign_in(self) -> bool:
        """Tell whether the reader may sign in here: not where a reverse proxy does it."""
        return self.caller.account is None and not self.settings.http.account_header

    @property
    def sees_servers(self) -> bool:
        """Tell whether single servers may be shown; only those of `account.entities`, when these are set."""
        return self.caller.may(Guard.SERVERS)

    @property
    def is_admin(self) -> bool:
        """Tell whether the reader signed in to administer: for figures that are not published.

        This machine, which opens all pages without an account, does not.
        """
        return self.account.role is Role.ADMIN

    @property
    def settings(self) -> CollectorSettings:
        """Return the collector's settings."""
        return self.context.settings

    @property
    def today(self) -> date:
        """Return the civil day in the fleet's time zone."""
        zone = ZoneInfo(self.settings.reporting.time_zone)
        return datetime.fromtimestamp(self.context.clock(), zone).date()

    def parameter(self, name: str, default: str = "") -> str:
        """Return a parameter of the address. Raises Problem (400) when it is given twice or too long."""
        values = self.request.query_params.getlist(name)
        if len(values) > 1 or len(values[:1] and values[0]) > MAX_PARAMETER_CHARACTERS:
            raise Problem(400, "malformed", f"'{name}' is given twice, or is too long")
        return values[0] if values and values[0] else default

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """Return a parameter that is one of some words, the first by default. Raises Problem (400)."""
        found = self.parameter(name, known[0])
        if found not in known:
            what, remedy = f"'{found}' is no value of '{name}'", f"give one of {', '.join(known)}"
            raise Problem(400, "malformed", what, remedy=remedy)
        return found

    def whole_number(self, name: str, default: int, least: int, most: int) -> int:
        """Return a parameter that is a whole number. Raises Problem (400)."""
        found = self.parameter(name, str(default))
        if not (found.isascii() and found.isdigit() and len(found) < 10 and least <= int(found) <= most):
            what, remedy = f"'{found}' is no value of '{name}'", f"give a whole number from {least} to {most}"
            raise Problem(400, "malformed", what, remedy=remedy)
        return int(found)

    def link(self, path: str, **parameters: object) -> str:
        """Return the address of a page in the reader's language; parameters of None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return f"{path}?{urlencode({LANGUAGE: self.w.language, **given})}"

    def sign_in_link(self) -> str:
        """Return the address of the form that leads back to this page."""
        url, form = self.request.url, "/connexion"
        return self.link(form, next=f"{url.path}?{url.query}" if url.path != form else None)

    def in_other_language(self) -> str:
        """Return the address of this page in the other language."""
        kept = [(name, value) for name, value in self.request.query_params.multi_items() if name != LANGUAGE]
        return f"{self.request.url.path}?{urlencode([*kept, (LANGUAGE, self.w('other_lang'))])}"

    async def snapshot(self) -> Snapshot:
        """Take a snapshot of the live fleet. Only servers, counts and released months of it may be shown."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.context.reading, self.context.snapshots.take_snapshot)

    async def is_simulated(self) -> bool:
        """Tell whether the data directory is simulated; it stays what it is."""

        async def make() -> bool:
            return (await self.snapshot()).fleet.kind.simulated

        return await self.kept("simulated", None, make)

    async def read(self, job: Callable[[ReadStore], T]) -> T:
        """Run a job with an opened store, in a thread. Raises Problem."""
        desk, open_store = self._sources()

        def run() -> T:
            with open_store() as store:
                return job(store)

        return await desk.look(run)

    async def document(self, kind: ResourceKind, query: Query) -> Document:
        """Return the answer of the API to the reader's query, and note the access. Raises Problem."""
        desk, _ = self._sources()
        asked = ApiQuery(kind, page=1, limit=1, form="json", asked=query)
        path = self.request.url.path
        try:
            found = await desk.document(asked, self.account)
        except Problem as problem:
            await desk.note(self.account, path, asked.query_string(), problem.status, 0)
            raise
        await desk.note(self.account, path, asked.query_string(), 200, sum(map(len, found.tables.values())))
        return found

    async def note(self, query: str, rows: int) -> None:
        """Note in the access journal that the reader gets figures that the API has not. Raises Problem."""
        desk, _ = self._sources()
        await desk.note(self.account, self.request.url.path, query, 200, rows)

    async def kept(self, name: str, inputs: object, make: Callable[[], Awaitable[T]]) -> T:
        """Return a result of all readers, made anew only where its inputs changed."""
        known = self.context.results.get(name)
        if known is not None and known[0] == inputs:
            return cast("T", known[1])
        made = await make()
        self.context.results[name] = (inputs, made)
        return made

    async def groups(self, asked: Mapping[str, Query], basis: object) -> Mapping[str, Document]:
        """Return the answers behind the summary of a report. Raises Problem."""
        desk, _ = self._sources()
        return await desk.groups(asked, basis, self.account)

    async def file(self, document: Document, form: str, name: str) -> Response:
        """Return a document as a file to download: csv, json, xlsx or pdf. Raises Problem."""
        desk, _ = self._sources()
        return attachment(await desk.run(partial(renderer(form), self.w.translate(document))), form, name)

    def _sources(self) -> tuple[Desk, OpenReadStore]:
        if self.context.desk is None or self.context.open_store is None:
            raise Problem(503, "unreadable", "this application has no figures")
        return self.context.desk, self.context.open_store


def attachment(body: bytes, form: str, name: str) -> Response:
    """Return a file to download: csv, json, xlsx or pdf."""
    headers = {
        "content-disposition": f'attachment; filename="{name}.{form}"',
        "cache-control": "private, no-store",
    }
    return Response(body, 200, headers, media_type=MEDIA_TYPES[form])


MAX_PARAMETER_CHARACTERS: Final = 256
Build = Callable[[Look], Awaitable[Mapping[str, Any] | Response]]
"""Returns the template's values, or a whole answer such as a download.

Raises Problem and the store's errors.
"""


@dataclass(frozen=True, slots=True)
class WebPage:
    """One page of the table."""

    path: str
    name: str
    """Key of its texts `pages.NAME.…`, and of its template NAME.html."""
    guard: Guard
    build: Build
    in_menu: bool = True


def is_limited(account: Account) -> bool:
    """Tell whether the account may read some entities only."""
    return account.role is not Role.ADMIN and bool(account.entities)
