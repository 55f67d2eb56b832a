# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Simulate reference units of a hardware model whose true wall model is known, for the coverage of
calibration."""

from __future__ import annotations

import random
from dataclasses import dataclass

from veilleuse.collector.derive.calibration.moments import Unit

SAMPLE_MILLISECONDS = 60_000


@dataclass(frozen=True)
class Truth:
    """A hardware model's true values. Standard deviations are relative to the mean unit's wall power at
    `fleet_watts`."""

    base_watts: float = 17.0
    slope: float = 1.38
    reference_watts: float = 15.0
    """Mean power of the reference units' counters."""
    fleet_watts: float = 9.0
    """Mean power of the counters in the fleet to be estimated, which has less load than a tested unit."""
    gain_spread: float = 0.08
    """Standard deviation between units that is common to base and slope: power supply and losses."""
    base_spread: float = 0.06
    """Standard deviation between units of base alone. Both together give the 10 % of docs/calibration.md."""
    noise: float = 0.06
    """Standard deviation within a unit, from sample to sample."""
    memory: float = 0.95
    """Autocorrelation of that noise from one minute to the next."""
    meter_gain: float = 0.0099
    """Standard uncertainty (k = 1), drawn once for all units, because the same meter measures them all."""
    prior_base_watts: float = 12.0
    prior_slope: float = 1.25

    def wall(self, counter_watts: float) -> float:
        """Return the true wall power of the mean unit, in watts."""
        return self.base_watts + self.slope * counter_watts


def simulated(truth: Truth, units: int, samples: int, chance: random.Random) -> list[Unit]:
    """Return reference units with their own gains and bases, measured by one meter with one gain error."""
    meter = 1 + chance.gauss(0, truth.meter_gain)
    scale = truth.wall(truth.fleet_watts)
    made = []
    for number in range(units):
        unit = Unit(f"unit {number + 1}")
        gain = 1 + chance.gauss(0, truth.gain_spread)
        base = truth.base_watts + chance.gauss(0, truth.base_spread) * scale
        load = noise = chance.gauss(0, 1)
        mean = truth.reference_watts * chance.uniform(0.7, 1.3)  # each unit has its own load
        fresh = (1 - truth.memory**2) ** 0.5
        for sample in range(samples):
            load = 0.9 * load + 0.436 * chance.gauss(0, 1)
            noise = truth.memory * noise + fresh * chance.gauss(0, 1)
            counters = max(1.0, mean * (1 + 0.45 * load))
            wall = gain * (base + truth.slope * counters) + truth.noise * scale * noise
            prior = truth.prior_base_watts + truth.prior_slope * counters
            t = SAMPLE_MILLISECONDS
            unit.add(sample * t, t, counters * t, max(0.0, meter * wall) * t, prior * t)
        made.append(unit)
    return made
