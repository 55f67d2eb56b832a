# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of every page of the table: who may open it, wrong parameters, links, files, and accesses noted."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime

import pytest

from tests.support.filled import METER, Filled, minutes_of_server, month_of_workstations
from tests.support.numecoeval import equipment, faults, total_millijoules
from tests.support.publishing import publish_months
from tests.support.reading import DOOR_TOKEN, Reading
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.web.pages.bilan import BY, FORMATS
from veilleuse.collector.web.pages.frame import WebPage
from veilleuse.collector.web.pages.table import PAGES

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
HOSTILE = "%3Cscript%3Ealert(1)%3C/script%3E"
ACCOUNTS = ("nobody", "reader", "reader of A", "owner of A", "admin", "metrics token")
MAY_OPEN = {
    "OPEN": ACCOUNTS,
    "KNOWN": ACCOUNTS[1:],
    "READERS": ACCOUNTS[1:],
    "SERVERS": ("owner of A", "admin", "metrics token"),
    "FLEET": ("reader", "admin", "metrics token"),
    "HOSTS": ("admin", "metrics token"),
}
"""Guard → accounts that may open a page of it."""


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    """Give an application off loopback: a published month of 24 workstations, and a server that reports."""
    with ExitStack() as opened:
        data = opened.enter_context(Filled(tmp_path_factory.mktemp("pages") / "data", clock=NOW.timestamp))
        month_of_workstations(data, date(2026, 10, 1), [(600, 1200)] * 24)
        data.push(data.add_host(entity="A"), minutes_of_server(20, 15, 180.0, at=NOW), METER)
        data.derive()
        publish_months(data, NOW.date())
        yield opened.enter_context(Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp))


@pytest.fixture(scope="module")
def tokens(reading: Reading) -> dict[str, str | None]:
    """Give one token of each kind of account."""
    return {
        "nobody": None,
        "reader": reading.account("reader"),
        "reader of A": reading.account("reader-of-a", Role.READER, "A"),
        "owner of A": reading.account("owner-of-a", Role.OWNER, "A"),
        "admin": reading.account("admin", Role.ADMIN),
        "metrics token": DOOR_TOKEN,
    }


def address(reading: Reading, tokens: dict[str, str | None], page: WebPage) -> str:
    """Return an address of the page, without a language: of one server, that of the first in the list."""
    if page.path != "/serveur":
        return f"{page.path}?"
    found = re.search(r"id=([0-9a-f]+)", reading.get("/serveurs", tokens["admin"]).text)
    assert found is not None
    return f"/serveur?id={found[1]}&"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_who_may_open_it(reading: Reading, tokens: dict[str, str | None], page: WebPage):
    """S13: a page opens for the accounts of its guard only; its menu has the pages that the account opens."""
    where = address(reading, tokens, page)
    for name, token in tokens.items():
        answer = reading.get(f"{where}lang=fr", token)
        expected = 200 if name in MAY_OPEN[page.guard.name] else 401 if token is None else 403
        assert answer.status_code == expected, name
        menu = set(re.findall(r'<li><a href="(/[a-z]*)\?lang=fr"(?: aria-current="page")?>', answer.text))
        assert menu - {"/connexion"} <= {one.path for one in PAGES if name in MAY_OPEN[one.guard.name]}


_FOLLOWED: dict[str, tuple[int, frozenset[str]]] = {}


def followed(reading: Reading, token: str | None, link: str) -> tuple[int, frozenset[str]]:
    """Return status and identifiers of what a link leads to; most pages have the same links."""
    if link not in _FOLLOWED:
        answer = reading.get(link, token)
        is_page = answer.headers["content-type"].startswith("text/html")
        found = re.findall(r' id="([^"]*)"', answer.text) if is_page else ()
        _FOLLOWED[link] = answer.status_code, frozenset(found)
    return _FOLLOWED[link]


@pytest.mark.parametrize("language", ["fr", "en"])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_it_is_whole_and_its_links_lead_somewhere(
    reading: Reading, tokens: dict[str, str | None], page: WebPage, language: str
):
    """One heading, one title, in the language asked for; no link to a page that is not there, no empty id."""
    text = reading.get(f"{address(reading, tokens, page)}lang={language}", tokens["admin"]).text
    assert f'<html lang="{language}">' in text
    assert text.count("<h1") == 1
    identifiers = re.findall(r' id="([^"]*)"', text)
    assert len(set(identifiers)) == len(identifiers)
    links = {html.unescape(one) for one in re.findall(r'(?:href|action)="(/[^"]*)"', text)}
    for link in sorted(links - {"/deconnexion"}):
        address_of_link, _, fragment = link.partition("#")
        status, known = followed(reading, tokens["admin"], address_of_link)
        assert status == 200, link
        assert not fragment or fragment in known, link
    named = {link.partition("#")[2] for link in re.findall(r'href="(#[^"]+)"', text)}
    assert named <= set(identifiers)


@pytest.mark.parametrize("language", ["fr", "en"])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_it_is_accessible(reading: Reading, tokens: dict[str, str | None], page: WebPage, language: str):
    """A skip link, headings in order, named drawings with tables, and captions and headings of tables."""
    answer = reading.get(f"{address(reading, tokens, page)}lang={language}", tokens["admin"])
    text = answer.text
    tags = re.findall(r"<([a-z]+\d?)", text)
    assert answer.headers["content-language"] == language
    assert '<a class="skip" href="#content">' in text
    assert '<main id="content"' in text
    assert re.fullmatch("1(2(34*)*)*", "".join(tag[1] for tag in tags if re.fullmatch(r"h\d", tag)))
    charts = text.count('<svg class="chart')
    assert tags.count("figure") == charts
    assert text.count("aria-labelledby=") >= charts
    assert tags.count("caption") == tags.count("table") >= charts
    assert text.count("<tr><th scope=") == text.count("<tr><th") == tags.count("tr"), "a heading in each row"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_wrong_parameter_is_a_clear_page(reading: Reading, tokens: dict[str, str | None], page: WebPage):
    """No parameter makes an error of the service; none comes back unescaped, or in another language."""
    names = (
        "year",
        "by",
        "name",
        "entity",
        "site",
        "page",
        "sort",
        "q",
        "format",
        "template",
        "id",
        "show",
        "lang",
    )
    values = (HOSTILE, "99999999999", "-1", "%00", "a" * 300)
    asked = [f"{name}={HOSTILE}&{name}=y" for name in names[:1]]
    asked += [f"{name}={values[place % len(values)]}" for place, name in enumerate(names)]
    asked += [f"{name}={HOSTILE}" for name in names]
    asked += ["&".join(f"{name}={value}" for name in names) for value in values]
    for query in asked:
        answer = reading.get(f"{page.path}?{query}", tokens["admin"])
        assert answer.status_code in (200, 400, 404, 422), query
        assert "<script" not in answer.text
        if answer.status_code in (400, 404) and "lang=" not in query:
            pages = (
                reading.get(f"{page.path}?{query}&lang={one}", tokens["admin"]).text for one in ("fr", "en")
            )
            fr, en = (re.findall(r"<h1>(.*?)</h1>", text) for text in pages)
            assert fr != en, query


@pytest.mark.parametrize("by", BY)
def test_the_yearly_figure_is_the_apis(reading: Reading, tokens: dict[str, str | None], by: str):
    """The page's rows and files are the API's answer; each look is noted in the journal."""
    answer = reading.get(f"/bilan?year=2026&by={by}&lang=fr", tokens["reader"])
    assert answer.status_code == 200
    dimension = {"class": "device_class"}.get(by, by)
    asked = f"/api/v1/emissions?from=2026-01-01&to=2027-01-01&group_by={dimension}"
    api = reading.get(asked, tokens["reader"]).json()
    file = reading.get(f"/bilan?year=2026&by={by}&format=json", tokens["reader"])
    assert file.json()["rows"] == api["rows"]
    assert bool(api["rows"]) is (by != "site")
    noted = [one.route for one in reading.data.store.accounts.accesses(0, 2**53, account_id=None, limit=100)]
    assert "/bilan" in noted


@pytest.mark.parametrize("form", FORMATS)
def test_the_yearly_figure_is_a_file(reading: Reading, tokens: dict[str, str | None], form: str):
    """Each download has its type and a name with the year."""
    answer = reading.get(f"/bilan?year=2026&by=class&format={form}", tokens["reader"])
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="veilleuse-2026-class.{form}"'
    begins = {"pdf": b"%PDF", "xlsx": b"PK", "json": b"{", "csv": b"period_from"}[form]
    assert answer.content.startswith(begins)


def test_the_yearly_figure_as_equipment(reading: Reading, tokens: dict[str, str | None]):
    """The page offers the file for NumEcoEval of released months; it has the energy of the API's rows."""
    page = html.unescape(reading.get("/bilan?year=2026&by=class&lang=fr", tokens["reader"]).text)
    (address,) = re.findall(r'href="(/bilan[^"]*format=numecoeval)"', page)
    answer = reading.get(address, tokens["reader"])
    assert answer.status_code == 200
    name = answer.headers["content-disposition"]
    assert name == 'attachment; filename="veilleuse-2026-numecoeval-2026-10-31.csv"'
    assert faults(answer.content) == []
    asked = "/api/v1/emissions?from=2026-01-01&to=2027-01-01&group_by=entity,device_class"
    (total,) = reading.get(asked, tokens["reader"]).json()["totals"]
    assert total_millijoules(equipment(answer.content)) == total["energy_millijoules"] > 0
    refused = reading.get("/bilan?year=2024&format=numecoeval", tokens["reader"])
    assert (
        refused.status_code,
        "format=numecoeval" in reading.get("/bilan?year=2024", tokens["reader"]).text,
    ) == (
        422,
        False,
    )
