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
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from itertools import product
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.disclosure.figures import disclose_figure
from veilleuse.collector.disclosure.partition import PerimeterOf, all_in_one, merge_along_path
from veilleuse.collector.disclosure.rule import EXEMPT, MIXED, DisclosureCell, is_nobodys_or_enough, is_safe
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
    Pair,
    Targets,
)
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Group, GroupSums
from veilleuse.collector.ports.stages import Indicator, MachineRatio
from veilleuse.collector.quantiles import Z95, quantile95
from veilleuse.collector.release.answer import add_sums
from veilleuse.collector.release.indicator_rows import HalfWidth, IndicatorMonth, IndicatorRow
from veilleuse.collector.release.rows import family_of
from veilleuse.collector.release.silence import machines_of_row
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
    enrolled: Collection[HostId] = ()
    """PCs that the month counts, by enrolment and inventory: see tables.hosts_of_month."""

    @cached_property
    def uses(self) -> Mapping[GroupKey, GroupSums]:
        """Uses of the month's rows, by their keys over any period."""
        return {group.key.over(): group.sums for group in self.month.uses}

    @cached_property
    def cells(self) -> Mapping[GroupKey, GroupSums]:
        """Cells of the month likewise."""
        return {group.key.over(): group.sums for group in self.month.cells}

    def row_of(self, machine: IndicatorMachine) -> GroupKey | None:
        """Return the month's row that holds a machine; None where none does."""
        return self.nearest(machine.host_id, self.uses)

    def row_in_month(self, machine: IndicatorMachine) -> GroupKey | None:
        """Return the row that a machine's figures are in; None where the month has none of it."""
        if machine.population in EXEMPT:
            return self.places[machine.host_id]
        row = self.row_of(machine)
        return row if row is not None and not row.memo else None

    def cell_of(self, machine: IndicatorMachine) -> GroupKey | None:
        """Return the month's cell that holds a machine; None where none does."""
        return self.nearest(machine.host_id, self.cells)

    def nearest(self, host_id: HostId, keys: Collection[GroupKey]) -> GroupKey | None:
        """Return the one of these rows that holds a machine; None where none does."""
        place = self.places[host_id]
        return next((key for key in (place, *place.merged_above) if key in keys), None)

    def counted(self, machines: Machines) -> frozenset[HostId]:
        """Return the PCs that the month's cells count: of each cell the enrolled ones, or those observed."""
        heard: defaultdict[GroupKey | None, set[HostId]] = defaultdict(set)
        enrolled: defaultdict[GroupKey | None, set[HostId]] = defaultdict(set)
        for one in filter(is_observed, machines):
            heard[self.cell_of(one)].add(one.host_id)
        for host_id in self.enrolled:
            enrolled[self.nearest(host_id, self.cells)].add(host_id)
        cells = heard.keys() | enrolled.keys()
        return frozenset().union(*(machines_of_row(heard[one], enrolled[one], self.k) for one in cells))


def is_observed(machine: IndicatorMachine) -> bool:
    """Return whether a known state or an energy of a machine is known."""
    use = machine.use()
    return bool(use.known_milliseconds or use.derived_millijoules)


def build_indicators(machines: Machines, servers: tuple[Group, ...], context: MonthContext) -> IndicatorMonth:
    """Build the published indicators of a month.

    `machines`: all of the month, a reinstalled one as one. PCs are those that the month's rows count.
    `servers`: sums of servers.
    """
    families: defaultdict[GroupKey, dict[GroupKey, list[IndicatorMachine]]] = defaultdict(dict)
    counted = context.counted([one for one in machines if one.population not in EXEMPT])
    for one in machines:
        row = context.row_in_month(one)
        if row is not None and (one.population in EXEMPT or one.host_id in counted):
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
        half_widths += _half_widths(family, of_family, rows, context)
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
    cell: Callable[[GroupKey, Machines, MonthContext], DisclosureCell[GroupKey]]
    """Returns what a row's figure tells of each machine."""
    limit: Callable[[Figure, Machines, MonthContext], Figure]
    """Limits the figure of a row."""
    is_of_observed: bool
    """True for a sum of what machines did: one that was silent all month has no part in it."""


def _pc_rows(of_family: Rows, rule: _Rule, context: MonthContext) -> list[IndicatorRow]:
    """Return the rows of one family: those of the month, merged where that makes them safe.

    Where it does not, all of the family is one row, which may be withheld.
    """
    if rule.is_of_observed:
        of_family = {row: list(filter(is_observed, machines)) for row, machines in of_family.items()}
    cells = [rule.cell(key, machines, context) for key, machines in of_family.items()]
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
        hosts = sum(context.uses[row].hosts for row in inside)
        for figure in load_indicator(rule.indicator).figures(IndicatorGroup(key, machines), context.targets):
            told = replace(disclose_figure(figure, key, context.k), n=hosts)
            limited = rule.limit(told, machines, context)
            found.append(IndicatorRow(rule.indicator, key, replace(limited, behind=(), behind_details={})))
    return found


def _hidden(
    indicator: str, family: GroupKey, of_family: Rows, rows: Iterable[IndicatorRow], context: MonthContext
) -> Iterator[tuple[str, Hidden]]:
    """Yield the names in merged rows, by branch."""
    keys = {row.key for row in rows}
    by_branch: defaultdict[str, set[GroupKey]] = defaultdict(set)
    for host_id in context.enrolled:
        if context.nearest(host_id, context.uses) in of_family:
            row = context.nearest(host_id, keys)
            if row is not None and row.autres:
                by_branch[row.entity or AUTRES].add(context.places[host_id])
    for branch, places in by_branch.items():
        yield (
            indicator,
            Hidden(
                family._replace(entity=branch),
                frozenset(place.entity for place in places if place.entity),
                frozenset(place.device_class for place in places if place.device_class),
            ),
        )


def _half_widths(
    family: GroupKey, of_family: Rows, rows: Iterable[IndicatorRow], context: MonthContext
) -> Iterator[HalfWidth]:
    """Yield the half-widths of ratios over machines: linearised, as of machines drawn from a large fleet.

    Of PCs, only where the ratio of the family is told; of a ratio that counts machines, by its told figures.
    """
    machines = [one for some in of_family.values() for one in some]
    is_exempt = family.population in EXEMPT
    for indicator, line in TABLE.items():
        made = load_indicator(indicator)
        if family.population not in line.populations | line.also_of or not isinstance(made, MachineRatio):
            continue
        if is_exempt or _is_told(made, family, of_family, context):
            pairs = [made.pair(one, context.targets) for one in machines]
        else:
            pairs = _pairs_of_figures(
                row.figure for row in rows if row.indicator == indicator and family_of(row.key) == family
            )
        pairs = [pair for pair in pairs if pair[1] > 0]
        count = len(pairs)
        if count < (2 if is_exempt else max(2, context.k)):
            continue
        whole = sum(of for _, of in pairs)
        ratio = sum(part for part, _ in pairs) / whole
        errors = math.fsum((part - ratio * of) ** 2 for part, of in pairs)
        half = quantile95(count - 1) * math.sqrt(count / (count - 1) * errors) / whole
        yield HalfWidth(indicator, family, min(100, math.ceil(100 * half)))


def _is_told(made: Indicator, family: GroupKey, of_family: Rows, context: MonthContext) -> bool:
    """Return whether the month's rows give the ratio of a family."""
    sums = reduce(partial(add_sums, same_time=True), (context.uses[row] for row in of_family))
    figures = made.figures(IndicatorGroup(family, sums=sums), context.targets)
    return any(figure.value is not None for figure in figures)


def _pairs_of_figures(figures: Iterable[Figure]) -> list[Pair]:
    """Return as many pairs as machines, of which the told share complies."""
    known = [one for one in figures if not one.withheld]
    good, of = (sum(getattr(one, name) or 0 for one in known) for name in ("numerator", "denominator"))
    return [*[(1.0, 1.0)] * round(good), *[(0.0, 1.0)] * (round(of) - round(good))]


# --- I3

_SIDES: Final[tuple[Mapping[bool | None, int], ...]] = tuple(
    dict(zip((True, False, None), sides, strict=True))
    for sides in ((0, 1, 2), (0, 1, 1), (0, 1, 0), (0, 0, 1))
)
"""Ways to divide machines by their plans: one that complies, one that does not, one that is not known."""


def _cell_of_plans(key: GroupKey, machines: Machines, context: MonthContext) -> DisclosureCell[GroupKey]:
    return DisclosureCell(
        key, {one.host_id: 1 for one in machines}, constant=tuple(_outnumbered(machines, context))
    )


def _outnumbered(machines: Machines, context: MonthContext) -> list[dict[HostId, int]]:
    """Return, for each of _SIDES, the machines outside the largest side of their cell, then of their place.

    A row's counts by side, with any weights, less a multiple of each cell's count leave these machines or
    more: each cell can lose one side. With one machine that does not comply among eleven of one cell that do,
    and twelve that do not in another, the counts 11 and 13 less the cells' 12 leave that one. Where all
    machines are measured, the inventory tells the count of each entity and class too.
    """
    said = [
        (one.host_id, complies(one, context.targets), (context.cell_of(one), context.places[one.host_id]))
        for one in machines
    ]
    found = []
    for side_of, kind in product(_SIDES, (0, 1)):
        groups: defaultdict[GroupKey | None, defaultdict[int, list[HostId]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for host_id, plan, of in said:
            groups[of[kind]][side_of[plan]].append(host_id)
        left: dict[HostId, int] = {}
        for sides in groups.values():
            largest = max(sides.values(), key=len)
            left |= {host: 1 for hosts in sides.values() if hosts is not largest for host in hosts}
        found.append(left)
    return found


def limit_compliance(figure: Figure, machines: Machines, context: MonthContext) -> Figure:
    """Limit I3: with 1 to k - 1 unknown plans, round the share, as if it were of all machines.

    Withheld where other counts would isolate few machines, or where the machines are no longer those of the
    month's cells: their number beside that of the cells would tell who came or left.
    """
    absent = replace(figure, value=None, numerator=None, denominator=None, details={}, withheld=True)
    cells = Counter(context.cell_of(one) for one in machines)
    hosts = {key: sums.hosts for key, sums in context.cells.items()}
    if figure.n != len(machines) or any(hosts.get(key) != n for key, n in cells.items() if key):
        return absent
    few = [not is_nobodys_or_enough(one, context.k) for one in _outnumbered(machines, context)]
    if figure.withheld or not any(few):
        return figure
    unknown = sum(complies(one, context.targets) is None for one in machines)
    is_shared = figure.value in (0, 1) or not any(few[:2])
    if figure.value is None or not (0 < unknown < context.k <= figure.n - unknown and is_shared):
        return absent
    share = round(figure.value, _SHARE_DIGITS)
    return replace(figure, value=share, numerator=share * figure.n, denominator=float(figure.n), details={})


# --- I4


def _cell_of_energy(key: GroupKey, machines: Machines, context: MonthContext) -> DisclosureCell[GroupKey]:
    return DisclosureCell(
        key,
        {one.host_id: 1 for one in machines},
        (
            {
                one.host_id: sum(cause.millijoules for cause in causes_of(one, context.targets))
                for one in machines
            },
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
    _Rule(PowerPlanCompliance.meta.indicator, _cell_of_plans, limit_compliance, is_of_observed=False),
    _Rule(AvoidableEnergy.meta.indicator, _cell_of_energy, limit_avoidable, is_of_observed=True),
)
