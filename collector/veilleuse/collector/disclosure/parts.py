# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Divides a machine's time and energy into parts, with the levels that may be published (pure).
docs/decisions/0046.

A model assigns watts to machines of a class in a state. Whoever knows these watts can subtract modelled
energy from a sum. Modelled energy is watts × time, so the energy and time of one row are two equations.
Energy − watts × time is then the energy of only the machines with other watts. So it is for a machine that is
on, where its load is not reported or stays in one step of its scale. Which machines have these watts is found
in the sums: a month does not hold the method of each state's energy.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import cache, reduce
from operator import and_
from statistics import median
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import ON_STATES, REST_STATES, Detail
from veilleuse.collector.shipped_tables import STATE_POWERS, watts_of_screens, watts_on
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MICROWATTS_PER_WATT
from veilleuse.wire.vocabulary import Band, DeviceClass, State

K = TypeVar("K")


class Part(IntFlag):
    """Disjoint parts; together they are all known time and all energy of a group.
    OUTSIDE: outside opening hours.
    """

    REST_OPEN = 1
    """Off or asleep: its watts come from a model by class."""
    IDLE_OPEN = 2
    ACTIVE_OPEN = 4
    REST_OUTSIDE = 8
    IDLE_OUTSIDE = 16
    ACTIVE_OUTSIDE = 32
    OTHER = 64
    """Energy of unknown state, and screens."""


REST: Final = Part.REST_OPEN | Part.REST_OUTSIDE
IDLE: Final = Part.IDLE_OPEN | Part.IDLE_OUTSIDE
ACTIVE: Final = Part.ACTIVE_OPEN | Part.ACTIVE_OUTSIDE
ON: Final = IDLE | ACTIVE
KNOWN: Final = REST | ON
OUTSIDE: Final = Part.REST_OUTSIDE | Part.IDLE_OUTSIDE | Part.ACTIVE_OUTSIDE


@dataclass(frozen=True, slots=True)
class Level:
    """Fineness of the parts of a group."""

    parts: tuple[Part, ...]
    withheld: frozenset[Detail]


LEVELS: Final = (
    Level(tuple(part for part in Part if part is not Part.OTHER), frozenset()),
    Level(
        (Part.REST_OPEN, Part.REST_OUTSIDE, ON & ~OUTSIDE, ON & OUTSIDE),
        frozenset({Detail.IDLE, Detail.RUNS}),
    ),
    Level((REST, IDLE, ACTIVE), frozenset({Detail.OUTSIDE, Detail.NIGHTS, Detail.RUNS})),
)
"""Levels of parts, the finest first."""
NO_PARTS: Final = frozenset({Detail.USE, Detail.OUTSIDE, Detail.IDLE, Detail.RUNS, Detail.NIGHTS})
"""Details withheld where none of LEVELS may be published."""


def _part(band: Band, state: State) -> Part:
    use = REST if state in REST_STATES else IDLE if state is State.ON_IDLE else ACTIVE
    if state not in ON_STATES | REST_STATES:
        return Part.OTHER
    return use & ~OUTSIDE if band is Band.OPEN else use & OUTSIDE


PART_OF: Final = {(band, state): _part(band, state) for band in Band for state in State}


def may_be_told_together(cells: Sequence[Counter[Part]], parts: Sequence[Part], k: int) -> bool:
    """Return whether sums of each part over all cells may be published with the total of each cell.

    `cells`: for each cell, the number of machines by set of parts. Each part has k machines over all cells,
    or none, and so has each cell.

    With weights a of cells and b of parts, published numbers give a sum over machines of (a of its cell + b
    of the part). If two cells have different weights, a part of weight 0 in one is not 0 in the other.
    Consider two cells and any set Q of parts. Count the first cell's machines with a part in Q and the
    second's with a part outside Q. Where these are k together, or none, no weights leave fewer.

    Modelled energy at rest follows from the time. Weights of time and energy may remove it from both, so the
    parts that are on are checked alone as well.
    """
    bits = [Part.OTHER, *parts]
    on_bits = [part for part in bits if not part & REST]
    return all(_no_two_isolate([_in_bits(cell, of) for cell in cells], len(of), k) for of in (bits, on_bits))


def _in_bits(cell: Counter[Part], parts: Sequence[Part]) -> Counter[int]:
    """Count machines by their parts, as bits in order; machines without any of the parts are left out."""
    found: Counter[int] = Counter()
    for mask, machines in cell.items():
        if bits := sum(1 << place for place, part in enumerate(parts) if mask & part):
            found[bits] += machines
    return found


def _no_two_isolate(cells: Sequence[Counter[int]], width: int, k: int) -> bool:
    whole = (1 << width) - 1
    touching = [list(_touching(cell, whole)) for cell in cells if cell]
    return all(
        _pairs_are_safe([(of[some], of[whole - some]) for of in touching], k) for some in range(whole + 1)
    )


def _touching(cell: Counter[int], whole: int) -> Iterator[int]:
    """Yield, for each set of bits, the number of machines that have one of them."""
    inside = [cell[bits] for bits in range(whole + 1)]
    bit = 1
    while bit <= whole:
        for bits in range(whole + 1):
            if bits & bit:
                inside[bits] += inside[bits ^ bit]
        bit <<= 1
    for bits in range(whole + 1):
        yield inside[whole] - inside[whole ^ bits]


def _pairs_are_safe(counts: Sequence[tuple[int, int]], k: int) -> bool:
    """Return whether the first count of one cell and the second of another are together 0 or at least k.

    The two smallest of each kind find any pair that is not.
    """
    places = range(len(counts))
    chosen = [
        {place for some in (0, 1) for place in sorted(
            (at for at in places if counts[at][side] >= some), key=lambda at: counts[at][side])[:2]}
        for side in (0, 1)
    ]  # fmt: skip
    return not any(
        0 < counts[one][0] + counts[other][1] < k for one in chosen[0] for other in chosen[1] if one != other
    )


class PublicRate(NamedTuple):
    """Watts of machines in a state that are public: their energy is these watts × their time."""

    watts: float
    state: State
    within: float
    """Relative difference up to which an energy is at these watts."""
    is_guess: bool = False
    """True for one step of the load in use, which nothing tells: known where most of a group have it."""


Rates: TypeAlias = tuple[PublicRate, ...]
"""In order of watts."""

Spent: TypeAlias = tuple[HostId, tuple[Part, State], int, int]
"""Machine, part and state, milliseconds, millijoules."""

Known: TypeAlias = tuple[HostId, Part, int]
"""Machine, part, rates at which its energy there is, as bits."""

BY_CLASS: Final = frozenset({Method.LOAD_MODELLED, Method.CLASS_DEFAULT})
USUAL: Final = REST_STATES | {State.ON_IDLE}
"""States with modelled watts by class. Those of a machine on follow its load, where it reports one."""
SAME: Final = 0.02
"""Relative difference below which watts count as equal."""
EXACT: Final = 0.0001
"""The same for watts of one load: machines that report theirs have any watts, some of them near these."""
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
    """Return the public watts that machines have: of a model by class, by class and one load, and the usual.

    The usual watts of each class at rest and idle are found in the sums, as of a calibration; for idle, in
    those of machines known by a model only.
    """
    found: set[PublicRate] = set()
    usual: defaultdict[tuple[DeviceClass, State], list[float]] = defaultdict(list)
    for tally in tallies:
        for host_id, (_, state), time, energy in spent_of(tally):
            device_class = tally.classes.get(host_id)
            if device_class is None or energy <= 0 or time < _ENOUGH_MILLISECONDS:
                continue
            modelled = _rates_of_model(device_class, state)
            found.update(modelled[at] for at in _places(modelled, time, energy))
            if state in USUAL and (state in REST_STATES or host_id not in tally.otherwise):
                usual[device_class, state].append(energy / time)
    found |= {PublicRate(_usual(watts), state, SAME) for (_, state), watts in usual.items()}
    return tuple(sorted(found))


@cache
def _rates_of_model(device_class: DeviceClass, state: State) -> Rates:
    if state in ON_STATES:
        idle = state is State.ON_IDLE
        unreported, steps = watts_on(device_class, idle=idle)
        found = [PublicRate(watts, state, EXACT) for watts in unreported]
        found += [PublicRate(watts, state, EXACT, not idle) for watts in steps]
        return tuple(sorted([*found, *(PublicRate(watts, state, SAME) for watts in unreported[:1] if idle)]))
    powers = STATE_POWERS.get(device_class)
    if powers is None or state not in REST_STATES:
        return ()
    power = powers.off_microwatts if state is State.OFF else powers.sleep_microwatts
    return (PublicRate(power / MICROWATTS_PER_WATT, state, SAME),) if power else ()


def _usual(watts: list[float]) -> float:
    steps = Counter(round(math.log(one) / SAME) for one in watts)
    step = max(steps, key=lambda at: (steps[at], at))
    return median(one for one in watts if round(math.log(one) / SAME) == step)


def known_rates(spent: Sequence[Spent], rates: Rates) -> list[Known]:
    """Return the rates of each time and energy."""
    found = [(host_id, key, _places(rates, time, energy)) for host_id, key, time, energy in spent]
    machines = Counter(key for _, key, _ in found)
    at = Counter((key, place) for _, key, places in found for place in places)
    return [
        (
            host_id,
            key[0],
            sum(
                1 << place
                for place in places
                if not rates[place].is_guess or 2 * at[key, place] > machines[key]
            ),
        )
        for host_id, key, places in found
    ]


def rates_in(known: Iterable[Known], part: Part) -> dict[HostId, int]:
    """Return, for each machine with something in a part, the rates at which all of it is, as bits."""
    found: dict[HostId, int] = {}
    for host_id, of, bits in known:
        if int(of) & int(part):
            found[host_id] = found.get(host_id, bits) & bits
    return found


def away(rates: Mapping[HostId, int], place: int) -> dict[HostId, int]:
    """Return the machines that are not entirely at the rate of this place: see `rates_in`."""
    return {host_id: 1 for host_id, bits in rates.items() if not bits >> place & 1}


def unknown(known: Iterable[Known]) -> dict[HostId, int]:
    """Return the machines with time or energy at none of the rates: no weights remove them from an energy."""
    return {host_id: 1 for host_id, _, bits in known if not bits}


def _places(rates: Rates, time: int, energy: int) -> list[int]:
    """Return the places of the rates at which this energy is watts × this time."""
    first, last = 0, len(rates)
    if time >= _ENOUGH_MILLISECONDS:  # rounding is then less than SAME
        watts = energy / time
        first = bisect_left(rates, (watts * (1 - 2 * SAME),))
        last = bisect_left(rates, (watts * (1 + 2 * SAME),))
    return [
        place
        for place in range(first, last)
        if abs(energy - (expected := rates[place].watts * time))
        <= rates[place].within * expected + ROUNDING_MILLIJOULES
    ]


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


# --- screens

MOST_SCREENS: Final = 4
_OPTIONS: Final = (0.0, *(watts for one in watts_of_screens(MOST_SCREENS) for watts in (one, one)))
"""Watts: none, then of each set of screens × the time on, and × the time in use."""
_ALL_OPTIONS: Final = (1 << len(_OPTIONS)) - 1
_WHOLE_TIME: Final = 1 | sum(1 << place for place in range(1, len(_OPTIONS), 2))


class ScreenedPc(NamedTuple, Generic[K]):
    """A PC beside its screens, which may have none."""

    cell: K
    """Row of the month's cells that holds it."""
    row: K
    """Row of its parts."""
    device_class: str | None
    rates: tuple[int | None, ...]
    """Watts × time that its screens' energy is, inside and outside opening hours, as bits. None: not on."""


class ScreenRule(Generic[K]):
    """Tells whether the energy of screens may be published beside the times of their PCs.

    Watts of screens are public, so their energy tells for how long they were on. Less any watts × the time of
    each cell, it leaves the PCs whose screens' energy is not these watts × their time. Where those are k or
    more in any case, the energy may be published; so it may where it follows from the times.
    """

    def __init__(self, level: Level) -> None:
        """Take the level of the parts that are published of the PCs; begin without PCs."""
        self._withheld = level.withheld
        self._pcs: dict[HostId, ScreenedPc[K]] = {}
        self._rows: defaultdict[K, set[HostId]] = defaultdict(set)

    def add(self, host_id: HostId, pc: ScreenedPc[K]) -> None:
        """Add a PC, with screens or without."""
        self._pcs[host_id] = pc
        self._rows[pc.row].add(host_id)

    def allows(self, hosts: Mapping[HostId, int], k: int) -> bool:
        """Return whether the energy of the screens of these PCs may be one row."""
        return self._fewest_left(hosts) >= k or self._follows_from_times(hosts)

    def _fewest_left(self, hosts: Iterable[HostId]) -> int:
        """Return the fewest PCs that watts × time leave, of the hours that keep most."""
        blocks: defaultdict[tuple[K, str | None], list[tuple[int | None, ...]]] = defaultdict(list)
        for host_id in hosts:
            pc = self._pcs[host_id]
            blocks[pc.cell, pc.device_class].append(pc.rates)
        left = Counter[int]()
        for of_block in blocks.values():
            for hours, of_hours in enumerate(zip(*of_block, strict=True)):
                known = [bits for bits in of_hours if bits is not None]
                most = max(sum(bits >> place & 1 for bits in known) for place in range(len(_OPTIONS)))
                left[hours] += len(known) - most
        return max(left.values(), default=0)

    def _follows_from_times(self, hosts: Mapping[HostId, int]) -> bool:
        """Return whether the energy of each row of PCs is one watts × their time, as it is published."""
        rows = {self._pcs[host_id].row for host_id in hosts}
        if Detail.USE in self._withheld or any(not self._rows[row] <= hosts.keys() for row in rows):
            return False
        told = _ALL_OPTIONS & (_WHOLE_TIME if Detail.IDLE in self._withheld else _ALL_OPTIONS)
        for row in rows:
            by_hours = [
                reduce(and_, (bits for bits in of_hours if bits is not None), told)
                for of_hours in zip(*(self._pcs[host_id].rates for host_id in self._rows[row]), strict=True)
            ]
            if not (reduce(and_, by_hours) if Detail.OUTSIDE in self._withheld else all(by_hours)):
                return False
        return True


def rates_of_screens(on: int, active: int, energy: int) -> int | None:
    """Return the watts × time that an energy of screens is, as bits; None for a PC that was not on."""
    if not on and not energy:
        return None
    if not energy:
        return 1
    return sum(
        1 << place
        for place, watts in enumerate(_OPTIONS)
        if place
        and abs(energy - (expected := watts * (on if place % 2 else active)))
        <= SAME * expected + ROUNDING_MILLIJOULES
    )
