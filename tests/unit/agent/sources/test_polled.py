# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the resident's side of polling: a publication becomes readings and ticks, without invented energy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.measuring import CounterSource, FakeClock
from veilleuse.agent.errors import PointsChanged, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge, Reading, Tick
from veilleuse.agent.ports import Source, SourceContext
from veilleuse.agent.resident.ticker import Ticker
from veilleuse.agent.sources.polled import PolledSources
from veilleuse.agent.sources.snapshot import Outcome, Publication, SnapshotReading, publish
from veilleuse.wire.vocabulary import Boundary, PointKind, Supply

GPU = Point(PointKind.GPU, "gpu-0000_41_00.0", Boundary.COMPONENT)
BMC = Point(PointKind.BMC, "bmc", Boundary.WALL)
PLUG = Point(PointKind.PLUG, "desk", Boundary.WALL)
OK = Outcome("nvidia_nvml", "ok")


class Seam:
    """Holds a test's publication, the source that reads it, and their clock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "published.json"
        self.procfs = folder / "proc"
        self.clock = FakeClock()
        self.source = self.another()

    def another(self, published: str | None = None) -> PolledSources:
        """Return the source of another start."""
        path = str(self.path) if published is None else published
        context = SourceContext("/nowhere/sys", str(self.procfs), "none", published=path)
        return PolledSources(context, now=self.clock.now)

    def publish(
        self,
        *readings: Reading,
        age: int = 1_000,
        every: int = 10_000,
        points: tuple[Point, ...] = (GPU, BMC),
        outcomes: tuple[Outcome, ...] = (OK,),
        boot_id: str = "",
    ) -> None:
        """Publish these readings, made `age` ms ago."""
        made = self.clock.boottime - age
        publication = Publication(
            tuple(SnapshotReading(one, made, every) for one in readings), points, outcomes, boot_id
        )
        publish(self.path, publication)


@pytest.fixture
def seam(tmp_path: Path) -> Seam:
    """Return a seam without a publication."""
    return Seam(tmp_path)


def counter(microjoules: int, point: Point = GPU) -> EnergyCounter:
    """Return a counter's reading, of a GPU by default."""
    return EnergyCounter(point, microjoules, None, 600.0)


def test_nothing_to_poll_is_not_available(seam):
    """Without a publication's path, the source is unavailable with a remedy."""
    with pytest.raises(SourceUnavailable) as caught:
        seam.another(published="").open()
    assert caught.value.word == "no_device"
    assert caught.value.remedy


def test_points_are_taken_as_they_come(seam):
    """The source opens without points; a new point raises PointsChanged, so that it is opened again."""
    assert seam.source.open() == ()
    assert seam.source.read() == ()
    seam.publish(points=(GPU,))
    with pytest.raises(PointsChanged):
        seam.source.read()
    assert seam.source.open() == (GPU,)
    seam.publish(PowerGauge(BMC, 180_000), points=(GPU, BMC))
    with pytest.raises(PointsChanged):
        seam.source.read()
    assert seam.source.open() == (GPU, BMC)
    assert seam.source.read() == (PowerGauge(BMC, 180_000),)


def test_a_point_that_has_gone_stays_offered(seam):
    """The point of an unplugged UPS stays offered, so that its readings are visibly missing."""
    seam.publish(points=(GPU, BMC))
    seam.source.open()
    seam.publish(PowerGauge(BMC, 180_000), points=(BMC,))
    assert seam.source.read() == (PowerGauge(BMC, 180_000),)
    assert seam.source.open() == (GPU, BMC)


def test_a_counter_is_given_once(seam):
    """A counter's value is given once; a newer one is given even if it is equal."""
    seam.source.open()
    seam.clock.advance(10_000)
    seam.publish(counter(5))
    seam.source.open()
    assert seam.source.read() == (counter(5),)
    seam.clock.advance(10_000)
    assert seam.source.read() == ()
    seam.clock.advance(10_000)
    seam.publish(counter(5))
    assert seam.source.read() == (counter(5),)


def test_a_gauge_holds_for_three_intervals(seam):
    """A BMC is asked every 30 s: its power holds for three intervals."""
    readings = (PowerGauge(BMC, 180_000),)
    seam.publish(*readings, age=0, every=30_000)
    seam.source.open()
    for _ in range(10):
        assert seam.source.read() == readings
        seam.clock.advance(10_000)
    with pytest.raises(ReadFailed, match="100 s ago"):
        seam.source.read()


def test_what_fails_is_told_as_the_reason(seam):
    """The error names each failing device and its reason."""
    failing = (
        OK,
        Outcome("redfish bmc-2", "failed", "no answer for 12 s"),
        Outcome("ipmi_dcmi", "no_permission", "x"),
    )
    seam.publish(PowerGauge(BMC, 180_000), age=200_000, outcomes=failing)
    seam.source.open()
    with pytest.raises(ReadFailed, match="redfish bmc-2: no answer for 12 s; ipmi_dcmi: x"):
        seam.source.read()


def test_devices_that_are_not_there_are_no_failure(seam):
    """A device without permission offers no point, so nothing is missing; a failing device is a failure."""
    seam.publish(points=(), outcomes=(Outcome("ipmi_dcmi", "no_permission", "x"),))
    assert seam.source.open() == ()
    seam.clock.advance(3_600_000)
    assert seam.source.read() == ()
    seam.publish(points=(), outcomes=(Outcome("redfish bmc-2", "failed", "no route"),))
    with pytest.raises(ReadFailed, match="no route"):
        seam.source.read()


def test_absent_for_long_is_a_failure(seam):
    """Without a file the source waits a minute for the polling process to start, then it fails."""
    assert seam.source.open() == ()
    seam.clock.advance(59_000)
    assert seam.source.read() == ()
    seam.clock.advance(1_000)
    with pytest.raises(ReadFailed, match=r"published\.json does not exist: `veilleuse-agent poll`"):
        seam.source.read()


def test_removed_while_it_is_read(seam):
    """A source with known points fails at once if the file is deleted."""
    seam.publish(PowerGauge(BMC, 1))
    seam.source.open()
    seam.path.unlink()
    with pytest.raises(ReadFailed, match="does not exist"):
        seam.source.read()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"version":2}', b"x" * 300_000])
def test_a_damaged_file_is_a_failed_read(seam, content):
    """A damaged file raises ReadFailed with its name; a repaired one is read again."""
    seam.publish(PowerGauge(BMC, 1))
    seam.source.open()
    seam.path.write_bytes(content)
    with pytest.raises(ReadFailed, match=r"published\.json"):
        seam.source.read()
    seam.publish(PowerGauge(BMC, 2))
    assert seam.source.read() == (PowerGauge(BMC, 2),)


def test_a_file_that_cannot_be_read(seam):
    """A folder in place of the file raises ReadFailed with the reason."""
    seam.path.mkdir()
    seam.source.open()
    seam.clock.advance(60_000)
    with pytest.raises(ReadFailed, match="it is a directory, no regular file"):
        seam.source.read()


def test_times_of_another_boot_are_not_compared(seam):
    """A file from another boot is recognised by its boot id, since its times may look recent."""
    boot = seam.procfs / "sys/kernel/random"
    boot.mkdir(parents=True)
    (boot / "boot_id").write_text("b-2\n")
    seam.publish(PowerGauge(BMC, 1), boot_id="b-1")
    assert seam.source.open() == (), "nor are its points this boot's"
    seam.clock.advance(60_000)
    with pytest.raises(ReadFailed, match="another boot"):
        seam.source.read()
    seam.publish(PowerGauge(BMC, 2), boot_id="b-2")
    seam.source.open()
    assert seam.source.read() == (PowerGauge(BMC, 2),)


def test_a_reading_of_the_future_is_none(seam):
    """A reading with a future time raises ReadFailed."""
    seam.publish(PowerGauge(BMC, 1), age=-1)
    seam.source.open()
    with pytest.raises(ReadFailed):
        seam.source.read()


def test_nothing_from_before_a_suspend(seam):
    """A value from before a suspend is dropped: its energy would fall into the first minute after it."""
    seam.publish(PowerGauge(BMC, 180_000), every=30_000)
    seam.source.open()
    seam.source.read()
    seam.publish(counter(5), PowerGauge(BMC, 170_000), age=0, every=30_000)
    seam.clock.advance(20_000, asleep=True)
    with pytest.raises(ReadFailed):
        seam.source.read()
    seam.clock.advance(10_000)
    seam.publish(counter(9), age=2_000, every=30_000)
    assert seam.source.read() == (counter(9),)


def test_a_counter_from_before_our_start_is_no_beginning(seam):
    """A counter's value from before the start is dropped; a power from before it is taken."""
    seam.publish(counter(5), PowerGauge(BMC, 1), age=2_000)
    seam.source.open()
    assert seam.source.read() == (PowerGauge(BMC, 1),)


# ------------------------------------------------------------------------------- with the ticker


def ticker(seam: Seam, *others: Source, tick_milliseconds: int = 10_000) -> Ticker:
    """Return a ticker over the source as the resident opens it."""
    sources: tuple[Source, ...] = (seam.source, *others)
    opened = [(one, one.open()) for one in sources]
    return Ticker(
        seam.clock,
        tuple(opened),
        None,
        default_supply=Supply.AC,
        tick_milliseconds=tick_milliseconds,
    )


def joules(ticks: list[Tick], point: Point) -> tuple[int, int]:
    """Return (mJ, covered ms) of a point."""
    found = [energy for tick in ticks for energy in tick.energies if energy.point == point]
    return sum(e.energy_millijoules for e in found), sum(e.covered_milliseconds for e in found)


def test_a_counter_read_every_second_tick_covers_all(seam):
    """A counter read every 20 s covers all ticks of 10 s without a gap: 50 W are 500 J a tick."""
    loop = ticker(seam)
    ticks: list[Tick] = []
    for turn in range(1, 13):
        seam.clock.advance(10_000)
        if turn % 2:
            seam.publish(counter(turn * 500_000_000), every=20_000)
        ticks += loop.tick()[1]
    ticks += loop.tick(last=True)[1]
    assert joules(ticks, GPU) == (5_000_000, 100_000)
    assert [tick.gaps for tick in ticks if GPU in {e.point for e in tick.energies}] == [()] * 10


def test_two_counters_out_of_step_lose_nothing(seam):
    """Two counters read in turns lose nothing: ticks are held for at most 20 s until late values come."""
    loop = ticker(seam)
    ticks: list[Tick] = []
    last: dict[Point, SnapshotReading] = {}
    for turn in range(1, 42):
        seam.clock.advance(10_000)
        point, watts = ((GPU, 50), (PLUG, 7))[turn % 2]
        value = counter(turn * watts * 10_000_000, point)
        last[point] = SnapshotReading(value, seam.clock.boottime, 20_000)
        publish(seam.path, Publication(tuple(last.values()), (GPU, PLUG), (OK,)))
        _, settled = loop.tick()
        ticks += settled
        assert sum(t.duration_milliseconds for t in loop._held) <= 20_000
    assert joules(ticks, PLUG) == (39 * 70_000, 390_000)
    assert joules(ticks, GPU) == (38 * 500_000, 380_000)
    assert sum(tick.duration_milliseconds for tick in ticks) == 390_000


def test_points_that_come_later_are_polled(seam):
    """New points are polled from then on, and opening again is no failure."""
    loop = ticker(seam)
    loop.tick()
    seam.publish(PowerGauge(BMC, 180_000), points=(BMC,))
    seam.clock.advance(10_000)
    loop.tick()
    (row,) = loop.health()
    assert (row["name"], row["successes"], row["failures"]) == ("polled", 2, 0)
    assert loop.polled[0].points == (BMC,)


def test_a_source_that_is_added_is_polled(seam):
    """A source whose driver is loaded after the start is polled."""
    loop = ticker(seam)
    late = CounterSource()
    loop.tick()
    loop.add(late, late.open())
    seam.clock.advance(10_000)
    loop.tick()
    late.spend(40_000_000)
    seam.clock.advance(10_000)
    _, ticks = loop.tick()
    assert joules([*ticks], late.point) == (40_000, 10_000)


def test_a_source_that_always_has_other_points_fails(seam):
    """A source that always changes its points is opened once a tick, then it is a failure."""

    class Restless(CounterSource):
        opened = 0

        def open(self) -> tuple[Point, ...]:
            self.opened += 1
            return (self.point,)

        def read(self) -> tuple[Reading, ...]:
            raise PointsChanged("again")

    restless = Restless()
    loop = ticker(seam, restless)
    loop.tick()
    assert restless.opened == 2
    assert loop.health()[1]["failures"] == 1


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.booleans(), st.integers(0, 5)), max_size=40))
def test_no_joule_is_invented(tmp_path_factory, turns):
    """However late or rarely a publication comes, energy is at most the true one and never negative."""
    seam = Seam(tmp_path_factory.mktemp("seam"))
    loop = ticker(seam)
    ticks: list[Tick] = []
    used = 0  # µJ of a GPU that always draws 20 W
    for seconds_between, published, asleep, lag in turns:
        step = 1_000 + 1_000 * seconds_between
        seam.clock.advance(step, asleep=asleep)
        used += 20 * step * 1_000
        if published:
            made = max(0, used - 20 * lag * 1_000_000)
            seam.publish(counter(made), age=lag * 1_000, every=20_000)
        ticks += loop.tick()[1]
    ticks += loop.tick(last=True)[1]
    energy, covered = joules(ticks, GPU)
    assert 0 <= energy * 1_000 <= used
    assert covered <= sum(tick.duration_milliseconds for tick in ticks)
    assert all(e.energy_millijoules >= 0 for tick in ticks for e in tick.energies)


def test_the_file_is_parsed_once(seam, monkeypatch):
    """An unchanged file is not parsed again."""
    parsed = []
    loads = json.loads

    def counted(text: bytes) -> object:
        parsed.append(1)
        return loads(text)

    monkeypatch.setattr("veilleuse.agent.sources.snapshot.json.loads", counted)
    seam.publish(PowerGauge(BMC, 1), every=60_000)
    seam.source.open()
    for _ in range(5):
        seam.clock.advance(1_000)
        seam.source.read()
    assert len(parsed) == 1
