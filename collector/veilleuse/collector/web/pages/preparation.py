# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Prepares pages: no look waits longer than LOOK_SECONDS, and the first one finds the figures ready.

A build that takes longer goes on; the reader gets the last look with its time, or a page that says so. Both
come back by themselves, and a later look takes the result.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from starlette.requests import Request

from veilleuse.collector.documents.text import words
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.web.access import Guard, HttpCaller
from veilleuse.collector.web.desk import WARMER
from veilleuse.collector.web.pages.frame import Look, PageContext
from veilleuse.collector.web.pages.months import newest_months
from veilleuse.collector.web.pages.table import PAGES
from veilleuse.collector.web.problems import Problem

log = logging.getLogger(__name__)
LOOK_SECONDS: Final = 3.0
"""Longest wait of one look for its figures."""
KEPT_SECONDS: Final = 60.0
"""Time for which a result waits for the reader who asked for it."""
MOST_BUILDS: Final = 16
"""Most builds at once, those that wait for their reader included; more looks get the page at once."""
KEPT_LOOKS: Final = 64
"""Most last looks kept, one for each address, language and reader."""
LAST_SECONDS: Final = 900.0
"""Greatest age of the last look that is shown while the next one is built."""
CHECK_SECONDS: Final = 10.0
"""Interval between two checks for a new publication, and the longest wait until nobody else builds a page."""
_REST_SECONDS: Final = 0.5
_TRIES: Final = 10
_PASSING: Final = frozenset({"busy", "too_slow", "too_many_requests"})
"""Kinds of Problem that another look soon may not have."""


class LastLook(NamedTuple):
    """What a reader last got of a page."""

    built: Any
    """Values of the template, or a whole answer such as a download."""
    unix_seconds: float
    """When its build began."""


class Preparation:
    """Builds the pages of one application. For one event loop."""

    def __init__(self, look_seconds: float = LOOK_SECONDS) -> None:
        """Take the longest wait of one look; a download waits to its end."""
        self.look_seconds = look_seconds
        self._builds: dict[Hashable, asyncio.Future[LastLook]] = {}
        self._last: OrderedDict[Hashable, LastLook] = OrderedDict()

    async def build(self, look: Look, make: Callable[[], Awaitable[Any]]) -> Any | None:
        """Return what `make` returns; while that is not ready the LastLook, None without one.

        An account's last look is noted in the access journal again. Raises the errors of `make`.
        """
        key, now = _key_of(look), look.context.clock()
        found = await self._build(key, look, make, now)
        if found is None:
            last = self._last.get(key)
            if last is None or not 0 <= now - last.unix_seconds <= LAST_SECONDS:
                return None
            await look.note(look.request.url.query, 0)
            return last
        if isinstance(found.built, dict):
            self._last[key] = found
            self._last.move_to_end(key)
            while len(self._last) > KEPT_LOOKS:
                self._last.popitem(last=False)
        return found.built

    async def _build(
        self, key: Hashable, look: Look, make: Callable[[], Awaitable[Any]], now: float
    ) -> LastLook | None:
        async def begin() -> LastLook:
            return LastLook(await persist(make), now)

        build = self._builds.get(key)
        if build is None:
            if len(self._builds) >= MOST_BUILDS:
                return None
            build = self._builds[key] = asyncio.ensure_future(begin())
            build.add_done_callback(lambda done: self._keep(key, done))
        is_download = "format" in look.request.query_params
        await asyncio.wait({build}, timeout=None if is_download else self.look_seconds)
        if not build.done():
            return None
        self._discard(key, build)
        try:
            return build.result()
        except Problem as problem:
            if problem.kind in _PASSING:
                return None
            raise

    @property
    def is_busy(self) -> bool:
        """Tell whether a reader's page is being built."""
        return any(not one.done() for one in self._builds.values())

    def _keep(self, key: Hashable, build: asyncio.Future[LastLook]) -> None:
        if build.cancelled() or build.exception() is not None:  # nobody need come back for it
            self._discard(key, build)
            return
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._discard, key, build)

    def _discard(self, key: Hashable, build: asyncio.Future[LastLook]) -> None:
        if self._builds.get(key) is build:
            del self._builds[key]


def _key_of(look: Look) -> Hashable:
    """Return what a page's content depends on: the address, the language, and the rights of its reader."""
    account = look.caller.account and replace(look.caller.account, last_used_day=None)
    return str(look.request.url), look.w.language, replace(look.caller, account=account)


async def persist(make: Callable[[], Awaitable[Any]]) -> Any:
    """Return what `make` returns, tried again while others are served: each try goes further.

    Raises its errors.
    """
    for _ in range(_TRIES):
        try:
            return await make()
        except Problem as problem:
            if problem.kind not in _PASSING:
                raise
            await asyncio.sleep(_REST_SECONDS)
    return await make()


async def keep_warm(context: PageContext, preparation: Preparation) -> None:
    """Build the readers' pages after the start and after each publication, one at a time, after readers."""
    warmed: object = None
    while True:
        try:
            state = await _published(context)
            if state and state != warmed:
                await _warm(context, preparation)
                warmed = state
        except (Problem, CollectorError) as error:  # a reader sees it
            log.info("pages not prepared", extra={"reason": str(error)})
        await asyncio.sleep(CHECK_SECONDS)


async def _warm(context: PageContext, preparation: Preparation) -> None:
    for page in PAGES:
        if page.guard is not Guard.READERS or not page.in_menu:
            continue
        waited = 0.0
        while preparation.is_busy and waited < CHECK_SECONDS:
            await asyncio.sleep(_REST_SECONDS)
            waited += _REST_SECONDS
        await persist(partial(page.build, _look(context, page.path)))


async def _published(context: PageContext) -> list[object]:
    """Return what changes with each publication of the newest months; empty without one."""
    look = _look(context, "/")
    months = await newest_months(look)
    return await look.read(
        lambda store: [
            store.publications.summary(kind, one.first, one.end) for one in months for kind in PublicationKind
        ]
    )


def _look(context: PageContext, path: str) -> Look:
    """Return a look at a page without a reader: with what every reader of the whole fleet may see."""
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "server": ("localhost", 80),
        "path": path,
        "query_string": b"",
        "headers": [],
    }
    return Look(Request(scope), words("fr"), HttpCaller(account=WARMER), context)
