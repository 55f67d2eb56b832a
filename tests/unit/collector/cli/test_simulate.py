# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse simulate`: records of a fleet with known true values are stored as any others, and the report
contains the truth."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import clock
from tests.support.sources import opened
from veilleuse.collector.app.data_directory import initialise, open_collector
from veilleuse.collector.cli.main import run
from veilleuse.collector.derive.priors import DEFAULT_PLUGGED_SHARE_PPM
from veilleuse.collector.derive.worker import DeriveWorker
from veilleuse.collector.documents.document import renderer
from veilleuse.collector.errors import DataDirectoryError, UsageError
from veilleuse.collector.factors.book import choose
from veilleuse.collector.model.figures import EmissionsRow
from veilleuse.collector.model.query import Query
from veilleuse.collector.reports.emissions import EmissionsReport, emissions_report_of
from veilleuse.collector.settings import CollectorSettings, ReportingSettings
from veilleuse.collector.simulate.agent_stream import Agent
from veilleuse.collector.simulate.calendars import Timetable, days, period_of
from veilleuse.collector.simulate.fill import simulate
from veilleuse.collector.simulate.fleet import SimulatedDevice, SimulationOrder, Trouble, devices
from veilleuse.collector.simulate.physics import Physics
from veilleuse.collector.simulate.places import VIRTUAL
from veilleuse.collector.simulate.routines import routine_of
from veilleuse.collector.simulate.small import COLLEGES, ROOM
from veilleuse.collector.simulate.truth import Truth
from veilleuse.collector.validate import MachineLimits, check_push
from veilleuse.wire.chain import chain_start
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import GapReason, Population

pytestmark = pytest.mark.any_date

FEBRUARY = SimulationOrder(hosts=20, first=date(2026, 2, 1), days=31, seed=4)
"""With this seed no drawn error is large: one interval in twenty misses, and eight are checked here.
tests/bench/simulate.py uses many seeds."""
TODAY = date(2026, 11, 26)
BIG = SimulationOrder(hosts=200, first=date(2025, 9, 1), days=365, seed=1)
AFTER_ALL = 1_900_000_000_000
"""A time in 2030, in Unix milliseconds."""


DERIVED = (
    "SELECT * FROM derived",
    "SELECT * FROM derived_screens",
    "SELECT * FROM ledger",
    "SELECT derived_energy_millijoules FROM records ORDER BY record_id",
)
"""What derive writes, in the order of each table's key."""


class Made(NamedTuple):
    """A simulated directory with its truth."""

    directory: Path
    truth: Truth


def _quiet(what: str, done: int, whole: int) -> None:
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    """Simulate a fleet over February 2026."""
    directory = tmp_path_factory.mktemp("simulated") / "data"
    return Made(directory, simulate(CollectorSettings(data_dir=directory), FEBRUARY, _quiet))


def report(directory: Path, *dimensions: str, k: int = 1) -> EmissionsReport:
    """Return the report of February."""
    question = Query(date(2026, 2, 1), date(2026, 3, 1), dimensions, k, TODAY)
    with opened(directory, ReportingSettings()) as sources:
        return emissions_report_of(sources, question, compare=False)


def asked(directory: Path, sql: str) -> list[Any]:
    """Return the database's answer, read only."""
    connection = sqlite3.connect(f"file:{directory / 'data.db'}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


# --- from records to the report


def test_everything_downstream_has_happened(made: Made):
    """Nothing waits to be derived, months are kept, no time is unexplained, and the report is marked as
    simulated."""
    head = report(made.directory).document.head
    assert head["data"] == "simulated"
    assert head["periods_not_derived"] == 0
    assert head["unexplained_milliseconds"] == 0
    assert head["inventory_imported_on"] is not None
    assert asked(made.directory, "SELECT count(DISTINCT host_id) FROM host_years")[0][0] == FEBRUARY.hosts
    assert asked(made.directory, "SELECT count(*) FROM stale_months WHERE month < 739677") == [(0,)]


@pytest.mark.parametrize(
    ("population", "device_class"),
    [
        ("workstation", "laptop"),
        ("workstation", "sff"),
        ("workstation", "monitor"),
        ("classroom", "sff"),
        ("classroom", "monitor"),
        ("server", "server"),
        ("server", "other_room"),
        ("", "switch"),
    ],
)
def test_the_report_finds_the_truth(made: Made, population: str, device_class: str):
    """Each class's interval contains the whole fleet's energy, including machines without an agent.
    Laptops have rows on site and at home."""
    rows = [
        row
        for row in report(made.directory, "device_class").statement.rows
        if (row.key.population or "", row.key.device_class) == (population, device_class)
    ]
    where = {"device_class": device_class} | ({"population": population} if population else {})
    true = made.truth.kwh(date(2026, 2, 1), date(2026, 3, 1), **where)
    assert true > 0
    assert len(rows) == (2 if device_class == "laptop" else 1)
    intervals = [row.uncertainty.kwh.ends or (0.0, 0.0) for row in rows]
    assert sum(low for low, _ in intervals) <= true <= sum(high for _, high in intervals)


def test_the_total_holds_the_truth(made: Made):
    """The total contains everything, including network and overhead of the room."""
    statement = report(made.directory).statement
    (total,) = statement.totals
    true = made.truth.kwh(date(2026, 2, 1), date(2026, 3, 1))
    low, high = total.uncertainty.kwh.ends or (0.0, 0.0)
    assert low <= true <= high < 3 * low
    assert (
        sum(row.energy.energy_millijoules or 0 for row in statement.rows) == total.energy.energy_millijoules
    )


def test_each_rung_of_the_ladder_is_climbed(made: Made):
    """Meters, batteries, calibrated and uncalibrated counters and the load model all give energy."""
    methods = {name for (name,) in asked(made.directory, "SELECT DISTINCT method FROM derived")}
    assert {"metered", "battery", "counter_calibrated", "counter_modelled", "load_modelled"} <= methods
    assert asked(made.directory, "SELECT count(*) FROM meter_hours")[0][0] > 1_000
    assert asked(made.directory, "SELECT count(*) FROM derived_screens")[0][0] > 0


def test_the_inventory_has_more_machines_than_agents(made: Made):
    """Every agent is matched with its asset, and the report's fleet is the inventory's."""
    with opened(made.directory, ReportingSettings()) as sources:
        assets = sources.inventory.assets()
    assert sum(one.host_id is not None for one in assets) == FEBRUARY.hosts
    rows = [
        row
        for row in report(made.directory, "device_class").statement.rows
        if row.key.device_class in ("laptop", "sff", "server") and row.key.power_context != "home"
    ]
    assert sum(row.activity.n or 0 for row in rows) == FEBRUARY.hosts
    assert sum(row.activity.n_fleet or 0 for row in rows) > 1.4 * FEBRUARY.hosts


def test_the_same_seed_makes_the_same_figures(tmp_path):
    """One seed gives the same records and report byte for byte; another seed gives another fleet and other
    errors."""
    order = SimulationOrder(hosts=10, first=date(2026, 2, 1), days=7, seed=3)
    seen = []
    for name in ("a", "b"):
        directory = tmp_path / name
        truth = simulate(CollectorSettings(data_dir=directory), order, _quiet).text()
        wires = asked(directory, "SELECT host_id, wire FROM records ORDER BY record_id")
        document = report(directory, "entity", "device_class").document
        seen.append((truth, wires, renderer("csv")(document)))
    assert seen[0] == seen[1]
    other = replace(order, seed=4)
    assert devices(order) != devices(other)
    assert Physics(order).meter_gain(fine=True) != Physics(other).meter_gain(fine=True)


def test_slices_of_one_period_derive_the_same(made: Made, tmp_path):
    """Everything is derived for the first time again, each period in its own slice: the cells, the ledger and
    the energy of each record are those of slices of many periods."""
    directory = tmp_path / "data"
    shutil.copytree(made.directory, directory)
    before = [asked(directory, sql) for sql in DERIVED]
    with open_collector(CollectorSettings(data_dir=directory)) as collector:
        store = collector.store

        def undo() -> None:
            for table in ("derived", "derived_screens", "ledger"):
                store.data.connection.execute(f"DELETE FROM {table}")
            store.data.connection.execute("UPDATE records SET derived_energy_millijoules = NULL")
            store.derive.mark_all_dirty()

        collector.writer.submit(undo).result()
        worker = DeriveWorker(
            collector.writer,
            store.derive,
            store.registry,
            choose,
            plugged_share_ppm=DEFAULT_PLUGGED_SHARE_PPM,
            clock=itertools.count().__next__,
            metering=store.metering,
            calibrations=store.calibrations,
        )
        assert worker.drain() > 1_000
    assert [asked(directory, sql) for sql in DERIVED] == before


# --- the directory


def test_real_data_and_simulated_data_never_meet(tmp_path):
    """A directory for real data is refused, and nothing is written."""
    settings = CollectorSettings(data_dir=tmp_path / "real")
    initialise(settings)
    order = SimulationOrder(hosts=10, first=date(2026, 2, 1), days=7, seed=1)
    with pytest.raises(DataDirectoryError, match="is for real data, and is never both"):
        simulate(settings, order, _quiet)
    assert asked(settings.data_dir, "SELECT count(*) FROM sites") == [(0,)]


def test_a_directory_takes_one_fleet(made: Made):
    """A second simulation would add to the first."""
    with pytest.raises(DataDirectoryError, match="holds a fleet already"):
        simulate(CollectorSettings(data_dir=made.directory), FEBRUARY, _quiet)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"hosts": 9}, "--hosts 9"),
        ({"days": 6}, "--days 6"),
        ({"first": date(2020, 12, 31)}, "where factors begin"),
    ],
)
def test_an_order_is_bounded(change: dict[str, Any], what: str):
    """Too few machines or days, and days before 2021, the first year with a factor, are refused."""
    with pytest.raises(UsageError, match=what):
        replace(FEBRUARY, **change)


def test_what_is_yet_to_come_is_not_simulated(tmp_path):
    """Records of the future would be refused from any agent."""
    order = replace(FEBRUARY, first=clock.today() - timedelta(days=10))
    with pytest.raises(UsageError, match="yet to come"):
        simulate(CollectorSettings(data_dir=tmp_path / "data"), order, _quiet)
    assert not (tmp_path / "data").exists()


def test_the_command_writes_the_truth_beside(monkeypatch, capsys, tmp_path):
    """The command writes the truth to a new file named after the directory. An existing file is refused
    before any work."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "data"))
    words = ["simulate", "--hosts", "10", "--from", "2026-02-01", "--days", "7", "--seed", "2", "--json"]
    assert run(words) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    truth = json.loads((tmp_path / "data-truth.json").read_text())
    assert told["kwh_total"] == truth["kwh_total"] > 0
    assert {told["data"], truth["data"]} == {"simulated"}
    assert "machines 1/" not in err  # a progress bar is for terminals only
    assert run(words) == 2
    assert "exists: remove it, or choose another file with --truth" in capsys.readouterr().err


# --- the fleet


def test_the_shape_of_the_fleet():
    """Three colleges with ten machines or more, two directions and a server room have agents on some.
    Half of the agents begin in the second half."""
    fleet = devices(BIG)
    agents = [one for one in fleet if one.agent_from is not None]
    assert len(agents) == BIG.hosts
    assert Counter(place.population for place in BIG.places) == {
        Population.CLASSROOM: 3,
        Population.WORKSTATION: 2,
        Population.SERVER: 1,
    }
    for place in COLLEGES:
        assert sum(one.place == place for one in fleet) >= 10
    middle = BIG.first + timedelta(days=BIG.days // 2)
    late = sum(one.agent_from is not None and one.agent_from >= middle for one in fleet)
    assert 0.4 < late / len(agents) < 0.6
    fixed = [one for one in fleet if one.place != ROOM and one.model.device_class.value != "laptop"]
    assert 0.04 < sum(one.always_on for one in fixed) / len(fixed) < 0.2
    assert sum(one.model == VIRTUAL for one in agents) == 1


def test_no_model_is_without_an_agent():
    """Every model of a place has an agent there in any fleet, or its energy could not be estimated."""
    for hosts in (10, 20, 60, 300):
        fleet = devices(replace(BIG, hosts=hosts))
        known = {(one.place.entity, one.model) for one in fleet if one.agent_from is not None}
        assert {(one.place.entity, one.model) for one in fleet} == known


def test_gaps_of_each_kind():
    """Every reason of a gap occurs, and so do agents that were not running, for less and more than 72 h."""
    troubles = [one.trouble for one in devices(BIG) if one.trouble is not None]
    assert {one.reason for one in troubles} == {None, *GapReason}
    lengths = {(one.end - one.first).days for one in troubles}
    assert min(lengths) == 1
    assert max(lengths) > 3


# --- records of agents


def _told(device: SimulatedDevice, order: SimulationOrder) -> Iterator[pb.Record]:
    """Yield every record of its agent, decoded."""
    timetable = Timetable(order, device.place, period_of(device.place.population, order, 1_000))
    physics = Physics(order)
    agent, routine, machine = (
        Agent(device, timetable, physics, order.seed),
        routine_of(device, order.seed),
        physics.machine(device),
    )
    for day in days(order.first, order.end):
        slots = timetable.slots(day)
        spans = routine.spans(day, timetable.day_type(day), slots[0].start, slots[-1].end)
        assert (spans[0].start, spans[-1].end) == (slots[0].start, slots[-1].end)
        assert all(one.end == other.start for one, other in itertools.pairwise(spans))
        assert all(span.start < span.end for span in spans)
        for wire in agent.day(day, spans, [machine.powers(span) for span in spans]):
            yield pb.Record.FromString(wire)


SPRING = SimulationOrder(hosts=40, first=date(2026, 3, 16), days=28, seed=5)
"""Four whole weeks with the change of clocks on 29 March."""


@pytest.mark.parametrize("population", list(Population))
def test_all_time_is_told_to_the_millisecond(population: Population):
    """Over whole weeks each machine's records and gaps sum to the civil time, whatever its trouble:
    produced = stored + declared gaps."""
    fleet = [one for one in devices(SPRING) if one.place.population is population]
    reasons = [None, *GapReason]
    for number, device in enumerate(fleet[:18]):
        begun = SPRING.first + timedelta(days=3 + number)
        trouble = Trouble(reasons[number % len(reasons)], begun, begun + timedelta(days=1 + number % 5))
        records = list(_told(replace(device, trouble=trouble, agent_from=SPRING.first), SPRING))
        total = sum(
            sum(cell.milliseconds for cell in record.measurement.cells)
            + sum(span.milliseconds for span in record.gap.spans)
            for record in records
        )
        assert total == (28 * 24 - 1) * MILLISECONDS_PER_HOUR
        gaps = [record for record in records if record.WhichOneof("body") == "gap"]
        lost = trouble.reason not in (None, GapReason.SENSOR_LOST)
        assert len(gaps) == (1 if lost else 0)


def test_what_is_told_is_what_any_agent_may_tell():
    """The collector's own rules refuse no record of any kind of machine."""
    for device in devices(SPRING)[::3]:
        wires = [record.SerializeToString() for record in _told(device, SPRING)]
        machine = MachineLimits(device.place.population, device.model.device_class, allow_fake=False)
        epoch = bytes(8)
        request = pb.PushRequest(
            epoch=epoch, first_seq=1, chain_before=chain_start(epoch), records=wires[:1_000]
        )
        assert not isinstance(check_push(request, 1, machine, AFTER_ALL), tuple)  # type: ignore[arg-type]


def test_what_rows_are_compared_with(made: Made):
    """The truth by month, place and class sums to its total, without virtual machines."""
    told = made.truth.document()
    assert sum(row["kwh"] for row in told["months"]) == pytest.approx(told["kwh_total"])
    assert sum(told["kwh_by_entity"].values()) == pytest.approx(told["kwh_total"])
    assert {row["month"] for row in told["months"]} == {"2026-02", "2026-03"}
    assert "virtual_machine" not in {row["device_class"] for row in told["months"]}
    rows: tuple[EmissionsRow, ...] = report(made.directory, "device_class").statement.rows
    classes = {row.key.device_class for row in rows}
    assert {row["device_class"] for row in told["months"]} == classes - {"autres"}
