# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Energy beside the grid's intensity of the same hours: the indicative ledger, between account and the outlets. No I/O.

Integers and fractions inside: nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NamedTuple

from veilleuse.collector.model.figures import GroupKey
from veilleuse.collector.model.grid import MILLIGRAMS_PER_GRAM, IntensityStatus, SeriesState
from veilleuse.wire.units import (
    GRAMS_PER_KILOGRAM,
    MILLIJOULES_PER_KWH,
    MILLISECONDS_PER_HOUR,
    MILLISECONDS_PER_MINUTE,
)
from veilleuse.wire.vocabulary import Population

MINUTES_PER_HOUR: Final = MILLISECONDS_PER_HOUR // MILLISECONDS_PER_MINUTE
STATUSES: Final = tuple(IntensityStatus)


class HourIntensity(NamedTuple):
    """What is known of one UTC hour of a grid."""

    milligram_minutes: int
    """Σ mg/kWh × minutes of the hour's values."""
    minutes: tuple[int, ...]
    """Minutes with a value, by status in the order of STATUSES; at most 60 in all."""

    @property
    def known_minutes(self) -> int:
        """0 to 60."""
        return sum(self.minutes)


NOTHING: Final = HourIntensity(0, (0,) * len(STATUSES))


@dataclass(slots=True)
class Sums:
    """Of a machine, or of a group. The energy of an hour is spread evenly over its minutes."""

    energy_millijoules: int = 0
    energy_minutes: tuple[int, ...] = (0,) * len(STATUSES)
    """mJ × minutes with an intensity, by status; 60 × energy_millijoules when all of it has one."""
    weight: int = 0
    """mJ × minutes × mg/kWh."""

    def add(self, energy_millijoules: int, hour: HourIntensity) -> None:
        """Energy of hours of this intensity."""
        self.energy_millijoules += energy_millijoules
        self.energy_minutes = tuple(
            before + energy_millijoules * more
            for before, more in zip(self.energy_minutes, hour.minutes, strict=True)
        )
        self.weight += energy_millijoules * hour.milligram_minutes

    def __iadd__(self, other: Sums) -> Sums:
        """Sum."""
        self.energy_millijoules += other.energy_millijoules
        self.energy_minutes = tuple(map(int.__add__, self.energy_minutes, other.energy_minutes))
        self.weight += other.weight
        return self

    @property
    def known_energy_minutes(self) -> int:
        """mJ × minutes that have an intensity."""
        return sum(self.energy_minutes)

    @property
    def gap_energy_minutes(self) -> int:
        """mJ × minutes that have none."""
        return self.energy_millijoules * MINUTES_PER_HOUR - self.known_energy_minutes

    @property
    def kwh(self) -> Fraction:
        """All of the energy."""
        return Fraction(self.energy_millijoules, MILLIJOULES_PER_KWH)

    @property
    def gap_kwh(self) -> Fraction:
        """The energy without an intensity."""
        return Fraction(self.gap_energy_minutes, MILLIJOULES_PER_KWH * MINUTES_PER_HOUR)

    @property
    def coverage(self) -> Fraction | None:
        """Share of the energy that has an intensity; None without energy."""
        whole = self.energy_millijoules * MINUTES_PER_HOUR
        return Fraction(self.known_energy_minutes, whole) if whole else None

    @property
    def kgco2e(self) -> Fraction | None:
        """Of the energy that has an intensity, and of no other; None when none has."""
        if not self.known_energy_minutes:
            return None
        grams = Fraction(self.weight, MILLIJOULES_PER_KWH * MINUTES_PER_HOUR * MILLIGRAMS_PER_GRAM)
        return grams / GRAMS_PER_KILOGRAM

    @property
    def gco2e_per_kwh(self) -> Fraction | None:
        """Mean intensity, weighted by this energy; None when none of it has any."""
        known = self.known_energy_minutes
        return Fraction(self.weight, known * MILLIGRAMS_PER_GRAM) if known else None

    @property
    def status_mix(self) -> dict[str, float]:
        """Status → share of the energy that has an intensity."""
        known = self.known_energy_minutes
        return {
            status.value: share / known
            for status, share in zip(STATUSES, self.energy_minutes, strict=True)
            if share
        }


@dataclass(frozen=True, slots=True)
class Line:
    """A group that may be shown."""

    key: GroupKey
    machines: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class Ledger:
    """The indicative ledger over a period, and what is not in it."""

    lines: tuple[Line, ...]
    """Memo lines are in no total."""
    withheld: tuple[GroupKey, ...]

    def total(self) -> Sums:
        """Of all lines but memo ones."""
        total = Sums()
        for line in self.lines:
            if not line.key.memo:
                total += line.sums
        return total

    @property
    def machines(self) -> int:
        """Behind the total."""
        return sum(line.machines for line in self.lines if not line.key.memo)


@dataclass(frozen=True, slots=True)
class Hourly:
    """The ledger with what it rests on."""

    ledger: Ledger
    states: tuple[SeriesState, ...]
    """Of the series, in the zones of the sites."""
    hours_from: Mapping[Population, int]
    """Start of the oldest hour still kept of any machine of it, Unix ms: before it the ledger is empty, not zero."""
