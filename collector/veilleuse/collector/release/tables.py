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
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from itertools import combinations
from typing import Final, TypeAlias, TypeVar

from veilleuse.collector.account.group_sums import Tally, sum_tallies
from veilleuse.collector.account.observations import tally_periods, u_model
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.partition import (
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
from veilleuse.collector.fleet.observations import PCS
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.model.months import WAIT_DAYS
from veilleuse.collector.model.query import ALL_OVER, AUTRES, GroupKey, Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import (
    Detail,
    EnergyClass,
    EnergyKey,
    EnergySums,
    Group,
)
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.ports.store import DataReader
from veilleuse.collector.release.silence import (
    NOBODY,
    LastHeard,
    as_if_heard,
    last_heard,
    machines_of_row,
    round_to_machine_days,
    silent_watts,
    with_silent,
)
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Band, DeviceClass, State

K = TypeVar("K")
U_STEPS: Final = 20
"""Steps, from 0 to 1, of the relative standard uncertainty of a cell's energy.
Rounding up hides each machine's method.
"""
_EVERYTHING: Final = frozenset(Detail) - {Detail.ENERGIES}
_COVERAGE: Final[frozenset[Detail]] = frozenset({Detail.COVERAGE, Detail.DERIVED})


PARTITION: Final = ("entity", "device_class", "month")


Rows: TypeAlias = Mapping[GroupKey, tuple[GroupKey, ...]]
"""Row → the groups that it holds."""
CellOf: TypeAlias = Callable[[GroupKey, Tally], DisclosureCell[GroupKey]]


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
    part: Slice,
    groups: Mapping[GroupKey, Tally],
    k: int,
    perimeter_of: PerimeterOf = all_in_one,
    last: LastHeard = NOBODY,
) -> Month:
    """Build a month of groups under the disclosure rule, by entity and device class.

    Groups of different perimeters merge only where one cannot be made safe alone. `last`: its silent PCs.
    """
    cells, uses, whole, withheld = list[Group](), list[Group](), list[Group](), list[GroupKey]()
    hidden_cells, hidden_uses = list[Hidden](), list[Hidden]()
    screens: dict[GroupKey, tuple[CellOf, CellOf]] = {}
    # Screens come after their PCs.
    for family in sorted(families(_with_screens(groups)), key=lambda one: one.key.device_class is not None):
        heard = {key: tally for key, tally in family.members.items() if tally.hosts}
        of_screens = family.key.device_class is not None
        cell_of, as_if_of = screens.get(family.key, (partial(_cell_of, rates_of(heard.values())),) * 2)
        silent = silent_watts(family.members, last.screens if of_screens else last.pcs)
        listed = [
            _listed(one, cell_of(key, one), as_if_of(key, as_if_heard(one, [silent[key]])))
            for key, one in family.members.items()
        ]
        rows = merge_along_path(listed, k, perimeter_of)
        if rows is None and not of_screens:
            withheld.append(family.key)
        elif rows:
            merged = {
                key: round_to_machine_days(sum_tallies(family.members[one] for one in inside), k)
                for key, inside in rows.items()
            }
            cells += [
                _cell(key, one, [family.members[name] for name in rows[key]] if key.autres else [one], k)
                for key, one in merged.items()
            ]
            hidden_cells += _hidden(family.key, rows)
            if not of_screens:
                as_if = {key: as_if_heard(merged[key], (silent[one] for one in rows[key])) for key in rows}
                of_family, inside, level = _uses(merged, as_if, rows, k, perimeter_of)
                uses += of_family
                its_screens = family.key._replace(device_class=EnergyClass.MONITOR.value)
                screens_of = partial(_cells_of_screens, family.members, groups, rows, inside, level)
                screens[its_screens] = screens_of(NOBODY), screens_of(last)
                hidden_uses += _hidden(family.key, inside)
                whole.append(_whole(family.key, merged.values(), k))
    names = tuple(sorted(withheld, key=lambda key: key.order))
    return Month(
        part, _sorted(cells), _sorted(uses), _sorted(whole), names, tuple(hidden_cells), tuple(hidden_uses)
    )


def _with_screens(groups: Mapping[GroupKey, Tally]) -> dict[GroupKey, Tally]:
    """Return the groups, with the enrolled PCs of each entity in its group of screens.

    They are in the order of names: that of machines heard would tell who was not.
    Which PCs have a screen is known of those heard alone: a place with PCs has a group also where none was.
    """
    found = dict(groups)
    for key, tally in groups.items():
        if key.device_class in PCS and not key.memo:
            of_screens = key._replace(device_class=EnergyClass.MONITOR.value)
            more = replace(found.get(of_screens, Tally()))
            more.enrolled = more.enrolled + tally.enrolled
            found[of_screens] = more
    return dict(sorted(found.items(), key=lambda one: one[0].order))


def _listed(
    tally: Tally, cell: DisclosureCell[GroupKey], as_if: DisclosureCell[GroupKey]
) -> DisclosureCell[GroupKey]:
    """Return the cell of a tally, which must be safe as it is and as if its silent machines had been heard.

    Its size, and that it merges, are those of the enrolled machines.
    """
    silent = dict.fromkeys(tally.enrolled, 0)
    return replace(cell, contributions={**silent, **cell.contributions}, as_if=as_if)


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


def _cell(key: GroupKey, tally: Tally, inside: Sequence[Tally], k: int) -> Group:
    """Return the row of a cell; `inside`: the tallies that it holds."""
    of_screens = key.device_class == EnergyClass.MONITOR.value
    # Screens have no enrolled time: nothing to withhold.
    details = _COVERAGE if of_screens else frozenset()
    sums = tally.freeze(key.population, _EVERYTHING - details, exact=False)
    machines = machines_of_row(tally.hosts, tally.enrolled, k)
    sums = replace(sums, hosts=len(machines), enrolled_milliseconds=0)
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
    last: LastHeard,
) -> CellOf:
    """Return what the rule needs to know of screens: their PCs and those without, of each entity.

    `groups`: all of the month. `cells`, `uses`: published rows of these PCs, with the groups behind each.
    `last`: silent PCs that count too.
    """
    rule = ScreenRule[GroupKey](level)
    cell_of, row_of = ({one: row for row, inside in rows.items() for one in inside} for rows in (cells, uses))
    of_entity: defaultdict[str | None, dict[HostId, int]] = defaultdict(dict)
    for key, heard in pcs.items():
        tally = with_silent(heard, heard.enrolled.keys(), last.pcs)
        screens = groups.get(key._replace(device_class=EnergyClass.MONITOR.value), Tally())
        own = with_silent(screens, heard.enrolled.keys() - heard.hosts, last.screens)
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
    cells: Mapping[GroupKey, Tally],
    as_if: Mapping[GroupKey, Tally],
    names: Rows,
    k: int,
    perimeter_of: PerimeterOf,
) -> tuple[list[Group], Rows, Level]:
    """Return the parts of cells, or of several together, the groups behind each row, and the level.

    `as_if`: the cells as if all their machines had been heard. `names`: the groups that each cell holds. A
    row that several cells share has no energies.
    """
    rates = rates_of(cells.values())
    perimeters = {key: perimeter_of(names[key][0]) for key in cells}
    level, rows = _rows_of_uses(cells, as_if, rates, k, perimeters)
    uses = []
    for key, inside in rows.items():
        alone = len(inside) == 1 and all(
            of[inside[0]].may_publish_energies(level, rates, k) for of in (cells, as_if)
        )
        use = _use(key, sum_tallies(cells[one] for one in inside), level, k, energies=alone)
        hosts = sum(len(machines_of_row(cells[one].hosts, cells[one].enrolled, k)) for one in inside)
        uses.append(replace(use, sums=replace(use.sums, hosts=hosts)))
    behind = {key: tuple(name for one in inside for name in names[one]) for key, inside in rows.items()}
    return uses, behind, level


def _rows_of_uses(
    cells: Mapping[GroupKey, Tally],
    as_if: Mapping[GroupKey, Tally],
    rates: Rates,
    k: int,
    perimeters: Mapping[GroupKey, str],
) -> tuple[Level, Rows]:
    """Return the finest level of parts that may be published, and the cells of each row."""
    for level in LEVELS:
        parts_of = partial(Tally.parts, level=level, rates=rates)
        parts = [_listed(one, parts_of(one, key), parts_of(as_if[key], key)) for key, one in cells.items()]
        rows = merge_along_path(parts, k, perimeters.__getitem__)
        if rows is not None and all(
            may_share([of[key] for key in inside], level, rates, k)
            for inside in rows.values()
            for of in (cells, as_if)
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


def _whole(family: GroupKey, merged: Collection[Tally], k: int) -> Group:
    """Return the coverage of a family: the known time of its rows, beside what is enrolled."""
    tally = sum_tallies(merged)
    details = _COVERAGE if tally.may_publish_derived(k) else frozenset({Detail.COVERAGE})
    sums = tally.freeze(family.population, _EVERYTHING - details, exact=False)
    derived = sum(one.milliseconds for one in sums.energies.values())
    # Up to a second a machine is rounding of shared weeks.
    beyond = derived - sums.observed_milliseconds
    if 0 < beyond <= MILLISECONDS_PER_SECOND * len(tally.hosts):
        derived -= beyond
    hosts = sum(len(machines_of_row(one.hosts, one.enrolled, k)) for one in merged)
    energies = {_energy_key(EnergyClass.AUTRES): EnergySums(derived)} if derived else {}
    return Group(family, replace(sums, hosts=hosts, energies=energies))


def make_month(
    reader: DataReader,
    part: Slice,
    k: int,
    places: Mapping[HostId, GroupKey] | None = None,
    perimeter_of: PerimeterOf = all_in_one,
    same: Mapping[HostId, HostId] | None = None,
) -> Month:
    """Compute one month that is over from the fleet's present data.

    `places`: keys of machines by the inventory, until the day on which it takes them out of service; without
    one, a machine is at the place of its enrolment. `same`: see Query.
    """
    query = Query(
        part.first,
        part.end,
        PARTITION,
        k,
        now_unix_milliseconds=ALL_OVER,
        same=same or {},
    )
    hosts = hosts_of_month(reader.hosts(), part, places or {})
    spans = _enrolment(hosts, part, places or {}, query.same)
    tallies = tally_periods(reader, Periods(reader), query, hosts, places, screens=True, spans=spans)
    last = last_heard(reader, query, hosts, places or {}, tallies.values())
    return build_month(part, tallies, k, perimeter_of, last)


def hosts_of_month(hosts: Iterable[Host], part: Slice, places: Container[HostId]) -> list[Host]:
    """Return the PCs that a month counts, by what an administrator did: docs/methodology.md §6.

    They were enrolled by its end. One that was revoked or forgotten counts where the inventory lists its
    device: in `places`. That a machine called, or did not, changes nothing.
    """
    found = []
    for host in hosts:
        has_left = host.status in (HostStatus.REVOKED, HostStatus.FORGOTTEN)
        is_counted = host.host_id in places if has_left else host.status is not HostStatus.PENDING
        if host.population not in EXEMPT and is_counted and host.enrolled_on < part.end:
            found.append(replace(host, status=HostStatus.ACTIVE) if has_left else host)
    return found


def _enrolment(
    hosts: Iterable[Host], part: Slice, places: Mapping[HostId, GroupKey], same: Mapping[HostId, HostId]
) -> dict[HostId, Slice]:
    """Return the days of the month on which each machine was enrolled, a reinstalled one as its first."""
    found: dict[HostId, Slice] = {}
    devices = set[HostId]()
    for host in sorted(hosts, key=lambda host: (host.enrolled_on, host.host_id)):
        place, device = places.get(host.host_id), same.get(host.host_id, host.host_id)
        end = part.end if place is None else min(part.end, place.period_to)
        found[host.host_id] = Slice(part.first, part.first if device in devices else end)
        devices.add(device)
    return found


def released_on(day: date) -> date:
    """Return the first day on which the month of `day` may be released."""
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1) + timedelta(days=WAIT_DAYS)


def is_month(part: Slice) -> bool:
    """Return true for a whole calendar month."""
    return part.first.day == 1 and part.end.day == 1 and (part.end - part.first).days > 27
