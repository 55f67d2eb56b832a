# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The rule of veilleuse.collector.privacy on the groups of a report (pure). DESIGN.md §7; servers are exempt.

Families (period, zone, population, memo) are settled apart, so that no total less its rows ever leaves fewer than k
machines. That holds within one report: two reports that group one period differently can be subtracted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from veilleuse.collector.account.tally import Share, Tally
from veilleuse.collector.figures import AUTRES, Group, GroupKey
from veilleuse.collector.privacy import EXEMPT, Cell, publish


def fit_to_show(groups: Mapping[GroupKey, Tally], k: int) -> tuple[tuple[Group, ...], tuple[GroupKey, ...]]:
    """(groups as they may be shown, families withheld).

    A group behind whose time or energy fewer than k machines stand, or one almost alone, merges into `autres`, with the
    smallest of its siblings until that is safe; a family for which it never is, is withheld whole, from the totals too.
    A group nobody contributed to shows nothing and stays. With k = 1 everything is shown: the caller sees to the rule.
    """
    shown: list[Group] = []
    withheld: list[GroupKey] = []
    families: defaultdict[GroupKey, dict[GroupKey, Tally]] = defaultdict(dict)
    for key, tally in groups.items():
        if k == 1 or key.population in EXEMPT or not tally.hosts:
            shown.append(Group(key, tally.freeze(key.population, frozenset())))
        else:
            families[_family(key)][key] = tally
    for family, members in families.items():
        level = publish([_cell(key, tally) for key, tally in members.items()], k)
        if level.withheld_keys:
            withheld.append(family)
        else:
            shown += [_whole(cell.key, members[cell.key], k) for cell in level.kept]
            shown += _autres([(key, members[key]) for key in level.merged_keys], k)
    return tuple(shown), tuple(withheld)


def _cell(key: GroupKey, tally: Tally) -> Cell[GroupKey]:
    return Cell(key, tally.shares[Share.OBSERVED], (tally.shares[Share.ENERGY],))


def _whole(key: GroupKey, tally: Tally, k: int) -> Group:
    return Group(key, tally.freeze(key.population, tally.unsafe(k)))


def _family(key: GroupKey) -> GroupKey:
    return replace(key, entity=None, site=None, device_class=None)


def _autres(hidden: Sequence[tuple[GroupKey, Tally]], k: int) -> Iterator[Group]:
    """The one group of those hidden: `autres` in every dimension that was asked for, blank in the others."""
    merged = Tally()
    for _, tally in hidden:
        merged.add(tally)
    for key, _ in hidden[:1]:
        named = replace(
            key,
            entity=key.entity and AUTRES,
            site=key.site and AUTRES,
            device_class=key.device_class and AUTRES,
            autres=True,
        )
        yield _whole(named, merged, k)
