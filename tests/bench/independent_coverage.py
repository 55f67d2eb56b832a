# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure how often the fleet's interval contains the truth of independent fleets, compared with an oracle
that knows how the fleets were drawn."""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median
from typing import Final

from tests.bench.independent_fleets import CLASSES, DEFAULT_U, Drawn, Moments, World, drawn, moments
from veilleuse.collector.fleet.estimate import SELECTION, Estimate, Representativeness
from veilleuse.collector.fleet.samples import InService, SampleMachine, Stratum
from veilleuse.collector.quantiles import Z95

BAND: Final = (0.93, 0.97)
LEAST_OF_A_SIZE: Final = 0.90
WIDEST: Final = 1.25
"""Largest accepted median half-width ÷ the oracle's."""
ROW_SIZES: Final = ((10, "rows of 3-9"), (30, "10-29"), (math.inf, "30-60"))
FLEET_SIZES: Final = ((100, "fleets of < 100"), (300, "< 300"), (math.inf, "300 and more"))

AT_RANDOM: Final = {
    "2 to 24 entities": World(),
    "1 to 4 entities": World(entities=(1, 4)),
    "2 to 24 entities, models of u 0.15": World(model_u=0.15),
    "servers alone, 1 to 6 entities of 3 to 12": World(entities=(1, 6), size=(3, 12), classes=("server",)),
}
"""Worlds whose interval must contain the truth."""
LARGE: Final = World(
    entities=(20, 20),
    size=(20, 60),
    reach=(0.2, 0.3),
    late=0.0,
    every_row=True,
    classes=tuple(name for name in CLASSES if name != "server"),
)
LOST: Final = {
    f"{share:.0%} of the days off lost": replace(LARGE, lost_off_days=share)
    for share in (0.0, 0.02, 0.05, 0.1, 0.5)
}
"""Worlds in which totals that are reported as demonstrated must contain the truth."""
CHOSEN: Final = {
    "those that draw less first": replace(LARGE, volunteers=-0.5),
    "those that draw less first, half as much twice as likely": replace(LARGE, volunteers=-1.0),
    "those that draw more first": replace(LARGE, volunteers=0.3),
}
"""Worlds whose selection no estimator can detect; printed as evidence."""


@dataclass(slots=True)
class Coverage:
    """Results over the fleets of one world."""

    held: list[bool] = field(default_factory=list)
    below: int = 0
    """Number of truths below the interval."""
    sizes: defaultdict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    """True for each interval that contains the truth, by size of the fleet and of the row's entity."""
    widths: list[float] = field(default_factory=list)
    """Relative half-widths of totals."""
    oracle_widths: list[float] = field(default_factory=list)
    oracle_held: list[bool] = field(default_factory=list)
    bias: list[float] = field(default_factory=list)
    """Figure ÷ truth, minus 1."""
    undercut: int = 0
    """Number of totals and rows whose lower end is below measured energy × exp(−1.96·u_model)."""
    demonstrated: list[bool] = field(default_factory=list)
    """True for each interval that contains the truth, of the totals reported as demonstrated."""
    selection: list[bool] = field(default_factory=list)
    """True for each total inside its bounds if the extrapolated part is up to SELECTION times off."""
    selection_widths: list[float] = field(default_factory=list)

    def outside(self) -> list[str]:
        """Return the names of the bounds that a random roll-out must keep and did not."""
        found = [] if BAND[0] <= fmean(self.held) <= BAND[1] else ["total"]
        found += [size for size, held in self.sizes.items() if fmean(held) < LEAST_OF_A_SIZE]
        found += ["width"] if median(self.widths) > WIDEST * median(self.oracle_widths) else []
        return found + (["below what was measured"] if self.undercut else [])


def measure(world: World, fleets: int, seed: int) -> Coverage:
    """Draw fleets, and estimate their totals and the rows of their entities."""
    found, chance = Coverage(), random.Random(seed)
    for _ in range(fleets):
        one = drawn(world, chance)
        fleet, truth = one.estimate(), sum(one.truth.values())
        total = fleet.total()
        _total(found, total, truth, world, one)
        _told(found, total, truth, _size(one.size, FLEET_SIZES))
        rows: defaultdict[str, list[Stratum]] = defaultdict(list)
        for stratum in fleet.strata:
            rows[stratum.entity].append(stratum)
        for strata in rows.values():
            row = fleet.of(strata)
            true = sum(one.truth[stratum] for stratum in strata)
            _told(found, row, true, _size(row.machines_fleet, ROW_SIZES))
    return found


def _total(found: Coverage, total: Estimate, truth: float, world: World, one: Drawn) -> None:
    energy = total.energy_millijoules
    low, high = total.bounds_millijoules
    found.held.append(low <= truth <= high)
    found.below += truth < low
    found.widths.append((high - low) / 2 / energy)
    found.bias.append(energy / truth - 1)
    if total.representativeness is Representativeness.DEMONSTRATED:
        found.demonstrated.append(found.held[-1])
    figure, u = oracle(world, one)
    found.oracle_held.append(abs(math.log(truth / figure)) <= Z95 * u)
    found.oracle_widths.append(math.sinh(Z95 * u))
    low, high = (energy * end for end in total.sensitivity())
    found.selection.append(low <= truth <= high)
    found.selection_widths.append((high - low) / 2 / energy)


def _told(found: Coverage, one: Estimate, truth: float, size: str) -> None:
    low, high = one.bounds_millijoules
    found.sizes[size].append(low <= truth <= high)
    known = one.energy_millijoules - one.extrapolated_millijoules
    found.undercut += low < known * math.exp(-Z95 * one.u_model) * (1 - 1e-9)


def _size(machines: int, sizes: Sequence[tuple[float, str]]) -> str:
    return next(name for end, name in sizes if machines < end)


def oracle(world: World, one: Drawn) -> tuple[float, float]:
    """Return the figure in mJ and its u on the log scale, by the best linear unbiased predictor by class.

    The oracle knows for each class the exact relative variances between machines of an entity and between
    entities. So it estimates no variance and uses 1.96 for Student's t. It does not know the level of a class
    or an entity, or which machines are heavy: levels come from the same sample. Like the estimator, it uses
    the default of a class that nobody measured, and no machine's own level before its agent's start.
    """
    samples: defaultdict[Stratum, list[SampleMachine]] = defaultdict(list)
    for machine in one.machines:
        samples[machine.stratum].append(machine)
    figure = variance = 0.0
    for name in world.classes:
        strata = [there for there in one.in_service if there.stratum.device_class == name]
        known = sum(sum(machine.energy_millijoules) for there in strata for machine in samples[there.stratum])
        if any(samples[there.stratum] for there in strata):
            more, error = _predicted(strata, samples, moments(world, name))
        else:
            watts = one.defaults[name][0] / 1e6
            more = watts * sum(sum(there.milliseconds) for there in strata)
            error = (DEFAULT_U * more) ** 2
        figure += known + more
        variance += error + (world.model_u * (known + more)) ** 2
    return figure, math.sqrt(variance) / figure


def _predicted(
    strata: Sequence[InService], samples: dict[Stratum, list[SampleMachine]], of: Moments
) -> tuple[float, float]:
    """Return (extrapolated energy, variance of its error) of one class."""
    means, weights, missing, noise = [], [], [], 0.0
    for there in strata:
        sample = samples[there.stratum]
        time = sum(sum(machine.accounted_milliseconds) for machine in sample)
        left = sum(there.milliseconds) - time
        missing.append(left)
        noise += of.within * left * sum(there.milliseconds) / there.machines
        means.append(sum(sum(machine.energy_millijoules) for machine in sample) / time if time else 0.0)
        weights.append(1 / (of.between + of.within / len(sample)) if time else 0.0)
    whole = sum(weights)
    level = sum(weight * mean for weight, mean in zip(weights, means, strict=True)) / whole
    own = [of.between * weight for weight in weights]
    rest = [left * (1 - share) for left, share in zip(missing, own, strict=True)]
    more = sum(left * level + (left - some) * (mean - level)
               for left, some, mean in zip(missing, rest, means, strict=True))  # fmt: skip
    variance = noise + sum(rest) ** 2 / whole
    variance += of.between * sum(left * some for left, some in zip(missing, rest, strict=True))
    return more, level**2 * variance


def report(fleets: int, seed: int, only: str) -> int:
    """Print all worlds whose name contains `only`; return the number of those outside their bounds."""
    begun, wrong = time.monotonic(), 0
    print(
        "\nindependent fleets: held  below  above   bias  half-width  oracle's (held)  lower end below measured"
    )
    for name, world in AT_RANDOM.items():
        if only in name:
            found = measure(world, fleets, seed)
            outside = found.outside()
            wrong += bool(outside)
            _print(name, found, outside)
            sizes = [size for _, size in (*FLEET_SIZES, *ROW_SIZES) if size in found.sizes]
            print("  " + ", ".join(f"{size}: {fmean(found.sizes[size]):.1%}" for size in sizes))
    for name, world in (LOST | CHOSEN).items():
        if only in name:
            found = measure(world, max(1, fleets // 5), seed)
            bad = name in LOST and found.demonstrated and fmean(found.demonstrated) < BAND[0]
            wrong += bool(bad)
            _print(name, found, ["told as demonstrated"] if bad else [])
            print(
                f"  told as demonstrated: {len(found.demonstrated)} of {len(found.held)} totals; sensitivity, x {SELECTION}:"
                f" {fmean(found.selection):.1%} held, half-width {median(found.selection_widths):.1%}"
            )
    print(f"{time.monotonic() - begun:.0f} s")
    return wrong


def _print(name: str, found: Coverage, outside: Sequence[str]) -> None:
    fleets = len(found.held)
    held, below = fmean(found.held), found.below / fleets
    print(
        f"{held:24.1%} {below:6.1%} {1 - held - below:6.1%} {fmean(found.bias):+6.1%} {median(found.widths):11.1%}"
        f" {median(found.oracle_widths):9.1%} ({fmean(found.oracle_held):.1%}) {found.undercut:9}  {name}"
        + "".join(f"  OUTSIDE: {what}" for what in outside),
        flush=True,
    )
