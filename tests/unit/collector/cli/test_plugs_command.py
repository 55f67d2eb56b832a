# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse plugs` on a real data directory with fake plugs: the draw, the state of a study, its errors."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import pushes
from tests.support.clock import unix_milliseconds
from tests.support.laboratory import DAY, HOUR, MINUTE, START, cell, enrol, loads, push, wall
from tests.support.pushes import clock
from veilleuse.collector.cli.main import run
from veilleuse.collector.cli.plug_study import PlannedUnit, PlugPlan
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_store
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

MONDAY = date(2026, 3, 2)
MIDNIGHT = START - 9 * HOUR
"""2026-03-02T00:00Z."""
MODELS = {DeviceClass.SFF: ("Acme", "Desk 7"), DeviceClass.TOWER: ("Acme", "Tower 2")}


def machine(
    store: SqliteStore,
    number: int,
    records: Iterable[tuple[Any, Sequence[Any]]] = (),
    *,
    device_class: DeviceClass = DeviceClass.SFF,
    population: Population = Population.SERVER,
    source: str = "linux_rapl",
    silent_days: int = 0,
) -> None:
    """Enrol a machine that made contact `silent_days` ago, and store its records."""
    model = MODELS.get(device_class, ("Acme", "Other"))
    host = enrol(store, number, model=model, device_class=device_class, population=population)
    health = pb.Health(
        agent_version="1", sources=[pb.SourceHealth(name="utilisation"), pb.SourceHealth(name=source)]
    )
    with store.transaction():
        store.registry.record_hello(
            host,
            facts_wire=None,
            health_wire=health.SerializeToString(),
            now_unix_milliseconds=unix_milliseconds() - silent_days * DAY,
        )
    if made := list(records):
        push(store, host, made)


def metered_hours(seed: int, gain: float = 1.0, hours: int = 30) -> list[tuple[Any, list[Any]]]:
    """Return five-minute records of a DESK on its plug."""
    length = 5 * MINUTE
    return [
        (clock(START + at * length, length), [cell(length, [(0, watts), (1, wall(watts, gain))])])
        for at, watts in enumerate(loads(12 * hours, seed))
    ]


def unmetered_weeks() -> list[tuple[Any, list[Any]]]:
    """Return four weeks and a morning of hours: from 8 to 16 h on with 10 W at the package, else off."""
    return [
        (
            clock(MIDNIGHT + hour * HOUR, HOUR),
            [cell(HOUR, [(0, 10.0)]) if 8 <= hour % 24 < 16 else cell(HOUR, state=State.OFF)],
        )
        for hour in range(28 * 24 + 8)
    ]


def weeks_of_a_pc(watts: float) -> list[tuple[Any, list[Any]]]:
    """Return four ISO weeks of a workstation: 40 h on, else off; its package draws `watts`."""
    made = []
    for week in range(4):
        monday = MONDAY + timedelta(weeks=week)
        made.append(
            (
                pushes.week(*monday.isocalendar()[:2]),
                [cell(40 * HOUR, [(0, watts)]), cell(10 * HOUR, state=State.OFF)],
            )
        )
        for day in range(7):
            band = Band.NIGHT if day < 5 else Band.CLOSED
            hours = 14 if day < 5 else 24
            made.append(
                (pushes.day(monday + timedelta(days=day)), [cell(hours * HOUR, state=State.OFF, band=band)])
            )
    return made


def planned(tmp_path: Path, *units: PlannedUnit, population: str = "server") -> str:
    """Write the plan of a study that has ended, and return its path."""
    path = tmp_path / "old plan.json"
    path.write_text(PlugPlan(MONDAY.isoformat(), 7, population, 20, units).content())
    return str(path)


def desk(number: int, device_class: str = "sff") -> PlannedUnit:
    """Return the plan's row of a machine that `machine` enrolled."""
    return PlannedUnit(number, f"{number:02x}" * 16, device_class, "linux")


def answer(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    """Return the answer of `plugs report` with --json."""
    capsys.readouterr()
    assert run(("plugs", "report", *words, "--json")) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the one line on standard error of a wrong command."""
    capsys.readouterr()
    assert run(("plugs", *words)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.fixture
def fleet(settings: CollectorSettings) -> CollectorSettings:
    """Store metered desks (1 to 3), a tower without meter (4), a silent desk (5), a virtual one (6), a desk
    whose agent named no system (7), a Windows desk (8) and a workstation (9)."""
    with closing(open_store(settings.data_dir, settings.store)) as store:
        for number, gain in ((1, 1.0), (2, 1.04), (3, 0.97)):
            machine(store, number, metered_hours(number, gain))
        machine(store, 4, unmetered_weeks(), device_class=DeviceClass.TOWER)
        machine(store, 5, silent_days=8)
        machine(store, 6, device_class=DeviceClass.VIRTUAL_MACHINE)
        machine(store, 7, source="fake")
        machine(store, 8, source="windows_emi")
        machine(store, 9, population=Population.WORKSTATION)
    return settings


def counters(tmp_path: Path, *rows: tuple[object, date, float]) -> str:
    """Write a file of counters noted at 8 in the morning, and return its path."""
    path = tmp_path / "counters.csv"
    lines = [f"{unit};{day} 08:00;{kwh:.3f}".replace(".", ",") for unit, day, kwh in rows]
    path.write_text("\n".join(["unit;time;counter_kwh", *lines]))
    return str(path)


def test_machines_are_drawn_from_each_class_and_system(fleet, capsys, tmp_path):
    """Silent and virtual machines, those without a known system and other populations are never drawn.
    The same seed draws the same, the file is the owner's alone, and nothing is read yet."""
    file = str(tmp_path / "plan.json")
    assert run(("plugs", "plan", "-o", file, "--plugs", "5", "--seed", "3")) == 0
    out, said = capsys.readouterr()
    assert "5 of 5 machines drawn with seed 3" in said
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
    plan = json.loads(Path(file).read_text())
    assert [tuple(unit[2:]) for unit in plan["units"][:3]] == [
        ("sff", "linux"),
        ("sff", "windows"),
        ("tower", "linux"),
    ]
    assert {unit[1][:2] for unit in plan["units"]} == {"01", "02", "03", "04", "08"}
    assert date.fromisoformat(plan["first"]).weekday() == 0
    assert "Acme Tower 2" in out
    again = tmp_path / "again.json"
    assert run(("plugs", "plan", "-o", str(again), "--plugs", "5", "--seed", "3")) == 0
    assert again.read_bytes() == Path(file).read_bytes()
    found = answer(capsys, file, code=3)
    assert {one["note"] for one in found["machines"]} == {"no reading"}
    assert found["rows"] == []
    assert run(("plugs", "report", file)) == 3
    assert "errors are shown from" in capsys.readouterr().err
    assert run(("plugs", "plan", "-o", str(tmp_path / "t.json"), "--plugs", "1", "--class", "tower")) == 0
    assert "1 of 1 machine drawn" in capsys.readouterr().err


def test_wrong_plans_are_refused(fleet, capsys, tmp_path):
    """Each refusal says what to do; people are asked first, and are ten or none."""
    file, ids = tmp_path / "plan.json", tmp_path / "ids"
    plan = ("plan", "-o", str(file))
    assert "only 5 machines can be drawn for 6 plugs: of population server" in complaint(
        capsys, *plan, "--plugs", "6"
    )
    assert "take a Monday to come" in complaint(capsys, *plan, "--from", "2026-03-02")
    people = (*plan, "--population", "workstation", "--plugs", "10")
    assert "workstations need --among FILE" in complaint(capsys, *people)
    ids.write_text("# who agreed\n09090909 # by letter\n\n")
    assert "only 1 machine can be drawn" in complaint(capsys, *people, "--among", str(ids))
    assert "take 12 plugs" in complaint(capsys, *people, "--plugs", "9", "--among", str(ids))
    assert "take 12 plugs" in complaint(capsys, *plan, "--population", "classroom", "--plugs", "9")
    ids.write_text("0909\n")
    assert f"{ids}, row 1: '0909' is too short" in complaint(capsys, *people, "--among", str(ids))
    assert not file.exists()


def test_a_study_that_ended_gives_the_errors(fleet, capsys, tmp_path):
    """Plugs read by the machines' agents, and counters read on Mondays: each class and method has its row.
    Each desk is predicted by the other two as well."""
    plan = planned(tmp_path, desk(1), desk(2), desk(3), desk(4, "tower"))
    weekly = 7 * (8 * 60 + 16 * 1.0) / 1000
    notes = counters(tmp_path, *((4, MONDAY + timedelta(weeks=week), 3 + week * weekly) for week in range(5)))
    found = answer(capsys, plan, "--readings", notes)
    times = [(one["time"], one["hours"], len(one["errors"])) for one in found["machines"]]
    assert times == [("on", 30, 3)] * 3 + [("whole", 671, 2)]
    rows = {(row["device_class"], row["method"], row["time"]): row for row in found["rows"]}
    calibrated = rows["sff", "counter_calibrated", "on"]
    assert calibrated["units"] == 3
    assert abs(calibrated["error"]) < 0.01
    prior = rows["sff", "counter_modelled", "on"]
    assert prior["error"] < -0.3
    assert prior["error_low"] < prior["error"] < prior["error_high"] < 0
    tower = rows["tower", "counter_modelled", "whole"]
    assert tower["units"] == 1
    assert tower["error_low"] is None
    metered, modelled = weekly * 1000 / 7 / 24, (8 * (20 + 13.5) + 16 * 0.8) / 24
    assert tower["error"] == pytest.approx(modelled / metered - 1, abs=0.01)
    assert run(("plugs", "report", plan, "--readings", notes)) == 0
    out, said = capsys.readouterr()
    assert "calibrated" in out
    assert "too few" in out
    assert "SHA-256" in said


def test_a_machine_that_left_or_shares_its_plug_is_left_out(fleet, capsys, tmp_path):
    """A plug with a screen is refused; a machine that moved, or was removed, is told with its reason.
    A counter noted for one week is too little."""
    meters = tmp_path / "meters.csv"
    meters.write_text(
        "meter,site,room,boundary,host,part,share,from\n"
        "plug-1,hq,R1,outlet,01010101,machine,0.8,2026-01-01\n"
        "plug-1,,,,01010101,monitor,0.2,2026-01-01\n"
        "plug-2,hq,R1,outlet,02020202,machine,1,2027-01-01\n"
    )
    assert run(("meters", "import", str(meters))) == 0
    plan = planned(tmp_path, desk(1), desk(2), desk(3), desk(4, "tower"), desk(99))
    notes = counters(tmp_path, (4, MONDAY, 3), (4, MONDAY + timedelta(days=7), 6))
    found = answer(capsys, plan, "--readings", notes, "--leave-out", "3=moved to Bron", code=3)
    told = [one["note"] for one in found["machines"]]
    assert told[0].startswith("refused: it has a share of meter plug-1")
    assert told[1] == ""
    assert told[2] == "left out: moved to Bron"
    assert told[3] == "readings with records beside them cover 25% of the time"
    assert told[4] == "removed since, or enrolled in another population"
    assert {row["units"] for row in found["rows"]} == {1}
    assert run(("plugs", "report", planned(tmp_path, desk(99)))) == 3
    assert "no machine completed the study" in capsys.readouterr().err


def test_people_are_told_together_or_not_at_all(settings, capsys, tmp_path):
    """Ten workstations with counters read on Mondays make one row; of one PC no hours and no error are told.
    Nine make none. Readings of other days are not used: a PC's records are ISO weeks."""
    with closing(open_store(settings.data_dir, settings.store)) as store:
        for number in range(1, 11):
            machine(store, number, weeks_of_a_pc(10), population=Population.WORKSTATION)
    plan = planned(tmp_path, *map(desk, range(1, 11)), population="workstation")
    weekly = (40 * 30 + 128 * 0.6) / 1000
    rows = [
        (unit, MONDAY + timedelta(weeks=week), week * weekly) for unit in range(1, 11) for week in range(5)
    ]
    found = answer(capsys, plan, "--readings", counters(tmp_path, *rows))
    assert {(one["time"], one["hours"], len(one["errors"])) for one in found["machines"]} == {
        ("whole", None, 0)
    }
    by_method = {row["method"]: row for row in found["rows"]}
    assert set(by_method) == {"load_modelled", "counter_modelled"}
    assert by_method["counter_modelled"]["units"] == 10
    modelled = 40 * 24.5 + 128 * 0.5
    assert by_method["counter_modelled"]["error"] == pytest.approx(
        modelled / weekly / 1000 - 1, abs=2e-3
    )  # one week has 167 h
    tuesday = [(unit, day + timedelta(days=unit == 4), kwh) for unit, day, kwh in rows]
    found = answer(capsys, plan, "--readings", counters(tmp_path, *tuesday), code=3)
    assert found["rows"] == []
    assert "do not go from Monday to Monday" in found["machines"][3]["note"]
    assert run(("plugs", "report", plan)) == 3
    assert "fewer than 10 PCs of people completed the study" in capsys.readouterr().err


def test_wrong_reports_are_refused(fleet, capsys, tmp_path):
    """A changed plan, an unknown plug, powers instead of energies, and a wrong --leave-out have a remedy."""
    plan = planned(tmp_path, desk(1))
    report = ("report", plan)
    assert "write NUMBER=WHY" in complaint(capsys, *report, "--leave-out", "2=moved")
    assert "write NUMBER=WHY" in complaint(capsys, *report, "--leave-out", "1")
    notes = counters(tmp_path, (2, MONDAY, 3), (2, MONDAY + timedelta(days=7), 6))
    assert "column unit: '2' is no plug's number in the plan" in complaint(
        capsys, *report, "--readings", notes
    )
    powers = tmp_path / "powers.csv"
    powers.write_text("unit,time,watts\n1,2026-03-02T10:00Z,40\n")
    assert f"{powers}: row 1: give energies" in complaint(capsys, *report, "--readings", str(powers))
    content = Path(plan).read_text()
    other = (content.replace("2026-03-02", "9999-12-27"), content.replace('"sff"', "1"))
    for wrong in (
        "{}",
        "[]",
        "[" * 20_000,
        content.replace(" ", ""),
        content.replace("server", "servers"),
        *other,
    ):
        Path(plan).write_text(wrong)
        assert "is not as 'veilleuse plugs plan' wrote it" in complaint(capsys, *report)
