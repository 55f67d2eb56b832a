# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Machines and fleet → the rows of a period, in energy (pure). METHOD.md §5 and §7.

The estimator knows strata; a row is some of them. Every row comes from one estimate, so that rows sum to the total and all groupings
of a period have one total.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction

from veilleuse.collector.account.at_home import hidden_key, with_home
from veilleuse.collector.account.census import Standing
from veilleuse.collector.account.figure_rows import (
    RowSums,
    figure_row,
    fleet_of,
    homes_told,
    row_key,
    row_order,
    total_key,
)
from veilleuse.collector.account.fleet import Assumptions
from veilleuse.collector.account.fleet_inputs import Machine, Stratum
from veilleuse.collector.account.fleet_sums import Sample
from veilleuse.collector.account.lending import Lenders
from veilleuse.collector.account.rooms import RoomFigure
from veilleuse.collector.account.sample import MONITOR, FleetBook, Observed, Place, machine, screens
from veilleuse.collector.account.telework import Divided, HomeShare, HomeTold, Telework
from veilleuse.collector.account.yearly_rows import FigureRow, Gathering, RowKey
from veilleuse.collector.inventoried import Headcount
from veilleuse.collector.privacy import EXEMPT, Cell, publish
from veilleuse.collector.vectors import Vector


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """All rows of one stretch."""

    first: date
    end: date
    rows: tuple[FigureRow, ...]
    memo: tuple[FigureRow, ...]
    total: FigureRow | None
    """None where there is neither a fleet nor a machine."""
    withheld: tuple[RowKey, ...]
    """Families too small to be shown at all: in no row and no total."""
    homes: tuple[HomeTold, ...] = ()
    """Shares of laptops' energy at home, where telework days are declared."""
    rooms: tuple[RoomFigure, ...] = ()
    """Without what their servers take; in no row and no total yet (yearly_rooms)."""


def figures(
    first: date,
    end: date,
    dimensions: Collection[str],
    standings: Iterable[Standing],
    machines: Iterable[tuple[Observed, Standing]],
    *,
    assumptions: Assumptions,
    k_anonymity: int,
    virtual: Iterable[tuple[Observed, Standing]] = (),
    headcounts: Collection[Headcount] = (),
    rooms: Collection[RoomFigure] = (),
) -> PeriodFigures:
    """Rows of [first, end): machines, each with one of `standings`; `virtual`: virtual machines likewise, which are not among these;
    `headcounts`: with the telework days that were declared; `rooms`: those that some of the machines stand in."""
    made = _Made(dimensions, k_anonymity, Telework(headcounts, first, end))
    for standing in standings:
        made.stands(standing)
    for one, standing in machines:
        made.measured(one, standing)
    for one, standing in virtual:
        made.virtual(one, standing)
    return made.result(first, end, assumptions, rooms)


class _Made:
    """The pass over one stretch."""

    def __init__(self, dimensions: Collection[str], k: int, telework: Telework) -> None:
        self._dimensions = dimensions
        self._telework = telework
        self._k = k
        self._book = FleetBook()
        self._sample = Sample()
        self._lenders = Lenders()
        self._virtual = Sample()
        self._rows: defaultdict[RowKey, Gathering] = defaultdict(Gathering)
        self._memo: defaultdict[RowKey, Gathering] = defaultdict(Gathering)
        self._homes: dict[Stratum, HomeShare] = {}
        self._standing: set[Stratum] = set()
        self._keys: dict[tuple[Place, str], RowKey] = {}

    def stands(self, standing: Standing) -> None:
        place = Place.at(standing)
        stratum = place.stratum(standing.device_class)
        if (
            stratum not in self._standing and stratum.device_class != MONITOR
        ):  # those have rows where PCs tell of them
            self._standing.add(stratum)
            row = self._rows[self._key(place, standing.device_class)]
            row.strata.add(stratum)
            if share := self._telework.share(stratum):
                self._homes[stratum] = share
                row.of_share(share.share).strata.add(stratum)
        self._book.stands(stratum, standing)

    def measured(self, one: Observed, standing: Standing) -> None:
        total = one.total
        place = Place.at(standing)
        made = machine(one, total, place.stratum(standing.device_class), standing)
        self._adds(place, one, total, made)
        shown = screens(one, total, place.stratum(MONITOR))
        if shown is not None:
            self._adds(place, one, total, shown)

    def _adds(self, place: Place, one: Observed, total: Vector, made: Machine) -> None:
        self._sample.add(made)
        self._lenders.add(one.host_id, made)
        row = self._rows[self._key(place, made.stratum.device_class)]
        row.add(one, total, made)
        if self._telework.is_declared:
            share = self._telework.share(made.stratum)
            if share:
                self._homes[made.stratum] = share
            row.of_share(share.share if share else Fraction(0)).add(one, total, made)

    def virtual(self, one: Observed, standing: Standing) -> None:
        total = one.total
        place = Place.at(standing)
        made = machine(one, total, place.stratum(standing.device_class), standing)
        self._virtual.add(made)
        key = replace(self._key(place, standing.device_class), memo=True)
        self._memo[key].add(one, total, made)

    def result(
        self, first: date, end: date, assumptions: Assumptions, rooms: Collection[RoomFigure]
    ) -> PeriodFigures:
        self._book.settle()
        self._book.holds(self._sample)
        for stratum in self._book.times:
            if stratum.device_class == MONITOR:  # of PCs that nobody measured, too
                self._rows[self._key(Place.of(stratum), MONITOR)].strata.add(stratum)
        rows, withheld = self._fit_to_show(self._rows)
        memo, no_memo = self._fit_to_show(self._memo)
        virtual = Divided(fleet_of(self._virtual, FleetBook(), Assumptions()))
        whole = Gathering()
        for _, one in rows:
            whole.merge(one)
        withheld_strata = {stratum for one in self._rows.values() for stratum in one.strata} - whole.strata
        apart = self._lenders.apart(withheld_strata, self._k)
        fleet = fleet_of(self._sample, self._book, assumptions, apart, rooms)
        shares = {stratum: one for stratum, one in self._homes.items() if stratum in whole.strata}
        settled, told = with_home(rows, shares, self._k)
        divided = Divided(fleet, told)
        shown = [
            figure_row(key, _sums(one, hides=hides), divided) for key, one, hides in settled if one.strata
        ]
        total = None
        if whole.strata:
            # The total's parts less the rows' would show the parts that a row hides.
            hides = any(row.hides_methods for row in shown)
            total = figure_row(total_key(whole.strata), _sums(whole, hides=hides), Divided(fleet))
        memos, _ = with_home(memo, {}, self._k)
        return PeriodFigures(
            first,
            end,
            tuple(sorted(shown, key=row_order)),
            tuple(
                sorted(
                    (figure_row(key, _sums(one, hides=hides), virtual) for key, one, hides in memos),
                    key=row_order,
                )
            ),
            total,
            (*withheld, *no_memo),
            homes_told(shares, told),
            fleet.rooms,
        )

    def _key(self, place: Place, device_class: str) -> RowKey:
        found = self._keys.get((place, device_class))
        if found is None:
            found = self._keys[place, device_class] = row_key(place, device_class, self._dimensions)
        return found

    def _fit_to_show(
        self, rows: Mapping[RowKey, Gathering]
    ) -> tuple[list[tuple[RowKey, Gathering]], tuple[RowKey, ...]]:
        """DESIGN.md §7: families (zone, population, context, memo) are settled apart, so that no total less its rows shows fewer
        than k machines. What nobody was measured in is inventory × mean: it shows nobody."""
        shown: list[tuple[RowKey, Gathering]] = []
        withheld: list[RowKey] = []
        families: defaultdict[RowKey, dict[RowKey, Gathering]] = defaultdict(dict)
        for key, one in rows.items():
            if self._k == 1 or key.population in EXEMPT or not one.observed:
                shown.append((key, one))
            else:
                families[replace(key, entity=None, site=None, device_class=None)][key] = one
        for family, members in families.items():
            level = publish(
                [Cell(key, one.observed, (one.energies,)) for key, one in members.items()], self._k
            )
            if level.withheld_keys:
                withheld.append(family)
                continue
            kept = {cell.key for cell in level.kept}
            shown += [(key, one) for key, one in members.items() if key in kept]
            hidden = [(key, members[key]) for key in level.merged_keys]
            if hidden:
                shown.append(_autres(hidden))
        return shown, tuple(withheld)


def _sums(one: Gathering, *, hides: bool) -> RowSums:
    return RowSums(one.strata, one.machines, one.states, one.apportioned, hides)


def _autres(hidden: list[tuple[RowKey, Gathering]]) -> tuple[RowKey, Gathering]:
    """The one row of those hidden: `autres` in every dimension that was asked for."""
    merged = Gathering()
    for _, one in hidden:
        merged.merge(one)
    key, _ = hidden[0]
    return hidden_key(key), merged
