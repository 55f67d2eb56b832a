# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fill a data directory through the real store and derivation, for the tests and benches of the outlets."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.support.clock import now, today, unix_seconds
from tests.support.pushes import accepted, enrol, new_stream
from tests.support.stored_sums import SqliteSumReader
from veilleuse.collector.derive.priors import DEFAULT_PLUGGED_SHARE_PPM
from veilleuse.collector.derive.worker import DeriveWorker
from veilleuse.collector.factors.book import choose
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.model.records import AppendResult, HostId
from veilleuse.collector.settings import CollectorSettings, Store
from veilleuse.collector.store import create_store
from veilleuse.collector.store.directory import DATA_FILE, make_directory
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.migrations import migrate
from veilleuse.collector.wire_codec import number
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import (
    Band,
    Boundary,
    DeviceClass,
    GapReason,
    PointKind,
    Population,
    State,
    Supply,
)

METER = (PointKind.HWMON, "power_meter", Boundary.WALL)
RAPL = (PointKind.RAPL, "package-0", Boundary.COMPONENT)


def cell(
    state: State,
    milliseconds: int,
    band: Band = Band.OPEN,
    supply: Supply = Supply.AC,
    *,
    energy_millijoules: int | None = None,
    busy_ratio: float | None = None,
) -> Any:
    """Return a wire cell; `energy_millijoules` is that of the record's first point, over the whole cell."""
    words: dict[str, Any] = {
        "band": number(band),
        "state": number(state),
        "supply": number(supply),
    }
    made = pb.Cell(milliseconds=milliseconds, **words)
    if busy_ratio is not None:
        made.cpu_covered_milliseconds = milliseconds
        made.cpu_busy_milliseconds = round(milliseconds * busy_ratio)
    if energy_millijoules is not None:
        made.energies.add(
            point_index=0,
            energy_millijoules=energy_millijoules,
            covered_milliseconds=milliseconds,
        )
    return made


def clock(start: int, milliseconds: int) -> Any:
    """Return a clock period; `start` is in Unix milliseconds."""
    return pb.Period(clock=pb.ClockPeriod(start_unix_milliseconds=start, duration_milliseconds=milliseconds))


def civil(day: date) -> Any:
    """Return a wire period of one local date."""
    return pb.Period(date=pb.LocalDate(year=day.year, month=day.month, day=day.day))


def week(day: date) -> Any:
    """Return a wire period of the ISO week that contains `day`."""
    year, number_, _ = day.isocalendar()
    return pb.Period(week=pb.IsoWeek(year=year, week=number_))


def _said(
    device_class: DeviceClass,
    agent_version: str,
    sources: Sequence[tuple[str, int, int, str | None]],
    power_plan: tuple[int, int] | None = None,
) -> tuple[pb.Facts, pb.Health]:
    """Return the facts and health of a Hello."""
    form: Any = number(device_class)
    facts = pb.Facts(device_class=form, cpu_count=8)
    if power_plan is not None:
        facts.display_off_ac_seconds, facts.sleep_ac_seconds = power_plan
    health = pb.Health(agent_version=agent_version, spool_records=3, spool_bytes=40960, quarantine_records=2)
    health.drops.add(reason=number(GapReason.SPOOL_CAP), records=2)
    for name, successes, failures, unavailable in sources:
        health.sources.add(name=name, successes=successes, failures=failures, unavailable=unavailable)
    return facts, health


@cache
def _migrated() -> bytes:
    """Return an empty data.db of the newest schema. It is made once per process, because every test needs one
    and the migrations take most of its time."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / DATA_FILE, writing=True)
        migrate(database, "data")
        database.close()
        return database.path.read_bytes()


def remove_server_sums(connection: sqlite3.Connection) -> None:
    """Remove what migrations 26, 27 and 30 created, for tests of older schemas."""
    names = connection.execute(
        "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'trigger')"
        " AND (name LIKE 'server%' OR name LIKE 'perimeters%' OR name LIKE 'declared_powers%') ORDER BY type DESC, name DESC"
    )
    for kind, name in names.fetchall():
        connection.execute(f"DROP {kind} {name}")
    connection.execute("DROP INDEX hosts_by_place")


def remove_own_use(connection: sqlite3.Connection) -> None:
    """Remove what the migration of Veilleuse's own use created, for tests of older schemas."""
    connection.execute("ALTER TABLE sums DROP COLUMN own_cpu_milliseconds")
    connection.execute("DROP TABLE own_days")


class _Inline:
    """This writer runs each job at once, without a thread."""

    def submit(self, job: Any, *, alone: bool = False) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(job())
        return done


class Filled:
    """A context manager that creates a data directory for tests to fill, and closes its store."""

    def __init__(
        self, directory: Path, *, simulated: bool = False, clock: Callable[[], float] = unix_seconds
    ) -> None:
        """`clock` gives the Unix seconds of enrolment and last contact of hosts."""
        self.directory = directory
        self._clock = clock
        limits = Store(free_bytes_minimum=0)
        if not (directory / DATA_FILE).exists():
            make_directory(directory)
            (directory / DATA_FILE).touch(0o600)
            (directory / DATA_FILE).write_bytes(_migrated())
        self.store = create_store(
            directory, limits, simulated=simulated, now_unix_milliseconds=int(clock() * 1000)
        )
        self._tokens = itertools.count(1)
        self._streams: dict[HostId, tuple[bytes, int, bytes]] = {}
        self.derive_worker = DeriveWorker(
            _Inline(),  # type: ignore[arg-type]  # only submit is used
            self.store.derive,
            self.store.registry,
            choose,
            plugged_share_ppm=DEFAULT_PLUGGED_SHARE_PPM,
            metering=self.store.metering,
        )
        self.add_site("lyon")

    def __enter__(self) -> Filled:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def add_site(self, name: str, zone: str = "FR") -> None:
        """Add a site with the default timetable."""
        with self.store.transaction():
            self.store.registry.put_site(
                Site(name, zone, DEFAULT_CALENDAR.time_zone, DEFAULT_CALENDAR.to_json())
            )

    def add_host(
        self,
        population: Population = Population.SERVER,
        device_class: DeviceClass = DeviceClass.SERVER,
        *,
        entity: str = "DSI",
        site: str = "lyon",
        enrolled_on: date = date(2020, 1, 1),
        agent_version: str = "0.1.0",
        sources: Sequence[tuple[str, int, int, str | None]] = (("utilisation", 10, 0, None),),
        contact: bool = True,
        power_plan: tuple[int, int] | None = None,
    ) -> HostId:
        """Add an active host, which has sent Hello if `contact`; return its number. `sources`: (name,
        successes, failures, unavailable). `power_plan`: seconds on mains until display off, until sleep."""
        registry = self.store.registry
        facts, health = _said(device_class, agent_version, sources, power_plan)
        now = int(self._clock() * 1000)
        with self.store.transaction():
            host_id = enrol(
                registry,
                population,
                site,
                entity=entity,
                facts=facts,
                enrolled_on=enrolled_on,
                now_unix_milliseconds=now,
            )
            if contact:
                registry.record_hello(
                    host_id,
                    facts_wire=facts.SerializeToString(),
                    health_wire=health.SerializeToString(),
                    now_unix_milliseconds=now,
                )
        return host_id

    def push(
        self,
        host_id: HostId,
        records: Iterable[tuple[Any, Sequence[Any]]],
        point: tuple[PointKind, str, Boundary] | tuple[PointKind, str, Boundary, str] | None = None,
        sensor_gaps: tuple[tuple[GapReason, str, int], ...] = (),
    ) -> None:
        """Append (period, wire cells) as one run of the host's stream, and check that it is stored. Energies
        with index 0 are of `point`; its subject is the machine unless a fourth part names one."""
        measurements = []
        for period, cells in records:
            measurement = pb.Measurement(period=period, idle_rule_version=1, cells=cells)
            if point is not None:
                kind, domain, boundary, *subject = point
                measurement.points.add(
                    kind=number(kind),
                    domain=domain,
                    boundary=number(boundary),
                    subject=subject[0] if subject else "machine",
                )
            measurements.append(measurement)
        stream = self._streams.get(host_id) or new_stream()
        push, self._streams[host_id] = accepted(host_id, stream, measurements, sensor_gaps)
        (outcome,) = self.store.ingest.append([push])
        assert outcome.result is AppendResult.STORED, outcome

    def derive(self) -> int:
        """Derive all dirty periods and return their number. One transaction, because one per period takes far
        longer."""
        with self.store.transaction():
            return self.derive_worker.drain()

    def reader(self) -> SqliteSumReader:
        """Return a new reader of this data directory."""
        return SqliteSumReader(self.directory)


def month_of_workstations(
    store: Filled,
    month: date,
    plans: Iterable[tuple[int, int] | None],
    idle_nights: int = 20,
    known: Sequence[HostId] = (),
) -> list[HostId]:
    """Add one workstation per power plan for the month that begins on `month`; return their numbers. Each has
    a week of open hours, of which 2 h lie in idle runs over 30 minutes. On 28 nights, the first `idle_nights`
    machines are idle for an hour; the others are off. `known`: such machines, which go on for a month."""
    hosts = []
    for index, plan in enumerate(plans):
        host = (
            known[index]
            if known
            else store.add_host(Population.WORKSTATION, DeviceClass.TOWER, power_plan=plan)
        )
        night = State.ON_IDLE if index < idle_nights else State.OFF
        days = [(civil(month + timedelta(days=n)), [cell(night, 3_600_000, Band.NIGHT)]) for n in range(28)]
        idle = cell(State.ON_IDLE, 14_400_000, busy_ratio=0.01)
        idle.idle_beyond_15_minutes_milliseconds = idle.idle_beyond_30_minutes_milliseconds = 7_200_000
        work = (week(month + timedelta(days=10)), [cell(State.ON_ACTIVE, 90_000_000, busy_ratio=0.3), idle])
        store.push(host, [*days, work])
        hosts.append(host)
    return hosts


def reporting_day() -> date:
    """Return today's date in the collector's default reporting zone; it differs from the UTC date for an hour
    or two each day."""
    return today(ZoneInfo(CollectorSettings().reporting.time_zone))


def start_of_minute(minutes_ago: int, at: datetime | None = None) -> int:
    """Return the Unix milliseconds of the whole UTC minute `minutes_ago`, before `at` if given. Less than an
    hour ago, it is never before today in the reporting zone: then it may be the current minute, which is not
    over."""
    then = (at or now()).replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    if at is not None:
        return round(then.timestamp() * 1000)
    if minutes_ago < 60:
        zone = ZoneInfo(CollectorSettings().reporting.time_zone)
        then = max(then, datetime.combine(reporting_day(), datetime.min.time(), zone))
    return round(then.timestamp() * 1000)


def minutes_of_server(
    first_minute: int,
    minutes: int,
    watts: float,
    *,
    state: State = State.ON_ACTIVE,
    at: datetime | None = None,
) -> list[tuple[Any, list[Any]]]:
    """Return `minutes` metered records of one minute each; the first begins `first_minute` minutes ago, or
    before `at`."""
    start = start_of_minute(first_minute, at)
    return [
        (
            clock(start + i * 60_000, 60_000),
            [cell(state, 60_000, energy_millijoules=round(watts * 60_000), busy_ratio=0.3)],
        )
        for i in range(minutes)
    ]
