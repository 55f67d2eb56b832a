# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The collector keeps the statistics of years that nobody closes before it deletes the data they come from.
No figure changes when the data are deleted."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import threading
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.backups import make_backup, put_back
from tests.support.closed_years import Command, copied, signed_off, told, verified
from tests.support.filled import Filled
from tests.support.machines import served, settings_in
from tests.support.publishing import publish_months
from tests.support.rolled import retention, roll, server_day, workstation_days
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.admin.operations import AdminServer
from veilleuse.collector.app.data_directory import Collector, initialise, open_collector
from veilleuse.collector.app.schedule import keep_apart, publish_apart, publish_due_months, run_day
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.cli.doctor.closed_years import check_closing_on
from veilleuse.collector.errors import StoreFull
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.ipc import SOCKET_FILE
from veilleuse.collector.model.closed_years import KeptYear
from veilleuse.collector.model.meters import DeclaredMeter, MeterBoundary, MeterReading
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import DirtyPeriod
from veilleuse.collector.reports.kept_years import keep_due
from veilleuse.collector.reports.year_statistics_file import load_kept
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.store.sqlite.closed_years import SqliteClosingsReader
from veilleuse.wire.vocabulary import DeviceClass, PointKind, Population

YEAR = 2022
"""The factors of this year and the two after it are shipped, and final."""
JANUARY = date(YEAR + 1, 1, 5)
READINGS_GO = date(YEAR + 1, 1, 31)
"""13 months after the day before the year, because in UTC the year begins on that day."""
READ = 3_600_000_000
"""Energy of one reading in mJ; there is one reading a month."""
MONTHS_GO = date(YEAR + 1, 8, 1)
QUARTERS = (1, 4, 7, 10)
"""Months of the later years in which something is measured."""
DAY = timedelta(days=1)


def fleet(settings: CollectorSettings) -> None:
    """Initialise twelve workstations, a server and the meter of its room, without data."""
    initialise(settings)
    with Filled(settings.data_dir) as filled:
        for _ in range(12):
            filled.add_host(Population.WORKSTATION, DeviceClass.TOWER, enrolled_on=date(YEAR, 1, 1))
        filled.add_host(enrolled_on=date(YEAR, 1, 1))
        with filled.store.transaction():
            filled.store.metering.declare([DeclaredMeter("ups", "lyon", "DC1", MeterBoundary.ROOM)], [], [])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory of that fleet at the end of the year, with all its rows."""
    settings = settings_in(tmp_path_factory.mktemp("measured"))
    fleet(settings)
    measure_year(settings, YEAR)
    return settings.data_dir


@pytest.fixture
def place(tmp_path: Path, measured: Path, monkeypatch: pytest.MonkeyPatch) -> CollectorSettings:
    """Copy the measured directory and point the commands at the copy."""
    return copied(tmp_path, measured, monkeypatch)


def measure(settings: CollectorSettings, month: date, watts: int = 20) -> None:
    """Add a week of each workstation, a day of the server and an hour of the room's meter; keep months."""
    monday = month + (7 - month.weekday()) * DAY
    with Filled(settings.data_dir) as filled:
        for host in filled.store.registry.hosts():
            if host.population is Population.SERVER:
                server_day(filled, host.host_id, monday)
                _read(filled, host.host_id, monday)
            else:
                workstation_days(filled, host.host_id, monday, monday + 7 * DAY, watts=watts + host.host_id)
        filled.derive()
        roll(filled, month)


def _read(filled: Filled, host_id: HostId, day: date) -> None:
    start = day_start_unix_milliseconds(day, "Europe/Paris")
    with filled.store.transaction():
        reading = MeterReading("ups", PointKind.UPS, READ, 3_600_000)
        filled.store.metering.put_readings(DirtyPeriod(host_id, Grain.HOUR, start), [reading])


def measure_year(settings: CollectorSettings, year: int) -> None:
    """Measure each month of a year, and keep all twelve."""
    for month in range(1, 13):
        measure(settings, date(year, month, 1))
    with Filled(settings.data_dir) as filled:
        roll(filled, date(year + 1, 1, 4))


def a_workstation(filled: Filled) -> HostId:
    """Return one of the workstations."""
    hosts = filled.store.registry.hosts()
    return next(host.host_id for host in hosts if host.population is Population.WORKSTATION)


def late(settings: CollectorSettings, monday: date) -> None:
    """Add a week of one workstation long after it ended."""
    with Filled(settings.data_dir) as filled:
        workstation_days(filled, a_workstation(filled), monday, monday + 7 * DAY, watts=90)
        filled.derive()
        roll(filled, MONTHS_GO)


def keep_here(collector: Collector, day: date, _: threading.Event) -> dict[int, str]:
    """Keep due years as the collector's own process does, without the process."""
    with open_reader(collector.settings.data_dir) as store:
        return keep_due(store, collector.settings, day, collector.operations.perform)


def live(settings: CollectorSettings, *days: date) -> None:
    """Do what a running collector does on each of these days without an operator."""
    with open_collector(settings) as collector:
        for day in days:
            assert run_day(collector, day, threading.Event(), keep_here), collector.health.years_not_kept


def report(veilleuse: Command, year: int, *words: str) -> dict[str, Any]:
    """Return the JSON emissions report of a year."""
    period = ("--from", f"{year}-01-01", "--to", f"{year + 1}-01-01")
    code, out, err = veilleuse("report", "emissions", *period, "--format", "json", *words)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def figures(veilleuse: Command, year: int, *words: str) -> tuple[Any, Any]:
    """Return the rows and totals of a year's report, without the margins of a change.
    Margins grow once the machines that both years have are unknown."""
    found = report(veilleuse, year, *words)
    rows, totals = (
        [
            {name: value for name, value in row.items() if not name.endswith("_margin_kwh")}
            for row in found[table]
        ]
        for table in ("rows", "totals")
    )
    return rows, totals


def kept(settings: CollectorSettings) -> dict[int, KeptYear]:
    """Return the years whose statistics the collector kept without a closing."""
    with closing(SqliteClosingsReader(settings.data_dir)) as reader:
        return {one.year: one for one in reader.kept_years()}


def left(settings: CollectorSettings, year: int = YEAR) -> tuple[int, int]:
    """Count the stored months of workstations and the stored meter readings of a year."""
    first, end = date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()
    database = f"file:{settings.data_dir}/data.db?mode=ro"  # a second writer would end a collector that runs
    with closing(sqlite3.connect(database, uri=True)) as connection:
        (months,) = connection.execute(
            "SELECT count(DISTINCT month) FROM host_months JOIN hosts USING (host_id)"
            " WHERE population <> 3 AND month >= ? AND month < ?",
            (first, end),
        ).fetchone()
        (readings,) = connection.execute(
            "SELECT count(*) FROM meter_hours WHERE start / 86400000 + 719163 BETWEEN ? AND ?",
            (first, end - 1),
        ).fetchone()
    return months, readings


@pytest.mark.any_date
def test_three_years_without_an_operator_lose_no_year(tmp_path, place, veilleuse):
    """A year's report is the same after its months are deleted, and so are rooms after their readings are.
    The year can then be closed definitively with its own factors, and verified.
    Only the daily work of a running collector happens meanwhile.
    """
    then: dict[int, tuple[Any, Any]] = {}
    month = date(YEAR + 1, 1, 1)
    while month < date(YEAR + 4, 9, 1):
        if month.year < YEAR + 3 and month.month in QUARTERS:
            measure(place, month)
        with Filled(place.data_dir) as filled:
            roll(filled, month + 3 * DAY)
        live(place, month, month + 14 * DAY)
        if month.month == 7 and month.year <= YEAR + 3:  # meter readings are deleted already, months are not
            then[month.year - 1] = figures(veilleuse, month.year - 1)
        month = (month + 31 * DAY).replace(day=1)
    assert [left(place, year) for year in then] == [(0, 0)] * 3
    assert {year: figures(veilleuse, year) for year in then} == then
    assert [one.text.partition(" statistics were kept on ")[0] for one in check_closing_on(place, month)] == [
        f"{year} is over and not closed: its" for year in then
    ]
    for year, (rows, (total,)) in then.items():
        (room,) = [row for row in rows if row["device_class"] == "other_room"]
        assert room["energy_millijoules"] == (12 if year == YEAR else len(QUARTERS)) * READ
        (noted,) = report(veilleuse, year)["report"]["years_of_statistics"]
        assert f"{year} ({year + 1}-01-15)" <= noted <= f"{year} ({year + 1}-08-01)"
        made = told(veilleuse, "close", str(year), *signed_off(place))
        assert (made["revision"], made["state"], made["open_points"]) == (1, "closed_definitive", [])
        ((closed,),) = verified(told(veilleuse, "verify", str(year)))
        assert closed["energy_millijoules"] == total["energy_millijoules"]
        assert closed["kgco2e_total"] == f"{total['kgco2e_total']:.12g}"
        assert report(veilleuse, year)["totals"][0]["state"] == "closed_definitive"
    assert kept(place) == {}


def test_what_came_late_is_kept_until_the_months_go(place, veilleuse):
    """A week that comes after the rooms are kept and before the months are is in the figure.
    A later week is not, as after a closing. Without new data the date of keeping stays.
    """
    live(place, JANUARY)
    assert kept(place)[YEAR] == KeptYear(YEAR, JANUARY, False, False, kept(place)[YEAR].statistics_sha256)
    live(place, READINGS_GO - DAY, READINGS_GO, READINGS_GO + 30 * DAY)
    told_then = kept(place)[YEAR]
    assert (told_then.kept_on, told_then.readings_may_go, told_then.months_may_go) == (JANUARY, True, False)
    late(place, date(YEAR, 3, 14))
    before = figures(veilleuse, YEAR)
    live(place, MONTHS_GO - DAY)
    assert (kept(place)[YEAR].kept_on, left(place)[0]) == (JANUARY, 12)
    live(place, MONTHS_GO)
    assert (kept(place)[YEAR].kept_on, kept(place)[YEAR].months_may_go, left(place)[0]) == (
        MONTHS_GO,
        True,
        11,
    )
    assert figures(veilleuse, YEAR) == before
    late(place, date(YEAR, 1, 17))
    live(place, MONTHS_GO + DAY)
    assert (kept(place)[YEAR].kept_on, left(place)[0]) == (MONTHS_GO, 11)
    assert figures(veilleuse, YEAR) == before
    assert (
        told(veilleuse, "close", str(YEAR))["totals"][0]["energy_millijoules"]
        == before[1][0]["energy_millijoules"]
    )


def test_nothing_goes_while_a_year_cannot_be_kept(place, veilleuse):
    """While the disk is full, months and readings stay, and doctor names them and the reason.
    Once there is room they are kept, then deleted."""
    before = figures(veilleuse, YEAR)

    def full(*_: object) -> dict[int, str]:
        raise StoreFull("the disk is full")

    with open_collector(place) as collector, closing(AdminServer(place.data_dir, collector.operations)):
        for day in (JANUARY, MONTHS_GO, MONTHS_GO + 3 * DAY):
            assert run_day(collector, day, threading.Event(), full) is False
        (finding,) = check_closing_on(place, MONTHS_GO + 3 * DAY)
    assert finding.outcome == "warning"
    assert finding.text.endswith("stay until its statistics are kept: the disk is full")
    assert left(place) == (12, 12)
    live(place, MONTHS_GO + 4 * DAY)
    assert left(place) == (11, 5)
    assert figures(veilleuse, YEAR) == before
    (finding,) = check_closing_on(place, MONTHS_GO + 4 * DAY)
    assert (finding.outcome, "were kept on 2023-08-05, 'veilleuse close 2022'" in finding.text) == (
        "good",
        True,
    )


def test_what_waits_to_be_derived_is_waited_for(place):
    """Statistics that were kept before the derivation would never contain its figures."""
    with Filled(place.data_dir) as filled:
        workstation_days(filled, a_workstation(filled), date(YEAR, 3, 14), date(YEAR, 3, 21))
    with open_collector(place) as collector:
        assert run_day(collector, MONTHS_GO, threading.Event(), keep_here) is False
        assert "wait to be derived" in collector.health.years_not_kept[YEAR]
    assert left(place) == (12, 12)


@pytest.mark.any_date
def test_a_collector_that_was_off_keeps_before_it_takes(place, veilleuse):
    """When a collector starts again years later, its first check keeps all ended years in a child process,
    then deletes their months."""
    measure_year(place, YEAR + 1)
    then = {year: figures(veilleuse, year, "--basis", "unreleased") for year in (YEAR, YEAR + 1)}
    with served(place):
        until(lambda: [one.months_may_go for one in kept(place).values()] == [True, True])
        until(lambda: left(place) == left(place, YEAR + 1) == (0, 0))
    assert {year: figures(veilleuse, year, "--basis", "unreleased") for year in then} == then
    assert veilleuse("close", "--list")[2].count("its statistics were kept on") == 2
    code, _, err = veilleuse("verify", str(YEAR))
    assert (code, "are not signed: 'veilleuse close 2022'" in err) == (2, True)


def test_the_process_that_keeps_says_why_it_cannot(place):
    """When nobody answers on the socket, that is the year's reason, and nothing is deleted."""
    with open_collector(place) as collector:
        assert run_day(collector, MONTHS_GO, threading.Event(), keep_apart) is False
        assert "no collector runs" in collector.health.years_not_kept[YEAR]
    assert left(place) == (12, 12)


@pytest.mark.any_date
@pytest.mark.parametrize(
    ("period", "module", "at", "during"),
    [
        ("month", "month_publisher", "2022-02", "the figures of a month (2022-02)"),
        ("year", "year_keeper", "2022", "the sums of a year (2022)"),
    ],
)
def test_a_daily_process_that_is_killed_is_told_with_all_that_is_known(
    place, veilleuse, caplog, period, module, at, during
):
    """`kill -9` in mid-work: log, /metrics and `doctor` say which month or year, the step, the memory and the
    signal; the next success takes it back."""
    path = place.data_dir / SOCKET_FILE
    with open_collector(place) as collector:
        with socket.socket(socket.AF_UNIX) as deaf:  # the process waits there for an answer, in mid-work
            deaf.bind(str(path))
            deaf.listen()
            killer = threading.Thread(target=_kill_in_mid_work, args=(module, deaf))
            killer.start()
            if period == "month":
                assert not publish_due_months(collector, MONTHS_GO, threading.Event(), publish_apart)
            else:
                assert run_day(collector, MONTHS_GO, threading.Event(), keep_apart) is False
            killer.join()
        path.unlink()
        facts = collector.health.children_killed[period]
        assert (facts["signal"], facts["at"]) == ("SIGKILL", at)
        assert int(str(facts["memory_bytes"])) > 20 * 2**20
        (line,) = (one for one in caplog.records if one.message in ("months not published", "years not kept"))
        assert {name: vars(line)[name] for name in facts} == facts
        with closing(AdminServer(place.data_dir, collector.operations)):
            code, out, err = veilleuse("doctor")
            assert f"ended by SIGKILL. It was at: {during}, with " in out + err, (code, out, err)
            assert "journalctl -k" in out + err
            if period == "month":
                assert publish_due_months(collector, MONTHS_GO, threading.Event(), publish_apart)
            else:
                run_day(collector, MONTHS_GO, threading.Event(), keep_apart)
            assert collector.health.children_killed == {}


def _kill_in_mid_work(module: str, deaf: socket.socket) -> None:
    """Kill our child of this module once it asks at the socket."""
    deaf.settimeout(PATIENCE_SECONDS)
    with deaf.accept()[0]:
        for child in psutil.Process().children():
            if any(module in word for word in child.cmdline()):
                child.kill()


def test_a_backup_carries_what_is_kept(place, veilleuse, tmp_path):
    """After a restore the figures are the same, and the year can be closed definitively."""
    live(place, MONTHS_GO)
    before = figures(veilleuse, YEAR)
    archive = make_backup(place, tmp_path / "kept.backup")
    shutil.rmtree(place.data_dir)
    put_back(place, archive)
    assert figures(veilleuse, YEAR) == before
    assert told(veilleuse, "close", str(YEAR), *signed_off(place))["written"]


def test_a_closed_year_is_not_kept_twice(place, veilleuse):
    """A closing deletes the statistics kept before and makes its own.
    The months are deleted when they are too old."""
    live(place, JANUARY)
    told(veilleuse, "close", str(YEAR))
    assert kept(place) == {}
    live(place, JANUARY + DAY, MONTHS_GO)
    assert (kept(place), left(place)[0]) == ({}, 11)


def test_a_year_that_an_earlier_program_cut_is_not_kept(place, veilleuse):
    """Statistics of what is left would describe a part of the year.
    The year stays open without statistics, and its months are deleted on schedule."""
    with Filled(place.data_dir) as filled:
        retention(filled).run(MONTHS_GO)
    live(place, MONTHS_GO + DAY, MONTHS_GO + 40 * DAY)
    assert kept(place)[YEAR].statistics_sha256 is None
    assert left(place)[0] == 10
    code, _, err = veilleuse("close", str(YEAR))
    assert (code, "was never closed meanwhile" in err) == (2, True)
    assert report(veilleuse, YEAR)["report"].get("years_of_statistics") is None
    (finding,) = check_closing_on(place, MONTHS_GO + 40 * DAY)
    assert "cannot be closed any more" in finding.text


def test_machines_that_were_silent_before_the_year_are_not_gone(place):
    """Because of PCs that last reported in the year before, a year was taken for cut, and never kept."""
    before = day_start_unix_milliseconds(date(YEAR - 1, 11, 5), "UTC")
    with Filled(place.data_dir) as filled, filled.store.transaction():
        pcs = "host_id IN (SELECT host_id FROM hosts WHERE population <> 3)"
        connection = filled.store.data.connection
        connection.execute(f"DELETE FROM host_months WHERE {pcs}")
        connection.execute(f"UPDATE hosts SET last_contact_unix_milliseconds = ? WHERE {pcs}", (before,))
    live(place, MONTHS_GO)
    assert kept(place)[YEAR].statistics_sha256 is not None


def test_what_statistics_cannot_tell_is_refused(place, veilleuse, monkeypatch):
    """Reports over a part with deleted months, by month, by the present tree or with a larger k are refused.
    Months that are still there can be reported."""
    live(place, MONTHS_GO)
    half = ("--from", f"{YEAR}-01-01", "--to", f"{YEAR}-07-01")
    year = ("--from", f"{YEAR}-01-01", "--to", f"{YEAR + 1}-01-01")
    for words in (half, (*year, "--group-by", "month"), (*year, "--tree", "now")):
        code, _, err = veilleuse("report", "emissions", *words)
        assert (code, f"months of {YEAR} are gone" in err or f"of machines of {YEAR} are gone" in err) == (
            2,
            True,
        )
    assert veilleuse("report", "emissions", "--from", f"{YEAR}-03-01", "--to", f"{YEAR}-07-01")[0] == 0
    monkeypatch.setenv("VEILLEUSE__REPORTING__K_ANONYMITY", "12")
    code, _, err = veilleuse("report", "emissions", *year)
    assert (code, "kept with cells of 10 machines" in err) == (2, True)


def test_a_reen_sheet_restates_a_baseline_that_nobody_closed(place, veilleuse, tmp_path):
    """Once months of PCs are deleted, the restated emissions of the baseline year come from its statistics.
    An indicator of released months has no value."""
    measure(place, date(YEAR + 1, 1, 1))
    with Filled(place.data_dir) as filled:
        publish_months(filled, date(YEAR + 1, 2, 4))
    baselines = tmp_path / "objectives.csv"
    baselines.write_text(
        f"objective;indicator;baseline_year;baseline_value\n2;I1;{YEAR};0,5\n1;use_phase_kgco2e;{YEAR};300\n"
    )
    assert veilleuse("reen", "import", str(baselines))[0] == 0

    def restated() -> dict[str, float | None]:
        sheet = ("--from", f"{YEAR + 1}-01-01", "--to", f"{YEAR + 2}-01-01", "--format", "json")
        code, out, err = veilleuse("report", "reen", *sheet)
        assert code == 0, err
        rows = [row for row in json.loads(out)["rows"] if row.get("indicator") in ("I1", "use_phase_kgco2e")]
        return {row["indicator"]: row.get("restated_baseline_value") for row in rows}

    before = restated()
    assert None not in before.values()
    live(place, MONTHS_GO)
    with Filled(place.data_dir) as filled:
        filled.store.publications.expire(date(YEAR, 2, 1), ())
    year = ("--from", f"{YEAR}-01-01", "--to", f"{YEAR + 1}-01-01", "--group-by", "population")
    code, out, err = veilleuse("report", "emissions", *year, "--format", "json")
    assert code == 0, err
    (total,) = json.loads(out)["totals"]
    assert restated() == {"I1": None, "use_phase_kgco2e": total["kgco2e_total"]}


def test_small_groups_are_merged_before_they_are_kept(place):
    """Three workstations of an entity have no cell of their own, as k in a closing requires."""
    with Filled(place.data_dir) as filled, filled.store.transaction():
        filled.store.data.connection.execute(
            "UPDATE hosts SET org_entity = 'Eau' WHERE host_id IN (SELECT host_id FROM hosts WHERE population <> 3 LIMIT 3)"
        )
    live(place, JANUARY)
    with closing(SqliteClosingsReader(place.data_dir)) as reader:
        found = load_kept(reader, reader.kept_years()[0]).kept
    assert {
        Place.of(cell.stratum).entity for cell in found.cells if cell.stratum.device_class == "tower"
    } == {"autres"}
