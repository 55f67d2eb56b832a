# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Divides a machine's time and energy into parts, with the levels that may be published (pure).
docs/decisions/0046.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from veilleuse.collector.model.figures import ON_STATES, REST_STATES, Detail
from veilleuse.wire.vocabulary import Band, State


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
