# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Merges groups too small to publish with their siblings (pure). docs/decisions/0046."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from veilleuse.collector.disclosure.rule import EXEMPT, DisclosureCell, publish
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import EnergyClass

T = TypeVar("T")
Add: TypeAlias = Callable[[Sequence[T]], T]
"""Sums groups into one."""
Cells: TypeAlias = Callable[[Mapping[GroupKey, T]], Sequence[DisclosureCell[GroupKey]]]
"""Returns what the rule needs to know of each group."""
_SCREENS = EnergyClass.MONITOR.value


@dataclass(frozen=True, slots=True)
class Family(Generic[T]):
    """Groups that may merge with each other."""

    key: GroupKey
    """Key without the requested dimensions; with class `monitor` for screens that are a family."""
    members: Mapping[GroupKey, T]

    def merge_small(
        self, cells: Sequence[DisclosureCell[GroupKey]], k: int, add: Add[T]
    ) -> list[tuple[GroupKey, T]] | None:
        """Return the members of these cells, small ones merged into `autres`; None: no merge is safe."""
        level = publish(cells, k)
        if level.withheld_keys:
            return None
        kept = [(cell.key, self.members[cell.key]) for cell in level.kept]
        hidden = [(key, self.members[key]) for key in level.merged_keys]
        return [*kept, self.merge(hidden, add)] if hidden else kept

    def merge_inside_perimeters(self, k: int, cells: Cells[T], add: Add[T]) -> Family[T]:
        """Return the family with the small groups of each perimeter merged, where these are enough."""
        perimeters = {key.perimeter: None for key in self.members}
        if len(perimeters) == 1:
            return self
        found: dict[GroupKey, T] = {}
        for perimeter in perimeters:
            members = {key: one for key, one in self.members.items() if key.perimeter == perimeter}
            merged = Family(self.key, members).merge_small(cells(members), k, add)
            found |= members if merged is None else dict(merged)
        return Family(self.key, found)

    def merge(self, hidden: Sequence[tuple[GroupKey, T]], add: Add[T]) -> tuple[GroupKey, T]:
        """Merge groups into one, named `autres` in every requested dimension; screens stay screens."""
        named = hidden[0][0].merged
        if len({key.perimeter for key, _ in hidden}) > 1:
            named = named._replace(perimeter=None)
        if self.key.device_class is not None:
            named = named._replace(device_class=self.key.device_class)
        return named, add([group for _, group in hidden])


def families(groups: Mapping[GroupKey, T], *, screens: bool = False) -> list[Family[T]]:
    """Divide groups into families; `screens`: those of screens are families of their own."""
    found: defaultdict[GroupKey, dict[GroupKey, T]] = defaultdict(dict)
    for key, group in groups.items():
        apart = _SCREENS if screens and key.device_class == _SCREENS else None
        found[key.family._replace(device_class=apart)][key] = group
    return [Family(key, members) for key, members in found.items()]


def merge_families(
    groups: Mapping[GroupKey, T],
    k: int,
    cells: Cells[T],
    add: Add[T],
    *,
    screens: bool = False,
) -> tuple[list[tuple[GroupKey, T]], list[GroupKey]]:
    """Return (rows that may be published, families withheld whole).

    Groups without a population, or of one without personal users, stay as they are, and so do all with k = 1:
    the caller applies the rule.
    """
    rows: list[tuple[GroupKey, T]] = []
    withheld: list[GroupKey] = []
    for family in families(groups, screens=screens):
        merged: list[tuple[GroupKey, T]] | None = list(family.members.items())
        if k > 1 and family.key.population is not None and family.key.population not in EXEMPT:
            inside = family.merge_inside_perimeters(k, cells, add)
            merged = inside.merge_small(cells(inside.members), k, add)
        if merged is None:
            withheld.append(family.key)
        rows += merged or ()
    return rows, withheld
