# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test all in-process sources on a machine whose devices fail, show wrong values, disappear and return.

R11 (tests/promises) tests one counter in every state; this state machine tests counters and gauges together,
through ticker and fold, up to the record.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.conformance.machine import BATTERY, HWMON, RAPL, Device, Machine
from tests.support.fakes.measuring import ticker_over
from tests.support.trees import context, put
from veilleuse.agent.model import Point, Reading, Record, Tick
from veilleuse.agent.ports import Source
from veilleuse.agent.resident.fold import Fold
from veilleuse.agent.sources.linux_battery import LinuxBattery
from veilleuse.agent.sources.linux_hwmon import LinuxHwmon
from veilleuse.agent.sources.linux_rapl import LinuxRapl
from veilleuse.wire.vocabulary import GapReason, Population, State

TICK = 10_000
LONGEST = 40_000
"""Four ticks: over a longer period no energy is reported."""
SOUND_POLLS = 4
"""After this many valid polls in a row without a jump, the last period must have energy."""
SEEN: Counter[str] = Counter()
NONSENSE = ("", "garbage\n", "-5\n", "nan\n", "99999999999999999999999\n", "\x00\x01", "1_000\n")
SOURCES = st.sampled_from((RAPL, HWMON, BATTERY))
LENGTHS = st.integers(5_000, 12_000)


class Slow:
    """Wraps a `ports.Source`; time passes while it is read."""

    def __init__(self, inner: Source, machine: Machine, used: list[dict[Point, int]]) -> None:
        self.name, self._inner, self._machine, self._used = inner.name, inner, machine, used
        self.milliseconds = 0

    def open(self) -> tuple[Point, ...]:
        return self._inner.open()

    def read(self) -> tuple[Reading, ...]:
        if self.milliseconds:
            self._used.append(self._machine.advance(self.milliseconds).used)
            self._machine.show()
        return self._inner.read()

    def close(self) -> None:
        self._inner.close()


class Stretch:
    """The truth of the period between two polls."""

    def __init__(
        self, milliseconds: int, used: dict[Point, int] | None, told: set[Point], jumped: set[Point]
    ) -> None:
        """`used`: microjoules, None while asleep; `told`: points that show their true value at the end;
        `jumped`: points whose values cannot be subtracted over the period."""
        self.milliseconds, self.used, self.told, self.jumped = milliseconds, used, told, jumped


class LyingDevices(RuleBasedStateMachine):
    """Compares the true energy of the machine with its ticks and records."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        tree = Path(self.folder.name)
        self.machine = Machine(tree)
        self.while_read: list[dict[Point, int]] = []
        sources = (LinuxRapl(context(tree)), LinuxHwmon(context(tree)), LinuxBattery(context(tree)))
        self.sources = [Slow(source, self.machine, self.while_read) for source in sources]
        self.ticker = ticker_over(self.machine.clock, *self.sources)
        assert {p for polled in self.ticker.polled for p in polled.points} == set(self.machine.by_point)
        self.fold = Fold(Population.SERVER, 60_000)
        self.records: list[Record] = []
        self.ticks: list[Tick] = []
        self.stretches: list[Stretch] = []
        self.shifted: Counter[Point] = Counter()
        """Microjoules that slow reads may have counted in the period before."""
        self.late = 0
        """Milliseconds that passed during the last poll, after its `now`."""
        self.late_used: Counter[Point] = Counter()
        self.pending_jumps: set[Point] = set()
        self.ticker.tick()

    def teardown(self) -> None:
        with self.folder:
            self.run(milliseconds=TICK, count=1)
            _, ticks = self.ticker.tick(last=True)
            self.take(ticks)
            self.records += self.fold.flush()
            self.check()

    # ---------------------------------------------------------------------------------------- time

    @rule(milliseconds=LENGTHS, count=st.integers(1, 5))
    def run(self, milliseconds: int, count: int) -> None:
        """Time passes, and the devices are polled."""
        for _ in range(count):
            self.poll(milliseconds)

    def poll(self, milliseconds: int) -> None:
        used = Counter(self.machine.advance(milliseconds).used) + self.late_used
        jumped, self.pending_jumps = self.pending_jumps, set()
        milliseconds += self.late
        if milliseconds > LONGEST:
            jumped |= set(self.machine.by_point)
        self.machine.show()
        told = {device.point for device in self.machine.devices if self.machine.is_told(device)}
        self.stretches.append(Stretch(milliseconds, dict(used), told, jumped))
        self.while_read.clear()
        _, ticks = self.ticker.tick()
        self.late = sum(source.milliseconds for source in self.sources)
        self.late_used = sum((Counter(one) for one in self.while_read), Counter())
        self.shifted += self.late_used
        self.take(ticks)

    def take(self, ticks: tuple[Tick, ...]) -> None:
        self.ticks += ticks
        for tick in ticks:
            self.records += self.fold.add(tick)

    @rule(milliseconds=st.integers(41_000, 300_000))
    def silence(self, milliseconds: int) -> None:
        """The agent gets no processor time for minutes."""
        SEEN["silences"] += 1
        self.poll(milliseconds)

    @rule(asleep=st.integers(1_500, 4_000_000), awake=LENGTHS, resets=st.booleans())
    def suspend(self, asleep: int, awake: int, resets: bool) -> None:
        """The machine sleeps: its counters stop, or are reset."""
        SEEN["suspends"] += 1
        self.machine.clock.advance(asleep, asleep=True)
        self.stretches.append(Stretch(asleep, None, set(), set()))
        for device in self.machine.devices:
            self.pending_jumps.add(device.point)
            if resets and device.microjoules is not None:
                device.microjoules = 1_000_000
        self.poll(awake)

    @rule(jump=st.sampled_from((-86_400_000, -3_600_000, -2_000, 1_500, 3_600_000, 86_400_000)))
    def set_clock(self, jump: int) -> None:
        """Somebody sets the wall clock."""
        SEEN["clock steps"] += 1
        self.machine.clock.set_wall(self.machine.clock.unix + jump)

    @rule(which=st.integers(0, 2), milliseconds=st.integers(200, 9_000), then=LENGTHS)
    def slow_read(self, which: int, milliseconds: int, then: int) -> None:
        """A driver takes seconds to answer, once."""
        SEEN["slow reads"] += 1
        self.sources[which].milliseconds = milliseconds
        self.poll(then)
        self.sources[which].milliseconds = 0
        self.poll(then)

    # ------------------------------------------------------------------------------------- devices

    @rule(which=st.integers(0, 6), watts=st.integers(1, 180))
    def use(self, which: int, watts: int) -> None:
        """A device's power changes."""
        self.machine.devices[which].watts = watts

    @rule(into=st.booleans(), sign=st.sampled_from((1, -1)), by_current=st.booleans())
    def plug(self, into: bool, sign: int, by_current: bool) -> None:
        """The mains change, and the sign and unit of the battery's driver, as if it were another driver."""
        SEEN["plugs"] += 1
        self.machine.plug(into=into)
        self.machine.sign, self.machine.by_current = sign, by_current

    @rule(which=st.integers(0, 8), polls=st.integers(1, 7), milliseconds=LENGTHS)
    def unreadable(self, which: int, polls: int, milliseconds: int) -> None:
        """A file cannot be read for some polls."""
        SEEN["unreadable"] += 1
        self.fault(which, polls, milliseconds, away=True)

    @rule(
        which=st.integers(0, 8), polls=st.integers(1, 3), milliseconds=LENGTHS, text=st.sampled_from(NONSENSE)
    )
    def nonsense(self, which: int, polls: int, milliseconds: int, text: str) -> None:
        """A file is empty, negative, too large, or no number."""
        if text.startswith("-") and self.machine.devices[which].source == BATTERY:
            return  # a battery's sign has no meaning
        SEEN["nonsense"] += 1
        self.fault(which, polls, milliseconds, text=text)

    @rule(which=st.sampled_from((4, 5, 7)), milliseconds=LENGTHS, more=st.integers(1, 10**9))
    def gauge_lies(self, which: int, milliseconds: int, more: int) -> None:
        """A gauge shows more than any such machine can use."""
        SEEN["lies"] += 1
        self.fault(which, 1, milliseconds, text=f"{25_000_000_000 + more * 1_000}\n")

    @rule(
        which=st.sampled_from((0, 1, 2, 3, 6)),
        milliseconds=LENGTHS,
        digits=st.integers(1, 8),
        far=st.integers(0, 65_000_000_000),
        cut=st.booleans(),
    )
    def counter_lies(self, which: int, milliseconds: int, digits: int, far: int, cut: bool) -> None:
        """A counter shows another value once: its first digits only, or any value. If the value is possible
        below the highest power of the counter's class, no reader can detect it: then nothing is tested."""
        device = self.machine.devices[which]
        value = int(device.truth()[:digits]) if cut else far
        if not self.is_sound(device) or self.pending_jumps:
            return  # the source has no valid value to compare with
        if device.would_be_believed(value, milliseconds + self.late):
            return
        SEEN["lies"] += 1
        self.fault(which, 1, milliseconds, text=f"{value}\n")

    def is_sound(self, device: Device) -> bool:
        """Return whether the last two polls read the device's true value."""
        last = self.stretches[-2:]
        return len(last) == 2 and all(
            one.used is not None and device.point in one.told and device.point not in one.jumped
            for one in last
        )

    def fault(
        self, which: int, polls: int, milliseconds: int, *, text: str | None = None, away: bool = False
    ) -> None:
        """Change the files of a device for some polls; both points of the battery have the same file."""
        device = self.machine.devices[which]
        devices = [one for one in self.machine.devices if one.file == device.file]
        for one in devices:
            one.text, one.away = text, away
        self.run(milliseconds, polls)
        for one in devices:
            one.text, one.away = None, False

    @rule(which=st.sampled_from((0, 1, 2, 3, 6)), to_end=st.booleans(), milliseconds=LENGTHS)
    def jump(self, which: int, to_end: bool, milliseconds: int) -> None:
        """A counter is reset, or comes near the end of its range, so that it wraps soon."""
        device = self.machine.devices[which]
        value = (device.around or 10**12) - 10**8 if to_end else 1_000_000
        shown = value + device.watts * milliseconds * 1_000
        shown = shown % device.around if device.around else shown
        if not self.is_sound(device) or device.would_be_believed(shown, milliseconds + self.late):
            return
        SEEN["jumps"] += 1
        device.microjoules = value
        self.pending_jumps.add(device.point)
        self.poll(milliseconds)

    @rule(source=SOURCES, polls=st.integers(1, 7), milliseconds=LENGTHS, renumber=st.booleans())
    def unload(self, source: str, polls: int, milliseconds: int, renumber: bool) -> None:
        """A driver is unloaded, or the battery removed; it returns, perhaps under other numbers."""
        SEEN["unloads"] += 1
        self.machine.unload(source)
        self.run(milliseconds, polls)
        self.machine.load(source)
        if source == RAPL and renumber:
            SEEN["renumbered"] += 1
            self.machine.renumber()
        self.run(milliseconds, 3)

    @precondition(lambda self: not (self.machine.tree / "sys/class/powercap/intel-rapl:7").exists())
    @rule()
    def mirrors_appear(self) -> None:
        """Another die shows a known counter again, and an MMIO zone mirrors a known package."""
        if RAPL in self.machine.unloaded:
            return
        SEEN["mirrors"] += 1
        for number, name in ((":7", "package-1-die-1"), ("-mmio:0", "package-0")):
            folder = f"class/powercap/intel-rapl{number}"
            put(self.machine.tree, f"{folder}/name", name)
            put(self.machine.tree, f"{folder}/energy_uj", 5_000_000_000)
            put(self.machine.tree, f"{folder}/max_energy_range_uj", 65_532_610_987)

    # --------------------------------------------------------------------------------------- check

    def check(self) -> None:
        """All reported energy is true, energy is reported wherever possible, the rest is a gap, and the
        records say the same as the ticks."""
        assert [tick.duration_milliseconds for tick in self.ticks] == [
            one.milliseconds for one in self.stretches
        ]
        told: Counter[Point] = Counter()
        truth: Counter[Point] = Counter()
        for place, (tick, stretch) in enumerate(zip(self.ticks, self.stretches, strict=True)):
            energies = {energy.point: energy for energy in tick.energies}
            assert len(energies) == len(tick.energies), "one point twice"
            assert all(energy.energy_millijoules >= 0 for energy in tick.energies)
            assert {energy.covered_milliseconds for energy in tick.energies} <= {stretch.milliseconds}
            if stretch.used is None:
                assert (tick.state, tick.energies, tick.gaps) == (State.ASLEEP, (), ())
                continue
            for point, energy in energies.items():
                told[point] += energy.energy_millijoules
                truth[point] += stretch.used.get(point, 0)
            self.check_gaps(tick, energies)
            for device in self.machine.devices:
                if self.must_be_told(place, device):
                    assert device.point in energies, f"{device.point.domain} was there all the time"
        for device in self.machine.devices:
            point, slack = device.point, self.shifted[device.point] if device.is_counter else 0
            assert told[point] * 1_000 <= truth[point] + slack, f"invented at {point.domain}"
            assert told[point] * 1_000 > truth[point] - slack - 1_000, f"lost at {point.domain}"
            SEEN["joules"] += told[point] // 1_000
        self.check_records(told)

    def check_gaps(self, tick: Tick, points: Iterable[Point]) -> None:
        """A source without energy in a tick has a gap of the tick's duration; the other sources have none."""
        present = {self.machine.by_point[point].source for point in points}
        missing = {source.name for source in self.sources} - present
        assert dict(tick.gaps) == dict.fromkeys(missing, tick.duration_milliseconds)
        SEEN["gaps"] += len(missing)

    def must_be_told(self, place: int, device: Device) -> bool:
        """Return whether energy must be reported: a gauge is true now; a counter was true for some polls."""
        stretch = self.stretches[place]
        if not device.is_counter:
            return device.point in stretch.told and stretch.milliseconds <= LONGEST
        last = self.stretches[max(0, place - SOUND_POLLS + 1) : place + 1]
        return len(last) == SOUND_POLLS and all(
            one.used is not None and device.point in one.told and device.point not in one.jumped
            for one in last
        )

    def check_records(self, told: Counter[Point]) -> None:
        """Sums over records equal sums over ticks: joules of points, milliseconds of gaps and states."""
        energies: Counter[Point] = Counter()
        lost: Counter[str] = Counter()
        states: Counter[State] = Counter()
        for record in self.records:
            for (_, state, _), cell in record.cells.items():
                states[state] += cell.milliseconds
                for point, (millijoules, covered) in cell.energies.items():
                    energies[point] += millijoules
                    assert covered <= cell.milliseconds
            for (reason, source), milliseconds in record.gaps.items():
                assert reason is GapReason.SENSOR_LOST
                lost[source] += milliseconds
        assert energies == told
        expected: Counter[str] = Counter()
        for tick in self.ticks:
            expected.update(dict(tick.gaps))
        assert lost == expected
        del states[State.UNKNOWN]  # it fills the rest of a period
        assert sum(states.values()) == sum(tick.duration_milliseconds for tick in self.ticks)


def put_to_the_test(examples: int, steps: int) -> None:
    """Run this many random lives of the machine, with this many steps each."""
    SEEN.clear()
    run_state_machine_as_test(
        LyingDevices, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )


def test_whatever_the_devices_do():
    """Ticks and records contain no negative or invented energy, lose none that could be reported, and show an
    unreadable device as a gap."""
    put_to_the_test(60, 15)
    for what in (
        "lies",
        "nonsense",
        "unreadable",
        "unloads",
        "jumps",
        "suspends",
        "slow reads",
        "plugs",
        "gaps",
        "joules",
    ):
        assert SEEN[what], what


@pytest.mark.long
def test_whatever_the_devices_do_for_long():
    """The same holds in 25 times as many lives, which are longer."""
    put_to_the_test(1_500, 25)
