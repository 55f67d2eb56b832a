# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Restates the cells of a period as its rows, in energy (pure):
the same for an open period and a closed year.

Every cell has k machines or more, so any union of cells may be published, and any difference of two unions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import reduce
from operator import or_
from typing import NamedTuple, TypeAlias

from veilleuse.collector.account.row import (
    ClassFigure,
    CoveredDays,
    FigureRow,
    PeriodFigures,
    RowSums,
    figure_row,
    home_key,
    list_home_shares,
    row_key,
    total_key,
)
from veilleuse.collector.account.server_rooms import with_rooms
from veilleuse.collector.account.telework import HomeShare, HomeSplit
from veilleuse.collector.closed_years.merge_strata import is_exempt
from veilleuse.collector.closed_years.year_statistics import StatisticsCell, YearStatistics, sample_of
from veilleuse.collector.fleet.estimate import Estimate
from veilleuse.collector.fleet.estimator import Assumptions, Fleet
from veilleuse.collector.fleet.observations import (
    MONITOR,
    PCS,
    ObservedMachine,
    Place,
    machine,
    screens,
    state_energies,
)
from veilleuse.collector.fleet.random_groups import Groups, deviations, states_by_group
from veilleuse.collector.fleet.rooms import RoomFigure
from veilleuse.collector.fleet.samples import Alike, InService, Key, Sample, Stratum
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.months import HostPeriod
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import State


@dataclass(slots=True)
class _Row:
    strata: set[Stratum] = field(default_factory=set)
    machines: int = 0
    screens: int = 0
    apportioned: bool = False
    hides_methods: bool = False
    states: dict[str, dict[State, tuple[int, int]]] = field(default_factory=dict)
    covered: dict[str, CoveredDays] = field(default_factory=dict)

    def add(self, cell: StatisticsCell) -> None:
        self.strata.add(cell.stratum)
        self.apportioned |= cell.apportioned
        self.hides_methods |= cell.methods_hidden
        self._cover(cell.stratum.device_class, _covered(cell))
        if cell.stratum.device_class == MONITOR:
            self.screens += cell.machines
            return
        self.machines += cell.machines
        states = self.states.setdefault(cell.stratum.device_class, {})
        for state, (time, energy) in state_energies(_observed(cell).total).items():
            before = states.get(state, (0, 0))
            states[state] = (before[0] + time, before[1] + energy)

    def merge(self, other: _Row) -> None:
        """Add all of another row."""
        self.strata |= other.strata
        self.machines += other.machines
        self.screens += other.screens
        self.apportioned |= other.apportioned
        self.hides_methods |= other.hides_methods
        for name, covered in other.covered.items():
            self._cover(name, covered)
        for name, states in other.states.items():
            own = self.states.setdefault(name, {})
            for state, (time, energy) in states.items():
                before = own.get(state, (0, 0))
                own[state] = (before[0] + time, before[1] + energy)

    def sums(self, moved: Mapping[tuple[Stratum, ...], int]) -> RowSums:
        """Return the sums of the row; `moved`: machines in several strata, as in the statistics.

        Screens belong to machines that are counted already, unless the row has only screens.
        """
        again = sum(
            number * max(0, sum(stratum in self.strata for stratum in strata) - 1)
            for strata, number in moved.items()
        )
        return RowSums(
            self.strata,
            self.machines - again or self.screens,
            self.states,
            self.apportioned,
            self.hides_methods,
            self.covered,
        )

    def _cover(self, device_class: str, covered: CoveredDays) -> None:
        self.covered[device_class] = self.covered.get(device_class, covered) | covered


class _ClassFigures:
    """Comparison inputs of the classes of a row."""

    def __init__(self, kept: YearStatistics, fleet: Fleet) -> None:
        self._kept, self._fleet = kept, fleet
        self._deviations = deviations(kept.groups, fleet.pools) if kept.groups.sums else {}
        self._standby = {one.stratum: one.standby_milliseconds for one in kept.fleet}
        self._pcs: dict[Place, CoveredDays] = {}
        for cell in kept.cells:
            if cell.stratum.device_class in {*PCS, AUTRES} and not cell.memo:
                place, covered = Place.of(cell.stratum), _covered(cell)
                self._pcs[place] = self._pcs.get(place, covered) | covered

    def __call__(self, strata: Collection[Stratum], estimate: Estimate, covered: CoveredDays) -> ClassFigure:
        members = [self._fleet.part(stratum) for stratum in strata]
        moved = [found for stratum in strata if (found := self._deviations.get(stratum))]
        least = 1 if all(map(is_exempt, strata)) else self._kept.k
        if all(stratum.device_class == MONITOR for stratum in strata):
            covered, least = self._covered_by_pcs(strata), 1
        return ClassFigure(
            estimate,
            tuple(map(sum, zip(*(part.fleet for part in members), strict=True))),
            covered,
            is_enough=estimate.machines_sampled >= least,
            deviations=tuple(map(sum, zip(*moved, strict=True))),
            states_by_group=states_by_group(self._kept.groups, strata),
            hosts=self._kept.groups.hosts_of(strata),
            standby=(
                sum(self._standby.get(stratum, 0) for stratum in strata),
                sum(part.known.standby_millijoules for part in members),
            ),
        )

    def _covered_by_pcs(self, screens: Iterable[Stratum]) -> CoveredDays:
        """Return the covered days of PCs in the same places, else of all PCs."""
        places = {Place.of(stratum) for stratum in screens}
        found = [covered for place, covered in self._pcs.items() if place in places]
        return reduce(or_, found or self._pcs.values(), CoveredDays())


def _covered(cell: StatisticsCell) -> CoveredDays:
    """Return the covered days; for a year without stored days, the mean of its machines."""
    if cell.days_milliseconds is not None:
        return CoveredDays.of(cell.days_milliseconds)
    times = sample_of(cell.n, cell.sums, cell.products).times
    return CoveredDays.of(tuple(time // cell.n for time in times)) if cell.n else CoveredDays()


def restate_year(
    kept: YearStatistics,
    dimensions: Collection[str],
    assumptions: Assumptions,
    asked: Callable[[str], bool] | None = None,
    level: int | None = None,
) -> PeriodFigures:
    """Compute the rows of the year.

    `asked`: filter of published entities, which changes no figure. None: all entities, and rooms, which
    belong to no entity. `level`: number of parts of an entity's path by which rows are grouped.
    """

    def key_of(stratum: Stratum, place: Place) -> GroupKey:
        key = row_key(place, stratum.device_class, dimensions, level).over(kept.first, kept.end)
        of_several_populations = place.population is None and place.entity == AUTRES
        merged = AUTRES in (key.entity, key.site, key.device_class)
        return key._replace(autres=of_several_populations or merged)

    made = _of_machines(kept, key_of, assumptions, asked or (lambda _: True))
    return with_rooms(made, made.rooms, dimensions, kept.perimeters) if asked is None else made


_KeyOf: TypeAlias = Callable[[Stratum, Place], GroupKey]
"""Returns the key of the row that holds a stratum."""


def _of_machines(
    kept: YearStatistics, key_of: _KeyOf, assumptions: Assumptions, asked: Callable[[str], bool]
) -> PeriodFigures:
    fleet = estimator(kept, assumptions)
    of_virtual = _estimator([cell for cell in kept.cells if cell.memo], (), Sample(), Assumptions())
    virtual = HomeSplit(of_virtual)
    class_figures, virtual_figures = (
        _ClassFigures(kept, fleet),
        _ClassFigures(replace(kept, groups=Groups()), of_virtual),
    )
    rows = _rows(kept, key_of, asked, memo=False)
    for one in kept.fleet:
        place = Place.of(one.stratum)
        if asked(place.entity) and one.stratum in fleet.strata:
            rows[key_of(one.stratum, place)].strata.add(one.stratum)
    total = None
    if rows:
        whole = _whole(rows.values(), kept.moved)
        total = figure_row(total_key(whole.strata), whole, HomeSplit(fleet), class_figures)
    where = {stratum: key for key, row in rows.items() for stratum in row.strata}
    homes = {stratum: share for stratum, share in kept.homes.items() if stratum in where}
    divided = HomeSplit(fleet, homes)
    shown = [
        figure_row(key, row.sums(kept.moved), divided, class_figures)
        for key, row in _with_home(rows, kept, homes, where)
    ]
    memo = _rows(kept, key_of, asked, memo=True)
    return PeriodFigures(
        kept.first,
        kept.end,
        _sorted(shown),
        _sorted(
            figure_row(key._replace(memo=True), row.sums({}), virtual, virtual_figures)
            for key, row in memo.items()
        ),
        total,
        tuple(
            GroupKey(
                kept.first, kept.end, one.zone, memo=one.memo, autres=True, power_context=min(PowerContext)
            )
            for one in kept.withheld
        ),
        list_home_shares(homes),
        fleet.rooms,
    )


def _sorted(rows: Iterable[FigureRow]) -> tuple[FigureRow, ...]:
    return tuple(sorted(rows, key=lambda row: row.key.order))


def _with_home(
    rows: Mapping[GroupKey, _Row],
    kept: YearStatistics,
    homes: Mapping[Stratum, HomeShare],
    where: Mapping[Stratum, GroupKey],
) -> Iterable[tuple[GroupKey, _Row]]:
    """Return the rows with those of energy at home, as account.at_home; every cell already has k machines."""
    found = {
        key: row
        for key, row in rows.items()
        if not all(stratum in homes and homes[stratum].share == 1 for stratum in row.strata)
    }
    at_home: defaultdict[GroupKey, _Row] = defaultdict(_Row)
    for stratum in homes:
        at_home[home_key(where[stratum])].strata.add(stratum)
    for cell in kept.cells:
        if cell.stratum in homes and not cell.memo:
            at_home[home_key(where[cell.stratum])].add(cell)
    for key, row in at_home.items():
        if key in found:  # other machines are at home by the inventory
            row.merge(found[key])
        found[key] = row
    return found.items()


class ClassCoverage(NamedTuple):
    """Machine time of some classes, milliseconds."""

    fleet: int
    states: int
    """Time of known state."""
    energy: int
    """Time with derived energy."""


def class_coverage(kept: YearStatistics, classes: Collection[str]) -> ClassCoverage:
    """Return the machine time of these device classes, without virtual machines."""
    cells = [_alike(cell) for cell in kept.cells if not cell.memo and cell.stratum.device_class in classes]
    return ClassCoverage(
        sum(sum(one.milliseconds) for one in kept.fleet if one.stratum.device_class in classes),
        sum(cell.observed_milliseconds for cell in cells),
        sum(cell.derived_milliseconds for cell in cells),
    )


def estimator(kept: YearStatistics, assumptions: Assumptions) -> Fleet:
    """Return the estimator of all machines but virtual ones, with their rooms."""
    cells = [cell for cell in kept.cells if not cell.memo]
    sample = Sample(always_on=dict(kept.always_on), stands_for=dict(kept.stands_for))
    return _estimator(cells, kept.fleet, sample, assumptions, kept.rooms)


def _estimator(
    cells: Iterable[StatisticsCell],
    fleet: Iterable[InService],
    sample: Sample,
    assumptions: Assumptions,
    rooms: Collection[RoomFigure] = (),
) -> Fleet:
    """Build an estimator; `sample`: without its machines, which are added."""
    for cell in cells:
        sample.groups[Key(cell.stratum, cell.cell, cell.always_on)] = _alike(cell)
    return Fleet(sample, fleet, assumptions, rooms=rooms)


def _alike(cell: StatisticsCell) -> Alike:
    found = sample_of(cell.n, cell.sums, cell.products)
    one = _observed(cell)
    found.add_known(machine(one, one.total, cell.stratum))
    shown = screens(one, one.total, cell.stratum)
    if shown is not None:
        found.add_known(shown)
    return found


def _observed(cell: StatisticsCell) -> ObservedMachine:
    """Return all machines of the cell as one."""
    nobody = HostId(0)
    return ObservedMachine(
        nobody,
        [HostPeriod(nobody, date.min, kind, band, vector) for (kind, band), vector in cell.sums.items()],
    )


def _rows(
    kept: YearStatistics, key_of: _KeyOf, asked: Callable[[str], bool], *, memo: bool
) -> defaultdict[GroupKey, _Row]:
    rows: defaultdict[GroupKey, _Row] = defaultdict(_Row)
    for cell in kept.cells:
        place = Place.of(cell.stratum)
        if cell.memo is memo and asked(place.entity):
            rows[key_of(cell.stratum, place)].add(cell)
    return rows


def _whole(rows: Iterable[_Row], moved: Mapping[tuple[Stratum, ...], int]) -> RowSums:
    whole = _Row()
    for row in rows:
        whole.merge(row)
    return whole.sums(moved)
