# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Merges groups too small to publish with their siblings (pure). docs/decisions/0046.

A released month merges along the path of its entities, each class by itself first (`merge_along_path`). An
unreleased answer merges all of a family into one row (`merge_families`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from veilleuse.collector.disclosure.rule import EXEMPT, DisclosureCell, merge_cells, publish
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.model.sums import EnergyClass

T = TypeVar("T")
Add: TypeAlias = Callable[[Sequence[T]], T]
"""Sums groups into one."""
PerimeterOf: TypeAlias = Callable[[GroupKey], str]
"""Returns the perimeter of a group."""
Cells: TypeAlias = Callable[[Mapping[GroupKey, T]], Sequence[DisclosureCell[GroupKey]]]
"""Returns what the rule needs to know of each group."""
_SCREENS = EnergyClass.MONITOR.value


@dataclass(frozen=True, slots=True)
class Family(Generic[T]):
    """Groups that may merge with each other."""

    key: GroupKey
    """Key without the requested dimensions; with class `monitor` for screens that are a family."""
    members: Mapping[GroupKey, T]


def families(groups: Mapping[GroupKey, T]) -> list[Family[T]]:
    """Divide groups into families; those of screens are families of their own."""
    found: defaultdict[GroupKey, dict[GroupKey, T]] = defaultdict(dict)
    for key, group in groups.items():
        apart = _SCREENS if key.device_class == _SCREENS else None
        found[key.family._replace(device_class=apart)][key] = group
    return [Family(key, members) for key, members in found.items()]


def merge_families(
    groups: Mapping[GroupKey, T],
    k: int,
    cells: Cells[T],
    add: Add[T],
) -> tuple[list[tuple[GroupKey, T]], list[GroupKey]]:
    """Return (rows that may be published, families withheld whole).

    Groups without a population, or of one without personal users, stay as they are, and so do all with k = 1:
    the caller applies the rule.
    """
    rows: list[tuple[GroupKey, T]] = []
    withheld: list[GroupKey] = []
    for family in families(groups):
        merged: list[tuple[GroupKey, T]] | None = list(family.members.items())
        if k > 1 and family.key.population is not None and family.key.population not in EXEMPT:
            inside = _merge_inside_perimeters(family, k, cells, add)
            merged = _merge_small(inside, cells(inside.members), k, add)
        if merged is None:
            withheld.append(family.key)
        rows += merged or ()
    return rows, withheld


def _merge_inside_perimeters(family: Family[T], k: int, cells: Cells[T], add: Add[T]) -> Family[T]:
    """Return the family with the small groups of each perimeter merged, where these are enough."""
    perimeters = {key.perimeter: None for key in family.members}
    if len(perimeters) == 1:
        return family
    found: dict[GroupKey, T] = {}
    for perimeter in perimeters:
        members = {key: one for key, one in family.members.items() if key.perimeter == perimeter}
        merged = _merge_small(Family(family.key, members), cells(members), k, add)
        found |= members if merged is None else dict(merged)
    return Family(family.key, found)


def _merge_small(
    family: Family[T], cells: Sequence[DisclosureCell[GroupKey]], k: int, add: Add[T]
) -> list[tuple[GroupKey, T]] | None:
    """Return the members of these cells, small ones merged into `autres`; None: no merge is safe."""
    level = publish(cells, k)
    if level.withheld_keys:
        return None
    kept = [(cell.key, family.members[cell.key]) for cell in level.kept]
    if not level.merged_keys:
        return kept
    named = level.merged_keys[0].merged
    if len({key.perimeter for key in level.merged_keys}) > 1:
        named = named._replace(perimeter=None)
    return [*kept, (named, add([family.members[key] for key in level.merged_keys]))]


def all_in_one(_: GroupKey) -> str:
    """Return one perimeter for all groups."""
    return ""


def merge_along_path(
    cells: Sequence[DisclosureCell[GroupKey]], k: int, perimeter_of: PerimeterOf = all_in_one
) -> dict[GroupKey, tuple[GroupKey, ...]] | None:
    """Return published row → the cells that it holds, of one family; None: no merge is safe.

    Perimeters are divided separately. They are one where one of them cannot be made safe alone, or where two
    of them have a row of the same name.
    """
    by_perimeter: defaultdict[str, list[DisclosureCell[GroupKey]]] = defaultdict(list)
    for cell in cells:
        if cell.shows_something:
            by_perimeter[perimeter_of(cell.key)].append(cell)
    found: dict[GroupKey, tuple[GroupKey, ...]] = {}
    for inside in by_perimeter.values():
        rows = _Path(inside, k)
        if not rows.merge() or found.keys() & rows.inside.keys():
            return merge_along_path(cells, k) if len(by_perimeter) > 1 else None
        found |= rows.inside
    return found


class _Path:
    """Rows of one family and perimeter.

    The merged row of a cell is the nearest one above it (`GroupKey.merged_above`): nothing else tells which
    it is. So of the rows that join others to make them safe, merged ones come first, those of the highest
    branch before others.
    """

    def __init__(self, cells: Sequence[DisclosureCell[GroupKey]], k: int) -> None:
        """Begin with one row for each cell."""
        self._cells = {cell.key: cell for cell in cells}
        self._k = k
        self.inside: dict[GroupKey, tuple[GroupKey, ...]] = {key: (key,) for key in self._cells}
        """Row → its cells."""

    def merge(self) -> bool:
        """Merge unsafe rows: those of one class, branch by branch upwards; then all classes.

        Return whether all rows are safe.
        """
        paths = [key.path for key in self._cells]
        top = _common(paths)
        for depth in range(max(map(len, paths)) - 1, len(top) - 1, -1):
            branches: defaultdict[tuple[tuple[str, ...], str | None], list[GroupKey]] = defaultdict(list)
            for key in self._cells:
                if len(path := key.path) >= depth:
                    branches[path[:depth], key.device_class].append(key)
            for (path, device_class), keys in branches.items():
                self._merge_level(keys, keys[0].merged_at(path, device_class))
        keys = list(self._cells)
        return self._merge_level(keys, keys[0].merged_at(top, AUTRES))

    def _merge_level(self, keys: Sequence[GroupKey], named: GroupKey) -> bool:
        """Merge the unsafe ones of these rows under a name, if that is safe; return whether all are."""
        level = publish((self._cells[key] for key in keys), self._k, _merged_first)
        if level.others is not None:
            hidden = dict.fromkeys((*level.merged_keys, *(key for key in self._cells if key == named)))
            self._cells[named] = merge_cells([self._cells.pop(key) for key in hidden], named)
            self.inside[named] = tuple(one for key in hidden for one in self.inside.pop(key))
        return not level.withheld_keys


def _merged_first(cell: DisclosureCell[GroupKey]) -> tuple[bool, int, int, str]:
    key, size = cell.key, len(cell.contributions)
    return not key.autres, len(key.path) if key.autres else 0, size, str(key)


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the branch that all paths share."""
    low, high = min(paths), max(paths)
    depth = next((at for at, part in enumerate(low) if high[at : at + 1] != (part,)), len(low))
    return low[:depth]
