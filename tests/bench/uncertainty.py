# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compute a fleet's 95 % interval by what is known of it: no counter, counters, calibrations, meters.

`python -m tests.bench uncertainty [--fleets 100]` prints the table of docs/calibration.md. Simulated fleets
are blinded step by step: the true energy stays the same, only the evidence changes. Errors of models have the
size and correlations of docs/methodology.md §6. The exit code is 1 when an evidence's intervals contain the
truth in less than 93 % of all fleets.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

from tests.support.reference_units import Truth, simulated
from veilleuse.collector.derive import priors
from veilleuse.collector.derive.calibration.acceptance import Reference, wall_outcome
from veilleuse.collector.fleet.estimator import Assumptions, Fleet
from veilleuse.collector.fleet.samples import (
    CalibratedWall,
    HardwareModel,
    InService,
    SampleCell,
    SampleMachine,
    Stratum,
    age_band,
)
from veilleuse.collector.model.calibration import Fit, Hardware
from veilleuse.collector.model.sums import EnergySums
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import DeviceClass

LEAST_HELD = 0.93
DAYS = (203, 47, 115)
"""Open, school holiday and closed days."""
DAY = 86_400_000
ON = 1 / 3
"""Share of a day on; energy off or asleep is left out here."""
PRIOR = priors.WALL_PRIORS[DeviceClass.SFF]
LOAD_U, METER_U = priors.STATE_POWER_U_PPM / 1e6, priors.METER_U_PPM / 1e6
FLEETS = (
    ("all", 500, 1, 1),
    ("all", 500, 1, 3),
    ("all", 500, 1, 12),
    ("all", 500, 4, 12),
    ("a fifth", 50, 1, 3),
    ("a fifth", 500, 1, 3),
    ("a fifth", 500, 4, 12),
    ("a fifth", 5000, 1, 3),
    ("a fifth", 5000, 4, 12),
)
"""(machines with an agent, machines, device classes, hardware models)."""
EVIDENCE = ("load model only", "counters", "calibrated, 3 units", "calibrated, 5 units", "metered")


@dataclass(frozen=True)
class Model:
    """A hardware model: its true values, and what is known of it."""

    name: str
    place: int
    """Number of its class, from 0."""
    truth: Truth
    load_error: float
    """Load model ÷ truth of the mean unit."""
    fits: Mapping[int, Fit | None]
    """Units of the calibration → its fit; None where it was refused."""

    @property
    def stratum(self) -> Stratum:
        """Stratum of its machines: a class, in one entity."""
        return Stratum(f"class {self.place}", "one entity")


@dataclass(frozen=True)
class Machine:
    """A machine of the fleet, in watts while it is on."""

    model: Model
    counters: float
    wall: float


def models(number: int, classes: int, chance: random.Random) -> Iterator[Model]:
    """Yield hardware models whose priors err: half of the variance is common to the class.

    All classes have the wall prior of an SFF, so that only their number differs.
    """
    half = math.sqrt(0.5)
    errors = [[chance.gauss(0, half), chance.gauss(0, half)] for _ in range(classes)]
    for place in range(number):
        common = errors[place % classes]
        load, wall = (
            math.exp(u * (one + chance.gauss(0, half)))
            for u, one in zip((LOAD_U, PRIOR.u_ppm / 1e6), common, strict=True)
        )
        truth = Truth(base_watts=PRIOR.base_microwatts / 1e6 * wall, slope=PRIOR.slope_ppm / 1e6 * wall)
        yield Model(
            f"model {place}",
            place % classes,
            truth,
            load,
            {units: fitted(truth, units, chance) for units in (3, 5)},
        )


def fitted(truth: Truth, units: int, chance: random.Random) -> Fit | None:
    """Return the calibration that `units` machines on a meter give; None where it is refused."""
    hardware = Hardware("acme", "desk", DeviceClass.SFF)
    reference = Reference("readings", "simulated", round(truth.meter_gain * 1e6))
    outcome = wall_outcome(hardware, "package", simulated(truth, units, 480, chance), reference)
    return None if outcome.kept is None or outcome.refused else outcome.kept.fit


def fleet_of(machines: int, made: list[Model], chance: random.Random) -> list[Machine]:
    """Return machines with loads of their own (log-scale spread 0.4), and a spread within a model."""
    found = []
    for number in range(machines):
        model = made[number % len(made)]
        counters = 9 * math.exp(chance.gauss(0, 0.4))
        unit = math.exp(chance.gauss(0, math.hypot(model.truth.gain_spread, model.truth.base_spread)))
        found.append(Machine(model, counters, model.truth.wall(counters) * unit))
    return found


def observed(machine: Machine, evidence: str, gain: float) -> SampleMachine:
    """Return what the collector knows of a machine with an agent."""
    times = tuple(days * DAY for days in DAYS)
    on = round(sum(times) * ON)
    counted = round(machine.counters * on)
    method, energy, u = _derived(machine, evidence, gain, counted, on)
    shares = [energy * time // sum(times) for time in times]
    shares[0] += energy - sum(shares)
    return SampleMachine(
        machine.model.stratum,
        machine.model.name,
        tuple(shares),
        times,
        {method: EnergySums(sum(times), energy, u)},
        observed_milliseconds=sum(times),
        on_milliseconds=on,
        on_millijoules=energy,
        counters_milliseconds=on * (method is Method.COUNTER_CALIBRATED),
        counters_millijoules=counted * (method is Method.COUNTER_CALIBRATED),
    )


def _derived(machine: Machine, evidence: str, gain: float, counted: int, on: int) -> tuple[Method, int, int]:
    """Return (method, energy, its uncertainty) as derive would."""
    if evidence == "metered":
        energy = round(machine.wall * gain * on)
        return Method.METERED, energy, round(energy * METER_U)
    if evidence == "load model only":
        energy = round(machine.model.truth.wall(machine.counters) * machine.model.load_error * on)
        return Method.LOAD_MODELLED, energy, round(energy * LOAD_U)
    fit = machine.model.fits[int(evidence.split()[1])] if evidence.startswith("calibrated") else None
    if fit is not None:
        return Method.COUNTER_CALIBRATED, *fit.energy(counted, on)
    energy = round((PRIOR.base_microwatts * on + PRIOR.slope_ppm * counted) / 1e6)
    return Method.COUNTER_MODELLED, energy, round(energy * PRIOR.u_ppm / 1e6)


def interval(
    machines: list[Machine], agents: int, evidence: str, gains: list[float]
) -> tuple[float, float, bool]:
    """Return the interval's ends as factors, and whether it contains the truth."""
    units = int(evidence.split()[1]) if evidence.startswith("calibrated") else 0
    calibrations: dict[HardwareModel, CalibratedWall] = {
        (machine.model.stratum.device_class, machine.model.name): CalibratedWall(fit, "simulated")
        for machine in machines
        if (fit := machine.model.fits.get(units)) is not None
    }
    strata: defaultdict[Stratum, Counter[SampleCell]] = defaultdict(Counter)
    for machine in machines:
        strata[machine.model.stratum][SampleCell(machine.model.name, age_band(None, None))] += 1
    fleet = Fleet(
        [observed(machine, evidence, gains[machine.model.place]) for machine in machines[:agents]],
        [
            InService(stratum, cells.total(), tuple(cells.total() * days * DAY for days in DAYS), cells)
            for stratum, cells in strata.items()
        ],
        Assumptions(random_roll_out=True, calibrations=calibrations),
    )
    total = fleet.total()
    truth = sum(machine.wall for machine in machines) * round(sum(DAYS) * DAY * ON)
    low, high = total.bounds_millijoules
    return low / total.energy_millijoules, high / total.energy_millijoules, low <= truth <= high


def main() -> int:
    """Print the table; return 1 when an evidence holds the truth too rarely."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--fleets", type=int, default=100)
    options.add_argument("--seed", type=int, default=14)
    asked = options.parse_args()
    held: defaultdict[str, list[bool]] = defaultdict(list)
    print(f"| agents on | machines | classes, models | {' | '.join(EVIDENCE)} |")
    print("|---" * (3 + len(EVIDENCE)) + "|")
    for word, size, classes, number in FLEETS:
        chance = random.Random(asked.seed)
        ends: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for _ in range(asked.fleets):
            machines = fleet_of(size, list(models(number, classes, chance)), chance)
            chance.shuffle(machines)
            gains = [math.exp(chance.gauss(0, METER_U)) for _ in range(classes)]
            for evidence in EVIDENCE:
                low, high, hit = interval(machines, size if word == "all" else size // 5, evidence, gains)
                ends[evidence].append((low, high))
                held[evidence].append(hit)
        cells = (
            f"{median(low for low, _ in ends[one]) - 1:+.0%} to {median(high for _, high in ends[one]) - 1:+.0%}"
            for one in EVIDENCE
        )
        row = f"| {word} | {size:,} | {classes}, {number} | {' | '.join(cells)} |"
        print(row.replace("-", "−").replace("%", " %"), flush=True)
    shares = {evidence: sum(hits) / len(hits) for evidence, hits in held.items()}
    print("\nheld the truth: " + ", ".join(f"{evidence} {share:.1%}" for evidence, share in shares.items()))
    return 1 if min(shares.values()) < LEAST_HELD else 0
