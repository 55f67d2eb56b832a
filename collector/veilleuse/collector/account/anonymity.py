# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Groups of fewer than k workstations or classroom PCs are not shown: merged into `autres`, or withheld (pure).

DESIGN.md §7. Servers are exempt. Families (period, zone, population, memo) are settled apart, so that no total less its
rows ever leaves fewer than k machines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, Self, TypeVar

from veilleuse.collector.figures import AUTRES, GroupKey
from veilleuse.collector.model import HostId
from veilleuse.wire.vocabulary import Population


class Mergeable(Protocol):
    """A group that knows its machines."""

    hosts: set[HostId]

    def add(self, other: Self, /) -> None:
        """Take another one in."""


M = TypeVar("M", bound=Mergeable)


def merge_small(
    groups: Mapping[GroupKey, M], k: int, empty: Callable[[], M]
) -> tuple[dict[GroupKey, M], tuple[GroupKey, ...]]:
    """(groups fit to be shown, families withheld).

    Groups of 1 to k − 1 machines merge into `autres`, with the smallest of their siblings until it holds k; a family
    that cannot reach k is withheld whole, from the totals too. A group nobody contributed to shows nothing and stays.
    """
    shown: dict[GroupKey, M] = {}
    withheld: list[GroupKey] = []
    families: defaultdict[GroupKey, dict[GroupKey, M]] = defaultdict(dict)
    for key, group in groups.items():
        if key.population is Population.SERVER or not group.hosts:
            shown[key] = group
        else:
            families[_family(key)][key] = group
    for family, members in families.items():
        kept, hidden = _divide(members, k)
        merged = empty()
        for group in hidden.values():
            merged.add(group)
        if hidden and len(merged.hosts) < k:
            withheld.append(family)
            continue
        shown |= kept
        if hidden:
            shown[_autres(next(iter(hidden)))] = merged
    return shown, tuple(withheld)


def _divide(members: dict[GroupKey, M], k: int) -> tuple[dict[GroupKey, M], dict[GroupKey, M]]:
    by_size = sorted(members.items(), key=lambda item: len(item[1].hosts))
    hidden: dict[GroupKey, M] = {}
    machines: set[HostId] = set()
    for key, group in by_size:
        if len(group.hosts) >= k and (not hidden or len(machines) >= k):
            break
        hidden[key] = group
        machines |= group.hosts
    return {key: group for key, group in members.items() if key not in hidden}, hidden


def _family(key: GroupKey) -> GroupKey:
    return replace(key, entity=None, site=None, device_class=None)


def _autres(key: GroupKey) -> GroupKey:
    """`autres` in every dimension that was asked for; blank in the others."""
    return replace(
        key,
        entity=key.entity and AUTRES,
        site=key.site and AUTRES,
        device_class=key.device_class and AUTRES,
    )
