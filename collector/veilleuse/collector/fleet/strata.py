# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums observed machines by stratum, and computes mean power per day type (pure). docs/methodology.md §6.

Units: millijoules and milliseconds; mean power in millijoules per millisecond, which are watts. Floating
point sums go through math.fsum, so that the order of machines does not matter.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from veilleuse.collector.fleet.samples import (
    DAY_TYPES,
    Alike,
    Days,
    InService,
    Key,
    Sample,
    SampleCell,
    SampleMachine,
    Stratum,
)
from veilleuse.wire.ladder import Method

Rates: TypeAlias = tuple[float | None, ...]
"""Mean power per day type; None where nothing was observed."""
ORDINARY: Final = 0
ALWAYS_ON: Final = 1
"""Kinds of machines; a class whose machines are all of one kind has only ORDINARY ones."""


@dataclass(slots=True)
class MachineKind:
    """The machines of one kind in a stratum, or in a class."""

    groups: list[tuple[float, Alike]] = field(default_factory=list)
    """(scale, machines): energy ÷ scale is the energy of machines of mean composition."""
    energy: tuple[float, ...] = (0.0,) * len(DAY_TYPES)
    milliseconds: Days = (0,) * len(DAY_TYPES)
    n: int = 0
    _rates: Rates | None = None

    def close(self) -> None:
        """Compute the sums, once all machines are added."""
        self.n = sum(group.n for _, group in self.groups)
        if self.n:
            scaled = [[energy / scale for energy in group.energies] for scale, group in self.groups]
            self.energy = tuple(map(math.fsum, zip(*scaled, strict=True)))
            self.milliseconds = _columns([group.times for _, group in self.groups])

    @property
    def rates(self) -> Rates:
        """Mean power per day type."""
        if self._rates is None:
            self._rates = tuple(
                energy / time if time else None
                for energy, time in zip(self.energy, self.milliseconds, strict=True)
            )
        return self._rates

    def squares(self, fleet: Days, around: Rates) -> float:
        """Return Σ d², d = e·n/M: squared deviations of the machines' mean power from `around`.

        Mean power is in the fleet's mix of day types. A machine observed for longer weighs more, as in
        docs/methodology.md §6's e.
        """
        whole = sum(fleet)
        weights = [
            self.n * fleet[g] / (whole * self.milliseconds[g])
            if rate is not None and self.milliseconds[g]
            else 0.0
            for g, rate in enumerate(around)
        ]
        times = [-weight * (rate or 0.0) for weight, rate in zip(weights, around, strict=True)]
        return math.fsum(
            group.squares([weight / scale for weight in weights], times) for scale, group in self.groups
        )


def merge_kinds(kinds: Iterable[MachineKind]) -> MachineKind:
    """Merge the machines of several kinds into one."""
    found = MachineKind()
    for kind in kinds:
        found.groups.extend(kind.groups)
    found.close()
    return found


@dataclass(slots=True)
class KnownSums:
    """Exact sums of the observed machines of a stratum."""

    machines: int = 0
    """docs/methodology.md §6's n."""
    energy_millijoules: int = 0
    measured_millijoules: int = 0
    imputed_millijoules: int = 0
    observed_milliseconds: int = 0
    derived_milliseconds: int = 0
    unobserved_milliseconds: int = 0
    """Unobserved time of these machines, each between its first and its last day."""
    methods: Counter[Method] = field(default_factory=Counter)
    standby_millijoules: int = 0
    """Energy of screens in standby: of the whole fleet, not of observed machines."""

    def add(self, group: Alike) -> None:
        self.machines += group.n
        self.energy_millijoules += group.energy_millijoules
        self.measured_millijoules += group.measured_millijoules
        self.imputed_millijoules += group.imputed_millijoules
        self.observed_milliseconds += group.observed_milliseconds
        self.derived_milliseconds += group.derived_milliseconds
        self.unobserved_milliseconds += group.unobserved_milliseconds
        for method, sums in group.methods.items():
            self.methods[method] += sums.energy_millijoules

    @property
    def modelled_millijoules(self) -> int:
        """Derived energy that is not measured, with screens in standby."""
        derived = self.energy_millijoules - self.measured_millijoules - self.imputed_millijoules
        return derived + self.standby_millijoules

    @property
    def methods_with_standby(self) -> Counter[Method]:
        """Energy by method, with screens in standby as modelled energy."""
        return self.methods + Counter({Method.LOAD_MODELLED: self.standby_millijoules})

    def __add__(self, other: KnownSums) -> KnownSums:
        return KnownSums(
            self.machines + other.machines,
            self.energy_millijoules + other.energy_millijoules,
            self.measured_millijoules + other.measured_millijoules,
            self.imputed_millijoules + other.imputed_millijoules,
            self.observed_milliseconds + other.observed_milliseconds,
            self.derived_milliseconds + other.derived_milliseconds,
            self.unobserved_milliseconds + other.unobserved_milliseconds,
            self.methods + other.methods,
            self.standby_millijoules + other.standby_millijoules,
        )


@dataclass(slots=True)
class StratumPart:
    """Fleet and sample of one stratum."""

    stratum: Stratum
    fleet: Days
    """M, at least the observed time: a measured machine was in service."""
    machines_fleet: int
    cells: Mapping[SampleCell, int]
    members: list[tuple[Key, Alike]]
    """Sample: machines with energy for some time, by their common key."""
    known: KnownSums
    accounted: Days
    by_default: Days = (0,) * len(DAY_TYPES)
    """Machine time in addition to `fleet` that always takes the class default."""
    scale: float = 1.0
    """Mean power of its fleet's composition ÷ the class's; 1 without post-stratification."""
    kinds: tuple[MachineKind, MachineKind] = field(default_factory=lambda: (MachineKind(), MachineKind()))

    @property
    def n(self) -> int:
        """Machines of the sample."""
        return self.known.machines

    @property
    def missing(self) -> Days:
        """Machine time without data."""
        return tuple(fleet - seen for fleet, seen in zip(self.fleet, self.accounted, strict=True))

    def fill(self, scale: Callable[[SampleCell], float], *, mixed: bool) -> None:
        """Sort the machines by kind; `scale`: mean power of a cell ÷ the class's."""
        for key, group in self.members:
            kind = self.kinds[ALWAYS_ON if mixed and key.always_on else ORDINARY]
            kind.groups.append((scale(key.cell), group))
        for each in self.kinds:
            each.close()


def parts(
    machines: Iterable[SampleMachine] | Sample, fleet: Iterable[InService]
) -> dict[Stratum, StratumPart]:
    """Build the strata in order, including those without fleet or sample.
    Raises ValueError for a duplicate in `fleet`.
    """
    said: dict[Stratum, InService] = {}
    for one in fleet:
        if one.stratum in said:
            raise ValueError(f"{one.stratum} is there twice")
        said[one.stratum] = one
    sample = machines if isinstance(machines, Sample) else Sample.of(machines)
    members: defaultdict[Stratum, list[tuple[Key, Alike]]] = defaultdict(list)
    known: defaultdict[Stratum, KnownSums] = defaultdict(KnownSums)
    for key, group in sorted(sample.groups.items(), key=lambda item: item[0]):
        known[key.stratum].add(group)
        if group.n:
            members[key.stratum].append((key, group))
    found = {}
    for stratum in sorted({*said, *known}):
        there = said.get(stratum, InService(stratum, 0, (0,) * len(DAY_TYPES)))
        known[stratum].standby_millijoules = there.standby_millijoules
        seen = _columns([group.times for _, group in members[stratum]])
        found[stratum] = StratumPart(
            stratum,
            tuple(map(max, there.milliseconds, seen)),
            max(there.machines, known[stratum].machines, any(there.milliseconds)),
            there.cells,
            members[stratum],
            known[stratum],
            seen,
            there.default_milliseconds,
        )
    return found


def class_rates(strata: Iterable[StratumPart]) -> Rates:
    """Compute the mean power per day type of a class's sample, without post-stratification."""
    groups = [group for part in strata for _, group in part.members]
    energies = _columns([group.energies for group in groups])
    times = _columns([group.times for group in groups])
    return tuple(energy / time if time else None for energy, time in zip(energies, times, strict=True))


def missing_share(strata: Iterable[StratumPart]) -> float:
    """Return the share of the sampled machines' own time without derived energy: imputed or unobserved.

    A machine's own time goes from its first day to its last.
    """
    sampled = [part for part in strata if part.n]
    own = sum(sum(part.accounted) + part.known.unobserved_milliseconds for part in sampled)
    derived = sum(part.known.derived_milliseconds for part in sampled)
    return max(0.0, 1 - derived / own) if own else 0.0


def unseen_share(strata: Iterable[StratumPart]) -> float:
    """Return the share of the sampled machines' time in service that is not accounted.

    Each machine is assumed in service for its stratum's mean time.
    """
    sampled = [part for part in strata if part.n]
    due = math.fsum(part.n * sum(part.fleet) / part.machines_fleet for part in sampled)
    return max(0.0, 1 - sum(sum(part.accounted) for part in sampled) / due) if due else 0.0


def _columns(rows: Sequence[Days]) -> Days:
    return tuple(map(sum, zip(*rows, strict=True))) if rows else (0,) * len(DAY_TYPES)
