# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reduces the machines of a period to cells of k or more, for reports and permanent statistics (pure).

One pass adds each machine to its finest cell. Cells are then merged until none has fewer than k machines.
Decision 0039.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from operator import add, sub
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.account.telework import Telework, merge_shares
from veilleuse.collector.closed_years.merge_strata import (
    ANY,
    Contributions,
    is_exempt,
    merge_cells,
    merge_strata,
)
from veilleuse.collector.closed_years.year_statistics import (
    SCREENS,
    W_OF_MACHINES,
    W_OF_SCREENS,
    StatisticsCell,
    W,
    Withheld,
    X,
    YearStatistics,
    as_one_method,
    longest_days,
    sample_of,
    triangle,
)
from veilleuse.collector.disclosure.rule import is_safe
from veilleuse.collector.fleet.census import FleetDevice
from veilleuse.collector.fleet.observations import (
    MONITOR,
    PCS,
    FleetBook,
    ObservedMachine,
    Place,
    machine,
    screens,
    state_energies,
)
from veilleuse.collector.fleet.random_groups import Groups
from veilleuse.collector.fleet.samples import (
    DAY_TYPES,
    Alike,
    Days,
    InService,
    SampleCell,
    SampleMachine,
    Stratum,
)
from veilleuse.collector.model.inventory import Headcount
from veilleuse.collector.model.months import NOTHING, OWN_CPU, PLACE, DayType, Vector, add_vectors
from veilleuse.collector.model.query import AUTRES, DEFAULT_PERIMETERS, Perimeters
from veilleuse.collector.model.records import HostId
from veilleuse.wire.sums import apportion
from veilleuse.wire.vocabulary import Band

_Sums: TypeAlias = dict[tuple[DayType, Band], Vector]
_NO_DAYS: Final = (0,) * len(DAY_TYPES)


class _FineKey(NamedTuple):
    """Key of the finest cell."""

    stratum: Stratum
    cell: SampleCell
    always_on: bool


@dataclass(slots=True)
class _CellSums:
    """Sums of one cell, merged or not."""

    share: Contributions = field(default_factory=Contributions)
    days: dict[HostId, Days] = field(default_factory=dict)
    """Accounted time of each machine by day type, milliseconds."""
    n: int = 0
    apportioned: bool = False
    sums: _Sums = field(default_factory=dict)
    products: Counter[int] = field(default_factory=Counter)

    def merge(self, other: _CellSums) -> None:
        self.share.merge(other.share)
        for host_id, times in other.days.items():
            self.days[host_id] = tuple(map(add, self.days.get(host_id, _NO_DAYS), times))
        self.n += other.n
        self.apportioned |= other.apportioned
        for key, vector in other.sums.items():
            before = self.sums.get(key)
            self.sums[key] = vector if before is None else add_vectors(before, vector)
        self.products.update(other.products)


class YearReducer:
    """One pass over the machines of a period."""

    def __init__(
        self,
        first: date,
        end: date,
        k: int,
        headcounts: Collection[Headcount] = (),
        perimeters: Perimeters = DEFAULT_PERIMETERS,
        *,
        for_ever: bool = True,
        in_groups: bool = False,
    ) -> None:
        """Take the period and options.

        `k`: fewest machines of a cell. `headcounts`: with declared telework days. `for_ever`: True stores
        bands and all products of w; False only the inputs of current figures. `in_groups`: also sums random
        groups, for the margins of a change.
        """
        self._first, self._end, self._k = first, end, k
        self._telework = Telework(headcounts, first, end)
        self._perimeters = perimeters
        self._perimeter_of = cache(perimeters.of)
        self._book = FleetBook()
        self._sampled: Counter[Stratum] = Counter()
        self._times: defaultdict[Stratum, Counter[str]] = defaultdict(Counter)
        self._machines: defaultdict[_FineKey, _CellSums] = defaultdict(_CellSums)
        self._virtual: defaultdict[_FineKey, _CellSums] = defaultdict(_CellSums)
        self._pcs: defaultdict[Stratum, Contributions] = defaultdict(Contributions)
        """Stratum of a place's screens → the PCs there that report screens, or none."""
        self._in_groups = in_groups
        self._groups = Groups()
        self._for_ever = for_ever
        self._of_machines = _component_places(W_OF_MACHINES, W if for_ever else X)
        self._of_screens = _component_places(W_OF_SCREENS, W if for_ever else X)

    def add_device(self, standing: FleetDevice) -> None:
        """Add a device in service."""
        self._book.add_device(Place.at(standing, self._perimeter_of).stratum(standing.device_class), standing)

    def add_machine(self, one: ObservedMachine, standing: FleetDevice) -> None:
        """Add a machine, with its screens."""
        one = one if self._for_ever else one.without_bands()
        total, place = one.total, Place.at(standing, self._perimeter_of)
        made = machine(one, total, place.stratum(standing.device_class), standing)
        self._seen(made)
        _gather(self._machines, one, made, self._of_machines, shows_screens=False)
        if made.counts and made.stratum.device_class in PCS:
            self._pcs[place.stratum(MONITOR)].add(one.host_id, sum(made.accounted_milliseconds), 0, 0, 0)
        shown = screens(one, total, place.stratum(MONITOR))
        if self._in_groups:
            self._group(one, made, shown, total)
        if shown is not None:
            self._seen(shown)
            _gather(self._machines, one, shown, self._of_screens, shows_screens=True)

    def add_virtual_machine(self, one: ObservedMachine, standing: FleetDevice) -> None:
        """Add a virtual machine."""
        made = machine(
            one, one.total, Place.at(standing, self._perimeter_of).stratum(standing.device_class), standing
        )
        _gather(self._virtual, one, made, self._of_machines, shows_screens=False)

    def _group(
        self, one: ObservedMachine, made: SampleMachine, shown: SampleMachine | None, total: Vector
    ) -> None:
        times = made.accounted_milliseconds
        if made.counts:
            states = state_energies(total)
            self._groups.add(made.stratum, one.host_id, made.energy_millijoules, times, states)
        if made.counts and made.stratum.device_class in PCS:
            energies = _NO_DAYS if shown is None else shown.energy_millijoules
            self._groups.add(Place.of(made.stratum).stratum(MONITOR), one.host_id, energies, times)

    def _seen(self, made: SampleMachine) -> None:
        self._sampled[made.stratum] += made.counts
        self._times[made.stratum].update(dict(zip(DAY_TYPES, made.accounted_milliseconds, strict=True)))

    def statistics(self) -> YearStatistics:
        """Return the statistics; the pass is over."""
        machines = _MergedCells(self._machines, self._k, self._pcs)
        virtual = _MergedCells(self._virtual, self._k, {})
        self._book.settle()
        shown = {stratum for stratum in self._sampled if machines.strata.get(stratum, stratum) is not None}
        self._book.complete(
            {stratum: self._sampled[stratum] for stratum in shown},
            {stratum: self._times[stratum] for stratum in shown},
            machines.examples,
        )
        withheld = [Withheld(zone, False) for zone in machines.withheld]
        withheld += [Withheld(zone, True) for zone in virtual.withheld]
        pieces = list(_pieces(self._book.in_service(), machines, self._k))
        return YearStatistics(
            self._first,
            self._end,
            self._k,
            (*machines.cells(memo=False), *virtual.cells(memo=True)),
            tuple(_fleet(pieces, machines, self._k)),
            machines.always_on,
            withheld=tuple(sorted(withheld)),
            homes=merge_shares((one, into, self._telework.share(one.stratum)) for one, into in pieces),
            stands_for=machines.stands_for(self._k),
            groups=self._groups.regroup(machines.strata),
            moved=machines.moved,
            perimeters=self._perimeters,
        )


def reduce_year(
    first: date,
    end: date,
    standings: Iterable[FleetDevice],
    machines: Iterable[tuple[ObservedMachine, FleetDevice]],
    *,
    k: int,
    virtual: Iterable[tuple[ObservedMachine, FleetDevice]] = (),
    headcounts: Collection[Headcount] = (),
    for_ever: bool = True,
    in_groups: bool = False,
    perimeters: Perimeters = DEFAULT_PERIMETERS,
) -> YearStatistics:
    """Reduce [first, end) to statistics; each machine, virtual ones apart, has one of `standings`."""
    keeper = YearReducer(first, end, k, headcounts, perimeters, for_ever=for_ever, in_groups=in_groups)
    for standing in standings:
        keeper.add_device(standing)
    for one, standing in machines:
        keeper.add_machine(one, standing)
    for one, standing in virtual:
        keeper.add_virtual_machine(one, standing)
    return keeper.statistics()


def _component_places(
    of: Mapping[str, tuple[str, ...]], components: Collection[str]
) -> list[tuple[int, list[int]]]:
    """Return (number in w, places of its columns) of the given components."""
    return [
        (number, [PLACE[column] for column in columns])
        for number, (name, columns) in enumerate(of.items())
        if name in components and columns
    ]


def _gather(
    into: defaultdict[_FineKey, _CellSums],
    one: ObservedMachine,
    made: SampleMachine,
    components: Sequence[tuple[int, Sequence[int]]],
    *,
    shows_screens: bool,
) -> None:
    energy = sum(made.energy_millijoules)
    if not made.observed_milliseconds and not energy:
        return  # no report at all
    found = into[_FineKey(made.stratum, made.cell, made.always_on)]
    on = made.on_millijoules
    found.share.add(one.host_id, made.observed_milliseconds, energy, on, made.measured_millijoules)
    found.days[one.host_id] = tuple(
        map(add, found.days.get(one.host_id, _NO_DAYS), made.accounted_milliseconds)
    )
    found.apportioned |= one.apportioned
    for row in one.rows:
        vector = _screens_of(row.values) if shows_screens else _rest_of(row.values)
        if any(vector):
            before = found.sums.get((row.day_type, row.band))
            found.sums[row.day_type, row.band] = vector if before is None else add_vectors(before, vector)
    if made.counts:
        found.n += 1
        _add_products(found.products, one, components)


def _screens_of(values: Vector) -> Vector:
    first, end = SCREENS
    return (*NOTHING[:first], *values[first:end], *NOTHING[end:])


def _rest_of(values: Vector) -> Vector:
    """Return what is not of screens, without the agent's own CPU time: no statistics have that."""
    (first, end), own = SCREENS, PLACE[OWN_CPU]
    return (*values[:first], *NOTHING[first:end], *values[end:own], 0, *values[own + 1 :])


def _add_products(
    products: Counter[int], one: ObservedMachine, components: Sequence[tuple[int, Sequence[int]]]
) -> None:
    by_day_type = one.by_day_type
    w = [
        (at * len(W) + number, value)
        for at, kind in enumerate(DAY_TYPES)
        if (vector := by_day_type.get(kind)) is not None
        for number, columns in components
        if (value := sum([vector[place] for place in columns]))
    ]
    for first, (i, value) in enumerate(w):
        row = triangle(i, i) - i
        for j, other in w[first:]:
            products[row + j] += value * other


class _MergedCells:
    """Merges the finest cells into cells of k or more."""

    def __init__(
        self, fine: Mapping[_FineKey, _CellSums], k: int, screens_of: Mapping[Stratum, Contributions]
    ) -> None:
        """Merge all cells; `screens_of`: stratum of a place's screens → its PCs, which report display-on
        time.
        """
        self._k = k
        self._shares: defaultdict[Stratum, Contributions] = defaultdict(Contributions)
        for key, one in fine.items():
            self._shares[key.stratum].merge(one.share)
        for stratum, share in screens_of.items():
            self._shares[stratum].merge(share)
        self.strata = merge_strata(self._shares, k)
        self.withheld = sorted(
            {Place.of(key.stratum).zone for key in fine if self.strata[key.stratum] is None}
        )
        moved: defaultdict[_FineKey, _CellSums] = defaultdict(_CellSums)
        for key, one in fine.items():
            into = self.strata[key.stratum]
            if into is not None:
                moved[key._replace(stratum=into)].merge(one)
        self.always_on: dict[str, Alike | None] = {}
        self.merged: dict[Stratum, dict[SampleCell, SampleCell]] = {}
        self._cells = self._merge_cells(self._merge_kinds(moved))

    @property
    def examples(self) -> dict[Stratum, Stratum]:
        """Stratum of a place's screens → the group of places whose PCs together report display-on time."""
        return {
            stratum: into
            for stratum, into in self.strata.items()
            if into is not None and stratum.device_class == MONITOR
        }

    @property
    def moved(self) -> Counter[tuple[Stratum, ...]]:
        """Strata of the cells in which one machine was measured → number of such machines; a row counts each
        once.
        """
        strata: defaultdict[HostId, list[Stratum]] = defaultdict(list)
        for key, one in sorted(self._cells.items()):
            if key.stratum.device_class != MONITOR:
                for host_id in one.share.observed:
                    strata[host_id].append(key.stratum)
        return Counter(tuple(found) for found in strata.values() if len(found) > 1)

    def of_other_classes(self) -> dict[tuple[Stratum, str], int]:
        """Return (stratum with several device classes, one of these) → its measured machines there."""
        hosts: defaultdict[tuple[Stratum, str], set[HostId]] = defaultdict(set)
        for stratum, into in self.strata.items():
            if into is not None and into.device_class != stratum.device_class:
                hosts[into, stratum.device_class].update(self._shares[stratum].observed)
        return {key: len(found) for key, found in hosts.items()}

    def stands_for(self, k: int) -> dict[str, str]:
        """Return device class → common name, for classes of k or more that are only in strata of several
        classes.
        """
        own = {key.stratum.device_class for key in self._cells}
        return {
            device_class: into.device_class
            for (into, device_class), number in sorted(self.of_other_classes().items())
            if number >= k and device_class not in own
        }

    def into(self, stratum: Stratum) -> Stratum:
        """Return the merged stratum of a stratum; itself where none of its machines has one."""
        return self.strata.get(stratum, stratum) or stratum

    def _merge_kinds(self, moved: Mapping[_FineKey, _CellSums]) -> dict[_FineKey, _CellSums]:
        """Separate kinds in all strata of a class, or in none."""
        by_class: defaultdict[str, list[_FineKey]] = defaultdict(list)
        for key in moved:
            by_class[key.stratum.device_class].append(key)
        found: dict[_FineKey, _CellSums] = {}
        for name, keys in by_class.items():
            if self._may_tell_kinds(moved, keys):
                found.update({key: moved[key] for key in keys})
                continue
            self.always_on[name] = self._kind_of_class(moved, keys)
            for key in keys:
                found.setdefault(key._replace(always_on=False), _CellSums()).merge(moved[key])
        return found

    def _may_tell_kinds(self, moved: Mapping[_FineKey, _CellSums], keys: Sequence[_FineKey]) -> bool:
        if self._k == 1:
            return True
        kinds: defaultdict[tuple[Stratum, bool], Contributions] = defaultdict(Contributions)
        for key in keys:
            kinds[key.stratum, key.always_on].merge(moved[key].share)
        return len({always for _, always in kinds}) < 2 or all(
            share.is_safe(self._k) for (stratum, _), share in kinds.items() if not is_exempt(stratum)
        )

    def _kind_of_class(self, moved: Mapping[_FineKey, _CellSums], keys: Sequence[_FineKey]) -> Alike | None:
        """Return the machines always on, where both they and the others are enough."""
        shares = {kind: Contributions() for kind in (False, True)}
        found = Alike()
        for key in keys:
            shares[key.always_on].merge(moved[key].share)
            if key.always_on:
                found.merge(sample_of(moved[key].n, moved[key].sums, moved[key].products))
        return found if all(is_safe(share.energies, self._k) for share in shares.values()) else None

    def _merge_cells(self, moved: Mapping[_FineKey, _CellSums]) -> dict[_FineKey, _CellSums]:
        shares: defaultdict[tuple[Stratum, bool], dict[SampleCell, Contributions]] = defaultdict(dict)
        for key, one in moved.items():
            shares[key.stratum, key.always_on][key.cell] = one.share
        found: dict[_FineKey, _CellSums] = {}
        for (stratum, always_on), cells in shares.items():
            names = (
                {cell: cell for cell in cells}
                if is_exempt(stratum) or self._k == 1
                else merge_cells(cells, self._k)
            )
            self.merged.setdefault(stratum, {}).update(names)
            for cell, name in names.items():
                into = found.setdefault(_FineKey(stratum, name, always_on), _CellSums())
                into.merge(moved[_FineKey(stratum, cell, always_on)])
        return found

    def cells(self, *, memo: bool) -> Iterable[StatisticsCell]:
        """Yield the merged cells, in order."""
        for key, one in sorted(self._cells.items()):
            hidden = not is_exempt(key.stratum) and self._k > 1 and not one.share.shows_methods(self._k)
            yield StatisticsCell(
                key.stratum,
                key.cell,
                key.always_on,
                memo,
                len(one.share.observed),
                one.n,
                one.apportioned,
                hidden,
                {at: as_one_method(vector) if hidden else vector for at, vector in sorted(one.sums.items())},
                {place: value for place, value in sorted(one.products.items()) if value},
                longest_days(one.days, 1 if is_exempt(key.stratum) else self._k),
            )


def _pieces(fleet: Iterable[InService], merged: _MergedCells, k: int) -> Iterator[tuple[InService, Stratum]]:
    """Yield (part of the fleet, stratum of its sample).

    A class with fewer than k measured machines shares a stratum with other classes. At most k of its machines
    in service go there: the other classes' mean does not represent the rest. The split uses inventory and k
    alone, so it reveals nothing of the measured machines.
    """
    rare = {key for key, number in merged.of_other_classes().items() if number < k}
    split: defaultdict[tuple[Stratum, str], list[InService]] = defaultdict(list)
    for one in fleet:
        key = merged.into(one.stratum), one.stratum.device_class
        if key in rare:
            split[key].append(one)
        else:
            yield one, key[0]
    for (into, _), members in split.items():
        numbers = [one.machines for one in members]
        for one, moved in zip(members, apportion(min(sum(numbers), k), numbers), strict=True):
            times = tuple(time * moved // one.machines if one.machines else time for time in one.milliseconds)
            yield InService(one.stratum, moved, times), into
            rest = tuple(map(sub, one.milliseconds, times))
            if any(rest):
                yield InService(one.stratum, one.machines - moved, rest), one.stratum


def _fleet(pieces: Iterable[tuple[InService, Stratum]], merged: _MergedCells, k: int) -> Iterable[InService]:
    """Yield the fleet in the strata and cells of its sample."""
    found = FleetBook()
    for one, into in pieces:
        found.machines[into] += one.machines
        found.times[into].update(dict(zip(DAY_TYPES, one.milliseconds, strict=True)))
        found.standby[into] += one.standby_milliseconds
        found.by_default[into].update(dict(zip(DAY_TYPES, one.default_milliseconds, strict=True)))
        for cell, number in one.cells.items():
            found.cells[into][merged.merged.get(into, {}).get(cell, cell)] += number
    for stratum, cells in found.cells.items():
        population = Place.of(stratum).population
        if not is_exempt(stratum) and (population is not None or stratum.device_class == AUTRES):
            found.cells[stratum] = _common(cells, k)
    yield from sorted(found.in_service(), key=lambda one: one.stratum)


def _common(cells: Counter[SampleCell], k: int) -> Counter[SampleCell]:
    """Merge hardware and age below k machines; the rest is one cell."""
    made: Counter[SampleCell] = Counter()
    for cell, number in cells.items():
        of_model = sum(more for one, more in cells.items() if one.hardware == cell.hardware)
        name = (
            cell if number >= k else SampleCell(cell.hardware, ANY) if of_model >= k else SampleCell(ANY, ANY)
        )
        made[name] += number
    return made
