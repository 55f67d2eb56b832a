# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse calibrate` on a real data directory, beside a running collector and without one."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.laboratory import (
    BATTERY,
    DAY,
    HOUR,
    MINUTE,
    PACKAGE,
    PLUG,
    START,
    cell,
    enrol,
    loads,
    minutes,
    push,
    wall,
)
from tests.support.pushes import clock
from tests.support.stored_sums import SqliteSumReader
from veilleuse.collector.admin.operations import AdminServer
from veilleuse.collector.app.data_directory import open_collector
from veilleuse.collector.cli.main import run
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.calibration import Hardware, facts_of, from_facts
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_store
from veilleuse.collector.store.sqlite.calibration import SqliteReferenceReader
from veilleuse.wire.ladder import Method
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

pytestmark = pytest.mark.any_date

PERIOD = ("--from", "2026-03-01", "--to", "2026-03-15")
MANY = 480
"""Number of one-minute records: a day in the laboratory."""


@pytest.fixture
def laboratory(settings: CollectorSettings) -> CollectorSettings:
    """Store three metered machines of a model (01…, 02…, 03…) and one without a meter (09…), not derived."""
    with closing(open_store(settings.data_dir, settings.store)) as store:
        for number, gain in ((1, 1.0), (2, 1.04), (3, 0.97)):
            host = enrol(store, number)
            push(store, host, minutes(MANY, number, gain=gain))
        push(store, enrol(store, 9), minutes(60, 9, metered=False), (PACKAGE,))
    return settings


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """Return the answer of a command with --json."""
    capsys.readouterr()
    assert run(("calibrate", *arguments, "--json")) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """Return the one line on standard error."""
    capsys.readouterr()
    assert run(("calibrate", *arguments)) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def energies(settings: CollectorSettings, number: int) -> dict[Method, int]:
    """Return the derived mJ of a machine's day by method."""
    found: dict[Method, int] = {}
    with closing(SqliteSumReader(settings.data_dir)) as reader:
        (host,) = [one.host_id for one in reader.hosts() if one.agent_id[0] == number]
        day = datetime.fromtimestamp(START / 1000, UTC).date().toordinal()
        for row in reader.derived(Grain.DAY, day, day + 1):
            if row.host_id == host:
                found[row.cell.method] = found.get(row.cell.method, 0) + row.cell.energy_millijoules
    return found


def counters(settings: CollectorSettings) -> int:
    """Return the energy that /metrics counts, in mJ."""
    with closing(SqliteSumReader(settings.data_dir)) as reader:
        return sum(entry.energy_millijoules for entry in reader.ledger())


def tables(settings: CollectorSettings) -> list[str]:
    """Return a dump of data.db."""
    with closing(sqlite3.connect(settings.data_dir / "data.db")) as connection:
        return list(connection.iterdump())


def test_metered_machines_calibrate_the_others_past_included(laboratory, capsys):
    """A fit gives the machine without a meter its true watts; after a withdrawal it has the prior's again.
    A dry run changes nothing."""
    assert run(("derive",)) == 0
    before, first = energies(laboratory, 9), counters(laboratory)
    true = round(sum(wall(watts) for watts in loads(60, 9)) * MINUTE)
    assert set(before) == {Method.COUNTER_MODELLED}
    assert abs(before[Method.COUNTER_MODELLED] / true - 1) > 0.3

    untouched = tables(laboratory)
    (found,) = answer(capsys, "meters", *PERIOD)
    assert tables(laboratory) == untouched
    assert found["quantity"] == "wall:package"
    assert found["refused"] is None
    assert found["applied"] is None
    assert (found["hosts"], found["periods"]) == (4, 3 * 8 + 1)
    assert found["base_watts"] == pytest.approx(26, rel=0.05)
    assert found["slope"] == pytest.approx(1.55, rel=0.05)
    assert found["base_watts_half_width"] > 0
    assert found["provenance"]["error_after_ppm"] < 60_000 < 300_000 < found["provenance"]["error_before_ppm"]

    (found,) = answer(capsys, "meters", *PERIOD, "--apply")
    assert found["applied"] == {"calibration_id": 1, "already": False, "hosts": 4, "periods": 25}
    assert run(("derive",)) == 0
    after = energies(laboratory, 9)
    assert set(after) == {Method.COUNTER_CALIBRATED}
    assert after[Method.COUNTER_CALIBRATED] == pytest.approx(true, rel=0.02)
    assert set(energies(laboratory, 1)) == {Method.METERED}
    assert counters(laboratory) == first

    (again,) = answer(capsys, "meters", *PERIOD, "--apply")
    assert again["applied"] == {"calibration_id": 1, "already": True, "hosts": 4, "periods": 0}
    assert answer(capsys, "withdraw", "1") == {"calibration_id": 1, "hosts": 4, "periods": 25}
    assert run(("derive",)) == 0
    assert energies(laboratory, 9) == before
    assert counters(laboratory) == first


def test_what_is_kept_is_listed_and_shown(laboratory, capsys):
    """Fits in force, replaced and withdrawn are listed without machines.
    Every change is in the journal with its reason."""
    assert run(("calibrate", "list")) == 0
    assert "no calibration is in force" in capsys.readouterr().err
    answer(capsys, "meters", *PERIOD, "--apply", "--why", "stock")
    other = ("--from", "2026-03-01", "--to", "2026-03-16")
    (kept,) = answer(capsys, "list")
    assert kept["calibration_id"] == 1
    assert not any(digits * 6 in json.dumps(kept) for digits in ("01", "02", "03"))
    answer(capsys, "meters", *other, "--apply")  # the same records give the same fit
    assert [one["calibration_id"] for one in answer(capsys, "list", "--all")] == [1]
    with open_collector(laboratory) as collector:
        fit = facts_of(from_facts({key: kept[key] for key in _FIT}))
        fit["base_microwatts"] += 1
        collector.operations.perform("calibration_put", {"fit": fit, "who": "me"})
    answer(capsys, "withdraw", "2", "--why", "wrong plug")
    states = [(one["calibration_id"], one["ended_by"]) for one in answer(capsys, "list", "--all")]
    assert states == [(1, 2), (2, None)]
    assert answer(capsys, "list") == []
    assert run(("calibrate", "show", "1")) == 0
    shown = capsys.readouterr().out
    assert "replaced by 2" in shown
    assert "± 2.32 W (95 %)" in shown  # as the run that found it printed
    assert "3 units, 1,440 samples, 24 h, 2026-03-02 to 2026-03-02; 2.0 degrees of freedom" in shown
    assert answer(capsys, "show", "2")["ended_by"] is None
    assert "not in force any more" in complaint(capsys, "withdraw", "2", code=1)
    assert "no calibration 7" in complaint(capsys, "withdraw", "7", code=1)
    assert "no calibration 7" in complaint(capsys, "show", "7", code=1)
    with closing(sqlite3.connect(laboratory.data_dir / "identity.db")) as connection:
        journal = [" ".join(map(str, row)) for row in connection.execute("SELECT * FROM journal")]
    assert any(
        "calibration 1 of acme desk 7 (sff): wall:package" in line and "stock" in line for line in journal
    )
    assert any("calibration 2" in line and "withdrawn" in line and "wrong plug" in line for line in journal)


_FIT = (
    "vendor",
    "model",
    "device_class",
    "quantity",
    "base_microwatts",
    "slope_ppm",
    "base_variance",
    "covariance",
    "slope_variance",
    "expansion_ppm",
    "meter_u_ppm",
    "floor_u_ppm",
    "ceiling_u_ppm",
    "provenance",
)


def test_the_running_collector_is_asked(laboratory, capsys):
    """Beside `serve` the command reads the store and writes over the socket; the collector then derives."""
    with (
        open_collector(laboratory) as collector,
        closing(AdminServer(laboratory.data_dir, collector.operations)),
    ):
        (found,) = answer(capsys, "meters", *PERIOD, "--apply")
        assert found["applied"]["calibration_id"] == 1
        collector.derive.drain()
        assert set(energies(laboratory, 9)) == {Method.COUNTER_CALIBRATED}


def test_marking_that_was_cut_is_carried_on(laboratory, capsys):
    """After a crash between the fit and the marks, the same command marks the machines."""
    assert run(("derive",)) == 0
    answer(capsys, "meters", *PERIOD, "--apply")
    assert run(("derive",)) == 0
    with closing(sqlite3.connect(laboratory.data_dir / "data.db")) as connection, connection:
        connection.execute("UPDATE calibrations SET marking = 1")
    for periods in (25, 0):
        (found,) = answer(capsys, "meters", *PERIOD, "--apply")
        assert found["applied"] == {"calibration_id": 1, "already": True, "hosts": 4, "periods": periods}
    answer(capsys, "withdraw", "1")
    with closing(sqlite3.connect(laboratory.data_dir / "data.db")) as connection, connection:
        connection.execute("UPDATE calibrations SET marking = 1")
    assert answer(capsys, "withdraw", "1")["hosts"] == 4
    assert "not in force any more" in complaint(capsys, "withdraw", "1", code=1)


def write(path: Path, rows: list[list[str]], head: str = "unit,time,watts") -> str:
    """Write a CSV file and return its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head.split(","))
        writer.writerows(rows)
    return str(path)


def iso(at: int) -> str:
    """Return the time in ISO 8601 with its offset."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat()


def of_a_plug(unit: str, seed: int, gain: float = 1.0) -> list[list[str]]:
    """Return a plug's readings every half minute for a machine with these loads."""
    return [
        [unit, iso(START + minute * MINUTE + half), f"{wall(watts, gain):.3f}"]
        for minute, watts in enumerate(loads(MANY, seed))
        for half in (10_000, 40_000)
    ]


@pytest.fixture
def stock(settings: CollectorSettings) -> CollectorSettings:
    """Store two machines without a meter (0a…, 0b…), a workstation (0c…) and a virtual machine (0d…)."""
    with closing(open_store(settings.data_dir, settings.store)) as store:
        for number in (10, 11):
            push(store, enrol(store, number), minutes(MANY, number, metered=False), (PACKAGE,))
        enrol(store, 12, population=Population.WORKSTATION)
        enrol(store, 13, device_class=DeviceClass.VIRTUAL_MACHINE)
    return settings


def test_a_file_calibrates(stock, capsys, tmp_path):
    """Units are named by agent id or by a name, and off watts are fitted too.
    The stored fit has the file's hash, not its units."""
    rows = of_a_plug("lab 1", 10) + of_a_plug("0b0b0b0b", 11, 1.02)
    off = [["lab 1", iso(START + MANY * MINUTE + minute * MINUTE), "2.1"] for minute in range(90)]
    head = "unit,time,watts,state"
    file = write(tmp_path / "plugs.csv", [[*row, ""] for row in rows] + [[*row, "off"] for row in off], head)
    options = ("readings", file, "--meter", "Shelly Plug S", "--unit", "lab 1=0a0a0a0a", "--apply")
    off_found, line = answer(capsys, *options)
    assert (off_found["quantity"], off_found["base_watts"]) == ("off", 2.1)
    assert line["applied"]["calibration_id"] == 2
    assert line["base_watts"] == pytest.approx(26.3, rel=0.03)
    assert line["provenance"]["meter"] == "Shelly Plug S"
    assert len(line["provenance"]["source_sha256"]) == 64
    assert "lab 1" not in json.dumps(answer(capsys, "list"))
    assert run(("calibrate", "readings", *options[1:])) == 0
    said = capsys.readouterr().out
    assert "in force already as 1: nothing was changed" in said
    assert "spread between units from the prior, 10 %" in said


def test_a_file_that_is_wrong_changes_nothing(stock, capsys, tmp_path):
    """One bad row or unknown unit refuses the whole file."""
    untouched = tables(stock)
    good = of_a_plug("0a0a0a0a", 10)
    file = tmp_path / "plugs.csv"
    for rows, why in (
        ([*good, ["0a0a0a0a", iso(START), "NaN"]], "row 962, column watts: 'NaN' is no plain number"),
        ([*good, ["lab 9", iso(START), "40"]], "row 962, column unit: 'lab 9': no host 'lab 9'"),
        ([*good, ["0a0a0a0a0a", iso(START + MINUTE), "40"]], "is the same machine as '0a0a0a0a'"),
        ([*good, ["0c0c0c0c", iso(START), "40"]], "is a workstation, whose records have no time of day"),
        ([*good, ["0d0d0d0d", iso(START), "40"]], "no known vendor and model, or is virtual"),
        ([["0a0a0a0a", iso(START - 9 * DAY), "40"]], "no stored record of it in the time of its readings"),
    ):
        said = complaint(capsys, "readings", write(file, rows), "--meter", "plug", "--apply")
        assert str(file) in said
        assert why in said
    assert tables(stock) == untouched


def test_a_file_whose_clock_is_wrong_is_refused(stock, capsys, tmp_path):
    """A file with a wrong clock does not follow the counters, and does not beat the prior."""
    shifted = [
        [unit, iso(START + (minute + 67) % MANY * MINUTE + 1000), f"{wall(watts):.3f}"]
        for unit, seed in (("0a0a0a0a", 10), ("0b0b0b0b", 11))
        for minute, watts in enumerate(loads(MANY, seed))
    ]
    file = write(tmp_path / "plugs.csv", shifted)
    (found,) = answer(capsys, "readings", file, "--meter", "plug", "--apply", code=3)
    assert "look at its clock" in found["refused"]
    assert found["applied"] is None
    assert answer(capsys, "list", "--all") == []


def test_wrong_words_are_told(stock, capsys, tmp_path):
    """Each wrong option has its own message."""
    file = write(tmp_path / "plugs.csv", of_a_plug("0a0a0a0a", 10)[:4])
    meter = ("--meter", "plug")
    assert "NAME=HOST" in complaint(capsys, "readings", file, *meter, "--unit", "x")
    assert "each name once" in complaint(capsys, "readings", file, *meter, "--unit", "x=1", "--unit", "x=2")
    assert "the file has no such unit" in complaint(capsys, "readings", file, *meter, "--unit", "x=0a")
    assert "0.1 to 20 percent" in complaint(capsys, "readings", file, *meter, "--accuracy", "nan")
    assert "like Europe/Paris" in complaint(capsys, "readings", file, *meter, "--time-zone", "../x")
    assert "cannot read" in complaint(capsys, "readings", str(tmp_path / "none"), *meter)
    assert "name a file in it" in complaint(capsys, "readings", str(tmp_path), *meter)
    assert "'--accuracy': write a number; see" in complaint(
        capsys, "readings", file, *meter, "--accuracy", "x"
    )
    assert "'ID': write a whole number; see" in complaint(capsys, "show", "x")
    assert "is not a date" in complaint(capsys, "meters", "--from", "monday")
    assert "is not before" in complaint(capsys, "meters", "--from", "2026-03-02", "--to", "2026-03-02")
    assert "no machine has its counters" in complaint(capsys, "meters", *PERIOD, code=1)
    assert "contains 'desk'" in complaint(capsys, "meters", *PERIOD, "--model", "Desk", code=1)
    assert "no laptop" in complaint(capsys, "battery", code=1)


def test_another_model_is_not_touched(laboratory, capsys):
    """Only machines of the model are derived again, and --model selects it."""
    with closing(open_store(laboratory.data_dir, laboratory.store)) as store:
        push(store, enrol(store, 20, model=("Acme", "Desk 8")), minutes(60, 9, metered=False), (PACKAGE,))
    assert "contains 'desk 8'" in complaint(capsys, "meters", *PERIOD, "--model", "desk 8", code=1)
    (found,) = answer(capsys, "meters", *PERIOD, "--model", "DESK 7", "--apply")
    assert found["hosts"] == 4
    assert run(("derive",)) == 0
    assert set(energies(laboratory, 20)) == {Method.COUNTER_MODELLED}


def laptops(settings: CollectorSettings, count: int, population: Population) -> None:
    """Store laptops with days on battery at different loads: 6 W and 1.3 of DC."""
    with closing(open_store(settings.data_dir, settings.store)) as store:
        for number in range(40, 40 + count):
            host = enrol(
                store,
                number,
                model=("Acme", "Note 3"),
                device_class=DeviceClass.LAPTOP,
                population=population,
            )
            days = []
            for day in range(10):
                on = date(2026, 3, 2) + timedelta(days=day)
                watts = [3.0 + number % 3 + day % 4, 8.0 + day % 3]
                states = (State.ON_IDLE, State.ON_ACTIVE)
                cells = [
                    cell(
                        HOUR,
                        [(0, one), (1, 6 + 1.3 * one)],
                        state=state,
                        supply=Supply.BATTERY,
                        band=Band.NIGHT,
                    )
                    for one, state in zip(watts, states, strict=True)
                ]
                start = START + day * DAY
                for at, one in enumerate(cells):
                    period = (
                        pb.Period(date=pb.LocalDate(year=on.year, month=on.month, day=on.day))
                        if population is Population.WORKSTATION
                        else clock(start + at * HOUR, HOUR)
                    )
                    days.append((period, [one]))
            push(store, host, days, (PACKAGE, BATTERY))


def test_battery_hours_of_laptops_calibrate_mains(settings, capsys):
    """The line is (6 W + 1.3·P) ÷ 0.88 + 0.2 W, with GSD² ≥ 1.2, from ten workstations."""
    laptops(settings, 10, Population.WORKSTATION)
    (found,) = answer(capsys, "battery", *PERIOD, "--apply")
    assert found["base_watts"] == pytest.approx(6 / 0.88 + 0.2, rel=0.01)
    assert found["slope"] == pytest.approx(1.3 / 0.88, rel=0.01)
    assert found["applied"]["calibration_id"] == 1
    (kept,) = answer(capsys, "list")
    assert kept["floor_u_ppm"] == 91_161
    fit = from_facts({key: kept[key] for key in _FIT}).fit
    energy, u = fit.energy(10 * HOUR, HOUR)
    assert u / energy == pytest.approx(0.0912, abs=1e-3)


def test_few_peoples_laptops_calibrate_nothing(settings, capsys):
    """Fewer than k workstations are refused."""
    laptops(settings, 3, Population.WORKSTATION)
    (found,) = answer(capsys, "battery", *PERIOD, "--apply", code=3)
    assert "fewer than 10 machines" in found["refused"]
    assert found["left_out"] == []


def test_laptops_of_the_laboratory_may_be_few(settings, capsys):
    """No person uses laptops enrolled as servers; battery hours replace a meter's fit only with --replace."""
    laptops(settings, 3, Population.SERVER)
    (found,) = answer(capsys, "battery", *PERIOD, "--apply")
    assert found["refused"] is None
    (kept,) = answer(capsys, "list")
    fit = facts_of(from_facts({key: kept[key] for key in _FIT}))
    fit["provenance"] = {**fit["provenance"], "reference": "meters"}
    with open_collector(settings) as collector:
        collector.operations.perform("calibration_put", {"fit": fit, "who": "me"})
    assert "uses a meter, this one battery hours" in complaint(capsys, "battery", *PERIOD, "--apply", code=1)
    (found,) = answer(capsys, "battery", *PERIOD, "--apply", "--replace")
    assert found["applied"]["calibration_id"] == 3


def test_a_meter_of_the_machine_tells_off_and_asleep(settings, capsys):
    """A plug's counter continues while the machine is off."""
    with closing(open_store(settings.data_dir, settings.store)) as store:
        for number, watts in ((1, 2.0), (2, 2.2), (3, 2.1)):
            states = ((State.OFF, watts), (State.ASLEEP, watts + 2))
            records = [
                (clock(START + at * HOUR, HOUR), [cell(HOUR, [(0, power)], state=state)])
                for at, (state, power) in enumerate(states)
            ]
            push(store, enrol(store, number), records, (PLUG,))
        push(
            store,
            enrol(store, 9),
            [(clock(START, HOUR), [cell(HOUR, state=State.OFF)])],
            (),
        )
    found = {one["quantity"]: one for one in answer(capsys, "meters", *PERIOD, "--apply")}
    assert found["off"]["base_watts"] == pytest.approx(2.1)
    assert found["asleep"]["base_watts"] == pytest.approx(4.1)
    assert run(("derive",)) == 0
    assert energies(settings, 9) == {Method.LOAD_MODELLED: round(2.1 * HOUR)}


def test_what_was_left_out_is_told(laboratory, capsys):
    """A machine whose load never changed gives exit code 3, and the others are used."""
    with closing(open_store(laboratory.data_dir, laboratory.store)) as store:
        flat = [(clock(START + n * MINUTE), [cell(MINUTE, [(0, 9.0), (1, 40.0)])]) for n in range(120)]
        push(store, enrol(store, 4), flat)
    assert run(("calibrate", "meters", *PERIOD)) == 3
    said = capsys.readouterr().out
    assert "left out   040404040404: its load hardly changed" in said
    assert "accepted for 5 machines; --apply derives 27 periods again" in said


def test_the_socket_takes_fits_only(settings):
    """Anything else is refused, and a missing calibration cannot be withdrawn."""
    with open_collector(settings) as collector:
        perform = collector.operations.perform
        with pytest.raises(UsageError, match="provenance is missing"):
            perform("calibration_put", {"fit": {"slope_ppm": -1}, "who": "me"})
        with pytest.raises(UsageError):
            perform("calibration_put", {"fit": "x", "who": "me"})
        with pytest.raises(UsageError):
            perform("calibration_withdraw", {"calibration_id": "1", "who": "me"})
        with pytest.raises(AdminError):
            perform("calibration_withdraw", {"calibration_id": 9, "who": "me"})


def test_reading_takes_no_more_than_was_asked(laboratory):
    """Records from start to end are read in order of time."""
    with closing(SqliteReferenceReader(laboratory.data_dir)) as reader:
        records = list(reader.records(HostId(1), Grain.HOUR, START + HOUR, START + 30 * HOUR))
        assert [at for at, _, _ in records] == [START + n * MINUTE for n in range(60, MANY)]
        assert Hardware("acme", "desk 7", DeviceClass.SFF) not in reader._calibrations.book()._calibrations
