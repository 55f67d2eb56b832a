# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of actions and lines of the REEN sheet in SQLite, and of the sums of servers' loads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.support.filled import Filled, cell, civil, clock
from tests.support.stored_sums import SqliteSumReader
from veilleuse.collector.errors import StoreDamaged
from veilleuse.collector.model.actions import Action, ActionTable, LineChange
from veilleuse.collector.model.indicators import Load
from veilleuse.collector.model.records import Grain
from veilleuse.collector.store import create_store
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.collector.store.sqlite.hours import SqliteLoadReader
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

HOUR = 3_600_000
ACTION = Action("a", ("s1", "s2"), date(2026, 1, 1), "Extinction à 20 h")
OBJECTIVES, ITEMS = ActionTable.OBJECTIVES, ActionTable.OTHER_ITEMS


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return the path of the data directory."""
    return tmp_path / "data"


@pytest.fixture
def store(place: Path) -> Iterator[SqliteStore]:
    """Return an empty store."""
    from veilleuse.collector.settings import Store

    with closing(
        create_store(place, Store(free_bytes_minimum=0), simulated=False, now_unix_milliseconds=1)
    ) as made:
        yield made


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE actions SET what = 'x'",
        "DELETE FROM actions",
        "UPDATE follow_lines SET cells_json = NULL",
        "DELETE FROM follow_lines",
        "UPDATE follow_imports SET who = 'x'",
        "DELETE FROM follow_imports",
    ],
)
def test_the_database_itself_refuses_changes(store: SqliteStore, sql: str):
    """The database refuses changes of actions and lines by any program."""
    store.follows.enter([ACTION], "ada", "", 10)
    store.follows.put(ITEMS, [LineChange("1", {"b": "c"})], "i.csv", "ada", "", 30)
    with pytest.raises(sqlite3.IntegrityError, match="never"), store.data.transaction() as connection:
        connection.execute(sql)


def test_a_damaged_line_is_told(store: SqliteStore):
    """A damaged line raises StoreDamaged; it is never read as empty."""
    with store.data.transaction() as connection:
        connection.execute("INSERT INTO follow_imports VALUES (1, 1, '', '', '')")
        connection.execute("INSERT INTO follow_lines VALUES (1, 1, 'objectives', 'k', '[')")
    with pytest.raises(StoreDamaged):
        store.follows.lines(OBJECTIVES)


def _loaded(hours: int, *, busy: float, state: State = State.ON_ACTIVE) -> object:
    """Return a cell of so many hours with buckets."""
    time = hours * HOUR
    made = cell(state, time, busy_ratio=busy)
    made.cpu_bucket_milliseconds.extend([time, *(0,) * 12])
    made.memory_bucket_milliseconds.extend([0, time, 0, 0, 0])
    made.network_rate_milliseconds.extend([time, 0, 0, 0])
    made.any_core_busy_milliseconds = time // 100
    return made


@pytest.mark.parametrize(
    ("end", "hours"), [(date(2026, 11, 1), 721), (date(2026, 4, 1), 719), (date(2026, 9, 1), 720)]
)
def test_a_server_seen_all_the_time_was_seen_for_the_whole_of_its_days(tmp_path: Path, end: date, hours: int):
    """Windows count real hours: 180 days of 24 hours gave 1.00023 in autumn, and less than 1 in spring."""
    with Filled(tmp_path / "data") as filled:
        server = filled.add_host(Population.SERVER, DeviceClass.SERVER)
        stop = datetime(end.year, end.month, end.day, tzinfo=ZoneInfo("Europe/Paris")).timestamp()
        starts = [round(stop * 1000) - ago * HOUR for ago in range(hours, 0, -1)]
        filled.push(server, [(clock(start, HOUR), [cell(State.ON_IDLE, HOUR)]) for start in starts])
        filled.derive()
    with closing(SqliteLoadReader(tmp_path / "data")) as reader:
        load = reader.server_loads(end, (30,))[server][30]
    assert (load.known_milliseconds, load.window_milliseconds) == (hours * HOUR, hours * HOUR)


def test_loads_are_of_the_last_days_of_servers(tmp_path: Path):
    """Each window has its own records of servers; time off is known but not on, and missing buckets are not
    0."""
    with Filled(tmp_path / "data") as filled:
        one = filled.add_host(Population.SERVER, DeviceClass.SERVER)
        bare = filled.add_host(Population.SERVER, DeviceClass.SERVER)
        pc = filled.add_host(Population.WORKSTATION, DeviceClass.TOWER)
        noon = 1_772_449_200_000  # 2 March 2026, 12:00 in Paris
        day = 24 * HOUR
        for days_ago, busy in ((1, 0.02), (20, 0.5), (40, 0.1)):
            start = noon - days_ago * day
            filled.push(one, [(clock(start, HOUR), [_loaded(1, busy=busy)])])
            filled.push(one, [(clock(start + HOUR, HOUR), [cell(State.OFF, HOUR)])])
        filled.push(bare, [(clock(noon - day, HOUR), [cell(State.ON_IDLE, HOUR)])])
        filled.push(pc, [(civil(date(2026, 2, 28)), [cell(State.OFF, HOUR, Band.NIGHT)])])
        filled.derive()
    with closing(SqliteLoadReader(tmp_path / "data")) as reader:
        found = reader.server_loads(date(2026, 3, 2), (30, 90))
        assert reader.book().of is not None
    with closing(SqliteSumReader(tmp_path / "data")) as reader_of_sums:
        assert any(reader_of_sums.sums(Grain.DAY, 0, 800_000))
    assert set(found) == {one, bare}
    short, long = found[one][30], found[one][90]
    assert short == Load(
        30 * day,
        4 * HOUR,
        2 * HOUR,
        2 * HOUR,
        round(0.52 * HOUR),
        (2 * HOUR, *(0,) * 12),
        (0, 2 * HOUR, 0, 0, 0),
        (2 * HOUR, 0, 0, 0),
        2 * HOUR // 100,
    )
    assert (long.known_milliseconds, long.cpu_busy_milliseconds) == (6 * HOUR, round(0.62 * HOUR))
    assert (found[bare][30].any_core_busy_milliseconds, sum(found[bare][30].cpu_buckets)) == (None, 0)
