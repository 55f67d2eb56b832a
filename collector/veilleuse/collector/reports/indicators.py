# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the indicators of any period: stored data → groups → figures that may be disclosed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, NamedTuple

from veilleuse.collector.disclosure import EXEMPT, DisclosureCell, is_safe, publish
from veilleuse.collector.documents.document import Row
from veilleuse.collector.errors import UsageError
from veilleuse.collector.indicators import COVERAGE, TABLE, IndicatorInput, load, load_sobriety, made_of
from veilleuse.collector.model.figures import AUTRES, Group, IndicatorMeta, Thresholds
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.indicators import (
    Contributions,
    Figure,
    IndicatorDevice,
    IndicatorMachine,
    Scope,
    SobrietyGroup,
    Targets,
)
from veilleuse.collector.model.records import HostId
from veilleuse.collector.reports import indicators_document as indicators_report
from veilleuse.collector.reports.inputs import SobrietySources, cut_populations
from veilleuse.collector.reports.inventory_groups import devices_of, fleet_groups, user_groups
from veilleuse.collector.reports.machines import Stretch, machines_of
from veilleuse.collector.reports.savings import actions_in_force, add_months, compare_actions
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.vocabulary import Population

DIMENSIONS: Final = ("entity", "site", "device_class")
"""Dimensions that divide these figures; population always divides, months and years never."""
OF_MACHINES: Final = made_of(IndicatorInput.MACHINES)
OF_DEVICES: Final = made_of(IndicatorInput.DEVICES)
OF_FLEET: Final = made_of(IndicatorInput.FLEET)
OF_USERS: Final = made_of(IndicatorInput.USERS)
OF_ACTIONS: Final = made_of(IndicatorInput.ACTIONS)


@dataclass(frozen=True, slots=True)
class SobrietyQuery:
    """Period and grouping of an indicators report. Raises UsageError for an empty period."""

    first: date
    end: date
    """Exclusive end."""
    dimensions: tuple[str, ...]
    """Dimensions of the report; only those of DIMENSIONS divide."""
    k_anonymity: int
    today: date

    def __post_init__(self) -> None:
        if self.first >= self.end:
            raise UsageError(f"--from {self.first} must be before --to {self.end}, which is exclusive")

    @property
    def stretch(self) -> Stretch:
        """Return the whole ended months inside the period, and its last day that has begun."""
        first = self.first if self.first.day == 1 else add_months(self.first.replace(day=1), 1)
        end = min(self.end, self.today).replace(day=1)
        last = max(self.first, min(self.end - timedelta(days=1), self.today))
        return Stretch((first, max(first, end)), min(self.end, self.today), last)

    @property
    def scope(self) -> Scope:
        """Return the scope of the whole fleet."""
        return Scope(self.first, self.end)


class GroupFigure(NamedTuple):
    """Figure of one group."""

    meta: IndicatorMeta
    scope: Scope
    figure: Figure


@dataclass(frozen=True, slots=True)
class IndicatorFigures:
    """All figures of a query, after the disclosure rule."""

    figures: tuple[GroupFigure, ...]
    withheld: tuple[Scope, ...]
    """Populations too small to be shown."""
    machines: tuple[IndicatorMachine, ...]
    """Machines for operations only: the disclosure rule was not applied to them."""


def compute_indicators(sources: SobrietySources, query: SobrietyQuery, targets: Targets) -> IndicatorFigures:
    """Compute every figure of every group."""
    base, k = sources.base, query.k_anonymity
    hosts, assets, stretch = base.reader.hosts(), base.inventory.assets(), query.stretch
    machines = machines_of(sources, stretch, hosts, assets)
    devices = devices_of(assets, stretch.last_day)
    groups: list[tuple[Sequence[str], SobrietyGroup]] = []
    withheld: list[Scope] = []
    for identifiers, cells in (
        (OF_MACHINES, _by_scope(query, machines, ())),
        (OF_DEVICES, _by_scope(query, (), devices)),
    ):
        kept, hidden = merge_small_groups(cells, k)
        groups += [(identifiers, group) for group in kept]
        withheld += [scope for scope in hidden if scope not in withheld]
    by_entity = "entity" in query.dimensions
    bought = fleet_groups(base.inventory, sources.follows, query.scope, by_entity=by_entity)
    groups += [(OF_FLEET, group) for group in bought]
    used = user_groups(base.inventory, devices, machines, query.scope, query.dimensions, stretch.last_day)
    groups += [(OF_USERS, group) for group in used]
    groups += [(OF_ACTIONS, group) for group in action_groups(sources, query, hosts)]
    cut = cut_populations(base.periods, stretch.months, hosts)
    return IndicatorFigures(_disclose_figures(groups, targets, k, cut), tuple(withheld), machines)


def figures_of_machines(
    machines: Iterable[IndicatorMachine], query: SobrietyQuery, targets: Targets
) -> tuple[GroupFigure, ...]:
    """Compute the indicators made of these machines only, after the disclosure rule."""
    k = query.k_anonymity
    kept, _ = merge_small_groups(_by_scope(query, machines, ()), k)
    return _disclose_figures([(OF_MACHINES, group) for group in kept], targets, k)


def _disclose_figures(
    groups: Iterable[tuple[Sequence[str], SobrietyGroup]],
    targets: Targets,
    k: int,
    cut: Collection[Population] = (),
) -> tuple[GroupFigure, ...]:
    """Return the disclosed figures in the order of the indicators.

    `cut` holds the populations with deleted months.
    """
    found = (
        one._replace(figure=Figure(None, one.figure.n))
        if TABLE[one.meta.indicator].is_of_months and one.scope.population in cut
        else one
        for identifiers, group in groups
        for one in figures_of(identifiers, group, targets)
    )
    order = {identifier: place for place, identifier in enumerate(TABLE)}
    return tuple(
        sorted(
            (one._replace(figure=disclose_figure(one.figure, one.scope, k)) for one in found),
            key=lambda one: order[one.meta.indicator],
        )
    )


def figures_of(identifiers: Iterable[str], group: SobrietyGroup, targets: Targets) -> Iterator[GroupFigure]:
    """Yield the figures of one group, before the disclosure rule."""
    for identifier in identifiers:
        indicator = load_sobriety(identifier)
        for figure in indicator.figures(group, targets):
            yield GroupFigure(indicator.meta, group.scope, figure)


def action_groups(
    sources: SobrietySources, query: SobrietyQuery, hosts: Sequence[Host]
) -> Iterator[SobrietyGroup]:
    """Yield one group per action in force that has whole months after it."""
    actions = actions_in_force(sources.follows.actions())
    end = query.stretch.months[1]
    for _, windows, comparison in compare_actions(sources.base.periods, hosts, actions, end):
        yield SobrietyGroup(Scope(windows.after, windows.end), comparison=comparison)


# --- disclosure rule


def merge_small_groups(
    groups: Mapping[Scope, SobrietyGroup], k: int
) -> tuple[list[SobrietyGroup], list[Scope]]:
    """Return (groups that may be shown, populations withheld whole), by the rule of `disclosure`."""
    shown: list[SobrietyGroup] = []
    withheld: list[Scope] = []
    families: defaultdict[Scope, dict[Scope, SobrietyGroup]] = defaultdict(dict)
    for scope, group in groups.items():
        if k == 1 or scope.population is None or scope.population in EXEMPT:
            shown.append(group)
        else:
            family = replace(scope, entity=None, site=None, device_class=None)
            families[family][scope] = group
    for family, members in families.items():
        level = publish([_cell(scope, group) for scope, group in members.items()], k)
        if level.withheld_keys:
            withheld.append(family)
            continue
        shown += [members[cell.key] for cell in level.kept]
        if level.merged_keys:
            shown.append(_merge_groups([members[scope] for scope in level.merged_keys]))
    return sorted(shown, key=_order), withheld


def disclose_figure(figure: Figure, scope: Scope, k: int) -> Figure:
    """Remove values with fewer than k machines or assets of people: docs/guarantees.md P4, P5.

    Details that are parts of one sum are removed together: the rest would reveal a removed one.
    """
    if k == 1 or scope.population in EXEMPT:
        return figure
    if any(not _may_show(one, k) for one in figure.behind):
        return replace(
            figure,
            value=None,
            numerator=None,
            denominator=None,
            details={name: one for name, one in figure.details.items() if isinstance(one, str)},
            interval=None,
            withheld=True,
        )
    if any(not _may_show(one, k) for one in figure.behind_details.values()):
        kept = {name: one for name, one in figure.details.items() if name not in figure.behind_details}
        return replace(figure, details=kept)
    return figure


def _may_show(behind: Contributions, k: int) -> bool:
    """Return true when nobody contributes, or enough do."""
    mine = {HostId(key): value for key, value in behind.items()}
    return not any(mine.values()) or is_safe(mine, k)


def _cell(scope: Scope, group: SobrietyGroup) -> DisclosureCell[Scope]:
    members = {HostId(one.host_id): 1 for one in group.machines} or {
        HostId(one.asset_id): 1 for one in group.devices
    }
    energies = {one.host_id: one.use().derived_millijoules for one in group.machines}
    return DisclosureCell(scope, members, (energies,))


def _merge_groups(groups: Sequence[SobrietyGroup]) -> SobrietyGroup:
    """Merge groups: `autres` in every requested dimension, blank in the others."""
    scope = groups[0].scope
    named = replace(
        scope,
        entity=scope.entity and AUTRES,
        site=scope.site and AUTRES,
        device_class=scope.device_class and AUTRES,
        autres=True,
    )
    return SobrietyGroup(
        named,
        tuple(one for group in groups for one in group.machines),
        tuple(one for group in groups for one in group.devices),
    )


def _by_scope(
    query: SobrietyQuery, machines: Iterable[IndicatorMachine], devices: Iterable[IndicatorDevice]
) -> dict[Scope, SobrietyGroup]:
    found: defaultdict[Scope, tuple[list[IndicatorMachine], list[IndicatorDevice]]] = defaultdict(
        lambda: ([], [])
    )
    for machine in machines:
        scope = _scope_of(query, machine, machine.device_class.value, memo=machine.is_virtual)
        found[scope][0].append(machine)
    for device in devices:
        found[_scope_of(query, device, device.device_class, memo=False)][1].append(device)
    return {scope: SobrietyGroup(scope, tuple(ms), tuple(ds)) for scope, (ms, ds) in found.items()}


def _scope_of(
    query: SobrietyQuery, one: IndicatorMachine | IndicatorDevice, device_class: str, *, memo: bool
) -> Scope:
    asked = query.dimensions
    return replace(
        query.scope,
        entity=one.entity if "entity" in asked else None,
        site=one.site if "site" in asked else None,
        population=one.population,
        device_class=device_class if "device_class" in asked else None,
        memo=memo,
    )


def _order(group: SobrietyGroup) -> tuple[str, str, str, str, bool, bool]:
    scope = group.scope
    population = scope.population.value if scope.population else ""
    words = (scope.entity or "", scope.site or "", population, scope.device_class or "")
    return (*words, scope.memo, scope.autres)


def indicator_rows(groups: Iterable[Group], settings: CollectorSettings, data: str) -> list[Row]:
    """Compute every built-in indicator of every group it applies to, with the group's coverage.

    `data`: real or simulated.
    """
    thresholds = Thresholds(settings.indicators.out_of_hours_target_ratio)
    coverage, chosen = load(COVERAGE), tuple(groups)
    rows: list[Row] = []
    for indicator in map(load, made_of(IndicatorInput.SUMS)):
        for group in chosen:
            figure = indicator.figure(group.key, group.sums)
            covered = coverage.figure(group.key, group.sums)
            if figure is not None:
                rows.append(
                    indicators_report.row(
                        indicator.meta,
                        indicator.threshold(thresholds),
                        group.key,
                        group.sums.hosts,
                        figure,
                        coverage_states=None if covered is None else covered.value,
                        incomplete=group.sums.incomplete,
                        data=data,
                    )
                )
    return rows
