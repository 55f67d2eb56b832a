# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The last released month of workstations and classroom PCs, as the outlets show it: its rows, and sums of them. docs/api.md.

The page, `veilleuse top` and /metrics read the very month that /api/v1 answers from: a second partition, by site or by day, could be
subtracted from it, and what is left would be one machine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial, reduce
from typing import Final, NamedTuple

from veilleuse.collector.indicators import COVERAGE
from veilleuse.collector.model.figures import ON_STATES, REST_STATES, Group, GroupKey, GroupSums
from veilleuse.collector.months.worker import ended_by
from veilleuse.collector.web.api.release import added
from veilleuse.collector.web.api.release_format import Month
from veilleuse.collector.web.metrics.indicators_daily import OF_SUMS, DailyIndicators, of_sums
from veilleuse.wire.vocabulary import Band, DeviceClass, Population

MONTH: Final = "month"
"""Period of its indicators."""
REST: Final = "rest"
ON: Final = "on"


class MonthFamily(NamedTuple):
    """Machines of which each table of a month is made apart: a row never has two grid zones."""

    zone: str
    population: Population
    memo: bool


class RowLabels(NamedTuple):
    """The labels of a row, as text."""

    entity: str
    population: str
    device_class: str
    zone: str


@dataclass(frozen=True, slots=True)
class MonthView:
    """A released month, ready to be shown."""

    first: date
    cells: Mapping[RowLabels, GroupSums]
    """Energy and machines."""
    uses: Mapping[RowLabels, GroupSums]
    """Time in use, of the same machines in fewer rows."""
    families: frozenset[MonthFamily]
    """Those that have a row."""
    sobriety: tuple[DailyIndicators, ...]
    merged: Mapping[Population, int]
    """Families that have a row `autres`, those of screens apart."""
    withheld: Mapping[Population, int]
    """Families without a row: too few machines; those of screens apart."""
    incomplete: frozenset[tuple[MonthFamily, str]]
    """Entities of which some machines, or screens, are in a row `autres`."""

    def is_incomplete(self, row: RowLabels) -> bool:
        """Whether more machines of a row's entity are in `autres`."""
        memo = row.device_class == DeviceClass.VIRTUAL_MACHINE.value
        return (MonthFamily(row.zone, Population(row.population), memo), row.entity) in self.incomplete


def month_view(month: Month) -> MonthView:
    """Of one month (pure)."""
    families = families_of(month)
    return MonthView(
        month.part.first,
        _by_row(month.cells),
        _by_row(month.uses),
        families,
        tuple(_sobriety(month, families)),
        Counter(group.key.population for group in month.cells if group.key.autres),
        Counter(key.population for key in month.withheld),
        frozenset((family_of(one.family), name) for one in month.hidden_cells for name in one.entities),
    )


def last_month(today: date) -> tuple[date, date]:
    """The newest month that is complete, end exclusive: it is over for three days."""
    end = ended_by(today)
    return (end - timedelta(days=1)).replace(day=1), end


def family_of(key: GroupKey) -> MonthFamily:
    """Of a row."""
    return MonthFamily(key.zone, key.population, key.memo)


def families_of(month: Month) -> frozenset[MonthFamily]:
    """Of whose machines there is a row."""
    return frozenset(family_of(group.key) for group in month.uses)


def energy_of(sums: GroupSums) -> int | None:
    """All energy of a row, in mJ; None when none of it is known."""
    return sum(one.energy_millijoules for one in sums.energies.values()) if sums.energies else None


def times_of(sums: GroupSums) -> dict[str, int]:
    """State → milliseconds of a row of uses, as far as it tells them apart: active and idle, or `on`; and `rest`, off or asleep."""
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
    """Virtual machines are always told apart by their class: no total may hold them."""
    device_class = DeviceClass.VIRTUAL_MACHINE.value if key.memo else key.device_class or ""
    return RowLabels(key.entity or "", key.population.value, device_class, key.zone)


def _by_row(groups: Iterable[Group]) -> dict[RowLabels, GroupSums]:
    """An entity may bear the name `autres` itself: rows of the same labels are one."""
    found: defaultdict[RowLabels, list[GroupSums]] = defaultdict(list)
    for group in groups:
        found[_row(group.key)].append(group.sums)
    return {row: _total(found[row]) for row in sorted(found)}


def _total(parts: Iterable[GroupSums]) -> GroupSums:
    return reduce(partial(added, same_time=True), parts)


def _sobriety(month: Month, families: Collection[MonthFamily]) -> Iterable[DailyIndicators]:
    """Coverage of the sums of `whole`, the other indicators of those of `uses`; per population, physical machines and virtual ones apart."""
    for population, memo in sorted({(one.population, one.memo) for one in families}):
        used, seen = (
            [group for group in table if (group.key.population, group.key.memo) == (population, memo)]
            for table in (month.uses, month.whole)
        )
        key = used[0].key
        others = [one for one in OF_SUMS if one != COVERAGE]
        found = of_sums(key, _total(group.sums for group in used), MONTH, month.part.first, others)
        if seen:
            whole = _total(group.sums for group in seen)
            covered = of_sums(key, whole, MONTH, month.part.first, (COVERAGE,))
            found = replace(found, parts={**found.parts, **covered.parts})
        yield found
