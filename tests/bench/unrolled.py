# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Write days of machines as ingest and derive store them; the report's bench computes a month from them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import date
from types import SimpleNamespace
from typing import Any, Final

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.months.worker import MonthWorker
from veilleuse.collector.ports.months import CARRIED_COLUMNS, HISTORY_DAYS
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.collector.store.sqlite.batch import bucket_columns
from veilleuse.collector.wire_codec import number
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.ladder import Method
from veilleuse.wire.limits import CELL_BUCKETS
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Band, Boundary, PointKind, Population, State, Supply

MONTH: Final = 10
"""The first month that is not stored."""
TODAY: Final = (MONTH, 21)
_HOURS: Final = {
    Population.WORKSTATION: {Band.CLOSED: 6.0, Band.NIGHT: 8.0},
    Population.CLASSROOM: {Band.OPEN: 10.0, Band.CLOSED: 6.0, Band.NIGHT: 8.0},
    Population.SERVER: {Band.OPEN: 10.0, Band.CLOSED: 6.0, Band.NIGHT: 8.0},
}
"""Hours of a day; a workstation reports its open time by week."""
_OF_A_WEEK: Final = {Band.OPEN: 50.0}
_POINTS: Final = (1, 2)
_CARRIED: Final = ("cpu_bucket_00_milliseconds", "cpu_bucket_03_milliseconds", "display_2_milliseconds")
assert set(_CARRIED) <= set(CARRIED_COLUMNS)

Row = tuple[Any, ...]


def write_days(store: SqliteStore, machines: list[tuple[HostId, Population, float]], year: int) -> int:
    """Write the days of the month that is not stored, and of the history that it needs, up to TODAY. Mark the
    month for computation; return the rows."""
    connection = store.data.connection
    month, end = date(year, MONTH, 1), date(year, *TODAY).toordinal()
    first = date(year, MONTH + 1, 1).toordinal() - HISTORY_DAYS
    for point, domain in zip(_POINTS, ("package-0", "dram"), strict=True):
        point_row = (point, number(PointKind.RAPL), domain, number(Boundary.COMPONENT), "machine")
        connection.execute("INSERT INTO points VALUES (?, ?, ?, ?, ?)", point_row)
    connection.executemany(
        "INSERT INTO stale_months (month, host_id) VALUES (?, ?)",
        [(month.toordinal(), host_id) for host_id, _, _ in machines],
    )
    draw = random.Random(year)
    spans = [(Grain.DAY, range(first, end)), (Grain.WEEK, range(first + -(first - 1) % 7, end - 6, 7))]
    written = 0
    for grain, starts in spans:
        for start in starts:
            rows = [row for one in machines for row in _cells(draw, grain, start, *one)]
            written += sum(_insert(connection, table, rows) for table in _TABLES)
    night = day_start_unix_milliseconds(month, DEFAULT_CALENDAR.time_zone)
    left_on = [one for one, population, _ in machines if population is Population.CLASSROOM and one % 5 == 0]
    hours = [night + hour * MILLISECONDS_PER_HOUR for hour in range(6)]
    cells = [
        _cell(host_id, Grain.HOUR, hour, Band.NIGHT, State.ON_IDLE, 1.0, 0.0)
        for hour in hours
        for host_id in left_on
    ]
    return written + _insert(connection, "sums", cells)


def store_month(store: SqliteStore, year: int) -> str:
    """Store the month under way of all machines, as the running collector does; return how long it took."""

    def submit(job: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(job())
        return done

    writer: Any = SimpleNamespace(submit=submit)
    calendars = SiteCalendars(store.calendars.versions, store.calendars.school_periods)
    worker = MonthWorker(
        writer, store.rolls, store.derive, store.registry, calendars, today=lambda: date(year, *TODAY)
    )
    began, months, longest = time.process_time(), 0, 0.0
    while True:
        start = time.perf_counter()
        with store.transaction():
            done = worker.run_slice_under_way()
        longest = max(longest, time.perf_counter() - start)
        if not done:
            break
        months += done
    each = (time.process_time() - began) / max(months, 1) * 1000
    return f"  the month under way stored: {months} machines, {each:.2f} ms of processor each; longest slice {longest * 1000:.0f} ms"


def write_server_days(store: SqliteStore, today: date) -> None:
    """Write the 180 days before `today` of each server, with its load."""
    buckets = {column: "0" for name in CELL_BUCKETS for column in bucket_columns(name)}
    for name in CELL_BUCKETS:  # one bucket of each list has the time
        buckets[bucket_columns(name)[2]] = "time"
    values = {
        **dict.fromkeys(("milliseconds", "cpu_covered_milliseconds"), "time"),
        "cpu_busy_milliseconds": "time / 100 * (host_id % 60)",
        "any_core_busy_milliseconds": "time / 9",
        **buckets,
    }
    store.data.connection.execute(
        f"INSERT INTO sums ({_KEY}, {', '.join(values)}) WITH RECURSIVE"
        " days (start) AS (SELECT ?1 - 180 UNION ALL SELECT start + 1 FROM days WHERE start < ?1 - 1),"
        " cells (band, state, time) AS (VALUES (1, 1, 18000000), (1, 2, 18000000), (2, 1, 900000),"
        " (2, 2, 27900000), (3, 2, 21600000))"
        f" SELECT host_id, {Grain.DAY:d}, start, band, state, 1, {', '.join(values.values())}"
        " FROM days CROSS JOIN hosts CROSS JOIN cells WHERE population = ?2",
        (today.toordinal(), number(Population.SERVER)),
    )


def _cells(
    draw: random.Random, grain: Grain, start: int, host_id: HostId, population: Population, watts: float
) -> Iterator[dict[str, Any]]:
    if grain is Grain.WEEK and population is not Population.WORKSTATION:
        return
    for band, hours in (_OF_A_WEEK if grain is Grain.WEEK else _HOURS[population]).items():
        shares = {State.ON_ACTIVE: 0.5, State.ON_IDLE: 0.5}
        if population is not Population.SERVER:
            on = draw.uniform(0.4, 0.9) if band is Band.OPEN else draw.choice((0.0, 0.0, 0.02, 0.9))
            shares = {State.ON_ACTIVE: on / 2, State.ON_IDLE: on / 2, State.OFF: 1 - on}
        for state, share in shares.items():
            if share:
                yield _cell(host_id, grain, start, band, state, hours * share, watts)


def _cell(
    host_id: HostId, grain: Grain, start: int, band: Band, state: State, hours: float, watts: float
) -> dict[str, Any]:
    is_on = state is not State.OFF
    time = round(hours * MILLISECONDS_PER_HOUR)
    energy = round(time * (watts if is_on else 0.5))
    return {
        "key": (host_id, grain.value, start, number(band), number(state), number(Supply.AC)),
        "is_on": is_on,
        "milliseconds": time,
        "energy": energy,
    }


def _sums(cell: dict[str, Any]) -> list[Row]:
    time = cell["milliseconds"]
    return [(*cell["key"], time, *((time // 2, time - time // 2, time) if cell["is_on"] else (None,) * 3))]


def _points(cell: dict[str, Any]) -> list[Row]:
    seen = (cell["energy"] // 2, cell["milliseconds"], None)
    return [(*cell["key"], point, *seen) for point in _POINTS] if cell["is_on"] else []


def _derived(cell: dict[str, Any]) -> list[Row]:
    method = Method.COUNTER_MODELLED if cell["is_on"] else Method.LOAD_MODELLED
    return [(*cell["key"], method.value, cell["milliseconds"], cell["energy"], cell["energy"] // 5)]


def _screens(cell: dict[str, Any]) -> list[Row]:
    time = cell["milliseconds"]
    return [(*cell["key"], Method.LOAD_MODELLED.value, time, 20 * time, 5 * time)] if cell["is_on"] else []


_KEY: Final = "host_id, grain, start, band, state, supply"
_ENERGY: Final = f"{_KEY}, method, milliseconds, energy_millijoules, uncertainty_millijoules"
_POINT: Final = (
    f"{_KEY}, point_id, energy_millijoules, covered_milliseconds, update_window_energy_millijoules"
)
_TABLES: Final = {
    "sums": (f"{_KEY}, milliseconds, {', '.join(_CARRIED)}", _sums),
    "point_sums": (_POINT, _points),
    "derived": (_ENERGY, _derived),
    "derived_screens": (_ENERGY, _screens),
}


def _insert(connection: Any, table: str, cells: list[dict[str, Any]]) -> int:
    columns, rows_of = _TABLES[table]
    rows = [row for cell in cells for row in rows_of(cell)]
    marks = ", ".join("?" * len(columns.split(", ")))
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
    return len(rows)
