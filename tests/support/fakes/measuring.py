# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fake the agent's measuring side: a settable clock, and scripted sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.model import (
    EnergyCounter,
    Instant,
    LoadCounters,
    Point,
    PowerGauge,
    Reading,
    SupplyReading,
    Tick,
)
from veilleuse.agent.ports import Clock, LoadSource, Source
from veilleuse.agent.resident.ticker import Ticker
from veilleuse.wire.vocabulary import Boundary, PointKind, Supply

NOON = 1_795_604_400_000
"""2026-11-25 11:00:00 UTC, a Wednesday, 12:00 in Paris, in Unix milliseconds."""
PACKAGE = Point(PointKind.RAPL, "package-0", Boundary.COMPONENT)
METER = Point(PointKind.HWMON, "power_meter", Boundary.WALL)
RANGE = 262_143_328_850


class FakeClock:
    """Implements `ports.Clock`; its time changes only by its methods. All times in milliseconds."""

    def __init__(self, unix: int = NOON, boottime: int = 1_000_000) -> None:
        self.unix, self.boottime, self.monotonic = unix, boottime, boottime
        self.boot = "boot-1"
        self.on_sleep: Callable[[], None] = lambda: None

    def now(self) -> Instant:
        return Instant(self.unix, self.boottime, self.monotonic)

    def boot_id(self) -> str:
        return self.boot

    def sleep(self, milliseconds: int) -> None:
        self.advance(milliseconds)
        self.on_sleep()

    def advance(self, milliseconds: int, *, asleep: bool = False) -> None:
        self.unix += milliseconds
        self.boottime += milliseconds
        if not asleep:
            self.monotonic += milliseconds

    def set_wall(self, unix: int) -> None:
        self.unix = unix

    def reboot(self, off_milliseconds: int, boot_milliseconds: int = 20_000) -> None:
        """Shut the machine down for `off_milliseconds`, then boot it `boot_milliseconds` before now."""
        self.unix += off_milliseconds + boot_milliseconds
        self.boottime = self.monotonic = boot_milliseconds
        self.boot += "+"


class CounterSource:
    """Implements `ports.Source` with one cumulative counter; with None it cannot be read."""

    name = "linux_rapl"

    def __init__(self, point: Point = PACKAGE, ceiling_watts: float = 1_000.0) -> None:
        self.point = point
        self.ceiling_watts = ceiling_watts
        self.microjoules: int | None = 5_000_000
        self.range: int | None = RANGE
        self.broken = False

    def open(self) -> tuple[Point, ...]:
        return (self.point,)

    def read(self) -> tuple[Reading, ...]:
        if self.broken:
            raise RuntimeError("a defect of the source")
        if self.microjoules is None:
            raise ReadFailed("nothing to read")
        return (EnergyCounter(self.point, self.microjoules, self.range, self.ceiling_watts),)

    def close(self) -> None:
        """Do nothing."""

    def spend(self, microjoules: int) -> None:
        """Advance the counter; it wraps at its range."""
        assert self.microjoules is not None
        self.microjoules += microjoules
        if self.range is not None:
            self.microjoules %= self.range


class GaugeSource:
    """Implements `ports.Source` with one power gauge and a supply; each may be None (absent)."""

    name = "linux_hwmon"

    def __init__(self, power_milliwatts: int = 40_000, supply: Supply | None = None) -> None:
        self.power_milliwatts: int | None = power_milliwatts
        self.supply = supply

    def open(self) -> tuple[Point, ...]:
        return (METER,)

    def read(self) -> tuple[Reading, ...]:
        readings: list[Reading] = [] if self.supply is None else [SupplyReading(self.supply)]
        if self.power_milliwatts is not None:
            readings.append(PowerGauge(METER, self.power_milliwatts))
        if not readings:
            raise ReadFailed("nothing to read")
        return tuple(readings)

    def close(self) -> None:
        """Do nothing."""


class FakeLoad:
    """Implements `ports.LoadSource` with two processors; `use` advances its counters."""

    name = "utilisation"

    def __init__(self) -> None:
        self.total = [0, 0]
        self.busy = [0, 0]
        self.memory: float | None = 0.3
        self.bytes: list[int | None] = [0, 0]
        self.failing = False

    def open(self) -> None:
        """Do nothing."""

    def read(self) -> LoadCounters:
        if self.failing:
            raise ReadFailed("nothing to read")
        return LoadCounters(tuple(self.total), tuple(self.busy), self.memory, *self.bytes)

    def use(self, milliseconds: int, ratios: Iterable[float], moved: Iterable[int] = (0, 0)) -> None:
        """Add this time at these loads (0 to 1, one per processor), and these moved bytes."""
        for cpu, ratio in enumerate(ratios):
            self.total[cpu] += milliseconds
            self.busy[cpu] += round(ratio * milliseconds)
        self.bytes = [None if old is None else old + new for old, new in zip(self.bytes, moved, strict=True)]


def ticker_over(
    clock: Clock,
    *sources: Source,
    load: LoadSource | None = None,
    supply: Supply = Supply.AC,
    milliseconds: int = 10_000,
    own_cpu: Callable[[], int | None] = lambda: None,
) -> Ticker:
    """Open the sources and return a ticker over them."""
    opened = tuple((source, source.open()) for source in sources)
    return Ticker(clock, opened, load, default_supply=supply, tick_milliseconds=milliseconds, own_cpu=own_cpu)


class TickerBench:
    """Runs a ticker over fakes, after its first poll."""

    def __init__(self, *sources: Source, supply: Supply = Supply.AC) -> None:
        self.clock, self.load = FakeClock(), FakeLoad()
        self.ticker = ticker_over(self.clock, *sources, load=self.load, supply=supply)
        self.ticker.tick()

    def step(self, milliseconds: int = 10_000, *, load: float = 0.0, asleep: int = 0) -> tuple[Tick, ...]:
        if asleep:
            self.clock.advance(asleep, asleep=True)
        self.clock.advance(milliseconds)
        self.load.use(milliseconds, (load, load))
        return self.ticker.tick()[1]
