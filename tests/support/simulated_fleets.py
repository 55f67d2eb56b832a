# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Simulate fleets whose true energy is known, and samples of them, to check the estimator.

A machine has its own mean power, drawn once (log-normal), lower on holidays and closed days, and random
noise. The truth is the sum over all machines of all their days in service.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from veilleuse.collector.fleet.estimator import Assumptions, Fleet
from veilleuse.collector.fleet.samples import (
    Alike,
    InService,
    Sample,
    SampleCell,
    SampleMachine,
    Stratum,
    age_band,
    sum_groups,
)
from veilleuse.collector.model.sums import EnergySums
from veilleuse.wire.ladder import Method

DAY = 86_400_000
"""Milliseconds of a day, and millijoules of 1 W over a day."""
WEEKS = ((5, 0, 2),) * 33 + ((0, 5, 2),) * 12 + ((2, 3, 2),) * 4 + ((4, 0, 3),) * 3
"""Open, school holiday and closed days of each week of a year."""
DAYS = tuple(map(sum, zip(*WEEKS, strict=True)))
LEVELS = (1.0, 0.6, 0.2)
"""Power on days of each type ÷ power on an open day, of a machine that is not always on."""
WATTS = 20.0
ALWAYS_ON_WATTS = 45.0
NOISE = 0.1
"""Relative standard deviation of a week's energy."""
MODELS = {"tower": (2.2, 7.0), "mini": (0.9, 2.0)}
"""Hardware → (power factor, age in years)."""


@dataclass(frozen=True)
class Shape:
    """These fields describe a fleet and how it is sampled."""

    strata: tuple[tuple[int, int], ...]
    """Per entity: (machines in service, machines in the sample)."""
    spread: float = 0.4
    """Log-scale standard deviation of power between machines."""
    between: float = 0.0
    """Log-scale standard deviation of power between entities."""
    always_on: float = 0.0
    """Share of machines that are always on."""
    between_shares: float = 0.0
    """Log-scale standard deviation of `always_on` between entities."""
    late: bool = False
    """Agents start in a random week. A sixth of the machines start late; a tenth of the others leave."""
    weeks: bool = False
    """Workstations: energy in the open bands of a week is one sum, shared between its days by open time."""
    models: bool = False
    """The fleet has old towers and new minis; a tower is four times as likely to be sampled."""
    volunteers: float = 0.0
    """Exponent of a machine's power in its chance of being sampled; −1: half the power, twice the chance."""
    prior_u: float = 0.0
    """Log-scale error of derived energy; its correlation is 1 within a hardware model, 0.5 between models."""
    random_roll_out: bool = True
    told_apart: bool = True
    """False: machines that are always on are known for a whole class only. A closed year is like that if a
    stratum has fewer than k machines of a kind. docs/methodology.md §11."""


@dataclass
class Simulated:
    """A fleet: its sample, its machines in service and its true energy."""

    random_roll_out: bool
    told_apart: bool
    machines: list[SampleMachine] = field(default_factory=list)
    in_service: list[InService] = field(default_factory=list)
    truth: dict[Stratum, float] = field(default_factory=dict)
    """True energy in millijoules."""

    def estimate(self) -> Fleet:
        sample = Sample.of(self.machines)
        if not self.told_apart:
            sample = together(sample)
        return Fleet(sample, self.in_service, Assumptions(random_roll_out=self.random_roll_out))


def together(sample: Sample) -> Sample:
    """Return the sample with machines that are always on known for a whole class only."""
    found = Sample()
    of_class: defaultdict[str, list[Alike]] = defaultdict(list)
    for key, group in sample.groups.items():
        found.groups.setdefault(key._replace(always_on=False), Alike()).merge(group)
        if key.always_on:
            of_class[key.stratum.device_class].append(group)
    found.always_on.update({name: sum_groups(groups) for name, groups in of_class.items()})
    return found


@dataclass(slots=True)
class _Unit:
    """A machine of the fleet, in service for the weeks [first, end)."""

    watts: tuple[float, ...]
    """Watts by day type."""
    always_on: bool
    hardware: str
    first: int
    end: int


def simulated(shape: Shape, chance: random.Random) -> Simulated:
    """Return a random fleet and its sample."""
    found = Simulated(shape.random_roll_out, shape.told_apart)
    common = chance.gauss(0, math.sqrt(0.5))
    errors = {
        hardware: math.exp(shape.prior_u * (common + chance.gauss(0, math.sqrt(0.5))))
        for hardware in ("", *MODELS)
    }
    for number, (machines, sampled) in enumerate(shape.strata):
        stratum = Stratum("sff", f"entity {number}")
        level = WATTS * math.exp(chance.gauss(0, shape.between))
        share = min(0.9, shape.always_on * math.exp(chance.gauss(0, shape.between_shares)))
        units = [_unit(shape, level, share, chance) for _ in range(machines)]
        drawn = _drawn(shape, units, sampled, chance)
        true = 0.0
        for place, unit in enumerate(units):
            if place in drawn:
                begun = chance.randrange(unit.first, unit.end) if shape.late else unit.first
                energies, before = _energies(unit, begun, unit.end, chance, shape)
                true += sum(energies) + before
                found.machines.append(_observed(shape, stratum, unit, begun, energies, errors[unit.hardware]))
            else:
                true += _unobserved(unit, unit.first, unit.end, chance)
        found.truth[stratum] = true * DAY
        found.in_service.append(_in_service(stratum, units))
    return found


def _unit(shape: Shape, level: float, share: float, chance: random.Random) -> _Unit:
    hardware = chance.choice(tuple(MODELS)) if shape.models or shape.prior_u else ""
    own = math.exp(chance.gauss(0, shape.spread)) * (MODELS[hardware][0] if hardware else 1.0)
    always = chance.random() < share
    if always:
        watts: tuple[float, ...] = (ALWAYS_ON_WATTS / WATTS * level * math.exp(chance.gauss(0, 0.2)),) * 3
    else:
        watts = tuple(level * own * one for one in LEVELS)
    first, end = 0, len(WEEKS)
    if shape.late and chance.random() < 1 / 6:
        first = chance.randrange(1, len(WEEKS) - 1)
    elif shape.late and chance.random() < 0.1:
        end = chance.randrange(2, len(WEEKS))
    return _Unit(watts, always, hardware, first, end)


def _drawn(shape: Shape, units: Sequence[_Unit], sampled: int, chance: random.Random) -> set[int]:
    if not shape.models and not shape.volunteers:
        return set(chance.sample(range(len(units)), sampled))
    weight = {"tower": 4.0, "mini": 1.0, "": 1.0}
    ranks = {
        place: chance.random() ** (1 / (weight[unit.hardware] * unit.watts[0] ** shape.volunteers))
        for place, unit in enumerate(units)
    }
    return set(sorted(ranks, key=ranks.__getitem__, reverse=True)[:sampled])


_ORDERS = tuple(random.Random(5).sample(range(len(WEEKS)), len(WEEKS)))
"""The weeks of the year in random order, so that the last weeks are not all holidays."""


def _energies(
    unit: _Unit, begun: int, end: int, chance: random.Random, shape: Shape
) -> tuple[list[float], float]:
    """Return (observed energy by day type, energy before the agent's start), in watt-days."""
    before = _unobserved(unit, unit.first, begun, chance)
    if not shape.weeks:
        noise = 1 + chance.gauss(0, NOISE / math.sqrt(end - begun))
        return [
            watts * days * noise for watts, days in zip(unit.watts, _days(begun, end), strict=True)
        ], before
    found = [0.0, 0.0, 0.0]
    for week in range(begun, end):
        opened, holiday, closed = WEEKS[_ORDERS[week]]
        noise = 1 + chance.gauss(0, NOISE)
        a, b, c = (
            unit.watts[0] * opened * noise,
            unit.watts[1] * holiday * noise,
            unit.watts[2] * closed * noise,
        )
        if opened and holiday:
            # Three quarters of a day's energy are used in its open band, which is reported by week.
            shared = 0.75 * (a + b)
            a = 0.25 * a + shared * opened / (opened + holiday)
            b = 0.25 * b + shared * holiday / (opened + holiday)
        for g, energy in enumerate((a, b, c)):
            found[g] += energy
    return found, before


def _unobserved(unit: _Unit, first: int, end: int, chance: random.Random) -> float:
    if first == end:
        return 0.0
    power = sum(watts * days for watts, days in zip(unit.watts, _days(first, end), strict=True))
    return power * (1 + chance.gauss(0, NOISE / math.sqrt(end - first)))


_REACHED = [(0, 0, 0)]
for _week in _ORDERS:
    _REACHED.append(tuple(map(sum, zip(_REACHED[-1], WEEKS[_week], strict=True))))  # type: ignore[arg-type]


def _days(first: int, end: int) -> tuple[int, ...]:
    return tuple(late - early for early, late in zip(_REACHED[first], _REACHED[end], strict=True))


def _observed(
    shape: Shape, stratum: Stratum, unit: _Unit, begun: int, energies: Sequence[float], error: float
) -> SampleMachine:
    times = tuple(days * DAY for days in _days(begun, unit.end))
    known = tuple(round(energy * DAY * error) for energy in energies)
    on = sum(times) if unit.always_on else sum(times) // 3
    return SampleMachine(
        stratum,
        unit.hardware,
        known,
        times,
        {Method.LOAD_MODELLED: EnergySums(sum(times), sum(known), round(sum(known) * shape.prior_u))},
        observed_milliseconds=sum(times),
        on_milliseconds=on,
        on_millijoules=round(0.95 * sum(known)),
        age_years=MODELS[unit.hardware][1] if unit.hardware else None,
    )


def _in_service(stratum: Stratum, units: Sequence[_Unit]) -> InService:
    days = [_days(unit.first, unit.end) for unit in units]
    cells = Counter(
        SampleCell(unit.hardware, age_band(MODELS[unit.hardware][1] if unit.hardware else None, None))
        for unit in units
    )
    return InService(
        stratum, len(units), tuple(DAY * sum(column) for column in zip(*days, strict=True)), cells
    )
