# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums over machines that are alike: all that the fleet's figure needs of them (pure). docs/methodology.md §6 and §11.

x is what one machine did over the period, by day type: its energies, then the times they are of. Kept are n, Σx and Σxxᵀ, exactly, so
that an open year, made of machines, and a closed one, made of what was kept of them, are one function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add, sub
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.model.calibration import MILLION, Fit
from veilleuse.collector.model.figures import SCREEN_STANDBY_MICROWATTS, EnergySums
from veilleuse.collector.model.months import DayType
from veilleuse.wire.ladder import MEASURED, Method

DAY_TYPES: Final = tuple(DayType)
Days: TypeAlias = tuple[int, ...]
"""One value ≥ 0 per day type, in the order of DAY_TYPES."""

ALWAYS_ON_SHARE: Final = 0.9
"""A machine on for more of its known time never sleeps: ours. Office hours are 30 % of a week."""
AGE_EDGES_YEARS: Final = (3, 5, 8)
"""Age bands of post-stratification: ours; 5 and 8 are I9's."""


class Stratum(NamedTuple):
    """Device class × entity. docs/methodology.md §6."""

    device_class: str
    entity: str


class SampleCell(NamedTuple):
    """What machines of a stratum may differ by: what post-stratification looks at."""

    hardware: str
    age: str
    """As `age_band` says."""


def age_band(age_years: float | None, refurbished: bool | None) -> str:
    """Name of an age band; a refurbished machine was in service before, so its age says little and it has a band of its own."""
    if refurbished:
        return "refurbished"
    if age_years is None:
        return "unknown"
    return str(sum(age_years >= edge for edge in AGE_EDGES_YEARS))


@dataclass(frozen=True, slots=True)
class SampleMachine:
    """One machine that was observed in the period.

    Raises ValueError where energy by day type is not energy by method and imputed energy, or a value is negative.
    """

    stratum: Stratum
    hardware: str
    """Vendor and model, as the inventory names it; empty: not known."""
    energy_millijoules: Days
    """At the wall, imputed energy within."""
    accounted_milliseconds: Days
    """Time that this energy is of: derived or imputed. docs/methodology.md §6's m."""
    methods: Mapping[Method, EnergySums]
    """Derived energy, its time and its k = 1 uncertainty, summed linearly."""
    imputed_millijoules: int = 0
    observed_milliseconds: int = 0
    """Time of known state, of all day types: coverage of states."""
    on_milliseconds: int = 0
    on_millijoules: int = 0
    """Within `energy_millijoules`, of the states that are on."""
    unobserved_milliseconds: int = 0
    """Time between its first and its last day that nothing is known of, and that nothing stands in for."""
    counters_milliseconds: int = 0
    counters_millijoules: int = 0
    """What a wall model multiplied: docs/methodology.md §6's g = (Σ t_on, Σ C)."""
    age_years: float | None = None
    refurbished: bool | None = None

    def __post_init__(self) -> None:
        if len(self.energy_millijoules) != len(DAY_TYPES) or len(self.accounted_milliseconds) != len(
            DAY_TYPES
        ):
            raise ValueError(f"one value for each of {', '.join(DAY_TYPES)}")
        known = sum(sums.energy_millijoules for sums in self.methods.values()) + self.imputed_millijoules
        if known != sum(self.energy_millijoules):
            raise ValueError(
                f"{known} mJ by method and imputed, {sum(self.energy_millijoules)} mJ by day type"
            )
        if min(*self.energy_millijoules, *self.accounted_milliseconds, self.imputed_millijoules) < 0:
            raise ValueError("an energy or a time is negative")

    @property
    def counts(self) -> bool:
        """False: no energy of it is known, for no time; it is not of the sample."""
        return any(self.accounted_milliseconds)

    @property
    def always_on(self) -> bool:
        """On for more than ALWAYS_ON_SHARE of its known time."""
        return self.on_milliseconds > ALWAYS_ON_SHARE * self.observed_milliseconds

    @property
    def cell(self) -> SampleCell:
        """What it is, for post-stratification."""
        return SampleCell(self.hardware, age_band(self.age_years, self.refurbished))

    @property
    def derived_milliseconds(self) -> int:
        """Time with derived energy: coverage of energy."""
        return sum(sums.milliseconds for sums in self.methods.values())

    @property
    def measured_millijoules(self) -> int:
        """Metered, battery and counter_calibrated. docs/methodology.md §1."""
        return sum(sums.energy_millijoules for method, sums in self.methods.items() if method in MEASURED)


@dataclass(frozen=True, slots=True)
class InService:
    """What the inventory says of one stratum. Raises ValueError for what is negative, or not by day type."""

    stratum: Stratum
    machines: int
    """Machines in service at some time of the period. docs/methodology.md §6's N."""
    milliseconds: Days
    """In-service machine time by day type. docs/methodology.md §6's M. Late joiners and machines that left count for their days."""
    cells: Mapping[SampleCell, int] = field(default_factory=dict)
    """Machines by model and age; empty: not known."""
    standby_milliseconds: int = 0
    """Of external screens: display-time in service while they are not on. docs/methodology.md §6's rest of N·T."""
    default_milliseconds: Days = (0,) * len(DAY_TYPES)
    """Machine time at the class default beside `milliseconds`: no sample may stand for it."""

    def __post_init__(self) -> None:
        if len(self.milliseconds) != len(DAY_TYPES) or len(self.default_milliseconds) != len(DAY_TYPES):
            raise ValueError(f"one value for each of {', '.join(DAY_TYPES)}")
        if min(self.machines, *self.milliseconds, *self.default_milliseconds, self.standby_milliseconds) < 0:
            raise ValueError("a number of machines or a time is negative")

    @property
    def standby_millijoules(self) -> int:
        """What they draw meanwhile, to the nearest integer."""
        return (SCREEN_STANDBY_MICROWATTS * self.standby_milliseconds + MILLION // 2) // MILLION


@dataclass(frozen=True, slots=True)
class CalibratedWall:
    """The wall line in force for a hardware model."""

    fit: Fit
    meter: str
    """What measured: its gain error is common to all fits made with it."""


HardwareModel: TypeAlias = tuple[str, str]
"""(device class, hardware)."""


DAY_TYPE_COUNT: Final = len(DAY_TYPES)
WIDTH: Final = 2 * DAY_TYPE_COUNT
PAIRS: Final = tuple((i, j) for i in range(WIDTH) for j in range(i, WIDTH))
"""Places of Σxxᵀ: its upper triangle, row by row."""


class Key(NamedTuple):
    """What machines that are alike have in common."""

    stratum: Stratum
    cell: SampleCell
    always_on: bool


@dataclass(slots=True)
class Alike:
    """Of them. Integers: machines, millijoules, milliseconds, and their products."""

    n: int = 0
    """Of the sample: with energy for some time."""
    sums: list[int] = field(default_factory=lambda: [0] * WIDTH)
    """Σx of these."""
    products: list[int] = field(default_factory=lambda: [0] * len(PAIRS))
    """Σxxᵀ of these."""
    energy_millijoules: int = 0
    """Of all, with those that are not of the sample; so is what follows."""
    methods: dict[Method, EnergySums] = field(default_factory=dict)
    imputed_millijoules: int = 0
    observed_milliseconds: int = 0
    on_milliseconds: int = 0
    on_millijoules: int = 0
    unobserved_milliseconds: int = 0
    counters_milliseconds: int = 0
    counters_millijoules: int = 0

    def add(self, machine: SampleMachine) -> None:
        """One machine."""
        if machine.counts:
            x = (*machine.energy_millijoules, *machine.accounted_milliseconds)
            self.n += 1
            self.sums = list(map(add, self.sums, x))
            self.products = [
                product + x[i] * x[j] for product, (i, j) in zip(self.products, PAIRS, strict=True)
            ]
        self.add_known(machine)

    def add_known(self, machine: SampleMachine) -> None:
        """All of it but its part in the sample; or of several at once."""
        self.energy_millijoules += sum(machine.energy_millijoules)
        self._more_methods(machine.methods)
        self.imputed_millijoules += machine.imputed_millijoules
        self.observed_milliseconds += machine.observed_milliseconds
        self.on_milliseconds += machine.on_milliseconds
        self.on_millijoules += machine.on_millijoules
        self.unobserved_milliseconds += machine.unobserved_milliseconds
        self.counters_milliseconds += machine.counters_milliseconds
        self.counters_millijoules += machine.counters_millijoules

    def merge(self, other: Alike) -> None:
        """All of another one."""
        self.n += other.n
        self.sums = list(map(add, self.sums, other.sums))
        self.products = list(map(add, self.products, other.products))
        self.energy_millijoules += other.energy_millijoules
        self._more_methods(other.methods)
        self.imputed_millijoules += other.imputed_millijoules
        self.observed_milliseconds += other.observed_milliseconds
        self.on_milliseconds += other.on_milliseconds
        self.on_millijoules += other.on_millijoules
        self.unobserved_milliseconds += other.unobserved_milliseconds
        self.counters_milliseconds += other.counters_milliseconds
        self.counters_millijoules += other.counters_millijoules

    def without(self, other: Alike) -> Alike:
        """The sample less some machines of it: n and both sums alone."""
        return Alike(
            self.n - other.n,
            list(map(sub, self.sums, other.sums)),
            list(map(sub, self.products, other.products)),
        )

    @property
    def energies(self) -> Days:
        """Σ of energy by day type, of the sample."""
        return tuple(self.sums[:DAY_TYPE_COUNT])

    @property
    def times(self) -> Days:
        """Σ of accounted time by day type."""
        return tuple(self.sums[DAY_TYPE_COUNT:])

    @property
    def derived_milliseconds(self) -> int:
        """Time with derived energy."""
        return sum(sums.milliseconds for sums in self.methods.values())

    @property
    def measured_millijoules(self) -> int:
        """Metered, battery and counter_calibrated."""
        return sum(sums.energy_millijoules for method, sums in self.methods.items() if method in MEASURED)

    def squares(self, energies: Sequence[float], times: Sequence[float]) -> float:
        """Σ over the sample of (energies·E + times·t)², ≥ 0: coefficients by day type.

        Whole numbers throughout: such a sum is a small difference of large ones. Rounded once.
        """
        ratios = [value.as_integer_ratio() for value in (*energies, *times)]
        below = max(denominator for _, denominator in ratios)  # powers of two, all of them
        weights = [numerator * (below // denominator) for numerator, denominator in ratios]
        whole = sum(
            weights[i] * weights[j] * product * (1 if i == j else 2)
            for product, (i, j) in zip(self.products, PAIRS, strict=True)
            if product
        )
        return whole / (below * below)

    def _more_methods(self, methods: Mapping[Method, EnergySums]) -> None:
        for method, sums in methods.items():
            before = self.methods.get(method)
            self.methods[method] = sums if before is None else before + sums


@dataclass(slots=True)
class Sample:
    """The machines that were observed."""

    groups: dict[Key, Alike] = field(default_factory=dict)
    always_on: dict[str, Alike | None] = field(default_factory=dict)
    """Of a class whose groups do not tell machines that are always on from others (none of them is called so), because fewer than k
    stand somewhere: those of the whole class that are; None where they are too few to be told at all."""
    stands_for: dict[str, str] = field(default_factory=dict)
    """Device class whose measured machines are all in strata of another name → that name: their mean stands for its unmeasured ones."""

    @classmethod
    def of(cls, machines: Iterable[SampleMachine]) -> Sample:
        """Each in the group of those that are like it."""
        found = cls()
        for machine in machines:
            found.add(machine)
        return found

    def add(self, machine: SampleMachine) -> None:
        """One more."""
        key = Key(machine.stratum, machine.cell, machine.always_on)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Alike()
        group.add(machine)


def summed(groups: Iterable[Alike]) -> Alike:
    """All of several."""
    found = Alike()
    for group in groups:
        found.merge(group)
    return found
