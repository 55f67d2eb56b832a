# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A data directory filled through the real store and the real derivation, for the outlets' tests
and benches."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.support.pushes import accepted, enrol, new_stream
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
from veilleuse.collector.store.sqlite.reader import SqliteReader
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
    """One wire cell; `energy_millijoules` is of the record's first point, over the whole cell."""
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
    """A clock period; Unix milliseconds."""
    return pb.Period(clock=pb.ClockPeriod(start_unix_milliseconds=start, duration_milliseconds=milliseconds))


def civil(day: date) -> Any:
    """A date period."""
    return pb.Period(date=pb.LocalDate(year=day.year, month=day.month, day=day.day))


def week(day: date) -> Any:
    """The ISO week of a date."""
    year, number_, _ = day.isocalendar()
    return pb.Period(week=pb.IsoWeek(year=year, week=number_))


def _said(
    device_class: DeviceClass,
    agent_version: str,
    sources: Sequence[tuple[str, int, int, str | None]],
    power_plan: tuple[int, int] | None = None,
) -> tuple[pb.Facts, pb.Health]:
    """Facts and health of a Hello."""
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
    """An empty data.db of the newest schema, made once a process: every test makes one, and the migrations
    are most of that."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / DATA_FILE, writing=True)
        migrate(database, "data")
        database.close()
        return database.path.read_bytes()


class _Inline:
    """The writer without its thread."""

    def submit(self, job: Any, *, alone: bool = False) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(job())
        return done


class Filled:
    """A data directory under construction. A context manager: closes the store."""

    def __init__(
        self, directory: Path, *, simulated: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock`: Unix seconds; when hosts were made and last heard of."""
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
        """A site of the default timetable."""
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
        """An active host that has said Hello; `sources`: (name, successes, failures, unavailable);
        `power_plan`: seconds on mains until the display is off, and until it sleeps.
        """
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
        """Append (period, wire cells) as one run of the host's stream; `point` is index 0 of the cells'
        energies, the machine's own unless it ends with its subject.
        """
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
        """Derive all that is dirty; how many periods. In one transaction: a commit per period is most of the
        time."""
        with self.store.transaction():
            return self.derive_worker.drain()

    def reader(self) -> SqliteReader:
        """A reader of it."""
        return SqliteReader(self.directory)


def month_of_workstations(
    store: Filled, month: date, plans: Iterable[tuple[int, int] | None], idle_nights: int = 20
) -> list[HostId]:
    """One per power plan, in the month that begins on `month`: idle for an hour of every night, and a week of
    open hours of which 2 h lie in idle runs beyond 30 minutes; of all but the first `idle_nights`, the
    machines are off at night.
    """
    hosts = []
    for index, plan in enumerate(plans):
        host = store.add_host(Population.WORKSTATION, DeviceClass.TOWER, power_plan=plan)
        night = State.ON_IDLE if index < idle_nights else State.OFF
        days = [(civil(month + timedelta(days=n)), [cell(night, 3_600_000, Band.NIGHT)]) for n in range(28)]
        idle = cell(State.ON_IDLE, 14_400_000, busy_ratio=0.01)
        idle.idle_beyond_15_minutes_milliseconds = idle.idle_beyond_30_minutes_milliseconds = 7_200_000
        work = (week(month + timedelta(days=10)), [cell(State.ON_ACTIVE, 90_000_000, busy_ratio=0.3), idle])
        store.push(host, [*days, work])
        hosts.append(host)
    return hosts


def reporting_day() -> date:
    """Today where the collector reports unless told otherwise: not that of UTC for an hour or two of each
    day."""
    return datetime.now(ZoneInfo(CollectorSettings().reporting.time_zone)).date()


def start_of_minute(minutes_ago: int) -> int:
    """Unix milliseconds of a whole UTC minute; within the hour, one of today where the collector reports: it
    may be yet to come."""
    then = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=minutes_ago)
    if minutes_ago < 60:
        zone = ZoneInfo(CollectorSettings().reporting.time_zone)
        then = max(then, datetime.combine(reporting_day(), datetime.min.time(), zone))
    return round(then.timestamp() * 1000)


def minutes_of_server(
    first_minute: int, minutes: int, watts: float, *, state: State = State.ON_ACTIVE
) -> list[tuple[Any, list[Any]]]:
    """Metered records of one minute each; ends before the minute `first_minute - minutes` ago."""
    start = start_of_minute(first_minute)
    return [
        (
            clock(start + i * 60_000, 60_000),
            [cell(state, 60_000, energy_millijoules=round(watts * 60_000), busy_ratio=0.3)],
        )
        for i in range(minutes)
    ]
