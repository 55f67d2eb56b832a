# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse report`, `derive`, `convert` and `factors` on a real data directory."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.support.filled import Filled, cell, civil
from tests.support.later_factors import added_years
from tests.support.memory_store import HOUR
from tests.support.waiting import PATIENCE_SECONDS
from tests.unit.collector.derive.test_worker import SECOND, START, Fleet, enrol_virtual
from veilleuse.collector import clock
from veilleuse.collector.admin.operations import AdminServer
from veilleuse.collector.app.data_directory import open_collector
from veilleuse.collector.cli.derive import _MONTH_CHECKS
from veilleuse.collector.cli.main import run
from veilleuse.collector.derive.wall import wall_energy
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Grain
from veilleuse.collector.model.sums import DirtyPeriod
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

VIRTUAL_MACHINE = MachineFacts(DeviceClass.VIRTUAL_MACHINE, cpu_count=2)
PERIOD = ("--from", "2026-01-01", "--to", "2027-01-01")


@pytest.fixture
def expected_millijoules(settings: CollectorSettings) -> int:
    """Push sixty records of one virtual machine, and return their energy in mJ, computed separately."""
    with open_collector(settings) as collector:
        registry = collector.store.registry
        host_id = collector.writer.submit(lambda: enrol_virtual(registry)).result(PATIENCE_SECONDS)
        fleet = Fleet(settings.data_dir, collector.store, collector.writer, collector.derive, host_id)
        for third in range(3):
            starts = (START + (third * 20 + offset) * 10 * SECOND for offset in range(20))
            fleet.push(*starts, busy=1_111 * (third + 1))
        cells = collector.writer.submit(
            lambda: collector.store.derive.record_cells(DirtyPeriod(host_id, Grain.HOUR, START))
        ).result(PATIENCE_SECONDS)
    return sum(
        part.energy_millijoules
        for record in cells
        for cell in record.cells
        for part in wall_energy(cell, VIRTUAL_MACHINE)
    )


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return the JSON of a report."""
    assert run(["report", *arguments, "--format", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_memo_row_is_exactly_the_sum_over_the_records_cells(
    expected_millijoules: int, capsys: pytest.CaptureFixture[str]
):
    """Derived by command, the memo is exact to the millijoule; a lone virtual machine has no total."""
    assert expected_millijoules > 0
    assert run(["report", "emissions", *PERIOD, "--format", "json"]) == 0
    before = capsys.readouterr()
    assert "1 period waits to be derived" in before.err
    assert "energy_millijoules" not in json.loads(before.out)["memo"][0]
    assert run(["derive", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"periods": 1}
    for _ in range(2):
        whole = report(capsys, "emissions", *PERIOD)
        (memo,) = whole["memo"]
        assert memo["energy_millijoules"] == expected_millijoules
        assert memo["kwh_total"] == expected_millijoules / 3_600_000_000
        assert memo["provisional"] is True
        assert (whole["rows"], whole["totals"]) == ([], [])
        assert whole["report"]["data"] == "real"
        assert run(["derive", "--all"]) == 0  # the second report follows a second derivation: nothing changes
        assert "1 period derived" in capsys.readouterr().out


def test_derive_through_a_running_collector(
    settings: CollectorSettings, expected_millijoules: int, capsys: pytest.CaptureFixture[str]
):
    """The running collector derives, and the command waits until no mark is left."""
    with (
        open_collector(settings) as collector,
        closing(AdminServer(settings.data_dir, collector.operations)),
    ):
        collector.derive.start()
        collector.rolls.start()
        assert run(["derive", "--all"]) == 0
    assert "1 period derived" in capsys.readouterr().out
    assert report(capsys, "emissions", *PERIOD)["memo"][0]["energy_millijoules"] == expected_millijoules


def test_derive_does_not_wait_for_marks_made_since(
    settings: CollectorSettings, expected_millijoules: int, monkeypatch: pytest.MonkeyPatch
):
    """A busy collector always has marks. The command waits for those of its start, then once more for those
    present then, because deriving a meter marks its machines.
    """
    assert expected_millijoules
    looks = 0

    def marks_come_and_go(_: float) -> None:
        nonlocal looks
        looks += 1
        assert looks < 10 + _MONTH_CHECKS  # the command does not wait for months that derive delays either
        collector.writer.submit(move_on).result(PATIENCE_SECONDS)

    def move_on() -> None:
        with collector.store.data.transaction() as connection:
            connection.execute("UPDATE dirty SET turn = turn + 1")

    with (
        open_collector(settings) as collector,
        closing(AdminServer(settings.data_dir, collector.operations)),
    ):
        monkeypatch.setattr("veilleuse.collector.cli.derive.time.sleep", marks_come_and_go)
        assert run(["derive"]) == 0
    assert looks == 2 + _MONTH_CHECKS


def test_indicators_of_the_same_machine(expected_millijoules: int, capsys: pytest.CaptureFixture[str]):
    """A server has I2 and I13, not I1; I5 to I8 cannot be judged by one hour."""
    rows = report(capsys, "indicators", *PERIOD)["rows"]
    names = ["I2", "I5", "I13", "I6", "I7", "I8"]
    assert [(row["indicator"], row["level"]) for row in rows] == [(name, "memo") for name in names], (
        "a new indicator over SUMS or servers: add it to `names` here, in the order of the report"
    )
    of = {row["indicator"]: row for row in rows}
    assert not any("value" in of[name] for name in ("I5", "I6", "I7", "I8"))
    assert of["I2"]["value"] == 0.0


def test_a_population_too_small_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    """Measurements of three workstations are in no row. A note on standard error, a last row in CSV and a
    table in JSON say so."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "few"))
    with Filled(tmp_path / "few") as filled:
        for _ in range(3):
            filled.push(
                filled.add_host(Population.WORKSTATION, DeviceClass.SFF),
                [(civil(date(2026, 3, 2)), [cell(State.OFF, HOUR, Band.NIGHT)])],
            )
        filled.derive()
    for name in ("emissions", "indicators"):
        assert run(["report", name, *PERIOD]) == 0
        printed = capsys.readouterr()
        *rows, withheld = csv.DictReader(io.StringIO(printed.out))
        assert (withheld["level"], withheld["zone"]) == ("withheld", "FR")
        if name == "emissions":
            assert [(row["n"], row["kwh_measured"]) for row in rows] == [("0", "0.0")] * 2
        else:
            assert rows == []
        assert "1 group too small" in printed.err
        (missing,) = report(capsys, name, *PERIOD)["withheld"]
        assert (missing["zone"], missing["level"]) == ("FR", "row")


def test_csv_to_a_file(settings: CollectorSettings, expected_millijoules: int, tmp_path: Path):
    """-o writes a file, and grouping by site adds its column."""
    file = tmp_path / "out.csv"
    run(["derive"])
    arguments = ["report", "emissions", *PERIOD, "--group-by", "site,device_class", "-o", str(file)]
    assert run(arguments) == 0
    with file.open(newline="", encoding="utf-8") as text:
        (row,) = csv.DictReader(io.StringIO(text.read()))
    assert (row["site"], row["level"]) == ("hq", "memo")
    assert int(row["energy_millijoules"]) == expected_millijoules
    assert "entity" not in row


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["report", "emissions", "--from", "2026", "--to", "2027-01-01"], 2, "is not a date"),
        (["report", "emissions", "--from", "2026-02-01", "--to", "2026-02-01"], 2, "must be before"),
        (["report", "emissions", *PERIOD, "--format", "ods"], 2, "unknown format 'ods'"),
        (["report", "emissions", *PERIOD, "--group-by", "colour"], 2, "cannot group by 'colour'"),
        (["report", "indicators", *PERIOD, "-o", "/nowhere/at/all.csv"], 1, "cannot write"),
        (["report", "indicators", *PERIOD, "--servers", "--actions"], 2, "are two reports"),
        (
            ["report", "indicators", "--from", "2026-02-02", "--to", "2026-02-20", "--actions"],
            2,
            "no whole month has ended",
        ),
        (["report", "emissions", *PERIOD, "--config", "/nowhere.toml"], 2, "no configuration file"),
        (["convert", "ten"], 2, "not a number"),
        (["convert", "1", "--zone", "Frnce"], 1, "the nearest are FR"),
        (["convert", "1", "--factor", "ADEME-FR-1999-MOY"], 2, "did you mean"),
        (
            ["convert", "1", "--factor", "ADEME-FR-2021-MOY", "--year", "2026"],
            2,
            "leave out --zone and --year",
        ),
        (["convert", "1", "--factor", "OWID-FRA-2023", "--zone", "DE"], 2, "leave out --zone and --year"),
        (["report", "emissions", "--from", "1981-01-01", "--to", "2998-12-31"], 2, "between the years"),
        (["factors", "show", "nothing"], 2, "no factor 'nothing'"),
        (["factors", "list", "--zone", "Atlantis"], 1, "no electricity factor"),
    ],
)
def test_wrong_use_is_one_line_and_a_code(
    settings: CollectorSettings,
    arguments: list[str],
    code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
):
    """Exit code 2 means wrong use or configuration, 1 a failure."""
    assert run(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert line in printed.err
    assert printed.err.count("\n") == 1


def test_a_terminal_of_another_alphabet(settings: CollectorSettings):
    """Text for people loses a letter, not the figure; a report stays UTF-8 with its own line ends."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}

    def output(*arguments: str) -> bytes:
        command = [sys.executable, "-m", "veilleuse.collector", *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True).stdout

    assert b"10 kWh ? 0.0569 kgCO2e/kWh = 0.569 kgCO2e" in output("convert", "10", "--year", "2021")
    assert output("report", "indicators", *PERIOD).endswith(b",data,method_version\r\n")


def test_no_data_directory_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Reports need a data directory; convert does not."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "none"))
    assert run(["report", "emissions", *PERIOD]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert run(["convert", "12500", "--unit", "kWh", "--zone", "FR", "--year", "2021", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["kgco2e_total"] == 711.25
    assert answer["factor_id"] == "ADEME-FR-2021-MOY"


def test_convert_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """The text has factor and source, marks a provisional factor, and uses a named factor as it is."""
    assert run(["convert", "10", "--year", "2026"]) == 0
    assert "provisional" in capsys.readouterr().out
    assert run(["convert", "10", "--factor", "OWID-FRA-2023"]) == 0
    text = capsys.readouterr().out
    assert "10 kWh × 0.055275 kgCO2e/kWh = 0.553 kgCO2e" in text
    assert "Our World in Data" in text
    monkeypatch.setattr(clock, "today", lambda *_: date(2026, 1, 1))  # DE has factors until then
    assert run(["convert", "10", "--zone", "DE", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["year"] == 2026


def test_factors_for_people_and_machines(capsys: pytest.CaptureFixture[str]):
    """list marks factors that may be applied; show has components and the day of reading."""
    assert run(["factors", "list", "--zone", "FR"]) == 0
    lines = capsys.readouterr().out.splitlines()
    marks = {line.split()[1][:4]: line.partition("-MOY")[2].strip() for line in lines if "official" in line}
    assert marks == {"2022": "official"} | dict.fromkeys(
        ("2021", "2023", "2024", "2025", *added_years()), "official, not sourced"
    )
    assert run(["factors", "list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) > 1000
    assert run(["factors", "show", "ADEME-FR-2022-MOY", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["components_kgco2e_per_kwh"] == {"combustion": 0.0338, "upstream": 0.0135, "losses": 0.00474}
    assert run(["factors", "show", "ADEME-FR-2025-MOY"]) == 0
    assert "2026-05-18" in capsys.readouterr().out
