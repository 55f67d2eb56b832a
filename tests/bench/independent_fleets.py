# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Draw fleets day by day from habits and hardware, with samples of them, for a second check of the estimator.

Nothing is shared with tests/support/simulated_fleets.py, whose machines have a log-normal mean power. Here a
machine has hardware (a power while on, one while off) and a habit (office hours, rarely on, forgotten on,
never off). Heavy machines also have a Pareto factor. Each day is on or off at random. The truth is the sum
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
from veilleuse.collector.model.sums import EnergySums
from veilleuse.wire.ladder import Method

DAY: Final = 86_400_000
"""Milliseconds of a day."""
YEAR: Final = (141, 116, 108)
"""Open days, school holidays and closed days of a year."""
HOUR_MILLIJOULES: Final = 3_600_000
"""Millijoules of 1 W for an hour."""
DEFAULT_U: Final = math.log(2) / 2
"""Log-scale error of a class default, whose GSD² is 2.0."""


class Habit(NamedTuple):
    """Probability by day type that a day is on, and range of hours on in such a day."""

    on: tuple[float, float, float]
    hours: tuple[float, float]


OFFICE = Habit((0.85, 0.35, 0.03), (4.0, 11.0))
RARE = Habit((0.30, 0.10, 0.01), (2.0, 8.0))
FORGOTTEN = Habit((0.99, 0.98, 0.97), (23.8, 24.0))
NEVER_OFF = Habit((1.0, 1.0, 1.0), (24.0, 24.0))


class Hardware(NamedTuple):
    """The machines of a device class."""

    weight: float
    """Share of an entity's machines."""
    watts: float
    """Median watts while on."""
    spread: float
    """Log-scale standard deviation of the watts."""
    habits: tuple[tuple[float, Habit], ...]
    heavy: float = 0.0
    """Share of machines with a Pareto factor: machines with GPUs, of players."""
    tail: float = 3.0
    """Pareto exponent; a larger one gives smaller factors."""


PC_HABITS = ((0.86, OFFICE), (0.14, RARE), (0.0, FORGOTTEN))
CLASSES: Final = {
    "laptop": Hardware(0.38, 14.0, 0.25, PC_HABITS),
    "sff": Hardware(0.42, 28.0, 0.30, PC_HABITS, heavy=0.03),
    "tower": Hardware(0.17, 60.0, 0.35, PC_HABITS, heavy=0.12),
    "server": Hardware(0.03, 140.0, 0.45, ((1.0, NEVER_OFF),), heavy=0.05),
}


@dataclass(frozen=True)
class World:
    """These fields set how fleets are drawn and observed."""

    entities: tuple[int, int] = (2, 24)
    size: tuple[int, int] = (3, 60)
    reach: tuple[float, float] = (0.08, 0.30)
    """Range of the share of a fleet's machines that have agents."""
    between: float = 0.15
    """Log-scale standard deviation between entities, of the hours and of the watts."""
    late: float = 0.2
    """Share of machines that start during the year, and of agents that start after their machine."""
    model_u: float = 0.0
    """Log-scale error (k = 1) of the energy model, common to a class."""
    lost_off_days: float = 0.0
    """Share of the observed machines' days off that never reach the collector."""
    volunteers: float = 0.0
    """Exponent of a machine's power in its chance of having an agent; below 0, low power is more likely."""
    always_on: float = 0.08
    """Share of PCs that are never turned off; the others are in office hours."""
    every_row: bool = False
    """True: at least one machine of each class in each entity has an agent."""
    classes: tuple[str, ...] = tuple(CLASSES)


@dataclass(slots=True)
class Unit:
    """A machine of the fleet."""

    watts: float
    off_watts: float
    on: tuple[float, float, float]
    hours: float
    first: float
    """Share of the year before the machine's start."""

    @property
    def power(self) -> float:
        """Mean watts over a year."""
        on = sum(days * p for days, p in zip(YEAR, self.on, strict=True)) / sum(YEAR)
        return self.off_watts + on * self.hours / 24 * (self.watts - self.off_watts)


@dataclass(slots=True)
class Drawn:
    """A fleet: its sample, its machines in service and its true energy."""

    machines: list[SampleMachine] = field(default_factory=list)
    in_service: list[InService] = field(default_factory=list)
    truth: dict[Stratum, float] = field(default_factory=dict)
    """True energy in millijoules."""
    defaults: dict[str, Days] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of machines in service."""
        return sum(there.machines for there in self.in_service)

    def estimate(self) -> Fleet:
        """Return the product's estimator over this fleet, with a roll-out declared as random."""
        return Fleet(self.machines, self.in_service, Assumptions(True, self.defaults))


def drawn(world: World, chance: random.Random) -> Drawn:
    """Draw a fleet; the error of a class default has the GSD² that the default states."""
    found = Drawn()
    error, units, with_agent = machines_of(world, chance, found.defaults)
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
        spent = sum(energies_of(unit, unseen, chance)[0])
        if any(seen):
            energies, off = energies_of(unit, seen, chance)
            spent += sum(energies)
            found.machines.append(_observed(world, stratum, unit, seen, energies, off, error, chance))
        found.truth[stratum] = found.truth.get(stratum, 0.0) + spent
    found.in_service = [
        InService(stratum, len(days), tuple(DAY * sum(column) for column in zip(*days, strict=True)))
        for stratum, days in there.items()
    ]
    return found


def machines_of(
    world: World, chance: random.Random, defaults: dict[str, Days]
) -> tuple[dict[str, float], list[tuple[Stratum, Unit]], set[int]]:
    """Fill in the class defaults; return class → error of its model, the machines, those with an agent."""
    for name in world.classes:
        u = chance.gauss(0, DEFAULT_U)
        defaults[name] = (round(1e6 * moments(world, name).mean * math.exp(u)),) * 3
    error = {name: math.exp(chance.gauss(0, world.model_u)) for name in world.classes}
    units = [
        (Stratum(name, f"entity {number}"), unit)
        for number in range(chance.randint(*world.entities))
        for name, unit in entity_of(world, chance)
    ]
    return error, units, chosen_for_agents(world, units, chance)


def entity_of(world: World, chance: random.Random) -> list[tuple[str, Unit]]:
    """Draw the machines of an entity, each with its class."""
    low, high = (math.log(size) for size in world.size)
    size = round(math.exp(chance.uniform(low, high)))
    weights = [CLASSES[name].weight * chance.gammavariate(2.0, 0.5) for name in world.classes]
    hours, watts = (math.exp(chance.gauss(0, world.between)) for _ in range(2))
    return [
        (name, unit_of(world, name, hours, watts, chance))
        for name in chance.choices(world.classes, weights, k=size)
    ]


def unit_of(world: World, name: str, hours: float, watts: float, chance: random.Random) -> Unit:
    """Draw a machine of a class, in an entity with these factors for hours and watts."""
    hardware = CLASSES[name]
    share = world.always_on
    habits = [(h, w + share * ((h is FORGOTTEN) - (h is OFFICE))) for w, h in hardware.habits]
    habit = chance.choices(*zip(*habits, strict=True))[0]
    heavy = 1.5 * chance.paretovariate(hardware.tail) if chance.random() < hardware.heavy else 1.0
    first = chance.uniform(0.1, 0.9) if chance.random() < world.late else 0.0
    return Unit(
        watts * hardware.watts * math.exp(chance.gauss(0, hardware.spread)) * heavy,
        chance.uniform(0.3, 2.5),
        habit.on,
        min(24.0, hours * chance.uniform(*habit.hours)) if habit.hours[0] < 23 else habit.hours[0],
        first,
    )


def chosen_for_agents(world: World, units: Sequence[tuple[Stratum, Unit]], chance: random.Random) -> set[int]:
    """Return the indices of the machines that have agents."""
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
    """Return the days by type between two shares of the year, without seasons."""
    return tuple(round(end * days) - round(first * days) for days in YEAR)


def energies_of(unit: Unit, days: Days, chance: random.Random) -> tuple[list[float], list[int]]:
    """Return (energy in mJ, days off) by day type; each day is on or off independently."""
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
    """Mean watts and relative variances of a class as it is drawn."""

    mean: float
    within: float
    """Relative variance between the machines of an entity."""
    between: float
    """Relative variance between entities."""


@lru_cache(maxsize=64)
def moments(world: World, name: str) -> Moments:
    """Estimate the moments of a class from 3,000 entities of 10 machines."""
    chance = random.Random(f"moments {name}")
    groups = []
    for _ in range(3_000):
        hours, watts = (math.exp(chance.gauss(0, world.between)) for _ in range(2))
        groups.append([unit_of(world, name, hours, watts, chance).power for _ in range(10)])
    mean = fmean(map(fmean, groups))
    within = fmean(pvariance(group) for group in groups) * 10 / 9
    between = pvariance([fmean(group) for group in groups]) - within / 10
    return Moments(mean, within / mean**2, max(0.0, between) / mean**2)
