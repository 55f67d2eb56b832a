# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Simulate fleets over two years whose true change is known, to check the margins of effects.

Most machines that are measured in the second year were measured in the first. Hours and watts of one machine
differ less between the years than those of two machines differ.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from tests.support.year import DAY, figures, vector
from veilleuse.collector.account.change import Change, change
from veilleuse.collector.account.decomposition import ClassYear, Effects, decompose
from veilleuse.collector.account.row import FigureRow
from veilleuse.collector.fleet.census import FleetDevice
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.observations import ObservedMachine
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import Band, Population, State

DAYS = 365
SLEEP_WATTS = 1.0
NAMES = ("fleet", "mix", "hours", "watts", "change")


@dataclass(frozen=True)
class Shape:
    """These fields describe a fleet and its sample."""

    entities: tuple[tuple[int, int, int, int], ...] = ((150, 30, 20, 20), (150, 30, 25, 10))
    """Per entity: (machines, measured in the first year, of these also in the second, new in the second)."""
    always_on: float = 0.1
    spread: float = 0.3
    """Log-scale standard deviation of watts between machines."""
    drift: float = 0.05
    """Log-scale standard deviation of a machine's watts between the years."""
    saving: float = 0.05
    """Share by which a machine's hours on fall in the second year, unless it is always on."""


class _Habit(NamedTuple):
    """A machine's use in one year."""

    on_share: float
    watts: float

    @property
    def states(self) -> dict[State, tuple[int, int]]:
        on = round(self.on_share * DAYS * DAY)
        off = DAYS * DAY - on
        return {
            State.ON_IDLE: (on, round(on * self.watts)),
            State.ASLEEP: (off, round(off * SLEEP_WATTS)),
        }


def changed(shape: Shape, chance: random.Random) -> tuple[Change, tuple[float, ...]]:
    """Return (the change that a sample gives, the true change in kWh by NAMES)."""
    samples: tuple[list[tuple[int, str, _Habit]], ...] = ([], [])
    truth: tuple[list[_Habit], ...] = ([], [])
    for place, (machines, first, both, new) in enumerate(shape.entities):
        habits = [_two_years(shape, chance) for _ in range(machines)]
        drawn = chance.sample(range(machines), first + new)
        for year, sampled in enumerate((drawn[:first], drawn[:both] + drawn[first:])):
            truth[year].extend(one[year] for one in habits)
            samples[year].extend(
                (1000 * place + number, f"entity {place}", habits[number][year]) for number in sampled
            )
    fleet = {f"entity {place}": one[0] for place, one in enumerate(shape.entities)}
    before, after = (row_of(sample, fleet, year) for sample, year in zip(samples, (2024, 2025), strict=True))
    found = change(before, after)
    true = decompose(*({"sff": _class_year(habits)} for habits in truth))
    assert found is not None
    assert true is not None
    return found, told(true)


def told(effects: Effects) -> tuple[float, ...]:
    """Return the effects in kWh, in the order of NAMES."""
    return tuple(
        map(
            float,
            (effects.fleet_kwh, effects.mix_kwh, effects.hours_kwh, effects.watts_kwh, effects.total_kwh),
        )
    )


def _two_years(shape: Shape, chance: random.Random) -> tuple[_Habit, _Habit]:
    always = chance.random() < shape.always_on
    share = 0.98 if always else min(0.85, 0.25 * math.exp(chance.gauss(0, 0.4)))
    watts = 20 * math.exp(chance.gauss(0, shape.spread))
    less = 1 if always else (1 - shape.saving) * math.exp(chance.gauss(0, 0.1))
    return _Habit(share, watts), _Habit(
        min(0.9, share) * less if not always else share, watts * math.exp(chance.gauss(0, shape.drift))
    )


def row_of(sample: Sequence[tuple[int, str, _Habit]], fleet: dict[str, int], year: int) -> FigureRow:
    """Return a year's total as the report makes it; every machine of the sample has all of its days."""
    first, end = date(year, 1, 1), date(year + 1, 1, 1)
    standings = {entity: _standing(entity, first) for entity in fleet}
    made = figures(
        first,
        end,
        (),
        [standings[entity] for entity, machines in fleet.items() for _ in range(machines)],
        [(_observed(number, habit, first), standings[entity]) for number, entity, habit in sample],
        assumptions=Assumptions(),
        k_anonymity=10,
    )
    assert made.total is not None
    return made.total


def _standing(entity: str, first: date) -> FleetDevice:
    return FleetDevice(
        first,
        None,
        entity,
        "hq",
        "FR",
        Population.WORKSTATION,
        "sff",
        PowerContext.OWN_SITE,
        "",
        None,
        None,
        {DayType.OPEN: DAYS * DAY},
        inventoried=True,
    )


def _observed(number: int, habit: _Habit, first: date) -> ObservedMachine:
    states = habit.states
    values = vector(
        on_idle_ac_milliseconds=states[State.ON_IDLE][0],
        asleep_ac_milliseconds=states[State.ASLEEP][0],
        on_idle_energy_millijoules=states[State.ON_IDLE][1],
        asleep_energy_millijoules=states[State.ASLEEP][1],
        metered_milliseconds=DAYS * DAY,
        metered_energy_millijoules=sum(energy for _, energy in states.values()),
    )
    host_id = HostId(number)
    return ObservedMachine(host_id, [HostPeriod(host_id, first, DayType.OPEN, Band.OPEN, values)])


def _class_year(habits: Sequence[_Habit]) -> ClassYear:
    states = {
        state: (
            sum(habit.states[state][0] for habit in habits),
            sum(habit.states[state][1] for habit in habits),
        )
        for state in (State.ON_IDLE, State.ASLEEP)
    }
    return ClassYear(len(habits) * DAYS * DAY, sum(energy for _, energy in states.values()), states)
