# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R11: RAPL counters wrap, reset, stick or vanish in any order: a state machine over a tree of files."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.support.fakes.measuring import RANGE, FakeClock, ticker_over
from tests.support.fakes.metered import RaplTree
from veilleuse.agent.model import Tick
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.linux_rapl import LinuxRapl
from veilleuse.wire.vocabulary import State

TICK = 10_000
SEEN: Counter[str] = Counter()
WORST: list[float] = []


class Counters(RuleBasedStateMachine):
    """Compares the ticks with the true millijoules of each stretch of boot-time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        sysfs = Path(self.folder.name) / "sys"
        self.tree = RaplTree(sysfs)
        self.aside = Path(self.folder.name) / "unloaded"
        self.clock = FakeClock()
        self.ticker = ticker_over(self.clock, LinuxRapl(SourceContext(str(sysfs), "/proc", "none")))
        self.start = self.clock.boottime
        self.truth: list[int] = []
        """Millijoules of each tick."""
        self.believable: list[bool] = []
        """True for a tick whose energy the counter showed: not while it was stuck, or over a reset."""
        self.ticks: list[Tick] = []
        self.ticker.tick()

    def teardown(self) -> None:
        _, last = self.ticker.tick(last=True)
        self.ticks += last
        self.check()
        self.folder.cleanup()

    @rule(watts=st.integers(1, 190), count=st.integers(1, 6))
    def run(self, watts: int, count: int) -> None:
        """Let time pass at that power."""
        for _ in range(count):
            self.clock.advance(TICK)
            before = self.tree.microjoules
            self.tree.spend(watts * TICK * 1_000)
            SEEN["wraps"] += self.tree.microjoules < before
            self.truth.append(watts * TICK)
            self.believable.append(not self.tree.stuck)
            _, ticks = self.ticker.tick()
            self.ticks += ticks

    @precondition(lambda self: self.tree.microjoules < RANGE - 10**11)
    @rule()
    def nearly_round(self) -> None:
        """Move the counter near its end, between two polls that see it: the next runs wrap it."""
        self.tree.microjoules = RANGE - 10**9
        self.tree.show()
        self.run(watts=50, count=1)  # seen as a reset or a jump: no energy of it may be counted
        self.believable[-1] = False

    @precondition(lambda self: 10**10 < self.tree.microjoules < RANGE - 10**10)
    @rule(watts=st.integers(1, 190))
    def reset(self, watts: int) -> None:
        """Start the counter again at 0: that stretch is a gap."""
        SEEN["resets"] += 1
        self.tree.reset()
        self.run(watts=watts, count=1)
        self.believable[-1] = False

    @rule(ticks=st.integers(1, 8))
    def unreadable(self, ticks: int) -> None:
        """Make the counter's file unreadable for some ticks."""
        if not self.tree.counter.is_file():
            return
        SEEN["unreadable"] += 1
        self.tree.counter.unlink()
        self.tree.counter.mkdir()
        self.run(watts=30, count=ticks)
        self.tree.counter.rmdir()
        self.tree.show()
        self.run(
            watts=30, count=1
        )  # read again: a counter that stands still afterwards differs from an unreadable one

    @rule(ticks=st.integers(1, 8), resets=st.booleans())
    def unload(self, ticks: int, resets: bool) -> None:
        """Unload the driver and load it again, its counter unchanged or at 0."""
        away = ticks + 1  # ticks in which it could wrap unseen at the ceiling, 10 kJ each
        if resets and not 10**10 < self.tree.microjoules < RANGE - away * 10**10:
            return
        SEEN["unloads"] += 1
        self.tree.folder.rename(self.aside)
        self.run(watts=60, count=ticks)
        self.aside.rename(self.tree.folder)
        if resets:
            self.tree.microjoules = 0
            for back in range(1, ticks + 1):
                self.believable[-back] = False
        self.tree.show()
        self.run(watts=60, count=1)
        self.believable[-1] = not resets

    @rule(ticks=st.integers(1, 8))
    def stick(self, ticks: int) -> None:
        """Keep the counter still while energy is used: this is never 0 W."""
        SEEN["stuck"] += 1
        self.tree.stuck = True
        self.run(watts=25, count=ticks)
        self.tree.stuck = False

    def check(self) -> None:
        """Assert that each tick of time is there once, with the true energy or a gap, never with 0 J."""
        position = 0
        for tick in self.ticks:
            assert tick.duration_milliseconds > 0
            assert tick.duration_milliseconds % TICK == 0
            length = tick.duration_milliseconds // TICK
            truth = sum(self.truth[position : position + length])
            believable = all(self.believable[position : position + length])
            position += length
            assert tick.state in (State.ON_ACTIVE, State.ON_IDLE)
            if not tick.energies:
                assert tick.gaps, "missing without a word"
                SEEN["gaps"] += 1
                continue
            (energy,) = tick.energies
            assert energy.energy_millijoules > 0, "0 W because it could not be read"
            assert believable, "a reset, a jump or a counter that stood still was believed"
            WORST.append(abs(energy.energy_millijoules - truth) / truth)
        assert position == len(self.truth)


@pytest.mark.promise("R11")
def test_whatever_the_counter_does(figure):
    """After a wrap, reset, unload, read error or stuck counter, energy is within 0.1 %, or time is a gap."""
    SEEN.clear()
    WORST.clear()
    walk = Counters()  # random walks may hold no wrap
    walk.nearly_round()
    walk.run(watts=60, count=2)
    walk.teardown()
    run_state_machine_as_test(
        Counters, settings=settings(max_examples=30, stateful_step_count=20, deadline=None)
    )
    figure(
        f"{100 * max(WORST):.4f} % error at most, 0 negative values in {len(WORST):,} ticks, with {SEEN['wraps']:,} wraps and "
        f"{SEEN['gaps']:,} gaps"
    )
    for what in ("wraps", "resets", "unreadable", "unloads", "stuck", "gaps"):
        assert SEEN[what], what
    assert max(WORST) < 0.001


def test_the_tree_is_what_the_source_reads(tmp_path):
    """The source finds the fake tree as a real one, and reads its counter."""
    tree = RaplTree(tmp_path / "sys")
    source = LinuxRapl(SourceContext(str(tmp_path / "sys"), "/proc", "none"))
    (point,) = source.open()
    assert point.domain == "package-0"
    (reading,) = source.read()
    assert reading.energy_microjoules == tree.microjoules  # type: ignore[union-attr]  # a counter
    shutil.rmtree(tree.folder)
