# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R18: produced = stored + declared gaps, with the real fold, drops, encoder, validator and store."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.support.pushes import Stream, enrol, site
from veilleuse.agent.model import DatePeriod, Record, Tick
from veilleuse.agent.resident.fold import Fold
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.spool.database import gap_over
from veilleuse.collector import settings
from veilleuse.collector.cli.main import run
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.model.records import AppendResult, Grain, HostId, ValidPush
from veilleuse.collector.model.sums import BalanceRow
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import create_store
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.collector.validate import MachineLimits, check_push
from veilleuse.collector.web.metrics.indicators_monthly import read_balance
from veilleuse.collector.web.metrics.samples import fleet_exposition
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.wire.vocabulary import DeviceClass, GapReason, Population, State, Supply

HOUR = 3_600_000
DAY = 24 * HOUR
PARIS = ZoneInfo("Europe/Paris")
AUTUMN, SPRING = date(2026, 10, 25), date(2026, 3, 29)
"""Days of 25 and of 23 hours."""
NOW = int(datetime(2026, 12, 20, tzinfo=UTC).timestamp()) * 1000
ENCODER = WireEncoder()
GRAINS = {Population.SERVER: 300_000, Population.CLASSROOM: HOUR, Population.WORKSTATION: HOUR}
SPAN_DAYS = {Population.SERVER: 6, Population.CLASSROOM: 9, Population.WORKSTATION: 36}


def midnight(day: date) -> int:
    """Return the day's midnight in Paris, Unix ms."""
    return int(datetime.combine(day, datetime.min.time(), PARIS).timestamp()) * 1000


def life(population: Population, first: int, end: int, chance: random.Random) -> Iterator[Record]:
    """Yield the real fold's records of a machine that works, idles, sleeps, is off, or is killed."""
    fold = Fold(population, GRAINS[population])
    position = first
    while position < end:
        state = chance.choice(list(State))
        length = chance.choice([HOUR // 2, 7 * HOUR, 11 * HOUR]) + chance.randrange(999_999)
        step = 600_000 if state in (State.ON_ACTIVE, State.ON_IDLE) else length
        for start in range(position, position + length, step):
            tick = Tick(start, min(step, position + length - start), state, Supply.AC)
            yield from fold.add(tick)
        position += length
        if chance.random() < 0.2:  # killed and started again from its checkpoint
            fold, grown = Fold.from_json(fold.to_json(), population, GRAINS[population])
            assert not grown


@dataclass
class Host:
    """A machine of the store, and the fate of its records."""

    host_id: HostId
    population: Population
    stream: Stream
    bodies: list[Record]
    fate: str = ""


class Fleet:
    """A store, and machines whose records reach it in one way or another."""

    def __init__(self, directory: Path) -> None:
        self.store: SqliteStore = create_store(
            directory, settings.Store(free_bytes_minimum=0), simulated=False, now_unix_milliseconds=NOW
        )
        self.store.registry.put_site(site())
        self.directory = directory

    def host(self, population: Population, around: date, seed: int) -> Host:
        """Return a machine with its records, which are not yet sent."""
        first = midnight(around - timedelta(days=SPAN_DAYS[population] // 2)) + 5 * HOUR
        bodies = list(life(population, first, first + SPAN_DAYS[population] * DAY, random.Random(seed)))
        host_id = enrol(self.store.registry, population)
        machine = MachineLimits(population, DeviceClass.TOWER, allow_fake=False)
        return Host(host_id, population, Stream(host_id, machine), bodies)

    def send(self, stream: Stream, *wires: bytes) -> None:
        """Number, check and store records."""
        first = len(stream.wires) + 1
        stream.add(*wires)
        for start in range(first, len(stream.wires) + 1, 500):
            checked = check_push(stream.request(start, start + 499), stream.host_id, stream.machine, NOW)
            assert isinstance(checked, ValidPush), checked
            (outcome,) = self.store.ingest.append([checked])
            assert outcome.result is AppendResult.STORED

    def rows(self) -> list[BalanceRow]:
        """Return the whole balance."""
        with closing(SqliteReader(self.directory)) as reader:
            return list(reader.balance(date(2026, 1, 1), date(2026, 12, 31)))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Yield an empty store."""
    made = Fleet(tmp_path)
    yield made
    made.store.close()


def encoded(records: list[Record]) -> list[bytes]:
    """Encode records as the sender does."""
    return [ENCODER.encode(record.to_json()) for record in records]


# ------------------------------------------------------------------------ fates of a machine's records


def whole(fleet: Fleet, host: Host) -> None:
    """Send all records."""
    fleet.send(host.stream, *encoded(host.bodies))


def dropped(fleet: Fleet, host: Host) -> None:
    """Put one gap at the place of up to 32 records, as the resident does at the spool's bound."""
    first, last = len(host.bodies) // 3, len(host.bodies) // 2
    last = min(last, first + 32)
    lost = gap_over(GapReason.SPOOL_CAP, [body.to_json() for body in host.bodies[first:last]])
    before, after = encoded(host.bodies[:first]), encoded(host.bodies[last:])
    fleet.send(host.stream, *before, ENCODER.encode(lost.to_json()), *after)


def refused(fleet: Fleet, host: Host) -> None:
    """Replace every seventh record by a gap at its number, as after a refusal."""
    wires = encoded(host.bodies)
    fleet.send(host.stream, *[ENCODER.refused(wire) if i % 7 == 3 else wire for i, wire in enumerate(wires)])


def damaged(fleet: Fleet, host: Host) -> None:
    """Lose three numbered records of unknown time, and begin a new epoch, as after damage of the spool."""
    at = len(host.bodies) // 2
    fleet.send(host.stream, *encoded(host.bodies[:at]))
    again = Stream(host.host_id, host.stream.machine)
    fleet.send(again, ENCODER.lost("spool_damaged", 3), *encoded(host.bodies[at + 3 :]))


def rolled_back(fleet: Fleet, host: Host) -> None:
    """Send a third of the records again in a new epoch, as after a rollback of the spool."""
    third = len(host.bodies) // 3
    fleet.send(host.stream, *encoded(host.bodies[: 2 * third]))
    fleet.send(Stream(host.host_id, host.stream.machine), *encoded(host.bodies[third:]))


FATES: dict[str, Callable[[Fleet, Host], None]] = {
    one.__name__: one for one in (whole, dropped, refused, damaged, rolled_back)
}


@pytest.mark.promise("R18")
def test_every_whole_day_and_week_is_accounted_for(fleet, figure):
    """Days of 23, 24 and 25 hours and workstations' weeks have 0 ms unexplained and 0 ms stored twice, for
    every fate of the records."""
    hosts = []
    for seed, (population, around, fate) in enumerate(
        (population, around, fate)
        for population in Population
        for around in (SPRING, AUTUMN)
        for fate in FATES
    ):
        host = fleet.host(population, around, seed)
        FATES[fate](fleet, host)
        host.fate = fate
        hosts.append(host)
    rows = fleet.rows()
    unexplained = sum(row.unexplained_milliseconds for row in rows)
    figure(
        f"{unexplained} ms unexplained in {len(rows):,} whole days and weeks of {len(hosts)} machines, "
        f"{sum(row.gap_milliseconds + row.undated_milliseconds for row in rows) / HOUR:,.0f} h in declared gaps"
    )
    assert unexplained == 0
    assert {row.host_id for row in rows} == {host.host_id for host in hosts}
    assert {row.expected_milliseconds for row in rows if row.grain is Grain.DAY} == {
        23 * HOUR,
        DAY,
        25 * HOUR,
    }
    weeks = {row.expected_milliseconds for row in rows if row.grain is Grain.WEEK}
    assert weeks == {7 * DAY - HOUR, 7 * DAY, 7 * DAY + HOUR}
    for row in rows:
        assert row.expected_milliseconds + row.excess_milliseconds == (
            row.stored_milliseconds
            + row.gap_milliseconds
            + row.undated_milliseconds
            + row.unexplained_milliseconds
        )
    assert sum(row.excess_milliseconds for row in rows) == 0
    fates = {host.host_id: host.fate for host in hosts}
    assert {fates[row.host_id] for row in rows if row.gap_milliseconds} == {"dropped", "refused"}
    assert {fates[row.host_id] for row in rows if row.undated_milliseconds} == {"damaged"}


@pytest.mark.promise("R18")
@pytest.mark.parametrize("population", list(Population))
def test_a_record_lost_in_silence_shows(fleet, figure, population):
    """A lost record without a gap leaves exactly its milliseconds unexplained, on its day or week."""
    host = fleet.host(population, AUTUMN, 77)
    middle = len(host.bodies) // 2
    gone = sum(cell.milliseconds for cell in host.bodies[middle].cells.values())
    fleet.send(host.stream, *encoded(host.bodies[:middle] + host.bodies[middle + 1 :]))
    rows = [row for row in fleet.rows() if row.unexplained_milliseconds]
    figure(f"{gone:,} ms of a {population} unexplained after a mutant drops a record")
    assert [row.unexplained_milliseconds for row in rows] == [gone]


@pytest.mark.promise("R18")
def test_metrics_and_reports_say_it(fleet, tmp_path, capsys):
    """/metrics, the head of a report and a note beside it show the unexplained time; /metrics of PCs only
    when there are ten of them."""
    host, pc = fleet.host(Population.SERVER, AUTUMN, 77), fleet.host(Population.CLASSROOM, AUTUMN, 78)
    for one in (host, pc):
        middle = len(one.bodies) // 2
        fleet.send(one.stream, *encoded(one.bodies[:middle] + one.bodies[middle + 1 :]))
    gone = sum(row.unexplained_milliseconds for row in fleet.rows() if row.host_id == host.host_id)
    assert gone == 300_000
    now = midnight(AUTUMN + timedelta(days=4)) // 1000
    config = CollectorSettings(data_dir=fleet.directory)
    with closing(SqliteReader(fleet.directory)) as reader:
        balance = read_balance(reader, AUTUMN + timedelta(days=4))
        cache = SnapshotCache(reader, config, lambda: now, balance=lambda: balance)
        out = fleet_exposition(cache.take_snapshot(), "0", 10)
        told = {sample.name: sample for family in out.collect() for sample in family.samples}
        unexplained, excess = told[c.UNEXPLAINED.name], told[c.EXCESS.name]
        assert unexplained[:3] == (c.UNEXPLAINED.name, {"population": "server"}, gone / 1000)
        assert excess[:3] == (c.EXCESS.name, {"population": "server"}, 0)
    asked = ["report", "emissions", "--from", "2026-10-01", "--to", "2026-11-01", "--format", "json"]
    (tmp_path / "c.toml").write_text(f'data_dir = "{fleet.directory}"\n')
    assert run([*asked, "--config", str(tmp_path / "c.toml")]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["report"]["unexplained_milliseconds"] == gone + HOUR
    assert "1.1 h of machines are neither stored nor declared lost" in said.err


def test_an_hour_told_twice_does_not_hide_one_that_is_missing(fleet):
    """An hour stored twice, after a clock was set back, does not hide a lost hour: both figures show it."""
    host = fleet.host(Population.SERVER, date(2026, 6, 10), 5)
    day = midnight(date(2026, 6, 10))
    kept = [
        body
        for body in host.bodies
        if not day + 3 * HOUR <= getattr(body.period, "start_unix_milliseconds", 0) < day + 4 * HOUR
    ]
    twice = [
        body._replace(idle_rule_version=2)
        for body in kept
        if day + 8 * HOUR <= getattr(body.period, "start_unix_milliseconds", 0) < day + 9 * HOUR
    ]
    fleet.send(host.stream, *encoded(kept + twice))
    (row,) = [row for row in fleet.rows() if row.start == date(2026, 6, 10).toordinal()]
    assert (row.unexplained_milliseconds, row.excess_milliseconds) == (HOUR, HOUR)
    assert row.stored_milliseconds == DAY


@pytest.mark.parametrize("population", [Population.SERVER, Population.CLASSROOM])
def test_days_and_weeks_of_a_machine_that_lost_its_spool_count(fleet, population):
    """A machine that no longer knows its population sends days and weeks until its next contact: all its
    time is explained, and its day has the energy of both."""
    fold = Fold(population, GRAINS[population])
    first = midnight(date(2026, 6, 8)) + 9 * HOUR  # a Monday
    bodies: list[Record] = []
    for start in range(first, first + 6 * DAY, 600_000):
        if start == first + DAY + 4 * HOUR:
            bodies += fold.change_grain(Population.WORKSTATION, HOUR)
        elif start == first + 2 * DAY + 6 * HOUR:
            bodies += fold.change_grain(population, GRAINS[population])
        bodies += fold.add(Tick(start, 600_000, State.ON_IDLE, Supply.AC))
    assert len({type(body.period) for body in bodies}) == 3
    host_id = enrol(fleet.store.registry, population)
    stream = Stream(host_id, MachineLimits(population, DeviceClass.TOWER, allow_fake=False))
    fleet.send(stream, *encoded(bodies))
    rows = fleet.rows()
    assert [row.unexplained_milliseconds for row in rows] == [0] * len(rows)
    assert len(rows) >= 4
    before = sum(row.stored_milliseconds for row in rows)
    gone = next(body for body in bodies if isinstance(body.period, DatePeriod))
    assert before == len(rows) * DAY
    other = enrol(fleet.store.registry, population)
    stream = Stream(other, MachineLimits(population, DeviceClass.TOWER, allow_fake=False))
    fleet.send(stream, *encoded([body for body in bodies if body is not gone]))
    lost = [row for row in fleet.rows() if row.host_id == other and row.unexplained_milliseconds]
    assert sum(row.unexplained_milliseconds for row in lost) == sum(
        cell.milliseconds for cell in gone.cells.values()
    )


def test_gaps_stored_before_there_was_a_table_are_found_again(fleet):
    """A directory of 0.1 that is migrated explains the same milliseconds by the gaps in its stored bytes."""
    host = fleet.host(Population.SERVER, AUTUMN, 9)
    dropped(fleet, host)
    before = fleet.rows()
    with fleet.store.transaction():
        connection = fleet.store.data.connection
        connection.execute("DELETE FROM gap_periods")
        connection.execute("DELETE FROM meta WHERE key = 'gap_periods_filled'")
    assert any(row.unexplained_milliseconds for row in fleet.rows())
    fleet.store.close()
    fleet.store = create_store(
        fleet.directory, settings.Store(free_bytes_minimum=0), simulated=False, now_unix_milliseconds=NOW
    )
    assert fleet.rows() == before
