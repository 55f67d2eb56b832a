# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines grid intensities over time, for the indicative ledger alone. No I/O.

docs/methodology.md §9. An intensity is never a factor: it is in no official figure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final, NamedTuple

from veilleuse.collector.model.query import GroupKey
from veilleuse.wire.units import (
    GRAMS_PER_KILOGRAM,
    MILLIGRAMS_PER_GRAM,
    MILLIJOULES_PER_KWH,
    MILLISECONDS_PER_HOUR,
    MILLISECONDS_PER_MINUTE,
)
from veilleuse.wire.values import GRID_SERIES, GRID_ZONE
from veilleuse.wire.vocabulary import Population

LABEL: Final = "indicatif, hors bilan"
"""Label of every figure of this ledger, in every language: docs/methodology.md §9."""
HIGHEST_MILLIGRAMS_PER_KWH: Final = 3_000_000
"""3 kgCO2e/kWh: above lignite with losses; a higher value has a wrong unit."""
MINUTES: Final = frozenset({5, 10, 15, 30, 60})
"""Allowed lengths of a value: whole parts of an hour."""
_DATASET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


class IntensityKind(StrEnum):
    """Scope of the grams."""

    CONSUMPTION = "consumption"
    """Emissions of consumption in the zone, imports included."""
    COMBUSTION = "combustion"
    """Emissions of fuel burnt by the zone's power stations alone: without upstream, losses or imports."""


class IntensityStatus(StrEnum):
    """Finality of a value, in rank order: a value replaces its own rank and any lower one."""

    ESTIMATED = "estimated"
    """Estimated by its publisher, in place of an unreadable value."""
    REALTIME = "realtime"
    CONSOLIDATED = "consolidated"

    @property
    def rank(self) -> int:
        """Rank, 0 to 2."""
        return tuple(IntensityStatus).index(self)


class Dataset(NamedTuple):
    """A table of ODRÉ that we read."""

    name: str
    series: str
    kind: IntensityKind
    status: IntensityStatus
    time_field: str
    value_field: str


ODRE_CONSUMPTION: Final = "odre_consumption"
ECO2MIX_COMBUSTION: Final = "eco2mix_combustion"
ELECTRICITY_MAPS: Final = "electricity_maps"
DATASETS: Final = (
    Dataset(
        "part-enr-intensite-ges-conso-tr",
        ODRE_CONSUMPTION,
        IntensityKind.CONSUMPTION,
        IntensityStatus.REALTIME,
        "date_heure_utc",
        "intensite_emissions_conso",
    ),
    Dataset(
        "eco2mix-national-tr",
        ECO2MIX_COMBUSTION,
        IntensityKind.COMBUSTION,
        IntensityStatus.REALTIME,
        "date_heure",
        "taux_co2",
    ),
    Dataset(
        "eco2mix-national-cons-def",
        ECO2MIX_COMBUSTION,
        IntensityKind.COMBUSTION,
        IntensityStatus.CONSOLIDATED,
        "date_heure",
        "taux_co2",
    ),
)
"""Datasets of ODRÉ. The last two are one quantity at two stages;
the first is another quantity, never in one series with them.
"""
BY_DATASET: Final = {one.name: one for one in DATASETS}
ODRE_ZONE: Final = "FR"


class GridIntensity(NamedTuple):
    """One published value. Checked by `checked`."""

    zone: str
    series: str
    dataset: str
    kind: IntensityKind
    status: IntensityStatus
    start_unix_milliseconds: int
    """UTC, at a whole multiple of its length."""
    minutes: int
    """Length; one of MINUTES."""
    milligrams_per_kwh: int
    """mgCO2e per kWh, > 0. Missing values are absent, never zero."""

    @property
    def end_unix_milliseconds(self) -> int:
        """Exclusive."""
        return self.start_unix_milliseconds + self.minutes * MILLISECONDS_PER_MINUTE


def check_value(one: GridIntensity) -> GridIntensity:
    """Return the value. Raises ValueError for an impossible one."""
    if not re.fullmatch(GRID_ZONE, one.zone):
        raise ValueError(f"'{one.zone}' is no grid zone: FR, FR-COR …")
    if not re.fullmatch(GRID_SERIES, one.series) or not _DATASET.fullmatch(one.dataset):
        raise ValueError(f"'{one.series}' of '{one.dataset}': a name of letters, digits, _ . and -")
    if one.minutes not in MINUTES or one.start_unix_milliseconds % (one.minutes * MILLISECONDS_PER_MINUTE):
        raise ValueError(
            f"a value of {one.minutes} min at {one.start_unix_milliseconds}: not a whole part of its hour"
        )
    if not 0 < one.milligrams_per_kwh <= HIGHEST_MILLIGRAMS_PER_KWH:
        raise ValueError(f"{one.milligrams_per_kwh} mg/kWh: above 0, at most {HIGHEST_MILLIGRAMS_PER_KWH}")
    return one


@dataclass(frozen=True, slots=True)
class ReplacedValue:
    """A value that another one replaced."""

    before: GridIntensity
    fetched_unix_milliseconds: int
    replaced_unix_milliseconds: int
    by_dataset: str


@dataclass(frozen=True, slots=True)
class IntensityImport:
    """Result of an import of values."""

    new: int = 0
    replacing: int = 0
    """Values that replaced at least one other."""
    same: int = 0
    outranked: int = 0
    """Left out: a more final value exists."""

    def __add__(self, other: IntensityImport) -> IntensityImport:
        """Sum."""
        return IntensityImport(
            self.new + other.new,
            self.replacing + other.replacing,
            self.same + other.same,
            self.outranked + other.outranked,
        )


@dataclass(frozen=True, slots=True)
class SeriesState:
    """Extent of a series."""

    zone: str
    series: str
    kind: IntensityKind
    dataset: str
    status: IntensityStatus
    oldest_unix_milliseconds: int
    """Start of the oldest value of this status."""
    newest_unix_milliseconds: int
    """End of the newest one."""
    newest_milligrams_per_kwh: int
    fetched_unix_milliseconds: int
    """Import time of the newest one."""


@dataclass(frozen=True, slots=True)
class PollState:
    """Result of a connector's last poll."""

    connector: str
    tried_unix_milliseconds: int
    succeeded_unix_milliseconds: int | None
    """None: never."""
    failures: int
    """Consecutive failures."""
    outcome: str
    """One of OUTCOMES."""
    calls_this_month: int = 0
    """Calls in the UTC month of the last try."""


OUTCOMES: Final = (
    "done",
    "quota",
    "timeout",
    "unreachable",
    "not_trusted",
    "refused",
    "too_long",
    "not_understood",
    "not_configured",
)
"""Outcomes of a poll.

quota: our own or their quota is used up. refused: an answer that is no success. not_configured: the token
file is missing or open to others.
"""
ODRE: Final = "odre"
CONSOLIDATED: Final = "odre_consolidated"
"""ODRÉ's consolidated table, polled once a day; its calls count as ODRÉ's."""
CONNECTORS: Final = (ODRE, CONSOLIDATED, ELECTRICITY_MAPS)


MINUTES_PER_HOUR: Final = MILLISECONDS_PER_HOUR // MILLISECONDS_PER_MINUTE
STATUSES: Final = tuple(IntensityStatus)


class HourIntensity(NamedTuple):
    """Known values of one UTC hour of a grid."""

    milligram_minutes: int
    """Σ mg/kWh × minutes of the hour's values."""
    minutes: tuple[int, ...]
    """Minutes with a value, by status in the order of STATUSES; at most 60 in all."""

    @property
    def known_minutes(self) -> int:
        """Number of minutes with a value, 0 to 60."""
        return sum(self.minutes)


NOTHING: Final = HourIntensity(0, (0,) * len(STATUSES))


@dataclass(slots=True)
class Sums:
    """Sums of a machine or group. The energy of an hour is spread evenly over its minutes."""

    energy_millijoules: int = 0
    energy_minutes: tuple[int, ...] = (0,) * len(STATUSES)
    """mJ × minutes with an intensity, by status; 60 × energy_millijoules when all of it has one."""
    weight: int = 0
    """mJ × minutes × mg/kWh."""

    def add(self, energy_millijoules: int, hour: HourIntensity) -> None:
        """Add the energy of hours of this intensity."""
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
        """mJ × minutes with an intensity."""
        return sum(self.energy_minutes)

    @property
    def gap_energy_minutes(self) -> int:
        """mJ × minutes without one."""
        return self.energy_millijoules * MINUTES_PER_HOUR - self.known_energy_minutes

    @property
    def kwh(self) -> Fraction:
        """All of the energy."""
        return Fraction(self.energy_millijoules, MILLIJOULES_PER_KWH)

    @property
    def gap_kwh(self) -> Fraction:
        """Energy without an intensity."""
        return Fraction(self.gap_energy_minutes, MILLIJOULES_PER_KWH * MINUTES_PER_HOUR)

    @property
    def coverage(self) -> Fraction | None:
        """Share of the energy with an intensity; None without energy."""
        whole = self.energy_millijoules * MINUTES_PER_HOUR
        return Fraction(self.known_energy_minutes, whole) if whole else None

    @property
    def kgco2e(self) -> Fraction | None:
        """Emissions of the energy with an intensity only; None when none has one."""
        if not self.known_energy_minutes:
            return None
        grams = Fraction(self.weight, MILLIJOULES_PER_KWH * MINUTES_PER_HOUR * MILLIGRAMS_PER_GRAM)
        return grams / GRAMS_PER_KILOGRAM

    @property
    def gco2e_per_kwh(self) -> Fraction | None:
        """Mean intensity, weighted by this energy; None when none of it has one."""
        known = self.known_energy_minutes
        return Fraction(self.weight, known * MILLIGRAMS_PER_GRAM) if known else None

    @property
    def status_mix(self) -> dict[str, float]:
        """Status → share of the energy with an intensity."""
        known = self.known_energy_minutes
        return {
            status.value: share / known
            for status, share in zip(STATUSES, self.energy_minutes, strict=True)
            if share
        }


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """A group that may be published."""

    key: GroupKey
    machines: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class Ledger:
    """Indicative ledger over a period, with what it leaves out."""

    lines: tuple[LedgerLine, ...]
    """Lines; memo lines are in no total."""
    withheld: tuple[GroupKey, ...]

    def total(self) -> Sums:
        """Return the total of all lines but memo ones."""
        total = Sums()
        for line in self.lines:
            if not line.key.memo:
                total += line.sums
        return total

    @property
    def machines(self) -> int:
        """Machines in the total."""
        return sum(line.machines for line in self.lines if not line.key.memo)


@dataclass(frozen=True, slots=True)
class Hourly:
    """The ledger with the state of its series."""

    ledger: Ledger
    states: tuple[SeriesState, ...]
    """States of the series, in the zones of the sites."""
    hours_from: Mapping[Population, int]
    """Start of each population's oldest stored hour, Unix ms: before it the ledger is empty, not zero."""
