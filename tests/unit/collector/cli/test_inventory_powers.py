# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse inventory powers …`: a declared power is chosen, said, and displaces no measurement."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.closed_years import lead_commands_to
from tests.support.filled import Filled
from tests.support.inventories import Listed, put_inventory
from tests.support.machines import settings_in
from tests.support.numecoeval import equipment, faults, total_millijoules
from tests.support.publishing import publish_months
from tests.support.rolled import roll, workstation_days
from veilleuse.collector import clock
from veilleuse.collector.app.data_directory import initialise
from veilleuse.collector.cli.main import run
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.vocabulary import DeviceClass, Population

pytestmark = pytest.mark.any_date

NOW: Final = datetime(2026, 2, 3, 9, tzinfo=UTC)
LIST: Final = (
    '"Nom";"Type";"ID";"Puissance consommée"\n"a";"Switch";"1";"65 W"\n"b";"Routeur";"2";"45 W"\n'
    '"c";"Routeur";"3";"55 W"\n'
)
TOWERS: Final = '"Nom";"Type";"ID";"Puissance consommée"\n"t";"Tour";"1";"400 W"\n'
HOURS: Final = 365 * 24


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a year of 12 measured towers, and of listed switches and routers; nothing is declared yet."""
    return filled(tmp_path_factory.mktemp("measured"), 1)


@pytest.fixture
def settings(tmp_path: Path, measured: Path, monkeypatch: pytest.MonkeyPatch) -> CollectorSettings:
    """Lead the commands to a copy of that year."""
    return led_to(tmp_path, measured, monkeypatch)


def led_to(folder: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> CollectorSettings:
    """Copy a data directory below `folder`, and lead the commands to it on the day NOW."""
    found = settings_in(folder)
    shutil.copytree(template, found.data_dir)
    lead_commands_to(found, monkeypatch)
    monkeypatch.setattr(clock, "today", lambda zone=UTC: NOW.astimezone(zone).date())
    return found


def filled(folder: Path, first_month: int) -> Path:
    """Fill a year whose towers are measured from `first_month` on, and publish it; return its directory."""
    found = settings_in(folder)
    initialise(found, site="lyon")
    with Filled(found.data_dir, clock=NOW.timestamp) as data:
        towers = [
            data.add_host(
                Population.WORKSTATION,
                DeviceClass.TOWER,
                site="lyon",
                entity="Eau",
                enrolled_on=date(2024, 12, 31),
            )
            for _ in range(12)
        ]
        listed = [Listed((one,), "Eau", "tower", Population.WORKSTATION) for one in towers]
        listed += [Listed((), "Eau", name) for name in ("switch", "switch", "other", "other", "other")]
        put_inventory(data, listed, date(2025, 1, 2))
        for month in range(first_month, 13):
            monday = date(2025, month, 1) + timedelta(-date(2025, month, 1).weekday() % 7)
            for number, host in enumerate(towers):
                workstation_days(data, host, monday, monday + timedelta(days=7), watts=20 + number)
        data.derive()
    publish(found)
    return found.data_dir


def publish(settings: CollectorSettings) -> None:
    """Publish the months that are due, as the collector does each day."""
    with Filled(settings.data_dir, clock=NOW.timestamp) as filled:
        roll(filled, NOW.date())
        assert publish_months(filled, NOW.date()) == []


def told(folder: Path, basis: str) -> dict[str, Any]:
    """Return the report of the year: rows by class, head and notes."""
    file = folder / "r.json"
    words = ("--from", "2025-01-01", "--to", "2026-01-01", "--language", "en", "--basis", basis)
    assert run(["report", "emissions", *words, "--format", "json", "-o", str(file)]) == 0
    found = json.loads(file.read_text())
    notes = [note for note in found["assumptions"] if "another inventory declared" in str(note)]
    return {
        "rows": {row["device_class"]: row for row in found["rows"]},
        "head": found["report"],
        "notes": notes,
    }


def imported(folder: Path, text: str, *words: str) -> int:
    """Import a list of network equipment; return the exit code."""
    file = folder / "glpi.csv"
    file.write_text(text)
    return run(["inventory", "powers", "import", str(file), "--format", "glpi-carbon", *words])


NETWORK: Final = ("--item", "network_equipment")


@pytest.mark.parametrize("basis", ["unreleased", "released"])
def test_a_declared_power_stands_in_where_nothing_is_known(
    tmp_path: Path, settings: CollectorSettings, capsys: pytest.CaptureFixture[str], basis: str
):
    """`other` gets an energy, with its basis, pedigree, wide interval and a note; a switch keeps our default.

    Named with --replace it gives way, and removed everything is as before. No other digit changes.
    """
    before = told(tmp_path, basis)
    assert (
        "energy_millijoules" not in before["rows"]["other"]
        or before["rows"]["other"]["energy_millijoules"] == 0
    )
    assert (before["rows"]["switch"]["basis"], before["notes"]) == ("class_default", [])

    assert imported(tmp_path, LIST, *NETWORK, "--dry-run") == 3
    assert "dry run: nothing was changed" in capsys.readouterr().out
    assert run(["inventory", "powers", "list"]) == 0
    assert "no power is declared" in capsys.readouterr().err

    assert imported(tmp_path, LIST, *NETWORK) == 3
    assert "not taken: switch, 65 W: the shipped default stays" in capsys.readouterr().out
    publish(settings)
    now = told(tmp_path, basis)
    other = now["rows"].pop("other")
    assert other["kwh_total"] == pytest.approx(3 * 50 * HOURS / 1000)
    assert (other["basis"], other["n"], other["n_fleet"]) == ("declared_power", 0, 3)
    assert other["pedigree"].startswith("reliability=1 technicalRepresentativeness=1")
    ends = (
        other.get("kwh_lo95", other.get("kwh_lo_sample")),
        other.get("kwh_hi95", other.get("kwh_hi_sample")),
    )
    assert [end / other["kwh_total"] for end in ends] == pytest.approx([1 / 3.89, 3.89], rel=0.01)
    assert (now["head"]["declared_powers"], len(now["notes"])) == (["other"], 1)
    before["rows"].pop("other")
    assert now["rows"] == before["rows"], "a measurement and a better default stay as they are"

    assert imported(tmp_path, LIST, *NETWORK, "--replace", "switch") == 0
    publish(settings)
    replaced = told(tmp_path, basis)["rows"]
    assert (replaced["switch"]["basis"], replaced["tower"]) == ("declared_power", before["rows"]["tower"])
    assert replaced["switch"]["kwh_total"] == pytest.approx(2 * 65 * HOURS / 1000)

    for name in ("switch", "other"):
        assert run(["inventory", "powers", "remove", name]) == 0
    publish(settings)
    last = told(tmp_path, basis)
    last["rows"].pop("other")
    assert (last["rows"], last["notes"]) == (before["rows"], [])
    assert run(["inventory", "powers", "remove", "switch"]) == 1
    assert "no declared power of 'switch'" in capsys.readouterr().err


def test_a_declared_power_displaces_no_measurement(tmp_path: Path, settings: CollectorSettings):
    """What was observed of towers stays to the millijoule, even where their default was asked to give way."""
    before = told(tmp_path, "released")["rows"]["tower"]
    assert imported(tmp_path, TOWERS, "--replace", "tower") == 3, "nobody said how long it is on"
    assert imported(tmp_path, TOWERS, "--replace", "tower", "--hours-on", "8") == 0
    publish(settings)
    now = told(tmp_path, "released")["rows"]["tower"]
    observed = [row["energy_millijoules"] - row["extrapolated_millijoules"] for row in (before, now)]
    assert observed[0] == observed[1] > 0
    assert (now["basis"], now["extrapolated_millijoules"] > before["extrapolated_millijoules"]) == (
        "sample",
        True,
    )


def test_a_row_that_is_mostly_declared_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Towers measured from September on are no sample of a year that is eight months of declared powers.

    A class without a device, and a power that is in no energy, are not named.
    """
    settings = led_to(tmp_path, filled(tmp_path / "made", 9), monkeypatch)
    assert told(tmp_path, "released")["rows"]["tower"]["basis"] == "sample"
    projector = '"p";"Vidéoprojecteur";"2";"300 W"\n'
    assert imported(tmp_path, TOWERS + projector, "--hours-on", "8", "--replace", "projector") == 3
    publish(settings)
    unused = told(tmp_path, "released")
    assert (unused["rows"]["tower"]["basis"], unused["head"].get("declared_powers")) == ("sample", None)
    assert imported(tmp_path, TOWERS, "--hours-on", "8", "--replace", "tower") == 0
    publish(settings)
    now = told(tmp_path, "released")
    assert (now["rows"]["tower"]["basis"], now["head"]["declared_powers"]) == ("declared_power", ["tower"])
    assert now["rows"]["tower"]["n"] == 12


def test_a_power_declared_before_stays(
    tmp_path: Path, settings: CollectorSettings, capsys: pytest.CaptureFixture[str]
):
    """Without --replace a second import does not change it, and the shipped default is not what stays."""
    assert imported(tmp_path, LIST, *NETWORK, "--replace", "switch") == 0
    assert imported(tmp_path, LIST.replace("65", "75"), *NETWORK) == 3
    assert "not taken: switch, 75 W: the power declared before stays" in capsys.readouterr().out
    assert run(["inventory", "powers", "list", "--json"]) == 0
    powers = json.loads(capsys.readouterr().out)["powers"]
    assert {one["device_class"]: one["milliwatts"] for one in powers} == {"switch": 65_000, "other": 50_000}


def test_the_file_for_numecoeval_names_the_basis(tmp_path: Path, settings: CollectorSettings):
    """What only somebody declared is said in nomSourceDonnee."""
    assert imported(tmp_path, LIST, *NETWORK) == 3
    publish(settings)
    file = tmp_path / "e.csv"
    words = ("--from", "2025-01-01", "--to", "2026-01-01", "-o", str(file))
    assert run(["report", "numecoeval", *words]) == 0
    content = file.read_bytes()
    assert faults(content) == []
    sources = {row["modele"]: row["nomSourceDonnee"].partition("12-31_")[2] for row in equipment(content)}
    assert sources == {"other": "declared_power", "switch": "class_default", "tower": "sample"}
    assert total_millijoules(equipment(content)) > 0


def test_what_cannot_be_taken_is_refused(
    tmp_path: Path, settings: CollectorSettings, capsys: pytest.CaptureFixture[str]
):
    """A wrong option or file changes nothing, and says what to do; --json has every refusal."""
    for words, said in (
        (("--item", "chair"), "--item 'chair': use computer, monitor, network_equipment"),
        (("--replace", "toaster"), "--replace 'toaster': use laptop"),
        (("--unit", "kWh"), "--unit 'kWh': use J, Wh"),
        (("--column", "Watts"), "has no column Watts"),
    ):
        assert imported(tmp_path, LIST, *words) == 2
        assert said in capsys.readouterr().err
    again = tmp_path / "again.csv"
    again.write_text(LIST)
    assert imported(tmp_path, LIST, str(again), *NETWORK) == 2
    assert "again.csv holds the same as" in capsys.readouterr().err
    assert imported(tmp_path, TOWERS.replace("400", "4000"), "--dry-run") == 3
    assert "4000 W for tower: one draws 7.2 to 720 W while on" in capsys.readouterr().out
    wrong = LIST.replace("55 W", "much")
    assert imported(tmp_path, wrong, *NETWORK, "--dry-run", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["refused"], found["classes"][0]["taken"]["milliwatts"]) == (3, 1, 45_000)
    assert found["refused_rows"][0]["where"] == "glpi.csv, line 4"
    assert told(tmp_path, "released")["head"].get("declared_powers") is None
