# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the first page, the indicators and the actions: figures of the API, for each kind of reader."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from tests.support.filled import METER, Filled, cell, civil, minutes_of_server, month_of_workstations
from tests.support.publishing import publish_months
from tests.support.reading import DOOR_TOKEN, Reading
from tests.support.rolled import roll
from veilleuse.collector.cli.report import make_recommendations
from veilleuse.collector.documents.text import words
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.actions import Action
from veilleuse.collector.model.publications import HOLD_NOTE, PublicationHold
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.settings import CollectorSettings, ReportingSettings
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
PLANS = [(600, 1200)] * 32
MONTHS = (date(2026, 8, 1), date(2026, 9, 1), date(2026, 10, 1))
LIVE = "Puissance des serveurs"
WRONG = "Ce qui ne va pas"


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    """Give an application off loopback: three published months of 32 workstations, a server, an action."""
    with ExitStack() as opened:
        data = opened.enter_context(Filled(tmp_path_factory.mktemp("pages") / "data", clock=NOW.timestamp))
        hosts: list[HostId] = []
        for month in MONTHS:
            hosts = month_of_workstations(data, month, PLANS, known=hosts)
        data.push(data.add_host(entity="A"), minutes_of_server(20, 15, 180.0, at=NOW), METER)
        data.derive()
        publish_months(data, NOW.date())
        action = Action("ext", ("lyon",), date(2026, 9, 1), "extinction <b>")
        with data.store.transaction():
            data.store.follows.enter([action], "me", "", round(NOW.timestamp() * 1000))
        yield opened.enter_context(Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp))


@pytest.fixture(scope="module")
def tokens(reading: Reading) -> dict[str, str]:
    """Give one token of each kind of account."""
    return {
        "reader": reading.account("reader"),
        "reader of DSI": reading.account("reader-of-dsi", Role.READER, "DSI"),
        "reader of A": reading.account("reader-of-a", Role.READER, "A"),
        "owner of A": reading.account("owner-of-a", Role.OWNER, "A"),
        "admin": reading.account("admin", Role.ADMIN),
    }


def text_of(reading: Reading, url: str, token: str) -> str:
    """Return the words of a page, with ordinary spaces, without its drawings."""
    answer = reading.get(url, token)
    assert answer.status_code == 200
    body = re.sub(r"<svg.*?</svg>", "", answer.text[answer.text.index("<main") :], flags=re.DOTALL)
    told = html.unescape(re.sub(r"<[^>]+>", " ", body))
    return re.sub(r"\s+", " ", told.replace("\u202f", " ").replace("\u00a0", " "))


def api(reading: Reading, token: str, kind: str, period: str, group_by: str) -> list[dict[str, object]]:
    """Return rows or totals of the API's answer."""
    answer = reading.get(f"/api/v1/{kind}?{period}&group_by={group_by}", token).json()
    found: list[dict[str, object]] = answer["totals" if kind == "emissions" else "rows"]
    return found


def test_the_first_page_has_the_apis_year(reading: Reading, tokens: dict[str, str]):
    """Tonnes, energy and months of the page are the API's; without a year before it, the page says so."""
    token, w = tokens["reader"], words("fr")
    (total,) = api(reading, token, "emissions", "from=2026-01-01&to=2027-01-01", "perimeter")
    page = text_of(reading, "/?lang=fr", token)
    grams = w.grams(Fraction(repr(total["kgco2e_total"])) * 1000).replace("\u00a0", " ")
    assert f"Émissions {grams} entre" in page
    energy = w.energy(int(str(total["energy_millijoules"])))
    assert f"Énergie à la prise {energy} entre".replace("\u202f", " ").replace("\u00a0", " ") in page
    months = api(reading, token, "emissions", "from=2026-01-01&to=2027-01-01", "month")
    for row in months[-3:]:
        kilograms = w.grams(Fraction(repr(row["kgco2e_total"])) * 1000).replace("\u00a0", " ")
        assert kilograms in page
    assert "Évolution sur 2025 Évolution non démontrée : aucun mois n’est publié et observé" in page
    assert "De janvier à octobre 2026 : les mois publiés. Le mois de novembre paraît le" in page
    assert "km en voiture thermique" in page or "c’est à peu près" not in page


def test_the_tonnes_by_entity_are_one_link_away(reading: Reading, tokens: dict[str, str]):
    """From the address to the tonnes by entity: the page, then a link on it."""
    page = reading.get("/?lang=fr", tokens["reader"]).text
    link = html.unescape(next(one for one in re.findall(r'href="([^"]*)"', page) if "by=entity" in one))
    assert "DSI" in text_of(reading, link, tokens["reader"])


@pytest.mark.parametrize("name", ["reader of DSI", "reader of A", "owner of A"])
def test_an_account_of_some_entities_sees_nothing_live(reading: Reading, tokens: dict[str, str], name: str):
    """Only readers of the whole fleet see its live servers and what is wrong with it."""
    assert LIVE in text_of(reading, "/?lang=fr", tokens["reader"])
    assert WRONG in text_of(reading, "/?lang=fr", tokens["reader"])
    page = text_of(reading, "/?lang=fr", tokens[name])
    assert LIVE not in page
    assert WRONG not in page
    assert "Ce compte voit :" in page
    if "DSI" not in name:  # entity A has a server of today only
        assert "Petits groupes" not in page
        assert "PC tours" not in page


def test_what_is_wrong_is_said(reading: Reading, tokens: dict[str, str]):
    """No collector runs in this test: the page says so, in both languages."""
    assert "Le service de réception ne répond pas" in text_of(reading, "/?lang=fr", tokens["reader"])
    assert "The receiving service does not answer" in text_of(reading, "/?lang=en", tokens["reader"])


@pytest.mark.parametrize(("language", "space"), [("fr", " "), ("en", "")])
def test_actions_are_those_of_the_command(
    reading: Reading, tokens: dict[str, str], language: str, space: str
):
    """The page, its files and `report indicators --actions` have the same sentences, in the same order."""
    settings = CollectorSettings(data_dir=reading.data.directory, reporting=ReportingSettings())
    query = Query(MONTHS[0], MONTHS[-1] + timedelta(days=31), (), 10, NOW.date(), 0)
    made = [str(row["sentence"]) for row in make_recommendations(settings, query, language).tables["rows"]]
    assert made
    assert "32" in made[0]
    file = reading.get(f"/actions?lang={language}&format=json", tokens["admin"])
    assert [row["sentence"] for row in json.loads(file.text)["rows"]] == made
    page = text_of(reading, f"/actions?lang={language}", tokens["reader"])
    flat = [one.replace("\u202f", " ").replace("\u00a0", " ") for one in made]
    positions = [page.find(one.partition(f"{space}:")[2]) for one in flat]
    assert -1 not in positions
    assert positions == sorted(positions)


def test_a_measured_saving_is_for_administrators(reading: Reading, tokens: dict[str, str]):
    """A declared action is shown to all readers of its sites; its saving, of present data, is not. The token
    of /metrics is no account: what it reads is in no journal.
    """
    admin, reader = (text_of(reading, "/actions?lang=fr", tokens[one]) for one in ("admin", "reader"))
    assert "compte d’administrateur" in text_of(reading, "/actions?lang=fr", DOOR_TOKEN)
    file = "/actions?format=json"
    assert json.loads(reading.get(file, tokens["admin"]).text)["report"]["basis"] == "unreleased"
    assert json.loads(reading.get(file, DOOR_TOKEN).text)["report"]["basis"] == "released"
    assert "« extinction <b> », depuis le 1er septembre 2026" in reader
    assert "compte d’administrateur" in reader
    assert "compte d’administrateur" not in admin
    assert "pas encore mesurable" in admin


def test_actions_of_one_entity_and_wrong_formats(reading: Reading, tokens: dict[str, str]):
    """A choice of an entity limits the list; an unknown one is refused; a format is one of the reports'."""
    assert "32 PC tours" in text_of(reading, "/actions?lang=fr&entity=DSI", tokens["reader"])
    assert reading.get("/actions?lang=fr&entity=DSI+%3E+X", tokens["reader"]).status_code == 404
    assert "32 PC tours" not in text_of(reading, "/actions?lang=fr&entity=A", tokens["reader"])
    assert reading.get("/actions?format=exe", tokens["reader"]).status_code == 400
    for entity, count in (("DSI", 1), ("A", 0)):
        address = f"/actions?lang=fr&format=json&entity={entity}"
        assert len(json.loads(reading.get(address, tokens["reader"]).text)["rows"]) == count
    declared = "« extinction <b> »"
    assert reading.get("/actions?lang=fr&entity=DSI", tokens["reader of A"]).status_code == 404
    assert declared in text_of(reading, "/actions?lang=fr&entity=DSI", tokens["reader"])
    for form, begins in (("csv", b"rank,"), ("xlsx", b"PK"), ("pdf", b"%PDF")):
        assert reading.get(f"/actions?format={form}", tokens["reader"]).content.startswith(begins)


def test_each_indicator_has_a_card(reading: Reading, tokens: dict[str, str]):
    """All fourteen have one; I1 has the API's value of the year, its target, and every month in a table."""
    token, w = tokens["reader"], words("fr")
    page = reading.get("/sobriete?lang=fr", token).text
    assert re.findall(r'<h2 id="(I\d+)"', page) == [f"I{number}" for number in range(1, 15)]
    told = text_of(reading, "/sobriete?lang=fr", token)
    period = "from=2026-08-01&to=2026-11-01"
    for identifier in ("I1", "I2", "I3"):
        (year,) = (row for row in api(reading, token, "indicators", period, "population")
                   if row["indicator"] == identifier and row["population"] == "workstation")  # fmt: skip
        assert w.percent(float(str(year["value"]))).replace("\u00a0", " ") in told
    assert "Objectif : 5,0 % · D’août à octobre 2026" in told
    for month in ("août 2026", "septembre 2026", "octobre 2026"):
        assert f"{month} " in told
    assert "ce compte ne le voit pas" not in told
    assert "ce compte ne le voit pas" in text_of(reading, "/sobriete?lang=fr", tokens["reader of DSI"])


def test_before_the_first_month_each_page_says_what_to_do(tmp_path: Path):
    """A new collector with one server has no figures: each page says when they come, and what to do."""
    with Filled(tmp_path / "new", clock=NOW.timestamp) as data:
        data.push(data.add_host(), minutes_of_server(20, 15, 180.0, at=NOW), METER)
        data.derive()
        with Reading(data, clock=NOW.timestamp) as reading:
            token = reading.account()
            home = text_of(reading, "/?lang=fr", token)
            assert "le premier paraît le vendredi 4 décembre 2026" in home
            assert LIVE in home
            for path in ("/sobriete", "/actions"):
                assert "au début du mois prochain" in text_of(reading, f"{path}?lang=fr", token)


@pytest.mark.parametrize("published", [True, False])
def test_a_month_held_since_a_restore_has_no_day(tmp_path: Path, published: bool):
    """The first page never says both that a month comes on a day and that it stays unpublished."""
    now = datetime(2026, 12, 2, 12, tzinfo=UTC)
    with Filled(tmp_path / "data", clock=now.timestamp) as data:
        hosts = month_of_workstations(data, MONTHS[-1], PLANS[:12])
        data.derive()
        if published:
            publish_months(data, NOW.date())
        month_of_workstations(data, date(2026, 11, 1), PLANS[:12], known=hosts)
        data.derive()
        roll(data, date(2026, 12, 5))
        data.store.registry.put_meta(HOLD_NOTE, PublicationHold(now.date(), "it is lost").to_json())
        with Reading(data, clock=now.timestamp) as reading:
            reading.indicators.refresh()
            home = text_of(reading, "/?lang=fr", reading.account())
            assert "e mois de novembre" in home
            assert "reste non publié depuis une restauration" in home
            assert "4 décembre" not in home


def nights(data: Filled, month: date, hosts: Sequence[HostId], state: State) -> None:
    """Add a month of nights in one state."""
    for host in hosts:
        night = [cell(state, 39_600_000, Band.NIGHT)]
        data.push(host, [(civil(month + timedelta(days=n)), night) for n in range(28)])


@pytest.mark.parametrize(
    ("before", "observed", "reason"),
    [
        (date(2025, 2, 1), 32, "months"),
        (date(2025, 1, 1), 32, "intervals"),
        (date(2025, 1, 1), 10, "coverage"),
        (date(2025, 1, 1), 32, None),
    ],
)
def test_a_change_is_a_number_only_where_it_is_demonstrated(
    tmp_path: Path, before: date, observed: int, reason: str | None
):
    """Only a real change has a sign and a number, on the first page and that of the year, in both languages.
    Everything else is words. `observed`: machines with data the year before. What changes, if anything,
    is that they are off at night.
    """
    now, moment = date(2026, 1, 1), datetime(2026, 2, 20, 12, tzinfo=UTC)
    with Filled(tmp_path / "data", clock=moment.timestamp) as data:
        hosts = [data.add_host(Population.WORKSTATION, DeviceClass.TOWER, enrolled_on=before) for _ in PLANS]
        states = (State.ON_IDLE, State.ON_IDLE if reason else State.OFF)
        for month, known, state in zip((before, now), (hosts[:observed], hosts), states, strict=True):
            nights(data, month, known, state)
        data.derive()
        publish_months(data, moment.date())
        with Reading(data, clock=moment.timestamp) as reading:
            token = reading.account()
            pages = {
                (path, language): text_of(reading, f"{path}?lang={language}&year=2026", token)
                for path in ("/", "/bilan")
                for language in ("fr", "en")
            }
    for (_, language), page in pages.items():
        w = words(language)
        assert ("dont activité" in page or "of which activity" in page) is (reason is None), page
        if reason is not None:
            told = w("summary.not_demonstrated", reason=w.word("not_demonstrated", reason))
            assert told.replace("\u00a0", " ") in page
            assert not re.search(r"[+−]\s?[0-9]", page)


def test_hidden_pcs_are_not_zero(tmp_path: Path):
    """Nine workstations are withheld: their avoidable energy was once told as 0 Wh, with nothing to do."""
    with Filled(tmp_path / "few", clock=NOW.timestamp) as data:
        month_of_workstations(data, MONTHS[-1], PLANS[:9])
        data.push(data.add_host(), minutes_of_server(20, 15, 180.0, at=NOW), METER)
        data.derive()
        publish_months(data, NOW.date())
        with Reading(data, clock=NOW.timestamp) as reading:
            token = reading.account()
            actions, targets = (text_of(reading, f"/{one}?lang=fr", token) for one in ("actions", "sobriete"))
            sheet = text_of(reading, "/reen?lang=fr", token)
    assert "0 Wh" not in actions
    assert "rien à faire" not in actions
    assert "les postes de travail ne sont dans aucune ligne : moins de 10 machines mesurées" in actions
    assert "Objectif : 5,0 %" in targets
    assert "moins de 10 machines mesurées" in sheet
