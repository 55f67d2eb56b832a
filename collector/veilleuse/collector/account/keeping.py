# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Machines of a year → what is kept of it for ever (pure). DESIGN.md §6; decision 0039.

One pass over the machines: each goes into the finest cell it is of. Then cells are merged until none stands on fewer than k.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.account.census import Standing
from veilleuse.collector.account.fleet_inputs import DAY_TYPES, Cell, InService, Machine, Stratum
from veilleuse.collector.account.fleet_sums import Alike
from veilleuse.collector.account.keeping_merge import (
    ANY,
    Share,
    is_exempt,
    merged_cells,
    merged_strata,
)
from veilleuse.collector.account.kept import (
    SCREENS,
    W_OF_MACHINES,
    W_OF_SCREENS,
    Kept,
    KeptCell,
    Withheld,
    sample_of,
    triangle,
)
from veilleuse.collector.account.sample import MONITOR, FleetBook, Observed, Place, machine, screens
from veilleuse.collector.account.telework import Telework, merged_shares
from veilleuse.collector.figures import AUTRES
from veilleuse.collector.inventoried import Headcount
from veilleuse.collector.privacy import is_safe
from veilleuse.collector.vectors import NOTHING, PLACE, DayType, Vector, added
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band

_Sums: TypeAlias = dict[tuple[DayType, Band], Vector]
_MACHINE_PLACES: Final = [[PLACE[name] for name in names] for names in W_OF_MACHINES.values()]
_SCREEN_W_PLACES: Final = [[PLACE[name] for name in names] for names in W_OF_SCREENS.values()]
_METHOD_PLACES: Final = [
    tuple(
        PLACE[f"{method}_{what}"]
        for what in ("milliseconds", "energy_millijoules", "uncertainty_millijoules")
    )
    for method in Method
]
_ALL_AS: Final = Method.LOAD_MODELLED
"""Where methods may not be told apart, all of it is booked as this one: none of it counts as measured."""


class _Fine(NamedTuple):
    """The finest cell."""

    stratum: Stratum
    cell: Cell
    always_on: bool


@dataclass(slots=True)
class _Gathered:
    """Of one cell, fine or not."""

    share: Share = field(default_factory=Share)
    n: int = 0
    apportioned: bool = False
    sums: _Sums = field(default_factory=dict)
    products: Counter[int] = field(default_factory=Counter)

    def merge(self, other: _Gathered) -> None:
        self.share.merge(other.share)
        self.n += other.n
        self.apportioned |= other.apportioned
        for key, vector in other.sums.items():
            before = self.sums.get(key)
            self.sums[key] = vector if before is None else added(before, vector)
        self.products.update(other.products)


class Keeper:
    """The pass over a year."""

    def __init__(self, first: date, end: date, k: int, headcounts: Collection[Headcount] = ()) -> None:
        """`k`: fewest machines of a cell; `headcounts`: with the telework days that were declared."""
        self._first, self._end, self._k = first, end, k
        self._telework = Telework(headcounts, first, end)
        self._book = FleetBook()
        self._sampled: Counter[Stratum] = Counter()
        self._times: defaultdict[Stratum, Counter[str]] = defaultdict(Counter)
        self._machines: defaultdict[_Fine, _Gathered] = defaultdict(_Gathered)
        self._virtual: defaultdict[_Fine, _Gathered] = defaultdict(_Gathered)

    def stands(self, standing: Standing) -> None:
        """A device in service."""
        self._book.stands(Place.at(standing).stratum(standing.device_class), standing)

    def measured(self, one: Observed, standing: Standing) -> None:
        """A machine, with its screens."""
        total, place = one.total, Place.at(standing)
        made = machine(one, total, place.stratum(standing.device_class), standing)
        self._seen(made)
        _gather(self._machines, one, made, _MACHINE_PLACES, shows_screens=False)
        shown = screens(one, total, place.stratum(MONITOR))
        if shown is not None:
            self._seen(shown)
            _gather(self._machines, one, shown, _SCREEN_W_PLACES, shows_screens=True)

    def virtual(self, one: Observed, standing: Standing) -> None:
        """A virtual machine."""
        made = machine(one, one.total, Place.at(standing).stratum(standing.device_class), standing)
        _gather(self._virtual, one, made, _MACHINE_PLACES, shows_screens=False)

    def _seen(self, made: Machine) -> None:
        self._sampled[made.stratum] += made.counts
        self._times[made.stratum].update(dict(zip(DAY_TYPES, made.accounted_milliseconds, strict=True)))

    def kept(self) -> Kept:
        """All of it; the pass is over."""
        self._book.settle()
        self._book.seen(self._sampled, self._times)
        machines = _Merged(self._machines, self._k)
        virtual = _Merged(self._virtual, self._k)
        withheld = sorted(
            [
                *(Withheld(zone, False) for zone in machines.withheld),
                *(Withheld(zone, True) for zone in virtual.withheld),
            ]
        )
        return Kept(
            self._first,
            self._end,
            self._k,
            (*machines.cells(memo=False), *virtual.cells(memo=True)),
            tuple(_fleet(self._book, machines, self._k)),
            machines.always_on,
            withheld=tuple(withheld),
            homes=merged_shares(
                (one, machines.into(one.stratum), self._telework.share(one.stratum))
                for one in self._book.in_service()
            ),
        )


def _gather(
    into: defaultdict[_Fine, _Gathered],
    one: Observed,
    made: Machine,
    places: Sequence[Sequence[int]],
    *,
    shows_screens: bool,
) -> None:
    energy = sum(made.energy_millijoules)
    if not made.observed_milliseconds and not energy:
        return  # it told of nothing
    found = into[_Fine(made.stratum, made.cell, made.always_on)]
    found.share.add(one.host_id, made.observed_milliseconds, energy, made.measured_millijoules)
    found.apportioned |= one.apportioned
    for row in one.rows:
        vector = _screens_of(row.values) if shows_screens else _rest_of(row.values)
        if any(vector):
            before = found.sums.get((row.day_type, row.band))
            found.sums[row.day_type, row.band] = vector if before is None else added(before, vector)
    if made.counts:
        found.n += 1
        _add_products(found.products, one, places)


def _screens_of(values: Vector) -> Vector:
    first, end = SCREENS
    return (*NOTHING[:first], *values[first:end], *NOTHING[end:])


def _rest_of(values: Vector) -> Vector:
    first, end = SCREENS
    return (*values[:first], *NOTHING[first:end], *values[end:])


def _add_products(products: Counter[int], one: Observed, places: Sequence[Sequence[int]]) -> None:
    by_day_type = one.by_day_type
    w = [
        (at * len(places) + number, value)
        for at, kind in enumerate(DAY_TYPES)
        if (vector := by_day_type.get(kind)) is not None
        for number, columns in enumerate(places)
        if (value := sum([vector[place] for place in columns]))
    ]
    for first, (i, value) in enumerate(w):
        row = triangle(i, i) - i
        for j, other in w[first:]:
            products[row + j] += value * other


class _Merged:
    """Fine cells → those that are kept."""

    def __init__(self, fine: Mapping[_Fine, _Gathered], k: int) -> None:
        self._k = k
        shares: defaultdict[Stratum, Share] = defaultdict(Share)
        for key, one in fine.items():
            shares[key.stratum].merge(one.share)
        self.strata = merged_strata(shares, k)
        self.withheld = sorted(
            {Place.of(stratum).zone for stratum, into in self.strata.items() if into is None}
        )
        moved: defaultdict[_Fine, _Gathered] = defaultdict(_Gathered)
        for key, one in fine.items():
            into = self.strata[key.stratum]
            if into is not None:
                moved[key._replace(stratum=into)].merge(one)
        self.always_on: dict[str, Alike | None] = {}
        self.merged: dict[Stratum, dict[Cell, Cell]] = {}
        self._cells = self._merge_cells(self._merge_kinds(moved))

    def into(self, stratum: Stratum) -> Stratum:
        """What a stratum is kept in; itself where nothing of its machines is kept."""
        return self.strata.get(stratum, stratum) or stratum

    def _merge_kinds(self, moved: Mapping[_Fine, _Gathered]) -> dict[_Fine, _Gathered]:
        """Kinds are told apart in all strata of a class, or in none."""
        by_class: defaultdict[str, list[_Fine]] = defaultdict(list)
        for key in moved:
            by_class[key.stratum.device_class].append(key)
        found: dict[_Fine, _Gathered] = {}
        for name, keys in by_class.items():
            if self._may_tell_kinds(moved, keys):
                found.update({key: moved[key] for key in keys})
                continue
            self.always_on[name] = self._kind_of_class(moved, keys)
            for key in keys:
                found.setdefault(key._replace(always_on=False), _Gathered()).merge(moved[key])
        return found

    def _may_tell_kinds(self, moved: Mapping[_Fine, _Gathered], keys: Sequence[_Fine]) -> bool:
        if self._k == 1:
            return True
        kinds: defaultdict[tuple[Stratum, bool], Share] = defaultdict(Share)
        for key in keys:
            kinds[key.stratum, key.always_on].merge(moved[key].share)
        return len({always for _, always in kinds}) < 2 or all(
            share.is_safe(self._k) for (stratum, _), share in kinds.items() if not is_exempt(stratum)
        )

    def _kind_of_class(self, moved: Mapping[_Fine, _Gathered], keys: Sequence[_Fine]) -> Alike | None:
        """Those always on, where they and the others are enough."""
        shares = {kind: Share() for kind in (False, True)}
        found = Alike()
        for key in keys:
            shares[key.always_on].merge(moved[key].share)
            if key.always_on:
                found.merge(sample_of(moved[key].n, moved[key].sums, moved[key].products))
        return found if all(is_safe(share.energies, self._k) for share in shares.values()) else None

    def _merge_cells(self, moved: Mapping[_Fine, _Gathered]) -> dict[_Fine, _Gathered]:
        shares: defaultdict[tuple[Stratum, bool], dict[Cell, Share]] = defaultdict(dict)
        for key, one in moved.items():
            shares[key.stratum, key.always_on][key.cell] = one.share
        found: dict[_Fine, _Gathered] = {}
        for (stratum, always_on), cells in shares.items():
            names = (
                {cell: cell for cell in cells}
                if is_exempt(stratum) or self._k == 1
                else merged_cells(cells, self._k)
            )
            self.merged.setdefault(stratum, {}).update(names)
            for cell, name in names.items():
                into = found.setdefault(_Fine(stratum, name, always_on), _Gathered())
                into.merge(moved[_Fine(stratum, cell, always_on)])
        return found

    def cells(self, *, memo: bool) -> Iterable[KeptCell]:
        """In order."""
        for key, one in sorted(self._cells.items()):
            hidden = not is_exempt(key.stratum) and self._k > 1 and not one.share.shows_methods(self._k)
            yield KeptCell(
                key.stratum,
                key.cell,
                key.always_on,
                memo,
                len(one.share.observed),
                one.n,
                one.apportioned,
                hidden,
                {at: _as_one_method(vector) if hidden else vector for at, vector in sorted(one.sums.items())},
                {place: value for place, value in sorted(one.products.items()) if value},
            )


def _as_one_method(vector: Vector) -> Vector:
    """All methods added up as one."""
    made = list(vector)
    target = _METHOD_PLACES[list(Method).index(_ALL_AS)]
    for part, into in enumerate(target):
        whole = sum(vector[places[part]] for places in _METHOD_PLACES)
        for places in _METHOD_PLACES:
            made[places[part]] = 0
        made[into] = whole
    return tuple(made)


def _fleet(book: FleetBook, merged: _Merged, k: int) -> Iterable[InService]:
    """The fleet, in the strata and cells that its sample is kept in."""
    found = FleetBook()
    for one in book.in_service():
        into = merged.into(one.stratum)
        found.machines[into] += one.machines
        found.times[into].update(dict(zip(DAY_TYPES, one.milliseconds, strict=True)))
        found.standby[into] += one.standby_milliseconds
        for cell, number in one.cells.items():
            found.cells[into][merged.merged.get(into, {}).get(cell, cell)] += number
    for stratum, cells in found.cells.items():
        population = Place.of(stratum).population
        if not is_exempt(stratum) and (population is not None or stratum.device_class == AUTRES):
            found.cells[stratum] = _common(cells, k)
    yield from sorted(found.in_service(), key=lambda one: one.stratum)


def _common(cells: Counter[Cell], k: int) -> Counter[Cell]:
    """Hardware and age that k machines share; the rest as one."""
    made: Counter[Cell] = Counter()
    for cell, number in cells.items():
        of_model = sum(more for one, more in cells.items() if one.hardware == cell.hardware)
        name = cell if number >= k else Cell(cell.hardware, ANY) if of_model >= k else Cell(ANY, ANY)
        made[name] += number
    return made
