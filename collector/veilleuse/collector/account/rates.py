# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Finds the watts that a model assigns to machines of a class in a state (pure). docs/decisions/0046.

Whoever knows these watts can subtract modelled energy from a sum. Modelled energy is watts × time, so the
energy and time of one row are two equations. Energy − watts × time is then the energy of only the machines
with other watts. The watts are found in the sums: a month does not hold the method of each state's energy.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import median
from typing import Final, Protocol, TypeAlias

from veilleuse.collector.account.parts import Part
from veilleuse.collector.model.figures import REST_STATES
from veilleuse.collector.model.records import HostId
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import DeviceClass, State

Rates: TypeAlias = tuple[tuple[State, float], ...]
"""Watts by state, in a fixed order."""

Spent: TypeAlias = tuple[HostId, tuple[Part, State], int, int]
"""Machine, part and state, milliseconds, millijoules."""

BY_CLASS: Final = frozenset({Method.LOAD_MODELLED, Method.CLASS_DEFAULT})
CONSTANT: Final = REST_STATES | {State.ON_IDLE}
"""States with modelled watts by class alone; the watts of a machine in use follow its load."""
SAME: Final = 0.02
"""Relative difference below which watts count as equal."""
ROUNDING_MILLIJOULES: Final = 20
_ENOUGH_MILLISECONDS: Final = 60_000
"""Least time in a state to compute its watts."""


class HostShares(Protocol):
    """Sums of a group by machine: see group_sums.Tally."""

    @property
    def spans(self) -> Mapping[tuple[Part, State], Counter[HostId]]: ...
    @property
    def draws(self) -> Mapping[tuple[Part, State], Counter[HostId]]: ...
    @property
    def classes(self) -> Mapping[HostId, DeviceClass]: ...
    @property
    def otherwise(self) -> Collection[HostId]: ...


def rates_of(tallies: Iterable[HostShares]) -> Rates:
    """Return the usual watts of each class in each state; for idle, of the machines known by a model only."""
    found: defaultdict[tuple[DeviceClass, State], list[float]] = defaultdict(list)
    for tally in tallies:
        for host_id, (_, state), time, energy in spent_of(tally):
            device_class = tally.classes.get(host_id)
            known = state in REST_STATES or host_id not in tally.otherwise
            if device_class and state in CONSTANT and known and energy > 0 and time >= _ENOUGH_MILLISECONDS:
                found[device_class, state].append(energy / time)
    return tuple(sorted({(state, _usual(watts)) for (_, state), watts in found.items()}))


def _usual(watts: list[float]) -> float:
    steps = Counter(round(math.log(one) / SAME) for one in watts)
    step = max(steps, key=lambda at: (steps[at], at))
    return median(one for one in watts if round(math.log(one) / SAME) == step)


def away(spent: Sequence[Spent], part: Part, watts: float) -> dict[HostId, int]:
    """Return the machines with time or energy in a part that is not entirely at these watts."""
    return {
        host_id: 1
        for host_id, (of, _), time, energy in spent
        if int(of) & int(part) and not _is_at(watts, time, energy)
    }


def unknown(spent: Sequence[Spent], rates: Rates) -> dict[HostId, int]:
    """Return the machines with time or energy at none of the rates: no weights remove them from an energy."""
    return {
        host_id: 1
        for host_id, _, time, energy in spent
        if not any(_is_at(watts, time, energy) for _, watts in rates)
    }


def _is_at(watts: float, time: int, energy: int) -> bool:
    expected = watts * time
    return abs(energy - expected) <= SAME * expected + ROUNDING_MILLIJOULES


def spent_of(tally: HostShares) -> list[Spent]:
    """Return the time and energy of all machines of a tally, by part and state."""
    none = Counter[HostId]()
    found: list[Spent] = []
    for key in sorted(tally.spans.keys() | tally.draws.keys()):
        times, energies = tally.spans.get(key, none), tally.draws.get(key, none)
        for host_id in times.keys() | energies.keys():
            if (time := times[host_id]) | (energy := energies[host_id]):
                found.append((host_id, key, time, energy))
    return found
