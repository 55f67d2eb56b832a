# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the resident: its loop with a settable clock, and the real process with real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.fakes.measuring import NOON, FakeClock
from tests.support.processes import HANGS
from tests.support.records import milliseconds_of_states
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.agent.commands.once import measure_once
from veilleuse.agent.errors import ConfigurationError
from veilleuse.agent.model import ClockPeriod, DatePeriod, Gap, Record, body_from_json
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.resident.process import Resident
from veilleuse.agent.resident.sender_child import IDENTITY_FILE, Contacts
from veilleuse.agent.service.systemd import SystemdNotifier
from veilleuse.agent.settings import AgentSettings, Measure, Paths, read_settings
from veilleuse.agent.spool.database import FILE_NAME, connect
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.vocabulary import GapReason, Population, State

ROOT = Path(__file__).parents[4]
TREES = ROOT / "tests" / "fixtures" / "sys"


class Manager:
    """Implements `ports.ServiceManager` and records the calls."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.going_down = False

    def ready(self) -> None:
        self.said.append("ready")

    def alive(self, status: str = "") -> None:
        self.said.append("alive")

    def stopping(self) -> None:
        self.said.append("stopping")

    def machine_is_going_down(self) -> bool:
        return self.going_down


class Life:
    """Holds a state directory over several runs of the resident."""

    def __init__(self, state: Path, **measure: object) -> None:
        self.state = state
        self.clock = FakeClock()
        self.manager = Manager()
        tree = TREES / "laptop"
        chosen = {
            "population": "server",
            "period_seconds": 60,
            "sources": ("fake",),
            "fake_watts": 20.0,
            **measure,
        }
        self.settings = AgentSettings(
            paths=Paths(state=state, sysfs=tree / "sys", procfs=tree / "proc"),
            measure=Measure(**chosen),  # type: ignore[arg-type]
        )
        self.resident: Resident | None = None

    def begin(self) -> Resident:
        contacts = Contacts(self.state, None, 0, command=[sys.executable, "-c", "pass"])
        self.resident = Resident(self.settings, self.clock, contacts, self.manager)
        self.resident.begin()
        return self.resident

    def steps(self, count: int, milliseconds: int = 10_000) -> None:
        assert self.resident is not None
        for _ in range(count):
            self.clock.advance(milliseconds)
            self.resident.step()

    def kill(self) -> None:
        """Close the spool without another write, as after kill -9."""
        assert self.resident is not None
        self.resident._spool.close()

    def end(self) -> None:
        assert self.resident is not None
        self.resident.end()

    def bodies(self) -> list[Record | Gap]:
        with closing(sqlite3.connect(self.state / FILE_NAME)) as db:
            return [body_from_json(row[0]) for row in db.execute("SELECT body FROM pending ORDER BY id")]

    def records(self) -> list[Record]:
        return [body for body in self.bodies() if isinstance(body, Record)]

    def control(self, key: str) -> str:
        with closing(sqlite3.connect(self.state / FILE_NAME)) as db:
            return str(db.execute("SELECT value FROM control WHERE key = ?", (key,)).fetchone()[0])

    def open_states(self) -> Counter[State]:
        """Return the milliseconds per state of closed records and the checkpoint."""
        records = [
            *self.records(),
            *map(Record.from_json, json.loads(self.control(ControlKey.OPEN_FOLD))["open"]),
        ]
        return milliseconds_of_states(records)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """Return a server with one-minute periods, a fake source and the laptop's tree."""
    made = Life(tmp_path)
    yield made
    if made.resident is not None:
        made.kill()


def test_records_come_period_by_period(life):
    """Each minute gives one full record in the spool; the service manager gets ready, alive and stopping."""
    life.begin()
    life.steps(13)
    assert [r.period for r in life.records()] == [ClockPeriod(NOON + n * 60_000, 60_000) for n in range(2)]
    assert sum(milliseconds_of_states(life.records()).values()) == 120_000
    life.end()
    assert life.manager.said[:2] == ["ready", "alive"]
    assert life.manager.said[-1] == "stopping"


@pytest.mark.parametrize("after_steps", [1, 5, 6, 7, 11, 12, 23])
def test_a_kill_loses_at_most_a_checkpoint_and_doubles_nothing(life, after_steps):
    """After a kill at any tick, no period has two records; the loss is unknown, at most 60 s + one tick."""
    life.begin()
    life.steps(after_steps)
    life.kill()
    life.clock.advance(3_000)
    life.begin()
    life.steps(30)
    life.end()
    found = life.open_states()
    total = after_steps * 10_000 + 3_000 + 300_000
    assert sum(found.values()) == total
    assert 3_000 <= found[State.UNKNOWN] <= 60_000 + 10_000 + 3_000
    periods = [record.period for record in life.records()]
    assert len(set(periods)) == len(periods)


def test_a_stop_and_a_start(life):
    """The time between a service stop and the next start is unknown, to the millisecond."""
    life.begin()
    life.steps(7)
    life.end()
    life.clock.advance(45_000)
    life.begin()
    life.steps(5)
    life.end()
    assert life.open_states()[State.UNKNOWN] == 45_000


def test_a_clean_shutdown_is_off(life):
    """After a clean shutdown the time is off until the boot, then unknown until the agent starts."""
    life.manager.going_down = True
    life.begin()
    life.steps(6)
    life.end()
    life.clock.reboot(14 * 3_600_000, boot_milliseconds=20_000)
    life.begin()
    life.steps(6)
    life.end()
    found = life.open_states()
    assert found[State.OFF] == 14 * 3_600_000
    assert found[State.UNKNOWN] == 20_000
    assert len(life.records()) < 2 * 60 + 16


def test_suspend(life):
    """A sleep is asleep without energy; the records that it closes are in the spool at the next tick."""
    life.begin()
    life.steps(5)
    life.clock.advance(36_000_000, asleep=True)
    before = len(life.records())
    life.steps(1)
    assert milliseconds_of_states(life.records())[State.ASLEEP] > 35_000_000
    assert len(life.records()) > before
    asleep = [
        cell for r in life.records() for (_, state, _), cell in r.cells.items() if state is State.ASLEEP
    ]
    assert all(not cell.energies for cell in asleep)


def test_a_clock_without_time_at_boot(life):
    """With 1970 at boot and the right time a minute later, no record is dated wrongly or lost."""
    life.manager.going_down = True
    life.begin()
    life.steps(6)
    life.end()
    life.clock.reboot(3_600_000)
    right = life.clock.unix
    life.clock.set_wall(20_000)
    life.begin()
    life.steps(6)
    assert all(
        r.period.start_unix_milliseconds >= NOON for r in life.records() if isinstance(r.period, ClockPeriod)
    )
    life.clock.set_wall(right + 60_000)
    life.steps(1)
    life.end()
    found = life.open_states()
    assert found[State.OFF] == 3_600_000
    assert sum(found.values()) == 60_000 + 3_600_000 + 20_000 + 70_000
    assert not [body for body in life.bodies() if isinstance(body, Gap)]


def test_a_clock_that_stays_unknown_is_a_declared_gap(life):
    """A run that ends before the time is known gives an undated gap `clock_unknown`."""
    life.clock.set_wall(5_000)
    life.begin()
    life.steps(6)
    life.end()
    (gap,) = life.bodies()
    assert gap._replace(gap_id="") == Gap(GapReason.CLOCK_UNKNOWN, ((None, 60_000),), 1)


def test_a_clock_set_forward_by_two_hours_is_told_as_unknown(life):
    """The skipped hours are unknown, without energy, so that the periods of the day still add up."""
    life.begin()
    life.steps(12)
    life.clock.set_wall(life.clock.now().unix_milliseconds + 7_200_000)
    life.steps(12)
    life.end()
    cells = [(key[1], cell) for record in life.records() for key, cell in record.cells.items()]
    unknown = [cell for state, cell in cells if state is State.UNKNOWN]
    assert sum(cell.milliseconds for cell in unknown) == 7_200_000
    assert not any(cell.energies for cell in unknown)


def test_a_busy_spool_loses_nothing(life, monkeypatch):
    """While the spool is locked, records wait in memory; then all arrive once, in order."""
    monkeypatch.setattr("veilleuse.agent.spool.database.BUSY_TIMEOUT_MILLISECONDS", 1)
    life.begin()
    assert life.resident is not None
    life.resident._spool._connection.execute("PRAGMA busy_timeout = 1")
    life.steps(7)
    with closing(connect(life.state / FILE_NAME)) as other:
        other.execute("BEGIN IMMEDIATE")
        life.steps(20)
        other.execute("COMMIT")
    life.steps(1)
    starts = [r.period.start_unix_milliseconds for r in life.records() if isinstance(r.period, ClockPeriod)]
    assert starts == [NOON + n * 60_000 for n in range(4)]
    life.end()


def test_memory_is_bounded_too(life, monkeypatch):
    """If the spool stays locked, the oldest rows in memory become one gap: produced = kept + gap."""
    monkeypatch.setattr("veilleuse.agent.resident.process.QUEUED_ROWS", 10)
    life.begin()
    assert life.resident is not None
    life.resident._spool._connection.execute("PRAGMA busy_timeout = 1")
    with closing(connect(life.state / FILE_NAME)) as other:
        other.execute("BEGIN IMMEDIATE")
        life.steps(6 * 40 + 1)
        other.execute("COMMIT")
    life.steps(1)
    gaps = [body for body in life.bodies() if isinstance(body, Gap)]
    assert len(gaps) == 1
    assert gaps[0].records + len(life.records()) == 40
    assert sum(ms for _, ms in gaps[0].spans) == gaps[0].records * 60_000
    life.end()


def test_damage_while_running(life):
    """A damaged spool is replaced by a new one with a gap, and the open record continues."""
    life.begin()
    life.steps(8)
    path = life.state / FILE_NAME
    path.write_bytes(b"\xff" * path.stat().st_size)
    life.steps(30)
    reasons = [body.reason for body in life.bodies() if isinstance(body, Gap)]
    assert reasons == [GapReason.SPOOL_DAMAGED]
    assert len(life.records()) >= 4
    life.end()


def test_a_sender_does_not_outlive_the_spool_it_has_open(life):
    """The sender of the damaged spool is ended first, so that no row is delivered twice."""
    mark, identity = life.state / "pid", life.state / IDENTITY_FILE
    identity.parent.mkdir()
    identity.write_text("enrolled")
    program = f"import os; open({str(mark)!r}, 'a').write(f'{{os.getpid()}}\\n'); {HANGS}"
    contacts = Contacts(life.state, None, 0, command=[sys.executable, "-c", program], below=lambda bound: 0)
    life.resident = resident = Resident(life.settings, life.clock, contacts, life.manager)
    resident.begin()
    life.steps(1)
    until(lambda: mark.exists() and mark.read_text().endswith("\n"))
    first = int(mark.read_text())
    path = life.state / FILE_NAME
    path.write_bytes(b"\xff" * path.stat().st_size)
    for _ in range(1_000):
        life.steps(1)
        if list(life.state.glob("spool.db.damaged-*")):
            break
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    life.end()


def test_enrolment_and_calendar_arrive_while_running(tmp_path):
    """The agent measures as a workstation until its enrolment as a server changes the grain."""
    life = Life(tmp_path, population="", checkpoint_seconds=60)
    life.begin()
    life.steps(3)
    with closing(connect(tmp_path / FILE_NAME)) as db:
        for key, value in (
            ("population", "server"),
            ("calendar", DEFAULT_CALENDAR.to_json()),
            ("calendar_sha256", "ab" * 32),
        ):
            db.execute("INSERT OR REPLACE INTO control VALUES (?, ?)", (key, value))
    life.steps(20)
    records = life.records()
    assert sum(isinstance(r.period, ClockPeriod) for r in records) >= 1
    assert all(r.calendar_sha256 == "" for r in records)  # from tomorrow only
    assert '"next":[[' in life.control(ControlKey.OPEN_FOLD)
    life.end()


def test_the_local_file_is_a_ceiling(tmp_path):
    """A workstation by its local file stays one, whatever its enrolment, and reports no hour."""
    life = Life(tmp_path, population="workstation")
    with closing(connect(tmp_path / FILE_NAME)) as db:
        db.execute("INSERT INTO control VALUES ('population', 'server')")
    life.begin()
    life.steps(5)
    life.clock.advance(86_400_000, asleep=True)
    life.steps(1)
    assert {type(r.period) for r in life.records()} == {DatePeriod}
    life.end()


def test_health_is_left_for_the_sender(life):
    """The control table holds each source's outcomes and the agent's own memory use."""
    life.begin()
    life.steps(7)
    said = json.loads(life.control(ControlKey.SOURCES))
    assert {row["name"] for row in said["sources"]} == {"fake", "utilisation"}
    assert said["rss_bytes"] > 1_000_000
    life.end()


@pytest.mark.parametrize(
    ("seconds", "fine"), [(10, True), (60, True), (7, False), (5, False), (3_600, True), (1_000, False)]
)
def test_the_period_setting(seconds, fine):
    """The period divides an hour and is 10 s or more, else it is refused; classrooms have hours."""
    given = {"measure.period_seconds": str(seconds)}
    if fine:
        settings = read_settings(None, {}, given)
        assert settings.measure.period_milliseconds(Population.SERVER, 0) == seconds * 1000
        assert settings.measure.period_milliseconds(Population.CLASSROOM, 0) == 3_600_000
    else:
        with pytest.raises(ConfigurationError, match=r"measure\.period_seconds"):
            read_settings(None, {}, given)


def test_a_reference_unit_is_fine_until_its_last_day():
    """A period below a minute ends with the day fine_until (UTC), then it is five minutes; a minute stays."""
    last, after = (
        datetime(2026, 3, day, hour, tzinfo=UTC).timestamp() * 1000 for day, hour in ((6, 23), (7, 0))
    )
    fine = AgentSettings(measure=Measure(period_seconds=10, fine_until="2026-03-06"))
    assert fine.measure.period_milliseconds(Population.SERVER, round(last)) == 10_000
    assert fine.measure.period_milliseconds(Population.SERVER, round(after)) == 300_000
    assert fine.measure.period_milliseconds(Population.SERVER, 0) == 300_000, "without a clock it may be over"
    minutes = AgentSettings(measure=Measure(period_seconds=60, fine_until="2026-03-06"))
    assert minutes.measure.period_milliseconds(Population.SERVER, round(after)) == 60_000
    with pytest.raises(ConfigurationError, match=r"measure\.fine_until"):
        read_settings(None, {"VEILLEUSE_AGENT__MEASURE__FINE_UNTIL": "tomorrow"})


def test_once(life):
    """Two polls give the readings and one record, and write no file."""
    glance = measure_once(life.settings, 2.0, life.clock)
    assert [name for name, _ in glance.readings] == ["fake"]
    assert sum(cell.milliseconds for cell in glance.records[0].cells.values()) == 2_000
    assert not list(life.state.iterdir())


# ------------------------------------------------------------------------------------ the real process


CONFIG = """
[paths]
state = "{state}"
[measure]
population = "server"
tick_seconds = 1.0
period_seconds = 10
sources = ["fake"]
fake_watts = 5.0
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Write a configuration file and return an environment that finds the sources."""
    (tmp_path / "agent.toml").write_text(CONFIG.format(state=tmp_path / "state"))
    path = os.pathsep.join(str(ROOT / root) for root in ("agent", "proto"))
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "default"}


def start(tmp_path: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start the real process."""
    command = [sys.executable, "-m", "veilleuse.agent", "run", "--config", str(tmp_path / "agent.toml")]
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_the_process(tmp_path, environment):
    """The process reports READY and ends with 0 at SIGTERM after a last sign; a second one is refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_SECONDS)
        process = start(tmp_path, {**environment, "NOTIFY_SOCKET": str(tmp_path / "notify")})
        try:
            assert manager.recv(100) == b"READY=1"
            assert manager.recv(100) == b"WATCHDOG=1"
            second = start(tmp_path, environment)
            _, said = second.communicate(timeout=PATIENCE_SECONDS)
            assert second.returncode == 1
            assert f"process {process.pid} holds" in said
            assert said.count("\n") == 1
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, errors
    with closing(sqlite3.connect(tmp_path / "state" / FILE_NAME)) as db:
        sign = json.loads(db.execute("SELECT value FROM control WHERE key = 'last_sign'").fetchone()[0])
    assert sign["why"] == "stop"
    assert "not enrolled" in errors
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_state_directory_that_cannot_be(tmp_path, environment):
    """A file in place of the directory gives one line and code 1."""
    (tmp_path / "state").write_text("a file")
    process = start(tmp_path, environment)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert said.count("\n") == 1
    assert "cannot make" in said


def test_notifier_outside_systemd():
    """Without a socket nothing is sent; without systemd no shutdown is reported."""
    notifier = SystemdNotifier({})
    notifier.ready()
    notifier.alive("fine")
    notifier.stopping()
    if not Path("/run/systemd/system").is_dir():
        assert not notifier.machine_is_going_down()
