# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure the coverage and errors of calibration on simulated fleets whose truth is known.

`python -m tests.bench calibration [--draws 1000]`: for each number of reference units, how often the 95 %
interval of the mean unit's wall power contains the truth, how wide it is, and the errors of prior and fit.
The interval is computed by the integers that derive uses. Exit code 1 when a coverage is outside 93 to 97 %.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from dataclasses import dataclass
from statistics import median

from tests.support.reference_units import Truth, simulated
from veilleuse.collector.derive.calibration.acceptance import Reference, wall_outcome
from veilleuse.collector.model.calibration import Hardware
from veilleuse.collector.quantiles import Z95
from veilleuse.wire.vocabulary import DeviceClass

BAND = (0.93, 0.97)
UNITS = (1, 2, 3, 5, 10)
SAMPLES = 480
"""Eight hours of one-minute samples, a day in the laboratory."""
HOUR = 3_600_000
MODEL = Hardware("acme", "desk 7", DeviceClass.SFF)

FLEETS = {
    "spread 10 %": Truth(),
    "spread 5 %, meter ± 1 %": Truth(gain_spread=0.04, base_spread=0.03, meter_gain=0.005),
    "spread 10 %, noise 15 %": Truth(noise=0.15),
    "spread 10 %, noise hangs together for an hour": Truth(memory=0.983),
}
"""A single unit relies on the prior's 10 %, so the fleet of 5 % is measured with two or more units only."""


@dataclass(frozen=True)
class Coverage:
    """The results for one fleet and one number of units."""

    held: float
    """Share of draws whose interval contains the truth."""
    half_width: float
    """Median relative half-width."""
    before: float
    after: float
    """Root mean square relative errors of the prior, and of the fit, against the truth."""
    refused: int
    served: float
    """Share of draws whose interval contains the truth, among those that would be used."""


def coverage(truth: Truth, units: int, draws: int, seed: int) -> Coverage:
    """Fit `draws` simulated models. Each interval is that of a report of derived energy: E·exp(∓1.96·u/E)."""
    chance = random.Random(seed)
    true = truth.wall(truth.fleet_watts)
    prior = truth.prior_base_watts + truth.prior_slope * truth.fleet_watts
    held = refused = served = 0
    widths, squares = [], 0.0
    reference = Reference("readings", "simulated", round(truth.meter_gain * 1e6))
    for _ in range(draws):
        outcome = wall_outcome(MODEL, "package", simulated(truth, units, SAMPLES, chance), reference)
        assert outcome.kept is not None, outcome.refused
        refused += outcome.refused is not None
        energy, u = outcome.kept.fit.energy(round(truth.fleet_watts * HOUR), HOUR)
        watts, width = energy / HOUR, Z95 * u / energy
        hit = watts * math.exp(-width) <= true <= watts * math.exp(width)
        held += hit
        served += hit and outcome.refused is None
        widths.append(width)
        squares += (watts / true - 1) ** 2
    return Coverage(
        held / draws,
        median(widths),
        abs(prior / true - 1),
        math.sqrt(squares / draws),
        refused,
        served / max(1, draws - refused),
    )


def main() -> int:
    """Print the table; return 1 when a coverage is outside the band."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--draws", type=int, default=1000)
    options.add_argument("--seed", type=int, default=4)
    asked = options.parse_args()
    print(f"{asked.draws} draws each; wanted: {BAND[0]:.0%} to {BAND[1]:.0%}")
    outside, begun = 0, time.monotonic()
    for name, truth in FLEETS.items():
        print(
            f"\n{name}\n  units  coverage  half-width  error before  error after  refused  held by those that serve"
        )
        for units in UNITS:
            if units == 1 and not math.isclose(math.hypot(truth.gain_spread, truth.base_spread), 0.1):
                continue
            found = coverage(truth, units, asked.draws, asked.seed + units)
            good = BAND[0] <= found.held <= BAND[1]
            outside += not good
            print(
                f"  {units:5}  {found.held:8.1%}  {found.half_width:10.1%}  {found.before:12.1%}  {found.after:11.1%}"
                f"  {found.refused:7}  {found.served:8.1%}{'' if good else '  OUTSIDE'}",
                flush=True,
            )
    print(f"\n{time.monotonic() - begun:.0f} s")
    return 1 if outside else 0
