# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Machines and fleet → the rows of a period, in energy (pure). METHOD.md §5 and §7.

The estimator knows strata; a row is some of them. Every row comes from one estimate, so that rows sum to the total and all groupings
of a period have one total.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from veilleuse.collector.account.census import Standing
from veilleuse.collector.account.fleet import Assumptions, Fleet
from veilleuse.collector.account.fleet_inputs import DAY_TYPES, Machine, Stratum
from veilleuse.collector.account.sample import MONITOR, FleetBook, Observed, Place, machine, screens
from veilleuse.collector.account.yearly_rows import FigureRow, Gathering, RowKey
from veilleuse.collector.figures import AUTRES
from veilleuse.collector.privacy import EXEMPT, Cell, publish

Displays = Mapping[Place, Mapping[str, int]]
"""Place → day type → display-milliseconds in service, as the inventory has them."""


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
    displays: Displays | None = None,
) -> PeriodFigures:
    """Rows of [first, end): machines, each with one of `standings`; `virtual`: virtual machines likewise, which are not among these.
    Without `displays`, the screens that were seen are all there are."""
    made = _Made(dimensions, k_anonymity)
    for standing in standings:
        made.stands(standing)
    for one, standing in machines:
        made.measured(one, standing)
    for one, standing in virtual:
        made.virtual(one, standing)
    for place, times in (displays or {}).items():
        made.displays(place, times)
    return made.result(first, end, assumptions)


class _Made:
    """The pass over one stretch."""

    def __init__(self, dimensions: Collection[str], k: int) -> None:
        self._dimensions = dimensions
        self._k = k
        self._book = FleetBook()
        self._unmatched: list[tuple[Stratum, Standing]] = []
        self._spare: Counter[Stratum] = Counter()
        """Assets that no agent's machine is matched with."""
        self._machines: list[Machine] = []
        self._virtual: list[Machine] = []
        self._rows: defaultdict[RowKey, Gathering] = defaultdict(Gathering)
        self._memo: defaultdict[RowKey, Gathering] = defaultdict(Gathering)

    def stands(self, standing: Standing) -> None:
        place = _place(standing)
        stratum = place.stratum(standing.device_class)
        self._rows[self._key(place, standing.device_class)].strata.add(stratum)
        if standing.inventoried:
            self._book.add(stratum, standing)
            self._spare[stratum] += standing.host_id is None
        else:
            self._unmatched.append((stratum, standing))

    def measured(self, one: Observed, standing: Standing) -> None:
        total = one.total
        place = _place(standing)
        made = machine(one, total, place.stratum(standing.device_class), standing)
        self._machines.append(made)
        self._rows[self._key(place, standing.device_class)].add(one, total, made)
        shown = screens(one, total, place.stratum(MONITOR))
        if shown is not None:
            self._machines.append(shown)
            self._rows[self._key(place, MONITOR)].add(one, total, shown)

    def virtual(self, one: Observed, standing: Standing) -> None:
        total = one.total
        place = _place(standing)
        made = machine(one, total, place.stratum(standing.device_class), standing)
        self._virtual.append(made)
        key = replace(self._key(place, standing.device_class), memo=True)
        self._memo[key].add(one, total, made)

    def displays(self, place: Place, times: Mapping[str, int]) -> None:
        stratum = place.stratum(MONITOR)
        self._rows[self._key(place, MONITOR)].strata.add(stratum)
        self._book.times[stratum].update(times)

    def result(self, first: date, end: date, assumptions: Assumptions) -> PeriodFigures:
        for stratum, standing in self._unmatched:
            # A machine without an asset is an asset of its stratum that nobody has recognised yet, while there are such.
            if self._spare[stratum] > 0:
                self._spare[stratum] -= 1
            else:
                self._book.add(stratum, standing)
        rows, withheld = self._fit_to_show(self._rows)
        memo, no_memo = self._fit_to_show(self._memo)
        fleet = _fleet(self._machines, self._book, assumptions)
        virtual = _fleet(self._virtual, FleetBook(), Assumptions())
        shown = [_row(key, one, fleet, self._k) for key, one in rows if one.strata]
        whole = Gathering()
        for _, one in rows:
            whole.merge(one)
        total = _total(whole, fleet, self._k) if whole.strata else None
        if total is not None:  # the total's parts less the rows' would show the parts that a row hides
            total = replace(total, hides_methods=any(row.hides_methods for row in shown))
        return PeriodFigures(
            first,
            end,
            tuple(sorted(shown, key=_order)),
            tuple(sorted((_row(key, one, virtual, self._k) for key, one in memo), key=_order)),
            total,
            (*withheld, *no_memo),
        )

    def _key(self, place: Place, device_class: str) -> RowKey:
        return RowKey(
            place.zone,
            place.population,
            place.power_context,
            entity=place.entity if "entity" in self._dimensions else None,
            site=place.site if "site" in self._dimensions else None,
            device_class=device_class if "device_class" in self._dimensions else None,
        )

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


def _place(standing: Standing) -> Place:
    return Place(standing.entity, standing.site, standing.zone, standing.population, standing.power_context)


def _autres(hidden: list[tuple[RowKey, Gathering]]) -> tuple[RowKey, Gathering]:
    """The one row of those hidden: `autres` in every dimension that was asked for."""
    merged = Gathering()
    for _, one in hidden:
        merged.merge(one)
    key, _ = hidden[0]
    named = replace(
        key,
        entity=key.entity and AUTRES,
        site=key.site and AUTRES,
        device_class=key.device_class and AUTRES,
        autres=True,
    )
    return named, merged


def _fleet(machines: list[Machine], book: FleetBook, assumptions: Assumptions) -> Fleet:
    sampled: Counter[Stratum] = Counter()
    times: defaultdict[Stratum, Counter[str]] = defaultdict(Counter)
    for one in machines:
        sampled[one.stratum] += one.counts
        times[one.stratum].update(dict(zip(DAY_TYPES, one.accounted_milliseconds, strict=True)))
    for stratum, number in sampled.items():
        book.at_least(stratum, number, times[stratum])
    return Fleet(machines, book.in_service(), assumptions)


def _row(key: RowKey, one: Gathering, fleet: Fleet, k: int) -> FigureRow:
    by_class: defaultdict[str, list[Stratum]] = defaultdict(list)
    for stratum in one.strata:
        by_class[stratum.device_class].append(stratum)
    of_classes = {name: fleet.of(strata) for name, strata in sorted(by_class.items()) if len(by_class) > 1}
    whole = fleet.of(one.strata)
    of_classes = of_classes or dict.fromkeys(by_class, whole)
    return FigureRow(
        key,
        whole,
        sum(1 for host_id in one.observed if one.observed[host_id] or one.energies.get(host_id)),
        one.apportioned,
        key.population not in EXEMPT and one.hides_methods(k),
        one.states,
        {
            name: (estimate.fleet_milliseconds, estimate.energy_millijoules)
            for name, estimate in of_classes.items()
        },
        tuple((Place.of(stratum), fleet.of((stratum,)).energy_millijoules) for stratum in sorted(one.strata)),
    )


def _total(whole: Gathering, fleet: Fleet, k: int) -> FigureRow:
    places = [Place.of(stratum) for stratum in whole.strata]
    zones, contexts = {place.zone for place in places}, {place.power_context for place in places}
    key = RowKey(
        min(zones) if len(zones) == 1 else "",
        None,
        min(contexts),
    )
    return _row(key, whole, fleet, k)


def _order(row: FigureRow) -> tuple[str, str, str, str, str, str, bool]:
    key = row.key
    words = (key.entity or "", key.site or "", str(key.population or ""), key.device_class or "")
    return (*words, key.zone, key.power_context, key.autres)
