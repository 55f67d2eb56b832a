# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Rows of a period, in energy: what each is of, its estimate, and what may be told of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final, TypeAlias

from veilleuse.collector.account.telework import HomeShare, HomeSplit, HomeTold
from veilleuse.collector.fleet.estimate import Estimate
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.fleet.random_groups import StateSums
from veilleuse.collector.fleet.rooms import RoomFigure
from veilleuse.collector.fleet.samples import DAY_TYPES, Days, Stratum
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.records import HostId
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import Population, State

DIMENSIONS: Final = ("entity", "site", "population", "device_class", "year", "month")
"""What --group-by takes. Year, zone, population and power context always divide: a row has one factor, one item of the bilan
carbone and one rule of disclosure."""


@dataclass(frozen=True, slots=True)
class RowKey:
    """What a row is of. A dimension that was not asked for is None."""

    zone: str
    population: Population | None
    power_context: PowerContext
    entity: str | None = None
    site: str | None = None
    device_class: str | None = None
    autres: bool = False
    """True of the row that holds the groups too small to be shown."""
    memo: bool = False
    """Virtual machines: in no total."""


@dataclass(frozen=True, slots=True)
class RoomParts:
    """What a row has of server rooms, millijoules; None = not known."""

    it_millijoules: int
    ups_loss_millijoules: int | None
    overhead_millijoules: int | None
    overhead: str
    """measured, pue or not_included."""
    pue_ppm: int | None
    top_down_millijoules: int
    """All IT that the rooms' meters saw: to be held against the servers' rows and the room's together."""


@dataclass(frozen=True, slots=True)
class CoveredDays:
    """Time that k machines of one cell have at least, one of servers: accounted, milliseconds."""

    milliseconds: int = 0
    """Of the cell that has most."""
    by_day_type: Days = (0,) * len(DAY_TYPES)
    """The most of each day type: cells have calendars of their own."""

    @property
    def days(self) -> float:
        """Days of the period, of any type."""
        return self.milliseconds / MILLISECONDS_PER_DAY

    @classmethod
    def of(cls, days: Days) -> CoveredDays:
        """Of one cell."""
        return cls(sum(days), days)

    def __or__(self, other: CoveredDays) -> CoveredDays:
        return CoveredDays(
            max(self.milliseconds, other.milliseconds),
            tuple(map(max, self.by_day_type, other.by_day_type)),
        )


@dataclass(frozen=True, slots=True)
class ClassFigure:
    """One device class of a row: whether, and how surely, it can be compared with another year."""

    estimate: Estimate
    fleet_milliseconds: Days = (0,) * len(DAY_TYPES)
    covered: CoveredDays = CoveredDays()
    """Of screens, by the PCs that they hang on."""
    is_enough: bool = False
    """k machines or more were measured, or one server."""
    deviations: tuple[float, ...] = field(default=(), compare=False)
    """How its energy moves when a group of machines is left out, millijoules, unscaled; () where that is not known."""
    states_by_group: tuple[StateSums, ...] = field(default=(), compare=False)
    hosts: Mapping[HostId, int] = field(default_factory=dict, compare=False)
    """Its sample and their accounted time, ms, while a report is made: which machines two years have in common."""
    standby: tuple[int, int] = (0, 0)
    """(ms, mJ) of external screens that are not on, of the fleet."""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One row before factors: what it is of, its estimate, and what may be told of it."""

    key: RowKey
    estimate: Estimate
    machines: int
    """That were observed; a total counts none twice for its screens."""
    apportioned: bool
    hides_methods: bool
    states: Mapping[str, Mapping[State, tuple[int, int]]]
    class_energies: Mapping[str, tuple[int, int]]
    """Device class → (fleet milliseconds, millijoules), screens apart: what a change is told by."""
    places: tuple[tuple[Place, int], ...] = ()
    """(where, millijoules) of its parts: what contracts are applied to."""
    room: RoomParts | None = None
    classes: Mapping[str, ClassFigure] = field(default_factory=dict)
    """Device class → its part, rooms' too."""


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """All rows of one stretch."""

    first: date
    end: date
    rows: tuple[FigureRow, ...]
    memo: tuple[FigureRow, ...]
    total: FigureRow | None
    """None where there is neither a fleet nor a machine."""
    withheld: tuple[RowKey, ...]
    """Zones with too few machines to be shown at all: what was measured of these is in no row and no total."""
    homes: tuple[HomeTold, ...] = ()
    """Shares of laptops' energy at home, where telework days are declared."""
    rooms: tuple[RoomFigure, ...] = ()
    """Without what their servers take; in no row and no total yet (yearly_rooms)."""

    @property
    def incomplete(self) -> bool:
        """True where the total lacks what a withheld zone's machines measured."""
        return any(not key.memo for key in self.withheld)


@dataclass(frozen=True, slots=True)
class RowSums:
    """Of one row, beside its estimate."""

    strata: Collection[Stratum]
    machines: int
    """That were observed."""
    states: Mapping[str, Mapping[State, tuple[int, int]]]
    """Device class → state → (ms, mJ)."""
    apportioned: bool
    hides_methods: bool
    covered: Mapping[str, CoveredDays]
    """Device class → what its machines cover."""


ClassFigures: TypeAlias = Callable[[Collection[Stratum], Estimate, CoveredDays], ClassFigure]
"""(strata of one class, their estimate, what is covered of it) → what it can be compared by."""


def row_key(place: Place, device_class: str, dimensions: Collection[str]) -> RowKey:
    """The row that a stratum is of."""
    return RowKey(
        place.zone,
        place.population,
        place.power_context,
        entity=place.entity if "entity" in dimensions else None,
        site=place.site if "site" in dimensions else None,
        device_class=device_class if "device_class" in dimensions else None,
    )


def home_key(key: RowKey) -> RowKey:
    """Key of the row that holds another's part at home."""
    return replace(key, power_context=PowerContext.HOME)


def total_key(strata: Iterable[Stratum]) -> RowKey:
    """Of a total: its zone where there is but one."""
    places = [Place.of(stratum) for stratum in strata]
    zones, contexts = {place.zone for place in places}, {place.power_context for place in places}
    return RowKey(min(zones) if len(zones) == 1 else "", None, min(contexts))


def figure_row(key: RowKey, sums: RowSums, fleet: HomeSplit, class_figure: ClassFigures) -> FigureRow:
    """A row at home has that part of the strata that have a share. Raises KeyError for a stratum that the fleet has not."""
    at_home = key.power_context is PowerContext.HOME
    by_class: defaultdict[str, list[Stratum]] = defaultdict(list)
    for stratum in sums.strata:
        by_class[stratum.device_class].append(stratum)
    of_classes = {
        name: fleet.of(strata, at_home=at_home)
        for name, strata in sorted(by_class.items())
        if len(by_class) > 1
    }
    whole = fleet.of(sums.strata, at_home=at_home)
    of_classes = of_classes or dict.fromkeys(by_class, whole)
    return FigureRow(
        key,
        whole,
        sums.machines,
        sums.apportioned,
        sums.hides_methods,
        sums.states,
        {
            name: (estimate.fleet_milliseconds, estimate.energy_millijoules)
            for name, estimate in of_classes.items()
        },
        tuple(
            (fleet.place(stratum, at_home=at_home), fleet.energy_millijoules(stratum, at_home=at_home))
            for stratum in sorted(sums.strata)
        ),
        classes={
            name: class_figure(by_class[name], estimate, sums.covered.get(name, CoveredDays()))
            for name, estimate in of_classes.items()
        },
    )


def row_order(row: FigureRow) -> tuple[str, str, str, str, str, str, bool]:
    """By what a row is of."""
    key = row.key
    words = (key.entity or "", key.site or "", str(key.population or ""), key.device_class or "")
    return (*words, key.zone, key.power_context, key.autres)


def homes_told(shares: Mapping[Stratum, HomeShare]) -> tuple[HomeTold, ...]:
    """What was declared, entity by entity."""
    return tuple(
        sorted(
            {
                HomeTold(Place.of(stratum).entity, stratum.device_class, one.share, one.declared_by)
                for stratum, one in shares.items()
            }
        )
    )
