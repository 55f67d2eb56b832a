# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Draws fleets day by day from habits and hardware, with samples of them: what the estimator is checked
against a second time.

Nothing is shared with tests/support/simulated_fleets.py, whose machines have a log-normal mean power. Here a
machine has hardware (a power while on, one while off) and a habit (office hours, rarely on, forgotten on,
never off). Heavy machines have a Pareto factor on top. Each day is on or off by chance. The truth is the sum
over all machines of all their days in service.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean, pvariance
from typing import Final, NamedTuple

from veilleuse.collector.fleet.estimator import Assumptions, Fleet
from veilleuse.collector.fleet.samples import Days, InService, SampleMachine, Stratum
from veilleuse.collector.model.figures import EnergySums
from veilleuse.wire.ladder import Method

DAY: Final = 86_400_000
"""Milliseconds."""
YEAR: Final = (141, 116, 108)
"""Open days, school holidays, closed days."""
HOUR_MILLIJOULES: Final = 3_600_000
"""Of one watt."""
DEFAULT_U: Final = math.log(2) / 2
"""GSD² 2.0 of a class default."""


class Habit(NamedTuple):
    """Probability of a day on by day type, and hours of such a day."""

    on: tuple[float, float, float]
    hours: tuple[float, float]


OFFICE = Habit((0.85, 0.35, 0.03), (4.0, 11.0))
RARE = Habit((0.30, 0.10, 0.01), (2.0, 8.0))
FORGOTTEN = Habit((0.99, 0.98, 0.97), (23.8, 24.0))
NEVER_OFF = Habit((1.0, 1.0, 1.0), (24.0, 24.0))


class Hardware(NamedTuple):
    """A device class."""

    weight: float
    """Share of the machines of an entity."""
    watts: float
    """Median while on."""
    spread: float
    """Of the logarithm of the watts."""
    habits: tuple[tuple[float, Habit], ...]
    heavy: float = 0.0
    """Share of machines with a Pareto factor: GPUs, players' machines."""
    tail: float = 3.0
    """Pareto exponent: the larger, the lighter."""


PC_HABITS = ((0.78, OFFICE), (0.14, RARE), (0.08, FORGOTTEN))
CLASSES: Final = {
    "laptop": Hardware(0.38, 14.0, 0.25, PC_HABITS),
    "sff": Hardware(0.42, 28.0, 0.30, PC_HABITS, heavy=0.03),
    "tower": Hardware(0.17, 60.0, 0.35, PC_HABITS, heavy=0.12),
    "server": Hardware(0.03, 140.0, 0.45, ((1.0, NEVER_OFF),), heavy=0.05),
}


@dataclass(frozen=True)
class World:
    """How fleets are drawn, and how they are observed."""

    entities: tuple[int, int] = (2, 24)
    size: tuple[int, int] = (3, 60)
    reach: tuple[float, float] = (0.08, 0.30)
    """Share of a fleet's machines that have agents."""
    between: float = 0.15
    """Log-scale standard deviation of the hours and of the watts of entities, each."""
    late: float = 0.2
    """Share of machines that join during the year; as many agents do."""
    model_u: float = 0.0
    """Error of the energy model, k = 1 on the log scale, common to a class."""
    lost_off_days: float = 0.0
    """Share of the observed machines' days off that never reach the collector."""
    volunteers: float = 0.0
    """Machines get agents in proportion to their power to this exponent: below 0, the sober ones first."""
    every_row: bool = False
    """At least one machine of each class in each entity has an agent."""
    classes: tuple[str, ...] = tuple(CLASSES)


@dataclass(slots=True)
class Unit:
    """A machine of the fleet."""

    watts: float
    off_watts: float
    on: tuple[float, float, float]
    hours: float
    first: float
    """Part of the year before it joined."""

    @property
    def power(self) -> float:
        """Mean over a year, W."""
        on = sum(days * p for days, p in zip(YEAR, self.on, strict=True)) / sum(YEAR)
        return self.off_watts + on * self.hours / 24 * (self.watts - self.off_watts)


@dataclass(slots=True)
class Drawn:
    """One fleet, and what was observed of it."""

    machines: list[SampleMachine] = field(default_factory=list)
    in_service: list[InService] = field(default_factory=list)
    truth: dict[Stratum, float] = field(default_factory=dict)
    """Millijoules."""
    defaults: dict[str, Days] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Machines."""
        return sum(there.machines for there in self.in_service)

    def estimate(self) -> Fleet:
        """The estimator's, told that the roll-out was random."""
        return Fleet(self.machines, self.in_service, Assumptions(True, self.defaults))


def drawn(world: World, chance: random.Random) -> Drawn:
    """One fleet. A class default errs as its GSD² says."""
    found = Drawn()
    for name in world.classes:
        u = chance.gauss(0, DEFAULT_U)
        found.defaults[name] = (round(1e6 * moments(world, name).mean * math.exp(u)),) * 3
    error = {name: math.exp(chance.gauss(0, world.model_u)) for name in world.classes}
    units = [
        (Stratum(name, f"entity {number}"), unit)
        for number in range(chance.randint(*world.entities))
        for name, unit in _entity(world, chance)
    ]
    with_agent = _chosen(world, units, chance)
    there: defaultdict[Stratum, list[Days]] = defaultdict(list)
    for place, (stratum, unit) in enumerate(units):
        days = _days(unit.first, 1.0)
        there[stratum].append(days)
        agent = None
        if place in with_agent:
            agent = unit.first
            if chance.random() < world.late:
                agent += chance.random() * 0.9 * (1 - unit.first)
        seen = _days(agent, 1.0) if agent is not None else (0, 0, 0)
        unseen = tuple(map(int.__sub__, days, seen))
        spent = sum(_energies(unit, unseen, chance)[0])
        if any(seen):
            energies, off = _energies(unit, seen, chance)
            spent += sum(energies)
            found.machines.append(_observed(world, stratum, unit, seen, energies, off, error, chance))
        found.truth[stratum] = found.truth.get(stratum, 0.0) + spent
    found.in_service = [
        InService(stratum, len(days), tuple(DAY * sum(column) for column in zip(*days, strict=True)))
        for stratum, days in there.items()
    ]
    return found


def _entity(world: World, chance: random.Random) -> list[tuple[str, Unit]]:
    low, high = (math.log(size) for size in world.size)
    size = round(math.exp(chance.uniform(low, high)))
    weights = [CLASSES[name].weight * chance.gammavariate(2.0, 0.5) for name in world.classes]
    hours, watts = (math.exp(chance.gauss(0, world.between)) for _ in range(2))
    return [
        (name, unit_of(world, name, hours, watts, chance))
        for name in chance.choices(world.classes, weights, k=size)
    ]


def unit_of(world: World, name: str, hours: float, watts: float, chance: random.Random) -> Unit:
    """A machine of a class, in an entity with these factors."""
    hardware = CLASSES[name]
    habit = chance.choices(*zip(*((h, w) for w, h in hardware.habits), strict=True))[0]
    heavy = 1.5 * chance.paretovariate(hardware.tail) if chance.random() < hardware.heavy else 1.0
    first = chance.uniform(0.1, 0.9) if chance.random() < world.late else 0.0
    return Unit(
        watts * hardware.watts * math.exp(chance.gauss(0, hardware.spread)) * heavy,
        chance.uniform(0.3, 2.5),
        habit.on,
        min(24.0, hours * chance.uniform(*habit.hours)) if habit.hours[0] < 23 else habit.hours[0],
        first,
    )


def _chosen(world: World, units: Sequence[tuple[Stratum, Unit]], chance: random.Random) -> set[int]:
    """Places of the machines that have agents."""
    number = max(2, round(len(units) * chance.uniform(*world.reach)))
    order = sorted(
        (-math.log(chance.random()) / unit.power**world.volunteers, place)
        for place, (_, unit) in enumerate(units)
    )
    found = {place for _, place in order[:number]}
    if world.every_row:
        first = {units[place][0]: place for _, place in reversed(order)}
        found.update(first.values())
    return found


def _days(first: float, end: float) -> Days:
    """Days by type between two parts of the year: seasons are no matter here."""
    return tuple(round(end * days) - round(first * days) for days in YEAR)


def _energies(unit: Unit, days: Days, chance: random.Random) -> tuple[list[float], list[int]]:
    """(energy, days off) by day type: each day is on or off by itself."""
    found, off = [], []
    for number, p in zip(days, unit.on, strict=True):
        on = sum(chance.random() < p for _ in range(number)) if 0 < p < 1 else round(number * p)
        hours = on * unit.hours * (1 + chance.gauss(0, 0.2) / math.sqrt(max(1, on)))
        hours = min(24.0 * on, hours)
        found.append(HOUR_MILLIJOULES * (hours * unit.watts + (24 * number - hours) * unit.off_watts))
        off.append(number - on)
    return found, off


def _observed(
    world: World,
    stratum: Stratum,
    unit: Unit,
    days: Days,
    energies: Sequence[float],
    off: Sequence[int],
    error: dict[str, float],
    chance: random.Random,
) -> SampleMachine:
    lost = [sum(chance.random() < world.lost_off_days for _ in range(number)) for number in off]
    times = tuple(DAY * (number - gone) for number, gone in zip(days, lost, strict=True))
    known = tuple(
        round(error[stratum.device_class] * (energy - gone * 24 * HOUR_MILLIJOULES * unit.off_watts))
        for energy, gone in zip(energies, lost, strict=True)
    )
    on_days = sum(days) - sum(off)
    on = min(sum(times), round(on_days * unit.hours * 3_600_000))
    on_energy = min(sum(known), round(on * unit.watts))
    method = Method.LOAD_MODELLED if world.model_u else Method.METERED
    sums = EnergySums(sum(times), sum(known), round(sum(known) * world.model_u))
    return SampleMachine(
        stratum, "", known, times, {method: sums},
        observed_milliseconds=sum(times), on_milliseconds=on, on_millijoules=on_energy,
        unobserved_milliseconds=DAY * sum(lost),
    )  # fmt: skip


class Moments(NamedTuple):
    """Of a class as the generator draws it: W, and relative variances."""

    mean: float
    within: float
    """Between machines of one entity."""
    between: float
    """Between entities."""


@lru_cache(maxsize=64)
def moments(world: World, name: str) -> Moments:
    """Out of 3,000 entities of 10 machines."""
    chance = random.Random(f"moments {name}")
    groups = []
    for _ in range(3_000):
        hours, watts = (math.exp(chance.gauss(0, world.between)) for _ in range(2))
        groups.append([unit_of(world, name, hours, watts, chance).power for _ in range(10)])
    mean = fmean(map(fmean, groups))
    within = fmean(pvariance(group) for group in groups) * 10 / 9
    between = pvariance([fmean(group) for group in groups]) - within / 10
    return Moments(mean, within / mean**2, max(0.0, between) / mean**2)
