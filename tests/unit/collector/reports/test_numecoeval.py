# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The file for NumEcoEval is valid row by row, and has the energy of the report, to the millijoule."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.closed_years import lead_commands_to
from tests.support.filled import Filled
from tests.support.hostile import EVERYTHING
from tests.support.machines import settings_in
from tests.support.numecoeval import COUNTRIES, equipment, faults, millijoules, total_millijoules
from tests.support.publishing import publish_months
from tests.support.reading import DOOR_TOKEN, Reading
from tests.support.rolled import roll, server_day, workstation_days
from veilleuse.collector import clock
from veilleuse.collector.app.data_directory import initialise
from veilleuse.collector.cli.main import run
from veilleuse.collector.documents.document import Document
from veilleuse.collector.errors import UsageError
from veilleuse.collector.factors.static import APART, country_of, zone_names
from veilleuse.collector.inventory.mapping import DEVICE_CLASSES
from veilleuse.collector.model.query import AUTRES
from veilleuse.collector.reports.exchange.numecoeval import COUNTRIES as OTHER_NAMES
from veilleuse.collector.reports.exchange.numecoeval import TYPES, equipment_file, kwh_each
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.vocabulary import DeviceClass, Population

pytestmark = pytest.mark.any_date

NOW: Final = datetime(2026, 2, 3, 9, tzinfo=UTC)
PERIOD: Final = ("--from", "2025-01-01", "--to", "2026-01-01")


def fill(folder: Path, machines: int, first_month: int) -> CollectorSettings:
    """Fill and publish the months of 2025 from `first_month` on: towers of two entities, and two servers."""
    with Filled(folder, clock=NOW.timestamp) as filled:
        enrolled = date(2025, first_month, 1)
        towers = [
            filled.add_host(Population.WORKSTATION, DeviceClass.TOWER, entity=entity, enrolled_on=enrolled)
            for entity in ("Métropole > Eau", "Métropole > Déchets; =1+1")
            for _ in range(machines // 2)
        ]
        servers = [
            filled.add_host(Population.SERVER, DeviceClass.SERVER, enrolled_on=enrolled) for _ in range(2)
        ]
        for month in range(first_month, 13):
            monday = date(2025, month, 1) + timedelta(-date(2025, month, 1).weekday() % 7)
            for number, host in enumerate(towers):
                workstation_days(filled, host, monday, monday + timedelta(days=7), watts=20 + number)
            for host in servers:
                server_day(filled, host, date(2025, month, 10))
        filled.derive()
        roll(filled, NOW.date())
        publish_months(filled, NOW.date())
    return CollectorSettings(data_dir=folder)


def asked(settings: CollectorSettings, period: Iterable[str], *words: str) -> tuple[bytes, dict[str, Any]]:
    """Return the file, and the report of the same question."""
    file, told = settings.data_dir.parent / "e.csv", settings.data_dir.parent / "e.json"
    assert run(["report", "numecoeval", *period, *words, "-o", str(file)]) == 0
    assert run(["report", "emissions", *period, *words, "--format", "json", "-o", str(told)]) == 0
    return file.read_bytes(), json.loads(told.read_text())


@pytest.mark.parametrize("machines", [24, 6], ids=["many machines", "fewer than k"])
def test_a_released_year_is_valid_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], machines: int
):
    """Every row is as G4IT prescribes and has the report's machines and energy; so has the sum."""
    monkeypatch.setattr(clock, "today", lambda zone=UTC: NOW.astimezone(zone).date())
    settings = fill(tmp_path / "data", machines, 1)
    lead_commands_to(settings, monkeypatch)
    for words in ((), ("--level", "1")):
        content, told = asked(settings, PERIOD, *words)
        rows = equipment(content)
        assert faults(content) == []
        assert sorted((row["modele"], Decimal(row["quantite"]), millijoules(row)) for row in rows) == sorted(
            (row["device_class"], row["n_fleet"], row["energy_millijoules"]) for row in told["rows"]
        )
        assert total_millijoules(rows) == told["totals"][0]["energy_millijoules"] > 0
        assert {row["nomSourceDonnee"][:31] for row in rows} == {"Veilleuse_2025-01-01_2025-12-31"}
        of_towers = {row["nomSourceDonnee"][32:] for row in rows if row["modele"] == "tower"}
        assert of_towers == {"sample" if machines >= 10 else "class_default"}
    assert "NumEcoEval reads" not in capsys.readouterr().err


def test_a_part_of_a_year_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A fleet's first year has a file, of the year and of its rest from June on, which says what it is of.

    A year that is not released, and another part, are refused.
    """
    monkeypatch.setattr(clock, "today", lambda zone=UTC: NOW.astimezone(zone).date())
    settings = fill(tmp_path / "data", 24, 6)
    lead_commands_to(settings, monkeypatch)
    energies = []
    for first in ("2025-01-01", "2025-06-01"):
        content, told = asked(settings, ("--from", first, "--to", "2026-01-01"))
        assert faults(content) == []
        energies.append(total_millijoules(equipment(content)))
        assert energies[-1] == told["totals"][0]["energy_millijoules"] > 0
        assert "the kWh are of 2025-06-01 to 2025-12-31" in capsys.readouterr().err
        rows = equipment(content)
        assert {row["nomSourceDonnee"][:31] for row in rows} == {"Veilleuse_2025-06-01_2025-12-31"}
        assert sum(Decimal(row["quantite"]) for row in rows) == 26
    assert energies[0] == energies[1], "nothing was in service before June"
    for first, end, why in (
        ("2024-01-01", "2025-01-01", "2024-01 is not released: begin with the first released month"),
        ("2025-06-01", "2025-09-01", "ask for one that ends on 2026-01-01"),
    ):
        words = ("--from", first, "--to", end, "-o", str(tmp_path / "no.csv"))
        assert run(["report", "numecoeval", *words]) == 2
        assert why in capsys.readouterr().err
    assert not (tmp_path / "no.csv").exists()


def test_the_page_gives_the_file_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Byte for byte: of a first year from June on, and of the closed one, with its revision."""
    monkeypatch.setattr(clock, "today", lambda zone=UTC: NOW.astimezone(zone).date())
    settings = settings_in(tmp_path)
    initialise(settings)
    fill(settings.data_dir, 24, 6)
    lead_commands_to(settings, monkeypatch)
    for revision in ("", "_2025-r1"):
        if revision:
            assert run(["close", "2025"]) == 3, "provisionally: nobody signed it off"
        content, _ = asked(settings, PERIOD)
        with (
            Filled(settings.data_dir, clock=NOW.timestamp) as filled,
            Reading(filled, door_token=DOOR_TOKEN, clock=NOW.timestamp) as reading,
        ):
            reader = reading.account(f"reader{revision}")
            answer = reading.get("/bilan?year=2025&format=numecoeval", reader)
        assert answer.content == content
        (named,) = {
            row["nomSourceDonnee"].removesuffix("_sample")
            for row in equipment(content)
            if row["modele"] == "tower"
        }
        assert named == f"Veilleuse_2025-06-01_2025-12-31{revision}"
        name = answer.headers["content-disposition"].partition("filename=")[2]
        assert name == '"veilleuse-2025-numecoeval-2025-06-01-2025-12-31.csv"'


ROW: Final = {
    "level": "row", "entity": "Métropole", "population": "workstation", "device_class": "laptop", "zone": "FR",
    "power_context": "own_site", "n_fleet": 111, "energy_millijoules": 4_709_221_491_506, "basis": "sample",
}  # fmt: skip


def document(*rows: dict[str, Any]) -> Document:
    """Return the report of a released year."""
    head = {"from": "2025-01-01", "to": "2026-01-01", "basis": "released", "released_until": "2026-01-01"}
    return Document(head=head, columns=(), tables={"rows": rows}, tabular=("rows",))


def test_a_laptop_at_home_is_one_machine():
    """Rows on site and at home count the same machines: the file has them once, with the energy of both.

    Each has its part of their time.
    """
    on_site = ROW | {"machine_days_fleet": 111 * 365 * 0.9}
    at_home = ROW | {"power_context": "home", "energy_millijoules": 1_487_122_576_250}
    at_home |= {"machine_days_fleet": 111 * 365 * 0.1}
    (row,) = equipment(equipment_file(document(on_site, at_home)).content)
    assert (row["quantite"], row["type"]) == ("111", "Laptop")
    assert millijoules(row) == 4_709_221_491_506 + 1_487_122_576_250


def test_machines_that_move_count_once():
    """Laptops of another entity from November on are 12 in the sum, not 12 twice; no time is not zero."""
    former = ROW | {"n_fleet": 12, "entity": "Culture", "machine_days_fleet": 12 * 304.0}
    later = former | {"entity": "Nouveau", "machine_days_fleet": 12 * 61.0, "energy_millijoules": 36}
    one_hour = former | {"entity": "Eau", "n_fleet": 1, "machine_days_fleet": 1 / 24}
    content = equipment_file(document(former, later, one_hour)).content
    assert faults(content) == []
    rows = {row["nomEntite"]: row for row in equipment(content)}
    assert [rows[name]["quantite"] for name in ("Culture", "Nouveau", "Eau")] == [
        "9.9945",
        "2.0055",
        "0.0001",
    ]
    assert [millijoules(rows[name]) for name in ("Culture", "Nouveau")] == [4_709_221_491_506, 36]


def test_a_month_of_summer_time_is_no_part_of_a_machine():
    """From January to September an hour is lacking: 14 machines stay 14."""
    row = ROW | {"n_fleet": 14, "machine_days_fleet": 14 * (273 - 1 / 24)}
    made = document(row)
    until = replace(made, head={**made.head, "released_until": "2025-10-01"})
    (item,) = equipment(equipment_file(until).content)
    assert item["quantite"] == "14"


@pytest.mark.parametrize(("listed", "measured", "told"), [(9, 14, "9"), (0, 14, "14"), (0, 0, "1")])
def test_screens_are_those_of_the_inventory_or_the_measured_ones(listed: int, measured: int, told: str):
    """Their row has no time of its own, and n_fleet is 0 where no inventory lists them."""
    screens = ROW | {"device_class": "monitor", "n_fleet": listed, "n": measured}
    (row,) = equipment(equipment_file(document(screens)).content)
    assert (row["quantite"], millijoules(row)) == (told, ROW["energy_millijoules"])


def test_what_the_report_does_not_know_stays_empty():
    """A class without energy has an empty cell, not zero; the user is told of how many machines."""
    other = {name: value for name, value in ROW.items() if name != "energy_millijoules"}
    made = equipment_file(
        document(ROW, other | {"device_class": "other", "n_fleet": 7, "machine_days_fleet": 6.5 * 365})
    )
    assert faults(made.content) == []
    assert [row["consoElecAnnuelle"] == "" for row in equipment(made.content)] == [False, True]
    assert made.machines_without_energy == 7


def test_what_a_room_has_beside_its_machines_is_one_item():
    """It lists no machines, and G4IT refuses a quantity of zero."""
    room = ROW | {
        "device_class": "other_room",
        "population": "server",
        "n_fleet": 0,
        "energy_millijoules": 36,
    }
    (row,) = equipment(equipment_file(document({**room, "entity": ""})).content)
    assert (row["quantite"], row["nomEntite"], millijoules(row)) == ("1", "", 36)


def test_names_of_other_people_do_no_harm():
    """Every hostile or endless entity gives a valid row, and names are unique and the same every time."""
    every = [ROW | {"entity": f"{name} > {name}"} for name in EVERYTHING]
    once, again = (equipment_file(document(*rows)).content for rows in (every, every[::-1]))
    assert faults(once) == []
    assert {row["nomEquipementPhysique"] for row in equipment(once)} == {
        row["nomEquipementPhysique"] for row in equipment(again)
    }
    assert len(equipment(once)) > len(EVERYTHING) * 0.9, "names that are plain text stay apart"


@pytest.mark.parametrize(
    "quantity", ["0.0001", "0.9999", "1", "7", "9.9945", "10", "99", "12000.0027", "999999"]
)
def test_a_row_gives_its_millijoules_back(quantity: str):
    """Whatever the number of machines, the written kWh times it is the group's energy to the millijoule."""
    for energy in (0, 1, 36, 3_599_999_999, 10**12 + 7, 9 * 10**15 + 1, 10**18 + 3):
        row = {"consoElecAnnuelle": kwh_each(energy, Decimal(quantity)), "quantite": quantity}
        assert millijoules(row) == energy, row
        assert "E" not in row["consoElecAnnuelle"]


def test_every_class_and_country_is_one_of_theirs():
    """Each class of an inventory has a type; each country of G4IT that the shipped factors have, its name."""
    assert set(TYPES) == {*DEVICE_CLASSES, AUTRES, "other_room"} - {"virtual_machine"}
    for device_class in TYPES:
        assert faults(equipment_file(document(ROW | {"device_class": device_class})).content) == []
    zones = set(zone_names().values())
    shown = {OTHER_NAMES.get(zone) or country_of(zone) for zone in zones - set(APART)}
    assert COUNTRIES - shown == {"Europe", "Netherlands Antilles", "unspecified"}
    for zone in ("RE", "FR-20R", "XX"):
        with pytest.raises(UsageError, match=f"zone {zone} is no country"):
            equipment_file(document(ROW | {"zone": zone}))
