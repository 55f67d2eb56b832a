# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums released months as a reader asks, and says what is withheld (pure). docs/api.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial, reduce
from itertools import groupby
from typing import Final, TypeAlias, TypeVar

from veilleuse.collector.account.statement import withheld_row
from veilleuse.collector.calendars.periods import Slice, slices
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.fleet.census import at_default_context
from veilleuse.collector.indicators import TABLE, IndicatorInput, load_indicator
from veilleuse.collector.indicators.avoidable_energy import AvoidableEnergy
from veilleuse.collector.model.indicators import PCS, Figure
from veilleuse.collector.model.months import WAIT_DAYS
from veilleuse.collector.model.query import GroupKey, Query, cut_entity, is_within
from veilleuse.collector.model.sums import (
    Detail,
    EnergyKey,
    EnergySums,
    Group,
    GroupSums,
    StateSums,
)
from veilleuse.collector.ports.stages import Indicator
from veilleuse.collector.release.indicator_rows import IndicatorMonth, IndicatorRow
from veilleuse.collector.release.tables import Hidden, Month, released_on
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, Population, State

T = TypeVar("T")
GroupOf: TypeAlias = Callable[[GroupKey], GroupKey]
"""Returns the row that holds a group."""

INDICATORS_OF_PCS: Final = ", ".join(
    identifier
    for identifier, line in TABLE.items()
    if line.made_of in (IndicatorInput.SUMS, IndicatorInput.MACHINES)
    and PCS & (line.populations | line.also_of)
)
"""Indicators that a month lacks of a population that it withholds."""
Parts: TypeAlias = Mapping[frozenset[Detail], GroupSums]
"""What months withhold → their sums."""

READERS_DIMENSIONS: Final = frozenset(
    {"entity", "device_class", "population", "perimeter", "power_context", "year", "month"}
)
"""Dimensions by which readers may group populations under the rule; `site` would be a second partition."""

TOO_FEW: Final = "too_few"
"""Reason of a withheld row: fewer machines than the rule asks for."""
NO_DATA: Final = "no_data"
"""Another: no machine has measurements of the month, or they are deleted."""


def sum_uses(months: Iterable[Month], query: Query) -> tuple[Group, ...]:
    """Sum the months' uses that lie inside the query's entities (pure).

    A row is over consecutive months that all show it. `months` must be in order and is read once, so that
    only the answer is whole in memory.
    """

    def parts(month: Month) -> Mapping[GroupKey, Parts]:
        return {key: {sums.withheld: sums} for key, sums in _month_rows(month, query).items()}

    rows = ((month.part, parts(month)) for month in months)
    return tuple(_group(key, parts) for key, parts in _sum_runs(rows, query, _add_parts))


def _add_parts(one: Parts, other: Parts) -> Parts:
    found = dict(one)
    for withheld, sums in other.items():
        found[withheld] = add_sums(found[withheld], sums, same_time=False) if withheld in found else sums
    return found


def _group(key: GroupKey, parts: Parts) -> Group:
    sums = tuple(parts.values())
    return Group(key, reduce(partial(add_sums, same_time=False), sums), sums if len(sums) > 1 else ())


def sum_indicators(
    months: Iterable[IndicatorMonth], query: Query, group: GroupOf | None = None
) -> tuple[IndicatorRow, ...]:
    """Sum the months' published indicators likewise.

    I4 adds its months. The others are states, of the last month of each part. `group` replaces the query's
    rows.
    """
    known, found = list(months), list[IndicatorRow]()
    parts = slices(query.first, query.end, by_month="month" in query.dimensions)
    last = {part: month for month in known if (part := _around(month.part, parts))}
    for indicator, line in TABLE.items():
        chosen = known if line.is_sum else last.values()
        rows = ((month.part, _indicator_rows(indicator, month, query, group)) for month in chosen)
        add = partial(_add_later, load_indicator(indicator))
        found += (IndicatorRow(indicator, *row) for row in _sum_runs(rows, query, add))
    return tuple(found)


def _add_later(made: Indicator, before: Figure, figure: Figure) -> Figure:
    return made.add((before, figure), same_time=False)


def _sum_runs(
    months: Iterable[tuple[Slice, Mapping[GroupKey, T]]], query: Query, add: Callable[[T, T], T]
) -> Iterator[tuple[GroupKey, T]]:
    """Yield each row of a part of the query, summed over consecutive months that all show it."""
    parts = slices(query.first, query.end, by_month="month" in query.dimensions)
    for part, inside in groupby(months, lambda month: _around(month[0], parts)):
        if part is None:
            continue
        runs: defaultdict[GroupKey, list[tuple[Slice, T]]] = defaultdict(list)
        for month, rows in inside:
            for key, value in rows.items():
                of_key = runs[key]
                if of_key and of_key[-1][0].end == month.first:
                    run, before = of_key[-1]
                    of_key[-1] = (Slice(run.first, month.end), add(before, value))
                else:
                    of_key.append((month, value))
        for key, found in runs.items():
            yield from ((key.over(run.first, run.end), value) for run, value in found)


def _indicator_rows(
    indicator: str, month: IndicatorMonth, query: Query, group: GroupOf | None
) -> Mapping[GroupKey, Figure]:
    """Return a month's figures of one indicator, summed by dimensions; the key's period is blank."""
    groups: defaultdict[GroupKey, list[Figure]] = defaultdict(list)
    seen = [row for row in month.rows if row.indicator == indicator and _may_see(row.key, query.entities)]
    for row in seen:
        groups[(group or query.group_observed)(at_default_context(row.key)).over()].append(row.figure)
    told, made = {row.key.over() for row in seen}, load_indicator(indicator)
    hidden = [one for of, one in month.hidden if of == indicator]
    found = {key: made.add(figures, same_time=True) for key, figures in groups.items()}
    return {
        key: replace(figure, incomplete=True)
        if any(_lacks(key, one, query, told) for one in hidden)
        else figure
        for key, figure in found.items()
    }


def add_shares(
    rows: Iterable[IndicatorRow], months: Iterable[Month], group: GroupOf, entities: Collection[str] = ()
) -> tuple[IndicatorRow, ...]:
    """Add to I4 of PCs its share of the energy of their month, inside the entities.

    Rows must be of whole populations.
    """
    energies: defaultdict[GroupKey, Counter[Slice]] = defaultdict(Counter)
    for month in months:
        for cell in (one for one in month.cells if _may_see(one.key, entities)):
            energy = sum(one.energy_millijoules for one in cell.sums.energies.values())
            energies[group(at_default_context(cell.key)).over()][month.part] += energy
    found = []
    for row in rows:
        key, figure = row.key, row.figure
        if (
            row.indicator == AvoidableEnergy.meta.indicator
            and figure.value is not None
            and not figure.incomplete
        ):
            of_key = energies[key.over()]
            whole = sum(
                of for part, of in of_key.items() if _around(part, (Slice(key.period_from, key.period_to),))
            )
            if whole:
                share = figure.value * MILLIJOULES_PER_KWH / whole
                row = row._replace(
                    figure=replace(figure, details={**figure.details, "avoidable_share": share})
                )
        found.append(row)
    return tuple(found)


def sum_servers(months: Iterable[IndicatorMonth], query: Query) -> tuple[Group, ...]:
    """Sum the published sums of servers likewise."""

    def rows(month: IndicatorMonth) -> Mapping[GroupKey, GroupSums]:
        found: dict[GroupKey, GroupSums] = {}
        for group in month.servers:
            if _may_see(group.key, query.entities):
                key = query.group_observed(at_default_context(group.key)).over()
                found[key] = add_sums(found[key], group.sums, same_time=True) if key in found else group.sums
        return found

    of_months = ((month.part, rows(month)) for month in months)
    return tuple(Group(*row) for row in _sum_runs(of_months, query, partial(add_sums, same_time=False)))


def _around(month: Slice, parts: Iterable[Slice]) -> Slice | None:
    return next((part for part in parts if part.first <= month.first and month.end <= part.end), None)


def _month_rows(month: Month, query: Query) -> Mapping[GroupKey, GroupSums]:
    """Return a month's rows, summed by dimensions; the key's period is blank."""
    dimensions, entities = query.dimensions, query.entities
    found: dict[GroupKey, GroupSums] = {}
    seen = [group for group in month.uses if _may_see(group.key, entities)]
    for group in seen:
        key = query.group_observed(at_default_context(group.key)).over()
        found[key] = add_sums(found[key], group.sums, same_time=True) if key in found else group.sums
    if not entities:
        for group in month.whole:
            key = query.group_observed(at_default_context(group.key)).over()
            if key in found and not _divides_families(dimensions):
                found[key] = _with_coverage(found[key], group.sums)
    told = {group.key.over() for group in seen}
    return {
        key: replace(sums, incomplete=any(_lacks(key, one, query, told) for one in month.hidden_uses))
        for key, sums in found.items()
    }


def _may_see(key: GroupKey, entities: Collection[str]) -> bool:
    """Return whether a reader of these entities may see a row: all of it is of them."""
    return not entities or (bool(key.path) and is_within(key.entity, entities))


def _lacks(key: GroupKey, hidden: Hidden, query: Query, told: Collection[GroupKey]) -> bool:
    """Return true when merged rows hold more machines of a row's entity or class, or of a reader's entities.

    A row of both entity and class is always whole, but for a level of the tree. `told`: rows that the reader
    may see.
    """
    family = hidden.family
    named = [name for name in ("entity", "device_class") if name in query.dimensions]
    if key.autres or (key.zone, key.population, key.memo) != (family.zone, family.population, family.memo):
        return False
    of_entity = key.entity in {cut_entity(name, query.level) for name in hidden.entities}
    of_class = key.device_class in hidden.device_classes
    branch = family.over()._replace(entity=hidden.branch, device_class=key.device_class, autres=True)
    if "entity" in named:
        is_part = branch in told and not branch.coarsen(query.dimensions, query.level).autres
        return of_entity and not is_part and (len(named) == 1 or (query.level is not None and of_class))
    if named and not of_class:
        return False
    if branch in told if named else _may_see(branch, query.entities):
        return "perimeter" in query.dimensions and not branch.path
    return not query.entities or any(is_within(name, query.entities) for name in hidden.entities)


def _with_coverage(sums: GroupSums, whole: GroupSums) -> GroupSums:
    """Return a whole family's sums with its coverage."""
    details = {Detail.COVERAGE, Detail.DERIVED}
    energies = dict(sums.energies)
    for key, one in whole.energies.items():
        energies[key] = energies.get(key, EnergySums()) + one
    withheld = (sums.withheld - details) | (whole.withheld & details)
    enrolled = whole.enrolled_milliseconds
    return replace(sums, enrolled_milliseconds=enrolled, energies=energies, withheld=withheld)


def _divides_families(dimensions: Collection[str]) -> bool:
    """Return true when rows are parts of families."""
    return bool({"entity", "device_class", "perimeter"} & set(dimensions))


def add_sums(one: GroupSums, other: GroupSums, *, same_time: bool) -> GroupSums:
    """Add two sums.

    `same_time` is for other machines in the same month. Otherwise `other` is a later month, and `hosts`
    becomes the largest of the months.
    """
    states: dict[tuple[Band, State], StateSums] = dict(one.states)
    for state_key, state in other.states.items():
        states[state_key] = states[state_key] + state if state_key in states else state
    energies: dict[EnergyKey, EnergySums] = dict(one.energies)
    for energy_key, energy in other.energies.items():
        energies[energy_key] = energies[energy_key] + energy if energy_key in energies else energy
    return GroupSums(
        one.hosts + other.hosts if same_time else max(one.hosts, other.hosts),
        one.enrolled_milliseconds + other.enrolled_milliseconds,
        states,
        energies,
        None if one.nights is None or other.nights is None else one.nights + other.nights,
        one.nights_are,
        one.apportioned or other.apportioned,
        one.withheld | other.withheld,
        one.incomplete or other.incomplete,
    )


@dataclass(frozen=True, slots=True)
class MonthStatus:
    """Facts of a month that `withheld_rows` needs."""

    part: Slice
    withheld: tuple[GroupKey, ...]
    present: frozenset[Population | None]
    """Populations with a row of uses inside the entities."""
    reason: str = TOO_FEW
    """Why the families have nothing."""


def month_status(month: Month, entities: Collection[str]) -> MonthStatus:
    """Return the status of one month (pure)."""
    present = {group.key.population for group in month.uses if _may_see(group.key, entities)}
    return MonthStatus(month.part, month.withheld, frozenset(present))


def withheld_rows(
    months: Sequence[MonthStatus],
    older: Sequence[Slice],
    today: date,
    query: Query,
    places: Iterable[tuple[Population, str]],
) -> list[dict[str, str]]:
    """Return the rows of `withheld`: groups missing from a reader's answer, with the reason.

    `places`: populations of machines, each with an entity of enrolment. `older` are the months published
    in an older format.
    """
    first, end, entities = query.first, query.end, query.entities
    present = {of for of, entity in places if of not in EXEMPT and is_within(entity, entities)}
    found: list[dict[str, str]] = []
    for population in sorted(present):
        if not set(query.dimensions) <= READERS_DIMENSIONS:
            found.append(_withheld_row(Slice(first, end), population, "grouping"))
            continue
        for part in _holes([*(month.part for month in months), *older], first, end):
            found.append({**_withheld_row(part, population, "period"), **_next_release(part, today)})
        found += [_withheld_row(part, population, "older_rule") for part in older]
        for month in months:
            hidden = [key for key in month.withheld if key.population is population]
            found += [_withheld_row(month.part, population, month.reason, key) for key in hidden]
            if entities and not hidden and population not in month.present:
                found.append(_withheld_row(month.part, population, "merged"))
    return found


def _next_release(part: Slice, today: date) -> dict[str, str]:
    """Return the first day on which more of a hole may be released; empty if it may be already."""
    day = max(part.first, (today - timedelta(days=WAIT_DAYS)).replace(day=1))
    return {"released_on": released_on(day).isoformat()} if day < part.end else {}


def _holes(covered: Iterable[Slice], first: date, end: date) -> list[Slice]:
    """Return the parts of the period that none of these months covers."""
    found, at = [], first
    for month in sorted(covered, key=lambda part: part.first):
        if month.first > at:
            found.append(Slice(at, month.first))
        at = month.end
    return [*found, Slice(at, end)] if at < end else found


def _withheld_row(
    part: Slice, population: Population, reason: str, key: GroupKey | None = None
) -> dict[str, str]:
    row = {
        "period_from": part.first.isoformat(),
        "period_to": part.end.isoformat(),
        "population": population.value,
        "reason": reason,
        "indicators": INDICATORS_OF_PCS,
    }
    return row if key is None else {**withheld_row(key), **row}
