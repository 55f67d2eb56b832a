# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the published cells of a month as numbers of the fleet's estimate (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from veilleuse.collector.fleet.samples import DAY_TYPES
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import Group
from veilleuse.collector.release.rows import family_of, is_ruled
from veilleuse.wire.units import MILLISECONDS_PER_DAY

NO_DAYS: Final = (0,) * len(DAY_TYPES)
LEAST_DAYS: Final = 10
"""Fewest known days of a mean machine, for its cell to be a sample of the month: they may be Sundays."""

LEAST_DAYS_OF_SERVERS: Final = 1
"""Likewise of servers: they draw much the same on all days."""

ClassOfFamily: TypeAlias = tuple[GroupKey, str]
"""Family and device class."""


@dataclass(frozen=True, slots=True)
class PublishedCell:
    """A published cell."""

    key: GroupKey
    """Entity and device class, over any period; `autres` for several entities, or several classes."""
    hosts: int
    milliseconds: int
    """Known time; of screens: known time of their PCs."""
    millijoules: int
    uncertain_millijoules: int

    @classmethod
    def of(cls, group: Group) -> PublishedCell:
        """Read a published row."""
        energies = group.sums.energies.values()
        return cls(
            group.key.over(),
            group.sums.hosts,
            sum(one.milliseconds for one in group.sums.states.values()),
            sum(one.energy_millijoules for one in energies),
            sum(one.uncertainty_millijoules for one in energies),
        )

    @property
    def of_class(self) -> ClassOfFamily:
        """Family and device class."""
        return family_of(self.key), self.key.device_class or ""

    @property
    def is_sample(self) -> bool:
        """Return whether the cell tells the mean power of the month."""
        least = LEAST_DAYS if is_ruled(self.key) else LEAST_DAYS_OF_SERVERS
        return self.milliseconds >= self.hosts * least * MILLISECONDS_PER_DAY

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
