# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Holds the rows of a period, in energy: key, estimate and disclosure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TypeAlias

from veilleuse.collector.account.telework import HomeShare, HomeSplit, PeriodHomeShare
from veilleuse.collector.fleet.estimate import Estimate
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.fleet.random_groups import StateSums
from veilleuse.collector.fleet.rooms import RoomFigure
from veilleuse.collector.fleet.samples import DAY_TYPES, Days, Stratum
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Detail
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import State


@dataclass(frozen=True, slots=True)
class RoomParts:
    """Server-room parts of a row, millijoules; None = not known."""

    it_millijoules: int
    ups_loss_millijoules: int | None
    overhead_millijoules: int | None
    overhead: str
    """Origin of the overhead: measured, pue or not_included."""
    pue_ppm: int | None
    top_down_millijoules: int
    """All IT energy that the rooms' meters measured, to compare with the rows of servers and rooms together.
    """


@dataclass(frozen=True, slots=True)
class CoveredDays:
    """Accounted time that at least k machines of one cell have (for servers, one machine), milliseconds."""

    milliseconds: int = 0
    """Time of the cell with the most."""
    by_day_type: Days = (0,) * len(DAY_TYPES)
    """Greatest time of each day type: cells have calendars of their own."""

    @property
    def days(self) -> float:
        """Days of the period, of any type."""
        return self.milliseconds / MILLISECONDS_PER_DAY

    @classmethod
    def of(cls, days: Days) -> CoveredDays:
        """Return the covered days of one cell."""
        return cls(sum(days), days)

    def __or__(self, other: CoveredDays) -> CoveredDays:
        return CoveredDays(
            max(self.milliseconds, other.milliseconds),
            tuple(map(max, self.by_day_type, other.by_day_type)),
        )


@dataclass(frozen=True, slots=True)
class ClassFigure:
    """One device class of a row, with the inputs of a comparison with another year."""

    estimate: Estimate
    fleet_milliseconds: Days = (0,) * len(DAY_TYPES)
    covered: CoveredDays = CoveredDays()
    """For screens: the covered days of their PCs."""
    is_enough: bool = False
    """True when k machines or more were measured, or one server."""
    deviations: tuple[float, ...] = field(default=(), compare=False)
    """Change of its energy when each group of machines is left out, mJ, unscaled; () where it is not known.
    """
    states_by_group: tuple[StateSums, ...] = field(default=(), compare=False)
    hosts: Mapping[HostId, int] = field(default_factory=dict, compare=False)
    """Its sample and their accounted time, ms, while a report is made:
    it gives the common machines of two years.
    """
    standby: tuple[int, int] = (0, 0)
    """(ms, mJ) of external screens in standby, of the fleet."""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One row before factors: key, estimate and disclosure."""

    key: GroupKey
    estimate: Estimate
    machines: int
    """Observed machines; a total does not count a machine again for its screens."""
    apportioned: bool
    withheld: frozenset[Detail]
    """Details that are not published: METHODS, COVERAGE or DERIVED."""
    states: Mapping[str, Mapping[State, tuple[int, int]]]
    class_energies: Mapping[str, tuple[int, int]]
    """Device class → (fleet milliseconds, millijoules), screens separate: inputs of a decomposition."""
    places: tuple[tuple[Place, int], ...] = ()
    """(place, millijoules) of its parts: contracts are applied to these."""
    room: RoomParts | None = None
    classes: Mapping[str, ClassFigure] = field(default_factory=dict)
    """Device class → its part, with rooms."""
    is_released: bool = False
    """True for a sum of released months: it shows how much was extrapolated, also where it hides methods."""
    is_incomplete: bool = False
    """True for an observed row that lacks machines of its group: nothing published divides their cell."""


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """All rows of one stretch of time."""

    first: date
    end: date
    rows: tuple[FigureRow, ...]
    memo: tuple[FigureRow, ...]
    total: FigureRow | None
    """None where there is neither a fleet nor a machine."""
    withheld: tuple[GroupKey, ...]
    """Zones with too few machines to publish: their measured energy is in no row and no total."""
    homes: tuple[PeriodHomeShare, ...] = ()
    """Shares of laptops' energy at home, where telework days are declared."""
    rooms: tuple[RoomFigure, ...] = ()
    """Rooms without their servers' energy; not yet in a row or total (yearly_rooms)."""
    since: date | None = None
    """Of released months: first day of the first month with a device."""
    declared: frozenset[str] = frozenset()
    """Of released months: classes with energy at a declared power."""

    @property
    def incomplete(self) -> bool:
        """True where the total lacks the measured energy of a withheld zone."""
        return any(not key.memo for key in self.withheld)


@dataclass(frozen=True, slots=True)
class RowSums:
    """Sums of one row, in addition to its estimate."""

    strata: Collection[Stratum]
    machines: int
    """Observed machines."""
    states: Mapping[str, Mapping[State, tuple[int, int]]]
    """Device class → state → (ms, mJ)."""
    apportioned: bool
    hides_methods: bool
    covered: Mapping[str, CoveredDays]
    """Device class → days covered by its machines."""


ClassFigures: TypeAlias = Callable[[Collection[Stratum], Estimate, CoveredDays], ClassFigure]
"""(strata of one class, their estimate, covered days) → the inputs of a comparison."""


def row_key(
    place: Place, device_class: str, dimensions: Collection[str], level: int | None = None
) -> GroupKey:
    """Return the row key of a stratum; `level`: as in GroupKey.coarsen."""
    return GroupKey(
        zone=place.zone,
        population=place.population,
        entity=place.entity,
        site=place.site,
        device_class=device_class,
        power_context=place.power_context,
        perimeter=place.perimeter,
    ).coarsen(dimensions, level)


def home_key(key: GroupKey) -> GroupKey:
    """Return the key of the row that holds a row's part at home."""
    return key._replace(power_context=PowerContext.HOME)


def total_key(strata: Iterable[Stratum]) -> GroupKey:
    """Return the key of a total, with its zone where there is only one."""
    places = [Place.of(stratum) for stratum in strata]
    zones, contexts = {place.zone for place in places}, {place.power_context for place in places}
    return GroupKey(zone=min(zones) if len(zones) == 1 else "", power_context=min(contexts))


def figure_row(key: GroupKey, sums: RowSums, fleet: HomeSplit, class_figure: ClassFigures) -> FigureRow:
    """Build a row; a row at home has the home part of its strata. Raises KeyError for an unknown stratum."""
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
        frozenset({Detail.METHODS}) if sums.hides_methods else frozenset(),
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


def list_home_shares(shares: Mapping[Stratum, HomeShare]) -> tuple[PeriodHomeShare, ...]:
    """Return the declared shares, entity by entity."""
    return tuple(
        sorted(
            {
                PeriodHomeShare(Place.of(stratum).entity, stratum.device_class, one.share, one.declared_by)
                for stratum, one in shares.items()
            }
        )
    )
