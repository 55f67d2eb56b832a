# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compare three figures of a year with the true energy of fleets: the year's own estimate, the sum of its
months' own estimates, and the sum of its released months.

`python -m tests.bench released_year [--fleets 60] [--seed 5] [--only WORD] [--simulated 0]`. Fleets come from
independent_fleets.py, with the calendar of a real year; `--simulated` adds so many of `veilleuse simulate`,
screens included. Rows of entities are of the released months. The exit code is 1 when the released year's
mean error is above 2 % beyond that of the year's own estimate, or where the roll-out is whole and its
interval holds fewer than 93 % of the truths.
"""

from __future__ import annotations

import argparse
import logging
import math
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Final

from tests.bench.independent_fleets import (
    DAY,
    HOUR_MILLIJOULES,
    Unit,
    World,
    energies_of,
    machines_of,
)
from tests.bench.simulate import one as simulated
from tests.support.memory_store import host, site
from tests.support.released import release
from tests.support.sources import opened
from tests.support.stored_year import StoredYear
from tests.support.year import vector
from veilleuse.collector.calendars.periods import slices
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.observations import MONITOR
from veilleuse.collector.fleet.observations import PCS as PC_CLASSES
from veilleuse.collector.fleet.samples import Days, Stratum
from veilleuse.collector.model.calendars import SchoolPeriod, SchoolZone
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.inventory import Asset, Placement
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.release.figures import FleetSum
from veilleuse.collector.release.fleet import ReleaseAssumptions
from veilleuse.collector.release.months import estimate_months
from veilleuse.collector.reports.fleet_year import read_assumptions, year_figures
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.settings import ReportingSettings
from veilleuse.collector.simulate.fleet import SimulationOrder
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, DeviceClass, Population

FIRST, END, TODAY = date(2025, 1, 1), date(2026, 1, 1), date(2026, 6, 1)
K: Final = 10
PC_POPULATIONS: Final = (Population.WORKSTATION, Population.CLASSROOM)
MOST_BIAS: Final = 0.02
LEAST_HELD: Final = 0.93
HOLIDAYS: Final = tuple(
    SchoolPeriod(SchoolZone.A, date(*first), date(*last), "away")
    for first, last in (
        ((2024, 12, 21), (2025, 1, 5)),
        ((2025, 2, 22), (2025, 3, 9)),
        ((2025, 4, 19), (2025, 5, 4)),
        ((2025, 7, 5), (2025, 8, 31)),
        ((2025, 10, 18), (2025, 11, 2)),
        ((2025, 12, 20), (2026, 1, 4)),
    )
)
MONTHS: Final = tuple(slices(FIRST, END, by_month=True))
STARTS: Final = [(part.first - FIRST).days for part in MONTHS] + [365]
JULY: Final = STARTS[6]


def _kind(day: date) -> DayType:
    if day.weekday() >= 5:
        return DayType.CLOSED
    away = any(one.first <= day <= one.last for one in HOLIDAYS)
    return DayType.SCHOOL_HOLIDAY if away else DayType.OPEN


KINDS: Final = [_kind(FIRST + timedelta(days=number)) for number in range(365)]


@dataclass(frozen=True)
class Shape:
    """These fields set how a year's fleet is drawn and observed."""

    world: World
    start: int = 0
    """Day of the year on which the roll-out begins."""
    silent: float = 0.0
    """Share of the agents that stop for ever on a random day."""
    is_whole: bool = False
    """True: every machine that is meant to have an agent has it from the year's first day on."""


PCS: Final = ("laptop", "sff", "tower")
MANY: Final = World(classes=PCS, entities=(10, 24), late=0.0)
SHAPES: Final = {
    "12 machines, all measured": Shape(
        World(classes=PCS, entities=(1, 1), size=(12, 12), reach=(1, 1), late=0.0), is_whole=True
    ),
    "12 of 40 machines of one class": Shape(
        World(classes=("sff",), entities=(1, 1), size=(40, 40), reach=(0.3, 0.3), late=0.0), is_whole=True
    ),
    "12 of 40 machines of three classes": Shape(
        World(classes=PCS, entities=(1, 1), size=(40, 40), reach=(0.3, 0.3), late=0.0), is_whole=True
    ),
    "thin classes: 4 to 8 entities of 3 to 12, half": Shape(
        World(classes=PCS, entities=(4, 8), size=(3, 12), reach=(0.5, 0.5), late=0.0), is_whole=True
    ),
    "2 to 24 entities, 8 to 30 %": Shape(World(classes=PCS)),
    "2 to 24 entities, 8 to 30 %, models of u 0.15": Shape(World(classes=PCS, model_u=0.15)),
    "hundreds, all measured": Shape(replace(MANY, reach=(1, 1)), is_whole=True),
    "hundreds, 90 %": Shape(replace(MANY, reach=(0.9, 0.9)), is_whole=True),
    "hundreds, 90 %, from July on": Shape(replace(MANY, reach=(0.9, 0.9)), start=JULY),
    "hundreds, 30 %, from July on": Shape(replace(MANY, reach=(0.3, 0.3)), start=JULY),
    "hundreds, half, a tenth of them goes silent": Shape(replace(MANY, reach=(0.5, 0.5)), silent=0.1),
    "hundreds, 90 %, a tenth of the days off lost": Shape(replace(MANY, reach=(0.9, 0.9), lost_off_days=0.1)),
    "hundreds, 30 %, one in five always on": Shape(
        replace(MANY, reach=(0.3, 0.3), always_on=0.2), is_whole=True
    ),
}


@dataclass
class Drawn:
    """A fleet as a collector stores it, with its true energy."""

    stored: StoredYear
    truth: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Entity → millijoules."""
    defaults: dict[str, Days] = field(default_factory=dict)


def drawn(shape: Shape, chance: random.Random) -> Drawn:
    """Draw a year of a fleet; the error of a class default has the GSD² that the default states."""
    world = shape.world
    found = Drawn(
        StoredYear((replace(site("hq"), time_zone="UTC"),), holidays=HOLIDAYS, school_sites=frozenset({"hq"}))
    )
    error, units, with_agent = machines_of(world, chance, found.defaults)
    hosts, assets, rows = [], [], []
    for place, (stratum, unit) in enumerate(units):
        first = round(365 * unit.first)
        agent = _agent(shape, first, chance) if place in with_agent else None
        one = _host(place + 1, stratum, agent[0]) if agent else None
        for spent, more in _year(shape, unit, first, agent, error[stratum.device_class], one, chance):
            found.truth[stratum.entity] += spent
            rows += more
        hosts += [one] if one else []
        since = FIRST + timedelta(days=first) if first else None
        placement = Placement(date(2020, 1, 1), stratum.entity, "hq")
        assets.append(
            Asset(
                place + 1, stratum.device_class, (placement,), Population.WORKSTATION,
                host_id=one.host_id if one else None, in_service_on=since,
            )
        )  # fmt: skip
    found.stored = replace(found.stored, host_list=tuple(hosts), asset_list=tuple(assets), months=tuple(rows))
    return found


def _agent(shape: Shape, first: int, chance: random.Random) -> tuple[int, int] | None:
    """Return the days on which the agent starts and stops; None where it never runs."""
    start, end = max(first, shape.start), 365
    if chance.random() < shape.world.late:
        start += round(0.9 * chance.random() * (365 - start))
    if chance.random() < shape.silent:
        end = chance.randint(min(364, start), 365)
    return (start, end) if start < end else None


def _host(number: int, stratum: Stratum, day: int) -> Host:
    enrolled = FIRST + timedelta(days=day)
    return host(number, DeviceClass(stratum.device_class), entity=stratum.entity, enrolled=enrolled)


def _days(first: int, end: int) -> Days:
    some = KINDS[first:end]
    return tuple(some.count(kind) for kind in DayType)


def _year(
    shape: Shape,
    unit: Unit,
    first: int,
    agent: tuple[int, int] | None,
    error: float,
    one: Host | None,
    chance: random.Random,
) -> Iterator[tuple[float, list[HostPeriod]]]:
    """Yield (true energy, stored rows) of a machine, month by month."""
    for part, start, end in zip(MONTHS, STARTS, STARTS[1:], strict=False):
        start = max(start, first)
        if start >= end:
            continue
        low, high = (max(start, agent[0]), min(end, agent[1])) if agent else (end, end)
        if low >= high:
            low = high = end
        unseen = tuple(map(int.__add__, _days(start, low), _days(high, end)))
        spent, rows = sum(energies_of(unit, unseen, chance)[0]), []
        if low < high and one is not None:
            seen = _days(low, high)
            energies, off = energies_of(unit, seen, chance)
            spent += sum(energies)
            rows = list(_rows(shape.world, one.host_id, part.first, unit, seen, energies, off, error, chance))
        yield spent, rows


def _rows(
    world: World,
    host_id: HostId,
    month: date,
    unit: Unit,
    days: Days,
    energies: Sequence[float],
    off: Sequence[int],
    error: float,
    chance: random.Random,
) -> Iterator[HostPeriod]:
    method = Method.LOAD_MODELLED if world.model_u else Method.METERED
    for kind, number, true, days_off in zip(DayType, days, energies, off, strict=True):
        lost = sum(chance.random() < world.lost_off_days for _ in range(days_off))
        time, on = DAY * (number - lost), round((number - days_off) * unit.hours * 3_600_000)
        energy = round(error * (true - lost * 24 * HOUR_MILLIJOULES * unit.off_watts))
        on_energy = min(energy, round(error * on * unit.watts))
        values = {
            "on_active_ac_milliseconds": min(on, time),
            "off_ac_milliseconds": max(0, time - on),
            "on_active_energy_millijoules": on_energy,
            "off_energy_millijoules": energy - on_energy,
            "unobserved_milliseconds": DAY * lost,
            f"{method}_milliseconds": time,
            f"{method}_energy_millijoules": energy,
            f"{method}_uncertainty_millijoules": round(energy * world.model_u),
        }
        if number:
            yield HostPeriod(host_id, month, kind, Band.OPEN, vector(**values))


@dataclass
class Figures:
    """Figures of many fleets beside the truth."""

    ratios: list[float] = field(default_factory=list)
    """Figure ÷ truth."""
    held: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    """Relative half-widths."""

    def add(self, energy: float, bounds: tuple[float, float], truth: float) -> None:
        """Add one figure; a census is exact but for the rounding of its machines."""
        low, high = bounds
        self.ratios.append(energy / truth)
        self.held.append(low * (1 - 1e-9) <= truth <= high * (1 + 1e-9))
        self.widths.append((high - low) / 2 / energy)

    @property
    def bias(self) -> float:
        """Mean of figure ÷ truth, minus 1."""
        return fmean(self.ratios) - 1

    def __str__(self) -> str:
        error = pstdev(self.ratios) / math.sqrt(len(self.ratios))
        return f"{self.bias:+7.2%} ± {error:5.2%} {fmean(self.held):7.1%} {median(self.widths):11.1%}"


YEAR, OWN_MONTHS, RELEASED, ROWS = "year's own", "own months", "released", "its entities"


def own_figures(
    sources: Sources, known: Assumptions, populations: Collection[Population] = ()
) -> Iterator[tuple[str, float, tuple[float, float]]]:
    """Yield the year's own estimate and the sum of its months' own, each with its bounds.

    `populations`: only rows of these and their `autres`; their ends are summed.
    """
    for name, dimensions in ((YEAR, ("population",)), (OWN_MONTHS, ("population", "month"))):
        found = []
        for period in year_figures(sources, Query(FIRST, END, dimensions, K, TODAY), known):
            # Only PCs merge into `autres`, of any population.
            of_pcs = [row for row in period.rows if row.key.population in populations or row.key.autres]
            rows = of_pcs if populations or period.total is None else [period.total]
            found += [row.estimate for row in rows]
        low, high = (math.fsum(one.bounds_millijoules[end] for one in found) for end in (0, 1))
        yield name, sum(one.energy_millijoules for one in found), (low, high)


def measure(shape: Shape, fleets: int, seed: int) -> dict[str, Figures]:
    """Draw fleets and compare."""
    chance, found = random.Random(seed), defaultdict[str, Figures](Figures)
    for _ in range(fleets):
        one = drawn(shape, chance)
        truth = sum(one.truth.values())
        sources = one.stored.sources()
        for name, energy, bounds in own_figures(sources, Assumptions(True, one.defaults)):
            found[name].add(energy, bounds, truth)
        total, rows = released(sources, one.defaults)
        found[RELEASED].add(total.energy_millijoules, total.bounds_millijoules, truth)
        for entity, row in rows.items():
            if row.energy_millijoules:
                found[ROWS].add(row.energy_millijoules, row.bounds_millijoules, one.truth[entity])
    return found


def released(sources: Sources, defaults: Mapping[str, Days]) -> tuple[FleetSum, dict[str, FleetSum]]:
    """Return the sum of released months, and those of their entities."""
    months = [release(sources, part, K) for part in MONTHS]
    total, rows = FleetSum(), defaultdict[str, FleetSum](FleetSum)
    for of_month in estimate_months(months, ReleaseAssumptions(defaults, K)):
        for row in of_month:
            total.add(row)
            rows[row.key.entity or ""].add(row)
    return total, rows


def measure_simulated(hosts: int, seeds: int) -> dict[str, Figures]:
    """Simulate fleets as `veilleuse simulate` does and compare their PCs, with screens."""
    found = defaultdict[str, Figures](Figures)
    for seed in range(1, seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / "data"
            true = simulated(SimulationOrder(hosts, FIRST - timedelta(days=31), 400, seed), directory)[-1]
            of_pcs = [
                true.kwh(FIRST, END, population=population, device_class=name)
                for population in PC_POPULATIONS
                for name in (*sorted(PC_CLASSES), MONITOR)
            ]
            truth = sum(of_pcs) * MILLIJOULES_PER_KWH
            with opened(directory, ReportingSettings()) as sources:
                known = read_assumptions(sources, random_roll_out=True)
                for name, energy, bounds in own_figures(sources, known, PC_POPULATIONS):
                    found[name].add(energy, bounds, truth)
                total, _ = released(sources, known.class_microwatts)
                found[RELEASED].add(total.energy_millijoules, total.bounds_millijoules, truth)
        errors = ", ".join(f"{who} {one.ratios[-1] - 1:+.1%}" for who, one in found.items())
        print(f"  seed {seed}: {errors}", flush=True)
    return found


def main() -> int:
    """Print the figures of each shape; return 1 when a released year misses its bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fleets", type=int, default=60)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--simulated", type=int, default=0, help="fleets of veilleuse simulate")
    parser.add_argument("--hosts", type=int, default=60, help="agents of each of them")
    options = parser.parse_args()
    print(f"{options.fleets} fleets each: mean error ± its own, truths inside the interval, half-width")
    missed = 0
    for name, shape in SHAPES.items():
        if options.only not in name:
            continue
        began = time.process_time()
        found = measure(shape, options.fleets, options.seed)
        beyond = abs(found[RELEASED].bias) - abs(found[YEAR].bias) > MOST_BIAS
        misses = beyond or (shape.is_whole and fmean(found[RELEASED].held) < LEAST_HELD)
        missed += misses
        print(f"\n{name} ({time.process_time() - began:.0f} s){'  OUTSIDE' if misses else ''}")
        _print(found)
    if options.simulated:
        logging.disable(logging.WARNING)
        print(f"\n{options.simulated} simulations of {options.hosts} agents, half of them from the middle on")
        _print(measure_simulated(options.hosts, options.simulated))
    return 1 if missed else 0


def _print(found: Mapping[str, Figures]) -> None:
    for who, figures in found.items():
        print(f"  {who:14} {figures}", flush=True)
