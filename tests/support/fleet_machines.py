# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Make the machines and strata that the fleet's estimator takes, with energies in kWh a year."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from veilleuse.collector.fleet.estimate import Estimate
from veilleuse.collector.fleet.samples import Days, InService, SampleCell, SampleMachine, Stratum
from veilleuse.collector.model.sums import EnergySums
from veilleuse.wire.ladder import Method

DAY = 86_400_000
YEAR: Days = (143 * DAY, 117 * DAY, 105 * DAY)
KWH = 3_600_000_000
A = Stratum("sff", "A")
B = Stratum("sff", "B")


def machine(
    stratum: Stratum,
    energies: Sequence[float],
    times: Days = YEAR,
    *,
    method: Method = Method.METERED,
    u: float = 0.0,
    hardware: str = "acme desk 7",
    imputed: int = 0,
    on_share: float = 0.3,
    age_years: float | None = None,
    counters: tuple[int, int] = (0, 0),
) -> SampleMachine:
    """Return a machine; `energies`: kWh of each day type, by one method with relative uncertainty `u`."""
    known = tuple(round(energy * KWH) for energy in energies)
    derived = sum(known) - imputed
    return SampleMachine(
        stratum,
        hardware,
        known,
        times,
        {method: EnergySums(sum(times), derived, round(derived * u))},
        imputed_millijoules=imputed,
        observed_milliseconds=sum(times),
        on_milliseconds=round(on_share * sum(times)),
        on_millijoules=round(0.9 * sum(known)),
        counters_milliseconds=counters[0],
        counters_millijoules=counters[1],
        age_years=age_years,
    )


def in_service(stratum: Stratum, machines: int, cells: Mapping[SampleCell, int] | None = None) -> InService:
    """Return `machines` machines of a stratum that are in service for the whole year."""
    return InService(stratum, machines, tuple(machines * time for time in YEAR), cells or {})


def kwh(estimate: Estimate) -> float:
    """Return the estimated energy in kWh."""
    return estimate.energy_millijoules / KWH
