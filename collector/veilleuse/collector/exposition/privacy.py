# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Which groups of workstations and classroom PCs may be shown, and under which name. DESIGN.md §7, PROMISES.md P4, P5.

A cell is safe when at least k hosts contributed to it and none holds more than 85 % of it. Unsafe cells of one level
merge with their smallest siblings into `autres` until that is safe; when it never is, the whole level is withheld.

Why differences are safe too: the published cells of a level are disjoint, so any difference of two published figures
is a union of published cells, and a union of safe cells is safe. Nothing is published above the level from which
a hidden cell could be subtracted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from veilleuse.collector.model import HostId
from veilleuse.wire.vocabulary import Population

OTHERS: Final = "autres"
MIXED: Final = "mixed"
DOMINANCE_NUMERATOR: Final = 85
"""Per cent: French statistical secrecy's usage (PROMISES.md P4)."""

EXEMPT: Final = frozenset({Population.SERVER})
"""Populations of machines that are nobody's."""

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Cell(Generic[K]):
    """One would-be published figure: what each host contributed to it, ≥ 0 (mJ or ms)."""

    key: K
    contributions: Mapping[HostId, int]


@dataclass(frozen=True, slots=True)
class Published(Generic[K]):
    """A level after the rule."""

    kept: tuple[Cell[K], ...]
    others: Cell[None] | None
    """The merged cell, or None."""
    merged_keys: tuple[K, ...]
    """What is inside `others`."""
    withheld_keys: tuple[K, ...]
    """All keys when the level is withheld, else none."""


def is_safe(contributions: Mapping[HostId, int], k: int) -> bool:
    """At least `k` hosts contributed, and none more than 85 % of the whole."""
    present = [value for value in contributions.values() if value > 0]
    if len(present) < k:
        return False
    return max(present) * 100 <= sum(present) * DOMINANCE_NUMERATOR


def publish(cells: Sequence[Cell[K]], k: int) -> Published[K]:
    """Apply the rule to the cells of one level. Cells may share hosts; their figures must be disjoint."""
    ordered = sorted(
        (cell for cell in cells if any(cell.contributions.values())),
        key=lambda cell: (len(cell.contributions), str(cell.key)),
    )
    kept = [cell for cell in ordered if is_safe(cell.contributions, k)]
    hidden = [cell for cell in ordered if not is_safe(cell.contributions, k)]
    if not hidden:
        return Published(tuple(kept), None, (), ())
    while not is_safe(_union(hidden), k):
        if not kept:
            return Published((), None, (), tuple(cell.key for cell in hidden))
        hidden.append(kept.pop(0))
    return Published(tuple(kept), Cell(None, _union(hidden)), tuple(c.key for c in hidden), ())


def _union(cells: Iterable[Cell[K]]) -> dict[HostId, int]:
    total: dict[HostId, int] = {}
    for cell in cells:
        for host, value in cell.contributions.items():
            total[host] = total.get(host, 0) + value
    return total
