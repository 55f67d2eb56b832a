# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Decides which groups of workstations and classroom PCs may be shown, and under which name.
docs/decisions/0046.

A figure is safe when at least k hosts contributed to it and none holds more than 85 % of it. A cell is safe
when each of its figures is. Unsafe cells of one level merge with their smallest siblings into `autres` until
`autres` is safe. If `autres` never becomes safe, the whole level is withheld.

A model gives some energy to a machine by its class alone, such as the watts of a machine that is off. Such a
contribution reveals nothing about a person: it counts as a host, but has no part in the 85 %. Otherwise,
eleven machines that are off would hide the one that is used.

Differences are safe too: the published cells of a level are disjoint, so any difference of two published
figures is a union of published cells, and a union of safe cells is safe. Nothing is published above the level
from which a hidden cell could be subtracted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from veilleuse.collector.model.query import AUTRES
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import Population

OTHERS: Final = AUTRES
MIXED: Final = "mixed"
DOMINANCE_NUMERATOR: Final = 85
"""Percent: the threshold of French statistical secrecy."""

EXEMPT: Final = frozenset({Population.SERVER})
"""Populations of machines without a personal user."""

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class DisclosureCell(Generic[K]):
    """A DisclosureCell is one figure to publish: contribution of each host, ≥ 0 (mJ or ms)."""

    key: K
    contributions: Mapping[HostId, int]
    beside: tuple[Mapping[HostId, int], ...] = ()
    """Contributions to other figures that are shown beside it, or that can be computed from shown figures.

    A figure without any contribution shows nothing and harms nobody.
    """
    constant: tuple[Mapping[HostId, int], ...] = ()
    """Contributions to such figures from a model: hosts count, the 85 % do not apply."""
    left: tuple[tuple[Mapping[HostId, int], ...], ...] = ()
    """For each part of a time, and each public watts: hosts whose energy in it is not these watts × time."""
    unknown: Mapping[HostId, int] = field(default_factory=dict)
    """Hosts with an energy at none of these watts."""
    members: Mapping[HostId, int] = field(default_factory=dict)
    """Hosts that the further condition is about."""
    allows: Callable[[Mapping[HostId, int], int], bool] | None = None
    """Further condition: tells if the cell of these members may be shown with this `k`."""
    as_if: DisclosureCell[K] | None = None
    """The cell as if its silent machines had been heard: what watts × time leave of it must be enough too.

    Such a cell is of machines that are known to be enrolled: it merges also where nothing was heard of them.
    """

    @property
    def figures(self) -> tuple[Mapping[HostId, int], ...]:
        """Return all figures of the cell."""
        return (self.contributions, *self.beside, *self.constant)

    @property
    def shows_something(self) -> bool:
        """Tell if a machine contributed to a figure, or is known to be enrolled."""
        return self.as_if is not None or any(any(figure.values()) for figure in self.figures)

    def is_safe(self, k: int) -> bool:
        """Tell if every figure of the cell is safe."""
        return (
            is_safe(self.contributions, k)
            and all(is_nobodys_or_safe(figure, k) for figure in self.beside)
            and self._keeps_enough(k)
            and (self.as_if is None or self.as_if._keeps_enough(k))
        )

    def _keeps_enough(self, k: int) -> bool:
        """Tell if no watts × time, subtracted from the energy part by part, leave 1 to `k` - 1 hosts.

        One part may leave `k` whatever the watts. Otherwise each leaves `k` or none, with the hosts that no
        watts remove. The further condition holds.
        """
        return (
            all(is_nobodys_or_enough(figure, k) for figure in self.constant)
            and (
                always_left(self.left) >= k
                or all(
                    is_nobodys_or_enough({**figure, **self.unknown}, k)
                    for part in self.left
                    for figure in part
                )
            )
            and (self.allows is None or self.allows(self.members, k))
        )


@dataclass(frozen=True, slots=True)
class DisclosedLevel(Generic[K]):
    """A DisclosedLevel is a level after the rule."""

    kept: tuple[DisclosureCell[K], ...]
    others: DisclosureCell[None] | None
    """Merged cell, or None."""
    merged_keys: tuple[K, ...]
    """Keys merged into `others`."""
    withheld_keys: tuple[K, ...]
    """All keys when the level is withheld, else none."""


def always_left(left: Iterable[Sequence[Mapping[HostId, int]]]) -> int:
    """Return the fewest hosts that are left: those of the part that keeps most, whatever its watts."""
    return max((min(map(count, part)) for part in left if part), default=0)


def count(contributions: Mapping[HostId, int]) -> int:
    """Count the machines that contributed."""
    return sum(1 for value in contributions.values() if value > 0)


def is_safe(contributions: Mapping[HostId, int], k: int) -> bool:
    """Tell if at least `k` hosts contributed and none holds more than 85 % of the sum."""
    present = [value for value in contributions.values() if value > 0]
    if len(present) < k:
        return False
    return max(present, default=0) * 100 <= sum(present) * DOMINANCE_NUMERATOR


def is_nobodys_or_safe(contributions: Mapping[HostId, int], k: int) -> bool:
    """Tell if nobody contributed, or the figure is safe."""
    return not any(contributions.values()) or is_safe(contributions, k)


def is_nobodys_or_enough(contributions: Mapping[HostId, int], k: int) -> bool:
    """Tell if nobody contributed, or at least `k` did."""
    return count(contributions) == 0 or count(contributions) >= k


def _by_size(cell: DisclosureCell[Any]) -> tuple[Any, ...]:
    return len(cell.contributions), str(cell.key)


def publish(
    cells: Iterable[DisclosureCell[K]],
    k: int,
    order: Callable[[DisclosureCell[K]], tuple[Any, ...]] = _by_size,
) -> DisclosedLevel[K]:
    """Apply the rule to the cells of one level. Cells may share hosts; their figures must be disjoint.

    `order` sorts the siblings that join `autres`, the first one first.
    """
    ordered = sorted((cell for cell in cells if cell.shows_something), key=order)
    kept = [cell for cell in ordered if cell.is_safe(k)]
    hidden = [cell for cell in ordered if not cell.is_safe(k)]
    if not hidden:
        return DisclosedLevel(tuple(kept), None, (), ())
    others = merge_cells(hidden, None)
    while not others.is_safe(k):
        if not kept:
            return DisclosedLevel((), None, (), tuple(cell.key for cell in hidden))
        hidden.append(kept.pop(0))
        others = merge_cells((others, hidden[-1]), None)
    return DisclosedLevel(tuple(kept), others, tuple(cell.key for cell in hidden), ())


def merge_cells(cells: Sequence[DisclosureCell[Any]], key: K) -> DisclosureCell[K]:
    """Sum the figures of cells of one family."""
    beside = zip(*(cell.beside for cell in cells), strict=True)
    constant = zip(*(cell.constant for cell in cells), strict=True)
    left = zip(*(cell.left for cell in cells), strict=True)
    as_if = [cell.as_if for cell in cells if cell.as_if is not None]
    return DisclosureCell(
        key,
        _sum(cell.contributions for cell in cells),
        tuple(map(_sum, beside)),
        tuple(map(_sum, constant)),
        tuple(tuple(map(_sum, zip(*parts, strict=True))) for parts in left),
        _sum(cell.unknown for cell in cells),
        _sum(cell.members for cell in cells),
        cells[0].allows,
        merge_cells(as_if, key) if as_if else None,
    )


def _sum(figures: Iterable[Mapping[HostId, int]]) -> dict[HostId, int]:
    total: dict[HostId, int] = {}
    for figure in figures:
        for host, value in figure.items():
            total[host] = total.get(host, 0) + value
    return total
