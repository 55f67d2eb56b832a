# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Parts of a machine's time and energy, and how finely they may be told (pure). docs/decisions/0046."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from veilleuse.collector.model.figures import ON_STATES, REST_STATES, Detail
from veilleuse.wire.vocabulary import Band, State


class Part(IntFlag):
    """Disjoint; together they are all known time and all energy of a group. Outside: of opening hours."""

    REST_OPEN = 1
    """Off or asleep: its watts are a model's, by class."""
    IDLE_OPEN = 2
    ACTIVE_OPEN = 4
    REST_OUTSIDE = 8
    IDLE_OUTSIDE = 16
    ACTIVE_OUTSIDE = 32
    OTHER = 64
    """Energy of no known state, and screens."""


REST: Final = Part.REST_OPEN | Part.REST_OUTSIDE
IDLE: Final = Part.IDLE_OPEN | Part.IDLE_OUTSIDE
ACTIVE: Final = Part.ACTIVE_OPEN | Part.ACTIVE_OUTSIDE
ON: Final = IDLE | ACTIVE
KNOWN: Final = REST | ON
OUTSIDE: Final = Part.REST_OUTSIDE | Part.IDLE_OUTSIDE | Part.ACTIVE_OUTSIDE


@dataclass(frozen=True, slots=True)
class Level:
    """How finely the parts of a group are told."""

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
"""The finest first."""
NO_PARTS: Final = frozenset({Detail.USE, Detail.OUTSIDE, Detail.IDLE, Detail.RUNS, Detail.NIGHTS})
"""Withheld where none of LEVELS may be told."""


def _part(band: Band, state: State) -> Part:
    use = REST if state in REST_STATES else IDLE if state is State.ON_IDLE else ACTIVE
    if state not in ON_STATES | REST_STATES:
        return Part.OTHER
    return use & ~OUTSIDE if band is Band.OPEN else use & OUTSIDE


PART_OF: Final = {(band, state): _part(band, state) for band in Band for state in State}


def may_be_told_together(cells: Sequence[Counter[Part]], parts: Sequence[Part], k: int) -> bool:
    """Whether sums of each of these parts over all cells may be told beside the total of each cell. `cells`: of each, which parts its machines
    have → how many machines; each part has k machines over all cells, or none, and so has each cell.

    With weights a of cells and b of parts, told numbers make a sum over machines of (a of its cell + b of the part). Of two cells that weigh
    differently, what has weight 0 in one has not in the other. So where, for two cells and any parts Q, machines of the one that have some
    of Q and machines of the other that have some of the rest are k together, or none, no weights leave fewer. What a model gives
    machines at rest follows from their time: weights of time and energy may then take it out of both, so that this is asked of the parts
    that are on alone as well.
    """
    bits = [Part.OTHER, *parts]
    on_bits = [part for part in bits if not part & REST]
    return all(_no_two_isolate([_in_bits(cell, of) for cell in cells], len(of), k) for of in (bits, on_bits))


def _in_bits(cell: Counter[Part], parts: Sequence[Part]) -> Counter[int]:
    """Machines by which of the parts they have, as bits in their order; without those that have none."""
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
    """Of each set of bits: machines that have one of them."""
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
    """Whether one's first and another's second are together 0 or k at least. The two smallest of each kind find any that are not."""
    places = range(len(counts))
    chosen = [
        {place for some in (0, 1) for place in sorted(
            (at for at in places if counts[at][side] >= some), key=lambda at: counts[at][side])[:2]}
        for side in (0, 1)
    ]  # fmt: skip
    return not any(
        0 < counts[one][0] + counts[other][1] < k for one in chosen[0] for other in chosen[1] if one != other
    )
