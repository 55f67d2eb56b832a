# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Rows of what laptops draw at home, beside the rows they stand in (pure). METHOD.md §2, DESIGN.md §7; decision 0041.

Two figures of one row, on site and at home, are two sums of its machines with two sets of known shares. Whoever has both can make the
machines of any one share fall out of them: the machines that are left must be k or more, none of them with almost all. Where they are
not, the row's part at home is told with those of other rows, as `autres`; where that is not enough either, it stays on site.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from veilleuse.collector.account.fleet_inputs import Stratum
from veilleuse.collector.account.telework import HomeShare
from veilleuse.collector.account.yearly_rows import Gathering, RowKey
from veilleuse.collector.figures import AUTRES
from veilleuse.collector.inventoried import PowerContext
from veilleuse.collector.privacy import EXEMPT, Cell, publish

Row: TypeAlias = tuple[RowKey, Gathering]


def home_key(key: RowKey) -> RowKey:
    """Of the row that holds another's part at home."""
    return replace(key, power_context=PowerContext.HOME)


def hidden_key(key: RowKey) -> RowKey:
    """Of the row for several groups: `autres` in every dimension that was asked for."""
    return replace(
        key,
        entity=key.entity and AUTRES,
        site=key.site and AUTRES,
        device_class=key.device_class and AUTRES,
        autres=True,
    )


def with_home(
    rows: Sequence[Row], shares: Mapping[Stratum, HomeShare], k: int
) -> tuple[list[tuple[RowKey, Gathering, bool]], dict[Stratum, HomeShare]]:
    """(key, gathering, whether how it is known is hidden) of `rows` and of the parts at home beside them; the shares to divide by.

    A row whose machines are at home all the time is no more. Parts at home of one key are one row, with what is of that key already.
    """
    if not shares:
        return [(key, one, _hides(key, one, k)) for key, one in rows], {}
    homes: dict[RowKey, Gathering] = {}
    hidden: dict[RowKey, bool] = {}
    divided: set[Stratum] = set()
    for key, own in _told(rows, k):
        for one in own:
            home = _at_home(one)
            homes.setdefault(key, Gathering()).merge(home)
            divided |= home.strata
        hidden[key] = hidden.get(key, False) or any(_hides(key, left, k) for left in _left_of(own))
    told = {stratum: share for stratum, share in shares.items() if stratum in divided}
    found = []
    for key, one in rows:
        at_home = homes.pop(key, None)
        if at_home is not None:  # others are at home by the inventory
            at_home.merge(one)
        elif all(stratum in told and told[stratum].share == 1 for stratum in one.strata):
            continue
        made = at_home or one
        found.append((key, made, hidden.get(key, False) or _hides(key, one, k)))
    found += [(key, one, hidden[key] or _hides(key, one, k)) for key, one in homes.items()]
    return found, told


def _hides(key: RowKey, one: Gathering, k: int) -> bool:
    return key.population not in EXEMPT and one.hides_methods(k)


def _told(rows: Iterable[Row], k: int) -> Iterable[tuple[RowKey, list[Gathering]]]:
    """Key of a row at home → the rows that it takes its part from."""
    families: defaultdict[RowKey, dict[RowKey, tuple[Gathering, Cell[RowKey]]]] = defaultdict(dict)
    for key, one in rows:
        if not any(one.by_share):
            continue
        left = _left_over(one)
        if k == 1 or key.population in EXEMPT or not left:
            yield home_key(key), [one]
        else:
            family = replace(home_key(key), entity=None, site=None, device_class=None, autres=False)
            families[family][key] = one, _cell(key, left)
    for members in families.values():
        level = publish([cell for _, cell in members.values()], k)
        together = [members[key][0] for key in level.merged_keys]
        if together:
            first = home_key(level.merged_keys[0])
            yield hidden_key(first), together
        for key, (one, _) in members.items():
            if key not in level.merged_keys and key not in level.withheld_keys:
                yield home_key(key), [one]


def _left_over(one: Gathering) -> list[Gathering]:
    """What is left of a row when the machines of one share fall out, for each share that leaves some that were observed."""
    found = []
    for share in one.by_share:
        rest = Gathering()
        for other, part in one.by_share.items():
            if other != share:
                rest.merge(part)
        if rest.observed:
            found.append(rest)
    return found


def _cell(key: RowKey, left: Sequence[Gathering]) -> Cell[RowKey]:
    """Of the fewest machines that can be left, and of those that one of them makes up most of."""
    fewest = min(left, key=_size)
    uneven = max(left, key=_largest_part)
    return Cell(key, fewest.observed, (fewest.energies, uneven.energies))


def _largest_part(one: Gathering) -> float:
    whole = sum(one.energies.values())
    return max(one.energies.values()) / whole if whole else 0.0


def _left_of(rows: Sequence[Gathering]) -> list[Gathering]:
    """What can be left of a row; of several that are told together the fewest machines of each, as one."""
    if len(rows) == 1:
        return _left_over(rows[0])
    fewest = Gathering()
    for one in rows:
        fewest.merge(min(_left_over(one), key=_size))
    return [fewest]


def _size(one: Gathering) -> int:
    return len(one.observed)


def _at_home(one: Gathering) -> Gathering:
    """What of a row has a share."""
    home = Gathering()
    for share, part in one.by_share.items():
        if share:
            home.merge(part)
    return home
