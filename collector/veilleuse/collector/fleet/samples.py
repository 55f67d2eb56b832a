# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums similar machines: all that the fleet estimate needs of them (pure). docs/methodology.md §6 and §11.

x is the period of one machine by day type: its energies, then the times of these energies. Each group holds
n, Σx and Σxxᵀ, exactly. An open year is computed from machines and a closed year from stored sums, both with
the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add, sub
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.model.calibration import MILLION, Fit
from veilleuse.collector.model.figures import SCREEN_STANDBY_MICROWATTS
from veilleuse.collector.model.months import DayType
from veilleuse.collector.model.sums import EnergySums
from veilleuse.wire.ladder import MEASURED, Method

DAY_TYPES: Final = tuple(DayType)
Days: TypeAlias = tuple[int, ...]
"""One value ≥ 0 per day type, in the order of DAY_TYPES."""

ALWAYS_ON_SHARE: Final = 0.9
"""Share of known time above which a machine counts as always on: our choice. Office hours are 30 % of a week.
"""
AGE_EDGES_YEARS: Final = (3, 5, 8)
"""Age bands of post-stratification: our choice; 5 and 8 are I9's."""


class Stratum(NamedTuple):
    """Device class × entity. docs/methodology.md §6."""

    device_class: str
    entity: str


class SampleCell(NamedTuple):
    """Cell of post-stratification: the properties in which machines of a stratum may differ."""

    hardware: str
    age: str
    """Name of the age band, from `age_band`."""


def age_band(age_years: float | None, refurbished: bool | None) -> str:
    """Return the name of an age band.

    Refurbished machines have a band of their own: they were in service before, so the age says little.
    """
    if refurbished:
        return "refurbished"
    if age_years is None:
        return "unknown"
    return str(sum(age_years >= edge for edge in AGE_EDGES_YEARS))


@dataclass(frozen=True, slots=True)
class SampleMachine:
    """One machine that was observed in the period.

    Raises ValueError for a negative value, or where energy by day type is not energy by method plus imputed
    energy.
    """

    stratum: Stratum
    hardware: str
    """Vendor and model, as the inventory names it; empty: not known."""
    energy_millijoules: Days
    """Energy at the wall, with imputed energy."""
    accounted_milliseconds: Days
    """Time of this energy, derived or imputed. docs/methodology.md §6's m."""
    methods: Mapping[Method, EnergySums]
    """Derived energy, its time and its k = 1 uncertainty, summed linearly."""
    imputed_millijoules: int = 0
    observed_milliseconds: int = 0
    """Time of known state, over all day types: the numerator of the coverage of states."""
    on_milliseconds: int = 0
    on_millijoules: int = 0
    """Part of `energy_millijoules` in the states that are on."""
    unobserved_milliseconds: int = 0
    """Time between its first and its last day without data and without imputation."""
    counters_milliseconds: int = 0
    counters_millijoules: int = 0
    """Input of a wall model: docs/methodology.md §6's g = (Σ t_on, Σ C)."""
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
        """False: no energy is known for any time; the machine is not in the sample."""
        return any(self.accounted_milliseconds)

    @property
    def always_on(self) -> bool:
        """True when the machine is on for more than ALWAYS_ON_SHARE of its known time."""
        return self.on_milliseconds > ALWAYS_ON_SHARE * self.observed_milliseconds

    @property
    def cell(self) -> SampleCell:
        """Cell of the machine for post-stratification."""
        return SampleCell(self.hardware, age_band(self.age_years, self.refurbished))

    @property
    def derived_milliseconds(self) -> int:
        """Time with derived energy: the numerator of the coverage of energy."""
        return sum(sums.milliseconds for sums in self.methods.values())

    @property
    def measured_millijoules(self) -> int:
        """Metered, battery and counter_calibrated energy. docs/methodology.md §1."""
        return sum(sums.energy_millijoules for method, sums in self.methods.items() if method in MEASURED)


@dataclass(frozen=True, slots=True)
class InService:
    """Fleet of one stratum in the inventory. Raises ValueError for a negative value, or a length other than
    DAY_TYPES.
    """

    stratum: Stratum
    machines: int
    """Machines in service at some time of the period. docs/methodology.md §6's N."""
    milliseconds: Days
    """Machine time in service by day type, docs/methodology.md §6's M.
    Machines that join late or leave count for their days.
    """
    cells: Mapping[SampleCell, int] = field(default_factory=dict)
    """Machines by model and age; empty: not known."""
    standby_milliseconds: int = 0
    """Time in service of external screens while they are not on:
    the rest of N·T in docs/methodology.md §1.
    """
    default_milliseconds: Days = (0,) * len(DAY_TYPES)
    """Machine time at the class default, in addition to `milliseconds`: no sample represents it."""

    def __post_init__(self) -> None:
        if len(self.milliseconds) != len(DAY_TYPES) or len(self.default_milliseconds) != len(DAY_TYPES):
            raise ValueError(f"one value for each of {', '.join(DAY_TYPES)}")
        if min(self.machines, *self.milliseconds, *self.default_milliseconds, self.standby_milliseconds) < 0:
            raise ValueError("a number of machines or a time is negative")

    @property
    def standby_millijoules(self) -> int:
        """Standby energy of the screens, to the nearest millijoule."""
        return (SCREEN_STANDBY_MICROWATTS * self.standby_milliseconds + MILLION // 2) // MILLION


@dataclass(frozen=True, slots=True)
class CalibratedWall:
    """Calibrated wall model in force for a hardware model."""

    fit: Fit
    meter: str
    """Meter of the calibration: its gain error is common to all fits made with it."""


HardwareModel: TypeAlias = tuple[str, str]
"""(device class, hardware)."""


DAY_TYPE_COUNT: Final = len(DAY_TYPES)
WIDTH: Final = 2 * DAY_TYPE_COUNT
PAIRS: Final = tuple((i, j) for i in range(WIDTH) for j in range(i, WIDTH))
"""Places of Σxxᵀ: its upper triangle, row by row."""


class Key(NamedTuple):
    """Common properties of similar machines."""

    stratum: Stratum
    cell: SampleCell
    always_on: bool


@dataclass(slots=True)
class Alike:
    """Sums of similar machines. Integers: machines, millijoules, milliseconds, and their products."""

    n: int = 0
    """Machines of the sample: with energy for some time."""
    sums: list[int] = field(default_factory=lambda: [0] * WIDTH)
    """Σx of the sample."""
    products: list[int] = field(default_factory=lambda: [0] * len(PAIRS))
    """Σxxᵀ of the sample."""
    energy_millijoules: int = 0
    """Energy of all machines, including those outside the sample; the fields below likewise."""
    methods: dict[Method, EnergySums] = field(default_factory=dict)
    imputed_millijoules: int = 0
    observed_milliseconds: int = 0
    on_milliseconds: int = 0
    on_millijoules: int = 0
    unobserved_milliseconds: int = 0
    counters_milliseconds: int = 0
    counters_millijoules: int = 0

    def add(self, machine: SampleMachine) -> None:
        """Add one machine."""
        if machine.counts:
            x = (*machine.energy_millijoules, *machine.accounted_milliseconds)
            self.n += 1
            self.sums = list(map(add, self.sums, x))
            self.products = [
                product + x[i] * x[j] for product, (i, j) in zip(self.products, PAIRS, strict=True)
            ]
        self.add_known(machine)

    def add_known(self, machine: SampleMachine) -> None:
        """Add the sums outside n, Σx and Σxxᵀ; also of several machines at once."""
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
        """Add all sums of another group."""
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
        """Return the sample without some of its machines: only n and both sums."""
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
        """Σ of accounted time by day type, of the sample."""
        return tuple(self.sums[DAY_TYPE_COUNT:])

    @property
    def derived_milliseconds(self) -> int:
        """Time with derived energy."""
        return sum(sums.milliseconds for sums in self.methods.values())

    @property
    def measured_millijoules(self) -> int:
        """Metered, battery and counter_calibrated energy."""
        return sum(sums.energy_millijoules for method, sums in self.methods.items() if method in MEASURED)

    def squares(self, energies: Sequence[float], times: Sequence[float]) -> float:
        """Return Σ over the sample of (energies·E + times·t)², ≥ 0; the coefficients are by day type.

        Such a sum is a small difference of large ones: it is computed in integers and rounded once.
        """
        ratios = [value.as_integer_ratio() for value in (*energies, *times)]
        below = max(denominator for _, denominator in ratios)  # powers of two
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
    """Observed machines, grouped by key."""

    groups: dict[Key, Alike] = field(default_factory=dict)
    always_on: dict[str, Alike | None] = field(default_factory=dict)
    """Machines always on, of a whole class whose groups do not separate them because a place has fewer than
    k.

    No group of such a class is called always on. None: they are too few to publish at all.
    """
    stands_for: dict[str, str] = field(default_factory=dict)
    """Device class whose measured machines are all in strata of another name → that name.
    Its mean is used for the unmeasured machines.
    """

    @classmethod
    def of(cls, machines: Iterable[SampleMachine]) -> Sample:
        """Build the sample: each machine in the group of its key."""
        found = cls()
        for machine in machines:
            found.add(machine)
        return found

    def add(self, machine: SampleMachine) -> None:
        """Add one machine."""
        key = Key(machine.stratum, machine.cell, machine.always_on)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Alike()
        group.add(machine)


def sum_groups(groups: Iterable[Alike]) -> Alike:
    """Return the sum of several groups."""
    found = Alike()
    for group in groups:
        found.merge(group)
    return found
