# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A group while it grows, with what each machine puts into its figures: the rule of disclosure needs to know."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from veilleuse.collector.figures import ON_STATES, Detail, EnergyKey, EnergySums, GroupSums, StateSums
from veilleuse.collector.model import HostId
from veilleuse.collector.privacy import is_safe
from veilleuse.wire.ladder import MEASURED
from veilleuse.wire.vocabulary import Band, Population, State


class Share(Enum):
    """What a machine may put into a group."""

    OBSERVED = auto()
    """Milliseconds of known state."""
    ENERGY = auto()
    """Millijoules."""
    MEASURED = auto()
    """Millijoules by a method that measures."""
    MODELLED = auto()
    """Millijoules by another."""
    OUTSIDE = auto()
    """Milliseconds on outside opening hours."""
    IDLE = auto()
    """Milliseconds idle while on."""


_BEHIND: Final = (
    (Detail.METHODS, (Share.MEASURED, Share.MODELLED)),
    (Detail.OUTSIDE, (Share.OUTSIDE,)),
    (Detail.IDLE, (Share.IDLE,)),
)
"""What stands behind a detail."""


@dataclass(slots=True)
class Tally:
    """Sums of a group; `shares` says which machines they are of."""

    enrolled_milliseconds: int = 0
    states: dict[tuple[Band, State], StateSums] = field(default_factory=dict)
    energies: dict[EnergyKey, EnergySums] = field(default_factory=dict)
    shares: defaultdict[Share, Counter[HostId]] = field(default_factory=lambda: defaultdict(Counter))
    nights: int = 0
    apportioned: bool = False

    @property
    def hosts(self) -> frozenset[HostId]:
        """Machines that contributed: a known state, or an energy."""
        return frozenset(self.shares[Share.OBSERVED]) | frozenset(self.shares[Share.ENERGY])

    def add_state(self, host_id: HostId, key: tuple[Band, State], more: StateSums) -> None:
        """Add a machine's time in one band and state."""
        band, state = key
        self.states[key] = self.states.get(key, StateSums()) + more
        if state is not State.UNKNOWN:
            self.shares[Share.OBSERVED][host_id] += more.milliseconds
        if state in ON_STATES and band is not Band.OPEN:
            self.shares[Share.OUTSIDE][host_id] += more.milliseconds
        if state is State.ON_IDLE:
            self.shares[Share.IDLE][host_id] += more.milliseconds

    def add_energy(self, host_id: HostId, key: EnergyKey, more: EnergySums) -> None:
        """Add a machine's energy in one class, method, band and state."""
        _, method, _, _ = key
        self.energies[key] = self.energies.get(key, EnergySums()) + more
        for share in (Share.ENERGY, Share.MEASURED if method in MEASURED else Share.MODELLED):
            self.shares[share][host_id] += more.energy_millijoules

    def add(self, other: Tally) -> None:
        """Add a whole tally."""
        self.enrolled_milliseconds += other.enrolled_milliseconds
        self.nights += other.nights
        self.apportioned |= other.apportioned
        for state_key, state_sums in other.states.items():
            self.states[state_key] = self.states.get(state_key, StateSums()) + state_sums
        for energy_key, energy_sums in other.energies.items():
            self.energies[energy_key] = self.energies.get(energy_key, EnergySums()) + energy_sums
        for share, machines in other.shares.items():
            self.shares[share].update(machines)

    def freeze(self, population: Population, withheld: frozenset[Detail]) -> GroupSums:
        """As a value."""
        server = population is Population.SERVER
        dated = "evenings" if population is Population.CLASSROOM else "dates"
        return GroupSums(
            len(self.hosts),
            self.enrolled_milliseconds,
            self.states,
            self.energies,
            None if server else self.nights,
            None if server else dated,
            self.apportioned,
            withheld,
        )

    def unsafe(self, k: int) -> frozenset[Detail]:
        """Details behind which machines stand, but fewer than k, or one almost alone."""
        return frozenset(
            detail
            for detail, behind in _BEHIND
            if any(
                any(self.shares[share].values()) and not is_safe(self.shares[share], k) for share in behind
            )
        )
