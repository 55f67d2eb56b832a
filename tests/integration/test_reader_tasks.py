# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Walk each reader's task in a real browser, from the address of the collector, and count the clicks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import httpx
import pytest
import uvicorn

from tests.support import clock
from tests.support.browser import Browser
from tests.support.filled import METER, Filled, minutes_of_server, month_of_workstations, reporting_day
from tests.support.ports import free_port
from tests.support.publishing import publish_months
from tests.support.reading import Reading
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.web.metrics import snapshot
from veilleuse.collector.web.metrics.released_month import last_month
from veilleuse.wire.vocabulary import DeviceClass, Population

PLANS = [(600, 1200)] * 36
ENTITIES = ("Lyon > Collèges > Collège Ampère", "Lyon > Direction de l'eau")
IDLE_NIGHTS = (36, 12)
"""Machines of each entity that are idle for an hour on 28 nights."""


@contextmanager
def served(reading: Reading) -> Iterator[str]:
    """Serve the application on loopback while the block runs; give its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(reading.app, port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, "uvicorn does not start")
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Reading, str]]:
    """Give a collector with a released month of two entities, and a server that is silent."""
    month, _ = last_month(reporting_day())
    started = round((clock.unix_seconds() - 36_000) * 1000)  # of the service, for silence to be judged
    with (
        pytest.MonkeyPatch.context() as patched,
        Filled(tmp_path_factory.mktemp("tasks") / "data") as data,
    ):
        patched.setattr(snapshot, "ask", lambda *_, **__: {"listening_unix_milliseconds": started})
        for entity, nights in zip(ENTITIES, IDLE_NIGHTS, strict=True):
            known = [
                data.add_host(
                    Population.WORKSTATION, DeviceClass.TOWER, power_plan=plan, entity=entity, site="lyon"
                )
                for plan in PLANS
            ]
            month_of_workstations(data, date(month.year, month.month, 1), PLANS, nights, known)
        data.push(data.add_host(entity="Lyon > DSI"), minutes_of_server(20, 15, 180.0), METER)
        data.add_host(entity="Lyon > DSI", contact=False)
        data.derive()
        publish_months(data, reporting_day())
        with Reading(data) as reading, served(reading) as found:
            reading.indicators.refresh()
            yield reading, found


@pytest.fixture
def address(collector: tuple[Reading, str]) -> str:
    """Give the collector's address."""
    return collector[1]


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Give a browser of a desktop."""
    with Browser() as opened:
        yield opened


def test_the_tonnes_by_entity(browser: Browser, address: str):
    """A sustainability officer finds the year's emissions by entity in at most two clicks."""
    browser.open(f"{address}?lang=fr")
    browser.click("Bilan")
    assert browser.clicks <= 2
    assert "Direction de l'eau" in browser.text
    assert "CO₂e" in browser.text


def test_the_workbook_of_the_year(browser: Browser, address: str):
    """The XLSX of the year is three clicks away at most, and is a workbook."""
    browser.open(f"{address}?lang=fr")
    browser.click("Bilan")
    link = browser.run(
        "[...document.querySelectorAll('a')].find(one => one.textContent.includes('XLSX')).href"
    )
    assert browser.clicks + 1 <= 3
    assert httpx.get(link, timeout=PATIENCE_SECONDS).content.startswith(b"PK")


def test_the_worst_place_at_night(browser: Browser, address: str):
    """Whoever manages the sites sees in two clicks where machines are left on at night."""
    browser.open(f"{address}?lang=fr")
    browser.click("Actions")
    assert browser.clicks <= 2
    text = browser.text
    assert "Collège Ampère" in text
    assert "au repos hors ouverture" in text
    assert "Direction de l'eau" not in text.partition("Collège Ampère")[0]


def test_a_silent_server(browser: Browser, address: str):
    """Operations find the silent servers in two clicks."""
    browser.open(f"{address}?lang=fr")
    browser.click("Serveurs")
    browser.run("document.querySelector('[name=show]').value = 'silent'")
    browser.click("Chercher")
    assert browser.clicks <= 2
    assert "jamais" in browser.text
    assert browser.run("document.querySelector('table').querySelectorAll('tbody tr').length") == 1


def test_what_leaves_my_pc(browser: Browser, address: str):
    """Staff read in one click what leaves a PC, without signing in."""
    browser.open(f"{address}?lang=fr")
    browser.click("Confidentialité")
    assert browser.clicks <= 1
    assert "simulé" in browser.text


def test_signing_in_and_out(browser: Browser, collector: tuple[Reading, str]):
    """A person signs in by the form, reads a page as who they are, and signs out again."""
    token, address = collector[0].account("officer"), collector[1]
    browser.open(f"{address}bilan?lang=fr")
    browser.click("Connexion")
    browser.fill("token", token)
    browser.click("Se connecter")
    assert browser.address == f"{address}bilan?lang=fr"
    browser.click("Déconnecter")
    assert browser.address.startswith(f"{address}connexion")
    browser.open(f"{address}connexion?lang=fr")
    browser.fill("token", token[:-1])
    browser.click("Se connecter")
    assert "Ce jeton n’ouvre rien" in browser.text
