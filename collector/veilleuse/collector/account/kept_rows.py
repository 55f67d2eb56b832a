# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns the cells of a period into its rows, in energy (pure): of an open period and of a closed year alike.

Every cell stands on k machines or more, so that any union of cells may be shown, and any difference of two unions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import NamedTuple

from veilleuse.collector.account.figure_rows import (
    RowSums,
    figure_row,
    home_key,
    homes_told,
    row_key,
    row_order,
    total_key,
)
from veilleuse.collector.account.fleet import Assumptions, Fleet
from veilleuse.collector.account.fleet_inputs import InService, Stratum
from veilleuse.collector.account.fleet_sums import Alike, Key, Sample
from veilleuse.collector.account.kept import Kept, KeptCell, sample_of
from veilleuse.collector.account.sample import MONITOR, Observed, Place, machine, screens, state_energies
from veilleuse.collector.account.telework import Divided, HomeShare
from veilleuse.collector.account.yearly_rooms import with_rooms
from veilleuse.collector.account.yearly_rows import PeriodFigures, RowKey
from veilleuse.collector.figures import AUTRES
from veilleuse.collector.inventoried import PowerContext
from veilleuse.collector.model import HostId
from veilleuse.collector.vectors import HostPeriod
from veilleuse.wire.vocabulary import State


@dataclass(slots=True)
class _Row:
    strata: set[Stratum] = field(default_factory=set)
    machines: int = 0
    screens: int = 0
    apportioned: bool = False
    hides_methods: bool = False
    states: dict[str, dict[State, tuple[int, int]]] = field(default_factory=dict)

    def add(self, cell: KeptCell) -> None:
        self.strata.add(cell.stratum)
        self.apportioned |= cell.apportioned
        self.hides_methods |= cell.methods_hidden
        if cell.stratum.device_class == MONITOR:
            self.screens += cell.machines
            return
        self.machines += cell.machines
        states = self.states.setdefault(cell.stratum.device_class, {})
        for state, (time, energy) in state_energies(_observed(cell).total).items():
            before = states.get(state, (0, 0))
            states[state] = (before[0] + time, before[1] + energy)

    def merge(self, other: _Row) -> None:
        """All of another one."""
        self.strata |= other.strata
        self.machines += other.machines
        self.screens += other.screens
        self.apportioned |= other.apportioned
        self.hides_methods |= other.hides_methods
        for name, states in other.states.items():
            own = self.states.setdefault(name, {})
            for state, (time, energy) in states.items():
                before = own.get(state, (0, 0))
                own[state] = (before[0] + time, before[1] + energy)

    def sums(self, moved: Mapping[tuple[Stratum, ...], int]) -> RowSums:
        """Screens hang on machines that are counted already, unless the row is of screens alone. `moved`: as `Kept` has it."""
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
        )


def kept_figures(
    kept: Kept,
    dimensions: Collection[str],
    assumptions: Assumptions,
    asked: Callable[[str], bool] | None = None,
) -> PeriodFigures:
    """Rows of the year; `asked`: entities to be shown, which changes no figure of theirs. None: all, and rooms, which are no entity's."""
    made = _of_machines(kept, dimensions, assumptions, asked or (lambda _: True))
    return with_rooms(made, kept.rooms, dimensions) if asked is None else made


def _of_machines(
    kept: Kept, dimensions: Collection[str], assumptions: Assumptions, asked: Callable[[str], bool]
) -> PeriodFigures:
    fleet = estimator(kept, assumptions)
    virtual = Divided(_estimator([cell for cell in kept.cells if cell.memo], (), Sample(), Assumptions()))
    rows = _rows(kept, dimensions, asked, memo=False)
    for one in kept.fleet:
        place = Place.of(one.stratum)
        if asked(place.entity) and one.stratum in fleet.strata:
            rows[_key(one.stratum, place, dimensions)].strata.add(one.stratum)
    total = None
    if rows:
        whole = _whole(rows.values(), kept.moved)
        total = figure_row(total_key(whole.strata), whole, Divided(fleet))
    where = {stratum: key for key, row in rows.items() for stratum in row.strata}
    homes = {stratum: share for stratum, share in kept.homes.items() if stratum in where}
    divided = Divided(fleet, homes)
    shown = [
        figure_row(key, row.sums(kept.moved), divided) for key, row in _with_home(rows, kept, homes, where)
    ]
    memo = _rows(kept, dimensions, asked, memo=True)
    return PeriodFigures(
        kept.first,
        kept.end,
        tuple(sorted(shown, key=row_order)),
        tuple(
            sorted(
                (figure_row(replace(key, memo=True), row.sums({}), virtual) for key, row in memo.items()),
                key=row_order,
            )
        ),
        total,
        tuple(RowKey(one.zone, None, min(PowerContext), autres=True, memo=one.memo) for one in kept.withheld),
        homes_told(homes),
    )


def _with_home(
    rows: Mapping[RowKey, _Row],
    kept: Kept,
    homes: Mapping[Stratum, HomeShare],
    where: Mapping[Stratum, RowKey],
) -> Iterable[tuple[RowKey, _Row]]:
    """Rows, and those of what is drawn at home; as account.at_home has them, but that every cell is k machines already."""
    found = {
        key: row
        for key, row in rows.items()
        if not all(stratum in homes and homes[stratum].share == 1 for stratum in row.strata)
    }
    at_home: defaultdict[RowKey, _Row] = defaultdict(_Row)
    for stratum in homes:
        at_home[home_key(where[stratum])].strata.add(stratum)
    for cell in kept.cells:
        if cell.stratum in homes and not cell.memo:
            at_home[home_key(where[cell.stratum])].add(cell)
    for key, row in at_home.items():
        if key in found:  # others are at home by the inventory
            row.merge(found[key])
        found[key] = row
    return found.items()


class Covered(NamedTuple):
    """Machine time of some classes, milliseconds."""

    fleet: int
    states: int
    """Of known state."""
    energy: int
    """With derived energy."""


def covered(kept: Kept, classes: Collection[str]) -> Covered:
    """Of these device classes, virtual machines apart."""
    cells = [_alike(cell) for cell in kept.cells if not cell.memo and cell.stratum.device_class in classes]
    return Covered(
        sum(sum(one.milliseconds) for one in kept.fleet if one.stratum.device_class in classes),
        sum(cell.observed_milliseconds for cell in cells),
        sum(cell.derived_milliseconds for cell in cells),
    )


def estimator(kept: Kept, assumptions: Assumptions) -> Fleet:
    """Of all but virtual machines."""
    cells = [cell for cell in kept.cells if not cell.memo]
    sample = Sample(always_on=dict(kept.always_on), stands_for=dict(kept.stands_for))
    return _estimator(cells, kept.fleet, sample, assumptions)


def _estimator(
    cells: Iterable[KeptCell],
    fleet: Iterable[InService],
    sample: Sample,
    assumptions: Assumptions,
) -> Fleet:
    """`sample`: without its machines, which are added."""
    for cell in cells:
        sample.groups[Key(cell.stratum, cell.cell, cell.always_on)] = _alike(cell)
    return Fleet(sample, fleet, assumptions)


def _alike(cell: KeptCell) -> Alike:
    found = sample_of(cell.n, cell.sums, cell.products)
    one = _observed(cell)
    found.add_known(machine(one, one.total, cell.stratum))
    shown = screens(one, one.total, cell.stratum)
    if shown is not None:
        found.add_known(shown)
    return found


def _observed(cell: KeptCell) -> Observed:
    """All its machines as one."""
    nobody = HostId(0)
    return Observed(
        nobody,
        [HostPeriod(nobody, date.min, kind, band, vector) for (kind, band), vector in cell.sums.items()],
    )


def _rows(
    kept: Kept, dimensions: Collection[str], asked: Callable[[str], bool], *, memo: bool
) -> defaultdict[RowKey, _Row]:
    rows: defaultdict[RowKey, _Row] = defaultdict(_Row)
    for cell in kept.cells:
        place = Place.of(cell.stratum)
        if cell.memo is memo and asked(place.entity):
            rows[_key(cell.stratum, place, dimensions)].add(cell)
    return rows


def _key(stratum: Stratum, place: Place, dimensions: Collection[str]) -> RowKey:
    key = row_key(place, stratum.device_class, dimensions)
    of_several_populations = place.population is None and place.entity == AUTRES
    return replace(key, autres=of_several_populations or AUTRES in (key.entity, key.site, key.device_class))


def _whole(rows: Iterable[_Row], moved: Mapping[tuple[Stratum, ...], int]) -> RowSums:
    whole = _Row()
    for row in rows:
        whole.merge(row)
    return whole.sums(moved)
