# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the published cells of a month as numbers of the fleet's estimate (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.fleet.samples import DAY_TYPES
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import Group
from veilleuse.wire.vocabulary import Population

NO_DAYS: Final = (0,) * len(DAY_TYPES)


class CellFamily(NamedTuple):
    """Machines whose cells may merge."""

    zone: str
    population: Population | None
    memo: bool

    @classmethod
    def of(cls, key: GroupKey) -> CellFamily:
        """Return the family of a published row."""
        return cls(key.zone, key.population, key.memo)


ClassOfFamily: TypeAlias = tuple[CellFamily, str]
"""Family and device class."""


class CellKey(NamedTuple):
    """Place and class of a cell."""

    family: CellFamily
    entity: str
    device_class: str


@dataclass(frozen=True, slots=True)
class PublishedCell:
    """A published cell."""

    key: CellKey
    merged: bool
    """True for a cell of several entities, or of several classes."""
    hosts: int
    milliseconds: int
    """Known time; of screens: known time of their PCs."""
    millijoules: int
    uncertain_millijoules: int

    @classmethod
    def of(cls, group: Group) -> PublishedCell:
        """Read a published row."""
        key, energies = group.key, group.sums.energies.values()
        return cls(
            CellKey(CellFamily.of(key), key.entity or "", key.device_class or ""),
            key.autres,
            group.sums.hosts,
            sum(one.milliseconds for one in group.sums.states.values()),
            sum(one.energy_millijoules for one in energies),
            sum(one.uncertainty_millijoules for one in energies),
        )

    @property
    def of_class(self) -> ClassOfFamily:
        """Family and device class."""
        return self.key.family, self.key.device_class

    @property
    def watts(self) -> float:
        """Mean power; 0 without known time."""
        return self.millijoules / self.milliseconds if self.milliseconds else 0.0

    @property
    def u_model(self) -> float:
        """Relative standard uncertainty of models and meters."""
        return self.uncertain_millijoules / self.millijoules if self.millijoules else 0.0

    def energy_of(self, milliseconds: int) -> int:
        """Return the energy of a time at the mean power."""
        return milliseconds * self.millijoules // self.milliseconds if self.milliseconds else 0
