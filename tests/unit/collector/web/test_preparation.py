# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of pages whose figures are not ready: one language, a way back; and figures ready before a look."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.filled import Filled
from tests.support.publishing import publish_months
from tests.support.reading import Reading
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.unit.collector.web.test_own_use import RELEASED_ON, fill, noon
from veilleuse.collector.errors import QueryTooSlow
from veilleuse.collector.model.accounts import Account
from veilleuse.collector.web.api.answers import Figures
from veilleuse.collector.web.api.query import ApiQuery
from veilleuse.collector.web.api.resources import ResourceKind
from veilleuse.collector.web.pages import preparation

TITLE = {"fr": "Les chiffres sont en préparation", "en": "The figures are being prepared"}
Scene = Callable[[httpx.AsyncClient], Awaitable[None]]


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    """Return readers of a published month, with an empty cache."""
    with Filled(tmp_path / "data", clock=lambda: noon(RELEASED_ON)) as data:
        fill(data, 12, 1_000)
        publish_months(data, RELEASED_ON)
        with Reading(data, clock=lambda: noon(RELEASED_ON)) as found:
            yield found


def play(reading: Reading, scene: Scene) -> None:
    """Run requests in one event loop, as the server does."""

    async def run() -> None:
        transport = httpx.ASGITransport(reading.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8640") as client:
            await scene(client)

    asyncio.run(run())


def check_not_ready(answer: httpx.Response, language: str) -> None:
    """Check a page that says that figures are being prepared, in one language, and comes back by itself."""
    other = TITLE["en" if language == "fr" else "fr"]
    assert (answer.status_code, answer.headers["refresh"], answer.headers["retry-after"]) == (503, "5", "5")
    assert answer.headers["content-language"] == language
    assert f"<h1>{TITLE[language]}</h1>" in answer.text
    assert other not in answer.text
    assert "month" not in answer.text.split("<main")[1].split("</main>")[0]


def test_a_long_look_says_that_figures_are_being_prepared_and_a_later_one_has_them(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
):
    """The build goes on without its reader, once however many look, and the next look takes its result."""
    ready, asked, make = threading.Event(), [], Figures.document

    def slow(self: Figures, *words: Any) -> Any:
        asked.append(words)
        ready.wait(PATIENCE_SECONDS)
        return make(self, *words)

    monkeypatch.setattr(Figures, "document", slow)
    reading.preparation.look_seconds = 0.2

    async def scene(client: httpx.AsyncClient) -> None:
        for language in ("fr", "fr", "en"):
            check_not_ready(await client.get(f"/?lang={language}"), language)
        await asyncio.to_thread(until, lambda: asked)
        assert len(asked) == 1, "English waits for its turn of the same account"
        ready.set()
        reading.preparation.look_seconds = PATIENCE_SECONDS
        found = await client.get("/?lang=fr")
        assert found.status_code == 200
        assert "refresh" not in found.headers

    play(reading, scene)


@pytest.mark.parametrize("language", ["fr", "en"])
def test_an_overloaded_page_and_api_speak_one_language(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, language: str
):
    """The page asks for patience instead of another grouping; the API's error is in the language asked."""

    def too_slow(*_: object) -> Any:
        raise QueryTooSlow("the question takes more than 30 s: ask for a shorter period")

    monkeypatch.setattr(Figures, "document", too_slow)
    monkeypatch.setattr(preparation, "_TRIES", 1)

    async def scene(client: httpx.AsyncClient) -> None:
        check_not_ready(await client.get(f"/?lang={language}"), language)
        token = {"authorization": f"Bearer {reading.account()}", "accept-language": language}
        asked = "/api/v1/emissions?from=2026-10-01&to=2026-11-01"
        answer = await client.get(asked, headers=token)
        assert answer.status_code == 503
        told = json.loads(answer.text)
        is_english = "the question takes" in told["detail"]
        assert is_english == (language == "en"), told

    play(reading, scene)


def test_pages_are_ready_after_a_publication(reading: Reading, monkeypatch: pytest.MonkeyPatch):
    """Nobody has looked yet, and the first look computes no emissions. (Indicators have no such cache.)"""
    asked, make = [], Figures.document

    def counted(self: Figures, query: ApiQuery, account: Account) -> Any:
        if query.kind is ResourceKind.EMISSIONS:
            asked.append(query)
        return make(self, query, account)

    warm, is_warm = preparation._warm, asyncio.Event()

    async def noted(*words: Any) -> None:
        await warm(*words)
        is_warm.set()

    monkeypatch.setattr(Figures, "document", counted)
    monkeypatch.setattr(preparation, "_warm", noted)

    async def scene(client: httpx.AsyncClient) -> None:
        warming = asyncio.create_task(reading.keep_warm())
        await asyncio.wait_for(is_warm.wait(), PATIENCE_SECONDS)
        warming.cancel()
        warmed = len(asked)
        for path in ("/", "/bilan", "/sobriete", "/qualite"):
            assert (await client.get(path)).status_code == 200, path
        assert len(asked) == warmed > 0

    play(reading, scene)


def test_a_page_that_was_read_stays_with_its_time_while_new_figures_are_made(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
):
    """After a publication all is computed again: readers keep the page they know, live pages are live."""
    ready, make, is_slow = threading.Event(), Figures.document, False

    def slow(self: Figures, *words: Any) -> Any:
        if is_slow:
            ready.wait(PATIENCE_SECONDS)
        return make(self, *words)

    def other_inputs(*_: object) -> tuple[object, ...]:
        return ("a publication", is_slow)

    monkeypatch.setattr(Figures, "document", slow)
    monkeypatch.setattr(Figures, "inputs", other_inputs)
    account = reading.account("directrice")

    def accesses() -> int:
        lines = reading.data.store.accounts.accesses(0, 2**62, account_id=None, limit=99)
        return sum(line.times for line in lines)

    async def scene(client: httpx.AsyncClient) -> None:
        nonlocal is_slow
        token = {"authorization": f"Bearer {account}"}
        for headers in ({}, token):
            assert (await client.get("/bilan?lang=fr", headers=headers)).status_code == 200
        is_slow, reading.preparation.look_seconds = True, 1.0
        noted = accesses()
        for headers in ({}, token):  # two queries are being answered from here on: all that there may be
            again = await client.get("/bilan?lang=fr", headers=headers)
            assert (again.status_code, again.headers.get("refresh")) == (200, "5")
            assert "Page de 13:00" in again.text
        assert accesses() == noted + 1, "the account's look is noted"
        check_not_ready(await client.get("/bilan?lang=en"), "en")
        reading.preparation.look_seconds = PATIENCE_SECONDS
        for path in ("/parc", "/serveurs", "/deployer"):
            live = await client.get(path)
            assert (live.status_code, live.headers.get("refresh")) == (200, None), path
        ready.set()
        for url, headers in (("/bilan?lang=fr", {}), ("/bilan?lang=fr", token), ("/bilan?lang=en", {})):
            fresh = await client.get(url, headers=headers)
            assert (fresh.status_code, fresh.headers.get("refresh")) == (200, None)

    play(reading, scene)
