# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure how often the fleet's 95 % interval and the margins of changes contain the truth, and their time.

Fleets are simulated, and drawn by an independent generator. `python -m tests.bench estimator [--fleets 1000]
[--seed 5] [--only WORD]`. The exit code is 1 when one of these is true: a coverage of the total is outside 93
to 97 %; a roll-out that was not random is reported as demonstrated; independent fleets miss their bounds
(independent_coverage.py); a total of 10,000 machines takes 0.5 s.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import median

from tests.bench.independent_coverage import report
from tests.support import simulated_changes
from tests.support.simulated_fleets import Shape, Simulated, simulated
from veilleuse.collector.fleet.estimate import Representativeness
from veilleuse.collector.fleet.estimator import Fleet
from veilleuse.collector.fleet.samples import SampleMachine, Stratum
from veilleuse.collector.quantiles import quantile95

BAND = (0.93, 0.97)
MOST_SECONDS = 0.5

FLEETS = {
    "plain strata: n = 20 to 200": Shape(((300, 20), (1500, 60), (4000, 200), (800, 40))),
    "10 % always on: 8 entities of n = 10": Shape(((150, 10),) * 8, always_on=0.1),
    "10 % always on: 8 entities of n = 30": Shape(((300, 30),) * 8, always_on=0.1),
    "10 % always on: 8 entities of n = 60": Shape(((400, 60),) * 8, always_on=0.1),
    "10 % always on: one entity of n = 10": Shape(((300, 10),), always_on=0.1),
    "10 % always on: one entity of n = 30": Shape(((300, 30),), always_on=0.1),
    "10 % always on: one entity of n = 60": Shape(((600, 60),), always_on=0.1),
    "always on, more here than there: 12 entities": Shape(
        ((100, 10), (200, 30), (500, 80)) * 4, always_on=0.12, between_shares=0.5
    ),
    "10 % always on, told for the class alone: 8 entities of n = 10": Shape(
        ((150, 10),) * 8, always_on=0.1, told_apart=False
    ),
    "10 % always on, told for the class alone: 4 entities of n = 5 to 80": Shape(
        ((100, 5), (300, 20), (400, 40), (600, 80)), always_on=0.1, told_apart=False
    ),
    "thin: 30 entities of n = 0 to 9, which differ by 20 %": Shape(
        ((60, 0), (80, 3), (60, 5), (100, 9), (40, 7)) * 6, between=0.2
    ),
    "thin and thick: 3 entities of n = 70, 12 of n = 1 to 8": Shape(
        ((500, 70),) * 3 + ((60, 1), (80, 4), (100, 8)) * 4, between=0.2
    ),
    "thin: 8 entities of n = 6, alike": Shape(((80, 6),) * 8),
    "thin and 10 % always on: 15 entities, which differ by 15 %": Shape(
        ((60, 3), (80, 6), (100, 12)) * 5, between=0.15, always_on=0.1
    ),
    "mid-year roll-out, late joiners, machines that left": Shape(
        ((300, 60), (800, 150), (200, 40)), late=True
    ),
    "workstation weeks, mid-year roll-out": Shape(((300, 40), (800, 100), (200, 30)), late=True, weeks=True),
    "errors of priors, two models": Shape(((300, 60), (800, 100)), prior_u=0.2),
    "old machines first: not random": Shape(
        ((300, 60), (800, 150), (200, 20), (100, 8)), models=True, random_roll_out=False
    ),
}

CHANGES = {
    "two thirds in common": simulated_changes.Shape(),
    "the same machines": simulated_changes.Shape(((400, 60, 60, 0),)),
    "none always on": simulated_changes.Shape(always_on=0),
    "most of the fleet measured": simulated_changes.Shape(((100, 60, 50, 30),)),
    "none in common": simulated_changes.Shape(((150, 30, 0, 30),) * 2),
    "twelve machines": simulated_changes.Shape(((80, 12, 8, 6),)),
}
"""Shapes of fleets over two years."""


@dataclass(frozen=True)
class Coverage:
    """The results for one shape of fleet."""

    held: float
    """Share of fleets whose total's interval contains the truth."""
    below: float
    above: float
    """Shares of fleets whose truth is below or above the interval."""
    rows: float
    """Share of strata whose own interval contains the truth."""
    half_width: float
    """Median relative half-width."""
    bias: float
    """Mean of figure ÷ truth, minus 1."""
    written: float
    """Share of fleets whose truth is in the interval by docs/methodology.md §6's formula alone."""
    not_demonstrated: int


def coverage(shape: Shape, fleets: int, seed: int, *, beside: bool = False) -> Coverage:
    """Simulate and estimate fleets; `beside`: also the rows and docs/methodology.md §6's formula alone."""
    chance = random.Random(seed)
    below = above = rows = strata = written = unsure = 0
    widths, ratios = [], []
    for _ in range(fleets):
        one = simulated(shape, chance)
        fleet = one.estimate()
        total, truth = fleet.total(), sum(one.truth.values())
        low, high = total.bounds_millijoules
        below += truth < low
        above += truth > high
        widths.append((high - low) / 2 / total.energy_millijoules)
        ratios.append(total.energy_millijoules / truth)
        unsure += total.representativeness is Representativeness.NOT_DEMONSTRATED
        if not beside:
            continue
        low, high = as_written(one)
        written += low <= truth <= high
        for stratum in fleet.strata:
            low, high = fleet.of([stratum]).bounds_millijoules
            rows += low <= one.truth[stratum] <= high
            strata += 1
    return Coverage(
        1 - (below + above) / fleets,
        below / fleets,
        above / fleets,
        rows / max(1, strata),
        median(widths),
        sum(ratios) / fleets - 1,
        written / fleets,
        unsure,
    )


def change_coverage(shape: simulated_changes.Shape, fleets: int, seed: int) -> dict[str, float]:
    """Return effect → share of fleets whose margin contains the true change; `half-width`: median margin of
    the change in kWh."""
    chance = random.Random(seed)
    held: defaultdict[str, float] = defaultdict(float)
    widths = []
    for _ in range(fleets):
        found, truth = simulated_changes.changed(shape, chance)
        told = simulated_changes.told(found.effects)
        for name, one, margin, true in zip(simulated_changes.NAMES, told, found.margins, truth, strict=True):
            held[name] += (abs(one - true) <= margin + 1e-6) / fleets
        widths.append(found.margins[-1])
    return {**held, "half-width": median(widths)}


def as_written(one: Simulated) -> tuple[float, float]:
    """Return the bounds by docs/methodology.md §6's formula: R̂ pooled below 10, s² below 60, t by
    Satterthwaite. Machines that are always on are not treated separately."""
    samples: defaultdict[Stratum, list[SampleMachine]] = defaultdict(list)
    for machine in one.machines:
        samples[machine.stratum].append(machine)
    whole = _rates(one.machines)
    figure, thick, pooled, squares, degrees = 0.0, [], 0.0, 0.0, 0
    for there in one.in_service:
        members, fleet = samples[there.stratum], sum(there.milliseconds)
        own = _rates(members) if len(members) >= 10 else whole
        figure += sum(time * rate for time, rate in zip(there.milliseconds, own, strict=True))
        n = len(members)
        if not n:
            continue
        times = [sum(column) for column in zip(*(one.accounted_milliseconds for one in members), strict=True)]
        weights = [
            time * n / fleet / seen if seen else 0.0
            for time, seen in zip(there.milliseconds, times, strict=True)
        ]
        around = sum(_deviation(machine, weights, own) ** 2 for machine in members)
        squares, degrees = squares + around, degrees + n - 1
        left = 1 - sum(times) / fleet
        if n >= 60:
            thick.append((left * fleet**2 / n * around / (n - 1), n - 1))
        else:
            pooled += left * fleet**2 / n
    parts = [*thick, (pooled * squares / degrees, degrees)]
    variance = sum(part for part, _ in parts)
    t = quantile95(variance**2 / sum(part**2 / nu for part, nu in parts))
    width = t * math.sqrt(variance) / figure
    return figure * math.exp(-width), figure * math.exp(width)


def _deviation(machine: SampleMachine, weights: list[float], rates: list[float]) -> float:
    return sum(
        weight * (energy - rate * time)
        for weight, rate, energy, time in zip(
            weights, rates, machine.energy_millijoules, machine.accounted_milliseconds, strict=True
        )
    )


def _rates(machines: list[SampleMachine]) -> list[float]:
    energies = map(sum, zip(*(machine.energy_millijoules for machine in machines), strict=True))
    times = map(sum, zip(*(machine.accounted_milliseconds for machine in machines), strict=True))
    return [energy / time for energy, time in zip(energies, times, strict=True)]


def seconds_of_a_total(strata: int = 200, sampled: int = 50) -> tuple[float, float]:
    """Return the processor seconds of a total, and those of a row for each stratum. 10,000 machines, four
    classes, eight models."""
    chance = random.Random(1)
    machines, in_service = [], []
    for number in range(strata):
        one = simulated(Shape(((3 * sampled, sampled),), always_on=0.1), chance)
        stratum = Stratum(("sff", "tower", "laptop", "mini_pc")[number % 4], f"entity {number // 4}")
        machines += [
            replace(machine, stratum=stratum, hardware=f"model {chance.randrange(8)}")
            for machine in one.machines
        ]
        in_service += [replace(there, stratum=stratum) for there in one.in_service]
    begun = time.process_time()
    fleet = Fleet(machines, in_service)
    fleet.total()
    reached = time.process_time()
    for stratum in fleet.strata:
        fleet.of([stratum])
    return reached - begun, time.process_time() - reached


def main() -> int:
    """Print the table; return 1 when a result is outside its bounds."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--fleets", type=int, default=1000)
    options.add_argument("--seed", type=int, default=5)
    options.add_argument("--only", default="")
    asked = options.parse_args()
    print(f"{asked.fleets} fleets each; wanted of the total: {BAND[0]:.0%} to {BAND[1]:.0%}\n")
    print("total   below  above   rows  half-width    bias  as written  not demonstrated")
    outside, begun = 0, time.monotonic()
    for name, shape in FLEETS.items():
        if asked.only not in name:
            continue
        found = coverage(shape, asked.fleets, asked.seed, beside=True)
        good = BAND[0] <= found.held <= BAND[1]
        good &= shape.random_roll_out or found.not_demonstrated == asked.fleets
        outside += not good
        print(
            f"{found.held:6.1%} {found.below:6.1%} {found.above:6.1%} {found.rows:6.1%}  {found.half_width:10.1%}"
            f"  {found.bias:+6.2%}  {found.written:10.1%}  {found.not_demonstrated:16}  {name}{'' if good else '  OUTSIDE'}",
            flush=True,
        )
    print("\nmargins of a change from the year before\nchange   hours   watts  half-width")
    for name, shape_of_years in CHANGES.items():
        if asked.only in name:
            held = change_coverage(shape_of_years, asked.fleets, asked.seed)
            print(
                f"{held['change']:6.1%} {held['hours']:7.1%} {held['watts']:7.1%} {held['half-width']:8.0f} kWh  {name}",
                flush=True,
            )
    print(f"\n{time.monotonic() - begun:.0f} s")
    outside += report(asked.fleets, asked.seed, asked.only)
    total, rows = seconds_of_a_total()
    print(
        f"10,000 machines, 3 day types, 200 strata: total {total:.2f} s of processor, 200 rows {rows:.2f} s more"
    )
    return 1 if outside or total >= MOST_SECONDS else 0
