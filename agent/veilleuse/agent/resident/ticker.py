# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns one poll of all sources into ticks. Each source is polled in isolation: one never stops another."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from veilleuse.agent.errors import PointsChanged, ReadFailed
from veilleuse.agent.model import (
    CounterWrap,
    Delta,
    DisplaysReading,
    EnergyCounter,
    Instant,
    LoadCounters,
    LoadDelta,
    Point,
    PointEnergy,
    PowerGauge,
    Reading,
    Reset,
    SupplyReading,
    Tick,
    UnitReading,
    asleep_milliseconds,
    difference,
)
from veilleuse.agent.ports import Clock, LoadSource, Source
from veilleuse.agent.resident.state import state_of
from veilleuse.agent.resident.unit_times import UnitTimes
from veilleuse.wire.limits import DISPLAY_SIZES, MAX_DISPLAYS_PER_SIZE
from veilleuse.wire.sums import apportion
from veilleuse.wire.units import MICROJOULES_PER_MILLIJOULE
from veilleuse.wire.vocabulary import PointKind, State, Supply

log = logging.getLogger(__name__)

CLOCK_STEP_MILLISECONDS: Final = 1_000
"""A wall clock further than this from the boot-time clock's count was set: the timeline follows it."""
SHORTEST_GAP_MILLISECONDS: Final = 30_000
TICKS_PER_GAP: Final = 4
"""The counters' state is dropped when not polled for this many ticks (and 30 s): docs/sources.md."""
NEVER_STILL: Final = frozenset({PointKind.RAPL})
"""Counters that cannot stand still on a running machine: a value that stays the same is a defect, not 0 W."""


class MachineReadings(NamedTuple):
    """Current values that the sources report about the machine, beside energy."""

    supply: Supply
    displays_on: tuple[int, ...] | None


class SourceState:
    """One source, with its state in the ticker."""

    __slots__ = ("counters", "doubted", "failures", "points", "readings", "source", "successes", "units")

    def __init__(self, source: Source, points: tuple[Point, ...]) -> None:
        self.source = source
        self.points = points
        self.counters: dict[Point, tuple[EnergyCounter, int]] = {}
        """Last value of each point and its boot-time, ms; only these values may be subtracted from."""
        self.doubted: set[Point] = set()
        """Points whose counter restarted, stood still or gave a wrong value once.

        Such a counter is not used until a second value follows from the first.
        """
        self.readings: tuple[Reading, ...] = ()
        """Readings of the last poll; empty when it failed."""
        self.units: UnitTimes | None = None
        """CPU times of units; None until the source gives some."""
        self.successes = 0
        self.failures = 0


class Ticker:
    """Polls, subtracts, integrates. Joules are conserved: a rest below 1 mJ is carried to the next tick.

    A counter that cannot be read for a moment loses nothing. The stretches without it are held back. Its next
    value closes the gap, and each stretch gets its share by time. docs/methodology.md §4.
    """

    def __init__(
        self,
        clock: Clock,
        sources: tuple[tuple[Source, tuple[Point, ...]], ...],
        load: LoadSource | None,
        *,
        default_supply: Supply,
        tick_milliseconds: int,
        own_cpu: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Take the `default_supply`, used when no source reports one.

        `own_cpu` returns the CPU time of the agent's processes since its start, in ms.
        """
        self._clock = clock
        self.polled = tuple(SourceState(source, points) for source, points in sources)
        self._load_source = load
        self._default_supply = default_supply
        self.set_tick_milliseconds(tick_milliseconds)
        self._remainders: dict[Point, int] = {}  # µJ, 0 to 999
        self._previous: Instant | None = None
        self._end_unix = 0
        self._load: LoadCounters | None = None
        self._supply: Supply = default_supply
        self._processors = os.cpu_count() or 1
        self._idle_run = 0
        self._own_cpu = own_cpu
        self._counted_own_cpu = 0
        """CPU time in the ticks so far, ms: the first one has that of the start."""
        self._held: list[Tick] = []
        """Stretches that wait for a counter; the last one ends at the last poll."""
        self.load_successes = 0
        self.load_failures = 0

    def set_tick_milliseconds(self, tick_milliseconds: int) -> None:
        """Set the time between two polls, from the next one on; counters and held stretches are kept."""
        self._tick_milliseconds = tick_milliseconds
        self._gap_milliseconds = max(SHORTEST_GAP_MILLISECONDS, TICKS_PER_GAP * tick_milliseconds)

    def tick(self, *, last: bool = False) -> tuple[Instant, tuple[Tick, ...]]:
        """Poll once; return the instant, and the stretches that are settled, the latest ending now.

        The first call returns no stretch. While a counter is awaited, no stretch is returned, for
        `gap_milliseconds` at most. With `last` nothing is held back.
        """
        now = self._clock.now()
        for polled in self.polled:
            self._poll(polled)
        counters = self._read_load()
        seen = self._observe()
        previous = self._previous
        ticks: tuple[Tick, ...] = ()
        if previous is None:
            self._end_unix = now.unix_milliseconds
            self._unit_times(0, now.boottime_milliseconds)
            self._keep_counters(now.boottime_milliseconds)
        elif now.boottime_milliseconds <= previous.boottime_milliseconds:
            # The same millisecond as before: the next poll covers this time.
            return now, self._take_settled(previous.boottime_milliseconds, last)
        else:
            self._held += self._stretches(previous, now, counters, seen)
            ticks = self._take_settled(now.boottime_milliseconds, last)
        self._previous, self._load, self._supply = now, counters, seen.supply
        return now, ticks

    def add(self, source: Source, points: tuple[Point, ...]) -> None:
        """Add an opened source, from the next poll on."""
        self.polled = (*self.polled, SourceState(source, points))

    def health(self) -> list[dict[str, Any]]:
        """Return the outcomes per source since the start, for `ControlKey.SOURCES`."""
        rows: list[dict[str, Any]] = [
            {
                "name": polled.source.name,
                "successes": polled.successes,
                "failures": polled.failures,
                "unavailable": None,
                "reason": "",
                "remedy": "",
            }
            for polled in self.polled
        ]
        if self._load_source is not None:
            outcome = {"successes": self.load_successes, "failures": self.load_failures}
            known: dict[str, Any] = {"unavailable": None, "reason": "", "remedy": ""}
            rows.append({"name": self._load_source.name, **outcome, **known})
        return rows

    # ---------------------------------------------------------------------------------- polling

    def _poll(self, polled: SourceState) -> None:
        try:
            try:
                polled.readings = polled.source.read()
            except PointsChanged:
                polled.points = polled.source.open()
                polled.readings = polled.source.read()
        except ReadFailed as error:
            self._count_failure(polled, error)
        except Exception as error:  # a defect in a source costs only its own readings
            self._count_failure(polled, error)
        else:
            polled.successes += 1

    def _count_failure(self, polled: SourceState, error: Exception) -> None:
        polled.readings = ()
        polled.failures += 1
        event = logging.WARNING if polled.failures == 1 else logging.DEBUG
        log.log(event, "source failed", extra={"source": polled.source.name, "reason": str(error)})

    def _read_load(self) -> LoadCounters | None:
        if self._load_source is None:
            return None
        try:
            counters = self._load_source.read()
        except Exception as error:
            self.load_failures += 1
            event = logging.WARNING if self.load_failures == 1 else logging.DEBUG
            log.log(event, "source failed", extra={"source": self._load_source.name, "reason": str(error)})
            return None
        self.load_successes += 1
        self._processors = len(counters.cpu_total_milliseconds) or self._processors
        return counters

    def _observe(self) -> MachineReadings:
        """Return the supply and the displays, each from the first source that reports it."""
        supply: Supply | None = None
        displays: tuple[int, ...] | None = None
        for polled in self.polled:
            for reading in polled.readings:
                if isinstance(reading, SupplyReading):
                    supply = supply or reading.supply
                elif isinstance(reading, DisplaysReading):
                    displays = displays or _plausible_counts(reading.on_by_size)
        return MachineReadings(supply or self._default_supply, displays)

    # -------------------------------------------------------------------------------- stretches

    def _stretches(
        self,
        previous: Instant,
        now: Instant,
        counters: LoadCounters | None,
        seen: MachineReadings,
    ) -> tuple[Tick, ...]:
        elapsed = now.boottime_milliseconds - previous.boottime_milliseconds
        start = self._end_unix
        if abs(now.unix_milliseconds - (start + elapsed)) > CLOCK_STEP_MILLISECONDS:
            start = now.unix_milliseconds - elapsed
        self._end_unix = start + elapsed
        asleep = asleep_milliseconds(previous, now)
        awake = elapsed - asleep
        ticks: list[Tick] = []
        if asleep:
            self._forget_counters()
            self._idle_run = 0
            during = seen.supply if seen.supply is self._supply else Supply.UNKNOWN
            ticks.append(Tick(start, asleep, State.ASLEEP, during))
        if awake:
            ticks.append(self._awake_tick(start + asleep, awake, now, counters, seen))
        self._keep_counters(now.boottime_milliseconds)
        return tuple(ticks)

    def _awake_tick(
        self,
        start: int,
        awake: int,
        now: Instant,
        counters: LoadCounters | None,
        seen: MachineReadings,
    ) -> Tick:
        load = None if counters is None or self._load is None else load_between(self._load, counters)
        state = state_of(load, awake)
        self._idle_run = self._idle_run + awake if state is State.ON_IDLE else 0
        energies, gaps = self._energies(awake, now.boottime_milliseconds)
        return Tick(
            start_unix_milliseconds=start,
            duration_milliseconds=awake,
            state=state,
            supply=seen.supply,
            energies=energies,
            load=load,
            gaps=gaps,
            idle_run_milliseconds=self._idle_run,
            displays_on=seen.displays_on,
            units=self._unit_times(awake, now.boottime_milliseconds),
            own_cpu_milliseconds=self._own_cpu_since(awake),
        )

    def _own_cpu_since(self, awake: int) -> int | None:
        """Return the CPU time not counted yet, ms; at most the tick's: the rest counts in the next one."""
        whole = self._own_cpu()
        if whole is None:
            return None
        spent = max(0, min(whole - self._counted_own_cpu, awake))  # a child that ends may lose a clock tick
        self._counted_own_cpu += spent
        return spent

    def _unit_times(self, awake: int, now: int) -> tuple[tuple[str, int], ...]:
        """Return the CPU time of the units that were read, since their last reading."""
        found: tuple[tuple[str, int], ...] = ()
        for polled in self.polled:
            readings = [reading for reading in polled.readings if isinstance(reading, UnitReading)]
            if readings:
                if polled.units is None:
                    polled.units = UnitTimes()
                found += polled.units.advance(readings, now, awake, self._processors)
        return found

    # ---------------------------------------------------------------------------------- energies

    def _energies(self, awake: int, now: int) -> tuple[tuple[PointEnergy, ...], tuple[tuple[str, int], ...]]:
        broken = awake > self._gap_milliseconds
        if broken:
            self._forget_counters()
        energies: list[PointEnergy] = []
        gaps: list[tuple[str, int]] = []
        for polled in self.polled:
            found = 0
            for reading in polled.readings:
                if isinstance(reading, EnergyCounter):
                    energy = self._counter_energy(polled, reading, awake, now)
                elif isinstance(reading, PowerGauge):
                    energy = None if broken else self._gauge_energy(polled, reading, awake)
                else:
                    continue
                if energy is not None:
                    found += 1
                    energies.append(PointEnergy(reading.point, energy, awake))
            if polled.points and not found:
                gaps.append((polled.source.name, awake))
        return tuple(energies), tuple(gaps)

    def _gauge_energy(self, polled: SourceState, reading: PowerGauge, awake: int) -> int | None:
        """Return a gauge's energy over the awake stretch, in mJ; None when it is negative, as no device
        returns energy.
        """
        # A waiting counter of the same point would count this stretch twice.
        polled.counters.pop(reading.point, None)
        if reading.power_milliwatts < 0:
            return None
        return self._whole_millijoules(
            reading.point, reading.power_milliwatts * awake
        )  # 1 mW for 1 ms is 1 µJ

    def _counter_energy(
        self, polled: SourceState, reading: EnergyCounter, awake: int, now: int
    ) -> int | None:
        """Return a counter's energy over the awake stretch, in mJ; None when there is none.

        The held stretches get their parts.
        """
        before, read_at = polled.counters.get(reading.point, (None, now - awake))
        missed = self._stretches_since(read_at, now - awake)
        outcome = difference(before, reading, now - read_at)
        if isinstance(outcome, Reset):
            polled.doubted.add(reading.point)
        if missed is None or not isinstance(outcome, (Delta, CounterWrap)):
            return None
        if _may_turn(reading, now - read_at):
            return None
        if outcome.energy_microjoules == 0 and reading.point.kind in NEVER_STILL:
            polled.doubted.add(reading.point)  # its next step may include the energy that it did not show
            return None
        if reading.point in polled.doubted:
            if outcome.energy_microjoules > 0:  # a wrong value may come twice
                polled.doubted.discard(reading.point)
            return None
        whole = self._whole_millijoules(reading.point, outcome.energy_microjoules)
        if not missed:
            return whole
        parts = apportion(whole, [*(self._held[i].duration_milliseconds for i in missed), awake])
        for i, part in zip(missed, parts, strict=False):  # the last part is the present stretch's
            tick = self._held[i]
            energy = PointEnergy(reading.point, part, tick.duration_milliseconds)
            gaps = tuple(gap for gap in tick.gaps if gap[0] != polled.source.name)
            self._held[i] = tick._replace(energies=(*tick.energies, energy), gaps=gaps)
        return parts[-1]

    def _stretches_since(self, read_at: int, until: int) -> range | None:
        """Return the positions of the held stretches that fill [read_at, until); None when they are gone."""
        first = len(self._held)
        while until > read_at and first:
            first -= 1
            until -= self._held[first].duration_milliseconds
        return range(first, len(self._held)) if until == read_at else None

    def _whole_millijoules(self, point: Point, energy_microjoules: int) -> int:
        """Return whole millijoules, with the rest carried from before; carry the new rest."""
        whole, rest = divmod(self._remainders.get(point, 0) + energy_microjoules, MICROJOULES_PER_MILLIJOULE)
        self._remainders[point] = rest
        return whole

    # ---------------------------------------------------------------------------------- counters

    def _keep_counters(self, now: int) -> None:
        """Keep the values just read, and the unread ones that can still be subtracted from."""
        for polled in self.polled:
            old = {p: kept for p, kept in polled.counters.items() if self._can_wait(*kept, now)}
            read = {r.point: (r, now) for r in polled.readings if isinstance(r, EnergyCounter)}
            polled.counters = {**old, **read}

    def _forget_counters(self) -> None:
        for polled in self.polled:
            polled.counters = {}
            if polled.units is not None:
                polled.units.forget()

    def _can_wait(self, counter: EnergyCounter, read_at: int, now: int) -> bool:
        """Tell whether one more tick is too short for a counter wrap and for a gap (docs/sources.md)."""
        longest = now - read_at + self._tick_milliseconds
        return longest <= self._gap_milliseconds and not _may_turn(counter, longest)

    def _take_settled(self, now: int, last: bool) -> tuple[Tick, ...]:
        """Return the stretches that no counter waits for: those before the oldest awaited value."""
        waiting = [at for polled in self.polled for _, at in polled.counters.values() if at < now]
        since = now if last or not waiting else min(waiting)
        kept, start = len(self._held), now
        while kept and start > since:
            kept -= 1
            start -= self._held[kept].duration_milliseconds
        if now - start >= self._gap_milliseconds:
            kept = len(self._held)
        settled = tuple(self._held[:kept])
        del self._held[:kept]
        return settled


def _plausible_counts(on_by_size: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the count of each size; None when a count is not plausible."""
    possible = len(on_by_size) == len(DISPLAY_SIZES) and all(
        0 <= count <= MAX_DISPLAYS_PER_SIZE for count in on_by_size
    )
    return on_by_size if possible else None


def _may_turn(counter: EnergyCounter, milliseconds: int) -> bool:
    """Tell whether a counter can wrap in that time at its ceiling power: 1 W for 1 ms is 1 mJ."""
    turn = counter.range_microjoules
    return turn is not None and counter.ceiling_watts * milliseconds * MICROJOULES_PER_MILLIJOULE >= turn


def load_between(before: LoadCounters, after: LoadCounters) -> LoadDelta | None:
    """Return the load between two readings of one boot.

    None when the number of processors changed, or no time passed.
    """
    if len(before.cpu_total_milliseconds) != len(after.cpu_total_milliseconds):
        return None
    totals = _advances(before.cpu_total_milliseconds, after.cpu_total_milliseconds)
    busies = _advances(before.cpu_busy_milliseconds, after.cpu_busy_milliseconds)
    if sum(totals) <= 0:
        return None
    ratios = [min(1.0, busy / total) for busy, total in zip(busies, totals, strict=True) if total > 0]
    return LoadDelta(
        cpu_busy_ratio=min(1.0, sum(busies) / sum(totals)),
        busiest_core_ratio=max(ratios),
        memory_used_ratio=after.memory_used_ratio,
        disk_bytes=_advance(before.disk_bytes, after.disk_bytes),
        network_bytes=_advance(before.network_bytes, after.network_bytes),
    )


def _advances(before: tuple[int, ...], after: tuple[int, ...]) -> list[int]:
    # The kernel's idle and iowait may go back by a few milliseconds.
    return [max(0, new - old) for old, new in zip(before, after, strict=True)]


def _advance(before: int | None, after: int | None) -> int | None:
    """Return the increase; None when either is unknown, or when a device left with its count."""
    return after - before if before is not None and after is not None and after >= before else None
