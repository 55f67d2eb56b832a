# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the permanent statistics of a closed year: sums over ten machines or more, no machine (pure).
docs/methodology.md §11; decision 0039.

Each cell (place, class, hardware, age) has n, Σv by day type and band, and Σwwᵀ. Here v are the columns of
vectors, and w is one machine's year stacked by day type. Wall and load models are linear in w, so the year
and its variance can be derived again under another model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

from veilleuse.collector.account.telework import HomeShare
from veilleuse.collector.fleet.random_groups import Groups
from veilleuse.collector.fleet.rooms import RoomFigure
from veilleuse.collector.fleet.samples import Alike, Days, InService, SampleCell, Stratum
from veilleuse.collector.model.months import COLUMNS, PLACE, SCREEN_COLUMNS, DayType, Vector
from veilleuse.collector.model.query import DEFAULT_PERIMETERS, Perimeters
from veilleuse.collector.model.records import HostId
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, State, Supply

_METHOD_PLACES: Final = [
    tuple(
        PLACE[f"{method}_{what}"]
        for what in ("milliseconds", "energy_millijoules", "uncertainty_millijoules")
    )
    for method in Method
]
_ALL_AS: Final = Method.LOAD_MODELLED
"""Method that replaces all where methods may not be separate: none of its energy counts as measured."""

_MAINS: Final = (Supply.AC, Supply.UNKNOWN)
_BY_COUNTERS: Final = (Method.COUNTER_CALIBRATED, Method.COUNTER_MODELLED)
_BY_LOAD: Final = (Method.LOAD_MODELLED, Method.CLASS_DEFAULT)


def _time(state: State, supplies: Sequence[Supply]) -> tuple[str, ...]:
    return tuple(f"{state}_{supply}_milliseconds" for supply in supplies)


W_OF_MACHINES: Final[Mapping[str, tuple[str, ...]]] = {
    "energy_millijoules": (
        *(f"{method}_energy_millijoules" for method in Method),
        "imputed_energy_millijoules",
    ),
    "accounted_milliseconds": (*(f"{method}_milliseconds" for method in Method), "imputed_milliseconds"),
    "counters_energy_millijoules": ("counters_energy_millijoules",),
    "counters_covered_milliseconds": ("counters_covered_milliseconds",),
    "by_counters_energy_millijoules": tuple(f"{method}_energy_millijoules" for method in _BY_COUNTERS),
    "by_load_energy_millijoules": tuple(f"{method}_energy_millijoules" for method in _BY_LOAD),
    "imputed_energy_millijoules": ("imputed_energy_millijoules",),
    "on_active_mains_milliseconds": _time(State.ON_ACTIVE, _MAINS),
    "on_idle_mains_milliseconds": _time(State.ON_IDLE, _MAINS),
    "on_active_battery_milliseconds": _time(State.ON_ACTIVE, (Supply.BATTERY,)),
    "on_idle_battery_milliseconds": _time(State.ON_IDLE, (Supply.BATTERY,)),
    "asleep_milliseconds": _time(State.ASLEEP, tuple(Supply)),
    "off_milliseconds": _time(State.OFF, tuple(Supply)),
}
"""Component of w → the columns that it sums, over all bands.
Metered and battery energy is the rest of the energy.
"""
W: Final = tuple(W_OF_MACHINES)
W_OF_SCREENS: Final[Mapping[str, tuple[str, ...]]] = dict.fromkeys(W, ()) | {
    "energy_millijoules": ("screens_energy_millijoules",),
    "accounted_milliseconds": ("screens_milliseconds",),
    "by_load_energy_millijoules": ("screens_energy_millijoules",),
}
"""Components of w for the external screens of a machine."""
DAY_TYPES: Final = tuple(DayType)
STACKED: Final = len(W) * len(DAY_TYPES)
"""Length of w: day type by day type."""
SCREENS: Final = (PLACE[SCREEN_COLUMNS[0]], PLACE[SCREEN_COLUMNS[-1]] + 1)
"""Places of the columns of screens: [first, end)."""
assert COLUMNS[slice(*SCREENS)] == SCREEN_COLUMNS, "they stand together"
X: Final = ("energy_millijoules", "accounted_milliseconds")
"""Components that the estimator multiplies."""
_X_PLACES: Final = tuple(at * len(W) + W.index(name) for name in X for at in range(len(DAY_TYPES)))
_X_COLUMNS: Final = tuple(
    tuple(PLACE[column] for column in (*W_OF_MACHINES[name], *W_OF_SCREENS[name])) for name in X
)
"""Columns of machines and screens: neither has the other's."""


def triangle(i: int, j: int) -> int:
    """Return the place of the product of components i ≤ j in the upper triangle, row by row."""
    return i * STACKED - i * (i - 1) // 2 + j - i


def sample_of(n: int, sums: Mapping[tuple[DayType, Band], Vector], products: Mapping[int, int]) -> Alike:
    """Return the estimator's sums of a cell's sample: x from w, as in fleet.samples."""
    found = Alike(n)
    found.sums = [
        sum(vector[place] for (at, _), vector in sums.items() if at == kind for place in columns)
        for columns in _X_COLUMNS
        for kind in DAY_TYPES
    ]
    found.products = [
        products.get(triangle(*sorted((_X_PLACES[i], _X_PLACES[j]))), 0)
        for i in range(len(_X_PLACES))
        for j in range(i, len(_X_PLACES))
    ]
    return found


class Withheld(NamedTuple):
    """A zone with fewer than k machines: its data are not stored, its machines are in the fleet."""

    zone: str
    memo: bool


@dataclass(frozen=True, slots=True)
class StatisticsCell:
    """Statistics of one cell: k machines or more, except servers."""

    stratum: Stratum
    cell: SampleCell
    always_on: bool
    memo: bool
    """True for virtual machines."""
    machines: int
    """Observed machines; for screens, the machines they belong to."""
    n: int
    """Machines of the sample: with energy for some time."""
    apportioned: bool
    methods_hidden: bool
    """Fewer than k machines were measured or modelled: all methods are summed as one."""
    sums: Mapping[tuple[DayType, Band], Vector]
    """Σv."""
    products: Mapping[int, int]
    """Σwwᵀ of the sample: place in the triangle → value; an absent place is 0."""
    days_milliseconds: Days | None = None
    """Mean accounted time by day type of the k machines with the most (one server).

    None for a year stored before this field existed.
    """


@dataclass(frozen=True, slots=True)
class YearStatistics:
    """Statistics of a year."""

    first: date
    end: date
    """Exclusive."""
    k: int
    cells: tuple[StatisticsCell, ...]
    fleet: tuple[InService, ...]
    always_on: Mapping[str, Alike | None] = field(default_factory=dict)
    """Classes whose cells do not separate machines always on; see fleet.samples.Sample."""
    rooms: tuple[RoomFigure, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    homes: Mapping[Stratum, HomeShare] = field(default_factory=dict)
    """Share of laptops at home, by merged stratum.

    Several merged strata are weighted by their fleet at the class defaults: by inventory and declarations,
    not by machines.
    """
    stands_for: Mapping[str, str] = field(default_factory=dict)
    """See fleet.samples.Sample."""
    moved: Mapping[tuple[Stratum, ...], int] = field(default_factory=dict)
    """Strata in which one machine was measured, one for each of its cells → number of such machines."""
    perimeters: Perimeters = DEFAULT_PERIMETERS
    """Those of the year when it was reduced; each stratum is in one, or merged from several."""
    groups: Groups = field(default_factory=Groups, compare=False)
    """Random groups while a report is made: never written, and empty for a closed year (random_groups)."""


def longest_days(times: Mapping[HostId, Days], k: int) -> Days:
    """Return the mean time by day type of the k machines with the most; 0 with fewer than k."""
    by_day_type = [sorted(column, reverse=True)[:k] for column in zip(*times.values(), strict=True)]
    return tuple(sum(column) // k if len(column) == k else 0 for column in by_day_type) or (0,) * len(
        DAY_TYPES
    )


def as_one_method(vector: Vector) -> Vector:
    """Sum all methods into one."""
    made = list(vector)
    target = _METHOD_PLACES[list(Method).index(_ALL_AS)]
    for part, into in enumerate(target):
        whole = sum(vector[places[part]] for places in _METHOD_PLACES)
        for places in _METHOD_PLACES:
            made[places[part]] = 0
        made[into] = whole
    return tuple(made)
