# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The derive worker on a real SQLite store, behind the real writer."""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.support.memory_store import host as memory_host
from tests.support.memory_store import site as memory_site
from tests.support.pushes import enrol
from tests.support.stored_sums import SqliteSumReader
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.derive.wall import wall_energy
from veilleuse.collector.derive.worker import DeriveWorker, civil_year, derive_period
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.factors.book import choose
from veilleuse.collector.ingest.counters import Health
from veilleuse.collector.ingest.writer import Writer
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Cell, DecodedRecord, Grain, HostId, RecordPeriod, ValidPush
from veilleuse.collector.model.sums import DirtyPeriod, RecordCells
from veilleuse.collector.ports.registry import Registry
from veilleuse.collector.settings import Store
from veilleuse.collector.store import create_store
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.wire.chain import chain_next, chain_start, record_hash
from veilleuse.wire.ladder import Method
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, DeviceClass, State, Supply

SECOND = 1000
HOUR = 3_600_000
START = round(datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp() * 1000)
EPOCH = b"epoch-01"


@dataclass
class Fleet:
    """Holds a store with one virtual machine of two CPUs at site hq."""

    directory: Path
    store: SqliteStore
    writer: Writer
    worker: DeriveWorker
    host_id: HostId
    seq: int = 0
    chain: bytes = chain_start(EPOCH)

    def push(self, *starts: int, busy: int = 2_500) -> None:
        """Push one record of 10 s per start, with `busy` ms of CPU time."""
        records, before, first = [], self.chain, self.seq + 1
        for start in starts:
            self.seq += 1
            cell = Cell(
                Band.OPEN,
                State.ON_ACTIVE,
                Supply.AC,
                10 * SECOND,
                cpu_covered_milliseconds=10 * SECOND,
                cpu_busy_milliseconds=busy,
                cpu_bucket_milliseconds=(0,) * 5 + (10 * SECOND,) + (0,) * 7,
            )
            wire = _wire(start, cell)
            self.chain = chain_next(self.chain, wire)
            period = RecordPeriod(Grain.HOUR, start, 10 * SECOND)
            records.append(DecodedRecord(self.seq, wire, record_hash(wire), self.chain, period, (cell,)))
        push = ValidPush(self.host_id, EPOCH, first, before, tuple(records))
        self.writer.append(push).result(PATIENCE_SECONDS)


def _wire(start: int, cell: Cell) -> bytes:
    measurement = pb.Measurement(
        period=pb.Period(
            clock=pb.ClockPeriod(start_unix_milliseconds=start, duration_milliseconds=10 * SECOND)
        ),
        calendar_sha256=hashlib.sha256(b"").digest(),
        idle_rule_version=1,
        cells=[
            pb.Cell(
                band=pb.BAND_OPEN,
                state=pb.STATE_ON_ACTIVE,
                supply=pb.SUPPLY_AC,
                milliseconds=cell.milliseconds,
                cpu_covered_milliseconds=cell.cpu_covered_milliseconds,
                cpu_busy_milliseconds=cell.cpu_busy_milliseconds,
                cpu_bucket_milliseconds=cell.cpu_bucket_milliseconds,
            )
        ],
    )
    return pb.Record(measurement=measurement).SerializeToString()


def _enrol(store: SqliteStore, zone: str) -> HostId:
    with store.transaction():
        store.registry.put_site(memory_site(zone=zone))
        return enrol_virtual(store.registry)


def enrol_virtual(registry: Registry) -> HostId:
    """Enrol the fleet's machine: a virtual one with two processors at hq."""
    facts = pb.Facts(device_class=pb.DEVICE_CLASS_VIRTUAL_MACHINE, cpu_count=2)
    return enrol(registry, site_name="hq", entity="IT", agent_id=b"a" * 16, facts=facts)


@pytest.fixture
def zone() -> str:
    """Return the grid zone of the site."""
    return "FR"


@pytest.fixture
def health() -> Health:
    """Return the writer's counters."""
    return Health()


@pytest.fixture
def reader(fleet: Fleet) -> Iterator[SqliteSumReader]:
    """Open a reader beside the writer."""
    with closing(SqliteSumReader(fleet.directory)) as made:
        yield made


@pytest.fixture
def fleet(tmp_path: Path, zone: str, health: Health) -> Iterator[Fleet]:
    """Start store, writer and worker."""
    store = create_store(tmp_path / "data", Store(), simulated=False, now_unix_milliseconds=1)
    host_id = _enrol(store, zone)
    dirty = threading.Event()
    writer = Writer(store, health, queue_pushes=16, on_stored=dirty.set)
    writer.start()
    worker = DeriveWorker(
        writer, store.derive, store.registry, choose, plugged_share_ppm=500_000, dirty=dirty
    )
    yield Fleet(tmp_path / "data", store, writer, worker, host_id)
    worker.stop()
    writer.stop()
    store.close()


def test_every_record_is_derived_and_everything_sums(fleet: Fleet):
    """Σ records = Σ hour = Σ day = ledger, in integers, and equals the wall energy of the cells."""
    fleet.push(*(START + offset * 10 * SECOND for offset in range(30)))
    fleet.push(START + HOUR, START + HOUR + 10 * SECOND, busy=9_999)
    told: list[int] = []
    assert fleet.worker.drain(told.append) == 2
    assert told == sorted(told)
    assert told[-1] == 2
    machine = MachineFacts(DeviceClass.VIRTUAL_MACHINE, cpu_count=2)
    records = [
        record
        for hour in (START, START + HOUR)
        for record in fleet.store.derive.record_cells(DirtyPeriod(fleet.host_id, Grain.HOUR, hour))
    ]
    expected = sum(
        part.energy_millijoules
        for record in records
        for cell in record.cells
        for part in wall_energy(cell, machine)
    )
    assert expected > 0
    reader = SqliteSumReader(fleet.directory)
    day = date(2026, 3, 2).toordinal()
    assert (
        sum(row.cell.energy_millijoules for row in reader.derived(Grain.HOUR, START, START + 2 * HOUR))
        == expected
    )
    assert sum(row.cell.energy_millijoules for row in reader.derived(Grain.DAY, day, day + 1)) == expected
    (entry,) = reader.ledger()
    assert entry.energy_millijoules == expected
    assert (entry.method, entry.state, entry.factor_id) == (
        Method.LOAD_MODELLED,
        State.ON_ACTIVE,
        "ADEME-FR-2025-MOY",
    )
    assert entry.factor_kgco2e_per_kwh == "0.0461"
    assert entry.device_class is DeviceClass.VIRTUAL_MACHINE
    stored = fleet.store.data.connection.execute(
        "SELECT sum(derived_energy_millijoules) FROM records"
    ).fetchone()
    assert stored == (expected,)
    reader.close()


def test_deriving_again_never_advances_the_counters(fleet: Fleet):
    """The ledger keeps what was first derived, and a late record adds only its own energy."""
    fleet.push(START)
    fleet.worker.drain()
    before = fleet.store.derive
    reader = SqliteSumReader(fleet.directory)
    (first,) = reader.ledger()
    fleet.writer.submit(before.mark_all_dirty).result(PATIENCE_SECONDS)
    assert fleet.worker.drain() == 1
    assert reader.ledger() == (first,)
    fleet.push(START + 10 * SECOND)
    fleet.worker.drain()
    (later,) = reader.ledger()
    assert later.energy_millijoules == 2 * first.energy_millijoules
    reader.close()


def jumping(fleet: Fleet, seconds: float) -> DeriveWorker:
    """Return a worker whose clock advances so many seconds per reading."""
    looks = itertools.count()
    return DeriveWorker(
        fleet.writer,
        fleet.store.derive,
        fleet.store.registry,
        choose,
        plugged_share_ppm=0,
        clock=lambda: next(looks) * seconds,
    )


def test_work_is_cut_into_short_slices(fleet: Fleet):
    """With a clock that advances 20 ms per reading, a slice derives one period, and the rest stays dirty."""
    fleet.push(START, START + HOUR, START + 2 * HOUR)
    worker = jumping(fleet, 0.02)
    assert fleet.writer.submit(worker.run_slice).result(PATIENCE_SECONDS) == 1
    assert len(fleet.store.derive.dirty(10)) == 2
    assert worker.drain() == 2
    assert worker.drain() == 0


@pytest.mark.parametrize(("pressed", "done"), [(True, 1), (False, 4)])
def test_a_pressed_collector_derives_less_at_a_time_and_never_nothing(fleet: Fleet, pressed: bool, done: int):
    """With 5 ms per reading of the clock, a pressed slice derives a quarter of an unpressed one."""
    fleet.push(*(START + hour * HOUR for hour in range(6)))
    worker = jumping(fleet, 0.005)
    worker.stop()  # a started worker would clear the marks
    worker.start(lambda: pressed)
    assert fleet.writer.submit(worker.run_slice).result(PATIENCE_SECONDS) == done
    assert worker.drain() == 6 - done


def test_the_background_derives_and_stops(fleet: Fleet):
    """Once started, the worker clears the dirty marks."""
    fleet.worker.start()
    fleet.push(START)
    with closing(SqliteSumReader(fleet.directory)) as reader:
        until(lambda: reader.dirty_count() == 0)


def test_a_writer_that_stops_is_waited_for(fleet: Fleet, caplog: pytest.LogCaptureFixture):
    """A refused job is postponed with a warning."""
    fleet.writer.stop()
    with caplog.at_level(logging.WARNING):
        fleet.worker.start()
        until(lambda: caplog.records)
        fleet.worker.stop()
    assert [record.message for record in caplog.records] == ["derivation put off"]


def test_when_nothing_is_stored_nothing_is_asked(
    fleet: Fleet, health: Health, reader: SqliteSumReader, monkeypatch: pytest.MonkeyPatch
):
    """An idle collector runs no job and commits nothing: it waits without an end. A push starts the
    derivation."""
    waits, known = list[float | None](), fleet.worker._dirty.wait

    def wait(timeout: float | None = None) -> bool:
        waits.append(timeout)
        return known(timeout)

    monkeypatch.setattr(fleet.worker._dirty, "wait", wait)
    fleet.worker.start()
    until(lambda: waits)
    until(lambda: health.snapshot()["jobs"] == {"done": 1})
    fleet.push(START)
    until(lambda: len(waits) == 2)
    assert reader.dirty_count() == 0
    assert waits == [None, None]


def test_marks_made_by_hand_wake_it_too(fleet: Fleet, reader: SqliteSumReader):
    """`veilleuse derive` marks everything, then wakes the worker."""
    fleet.push(START)
    fleet.worker.start()
    until(lambda: reader.dirty_count() == 0)
    fleet.writer.submit(fleet.store.derive.mark_all_dirty).result(PATIENCE_SECONDS)
    fleet.worker.wake()
    until(lambda: reader.dirty_count() == 0)


@pytest.mark.parametrize(
    "spoil",
    [
        f"UPDATE records SET wire = x'ff00' WHERE start = {START}",
        f"CREATE TRIGGER no BEFORE INSERT ON derived WHEN new.start = {START} BEGIN SELECT raise(ABORT, 'no'); END",
    ],
    ids=["reading", "writing"],
)
def test_a_period_that_cannot_be_derived_never_stops_the_others(
    fleet: Fleet, reader: SqliteSumReader, caplog: pytest.LogCaptureFixture, spoil: str
):
    """Its mark is put aside with an error in the log, and the periods beside and after it are derived."""
    fleet.push(START, START + HOUR)
    fleet.writer.submit(lambda: fleet.store.data.connection.execute(spoil)).result(PATIENCE_SECONDS)
    fleet.writer.submit(fleet.store.data.forget).result(PATIENCE_SECONDS)  # also the cells of the record
    fleet.worker.start()
    until(lambda: reader.dirty_count() == 0)
    (message,) = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert message == "a period cannot be derived and is put aside"
    fleet.push(START + 2 * HOUR)
    until(lambda: reader.dirty_count() == 0)
    derived = {row.start for row in reader.derived(Grain.HOUR, 0, 2**62)}
    assert derived == {START + HOUR, START + 2 * HOUR}


def test_the_stores_trouble_is_not_the_periods(fleet: Fleet, reader: SqliteSumReader):
    """A full database puts no period aside: marks stay, and are derived once there is room."""
    fleet.push(*(START + hour * HOUR for hour in range(300)))

    def pages(most: int) -> None:
        fleet.store.data.connection.execute(f"PRAGMA max_page_count = {most}")

    fleet.writer.submit(lambda: pages(1), alone=True).result(
        PATIENCE_SECONDS
    )  # SQLite keeps at least the present pages, so no page more is possible
    with pytest.raises(CollectorError):
        fleet.worker.drain()
    fleet.writer.submit(lambda: pages(2**30), alone=True).result(PATIENCE_SECONDS)
    fleet.worker.drain()
    assert reader.dirty_count() == 0
    assert len(list(reader.derived(Grain.HOUR, 0, 2**62))) == 300


@pytest.mark.parametrize("zone", ["XX"])
def test_a_zone_without_factor_is_reported_once(fleet: Fleet, caplog: pytest.LogCaptureFixture):
    """The energy is derived, but the exposed counters do not advance, and the log gives the reason once."""
    fleet.push(START)
    fleet.worker.drain()
    fleet.push(START + 10 * SECOND)
    fleet.worker.drain()
    reader = SqliteSumReader(fleet.directory)
    assert reader.ledger() == ()
    assert sum(row.cell.energy_millijoules for row in reader.derived(Grain.HOUR, START, START + HOUR)) > 0
    reader.close()
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "no factor for a site: its counters stand still"
    ]


class NobodyThere:
    """A registry without hosts."""

    def host(self, host_id: HostId) -> None:
        return None


def test_a_forgotten_host_is_not_derived(fleet: Fleet):
    """Its marks are cleared, and nothing is derived from its records."""
    fleet.push(START)
    worker = DeriveWorker(
        fleet.writer,
        fleet.store.derive,
        NobodyThere(),  # type: ignore[arg-type]  # the part of ports.Registry that is asked
        choose,
        plugged_share_ppm=0,
    )
    assert worker.drain() == 1
    assert worker.drain() == 0
    reader = SqliteSumReader(fleet.directory)
    assert list(reader.derived(Grain.HOUR, START, START + HOUR)) == []
    reader.close()


def test_a_record_without_energy_is_none_not_zero():
    """A virtual machine that was off is derived without any energy."""
    machine = replace(
        memory_host(1, DeviceClass.VIRTUAL_MACHINE), facts=MachineFacts(DeviceClass.VIRTUAL_MACHINE)
    )
    off = Cell(Band.NIGHT, State.OFF, Supply.AC, HOUR)
    derived = derive_period([RecordCells(7, True, (off,))], machine, 500_000)
    assert derived.cells == ()
    assert derived.records[0].energy_millijoules is None
    assert derived.first_energies == ()


@pytest.mark.parametrize(
    ("period", "year"),
    [
        (
            DirtyPeriod(
                HostId(1), Grain.HOUR, round(datetime(2025, 12, 31, 23, tzinfo=UTC).timestamp() * 1000)
            ),
            2026,
        ),
        (DirtyPeriod(HostId(1), Grain.DAY, date(2025, 12, 31).toordinal()), 2025),
        (DirtyPeriod(HostId(1), Grain.WEEK, date(2025, 12, 29).toordinal()), 2026),
        (DirtyPeriod(HostId(1), Grain.WEEK, date(2024, 12, 30).toordinal()), 2025),
    ],
)
def test_the_year_is_the_sites(period: DirtyPeriod, year: int):
    """23:00 UTC on New Year's Eve is next year in Paris; a week belongs to the year of its Thursday."""
    assert civil_year(period, "Europe/Paris") == year
