# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds a month of workstations and classroom PCs as it is published (pure). docs/decisions/0046.

Any number of readers may send any number of queries and combine the answers. So the fleet has one partition:
entity × device class × calendar month, made safe once (veilleuse.collector.disclosure). Small groups merge
with those of their class in the nearest branch of the entities, and with other classes last. Three tables of
disjoint groups are built in one pass. Every published value is a sum of their rows, so that no sum or
difference of published values is of fewer than k machines:
- `cells`: machines, known time and energy, as finely as groups may be;
- `uses`: the parts of time and energy, of cells, or of several cells together where a part has few machines;
- `whole`: coverage, of each family as a whole.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from itertools import accumulate, combinations, pairwise
from typing import Final, TypeAlias, TypeVar

from veilleuse.collector.account.group_sums import (
    Tally,
    sum_tallies,
)
from veilleuse.collector.account.observations import tally_periods, u_model
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.partition import (
    Family,
    PerimeterOf,
    all_in_one,
    families,
    merge_along_path,
)
from veilleuse.collector.disclosure.parts import (
    ACTIVE,
    LEVELS,
    NO_PARTS,
    ON,
    OUTSIDE,
    Level,
    Part,
    Rates,
    ScreenedPc,
    ScreenRule,
    may_be_told_together,
    rates_of,
    rates_of_screens,
)
from veilleuse.collector.disclosure.rule import EXEMPT, DisclosureCell
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.months import WAIT_DAYS
from veilleuse.collector.model.query import AUTRES, GroupKey, Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import (
    KNOWN_STATES,
    REST_STATES,
    Detail,
    EnergyClass,
    EnergyKey,
    EnergySums,
    Group,
)
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.ports.store import DataReader
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Band, DeviceClass, State

K = TypeVar("K")
LITTLE: Final = 2
"""Least ratio of time at rest to its correction; below it, all known time is corrected."""


def round_to_machine_days(tally: Tally, k: int) -> Tally:
    """Return the tally with its known time rounded to 24 h × machines, where 1 to k − 1 machines were silent.

    Known time is never above enrolled time. Time at rest takes the difference, and its energy in proportion.
    Watts stay the same: otherwise a model's watts would reveal the time.
    """
    machines = len(tally.hosts)
    known = sum(sums.milliseconds for (_, state), sums in tally.states.items() if state in KNOWN_STATES)
    step = machines * MILLISECONDS_PER_DAY
    if not known or tally.may_publish_silence(k):
        return tally
    target = max(1, (known + step // 2) // step) * step
    if target > tally.enrolled_milliseconds:
        target = target - step or tally.enrolled_milliseconds  # enrolled for less than a day each: never 0
    rest = sum(sums.milliseconds for (_, state), sums in tally.states.items() if state in REST_STATES)
    states = REST_STATES if rest > LITTLE * abs(target - known) else KNOWN_STATES
    return _add_time(tally, states, target - known, rest if states is REST_STATES else known)


def _add_time(tally: Tally, states: frozenset[State], more: int, of: int) -> Tally:
    """Add `more` milliseconds to the `of` milliseconds of these states, in proportion."""

    def changed(value: int) -> int:
        return value * (of + more) // of

    times = {key: sums for key, sums in tally.states.items() if key[1] in states}
    whole = _in_proportion({key: sums.milliseconds for key, sums in times.items()}, of, more)
    found = replace(tally)
    found.states = tally.states | {
        key: replace(sums.share(changed), milliseconds=whole[key]) for key, sums in times.items()
    }
    found.energies = dict(tally.energies)
    for key, energy in tally.energies.items():
        if key[3] in states:
            found.energies[key] = replace(energy.share(changed), milliseconds=energy.milliseconds)
    # A month pairs methods' times with states in order: the time with an energy is scaled as a whole.
    derived = {key: energy.milliseconds for key, energy in found.energies.items()}
    known = sum(sums.milliseconds for (_, state), sums in tally.states.items() if state in KNOWN_STATES)
    for key, milliseconds in _in_proportion(derived, known, more).items():
        found.energies[key] = replace(found.energies[key], milliseconds=milliseconds)
    return found


def _in_proportion(values: Mapping[K, int], of: int, more: int) -> Mapping[K, int]:
    """Multiply each value by (of + more) ÷ of, rounded so that the sum is too."""
    ends: Sequence[int] = [end * (of + more) // of for end in accumulate(values.values(), initial=0)]
    return {key: after - before for key, (before, after) in zip(values, pairwise(ends), strict=True)}


U_STEPS: Final = 20
"""Steps, from 0 to 1, of the relative standard uncertainty of a cell's energy.
Rounding up hides each machine's method.
"""
_EVERYTHING: Final = frozenset(Detail) - {Detail.ENERGIES}
_COVERAGE: Final[frozenset[Detail]] = frozenset({Detail.COVERAGE, Detail.DERIVED})


PARTITION: Final = ("entity", "device_class", "month")


Rows: TypeAlias = Mapping[GroupKey, tuple[GroupKey, ...]]
"""Row → the groups that it holds."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """Names of one family with machines in its merged rows of one branch: their combination is not published.

    A class without a merged row of its own there is in the branch's row of several classes.
    """

    family: GroupKey
    """Family, with the branch as its entity; AUTRES, or None in older months, for all entities."""
    entities: frozenset[str]
    device_classes: frozenset[str]

    @property
    def branch(self) -> str:
        """Entity of the merged rows."""
        return self.family.entity or AUTRES


@dataclass(frozen=True, slots=True)
class Month:
    """A released month in three tables. Their keys have its period."""

    part: Slice
    cells: tuple[Group, ...]
    """Entity × device class, or several merged: machines, time and energy."""
    uses: tuple[Group, ...]
    """The same machines without screens, in the same groups or fewer: parts of their time and energy."""
    whole: tuple[Group, ...]
    """One group per family (zone, population, memo), without screens: enrolled and derived time."""
    withheld: tuple[GroupKey, ...]
    """Families with nothing that may be disclosed."""
    hidden_cells: tuple[Hidden, ...] = ()
    """Entities and classes that `cells` merged, by name."""
    hidden_uses: tuple[Hidden, ...] = ()


def build_month(
    part: Slice, groups: Mapping[GroupKey, Tally], k: int, perimeter_of: PerimeterOf = all_in_one
) -> Month:
    """Build a month of groups under the disclosure rule, by entity and device class.

    Groups of different perimeters merge only where one perimeter cannot be made safe alone.
    """
    cells: list[Group] = []
    uses: list[Group] = []
    whole: list[Group] = []
    withheld: list[GroupKey] = []
    hidden_cells: list[Hidden] = []
    hidden_uses: list[Hidden] = []
    screens: dict[GroupKey, Callable[[GroupKey, Tally], DisclosureCell[GroupKey]]] = {}
    for family in sorted(families(groups), key=lambda one: one.key.device_class is not None):
        heard = {key: tally for key, tally in family.members.items() if tally.hosts}
        rates = rates_of(heard.values())
        cell = screens.get(family.key, partial(_cell_of, rates))
        rows = merge_along_path([cell(key, tally) for key, tally in heard.items()], k, perimeter_of)
        if rows is None:
            withheld.append(family.key)
        elif rows:
            merged = {
                key: round_to_machine_days(sum_tallies(heard[one] for one in inside), k)
                for key, inside in rows.items()
            }
            cells += [
                _cell(key, one, [heard[name] for name in rows[key]] if key.autres else [one])
                for key, one in merged.items()
            ]
            hidden_cells += _hidden(family.key, rows)
            if family.key.device_class is None:
                of_family, inside, level = _uses(merged, rows, k, perimeter_of)
                uses += of_family
                of_screens = family.key._replace(device_class=EnergyClass.MONITOR.value)
                screens[of_screens] = _cells_of_screens(heard, groups, rows, inside, level)
                hidden_uses += _hidden(family.key, inside)
                whole.append(_whole(family, merged.values(), k))
    return Month(
        part,
        _sorted(cells),
        _sorted(uses),
        _sorted(whole),
        tuple(withheld),
        tuple(hidden_cells),
        tuple(hidden_uses),
    )


def _sorted(groups: Iterable[Group]) -> tuple[Group, ...]:
    return tuple(sorted(groups, key=lambda group: group.key.order))


def _hidden(family: GroupKey, rows: Rows) -> list[Hidden]:
    """Return the names in merged rows, by branch."""
    merged: defaultdict[str, list[GroupKey]] = defaultdict(list)
    for key, inside in rows.items():
        if key.autres and key.entity is not None:
            merged[key.entity] += inside
    return [
        Hidden(
            family._replace(entity=branch),
            frozenset(key.entity for key in inside if key.entity),
            frozenset(key.device_class for key in inside if key.device_class),
        )
        for branch, inside in sorted(merged.items())
    ]


def _cell(key: GroupKey, tally: Tally, inside: Sequence[Tally]) -> Group:
    """Return the row of a cell; `inside`: the tallies that it holds."""
    of_screens = key.device_class == EnergyClass.MONITOR.value
    # Screens have no enrolled time: nothing to withhold.
    details = _COVERAGE if of_screens else frozenset()
    sums = tally.freeze(key.population, _EVERYTHING - details, exact=False)
    energy = sum(one.energy_millijoules for one in sums.energies.values())
    if not sums.energies:
        return Group(key, sums)
    u = _round_up_uncertainty(sum(_uncertainty(key, one) for one in inside) / energy if energy else 0.0)
    named = next(device_class for device_class, *_ in sums.energies)
    if key.device_class == AUTRES:
        named = EnergyClass.AUTRES
    return Group(
        key,
        replace(sums, energies={_energy_key(named): EnergySums(0, energy, math.ceil(energy * u))}),
    )


def _uncertainty(key: GroupKey, tally: Tally) -> float:
    """Return the uncertainty, mJ, that the group would have in its own row.

    Merged with others, it must not look more certain.
    """
    sums = tally.freeze(key.population, frozenset())
    energy = sum(one.energy_millijoules for one in sums.energies.values())
    return energy * _round_up_uncertainty(u_model([Group(key, sums)]))


def _round_up_uncertainty(u: float) -> float:
    return max(1, math.ceil(u * U_STEPS - 1e-9)) / U_STEPS


def _energy_key(device_class: DeviceClass | EnergyClass) -> EnergyKey:
    """Return the key that replaces all methods, bands and states."""
    return device_class, Method.LOAD_MODELLED, Band.OPEN, State.OFF


def _cell_of(rates: Rates, key: GroupKey, tally: Tally) -> DisclosureCell[GroupKey]:
    return tally.cell(key, rates)


def _cells_of_screens(
    pcs: Mapping[GroupKey, Tally],
    groups: Mapping[GroupKey, Tally],
    cells: Rows,
    uses: Rows,
    level: Level,
) -> Callable[[GroupKey, Tally], DisclosureCell[GroupKey]]:
    """Return what the rule needs to know of screens: their PCs and those without, of each entity.

    `groups`: all of the month. `cells`, `uses`: published rows of these PCs, with the groups behind each.
    """
    rule = ScreenRule[GroupKey](level)
    cell_of, row_of = ({one: row for row, inside in rows.items() for one in inside} for rows in (cells, uses))
    of_entity: defaultdict[str | None, dict[HostId, int]] = defaultdict(dict)
    for key, tally in pcs.items():
        own = groups.get(key._replace(device_class=EnergyClass.MONITOR.value), Tally())
        for host_id in tally.hosts:
            of_entity[key.entity][host_id] = 1
            rates = []
            for hours in (~OUTSIDE, OUTSIDE):
                on, active = (
                    sum(times[host_id] for part, times in tally.times.items() if part & parts & hours)
                    for parts in (ON, ACTIVE)
                )
                drawn = sum(more[host_id] for (part, _), more in own.draws.items() if part & hours)
                rates.append(rates_of_screens(on, active, drawn))
            rule.add(host_id, ScreenedPc(cell_of[key], row_of[key], key.device_class, tuple(rates)))

    def cell(key: GroupKey, tally: Tally) -> DisclosureCell[GroupKey]:
        return replace(tally.cell(key), members=of_entity[key.entity], allows=rule.allows)

    return cell


def _uses(
    cells: Mapping[GroupKey, Tally], names: Rows, k: int, perimeter_of: PerimeterOf
) -> tuple[list[Group], Rows, Level]:
    """Return the parts of cells, or of several together, the groups behind each row, and the level.

    `names`: the groups that each cell holds. A row that several cells share has no energies.
    """
    rates = rates_of(cells.values())
    level, rows = _rows_of_uses(cells, rates, k, {key: perimeter_of(names[key][0]) for key in cells})
    uses = []
    for key, inside in rows.items():
        alone = len(inside) == 1 and cells[inside[0]].may_publish_energies(level, rates, k)
        uses.append(_use(key, sum_tallies(cells[one] for one in inside), level, k, energies=alone))
    behind = {key: tuple(name for one in inside for name in names[one]) for key, inside in rows.items()}
    return uses, behind, level


def _rows_of_uses(
    cells: Mapping[GroupKey, Tally], rates: Rates, k: int, perimeters: Mapping[GroupKey, str]
) -> tuple[Level, Rows]:
    """Return the finest level of parts that may be published, and the cells of each row."""
    for level in LEVELS:
        parts = [tally.parts(key, level, rates) for key, tally in cells.items()]
        rows = merge_along_path(parts, k, perimeters.__getitem__)
        if rows is not None and all(
            may_share([cells[key] for key in inside], level, rates, k) for inside in rows.values()
        ):
            return level, rows
    return Level((), NO_PARTS), {key: (key,) for key in cells}


def may_share(cells: Sequence[Tally], level: Level, rates: Rates, k: int) -> bool:
    """Return whether the parts of these cells together may be published beside each cell's total."""
    return len(cells) == 1 or (
        _energies_keep_enough(cells, level, rates, k)
        and all(
            may_be_told_together([tally.masks(getattr(tally, table)) for tally in cells], level.parts, k)
            for table in ("times", "drawn")
        )
    )


def _energies_keep_enough(cells: Sequence[Tally], level: Level, rates: Rates, k: int) -> bool:
    """Return whether no weights of cells' energies and of the parts' times leave 1 to k − 1 machines.

    An energy leaves k machines of its cell whatever the parts weigh, or fewer. Then parts of other watts have
    other weights, and a cell without a weight on its energy keeps its machines that have several of them: for
    each set of parts of one weight, the two cells keep k together. If all energies weigh, all cells do.
    """
    left = [tally.fewest_left(level, rates) for tally in cells]
    weak = [tally for tally, fewest in zip(cells, left, strict=True) if fewest is not None and fewest < k]
    if not weak:
        return True
    masks = [(tally, tally.masks(tally.times)) for tally in cells]
    sets = (Part(sum(some)) for size in range(len(level.parts)) for some in combinations(level.parts, size))
    return sum(filter(None, left)) >= k and all(
        tally.fewest_at_one_rate(parts, rates)
        + sum(machines for mask, machines in of_other.items() if mask & ~parts)
        >= k
        for parts in sets
        for tally in weak
        for other, of_other in masks
        if other is not tally
    )


def _use(key: GroupKey, tally: Tally, level: Level, k: int, *, energies: bool = True) -> Group:
    withheld = level.withheld | _COVERAGE | {Detail.METHODS, Detail.RUNS}
    nights = tally.unsafe_details(k) & {Detail.NIGHTS}
    if not energies:
        withheld |= {Detail.ENERGIES}
    sums = tally.freeze(key.population, withheld | nights, exact=False)
    by_part: dict[EnergyKey, EnergySums] = {}
    for (_, _, band, state), one in sums.energies.items():
        if state is not State.UNKNOWN and energies:
            name = EnergyClass.AUTRES, Method.LOAD_MODELLED, band, state
            by_part[name] = by_part.get(name, EnergySums()) + EnergySums(0, one.energy_millijoules)
    return Group(key, replace(sums, energies=by_part))


def _whole(family: Family[Tally], merged: Iterable[Tally], k: int) -> Group:
    tally = sum_tallies([*(one for one in family.members.values() if not one.hosts), *merged])
    details = _COVERAGE - tally.unsafe_details(k)
    sums = tally.freeze(family.key.population, _EVERYTHING - details, exact=False)
    derived = sum(one.milliseconds for one in sums.energies.values())
    # Up to a second a machine is rounding of shared weeks.
    beyond = derived - sums.observed_milliseconds
    if 0 < beyond <= MILLISECONDS_PER_SECOND * len(tally.hosts):
        derived -= beyond
    energies = {_energy_key(EnergyClass.AUTRES): EnergySums(derived)} if derived else {}
    return Group(family.key, replace(sums, energies=energies))


def make_month(
    reader: DataReader,
    part: Slice,
    k: int,
    now_unix_milliseconds: int,
    places: Mapping[HostId, GroupKey] | None = None,
    perimeter_of: PerimeterOf = all_in_one,
    same: Mapping[HostId, HostId] | None = None,
) -> Month:
    """Compute one month from the fleet's present data.

    `places`: keys of machines by the inventory; without one, a machine is at the place of its enrolment.
    `same`: see Query.
    """
    query = Query(
        part.first,
        part.end,
        PARTITION,
        k,
        now_unix_milliseconds=now_unix_milliseconds,
        same=same or {},
    )
    hosts = hosts_under_rule(reader.hosts())
    tallies = tally_periods(reader, Periods(reader), query, hosts, places, screens=True)
    return build_month(part, tallies, k, perimeter_of)


def hosts_under_rule(hosts: Iterable[Host]) -> list[Host]:
    """Return the hosts of populations that may only be shown as groups."""
    return [host for host in hosts if host.population not in EXEMPT]


def released_on(day: date) -> date:
    """Return the first day on which the month of `day` may be released."""
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1) + timedelta(days=WAIT_DAYS)


def is_month(part: Slice) -> bool:
    """Return true for a whole calendar month."""
    return part.first.day == 1 and part.end.day == 1 and (part.end - part.first).days > 27
