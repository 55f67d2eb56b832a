# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse action`, `veilleuse reen` and `veilleuse report reen|indicators` on a real data directory."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.support.closed_years import Command, lead_commands_to, told
from tests.support.filled import Filled
from tests.support.machines import served, settings_in
from tests.support.publishing import publish_months
from tests.support.rolled import retention, server_day, workstation, workstation_days
from tests.unit.collector.reports.test_savings import DAY
from veilleuse.collector.app.data_directory import initialise
from veilleuse.collector.calendars.periods import months_before
from veilleuse.collector.inventory.actions_csv import KINDS, checked, read, template
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.vocabulary import DeviceClass, Population

pytestmark = pytest.mark.any_date

HALF_YEAR = ("--from", "2025-07-01", "--to", "2026-01-01")
OBJECTIVES = """objective;indicator;baseline_year;baseline_value;target_year;target_value;pilot;means_eur;status;source;current_year;current_value;unit;direction
2°;I1;2023;0,30;2027;0,05;DSI;12 500;en cours;;;;;
4;Agents sensibilisés;2024;100;2027;1000;DRH;;under_way;Bilan RH 2025;2025;450;agents;higher
"""
ITEMS = """year;item;part;tco2e;uncertainty_percent;in_whole;source
2024;Bilan numérique 2024;whole;2 103;;;Bilan carbone du numérique, 2025
2024;Fabrication des équipements;manufacture;1577,25;30;oui;Bilan carbone du numérique, 2025
"""


def written(tmp_path: Path, name: str, text: str) -> str:
    """Write a file and return its path."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)


def test_a_dry_run_then_the_import_then_again(lyon: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """A dry run and a second import change nothing. Lines missing from a later file stay and are reported,
    unless --replace is given."""
    file = written(tmp_path, "objectives.csv", OBJECTIVES)
    assert told(veilleuse, "reen", "import", file, "--dry-run")["new"] == ["2, I1", "4, Agents sensibilisés"]
    assert told(veilleuse, "reen", "list", "objectives") == []
    assert len(told(veilleuse, "reen", "import", file, "--why", "budget 2027")["new"]) == 2
    again = told(veilleuse, "reen", "import", file)
    assert (again["new"], again["changed"], again["gone"]) == ([], [], [])
    first, _ = told(veilleuse, "reen", "list", "objectives")
    assert first == {
        "objective": "2",
        "indicator": "I1",
        "baseline_year": "2023",
        "baseline_value": "0.30",
        "target_year": "2027",
        "target_value": "0.05",
        "pilot": "DSI",
        "means_eur": "12500",
        "status": "under_way",
    }
    shorter = written(
        tmp_path, "objectives.csv", "\n".join(OBJECTIVES.splitlines()[:2]).replace("0,05", "0,04")
    )
    found = told(veilleuse, "reen", "import", shorter, code=3)
    assert (found["changed"], found["not_named"]) == (["2, I1"], ["4, Agents sensibilisés"])
    assert told(veilleuse, "reen", "import", shorter, "--replace")["gone"] == ["4, Agents sensibilisés"]
    assert len(told(veilleuse, "reen", "list", "objectives")) == 1


def test_a_refused_row_keeps_all_of_its_file_out(lyon: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """Each refusal gives line, column, reason and remedy, and nothing is imported."""
    text = (
        ITEMS
        + "2024;Réseaux;networks;12;;;x\n2024;Cloud;cloud;1.234;;;x\n2024;Cloud;cloud;-3;;;x\n2024;;cloud;3;;;x\n2024;X\n"
    )
    code, out, err = veilleuse("reen", "import", written(tmp_path, "other_items.csv", text))
    assert (code, out) == (1, "")
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "other_items.csv, line 4, part",
        "other_items.csv, line 5, tco2e",
        "other_items.csv, line 6, tco2e",
        "other_items.csv, line 7, item",
        "other_items.csv, line 8",
        "nothing was imported",
    ]
    assert "'networks' is none of the words for it: use whole" in err
    assert told(veilleuse, "reen", "list", "other_items") == []


@pytest.mark.parametrize(
    ("heading", "row", "refused"),
    [
        ("objective;indicator;current_value;current_year;source", "2;I3;0,5;2025;x", "I3 is computed"),
        ("objective;indicator;current_value", "2;Formations;12", "has a year and a source"),
        ("objective;indicator;target_value", "2;I1;0,05", "one of the two is blank"),
        ("objective;indicator", "7;I1", "is no objective"),
        ("objective;indicator;population", "2;I1;pupils", "none of the words"),
        ("action_id;sites;from_day;what", "a;;2026-01-01;x", "it is blank"),
        ("action_id;sites;from_day;what", "a;Lyon;soon;x", "is no date"),
        ("year;entity;units", "2026;;-3", "no whole number"),
        ("measure_id;objective;what;status", "m;1;x;perhaps", "none of the words"),
    ],
)
def test_cells_are_checked(heading: str, row: str, refused: str):
    """Invalid cells are refused by row and column."""
    found = read(f"{heading}\n{row}\n".encode(), "f.csv")
    assert not found.lines
    assert refused in found.refusals[0].what


def test_a_key_named_twice_is_refused():
    """The second line of a key is refused."""
    found = read(b"objective;indicator\n2;I1\n2\xc2\xb0;I1\n", "f.csv")
    assert (len(found.lines), len(found.refusals)) == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_templates_are_read_back(kind: str):
    """An empty template is a file of its kind without lines, and describes each column."""
    found = read(template(kind).encode(), f"{kind}.csv")
    assert (found.kind, found.lines, found.refusals) == (kind, (), ())
    assert all(f"# {name}: " in template(kind) for name in KINDS[kind])


def test_what_was_read_can_be_read_again():
    """The collector can check stored cells again."""
    found = read(ITEMS.encode(), "f.csv")
    assert [checked(found.kind, line.cells) for line in found.lines] == list(found.lines)


def test_unknown_files_and_columns_are_told(lyon: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """The error suggests the nearest name."""
    code, _, err = veilleuse("reen", "import", written(tmp_path, "x.csv", "a;b\n1;2\n"))
    assert (code, "a heading of none of objectives" in err) == (2, True)
    code, _, err = veilleuse(
        "reen", "import", written(tmp_path, "x.csv", "objective;indicator;pilote\n1;I8;x\n")
    )
    assert (code, "did you mean 'pilot'" in err) == (2, True)
    assert veilleuse("reen", "template", "nothing")[0] == 2
    assert veilleuse("reen", "list", "nothing")[0] == 2


def test_actions_are_entered_and_withdrawn(lyon: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """Actions are entered singly or by a file, with a running collector or without.
    An unknown site is refused with the known ones."""
    add = ("action", "add", "a1", "--site", "Lyon", "--from", "2026-01-01", "--what", "Extinction à 20 h")
    assert veilleuse(*add)[:2] == (0, "action a1 entered\n")
    assert veilleuse(*add)[:2] == (0, "action a1 is known already\n")
    code, _, err = veilleuse("action", "add", "a2", "--site", "Brest", "--from", "2026-01-01", "--what", "x")
    assert (code, "no site 'Brest': use Lyon" in err) == (2, True)
    with served(lyon):
        file = written(tmp_path, "actions.csv", "action_id;sites;from_day;what\na2;Lyon;01/02/2026;Veille\n")
        found = told(veilleuse, "reen", "import", file, code=3)
        assert (found["new"], found["not_named"]) == (["a2"], ["a1"])
        assert veilleuse("action", "withdraw", "a1", "--why", "given up")[0] == 0
        assert veilleuse("action", "withdraw", "a1", "--why", "given up")[0] == 1
    first, second = told(veilleuse, "action", "list")
    assert (first["withdrawn"], first["withdrawn_why"]) == (True, "given up")
    assert (second["action_id"], second["sites"], second["from_day"]) == ("a2", ["Lyon"], "2026-02-01")


# --- reports


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> CollectorSettings:
    """Make twelve towers on all night over the second half of 2025, three at another site, and a server in
    December; months are kept."""
    settings = settings_in(tmp_path_factory.mktemp("fleet"))
    initialise(settings, site="lyon")
    with Filled(settings.data_dir) as filled:
        filled.add_site("oullins")
        for number in range(12):
            one = workstation(filled, "oullins" if number < 3 else "lyon")
            workstation_days(filled, one, date(2025, 6, 30), date(2026, 1, 5), night_on=True)
        server = filled.add_host(Population.SERVER, DeviceClass.SERVER)
        for day in range(1, 29):
            server_day(filled, server, date(2025, 12, day))
        filled.derive()
        publish_months(filled, date(2026, 2, 1))
    return settings


@pytest.fixture
def fleet(filled_once: CollectorSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the fleet, and point the commands at it."""
    folder = tmp_path / "data"
    shutil.copytree(filled_once.data_dir, folder, copy_function=shutil.copy2)
    folder.chmod(0o700)
    lead_commands_to(settings_in(tmp_path), monkeypatch)
    return folder


def report(veilleuse: Command, name: str, *words: str) -> Any:
    """Return a report as JSON."""
    code, out, err = veilleuse("report", name, *words, "--format", "json")
    assert code == 0, err
    return json.loads(out)


def test_indicators_of_a_fleet(fleet: Path, veilleuse: Command):
    """I4 is the towers' energy at night above their 0.8 W, and is in I5. I3 is unknown.
    The server cannot be judged."""
    rows = report(veilleuse, "indicators", *HALF_YEAR, "--group-by", "device_class")["rows"]
    found = {(row["indicator"], row["population"]): row for row in rows if "population" in row}
    plans = found["I3", "workstation"]
    assert (plans["n"], plans["not_known"], plans.get("value")) == (12, 12, None)
    avoidable = found["I4", "workstation"]
    days = 184
    night_hours = days * 8 + 1  # the change of clocks
    # RAPL of 20 W through the tower's wall model: 20 + 1.35 × 20 W.
    assert avoidable["value"] == pytest.approx(12 * night_hours * (20 + 1.35 * 20 - 0.8) / 1000, rel=1e-6)
    assert avoidable["closed_bands_kwh"] == avoidable["value"]
    assert avoidable["value_lo95"] < avoidable["value"] < avoidable["value_hi95"]
    assert found["I5", "workstation"]["value"] > 0.3
    assert found["I6", "server"]["not_judged"] == 1
    assert ("I4", "server") not in found


def test_servers_one_by_one(fleet: Path, veilleuse: Command):
    """A server is named by its agent id, with its energy and that it cannot be judged."""
    (row,) = report(veilleuse, "indicators", *HALF_YEAR, "--servers")["rows"]
    assert len(row["server"]) == 12
    assert (row["comatose"], row["entity"], row["site"]) == ("not_judged", "DSI", "lyon")
    assert row["observed_180_days_ratio"] == pytest.approx(28 * DAY / (180 * DAY + DAY / 24))  # autumn
    assert row["kwh"] > 0
    assert "oversized" not in row


def test_small_groups_say_nothing(fleet: Path, veilleuse: Command):
    """Three towers in Oullins merge with the nine of Lyon into `autres`."""
    rows = report(veilleuse, "indicators", *HALF_YEAR, "--group-by", "site")["rows"]
    assert {
        row["site"] for row in rows if row["indicator"] == "I4" and row["population"] == "workstation"
    } == {"autres"}


def test_the_sheet(fleet: Path, veilleuse: Command, tmp_path: Path):
    """Computed and entered values have targets and trends under six objectives; the bilan has shares."""
    for name, text in (("objectives.csv", OBJECTIVES), ("other_items.csv", ITEMS)):
        assert veilleuse("reen", "import", written(tmp_path, name, text))[0] == 0
    measures = "measure_id;objective;what;pilot;means_eur;means_fte;status\nm1;2;Extinction à 20 h;DSI;9000;0,5;done\n"
    assert veilleuse("reen", "import", written(tmp_path, "measures.csv", measures))[0] == 0
    found = report(veilleuse, "reen", *HALF_YEAR)
    rows = {(row["objective"], row.get("indicator", "")): row for row in found["rows"]}
    assert {objective for objective, _ in rows} == {"1", "2", "3", "4", "5", "6"}
    first = rows["2", "I1"]
    assert first["origin"] == "computed"
    # 8 h of 14 (or 24) outside hours, because they are on in the night band alone.
    nights, closed = 184 * 8 + 1, 0
    for offset in range(184):
        closed += 6 if date.fromordinal(date(2025, 7, 1).toordinal() + offset).isoweekday() <= 5 else 16
    assert first["value"] == pytest.approx(nights / (nights + closed))
    assert first["value_lo95"] <= first["value"] <= first["value_hi95"]
    assert first["trend_ratio"] == pytest.approx(first["value"] / 0.30 - 1)
    assert "restated_trend_ratio" not in first  # 2023 has no kept months
    assert (first["target_value"], first["reached"], first["pilot"]) == (0.05, False, "DSI")
    assert first["coverage_states"] > 0.9
    entered = rows["4", "Agents sensibilisés"]
    assert (entered["origin"], entered["value"], entered["reached"]) == ("entered", 450, False)
    assert entered["trend_ratio"] == pytest.approx(3.5)
    assert rows["5", ""]["origin"] == "missing"
    assert rows["3", "server_kwh"]["value"] > 0
    assert found["measures"][0]["means_fte"] == 0.5
    whole, made = found["bilan"]
    assert (whole["kgco2e_total"], made["share_of_whole"]) == (2_103_000.0, 0.75)
    assert made["kgco2e_hi95"] == pytest.approx(1_577_250 * 1.3)


def test_the_use_phase_stands_in_the_bilan_of_its_year(fleet: Path, veilleuse: Command, tmp_path: Path):
    """The use phase of a civil year is computed with its interval, beside the file's items of that year."""
    items = ITEMS.replace("2024;", "2025;")
    assert veilleuse("reen", "import", written(tmp_path, "other_items.csv", items))[0] == 0
    found = report(veilleuse, "reen", "--from", "2025-01-01", "--to", "2026-01-01")
    use = found["bilan"][-1]
    assert (use["part_of_bilan"], use["origin"], use["year"]) == ("use", "computed", 2025)
    assert 0 < use["share_of_whole"] < 1e-3
    assert use["interval"] == "sample only"
    assert use["kgco2e_lo_sample"] < use["kgco2e_total"] < use["kgco2e_hi_sample"]
    assert not [name for name in use if name.endswith("95")]


@pytest.mark.parametrize("form", ["csv", "xlsx", "html"])
def test_the_sheet_in_other_formats(fleet: Path, veilleuse: Command, tmp_path: Path, form: str):
    """Each format writes the sheet, in French by default."""
    out = tmp_path / f"reen.{form}"
    code, _, err = veilleuse("report", "reen", *HALF_YEAR, "--format", form, "-o", str(out))
    assert code == 0, err
    content = out.read_bytes()
    assert len(content) > 1000
    if form == "html":
        text = content.decode()
        assert "Objectifs 1° à 6°" in text
        assert "1° Commande publique locale et durable" in text


def test_a_period_that_cuts_a_month_is_told(fleet: Path, veilleuse: Command):
    """Figures of machines are kept by months."""
    code, _, err = veilleuse("report", "reen", "--from", "2025-07-02", "--to", "2026-01-01")
    assert (code, "must be the 1st of a month" in err) == (2, True)


def test_a_baseline_is_restated_by_the_method_of_today(
    lyon: CollectorSettings, veilleuse: Command, tmp_path: Path
):
    """A server draws 350 W in 2024 and 180 W in 2025: the restated baseline is the machine's, not the
    published one. Seen for twelve days a year, its intervals overlap, and no trend is told."""
    with Filled(lyon.data_dir) as filled:
        server = filled.add_host(
            Population.SERVER, DeviceClass.SERVER, site="Lyon", enrolled_on=date(2024, 1, 1)
        )
        for year, watts in ((2024, 200), (2025, 100)):
            for month in range(1, 13):
                server_day(filled, server, date(year, month, 10), watts=watts)
        filled.derive()
        publish_months(filled, date(2026, 2, 1))
    text = "objective;indicator;baseline_year;baseline_value\n3;server_kwh;2024;9000\n2;I7;2023;0,5\n"
    assert veilleuse("reen", "import", written(tmp_path, "objectives.csv", text))[0] == 0
    rows = report(veilleuse, "reen", "--from", "2025-01-01", "--to", "2026-01-01")["rows"]
    (found,) = [row for row in rows if row.get("indicator") == "server_kwh"]
    assert found["not_demonstrated"] == "intervals"
    assert found.keys().isdisjoint({"trend_ratio", "restated_trend_ratio"})
    assert found["restated_baseline_value"] == pytest.approx(366 * 24 * 0.35, rel=0.02)
    (unknown,) = [row for row in rows if row.get("indicator") == "I7"]
    assert unknown.keys().isdisjoint({"value", "trend_ratio", "restated_trend_ratio"})


@pytest.fixture
def two_years(lyon: CollectorSettings, measured_years: Path) -> None:
    """Replace the data directory by one with two measured years, whose months are published."""
    shutil.rmtree(lyon.data_dir)
    shutil.copytree(measured_years, lyon.data_dir)
    with Filled(lyon.data_dir) as filled:
        for year in (2025, 2026):
            publish_months(filled, date(year, 1, 5))


BASELINES = "objective;indicator;baseline_year;baseline_value\n2;I1;2024;0,5\n2;I4;2024;100\n2;I5;2024;1\n3;server_kwh;2024;9000\n"
SHEET_2025 = ("--from", "2025-01-01", "--to", "2026-01-01")


def sheet_rows(veilleuse: Command, *period: str) -> dict[str, dict[str, Any]]:
    """Return indicator → row of the objectives."""
    return {row["indicator"]: row for row in report(veilleuse, "reen", *period)["rows"] if "indicator" in row}


def forget(place: CollectorSettings, today: date, *closed: int) -> None:
    """Delete months of machines and publications as the collector does on a day; `closed`: definitively."""
    with Filled(place.data_dir) as filled:
        retention(filled, closed_years=frozenset(closed)).run(today)
        filled.store.publications.expire(months_before(today, 18), closed)


@pytest.mark.usefixtures("two_years")
def test_months_that_are_gone_are_in_no_value(lyon: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """Months of PCs are deleted one by one after 18 months, servers' stay. What is left is no year of PCs,
    neither as a baseline nor on the sheet, where the reason replaces it."""
    assert veilleuse("reen", "import", written(tmp_path, "objectives.csv", BASELINES))[0] == 0
    whole = sheet_rows(veilleuse, *SHEET_2025)
    assert whole["I1"]["restated_baseline_value"] > 0.2
    forget(lyon, date(2026, 1, 5))  # until June 2024
    found = sheet_rows(veilleuse, *SHEET_2025)
    for indicator in ("I1", "I4", "I5"):
        assert found[indicator]["value"] == whole[indicator]["value"]
        assert "restated_baseline_value" not in found[indicator], indicator
    # The year's own estimate has the days that were not seen, all of weekends, at the class default.
    before = whole["server_kwh"]["restated_baseline_value"]
    assert before == pytest.approx(366 * 24 * 0.35, rel=0.001)
    assert found["server_kwh"]["restated_baseline_value"] == pytest.approx(366 * 24 * 0.3, rel=0.01)
    forget(lyon, date(2026, 11, 1))
    found = sheet_rows(veilleuse, *SHEET_2025)
    for indicator in ("I1", "I4", "I5"):
        assert "value" not in found[indicator]
        assert found[indicator]["reason"] == "period"
    rows = report(veilleuse, "indicators", *SHEET_2025)["rows"]
    assert not [row for row in rows if row["indicator"] == "I4" and "value" in row]
    assert found["server_kwh"]["value"] > 0


@pytest.mark.usefixtures("two_years")
def test_indicators_of_days_that_are_gone_are_of_months(lyon: CollectorSettings, veilleuse: Command):
    """I1, I2 and I13 of a year are the same when its days are deleted; a period that cuts a month is
    refused."""

    def of_days() -> dict[tuple[str, str], Any]:
        rows = report(veilleuse, "indicators", *SHEET_2025)["rows"]
        return {
            (row["indicator"], row["population"]): row["value"]
            for row in rows
            if row["indicator"] in ("I1", "I2", "I13")
        }

    before = of_days()
    assert ("I1", "workstation") in before
    forget(lyon, date(2026, 1, 5))
    assert of_days() == pytest.approx(before)
    code, _, err = veilleuse("report", "indicators", "--from", "2025-03-15", "--to", "2026-01-01")
    assert (code, "let --from and --to be the 1st of a month" in err) == (2, True)


@pytest.mark.usefixtures("two_years")
def test_a_sheet_of_a_year_closed_for_good_names_what_is_gone(
    lyon: CollectorSettings, veilleuse: Command, tmp_path: Path
):
    """The definitive closing deletes the months of PCs, so their indicators have no value."""
    forget(lyon, date(2026, 1, 5), 2024, 2025)
    found = sheet_rows(veilleuse, *SHEET_2025)
    for indicator in ("I1", "I2", "I4", "I5"):
        assert found[indicator].keys().isdisjoint({"value", "withheld"}), indicator
        assert found[indicator]["reason"] == "period"
