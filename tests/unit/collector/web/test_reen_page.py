# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the page of the REEN sheet: the command's values, less what only administrators may see."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.support.filled import METER, Filled, minutes_of_server, month_of_workstations
from tests.support.publishing import publish_months
from tests.support.reading import DOOR_TOKEN, Reading
from veilleuse.collector.cli.main import run
from veilleuse.collector.documents.document import Document, Row
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.actions import Action, ActionTable, Cells, LineChange, key_of
from veilleuse.collector.web.pages.reen.page import TEMPLATES
from veilleuse.collector.web.pages.reen.readers import for_readers

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
OBJECTIVE: Cells = {
    "objective": "4",
    "indicator": "agents formés",
    "unit": "agents",
    "direction": "higher",
    "current_year": "2026",
    "current_value": "300",
    "baseline_year": "2024",
    "baseline_value": "150",
    "target_year": "2027",
    "target_value": "250",
    "pilot": "DSI <b>",
    "status": "under_way",
    "source": "RH",
}
MEASURE: Cells = {
    "measure_id": "M1",
    "objective": "2",
    "what": "Extinction à 20 h",
    "action": "A1",
    "status": "done",
}


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    """Give an application with a published month, an objective and a measure."""
    with ExitStack() as opened:
        data = opened.enter_context(Filled(tmp_path_factory.mktemp("reen") / "data", clock=NOW.timestamp))
        fill(data)
        publish_months(data, NOW.date())
        yield opened.enter_context(Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp))


def fill(data: Filled) -> None:
    """Add a month of workstations, a server, an objective and a measure."""
    month_of_workstations(data, date(2026, 10, 1), [(600, 1200)] * 24)
    data.push(data.add_host(entity="A"), minutes_of_server(20, 15, 180.0, at=NOW), METER)
    data.derive()
    for table, cells in ((ActionTable.OBJECTIVES, OBJECTIVE), (ActionTable.MEASURES, MEASURE)):
        change = LineChange(key_of(table, cells), cells)
        with data.store.transaction():
            data.store.follows.put(table, [change], "test.csv", "test", "", 0)


def shown(reading: Reading, token: str, asked: str = "") -> str:
    """Return the main part of the page, in English."""
    answer = reading.get(f"/reen?lang=en{asked}", token)
    assert answer.status_code == 200, answer.text
    return answer.text[answer.text.index("<main") : answer.text.index("<footer")]


def test_it_has_objectives_with_target_and_trend(reading: Reading):
    """An objective's line has value, baseline, target, trend and state; what was typed stays text."""
    text = shown(reading, reading.account("reader"))
    assert "300\u00a0agents" in text
    assert "150\u00a0agents (2024)" in text
    assert "250\u00a0agents (2027)" in text
    assert ">+100%<" in text
    assert ">reached<br><small>under way<" in text
    assert "DSI &lt;b&gt;" in text
    assert "that is +100%; the target" in text, "what changed"
    assert "Extinction à 20 h" in html.unescape(text)
    assert text.count("No indicator is entered for this objective yet") == 2


def test_the_download_is_the_sheet_of_the_command(reading: Reading):
    """JSON of the page has the rows that the page shows, for readers as for administrators."""
    file = reading.get("/reen?year=2026&format=json", reading.account("one")).json()
    whole = reading.get("/reen?year=2026&format=json", reading.account("two", Role.ADMIN)).json()
    assert file["rows"] == whole["rows"]
    assert file["perimeters"] == whole["perimeters"]
    (row,) = (one for one in file["rows"] if one.get("origin") == "entered")
    assert (row["trend_ratio"], row["reached"]) == (1.0, True)


@pytest.mark.parametrize("form", ["pdf", "xlsx", "csv"])
def test_it_is_a_file(reading: Reading, form: str):
    """Each format has its name."""
    answer = reading.get(f"/reen?year=2026&format={form}", reading.account(f"file-{form}"))
    assert answer.status_code == 200
    assert f'filename="veilleuse-reen-2026.{form}"' in answer.headers["content-disposition"]


def test_each_look_is_noted(reading: Reading):
    """The access journal names the account, the page and the year."""
    shown(reading, reading.account("noted"))
    noted = reading.data.store.accounts.accesses(0, 2**53, account_id=None, limit=100)
    assert ("/reen", "year=2026") in {(one.route, one.query) for one in noted}


def test_unreleased_figures_are_for_administrators(tmp_path: Path):
    """P5: before a month is published, readers get no use phase; an administrator does, marked so."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as data:
        fill(data)
        with Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp) as reading:
            admin = shown(reading, reading.account("admin", Role.ADMIN))
            assert "not to be published" in admin
            assert "kgCO₂e" in admin
            for token in (reading.account("reader"), DOOR_TOKEN):
                text = shown(reading, token)
                assert "CO₂e" not in text
                assert "is not published" in text
                file = reading.get("/reen?format=json", token).text
                assert "energy_millijoules" not in file
                assert "coverage_states" not in file
                assert "saving_kwh" not in file


def test_savings_are_for_accounts_of_administrators(tmp_path: Path):
    """The declared action and its saving: not for readers, the token of /metrics, or this machine."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as data:
        fill(data)
        publish_months(data, NOW.date())
        action = Action("ext-2026", ("lyon",), date(2026, 9, 1), "switched off")
        with data.store.transaction():
            data.store.follows.enter([action], "me", "", round(NOW.timestamp() * 1000))
        asked, note = "/reen?format=json", "Savings measured by site are shown"
        with Reading(data, door_token=DOOR_TOKEN, clock=NOW.timestamp) as reading:
            for token in (reading.account("reader"), DOOR_TOKEN):
                assert "ext-2026" not in reading.get(asked, token).text
                assert note in shown(reading, token)
            assert "ext-2026" in reading.get(asked, reading.account("admin", Role.ADMIN)).text
        with Reading(data, clock=NOW.timestamp) as reading:
            assert "ext-2026" not in reading.get(asked).text


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_the_commands(reading: Reading, name: str, capsys: pytest.CaptureFixture[str]):
    """Each file is what the command writes; it has comments, a heading and no row."""
    answer = reading.get(f"/reen?template={name}", DOOR_TOKEN)
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}.csv"'
    for group in ("reen", "inventory"):
        run([group, "template", name])
    assert answer.text in capsys.readouterr().out
    assert [line for line in answer.text.splitlines() if not line.startswith("#")][1:] == []
    assert f"import {name}.csv" in shown(reading, DOOR_TOKEN)


def test_there_is_no_other_template(reading: Reading):
    """An unknown name is a clear page."""
    assert reading.get("/reen?template=..%2Fca", DOOR_TOKEN).status_code == 404


def sheet(basis: str) -> Document:
    """Return a sheet with something of everything that readers may not have."""
    rows: list[Row] = [
        {
            "objective": "2",
            "indicator": "I1",
            "origin": "computed",
            "value": 0.1,
            "value_lo95": 0.05,
            "coverage_states": 0.4,
        },
        {
            "objective": "2",
            "indicator": "use_phase_kgco2e",
            "origin": "computed",
            "value": 9.0,
            "value_lo_sample": 8.0,
            "target_value": 7.0,
            "trend_ratio": 0.5,
            "restated_trend_ratio": 0.4,
            "restated_baseline_value": 6.0,
            "reached": False,
        },
        {"objective": "4", "indicator": "ours", "origin": "entered", "value": 3.0},
    ]
    return Document(
        {"kind": "reen", "basis": basis, "periods_not_derived": 3},
        (),
        {
            "rows": rows,
            "measures": [{"measure_id": "M1", "what": "x"}],
            "perimeters": [{"perimeter": "total", "kgco2e_total": 9.0}],
            "bilan": [{"year": 2026, "origin": "computed"}, {"year": 2026, "origin": "entered"}],
            "sign_off": [{"declaration": "preparer", "declared": "Alice"}],
        },
        ("rows", "sign_off"),
        assumptions=({"fr": "serveur 1234", "en": "server 1234"}, "plain"),
    )


def test_what_readers_get_of_a_released_sheet():
    """No restated baseline of the emissions, no server, no name of a person."""
    cut = for_readers(sheet("released"))
    assert cut.assumptions == ("plain",)
    assert cut.tabular == ("rows",)
    assert cut.tables.keys() == {"rows", "measures", "perimeters", "bilan"}
    assert cut.tables["measures"] == [{"measure_id": "M1", "what": "x"}]
    assert len(cut.tables["perimeters"]) == 1
    assert len(cut.tables["bilan"]) == 2
    assert cut.tables["rows"][0] == sheet("released").tables["rows"][0]
    assert cut.tables["rows"][1].keys().isdisjoint({"restated_trend_ratio", "restated_baseline_value"})
    assert cut.tables["rows"][1]["value"] == 9.0
    assert "periods_not_derived" not in cut.head


def test_what_readers_get_of_an_unreleased_sheet():
    """Released months and what was entered stay; nothing of the present machines does."""
    cut = for_readers(sheet("unreleased"))
    assert cut.tables["rows"] == [
        {"objective": "2", "indicator": "I1", "origin": "computed", "value": 0.1},
        {"objective": "2", "indicator": "use_phase_kgco2e", "origin": "computed", "target_value": 7.0},
        {"objective": "4", "indicator": "ours", "origin": "entered", "value": 3.0},
    ]
    assert cut.tables["perimeters"] == []
    assert cut.tables["bilan"] == [{"year": 2026, "origin": "entered"}]
