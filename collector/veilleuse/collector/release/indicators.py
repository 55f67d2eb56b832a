# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the indicators of machines of a month, as they are published (pure). docs/privacy.md.

I3 and I4 of PCs are sums over machines, as the month's rows are. Combined with the rows, they must still
leave at least k machines. So their rows are the month's rows, or several of them together. I4 loses its
causes where they would divide a row, and I3 its counts where few plans are unknown. Servers have no personal
user: their rows are not limited.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.disclosure.figures import disclose_figure
from veilleuse.collector.disclosure.partition import PerimeterOf, all_in_one, merge_along_path
from veilleuse.collector.disclosure.rule import EXEMPT, MIXED, DisclosureCell, is_safe
from veilleuse.collector.indicators import TABLE, IndicatorInput, load_indicator, made_of
from veilleuse.collector.indicators.avoidable_energy import (
    OUTSIDE,
    AvoidableEnergy,
    causes_of,
    lower_microwatts,
    not_avoidable_millijoules,
)
from veilleuse.collector.indicators.power_plan import PowerPlanCompliance, complies
from veilleuse.collector.model.indicators import (
    Detail,
    Figure,
    IndicatorGroup,
    IndicatorMachine,
    Targets,
)
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Group, GroupSums
from veilleuse.collector.ports.stages import MachineRatio
from veilleuse.collector.quantiles import Z95, quantile95
from veilleuse.collector.release.indicator_rows import HalfWidth, IndicatorMonth, IndicatorRow
from veilleuse.collector.release.rows import family_of
from veilleuse.collector.release.tables import Hidden, Month
from veilleuse.wire.units import MICROWATT_MILLISECONDS_PER_MILLIJOULE, MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import State

CLOSED_BANDS: Final = "closed_bands"
CAUSES_OF_PCS: Final = (CLOSED_BANDS, "open_idle", "screens")
_SHARE_DIGITS: Final = 2
"""Decimal places of a share without its counts."""
_SAME: Final = 0.01
"""Relative difference up to which closed_bands of rows and of machines are one figure.

A few update windows, or time in whole days, cause differences this small.
"""
_U_STEP: Final = 0.05
"""Step to which uncertainties are rounded up: exact ones would reveal the measured part of the energy."""

Machines: TypeAlias = Sequence[IndicatorMachine]
Rows: TypeAlias = Mapping[GroupKey, list[IndicatorMachine]]


@dataclass(frozen=True)
class MonthContext:
    """Released month and rule that limit the figures of PCs."""

    month: Month
    places: Mapping[HostId, GroupKey]
    """Place and class of each machine."""
    k: int
    targets: Targets
    perimeter_of: PerimeterOf = all_in_one

    @cached_property
    def uses(self) -> Mapping[GroupKey, GroupSums]:
        """Uses of the month's rows, by their keys over any period."""
        return {group.key.over(): group.sums for group in self.month.uses}

    def row_of(self, machine: IndicatorMachine) -> GroupKey | None:
        """Return the month's row that holds a machine; None where none does."""
        place = self.places[machine.host_id]
        return next((key for key in (place, *place.merged_above) if key in self.uses), None)


def build_indicators(machines: Machines, servers: tuple[Group, ...], context: MonthContext) -> IndicatorMonth:
    """Build the published indicators of a month.

    `machines`: all of the month, a reinstalled one as one, and of PCs those that were observed.
    `servers`: sums of servers.
    """
    families: defaultdict[GroupKey, dict[GroupKey, list[IndicatorMachine]]] = defaultdict(dict)
    for one in machines:
        is_exempt = one.population in EXEMPT
        row = context.places[one.host_id] if is_exempt else context.row_of(one)
        if row is not None and (is_exempt or not row.memo):
            families[family_of(row)].setdefault(row, []).append(one)
    rows: list[IndicatorRow] = []
    hidden: list[tuple[str, Hidden]] = []
    half_widths: list[HalfWidth] = []
    for family, of_family in families.items():
        if family.population in EXEMPT:
            rows += _server_rows(of_family, context)
        else:
            for rule in RULES:
                rows += (found := _pc_rows(of_family, rule, context))
                hidden += _hidden(rule.indicator, family, of_family, found, context)
        half_widths += _half_widths(family, [one for some in of_family.values() for one in some], context)
    part = context.month.part
    return IndicatorMonth(
        part,
        tuple(
            row._replace(key=row.key.over(part.first, part.end))
            for row in sorted(rows, key=lambda row: (row.indicator, row.key.order))
        ),
        servers,
        tuple(sorted(half_widths, key=str)),
        tuple(sorted(hidden, key=str)),
    )


def _server_rows(of_family: Rows, context: MonthContext) -> Iterator[IndicatorRow]:
    for key, machines in of_family.items():
        for indicator in made_of(IndicatorInput.MACHINES):
            for figure in load_indicator(indicator).figures(
                IndicatorGroup(key, tuple(machines)), context.targets
            ):
                yield IndicatorRow(indicator, key, replace(figure, behind=(), behind_details={}))


class _Rule(NamedTuple):
    """Rule of disclosure of one indicator of PCs. An indicator without a rule is not published of PCs."""

    indicator: str
    cell: Callable[[GroupKey, Machines, Targets], DisclosureCell[GroupKey]]
    """Returns what a row's figure tells of each machine."""
    limit: Callable[[Figure, Machines, MonthContext], Figure]
    """Limits the figure of a row."""


def _pc_rows(of_family: Rows, rule: _Rule, context: MonthContext) -> list[IndicatorRow]:
    """Return the rows of one family: those of the month, merged where that makes them safe.

    Where it does not, all of the family is one row, which may be withheld.
    """
    cells = [rule.cell(key, machines, context.targets) for key, machines in of_family.items()]
    merged = merge_along_path(cells, context.k, context.perimeter_of)
    found = _limited(merged, of_family, rule, context) if merged else []
    if not found or any(row.figure.withheld for row in found):
        first, *others = of_family
        found = _limited(
            {first.merged_at((), AUTRES) if others else first: (first, *others)}, of_family, rule, context
        )
    return found


def _limited(
    merged: Mapping[GroupKey, tuple[GroupKey, ...]], of_family: Rows, rule: _Rule, context: MonthContext
) -> list[IndicatorRow]:
    found = []
    for key, inside in merged.items():
        machines = tuple(one for row in inside for one in of_family[row])
        for figure in load_indicator(rule.indicator).figures(IndicatorGroup(key, machines), context.targets):
            limited = rule.limit(disclose_figure(figure, key, context.k), machines, context)
            found.append(IndicatorRow(rule.indicator, key, replace(limited, behind=(), behind_details={})))
    return found


def _hidden(
    indicator: str, family: GroupKey, of_family: Rows, rows: Iterable[IndicatorRow], context: MonthContext
) -> Iterator[tuple[str, Hidden]]:
    """Yield the names in merged rows, by branch."""
    keys = {row.key for row in rows}
    by_branch: defaultdict[str, set[GroupKey]] = defaultdict(set)
    for machines in of_family.values():
        for one in machines:
            place = context.places[one.host_id]
            row = next(key for key in (place, *place.merged_above) if key in keys)
            if row.autres:
                by_branch[row.entity or AUTRES].add(place)
    for branch, places in by_branch.items():
        yield (
            indicator,
            Hidden(
                family._replace(entity=branch),
                frozenset(place.entity for place in places if place.entity),
                frozenset(place.device_class for place in places if place.device_class),
            ),
        )


def _half_widths(family: GroupKey, machines: Machines, context: MonthContext) -> Iterator[HalfWidth]:
    """Yield the half-widths of ratios over machines: linearised, as of machines drawn from a large fleet."""
    for indicator, line in TABLE.items():
        made = load_indicator(indicator)
        if family.population not in line.populations | line.also_of or not isinstance(made, MachineRatio):
            continue
        pairs = [pair for one in machines if (pair := made.pair(one, context.targets))[1] > 0]
        count = len(pairs)
        if count < (2 if family.population in EXEMPT else max(2, context.k)):
            continue
        whole = sum(of for _, of in pairs)
        ratio = sum(part for part, _ in pairs) / whole
        errors = math.fsum((part - ratio * of) ** 2 for part, of in pairs)
        half = quantile95(count - 1) * math.sqrt(count / (count - 1) * errors) / whole
        yield HalfWidth(indicator, family, min(100, math.ceil(100 * half)))


# --- I3


def _cell_of_plans(key: GroupKey, machines: Machines, targets: Targets) -> DisclosureCell[GroupKey]:
    sides: dict[bool | None, dict[HostId, int]] = {True: {}, False: {}, None: {}}
    for one in machines:
        sides[complies(one, targets)][one.host_id] = 1
    return DisclosureCell(key, {one.host_id: 1 for one in machines}, constant=tuple(sides.values()))


def limit_compliance(figure: Figure, _machines: Machines, context: MonthContext) -> Figure:
    """Limit I3: with 1 to k - 1 unknown plans, round the share, as if it were of all machines."""
    unknown = int(figure.details.get("not_known", 0))
    if figure.value is None or unknown == 0 or unknown >= context.k:
        return figure
    share = round(figure.value, _SHARE_DIGITS)
    return replace(figure, value=share, numerator=share * figure.n, denominator=float(figure.n), details={})


# --- I4


def _cell_of_energy(key: GroupKey, machines: Machines, targets: Targets) -> DisclosureCell[GroupKey]:
    return DisclosureCell(
        key,
        {one.host_id: 1 for one in machines},
        (
            {one.host_id: sum(cause.millijoules for cause in causes_of(one, targets)) for one in machines},
            {one.host_id: one.use().derived_millijoules for one in machines},
            {one.host_id: one.use().on_millijoules for one in machines},
        ),
    )


def limit_avoidable(figure: Figure, machines: Machines, context: MonthContext) -> Figure:
    """Limit I4 to the energy, its causes and a coarse interval.

    Its share would be one of the machines' energy. The value is withheld where its parts would reveal the
    energy of fewer than k machines.
    """
    bare = replace(figure, numerator=None, denominator=None, details={}, interval=None)
    if figure.value is None:
        return bare
    value = figure.value
    names = [name for cause in CAUSES_OF_PCS if (name := f"{cause}_kwh") in figure.details]
    details: dict[str, Detail] = {name: figure.details[name] for name in names}
    if not is_safe({machine.host_id: not_avoidable_millijoules(machine) for machine in machines}, context.k):
        closed, others = _by_machine(machines, context.targets)
        of_rows = closed_bands_of_rows(machines, context) if names else None
        if of_rows is not None and abs(of_rows - closed) <= _SAME * of_rows:
            value += (of_rows - closed) / MILLIJOULES_PER_KWH
            details[f"{CLOSED_BANDS}_kwh"] = of_rows / MILLIJOULES_PER_KWH
        elif is_safe(others, context.k):
            details = {}
        else:
            return replace(bare, value=None, withheld=True)
    if not details:
        details = {f"{MIXED}_kwh": value}
    return replace(bare, value=value, details=details, interval=_coarse_interval(figure, value))


def _by_machine(machines: Machines, targets: Targets) -> tuple[int, dict[HostId, int]]:
    """Return millijoules of closed_bands, and of the other causes by machine."""
    closed, others = 0, dict[HostId, int]()
    for machine in machines:
        by_cause = {cause.name: cause.millijoules for cause in causes_of(machine, targets)}
        closed += by_cause.pop(CLOSED_BANDS, 0)
        others[machine.host_id] = sum(by_cause.values())
    return closed, others


def _coarse_interval(figure: Figure, value: float) -> tuple[float, float] | None:
    """Return the interval around the value, with its uncertainty rounded up."""
    if figure.interval is None or not figure.value:
        return None
    u = math.log(figure.interval[1] / figure.value) / Z95
    u = math.ceil(u / _U_STEP - 1e-9) * _U_STEP
    return value * math.exp(-Z95 * u), value * math.exp(Z95 * u)


def closed_bands_of_rows(machines: Machines, context: MonthContext) -> int | None:
    """Return closed_bands in mJ as anyone can compute it from the released month.

    Per row: idle energy outside opening hours, minus the machines' lower power × that time. None where a row
    does not disclose both, or its machines have several powers.

    For each machine closed_bands is such a difference. A sum over machines would be one more equation. With a
    model's watts, or the rest of a row's energy, that equation could be solved for a few machines.
    """
    powers: defaultdict[GroupKey, set[int | None]] = defaultdict(set)
    for machine in machines:
        if machine.use(*OUTSIDE).on_idle_milliseconds and (row := context.row_of(machine)) is not None:
            powers[row].add(lower_microwatts(machine))
    millijoules = 0
    for row, of_row in powers.items():
        if len(of_row) > 1:
            return None
        (power,) = of_row
        time, energy = (
            tell(frozenset(OUTSIDE), frozenset({State.ON_IDLE}))
            for tell in (context.uses[row].milliseconds, context.uses[row].millijoules)
        )
        if power is None or time is None or energy is None:
            return None
        millijoules += energy - power * time // MICROWATT_MILLISECONDS_PER_MILLIJOULE
    return millijoules


RULES: Final = (
    _Rule(PowerPlanCompliance.meta.indicator, _cell_of_plans, limit_compliance),
    _Rule(AvoidableEnergy.meta.indicator, _cell_of_energy, limit_avoidable),
)
