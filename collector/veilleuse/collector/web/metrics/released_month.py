# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Prepares the last released month of workstations and classroom PCs for display. docs/api.md.

The page, `veilleuse top` and /metrics read the same month that /api/v1 answers from. A second partition, by
site or by day, could be subtracted from it, and the difference could be one machine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial, reduce
from typing import Final, NamedTuple

from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.indicators import COVERAGE, OUT_OF_HOURS
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import ON_STATES, REST_STATES, EnergyClass, Group, GroupSums
from veilleuse.collector.months.worker import ended_by
from veilleuse.collector.release.answer import add_sums
from veilleuse.collector.release.own_use import OwnMonth
from veilleuse.collector.release.tables import Month
from veilleuse.collector.web.metrics.indicators_daily import OF_SUMS, DailyIndicators, indicators_of_sums
from veilleuse.wire.vocabulary import Band, DeviceClass, Population

MONTH: Final = "month"
MONTH_BEFORE: Final = "month_before"
"""Period name of the month's indicators."""
REST: Final = "rest"
ON: Final = "on"
_SCREENS: Final = EnergyClass.MONITOR.value


class RowLabels(NamedTuple):
    """Labels of a row, as text."""

    entity: str
    population: str
    device_class: str
    zone: str


@dataclass(frozen=True, slots=True)
class MonthView:
    """A released month, ready for display."""

    first: date
    cells: Mapping[RowLabels, GroupSums]
    """Energy and number of machines."""
    uses: Mapping[RowLabels, GroupSums]
    """Time in use, of the same machines in fewer rows."""
    families: frozenset[GroupKey]
    """Families with a row: machines of one zone and population, physical or virtual."""
    sobriety: tuple[DailyIndicators, ...]
    merged: Mapping[Population | None, int]
    """Number of families with merged rows; those of screens count separately."""
    withheld: Mapping[Population | None, int]
    """Number of families without a row because of too few machines; those of screens count separately."""
    outside_opening: Mapping[tuple[str, str], float]
    """(entity, population) → I1 of the machines that are in rows of that entity alone."""


@dataclass(frozen=True, slots=True)
class MonthFacts:
    """When the next month may be released, and what changed with the last one."""

    due_on: date | None = None
    """First day on which the month after the newest released one may be released; None before the first."""
    coverages: Mapping[CoverageKey, tuple[float, float]] = field(default_factory=dict)
    """Coverage of the month before the last one, and of the last one."""
    own: OwnMonth | None = None
    """What Veilleuse itself used in the newest month; None where it is not published."""
    held: tuple[date, ...] = ()
    """First day of each month that stays unpublished since a restore."""


class CoverageKey(NamedTuple):
    """Machines and part of a coverage."""

    population: Population
    virtual: bool
    kind: str
    """states or energy."""


def coverages(before: Iterable[Group], after: Iterable[Group]) -> dict[CoverageKey, tuple[float, float]]:
    """Return the coverages of two released months, of populations that were there in both.

    `before`, `after`: groups of whole families. A population that more than doubled is not compared: the
    first days of a roll-out say nothing of a month.
    """
    old, new = _by_population(before), _by_population(after)
    found: dict[CoverageKey, tuple[float, float]] = {}
    for key in sorted(old.keys() & new.keys()):
        if 2 * old[key].enrolled_milliseconds < new[key].enrolled_milliseconds:
            continue
        earlier, later = (_coverage_of(key, sums[key]) for sums in (old, new))
        for kind in sorted(earlier.keys() & later.keys()):
            if earlier[kind]:
                found[CoverageKey(*key, kind)] = (earlier[kind], later[kind])
    return found


def _by_population(groups: Iterable[Group]) -> dict[tuple[Population, bool], GroupSums]:
    found: defaultdict[tuple[Population, bool], list[GroupSums]] = defaultdict(list)
    for group in groups:
        if group.key.population is not None:
            found[group.key.population, group.key.memo].append(group.sums)
    return {key: _total(parts) for key, parts in found.items()}


def _coverage_of(key: tuple[Population, bool], sums: GroupSums) -> Mapping[str, float]:
    population, memo = key
    group = GroupKey(population=population, memo=memo)
    return indicators_of_sums(group, sums, MONTH, date.min, (COVERAGE,)).parts.get(c.COVERAGE.name, {})


def _outside_opening(month: Month) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield (entity, population) → I1 of physical machines, over the rows of an entity alone.

    Rows of small groups that merged are of no entity, though they may have the name of a branch.
    """
    sums: defaultdict[tuple[str, Population], list[GroupSums]] = defaultdict(list)
    for group in month.uses:
        key = group.key
        if key.population is None or key.memo or key.autres:
            continue
        sums[key.entity or "", key.population].append(group.sums)
    for (entity, population), parts in sorted(sums.items()):
        of = GroupKey(population=population)
        found = indicators_of_sums(of, _total(parts), MONTH, month.part.first, (OUT_OF_HOURS,))
        ratio = found.value(c.OUTSIDE_OPENING)
        if ratio is not None:
            yield (entity, population.value), ratio


def build_month_view(month: Month) -> MonthView:
    """Build the view of one month (pure)."""
    families = families_of(month)
    merged = {(one.key.family, one.key.device_class == _SCREENS) for one in month.cells if one.key.autres}
    return MonthView(
        month.part.first,
        _by_row(month.cells),
        _by_row(month.uses),
        families,
        tuple(_month_indicators(month, families)),
        Counter(family.population for family, _ in merged),
        Counter(key.population for key in month.withheld),
        dict(_outside_opening(month)),
    )


def last_month(today: date) -> tuple[date, date]:
    """Return the newest complete month, end exclusive: it ended at least three days ago."""
    end = ended_by(today)
    return (end - timedelta(days=1)).replace(day=1), end


def families_of(month: Month) -> frozenset[GroupKey]:
    """Return the families whose machines have a row."""
    return frozenset(group.key.family for group in month.uses)


def energy_of(sums: GroupSums) -> int | None:
    """Return all energy of a row, mJ; None when none is known."""
    return sum(one.energy_millijoules for one in sums.energies.values()) if sums.energies else None


def times_of(sums: GroupSums) -> dict[str, int]:
    """Return state → milliseconds of a row of uses, as far as the row separates them.

    States are active and idle, or `on` for both together, and `rest` for off or asleep.
    """
    bands, found = frozenset(Band), {}
    rest, on = sums.milliseconds(bands, REST_STATES), sums.milliseconds(bands, ON_STATES)
    if rest is None or on is None:
        return {}
    for state in sorted(ON_STATES):
        apart = sums.milliseconds(bands, frozenset({state}))
        if apart is None:
            return {ON: on, REST: rest}
        found[state.value] = apart
    return {**found, REST: rest}


def _row(key: GroupKey) -> RowLabels:
    """Return a row's labels. Virtual machines always keep their class: no total may include them."""
    device_class = DeviceClass.VIRTUAL_MACHINE.value if key.memo else key.device_class or ""
    return RowLabels(key.entity or "", key.population or "", device_class, key.zone)


def _by_row(groups: Iterable[Group]) -> dict[RowLabels, GroupSums]:
    """Return the sums by row. An entity may itself be named `autres`: rows with equal labels are merged."""
    found: defaultdict[RowLabels, list[GroupSums]] = defaultdict(list)
    for group in groups:
        found[_row(group.key)].append(group.sums)
    return {row: _total(found[row]) for row in sorted(found)}


def _total(parts: Iterable[GroupSums]) -> GroupSums:
    return reduce(partial(add_sums, same_time=True), parts)


def _month_indicators(month: Month, families: Collection[GroupKey]) -> Iterable[DailyIndicators]:
    """Compute coverage from the sums of `whole`, and the other indicators from those of `uses`.

    Per population, physical and virtual machines separately.
    """
    for population, memo in sorted({(one.population or "", one.memo) for one in families}):
        use_groups, whole_groups = (
            [group for group in table if (group.key.population, group.key.memo) == (population, memo)]
            for table in (month.uses, month.whole)
        )
        key = use_groups[0].key
        others = [one for one in OF_SUMS if one != COVERAGE]
        found = indicators_of_sums(
            key, _total(group.sums for group in use_groups), MONTH, month.part.first, others
        )
        if whole_groups:
            whole = _total(group.sums for group in whole_groups)
            covered = indicators_of_sums(key, whole, MONTH, month.part.first, (COVERAGE,))
            found = replace(found, parts={**found.parts, **covered.parts})
        yield found
