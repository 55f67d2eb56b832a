# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""An indicator has the same digits wherever it is read, also after late data."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.filled import Filled
from tests.support.publishing import publish_months
from tests.support.reading import Reading
from tests.support.rolled import roll, server_day, workstation_days
from veilleuse.collector import clock
from veilleuse.collector.cli import report
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.query import Basis, Query
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.store import open_reader
from veilleuse.wire.vocabulary import DeviceClass, Population

NOW: Final = datetime(2026, 2, 3, 9, tzinfo=UTC)
"""December is the last released month: it has I3."""
FIRST, END = date(2025, 1, 1), date(2026, 1, 1)
OF_PCS: Final = ("I1", "I2", "I3", "I4", "I5", "I13")
NAMES: Final = {*OF_PCS, "I6", "I7", "I8"}


def lead_to_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the collector's day be NOW's."""
    monkeypatch.setattr(clock, "today", lambda zone=UTC: NOW.astimezone(zone).date())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 24 towers of two entities and two servers, a week of each month of 2025, published."""
    directory = tmp_path_factory.mktemp("measured") / "data"
    with pytest.MonkeyPatch.context() as patch, Filled(directory, clock=NOW.timestamp) as filled:
        lead_to_today(patch)
        enrolled = date(2024, 12, 31)
        towers = [
            filled.add_host(
                Population.WORKSTATION,
                DeviceClass.TOWER,
                entity=entity,
                enrolled_on=enrolled,
                power_plan=(600, sleep),
            )
            for entity, sleep in (("A", 1200), ("B", 0))
            for _ in range(12)
        ]
        servers = [
            filled.add_host(Population.SERVER, DeviceClass.SERVER, enrolled_on=enrolled) for _ in range(2)
        ]
        for month in range(1, 13):
            monday = date(2025, month, 1 + -date(2025, month, 1).weekday() % 7)
            for number, host in enumerate(towers):
                week = monday, monday + timedelta(days=7)
                workstation_days(filled, host, *week, watts=20 + number, night_on=True)
            for host in servers:
                server_day(filled, host, date(2025, month, 10))
        filled.derive()
        roll(filled, NOW.date())
        assert publish_months(filled, NOW.date()) == []
        workstation_days(filled, towers[1], date(2025, 5, 20), date(2025, 5, 21))
        filled.derive()
        roll(filled, NOW.date())
    return directory


@pytest.fixture
def data(tmp_path: Path, measured: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filled]:
    """Open a copy of that directory."""
    lead_to_today(monkeypatch)
    copy = shutil.copytree(measured, tmp_path / "data")
    with Filled(copy, clock=NOW.timestamp) as filled:
        yield filled


def figures(rows: Any) -> dict[tuple[str | None, ...], tuple[Any, ...]]:
    """Return (indicator, population, entity, period) → what is told of each row of months."""
    names = [
        "value",
        "n",
        "numerator",
        "denominator",
        "kwh",
        "nights_on",
        "coverage_states",
        "value_lo95",
        "not_known",
        "not_judged",
    ]
    names += ["closed_bands_kwh", "open_idle_kwh", "avoidable_share"]
    keys = ("indicator", "population", "entity", "period_from", "period_to")
    return {
        tuple(map(row.get, keys)): tuple(map(row.get, names)) for row in rows if row["indicator"] in NAMES
    }


@pytest.mark.parametrize("dimensions", ["population", "entity,month"])
def test_an_indicator_is_one_figure(data: Filled, dimensions: str):
    """Command, administrator and reader read the same digits, which late data does not change."""
    url = f"/api/v1/indicators?from={FIRST}&to={END}&group_by={dimensions}"
    with Reading(data, clock=NOW.timestamp) as reading:
        answers = [reading.get(url, reading.account(role, role)).json() for role in (Role.READER, Role.ADMIN)]
        query = Query(FIRST, END, tuple(dimensions.split(",")), 10, NOW.date(), int(NOW.timestamp() * 1000))
        made = report.make_indicators(reading.settings, query)
        unreleased = reading.get(f"{url}&basis=unreleased", reading.account("again", Role.ADMIN)).json()
    told = figures(made.tables["rows"])
    assert {key[0] for key in told} == NAMES
    assert [figures(answer["rows"]) for answer in answers] == [told, told]
    heads = [made.head, *(answer["report"] for answer in answers)]
    assert {(head["basis"], head["released_until"]) for head in heads} == {("released", END.isoformat())}
    assert (unreleased["report"]["basis"], figures(unreleased["rows"]) == told) == ("unreleased", False)


def test_the_sheet_has_the_figures_of_the_reports(data: Filled):
    """I1 to I5 are those of `report indicators`; energy and emissions those of `report emissions`."""
    with Reading(data, clock=NOW.timestamp) as reading:
        settings = reading.settings
        query = Query(FIRST, END, ("population",), 10, NOW.date(), int(NOW.timestamp() * 1000))
        told = figures(report.make_indicators(settings, query).tables["rows"])
        sheet = report.reen_sheet(settings, FIRST, END)
        with open_reader(settings.data_dir) as store:
            sources = sources_of(store, settings.reporting)
            by_perimeter = Query(FIRST, END, ("perimeter",), 10, NOW.date())
            statement = emissions_report_of(sources, by_perimeter).statement
    assert sheet.head["basis"] == Basis.RELEASED
    shown = {row["indicator"]: row.get("value") for row in sheet.tables["rows"] if "indicator" in row}
    of_pcs = {key[0]: values[0] for key, values in told.items() if key[1] == Population.WORKSTATION}
    assert all(of_pcs.values())
    assert {name: shown.get(name, of_pcs[name]) for name in OF_PCS} == of_pcs
    assert shown.keys() & OF_PCS == {"I1", "I2", "I3", "I4", "I5"}
    (total,) = statement.totals
    assert sheet.tables["bilan"][0]["kgco2e_total"] == total.emissions.kgco2e_total
    expected = {row.key.perimeter: row.columns for row in statement.rows} | {"total": total.columns}
    for row in sheet.tables["perimeters"]:
        for name in ("energy_millijoules", "kwh_total", "kgco2e_total"):
            assert row[name] == expected[str(row["perimeter"])][name]


def test_published_rows_add_up_to_the_figures_of_the_machines(data: Filled):
    """I3, I4 and I6 to I8 of a quarter without late data: nothing is lost where nothing is withheld."""
    with Reading(data, clock=NOW.timestamp) as reading:
        query = Query(date(2025, 10, 1), END, ("population",), 10, NOW.date(), int(NOW.timestamp() * 1000))
        released, unreleased = (
            {(row["indicator"], row.get("population")): row for row in made.tables["rows"]}
            for made in (
                report.make_indicators(reading.settings, replace(query, basis=basis))
                for basis in (Basis.RELEASED, Basis.UNRELEASED)
            )
        )
    names = ("value", "n", "not_known", "not_judged", "suspects", "closed_bands_kwh", "open_idle_kwh")
    for key in (
        ("I3", "workstation"),
        ("I4", "workstation"),
        *((one, "server") for one in ("I6", "I7", "I8")),
    ):
        mine = {name: released[key][name] for name in names if name in released[key]}
        assert mine == pytest.approx({name: unreleased[key][name] for name in mine}), key
        assert mine["n"] == (24 if key[1] == "workstation" else 2)


def test_a_free_period_is_an_administrators(data: Filled):
    """Half a month is answered from machines, and says so; a reader gets the months inside alone."""
    url = f"/api/v1/indicators?from=2025-11-03&to={END}&group_by=population"
    with Reading(data, clock=NOW.timestamp) as reading:
        admin = reading.get(url, reading.account("admin", Role.ADMIN))
        reader = reading.get(url, reading.account("reader"))
        refused = reading.get(f"{url}&basis=unreleased", reading.account("other"))
    assert admin.json()["report"]["basis"] == "unreleased"
    of_pcs = [row for row in reader.json()["rows"] if row["population"] == "workstation"]
    assert {(row["period_from"], row["period_to"]) for row in of_pcs} == {("2025-12-01", "2026-01-01")}
    assert refused.status_code == 403
