# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Rows of a period, in energy: what each is of, its estimate, and what may be told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from veilleuse.collector.account.fleet_estimate import Estimate
from veilleuse.collector.account.sample import Place
from veilleuse.collector.account.telework import HomeTold
from veilleuse.collector.inventoried import PowerContext
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

    @property
    def incomplete(self) -> bool:
        """True where the total lacks what a withheld zone's machines measured."""
        return any(not key.memo for key in self.withheld)
