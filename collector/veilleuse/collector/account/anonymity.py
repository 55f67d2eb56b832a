# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The rule of veilleuse.collector.disclosure on the groups of a report (pure). docs/decisions/0046; servers are exempt.

Families (period, zone, population, memo; screens apart) are settled apart, so that no total less its rows ever leaves fewer than k
machines, and no row has the energy of two grid zones. That holds within one report: two reports that group one period differently can
be subtracted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from veilleuse.collector.account.group_sums import Tally
from veilleuse.collector.account.rates import rates_of
from veilleuse.collector.disclosure import EXEMPT, publish
from veilleuse.collector.model.figures import AUTRES, Detail, EnergyClass, Group, GroupKey

Member = tuple[GroupKey, Tally]


@dataclass(frozen=True, slots=True)
class Family:
    """What may merge with each other."""

    key: GroupKey
    """Without entity, site and class; `monitor` of screens."""
    members: Mapping[GroupKey, Tally]

    def merged(self, k: int) -> list[Member] | None:
        """Those with machines, small ones merged into `autres`; None: it is never safe."""
        heard = {key: tally for key, tally in self.members.items() if tally.hosts}
        rates = rates_of(heard.values())
        level = publish([tally.cell(key, rates) for key, tally in heard.items()], k)
        if level.withheld_keys:
            return None
        found = [(cell.key, heard[cell.key]) for cell in level.kept]
        return found + ([autres([(key, heard[key]) for key in level.merged_keys])] if level.others else [])


def families(groups: Mapping[GroupKey, Tally]) -> list[Family]:
    """Of groups under the rule."""
    found: defaultdict[GroupKey, dict[GroupKey, Tally]] = defaultdict(dict)
    for key, tally in groups.items():
        found[_family(key)][key] = tally
    return [Family(key, members) for key, members in found.items()]


def fit_to_show(groups: Mapping[GroupKey, Tally], k: int) -> tuple[tuple[Group, ...], tuple[GroupKey, ...]]:
    """(groups as they may be shown, families withheld).

    A group behind whose time or energy fewer than k machines stand, or one almost alone, merges into `autres`, with the
    smallest of its siblings until that is safe; a family for which it never is, is withheld whole, from the totals too.
    Each tells as much of its parts as it may. A group nobody contributed to is a row where k of its machines were enrolled.
    With k = 1 everything is shown: the caller sees to the rule.
    """
    shown: list[Group] = []
    withheld: list[GroupKey] = []
    ruled: dict[GroupKey, Tally] = {}
    for key, tally in groups.items():
        if k == 1 or key.population in EXEMPT:
            shown.append(Group(key, tally.freeze(key.population, frozenset())))
        else:
            ruled[key] = tally
    for family in families(ruled):
        merged = family.merged(k)
        silent = [
            (key, tally)
            for key, tally in family.members.items()
            if not tally.hosts and tally.enrolled and tally.tells_coverage(k)
        ]
        if merged is None:
            withheld.append(family.key)
        shown += [_told(key, tally, k) for key, tally in (*(merged or ()), *silent)]
    return tuple(shown), tuple(withheld)


def _told(key: GroupKey, tally: Tally, k: int) -> Group:
    level = tally.level(k)
    withheld = level.withheld | tally.unsafe(k)
    if level.parts and not tally.tells_energies(level, rates_of([tally]), k):
        withheld |= {Detail.ENERGIES}
    return Group(key, tally.freeze(key.population, withheld, exact=False))


def _family(key: GroupKey) -> GroupKey:
    screens = EnergyClass.MONITOR.value
    device_class = screens if key.device_class == screens else None
    return replace(key, entity=None, site=None, device_class=device_class)


def autres(hidden: Sequence[Member]) -> Member:
    """The one group of those hidden: `autres` in every dimension that was asked for, blank in the others; screens stay screens."""
    key = hidden[0][0]
    screens = key.device_class == EnergyClass.MONITOR.value
    named = replace(
        key,
        entity=key.entity and AUTRES,
        site=key.site and AUTRES,
        device_class=key.device_class if screens else key.device_class and AUTRES,
        autres=True,
    )
    return named, together(tally for _, tally in hidden)


def together(tallies: Iterable[Tally]) -> Tally:
    """All of them as one."""
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole
