# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the polling process (a thread for each source, one publication) and the poller that starts it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support.clock import unix_seconds
from tests.support.fakes.measuring import FakeClock
from tests.support.fakes.polled import POINT, ScriptedSource, job
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.agent.errors import ConfigurationError, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge, SupplyReading
from veilleuse.agent.platforms import SystemClock
from veilleuse.agent.polling import process
from veilleuse.agent.polling.process import PollingProcess, compose, jobs_of, poll_once
from veilleuse.agent.polling.worker import INCOMPLETE_READS, READS_BEFORE_OPENING, SourceStatus, Worker
from veilleuse.agent.resident.poller_child import Poller, health_rows, something_to_poll
from veilleuse.agent.settings import AgentSettings, Measure, Paths
from veilleuse.agent.sources.snapshot import (
    EXIT_NOTHING,
    PUBLISHED_FILE,
    Outcome,
    Publication,
    SnapshotReading,
    publish,
    read_publication,
)
from veilleuse.wire.vocabulary import Boundary, PointKind, Supply

OTHER = Point(PointKind.PLUG, "printer", Boundary.WALL)


@pytest.fixture
def source() -> ScriptedSource:
    """Return a source that gives 40 W."""
    return ScriptedSource()


# --------------------------------------------------------------------------------------- worker


def test_a_turn_opens_and_reads(source):
    """A worker opens its source once; a reading has the time before its request."""
    clock = FakeClock(boottime=7_000)
    worker = Worker(job(source), now=clock.now)
    assert not worker.has_tried
    worker.attempt()
    clock.advance(10_000)
    worker.attempt()
    seen = worker.status()
    assert (seen.points, source.opened, source.reads) == ((POINT,), 1, 2)
    assert seen.readings == (SnapshotReading(PowerGauge(POINT, 40_000), 17_000, 10_000),)
    assert seen.outcome == Outcome("scripted desk", "ok", "", "", 2, 0)


def test_what_is_not_available_is_said_and_tried_later(source):
    """An unavailable source is tried again after 1 to 5 minutes: a driver or a permission may be added."""
    source.opening = SourceUnavailable("no_permission", "cannot read it", "chmod it")
    worker = Worker(job(source))
    waits = []
    for _ in range(6):
        worker.attempt()
        waits.append(worker.wait_seconds(unix_seconds()))
    assert waits == [60, 120, 240, 300, 300, 300]
    assert worker.status().outcome == Outcome(
        "scripted desk", "no_permission", "cannot read it", "chmod it", 0, 6
    )
    assert source.closed == source.opened, "what could not be opened is given back"
    source.opening = None
    worker.attempt()
    assert worker.status().outcome.word == "ok"


def test_a_device_that_is_away_at_first_is_asked_at_its_interval(source):
    """A device that does not answer is tried at its interval of 10 s, not after minutes."""
    source.opening = ReadFailed("no route")
    worker = Worker(job(source))
    for _ in range(4):
        worker.attempt()
    assert worker.wait_seconds(unix_seconds()) == 10
    assert worker.status().outcome.word == "failed"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ReadFailed("no answer"), "no answer"),
        (RuntimeError("oops"), "a defect of the source: RuntimeError: oops"),
        (ConfigurationError("wrong"), "wrong"),
    ],
)
def test_reads_that_fail_open_again_after_three(source, error, reason):
    """After three failed reads the source is opened anew; the last value keeps its time."""
    worker = Worker(job(source))
    worker.attempt()
    source.reading = error
    for _ in range(READS_BEFORE_OPENING):
        assert source.opened == 1
        worker.attempt()
    assert (source.closed, worker.status().outcome.reason) == (1, reason)
    assert worker.status().readings[0].reading == PowerGauge(POINT, 40_000)
    source.reading = None
    worker.attempt()
    assert (source.opened, worker.status().outcome.word) == (2, "ok")


def test_a_point_that_stays_away_has_the_device_opened_again():
    """If one of two points is missing in 30 reads, the source is opened anew; both points stay offered."""
    source = ScriptedSource(POINT, OTHER)
    worker = Worker(job(source))
    for _ in range(INCOMPLETE_READS):
        worker.attempt()
    assert (source.opened, source.closed) == (1, 1)
    source.points = (POINT,)
    worker.attempt()
    assert source.opened == 2
    assert worker.status().points == (POINT, OTHER)


@pytest.mark.parametrize(
    "nonsense",
    [
        PowerGauge(POINT, -5),
        PowerGauge(OTHER, 5),
        EnergyCounter(POINT, 2**70, None, 10.0),
        EnergyCounter(POINT, 5, None, float("nan")),
        SupplyReading(Supply.AC),
    ],
)
def test_what_cannot_be_published_costs_its_source_alone(source, nonsense):
    """An invalid reading is dropped; the valid ones beside it are published."""
    source.readings = (nonsense,)
    worker = Worker(job(source))
    worker.attempt()
    assert (worker.status().readings, worker.status().outcome.word) == ((), "failed")
    source.readings = (nonsense, PowerGauge(POINT, 1))
    worker.attempt()
    assert [one.reading for one in worker.status().readings] == [PowerGauge(POINT, 1)]


def test_a_counter_is_read_every_20_seconds_at_least(source):
    """A counter is read every 20 s at most, since the ticker waits no longer; a gauge keeps its minute."""
    worker = Worker(job(source, every_seconds=60))
    worker.attempt()
    assert worker.status().readings[0].every_milliseconds == 60_000
    source.readings = (EnergyCounter(POINT, 1, None, 10.0),)
    worker.attempt()
    assert worker.status().readings[0].every_milliseconds == 20_000
    assert worker.wait_seconds(1_000_000_000.0) <= 1.2 * 20


@pytest.mark.parametrize("every", [10, 20, 30, 60])
def test_reads_end_before_the_ticks(source, every):
    """Reads are due 4 s before multiples of the interval, and at least a fifth of it apart."""
    worker = Worker(job(source, every_seconds=every))
    worker.attempt()
    for tenth in range(10 * every):
        now = 1_795_604_400 + tenth / 10
        wait = worker.wait_seconds(now)
        assert every / 5 <= wait <= 1.2 * every + 0.001
        assert (now + wait + 4) % every == pytest.approx(0, abs=1e-6) or (
            now + wait + 4
        ) % every == pytest.approx(every)


def test_a_source_that_hangs_is_reported_while_it_hangs(source):
    """A reading that takes twice its timeout is reported as failed, until it answers."""
    worker = Worker(job(source, timeout_seconds=0.05))
    worker.attempt()
    source.gate.clear()
    thread = threading.Thread(target=worker.attempt)
    thread.start()
    until(lambda: worker.status().outcome.word == "failed")
    assert worker.status().outcome.reason.startswith("no answer for")
    assert len(worker.status().readings) == 1
    source.gate.set()
    thread.join()
    assert worker.status().outcome.word == "ok"


# -------------------------------------------------------------------------------------- polling


def polling(
    tmp_path: Path, *sources: ScriptedSource, timeout_seconds: float = 0.2
) -> tuple[PollingProcess, threading.Thread, list[int]]:
    """Run a polling process in a thread; return both and the list for its exit code.

    `timeout_seconds` is that of the hanging sources.
    """
    jobs = [
        job(
            each,
            f"scripted {number}",
            timeout_seconds=PATIENCE_SECONDS if each.gate.is_set() else timeout_seconds,
        )
        for number, each in enumerate(sources)
    ]
    running = PollingProcess(jobs, tmp_path / PUBLISHED_FILE, SystemClock())
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(running.run()), daemon=True)
    thread.start()
    return running, thread, codes


def test_one_that_hangs_and_one_that_fails_stop_nobody(tmp_path):
    """One hanging and one failing source are reported; the third source is published."""
    first, second, third = ScriptedSource(POINT), ScriptedSource(OTHER), ScriptedSource()
    third.points = (POINT._replace(domain="third"),)
    first.gate.clear()
    second.reading = RuntimeError("a defect")
    running, thread, codes = polling(tmp_path, first, second, third)
    until((tmp_path / PUBLISHED_FILE).exists)
    running.stop()
    thread.join(PATIENCE_SECONDS)
    assert codes == [0], "it ends although one thread still waits"
    said = read_publication(str(tmp_path / PUBLISHED_FILE))
    assert [point.domain for point in said.points] == ["desk", "printer", "third"]
    assert [outcome.word for outcome in said.outcomes] == ["failed", "failed", "ok"]
    assert said.outcomes[0].reason.startswith("no answer for")
    assert [getattr(one.reading, "point", None) for one in said.readings] == [third.points[0]]
    first.gate.set()


def test_nothing_is_published_before_each_had_its_turn(tmp_path, monkeypatch):
    """The publication waits for each source's first turn: a late point would look like a new one."""
    monkeypatch.setattr(process, "FIRST_ROUND_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(process, "GATHER_SECONDS", 0.0)
    slow, quick = ScriptedSource(POINT), ScriptedSource(OTHER)
    slow.gate.clear()
    running, thread, _ = polling(tmp_path, slow, quick, timeout_seconds=PATIENCE_SECONDS)
    rounds: list[int] = []
    monkeypatch.setattr(running._clock, "sleep", rounds.append)
    until(lambda: quick.reads)
    seen = len(rounds)
    until(lambda: len(rounds) > seen + 1)
    assert not (tmp_path / PUBLISHED_FILE).exists()
    slow.gate.set()
    until((tmp_path / PUBLISHED_FILE).exists)
    running.stop()
    thread.join(PATIENCE_SECONDS)


def test_it_ends_where_nothing_can_ever_be_read(tmp_path):
    """If nothing can be read, the process ends after its publication for `doctor` and the health data."""
    source = ScriptedSource()
    source.opening = SourceUnavailable("no_permission", "cannot open it")
    _, thread, codes = polling(tmp_path, source)
    thread.join(PATIENCE_SECONDS)
    assert codes == [EXIT_NOTHING]
    assert read_publication(str(tmp_path / PUBLISHED_FILE)).outcomes[0].word == "no_permission"


def test_no_sources_at_all(tmp_path):
    """Without sources the process ends, as when the meters file was deleted meanwhile."""
    _, thread, codes = polling(tmp_path)
    thread.join(PATIENCE_SECONDS)
    assert codes == [EXIT_NOTHING]


def test_a_disk_that_is_full_is_said_once(tmp_path, caplog):
    """A publication that cannot be written is logged once and succeeds later."""
    running = PollingProcess([job(ScriptedSource())], tmp_path / "nowhere" / PUBLISHED_FILE, SystemClock())
    for worker in running._workers:
        worker.attempt()
    running._publish()
    running._publish()
    assert [record.message for record in caplog.records] == ["cannot publish"]
    (tmp_path / "nowhere").mkdir()
    running._publish()
    assert (tmp_path / "nowhere" / PUBLISHED_FILE).exists()


def test_the_same_point_twice_counts_once():
    """A point that two sources offer is taken from the first; the second is refused with the reason."""
    seen = []
    for name in ("shelly_plug desk", "tasmota_plug desk"):
        worker = Worker(job(ScriptedSource(), name))
        worker.attempt()
        seen.append(worker.status())
    said = compose(seen, "b")
    assert len(said.readings) == len(said.points) == 1
    assert [outcome.word for outcome in said.outcomes] == ["ok", "failed"]
    assert "as shelly_plug desk does already" in said.outcomes[1].reason
    assert said.boot_id == "b"


def test_look_waits_for_nobody_for_ever(monkeypatch):
    """`doctor` waits at most twice a meter's timeout and reports it as failed."""
    quick, slow = ScriptedSource(POINT), ScriptedSource(OTHER)
    slow.gate.clear()
    jobs = (
        job(quick, "scripted quick", timeout_seconds=PATIENCE_SECONDS),
        job(slow, "scripted slow", timeout_seconds=0.1),
    )
    monkeypatch.setattr("veilleuse.agent.polling.process.jobs_of", lambda _: jobs)
    join = threading.Thread.join
    with patch.object(threading.Thread, "join", autospec=True, side_effect=join) as joins:
        first, second = poll_once(AgentSettings())
    assert joins.call_args_list[1].args[1] <= 2 * 0.1 + 0.5
    assert (first.outcome.word, quick.closed) == ("ok", 1)
    assert (second.outcome.word, slow.closed) == ("failed", 0)
    slow.gate.set()


# ------------------------------------------------------------------------------- what is wanted


def agent(folder: Path, *sources: str) -> AgentSettings:
    """Return the settings of an agent on its own tree."""
    paths = Paths(state=folder, sysfs=folder / "sys", procfs=folder / "proc", meters=folder / "meters.toml")
    return AgentSettings(paths=paths, measure=Measure(sources=sources))


PLUG = '[[meter]]\nname = "desk"\nsource = "shelly_plug"\naddress = "192.0.2.1:80"\n'


@pytest.mark.parametrize(
    ("sources", "there", "wanted", "names"),
    [
        ((), (), False, ["nvidia_nvml", "ipmi_dcmi"]),
        ((), ("dev/nvidiactl",), True, ["nvidia_nvml", "ipmi_dcmi"]),
        ((), ("dev/ipmi0",), True, ["nvidia_nvml", "ipmi_dcmi"]),
        ((), ("meters.toml",), True, ["nvidia_nvml", "ipmi_dcmi", "shelly_plug desk"]),
        (("linux_rapl",), ("dev/nvidiactl", "meters.toml"), False, []),
        (
            ("linux_rapl", "polled"),
            ("meters.toml",),
            True,
            ["nvidia_nvml", "ipmi_dcmi", "shelly_plug desk"],
        ),
        (("nvidia_nvml",), ("dev/ipmi0",), False, ["nvidia_nvml"]),
        (("shelly_plug",), ("meters.toml",), True, ["shelly_plug desk"]),
        (("nut_ups",), ("meters.toml",), True, []),
    ],
)
def test_what_is_polled(tmp_path, sources, there, wanted, names):
    """A polling process is wanted if measure.sources allows a meters file or a device that exists."""
    (tmp_path / "dev").mkdir()
    for file in there:
        (tmp_path / file).write_text(PLUG if file == "meters.toml" else "")
    settings = agent(tmp_path, *sources)
    assert something_to_poll(settings, str(tmp_path / "dev")) is wanted
    assert [each.name for each in jobs_of(settings)] == names


# --------------------------------------------------------------------------------------- poller


class Bench:
    """Runs a poller whose child is a small program."""

    def __init__(self, folder: Path, code: str) -> None:
        """`code` runs after the child's mark; a part before a bar runs before it."""
        before, _, after = code.rpartition("|")
        self.clock = FakeClock()
        self.mark = folder / "mark"
        self.wanted = True
        leave_mark = f"open({str(self.mark)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')"
        program = f"import sys, signal; {before or 'pass'}; {leave_mark}; {after}"
        self.poller = Poller(
            folder, Path("/c.toml"), lambda: self.wanted, command=[sys.executable, "-c", program]
        )

    def step(self, milliseconds: int = 1) -> None:
        self.clock.advance(milliseconds)
        self.poller.step(self.clock.now())

    def finish(self) -> None:
        """Step until the child has ended."""

        def ended() -> bool:
            self.step()
            return not self.poller.running

        until(ended)

    def starts(self) -> int:
        return len(self.mark.read_text().splitlines()) if self.mark.exists() else 0


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Run a bench whose child's program is the parameter."""
    made = Bench(tmp_path, request.param)
    yield made
    made.poller.stop()


WAITS = "sys.stdin.buffer.read()"


@pytest.mark.parametrize("bench", [WAITS], indirect=True)
def test_started_when_wanted_and_kept(bench):
    """The need is checked once a minute; one child runs, with the configuration and `--attached`."""
    bench.wanted = False
    bench.step()
    bench.wanted = True
    bench.step(30_000)
    assert not bench.poller.running
    bench.step(30_000)
    assert bench.poller.running
    until(bench.starts)
    for _ in range(5):
        bench.step(600_000)
    assert bench.mark.read_text() == "--config /c.toml --attached\n"


@pytest.mark.parametrize("bench", ["sys.exit(1)"], indirect=True)
def test_restarted_with_back_off(bench):
    """The waits are 5 s, 10 s, 20 s … 15 min, so that a broken installation costs no CPU time."""
    waits = []
    bench.step()
    for _ in range(10):
        bench.finish()
        waited = 0
        while not bench.poller.running:
            bench.step(1_000)
            waited += 1
        waits.append(waited)
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]


@pytest.mark.parametrize("bench", [f"sys.exit({EXIT_NOTHING})"], indirect=True)
def test_nothing_to_poll_is_asked_again_after_an_hour(bench):
    """A BMC without permission costs one start an hour."""
    bench.step()
    bench.finish()
    bench.step(3_599_000)
    assert not bench.poller.running
    bench.step(1_000)
    assert bench.poller.running


@pytest.mark.parametrize("bench", [WAITS], indirect=True)
def test_stopped(bench):
    """No child runs after `stop`, which may be called twice."""
    bench.step()
    until(bench.starts)
    bench.poller.stop()
    bench.poller.stop()
    assert not bench.poller.running


@pytest.mark.parametrize("bench", [f"signal.signal(15, signal.SIG_IGN)|{WAITS}"], indirect=True)
def test_the_pipe_alone_ends_it(bench):
    """A child that ignores SIGTERM ends when its input closes, as after its parent's death."""
    bench.step()
    until(bench.starts)
    child = bench.poller._child._process
    assert child is not None
    bench.poller.stop()
    assert child.returncode == 0, "it was killed after 5 s"


def test_a_program_that_is_not_there(tmp_path):
    """A missing program leaves no child and raises nothing."""
    poller = Poller(tmp_path, None, lambda: True, command=[str(tmp_path / "nothing")])
    clock = FakeClock()
    poller.step(clock.now())
    assert not poller.running


def test_health_tells_sources_not_meters(tmp_path):
    """Health adds up all meters of a source, which is unavailable only if all are, and names no meter."""
    rows = health_rows(
        (
            Outcome("snmp_meter rack-a", "no_permission", "x", "y", 0, 3),
            Outcome("snmp_meter rack-b", "ok", "", "", 7, 1),
            Outcome("ipmi_dcmi", "no_device", "none", "", 0, 1),
        )
    )
    assert [(r["name"], r["successes"], r["failures"], r["unavailable"]) for r in rows] == [
        ("snmp_meter", 7, 4, None),
        ("ipmi_dcmi", 0, 1, "no_device"),
    ]
    assert "rack" not in str(rows)
    poller = Poller(tmp_path, None, lambda: False)
    assert poller.health() == []
    publish(tmp_path / PUBLISHED_FILE, Publication((), (), (Outcome("nut_ups u", "failed", "z"),)))
    assert poller.health()[0]["unavailable"] is None
    (tmp_path / PUBLISHED_FILE).write_bytes(os.urandom(50))
    assert poller.health() == []


def test_seen_is_what_it_says():
    """The status of a worker without a read is failed, with no reading."""
    seen = Worker(job(ScriptedSource())).status()
    assert isinstance(seen, SourceStatus)
    assert seen.outcome == Outcome("scripted desk", "failed", "not read yet")
