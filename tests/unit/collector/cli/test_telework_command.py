# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Telework days and a contract, from the commands to the year's report in five formats, open and closed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.support.closed_years import (
    PERIOD,
    TODAY,
    YEAR,
    Command,
    copied,
    report,
    signed_off,
    told,
    verified,
)
from tests.support.filled import Filled
from tests.support.machines import settings_in
from tests.support.report_files import Page, bare, pdf_text, sheet_rows, workbook
from tests.support.rolled import retention, roll, server_day, workstation_days
from veilleuse.collector.app.data_directory import initialise
from veilleuse.collector.documents.document import read_columns
from veilleuse.collector.documents.text import words
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.vocabulary import DeviceClass, Population

pytestmark = pytest.mark.any_date

HEADCOUNTS = (
    "entity;from_day;users;telework_days_per_week\nEau;2024-09-01;1000000;2\nVoirie;2024-09-01;1000000;1,5\n"
)
CONTRACT = (
    *("factors", "contract", "add", "--supplier", "Énergie d'ici", "--kwh", "100000", "--factor", "0,01"),
    *("--from", "2025-01-01", "--to", "2026-01-01", "--source", "contract 2024-17", "--guarantees", "GO"),
)
COMPARED = (
    *("energy_millijoules", "kwh_total", "kgco2e_total", "kgco2e_market", "kgco2e_lo_sample"),
    *("kgco2e_hi_sample", "kgco2e_lo_sensitivity", "kgco2e_hi_sensitivity"),
    *("beges_item", "ghg_category", "beges_item_upstream", "ghg_category_upstream", "in_beges_energie"),
    *("entity", "power_context", "device_class", "n"),
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make 12 laptops of each of two entities over four weeks of 2025, and a server for a day."""
    settings = settings_in(tmp_path_factory.mktemp("year"))
    initialise(settings)
    with Filled(settings.data_dir) as filled:
        for number in range(24):
            host = filled.add_host(
                Population.WORKSTATION,
                DeviceClass.LAPTOP,
                entity="Voirie" if number % 2 else "Eau",
                enrolled_on=date(2025, 1, 1),
            )
            workstation_days(filled, host, date(2025, 1, 6), date(2025, 2, 3), watts=10 + number)
        server = filled.add_host(enrolled_on=date(2025, 3, 1))
        server_day(filled, server, date(2025, 3, 3))
        filled.derive()
        roll(filled, TODAY)
    return settings.data_dir


@pytest.fixture
def place(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> CollectorSettings:
    """Copy the template, and point the commands at the copy."""
    return copied(tmp_path, template, monkeypatch)


@pytest.fixture
def declared(place: CollectorSettings, veilleuse: Command, tmp_path: Path) -> CollectorSettings:
    """Import telework days and a contract."""
    file = tmp_path / "headcounts.csv"
    file.write_text(HEADCOUNTS, encoding="utf-8")
    told(veilleuse, "inventory", "import", str(file))
    told(veilleuse, *CONTRACT)
    return place


def by_context(found: dict[str, Any]) -> dict[tuple[str | None, str | None], dict[str, Any]]:
    """Return the rows of laptops by entity and power context."""
    return {
        (row.get("entity"), row["power_context"]): row
        for row in found["rows"]
        if row.get("device_class") == "laptop"
    }


def test_from_declaration_to_report(place, veilleuse, tmp_path):
    """Imported days divide only the laptops' rows, and the total stays the same.
    The report has each share with its entity."""
    before = report(veilleuse)
    assert (before["home_shares"], before["contracts"]) == ([], [])
    assert all("kgco2e_market" not in row for row in (*before["rows"], *before["totals"]))
    file = tmp_path / "headcounts.csv"
    file.write_text(HEADCOUNTS, encoding="utf-8")
    told(veilleuse, "inventory", "import", str(file))
    after = report(veilleuse)
    whole, parts = by_context(before), by_context(after)
    assert set(parts) == {
        (entity, context) for entity in ("Eau", "Voirie") for context in ("own_site", "home")
    }
    for entity, share in (("Eau", 0.4), ("Voirie", 0.3)):
        site, home = parts[entity, "own_site"], parts[entity, "home"]
        energy = whole[entity, "own_site"]["energy_millijoules"]
        assert site["energy_millijoules"] + home["energy_millijoules"] == energy
        assert home["energy_millijoules"] == pytest.approx(share * energy, rel=1e-4)
        assert (home["beges_item"], home["ghg_category"], home["in_beges_energie"]) == ("3.3", "3.7", False)
        assert (site["beges_item"], site["beges_item_upstream"], site["in_beges_energie"]) == (
            "2.1",
            "4.1",
            True,
        )
        widths = [
            one["kgco2e_hi_sample"] / one["kgco2e_total"] for one in (site, home, whole[entity, "own_site"])
        ]
        assert widths == pytest.approx([widths[0]] * 3, rel=1e-12)
    assert [(one["entity"], one["home_share"], one["declared_by"]) for one in after["home_shares"]] == [
        ("Eau", pytest.approx(0.4, abs=1e-4), "Eau"),
        ("Voirie", pytest.approx(0.3, abs=1e-4), "Voirie"),
    ]
    assert any("declared telework days" in note for note in after["assumptions"])
    assert after["totals"][0]["energy_millijoules"] == before["totals"][0]["energy_millijoules"]
    assert after["totals"][0]["kgco2e_total"] == before["totals"][0]["kgco2e_total"]


def test_a_contract_from_the_command_to_the_report(declared, veilleuse):
    """Energy that the authority buys has the contract's factor; energy at home does not.
    After a withdrawal there is no market line."""
    found = report(veilleuse)
    for row in found["rows"]:
        factor = 0.01 if row["in_beges_energie"] else row["factor_kgco2e_per_kwh"]
        assert row["kgco2e_market"] == pytest.approx(row["kwh_total"] * factor)
    (total,) = found["totals"]
    assert total["kgco2e_market"] == pytest.approx(sum(row["kgco2e_market"] for row in found["rows"]))
    (one,) = found["contracts"]
    bought = sum(row["kwh_total"] for row in found["rows"] if row["in_beges_energie"])
    assert (one["supplier"], one["factor_kgco2e_per_kwh"], one["source"]) == (
        "Énergie d'ici",
        0.01,
        "contract 2024-17",
    )
    assert one["kwh_covered"] == pytest.approx(bought)
    assert veilleuse("factors", "contract", "withdraw", "1", "--why", "typing error")[0] == 0
    gone = report(veilleuse)
    assert gone["contracts"] == []
    assert all("kgco2e_market" not in row for row in (*gone["rows"], *gone["totals"]))


def test_five_formats_have_one_split(declared, veilleuse, tmp_path):
    """Each row's context, items and market line are equal in JSON, CSV, XLSX and HTML to the last digit. The
    workbook has words, and the PDF the tables."""
    expected = report(veilleuse)
    files = dict(_written(veilleuse, tmp_path))
    of_csv = [row for row in csv.DictReader(files["csv"].decode().splitlines()) if row["level"] != "total"]
    book = workbook(files["xlsx"])
    of_xlsx = sheet_rows(book["Lignes"])
    page = Page(files["html"])
    of_html = page.by_row("table-1", len(expected["rows"]))
    assert len(of_csv) == len(of_xlsx) == len(expected["rows"]) == 5
    for wanted, from_csv, from_xlsx, from_html in zip(
        expected["rows"], of_csv, of_xlsx, of_html, strict=True
    ):
        for name in COMPARED:
            value = wanted.get(name)
            assert from_csv.get(name, "") == _as_csv(value), name
            said = words("fr").word(read_columns()[name].words, value) if isinstance(value, str) else value
            assert from_xlsx.get(name) == said, name
            if name in from_html and isinstance(value, float):
                assert float(from_html[name].raw or "") == value
    assert [
        (row["beges_item"].split()[0], row["kgco2e_total"])
        for row in sheet_rows(book["Postes du bilan carbone"])
    ] == [(one["beges_item"], one["kgco2e_total"]) for one in expected["items"]]
    assert {one["beges_item"] for one in expected["items"]} == {"2.1", "4.1", "3.3"}
    assert [row["home_share"] for row in sheet_rows(book["Télétravail déclaré"])] == pytest.approx(
        [0.4, 0.3], abs=1e-4
    )
    assert [row["contract_id"] for row in sheet_rows(book["Contrats d’électricité"])] == [1]
    text = pdf_text(files["pdf"])
    for said in ("Télétravail déclaré", "Postes du bilan carbone", "Contrats d’électricité", "40,0"):
        assert bare(said) in text
        assert bare(said) in bare(page.text)


def _written(veilleuse: Command, folder: Path) -> Iterator[tuple[str, bytes]]:
    for form in ("csv", "xlsx", "html", "pdf"):
        file = folder / f"report.{form}"
        code, _, err = veilleuse("report", "emissions", *PERIOD, "--format", form, "-o", str(file))
        assert code == 0, err
        yield form, file.read_bytes()


def _as_csv(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_a_closed_year_keeps_its_split(declared, veilleuse, tmp_path):
    """A closed year verifies and shows the same rows, items and shares, even when every machine's rows are
    deleted and other days are declared. Its item at home is from memory until somebody names it."""
    refused = told(veilleuse, "close", str(YEAR), *signed_off(declared), code=1)["open_points"]
    (command,) = [one.partition("run '")[2].rstrip("'") for one in refused if "is from memory" in one]
    assert told(veilleuse, *command.split()[1:])["from_memory"] == ["hosted=4.5/3.1"]
    opened = report(veilleuse)
    told(veilleuse, "close", str(YEAR), *signed_off(declared))
    closed, totals = report(veilleuse), verified(told(veilleuse, "verify", str(YEAR)))
    for table in ("items", "home_shares", "contracts"):
        assert closed[table] == opened[table]
    assert {name: row["energy_millijoules"] for name, row in by_context(closed).items()} == {
        name: row["energy_millijoules"] for name, row in by_context(opened).items()
    }
    with Filled(declared.data_dir) as filled:
        retention(filled, closed_years=filled.store.closings.definitive_years()).run(date(2032, 1, 1))
    file = tmp_path / "later.csv"
    file.write_text(HEADCOUNTS.replace("1000000;2", "1000000;4"), encoding="utf-8")
    told(veilleuse, "inventory", "import", str(file))
    assert verified(told(veilleuse, "verify", str(YEAR))) == totals
    after = report(veilleuse)
    for table in ("rows", "totals", "items", "home_shares", "contracts"):
        assert after[table] == closed[table]
    by_site = report(veilleuse, "--group-by", "site")
    assert sum(row["energy_millijoules"] for row in by_site["rows"] if row["power_context"] == "home") == sum(
        row["energy_millijoules"] for row in closed["rows"] if row["power_context"] == "home"
    )


def test_other_days_declared_make_a_revision(declared, veilleuse, tmp_path):
    """While machines' data exist, the same declaration makes no revision, and another one does."""
    told(veilleuse, "close", str(YEAR))
    assert told(veilleuse, "close", str(YEAR))["changed"] is False
    file = tmp_path / "later.csv"
    file.write_text(HEADCOUNTS.replace("1000000;2", "1000000;4"), encoding="utf-8")
    told(veilleuse, "inventory", "import", str(file))
    second = told(veilleuse, "close", str(YEAR), "--why", "days corrected")
    assert (second["written"], second["revision"]) == (True, 2)
    assert [one["home_share"] for one in report(veilleuse)["home_shares"]] == pytest.approx(
        [0.8, 0.3], abs=1e-4
    )
    verified(told(veilleuse, "verify", str(YEAR)))
