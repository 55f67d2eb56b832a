# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Holds random groups of machines, for the covariance of two years' figures (pure).
docs/methodology.md, section 10.

Each group is left out in turn (delete-a-group jackknife). A machine is in the same group every year: leaving
a group out of both years gives the covariance of what was measured twice. Groups are smaller than k machines,
so they live in memory while a report is made. They are neither stored nor published.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Final, TypeAlias

from veilleuse.collector.fleet.pool import FEWEST
from veilleuse.collector.fleet.samples import DAY_TYPES, Days, Stratum
from veilleuse.collector.fleet.strata import StratumPart
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import State

GROUPS: Final = 32
"""Number of groups, our choice: 31 degrees of freedom widen a 95 % interval by 4 %, and twice as many by 2 %.
"""
KNOWN_STATES: Final = tuple(state for state in State if state is not State.UNKNOWN)
_DAYS: Final = len(DAY_TYPES)
_ALL: Final = Stratum("", "")
_NOTHING: Final = (0,) * (2 * _DAYS + 2 * len(KNOWN_STATES))
StateSums: TypeAlias = Mapping[State, tuple[int, int]]
"""State → (milliseconds, millijoules)."""
Sums: TypeAlias = tuple[int, ...]
"""Sums of one group: energy by day type, time by day type,
then milliseconds and millijoules of each known state.
"""
Ratios: TypeAlias = list[tuple[float, ...]]
"""By group, by day type: (mean power without the group ÷ mean power) − 1."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Sums of a period by stratum and group."""

    sums: dict[Stratum, dict[int, Sums]] = field(default_factory=dict)
    hosts: dict[Stratum, Counter[HostId]] = field(default_factory=dict)
    """Machines of the sample with their accounted time, ms.
    For screens: the machines that report display-on time.
    """

    def add(
        self, stratum: Stratum, host_id: HostId, energies: Days, times: Days, states: StateSums | None = None
    ) -> None:
        """Add one machine. For its screens, `stratum` is the stratum of the screens, and the host is the
        machine's.
        """
        known = states or {}
        of_states = (value for state in KNOWN_STATES for value in known.get(state, (0, 0)))
        self._merge(stratum, host_id % GROUPS, (*energies, *times, *of_states))
        self.hosts.setdefault(stratum, Counter())[host_id] += sum(times)

    def regroup(self, strata: Mapping[Stratum, Stratum | None]) -> Groups:
        """Return the groups by published stratum; `strata` maps a stratum to None where its machines are left
        out.
        """
        found = Groups()
        for stratum, groups in self.sums.items():
            into = strata.get(stratum)
            if into is not None:
                for group, sums in groups.items():
                    found._merge(into, group, sums)
                found.hosts.setdefault(into, Counter()).update(self.hosts[stratum])
        return found

    def sum_over(self, strata: Iterable[Stratum]) -> dict[int, Sums]:
        """Return the sums of each group over some strata."""
        found = Groups()
        for stratum in strata:
            for group, sums in self.sums.get(stratum, {}).items():
                found._merge(_ALL, group, sums)
        return found.sums.get(_ALL, {})

    def hosts_of(self, strata: Iterable[Stratum]) -> Counter[HostId]:
        """Return the machines of the sample of some strata, with their accounted time, ms."""
        found = Counter[HostId]()
        for stratum in strata:
            found.update(self.hosts.get(stratum, {}))
        return found

    def _merge(self, stratum: Stratum, group: int, sums: Sums) -> None:
        own = self.sums.setdefault(stratum, {})
        own[group] = tuple(map(add, own.get(group, _NOTHING), sums))


def deviations(
    groups: Groups, pools: Mapping[str, Sequence[StratumPart]]
) -> dict[Stratum, tuple[float, ...]]:
    """Return, for each stratum and group, the change of the stratum's energy when the group is left out, mJ.

    `pools`: strata that share one sample where one of them is thin. Mean power is the stratum's own from ten
    machines on, else the pool's, as in the estimate. A stratum has no entry where fewer than two groups have
    data.
    """
    found: dict[Stratum, tuple[float, ...]] = {}
    for strata in pools.values():
        own = {part.stratum: _ratios(groups.sums.get(part.stratum, {})) for part in strata}
        pooled = _ratios(groups.sum_over(part.stratum for part in strata))
        for part in strata:
            thick = part.n >= FEWEST
            ratios = own[part.stratum] if thick else pooled
            if ratios:
                weights = _energies(part, [part] if thick else strata)
                found[part.stratum] = tuple(
                    sum(weight * ratio for weight, ratio in zip(weights, of_group, strict=True))
                    for of_group in ratios
                )
    return found


def states_by_group(groups: Groups, strata: Iterable[Stratum]) -> tuple[StateSums, ...]:
    """Return the time and energy by state of each group, over some strata;
    () where no group has any, as for screens.
    """
    merged = groups.sum_over(strata)
    by_group = tuple(_states(merged.get(group, _NOTHING)) for group in range(GROUPS))
    return by_group if any(by_group) else ()


def _states(sums: Sums) -> StateSums:
    at = 2 * _DAYS
    return {
        state: (sums[at + 2 * number], sums[at + 2 * number + 1])
        for number, state in enumerate(KNOWN_STATES)
        if sums[at + 2 * number]
    }


def _ratios(groups: Mapping[int, Sums]) -> Ratios:
    if len(groups) < 2:
        return []
    whole = tuple(map(sum, zip(*groups.values(), strict=True)))
    found = []
    for group in range(GROUPS):
        sums = groups.get(group, _NOTHING)
        of_group = []
        for day in range(_DAYS):
            energy, time = whole[day], whole[_DAYS + day]
            left, left_time = energy - sums[day], time - sums[_DAYS + day]
            of_group.append(left * time / (left_time * energy) - 1 if energy and left_time else 0.0)
        found.append(tuple(of_group))
    return found


def _energies(part: StratumPart, sample: Iterable[StratumPart]) -> list[float]:
    """Return the energy of a stratum's whole fleet by day type, mJ, at the mean power of `sample`."""
    members = [group for one in sample for _, group in one.members]
    energies = [sum(column) for column in zip(*(group.energies for group in members), strict=True)]
    times = [sum(column) for column in zip(*(group.times for group in members), strict=True)]
    return [
        fleet * energy / time if time else 0.0
        for fleet, energy, time in zip(part.fleet, energies, times, strict=True)
    ]
