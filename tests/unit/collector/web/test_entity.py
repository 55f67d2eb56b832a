# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the pages of an entity and of a site: the answers of an account of that entity, and no other."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote

import pytest

from tests.support.filled import METER, Filled, cell, civil, minutes_of_server, week
from tests.support.publishing import publish_months
from tests.support.reading import DOOR_TOKEN, Reading
from tests.support.report_files import workbook
from veilleuse.collector.documents.text import words
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.model.meters import DeclaredMeter, MeterBoundary, MeterReading
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import DirtyPeriod
from veilleuse.collector.web.pages import bilan
from veilleuse.collector.web.pages.entities.entity import common_branch
from veilleuse.collector.web.pages.parts import grams_of
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.vocabulary import Band, DeviceClass, PointKind, Population, State

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
MONTH = date(2026, 10, 1)
PLACES = (
    ("L > Colleges > C1", 12, 60),
    ("L > Colleges > C2", 12, 70),
    ("L > Eau", 12, 80),
    ("L > Eau > S3", 3, 90),
)
YEAR = "from=2026-01-01&to=2027-01-01"


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    """Give an application of two colleges, a direction with a server, and a service of three PCs."""
    with ExitStack() as opened:
        data = opened.enter_context(Filled(tmp_path_factory.mktemp("entity") / "data", clock=NOW.timestamp))
        with data.store.transaction():
            for name in (*(entity[-2:] for entity, _, _ in PLACES), "hotel"):
                calendar = DEFAULT_CALENDAR.to_json()
                data.store.registry.put_site(Site(name, "FR", "Europe/Paris", calendar))
        for entity, number, watts in PLACES:
            add_workstations(data, entity, number, watts)
        server = data.add_host(entity="L > Eau", site="hotel")
        data.push(server, minutes_of_server(20, 15, 180.0, at=NOW), METER)
        put_in_no_room(data, server)
        data.derive()
        publish_months(data, NOW.date())
        yield opened.enter_context(Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp))


def put_in_no_room(data: Filled, server: HostId) -> None:
    """Add an hour of a meter of a room at the server's site, without a word on where the server stands."""
    hour = round(datetime(2026, 10, 15, 12, tzinfo=UTC).timestamp() * 1000)
    meter = DeclaredMeter("ups", "hotel", "DC1", MeterBoundary.UPS_OUTPUT)
    data.store.metering.declare([meter], [], [], [])
    with data.store.transaction():
        data.store.metering.put_readings(
            DirtyPeriod(server, Grain.HOUR, hour),
            [MeterReading("ups", PointKind.UPS, 3_600_000_000, 3_600_000)],
        )


def add_workstations(data: Filled, entity: str, number: int, watts: int) -> None:
    """Add workstations of one entity, at a site of its last name, that draw so many watts for a week."""
    hour = 3_600_000
    for _ in range(number):
        host = data.add_host(
            Population.WORKSTATION, DeviceClass.TOWER, entity=entity, site=entity[-2:], power_plan=(600, 1200)
        )
        nights = [
            (civil(MONTH + timedelta(days=n)), [cell(State.ON_IDLE, hour, Band.NIGHT)]) for n in range(28)
        ]
        open_hours = cell(State.ON_ACTIVE, 25 * hour, energy_millijoules=watts * 25 * hour, busy_ratio=0.3)
        data.push(host, [*nights, (week(MONTH + timedelta(days=10)), [open_hours])], METER)


@pytest.fixture(scope="module")
def tokens(reading: Reading) -> dict[str, str]:
    """Give accounts of the whole fleet, of the colleges, and of an administrator."""
    return {
        "reader": reading.account("reader"),
        "colleges": reading.account("colleges", Role.READER, "L > Colleges"),
        "admin": reading.account("admin", Role.ADMIN),
    }


def page(reading: Reading, path: str, token: str, language: str = "en") -> str:
    """Return the main part of a page."""
    answer = reading.get(f"{path}&lang={language}", token)
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text[answer.text.index("<main") : answer.text.index("<footer")])


def of(name: str) -> str:
    """Return the address of an entity's page."""
    return f"/entite?name={quote(name)}"


def test_its_figures_are_the_answer_to_an_account_of_that_entity(reading: Reading, tokens: dict[str, str]):
    """The total, its interval and each class are those that the API gives to an account of the entity."""
    text, w = page(reading, of("L > Colleges"), tokens["reader"]), words("en")
    api = reading.get(f"/api/v1/emissions?{YEAR}&group_by=device_class", tokens["colleges"]).json()
    (total,) = api["totals"]
    low, high = (w.grams(grams_of(total[f"kgco2e_{end}_sample"])) for end in ("lo", "hi"))
    assert w.energy(total["energy_millijoules"]) in text
    assert f"between {low} and {high}" in text
    for row in api["rows"]:
        assert w.word("device_class", row["device_class"]) in text
        assert w.energy(row["energy_millijoules"]) in text


@pytest.mark.parametrize("path", [of("L > Colleges"), of("L > Eau"), of("L > Eau > S3")])
def test_everybody_reads_the_same(reading: Reading, tokens: dict[str, str], path: str):
    """P5: an administrator reads the released months, as a reader does; only the sites of PCs are more."""
    shown = [
        page(reading, path, tokens[one]).partition('<section aria-labelledby="sites-h">')[0]
        for one in ("reader", "admin")
    ]
    assert shown[0] == shown[1]


def test_single_servers_are_named_to_administrators_alone(reading: Reading, tokens: dict[str, str]):
    """A server that no room is declared for stands in the notes of an administrator, and of no reader."""
    (server,) = (one for one in reading.data.store.registry.hosts() if one.population is Population.SERVER)
    identifier = server.agent_id.hex()[:12]
    for path in (f"/api/v1/emissions?{YEAR}", "/bilan?year=2026"):
        assert identifier in reading.get(path, tokens["admin"]).text
        assert identifier not in reading.get(path, tokens["reader"]).text


def test_an_account_opens_its_own_entities_only(reading: Reading, tokens: dict[str, str]):
    """Another entity, and one that does not exist, are answered alike; no name of others is on the page."""
    own = page(reading, "/entite?", tokens["colleges"])
    assert ">C1</a>" in own
    assert "Eau" not in own
    others = [reading.get(f"{of(name)}&lang=en", tokens["colleges"]) for name in ("L > Eau", "L", "Nowhere")]
    assert [one.status_code for one in others] == [404, 404, 404]
    assert len({one.text[one.text.index("<main") :] for one in others}) == 1


def test_a_few_machines_tell_nothing_of_themselves(reading: Reading, tokens: dict[str, str]):
    """P5: three PCs have an estimated energy, and no indicator of their own."""
    text = page(reading, of("L > Eau > S3"), tokens["reader"])
    assert "tower" in text
    assert "No indicator" in text


def test_what_is_below_leads_on(reading: Reading, tokens: dict[str, str]):
    """A branch lists its entities with their figures; without a name, those of the account."""
    text = page(reading, "/entite?", tokens["reader"])
    assert "<h1>All entities" in text
    assert re.findall(r'name=L[^"]*year=2026">(\w+)</a>', text) == ["Eau", "Colleges"]
    below = page(reading, of("L > Colleges"), tokens["reader"])
    for name in ("C1", "C2"):
        assert f'name=L+%3E+Colleges+%3E+{name}&year=2026">{name}</a>' in below


def test_a_branch_has_one_interval_on_all_pages(
    reading: Reading, tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    """Bilan, the page above and the branch's own page show the interval of its total. A branch that is not
    asked about shows none: the ends of its rows add up to another one."""
    paths, reader = ("/bilan?", "/entite?"), tokens["reader"]
    own = page(reading, of("L > Colleges"), reader)
    low, high = re.findall(r"between (.*?) and (.*?)[ ,<]", own[: own.index("<table")])[0]
    for path in paths:
        row = row_of(page(reading, path, reader), "Colleges")
        assert low in row
        assert high in row
    monkeypatch.setattr(bilan, "_MOST_ASKED", 0)
    for path in paths:
        said = page(reading, path, reader)
        assert low not in row_of(said, "Colleges")
        assert words("en")("bilan.branches") in said


def row_of(said: str, branch: str) -> str:
    """Return a branch's row of a page."""
    (row,) = (one for one in re.findall("<tr.*?</tr>", said, re.DOTALL) if f">{branch}<" in one)
    return str(row)


def test_its_year_is_a_file(reading: Reading, tokens: dict[str, str]):
    """The download has the rows of the entity alone."""
    file = reading.get(f"{of('L > Eau')}&format=json", tokens["reader"]).json()
    (total,) = file["totals"]
    assert total["n_fleet"] == 12 + 3 + 1
    assert reading.get(f"{of('L > Eau')}&format=exe", tokens["reader"]).status_code == 400


def test_other_pages_link_to_it(reading: Reading, tokens: dict[str, str]):
    """The entity above, and the lines of the coverage, lead to the entity."""
    for path in ("/entite?year=2026&name=L+%3E+Colleges", "/qualite?"):
        assert 'href="/entite?lang=en&name=L+%3E+Colleges+%3E+C1' in page(reading, path, tokens["reader"])


def test_a_site_says_why_it_has_no_figure(reading: Reading, tokens: dict[str, str]):
    """Readers know the sites of servers, and get a sentence; sites of PCs are not even named to them."""
    assert set(re.findall(r"/site\?lang=en&name=(\w+)", page(reading, "/site?", tokens["reader"]))) == {
        "hotel"
    }
    text = page(reading, "/site?name=hotel", tokens["reader"])
    assert "There is no published figure by site" in text
    assert "not to be published" not in text
    assert reading.get("/site?name=C1", tokens["reader"]).status_code == 404


def test_an_administrator_sees_unreleased_figures_marked_so(reading: Reading, tokens: dict[str, str]):
    """The account of an administrator gets the site's present figures, with the badge and the warning."""
    text = page(reading, "/site?name=C2", tokens["admin"])
    assert "not released" in text
    assert "not to be published" in text
    assert "tower" in text
    merged = page(reading, "/site?name=C1", tokens["admin"])  # with S3, which is too small
    assert "This site has no figure of its own" in merged
    assert "tower" not in merged


@pytest.mark.parametrize(
    ("entities", "common"),
    [((), ""), (("A",), "A"), (("A > B", "A > C"), "A"), (("A", "A > B"), "A"), (("A > B", "C"), "")],
)
def test_common_branch(entities: tuple[str, ...], common: str):
    """The path is the longest that all entities begin with."""
    assert common_branch(entities) == common


def test_the_first_page_of_a_workbook_is_of_the_readers_entities(reading: Reading, tokens: dict[str, str]):
    """P5: an account of the colleges downloads their total and no word of another entity; an administrator's
    summary is a reader's."""
    cells = {
        name: [
            cell
            for sheet in workbook(reading.get("/bilan?year=2026&by=class&format=xlsx&lang=en", token).content)
            for line in sheet.iter_rows(values_only=True)
            for cell in line
            if cell is not None
        ]
        for name, token in tokens.items()
    }
    api = reading.get(f"/api/v1/emissions?{YEAR}&group_by=entity", tokens["colleges"]).json()
    assert api["totals"][0]["kgco2e_total"] in cells["colleges"]
    said = " ".join(map(str, cells["colleges"]))
    assert "C1" in said
    assert "Eau" not in said
    for one in ("By perimeter", "By entity", "By device class"):
        assert {one} <= set(cells["colleges"]) & set(cells["reader"]) & set(cells["admin"])
    summaries = [cells[name][: cells[name].index("This report")] for name in ("reader", "admin")]
    assert summaries[0] == summaries[1]
