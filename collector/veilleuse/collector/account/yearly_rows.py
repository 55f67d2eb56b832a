# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One row of the yearly figure: what it is of, and which machines stand behind which part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from veilleuse.collector.account.fleet_estimate import Estimate
from veilleuse.collector.account.fleet_inputs import Machine, Stratum
from veilleuse.collector.account.sample import MONITOR, Observed, Place, state_energies
from veilleuse.collector.inventoried import PowerContext
from veilleuse.collector.model import HostId
from veilleuse.collector.privacy import is_safe
from veilleuse.collector.vectors import Vector, added
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


@dataclass(slots=True)
class Gathering:
    """One row while it grows: its strata, and what each machine puts into it."""

    strata: set[Stratum] = field(default_factory=set)
    observed: dict[HostId, int] = field(default_factory=dict)
    energies: dict[HostId, int] = field(default_factory=dict)
    measured: dict[HostId, int] = field(default_factory=dict)
    apportioned: bool = False
    sums: dict[str, Vector] = field(default_factory=dict)
    """Of the machines of each device class."""
    by_share: dict[Fraction, Gathering] = field(default_factory=dict)
    """Share at home → what of the row has it, 0 included; empty where nothing was declared."""

    def add(self, one: Observed, total: Vector, made: Machine) -> None:
        """A machine, or its screens."""
        self.strata.add(made.stratum)
        _more(self.observed, one.host_id, made.observed_milliseconds)
        _more(self.energies, one.host_id, sum(made.energy_millijoules))
        _more(self.measured, one.host_id, made.measured_millijoules)
        self.apportioned |= one.apportioned
        if made.stratum.device_class != MONITOR:
            self._more_sums(made.stratum.device_class, total)

    def of_share(self, share: Fraction) -> Gathering:
        """What of the row is at home for this share of its time."""
        return self.by_share.setdefault(share, Gathering())

    def merge(self, other: Gathering) -> None:
        """All of another one."""
        self.strata |= other.strata
        self.apportioned |= other.apportioned
        for mine, theirs in (
            (self.observed, other.observed),
            (self.energies, other.energies),
            (self.measured, other.measured),
        ):
            for host_id, value in theirs.items():
                _more(mine, host_id, value)
        for name, vector in other.sums.items():
            self._more_sums(name, vector)
        for share, part in other.by_share.items():
            self.of_share(share).merge(part)

    def _more_sums(self, device_class: str, vector: Vector) -> None:
        before = self.sums.get(device_class)
        self.sums[device_class] = vector if before is None else added(before, vector)

    @property
    def states(self) -> dict[str, dict[State, tuple[int, int]]]:
        """Device class → state → (ms, mJ) of its machines."""
        return {name: state_energies(vector) for name, vector in self.sums.items()}

    @property
    def machines(self) -> int:
        """That were observed: none twice for its screens."""
        return sum(1 for host_id in self.observed if self.observed[host_id] or self.energies.get(host_id))

    def hides_methods(self, k: int) -> bool:
        """True when some machines stand behind the measured or the modelled part, but fewer than k, or one almost alone; never with
        k = 1, where the caller sees to the rule."""
        if k == 1:
            return False
        modelled = {
            host_id: energy - self.measured.get(host_id, 0) for host_id, energy in self.energies.items()
        }
        return any(any(part.values()) and not is_safe(part, k) for part in (self.measured, modelled))


def _more(into: dict[HostId, int], host_id: HostId, value: int) -> None:
    into[host_id] = into.get(host_id, 0) + value


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
