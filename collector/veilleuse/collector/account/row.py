# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Rows of a period, in energy: what each is of, its estimate, and what may be told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from veilleuse.collector.account.rooms import RoomFigure
from veilleuse.collector.account.telework import HomeTold
from veilleuse.collector.fleet.estimate import Estimate
from veilleuse.collector.fleet.fleet_inputs import DAY_TYPES, Days
from veilleuse.collector.fleet.observed import Place
from veilleuse.collector.fleet.random_groups import StateSums
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
class DaysCovered:
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
    def of(cls, days: Days) -> DaysCovered:
        """Of one cell."""
        return cls(sum(days), days)

    def __or__(self, other: DaysCovered) -> DaysCovered:
        return DaysCovered(
            max(self.milliseconds, other.milliseconds),
            tuple(map(max, self.by_day_type, other.by_day_type)),
        )


@dataclass(frozen=True, slots=True)
class ClassFigure:
    """One device class of a row: whether, and how surely, it can be compared with another year."""

    estimate: Estimate
    fleet_milliseconds: Days = (0,) * len(DAY_TYPES)
    covered: DaysCovered = DaysCovered()
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
