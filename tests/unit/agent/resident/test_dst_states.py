# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that states sum exactly to the time they cover, over histories across both clock changes.

The resident and its spool are real. A settable clock makes steps, suspends, shutdowns, power cuts and
restarts.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.fakes.measuring import FakeClock
from tests.support.records import milliseconds_of_states
from veilleuse.agent.model import ClockPeriod, DatePeriod, Record, WeekPeriod, body_from_json
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.resident.process import NoServiceManager, Resident
from veilleuse.agent.resident.sender_child import Contacts
from veilleuse.agent.settings import AgentSettings, Measure, Paths
from veilleuse.agent.spool.database import FILE_NAME
from veilleuse.wire.bands import DEFAULT_CALENDAR, day_segments
from veilleuse.wire.vocabulary import Band, State, Supply

PARIS = ZoneInfo("Europe/Paris")
TREE = Path(__file__).parents[3] / "fixtures" / "sys" / "laptop"
HOUR = 3_600_000
LARGEST_LOSS = 300_000 + 10_000
"""A kill loses at most a checkpoint and a tick: docs/guarantees.md R3."""
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
EVENTS = (
    "tick",
    "tick",
    "tick",
    "suspend",
    "unannounced",
    "shutdown",
    "cut",
    "died_asleep",
    "restart",
    "slept_while_down",
)


class Going(NoServiceManager):
    """Implements `ports.ServiceManager` for a machine that shuts down on demand."""

    down = False

    def machine_is_going_down(self) -> bool:
        return self.down


class Machine:
    """Holds a state directory, its clock, and the true duration of each state."""

    def __init__(self, state: Path, population: str, start_unix: int) -> None:
        self.state = state
        self.clock = FakeClock(start_unix)
        self.truth: Counter[State] = Counter()
        self.cuts = 0
        self.manager = Going()
        self.settings = AgentSettings(
            paths=Paths(state=state, sysfs=TREE / "sys", procfs=TREE / "proc"),
            measure=Measure(population=population, period_seconds=3600, sources=("fake",), fake_watts=20.0),
        )
        self.begin()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def begin(self) -> None:
        contacts = Contacts(self.state, None, 0, command=["/bin/true"])
        self.resident = Resident(self.settings, self.clock, contacts, self.manager)
        self.resident.begin()

    def step(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)
        self.resident.step()

    def announce(self) -> None:
        self.resident.sleep_announced = True
        self.step(1_000)

    def sleep(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds, asleep=True)
        self.truth[State.ASLEEP] += milliseconds

    def end(self, *, down: bool) -> None:
        self.manager.down = down
        self.resident.end()

    def kill(self) -> None:
        self.resident._spool.close()

    def compare(self, told: Counter[State]) -> None:
        """Check that off is exact and asleep not too long; a power cut may lose a checkpoint and a tick."""
        lost = self.truth[State.ASLEEP] - told[State.ASLEEP]
        assert 0 <= lost <= self.cuts * LARGEST_LOSS
        assert told[State.OFF] == self.truth[State.OFF]

    def happen(self, event: str, milliseconds: int) -> None:
        """Do one event and one step after it."""
        match event:
            case "suspend":
                self.announce()
                self.sleep(milliseconds)
            case "unannounced":
                self.sleep(milliseconds)
            case "shutdown":
                self.end(down=True)
                self.clock.reboot(milliseconds)
                self.truth[State.OFF] += milliseconds
                self.begin()
            case "cut":
                self.kill()
                self.cuts += 1
                self.clock.reboot(milliseconds)
                self.begin()
            case "died_asleep":
                self.announce()
                self.kill()
                self.clock.reboot(milliseconds)
                self.truth[State.ASLEEP] += milliseconds
                self.begin()
            case "restart":
                self.end(down=False)
                self.clock.advance(milliseconds)
                self.begin()
            case "slept_while_down":
                self.end(down=False)
                self.sleep(milliseconds)
                self.begin()
        self.step(min(milliseconds, HOUR) if event == "tick" else 10_000)

    def records(self, *, still_open: bool = False) -> list[Record]:
        with closing(sqlite3.connect(self.state / FILE_NAME)) as db:
            bodies = [body_from_json(row[0]) for row in db.execute("SELECT body FROM pending ORDER BY id")]
            query = "SELECT value FROM control WHERE key = ?"
            fold = db.execute(query, (ControlKey.OPEN_FOLD,)).fetchone()[0]
        closed = [body for body in bodies if isinstance(body, Record)]
        assert len(closed) == len(bodies), "a gap: something could not be dated"
        return closed + ([*map(Record.from_json, json.loads(fold)["open"])] if still_open else [])


def unix(day: date) -> int:
    """Return midnight in Paris, Unix ms."""
    return round(datetime(day.year, day.month, day.day, tzinfo=PARIS).timestamp() * 1000)


def bands_of(record: Record) -> Counter[Band]:
    """Return the milliseconds of each band, over all states."""
    found: Counter[Band] = Counter()
    for (band, _, _), cell in record.cells.items():
        found[band] += cell.milliseconds
    return found


def lengths(day: date, *bands: Band) -> Counter[Band]:
    """Return the milliseconds of these bands in a civil day, by the calendar."""
    found: Counter[Band] = Counter()
    for piece in day_segments(DEFAULT_CALENDAR, day):
        if piece.band in bands:
            found[piece.band] += piece.end_unix_milliseconds - piece.start_unix_milliseconds
    return found


lives = st.lists(
    st.tuples(
        st.sampled_from(EVENTS), st.sampled_from([10_000, 61_000, 999_999, HOUR, 5 * HOUR + 1, 26 * HOUR])
    ),
    min_size=1,
    max_size=14,
)
OFTEN = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def live(machine: Machine, life: list[tuple[str, int]], until: int) -> None:
    """Do the events, then ticks of an hour, until `until` (Unix ms)."""
    for event, milliseconds in life:
        if machine.clock.unix >= until:
            break
        machine.happen(event, milliseconds)
    while machine.clock.unix <= until:
        machine.step(HOUR - 7)


@pytest.mark.parametrize("change", [SPRING, AUTUMN])
@OFTEN
@given(life=lives)
@example(life=[("suspend", 26 * HOUR)] * 6)
@example(life=[("unannounced", 10_000), ("cut", 10_000)])
@example(life=[("tick", HOUR), ("shutdown", 26 * HOUR), ("died_asleep", 26 * HOUR)] * 3)
def test_workstations_tell_whole_weeks(tmp_path_factory, change, life):
    """Days and weeks have the calendar's length in each band; whole weeks sum to 167 or 169 h."""
    monday = change - timedelta(days=6)
    with Machine(tmp_path_factory.mktemp("state"), "workstation", unix(monday)) as machine:
        live(machine, life, unix(monday + timedelta(days=7)) + HOUR)
    closed, told = machine.records(), milliseconds_of_states(machine.records(still_open=True))
    days = {record.period.day: record for record in closed if isinstance(record.period, DatePeriod)}
    weeks = [record for record in closed if isinstance(record.period, WeekPeriod)]
    in_week = [day for day in days if monday <= day <= change]
    assert in_week == [monday + timedelta(days=number) for number in range(7)]
    for day in in_week:
        assert bands_of(days[day]) == lengths(day, Band.CLOSED, Band.NIGHT), day
    week = weeks[0]
    expected: Counter[Band] = Counter()
    for number in range(7):
        expected += lengths(monday + timedelta(days=number), Band.OPEN)
    assert bands_of(week) == expected
    total = sum(milliseconds_of_states([*(days[day] for day in in_week), week]).values())
    assert (
        total
        == unix(change + timedelta(days=1)) - unix(monday)
        == (7 * 24 + (-1 if change == SPRING else 1)) * HOUR
    )
    machine.compare(told)


@pytest.mark.parametrize("population", ["classroom", "server"])
@pytest.mark.parametrize("change", [SPRING, AUTUMN])
@OFTEN
@given(life=lives)
def test_clock_populations_tell_whole_hours(tmp_path_factory, population, change, life):
    """Each record is as long as its period, without overlap: 23 or 25 h on the day of the change."""
    start = unix(change - timedelta(days=1))
    with Machine(tmp_path_factory.mktemp("state"), population, start) as machine:
        live(machine, life, unix(change + timedelta(days=1)) + 2 * HOUR)
    closed, told = machine.records(), milliseconds_of_states(machine.records(still_open=True))
    position = start
    for record in closed:
        period = record.period
        assert isinstance(period, ClockPeriod)
        assert period.start_unix_milliseconds == position
        assert sum(bands_of(record).values()) == period.duration_milliseconds
        position += period.duration_milliseconds
    assert position >= unix(change + timedelta(days=1))
    on_the_day = [
        record.period.duration_milliseconds
        for record in closed
        if isinstance(record.period, ClockPeriod)
        and unix(change) <= record.period.start_unix_milliseconds < unix(change + timedelta(days=1))
    ]
    assert sum(on_the_day) == (23 if change == SPRING else 25) * HOUR
    machine.compare(told)


def supplied(machine: Machine, supply: str) -> None:
    """Write the files of a power supply on mains or battery."""
    root = machine.state / "tree" / "class/power_supply"
    for name, file, text in (
        ("AC", "online", "1" if supply == "ac" else "0"),
        ("BAT0", "status", "Charging" if supply == "ac" else "Discharging"),
    ):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "type").write_text("Mains\n" if name == "AC" else "Battery\n")
        (root / name / file).write_text(f"{text}\n")


def test_time_on_battery_across_suspends(tmp_path):
    """A sleep between equal supplies has that supply; one between two, or unobserved, has supply unknown."""
    machine = Machine.__new__(Machine)
    machine.state, machine.clock, machine.manager = tmp_path, FakeClock(), Going()
    machine.truth = Counter()
    supplied(machine, "ac")
    machine.settings = AgentSettings(
        paths=Paths(state=tmp_path, sysfs=tmp_path / "tree", procfs=TREE / "proc"),
        measure=Measure(population="server", period_seconds=3600, sources=("linux_battery",)),
    )
    machine.begin()
    told: Counter[Any] = Counter()
    for supply, asleep in (("ac", HOUR), ("battery", 2 * HOUR), ("battery", 4 * HOUR), ("ac", 8 * HOUR)):
        machine.step(10_000)
        machine.announce()
        machine.sleep(asleep)
        supplied(machine, supply)
        machine.step(4_000)
    machine.step(10_000)
    machine.announce()
    machine.kill()
    machine.clock.reboot(16 * HOUR)
    machine.begin()
    machine.step(10_000)
    for record in machine.records(still_open=True):
        for (_, state, supply_of), cell in record.cells.items():
            told[state, supply_of] += cell.milliseconds
    asleep_by_supply = {supply: told[State.ASLEEP, supply] // HOUR for supply in Supply}
    # ac → ac, ac → battery, battery → battery, battery → ac, then the power cut during sleep
    assert asleep_by_supply == {Supply.AC: 1, Supply.BATTERY: 4, Supply.UNKNOWN: 2 + 8 + 16}
    on_battery = sum(told[state, Supply.BATTERY] for state in (State.ON_ACTIVE, State.ON_IDLE))
    assert on_battery == 4_000 + 11_000 + 4_000 + 11_000
    machine.end(down=False)


def test_utc_is_not_the_civil_day():
    """The days of the property tests are 23 and 25 hours long."""
    for day, hours in ((SPRING, 23), (AUTUMN, 25)):
        assert unix(day + timedelta(days=1)) - unix(day) == hours * HOUR
        assert datetime.fromtimestamp(unix(day) / 1000, UTC).hour != 0
