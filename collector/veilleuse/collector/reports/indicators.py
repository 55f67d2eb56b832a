# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the indicators of any period: stored data → groups → figures that may be disclosed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial, reduce
from itertools import count, islice
from typing import Final, NamedTuple

from veilleuse.collector.account.observations import gather_periods
from veilleuse.collector.account.statement import withheld_row
from veilleuse.collector.calendars.periods import months_before, slices
from veilleuse.collector.disclosure.figures import disclose_figure
from veilleuse.collector.disclosure.partition import merge_families
from veilleuse.collector.disclosure.rule import EXEMPT, DisclosureCell
from veilleuse.collector.documents.document import RELEASED_UNTIL, Row, Value
from veilleuse.collector.errors import UsageError
from veilleuse.collector.indicators import COVERAGE, TABLE, IndicatorInput, load_indicator, made_of
from veilleuse.collector.model.indicators import (
    Figure,
    IndicatorGroup,
    IndicatorMachine,
    IndicatorMeta,
    Targets,
)
from veilleuse.collector.model.inventory import DeviceGroup
from veilleuse.collector.model.query import Basis, GroupKey, Query, is_within
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Group, GroupSums
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.release.answer import (
    NO_DATA,
    TOO_FEW,
    MonthStatus,
    add_shares,
    add_sums,
    month_status,
    sum_indicators,
    sum_servers,
    sum_uses,
    withheld_rows,
)
from veilleuse.collector.release.figures import ReleasedStretch, find_stretches
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.indicator_rows import INDICATORS, IndicatorMonth, IndicatorRow
from veilleuse.collector.release.publications import PublicationCache, publish_nothing
from veilleuse.collector.release.tables import Month, is_month
from veilleuse.collector.reports import indicators_document as indicators_report
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.inputs import Sources, cut_populations
from veilleuse.collector.reports.inventory_groups import fleet_groups, user_groups
from veilleuse.collector.reports.machines import machines_of, stretch_of
from veilleuse.collector.reports.readers import SobrietySources
from veilleuse.collector.reports.savings import actions_in_force, compare_actions
from veilleuse.collector.settings import RetentionSettings
from veilleuse.wire.vocabulary import Population

OF_SUMS: Final = made_of(IndicatorInput.SUMS)
OF_MACHINES: Final = made_of(IndicatorInput.MACHINES)
OF_DEVICES: Final = made_of(IndicatorInput.DEVICES)
OF_FLEET: Final = made_of(IndicatorInput.FLEET)
OF_USERS: Final = made_of(IndicatorInput.USERS)
OF_ACTIONS: Final = made_of(IndicatorInput.ACTIONS)


@dataclass(frozen=True, slots=True)
class IndicatorSums:
    """Sums that I1, I2, I5 and I13 are computed from, and published figures of machines."""

    groups: tuple[Group, ...]
    withheld: tuple[Row, ...]
    """Groups that are not in them, with the reason where it is of released months."""
    head: dict[str, Value]
    """What they are made of, for the head of a report."""
    notes: tuple[str, ...] = ()
    months: tuple[IndicatorMonth, ...] = ()
    """Published indicators of the released months."""
    rows: tuple[IndicatorRow, ...] = ()
    """Their sums: I3, I4 and I6 to I8."""

    @property
    def is_released(self) -> bool:
        """True for released months."""
        return self.head[BASIS] == Basis.RELEASED.value


def sum_for_indicators(sources: Sources, query: Query, *, only_released: bool = False) -> IndicatorSums:
    """Sum released months where they can answer, which is the same for every account and outlet.

    Otherwise all are from machines' present data. `only_released`: otherwise PCs are of the released months
    inside the period, and servers as asked. Raises UsageError where the query cuts a month whose days are
    deleted, and for OBSERVED; StoreDamaged, StoreTooNew.
    """
    if query.basis is Basis.OBSERVED:
        raise UsageError(
            f"indicators are of what was observed already: use basis {Basis.RELEASED} or {Basis.UNRELEASED}"
        )
    query = sources.add_perimeters(query)
    stretches = find_stretches(sources.released, query)
    if not stretches and not only_released:
        query = sources.add_places(query)
        found = gather_periods(sources.reader, sources.periods, query, sources.hosts)
        withheld = tuple({**withheld_row(key), "indicators": ", ".join(OF_SUMS)} for key in found.withheld)
        return IndicatorSums(found.groups, withheld, {BASIS: Basis.UNRELEASED.value})
    whole = bool(stretches)
    stretches = stretches or find_stretches(sources.released, query, cut=True)
    places = sources.reader.places()
    cache = PublicationCache(FORM, sources.published, publish_nothing, query.k_anonymity)
    published = PublicationCache(INDICATORS, sources.published, publish_nothing, query.k_anonymity)
    populations = sorted({population for population, _ in places if population not in EXEMPT})
    since, seen = months_before(query.today, RetentionSettings().pc_monthly_months), list[MonthStatus]()
    months_read = _months(cache, stretches, query.entities, populations, sources, since, seen)
    released = sum_uses(months_read, query)
    parts = [one for stretch in stretches for one in stretch.months]
    months = [month for part in parts if (month := published.read(part.first, part.end)) is not None]
    rows = sum_indicators(months, query)
    if {"entity", "device_class", "perimeter"}.isdisjoint(query.dimensions):
        read = filter(None, (cache.read(part.first, part.end) for part in parts))
        rows = add_shares(rows, read, query.group_observed, query.entities)
    asked = replace(query, first=parts[0].first, end=parts[-1].end) if whole else query
    servers = sum_servers(months, query) if whole and months else _gather_servers(sources, asked)
    older = [
        one
        for one in slices(query.first, query.end, by_month=True)
        if is_month(one) and any(of.is_of_older_rule(one.first, one.end) for of in (cache, published))
    ]
    # Otherwise servers are of the present day, and each row has the months of its own.
    until = {RELEASED_UNTIL: parts[-1].end.isoformat()} if whole else {}
    return IndicatorSums(
        tuple(sorted((*servers, *released), key=lambda group: group.key.order)),
        tuple(withheld_rows(seen, older, query.today, query, places)),
        {BASIS: Basis.RELEASED.value, **until},
        indicators_report.RELEASED_NOTES if populations or released else (),
        tuple(months),
        rows,
    )


def _gather_servers(sources: Sources, query: Query) -> tuple[Group, ...]:
    """Sum the present data of servers, which have no personal user: of any period."""
    servers = [host for host in sources.exempt_hosts if is_within(host.org_entity, query.entities)]
    if not servers:
        return ()
    query = sources.add_places(query)
    return gather_periods(sources.reader, Periods(sources.reader, servers), query, servers).groups


def _months(
    cache: PublicationCache[Month],
    stretches: Iterable[ReleasedStretch],
    entities: Collection[str],
    populations: Sequence[Population],
    sources: Sources,
    kept_since: date,
    seen: list[MonthStatus],
) -> Iterator[Month]:
    """Yield the months one by one and append each status to `seen`: a year of groups may be 500 MiB.

    A month whose fleet is published without a release has too few machines of the populations. `kept_since`:
    the months of machines are deleted that ended by that day.
    """
    for part in (one for stretch in stretches for one in stretch.months):
        month = cache.read(part.first, part.end)
        if month is not None:
            seen.append(month_status(month, entities))
            yield month
        elif not cache.is_of_older_rule(part.first, part.end):
            keys = tuple(GroupKey(part.first, part.end, population=one) for one in populations)
            # Not whether any machine has data of it: that would tell whether the only one was silent.
            is_kept = part.first.year not in sources.closings.definitive_years() and part.end > kept_since
            is_too_few = is_kept and sources.has_pcs(part.end)
            seen.append(MonthStatus(part, keys, frozenset(), TOO_FEW if is_too_few else NO_DATA))


class GroupFigure(NamedTuple):
    """Figure of one group."""

    meta: IndicatorMeta
    key: GroupKey
    figure: Figure


@dataclass(frozen=True, slots=True)
class IndicatorFigures:
    """All figures of a query, after the disclosure rule."""

    figures: tuple[GroupFigure, ...]
    withheld: Mapping[GroupKey, tuple[str, ...]]
    """Population too small to be shown → the indicators that it lacks."""


def inventory_figures(sources: SobrietySources, query: Query, targets: Targets) -> tuple[GroupFigure, ...]:
    """Compute I9 to I12 of the inventory alone, without anything that a machine sent."""
    nothing = IndicatorSums((), (), {BASIS: Basis.RELEASED.value})
    return compute_indicators(sources, query, targets, nothing, with_actions=False).figures


def compute_indicators(
    sources: SobrietySources,
    query: Query,
    targets: Targets,
    sums: IndicatorSums,
    *,
    with_actions: bool = True,
) -> IndicatorFigures:
    """Compute every figure of every group. Those of machines are in `sums` where these are released."""
    base, k, query = sources.base, query.k_anonymity, sources.base.add_perimeters(query)
    stretch = stretch_of(query)
    machines = () if sums.is_released else machines_of(sources, stretch, base.hosts, base.assets)
    devices = base.inventory.devices(stretch.last_day, stretch.last_day)
    groups: list[tuple[Sequence[str], IndicatorGroup]] = []
    withheld: dict[GroupKey, tuple[str, ...]] = {}
    for identifiers, cells in (
        (OF_MACHINES, _by_key(query, machines, ())),
        (OF_DEVICES, _by_key(query, (), devices)),
    ):
        kept, hidden = merge_small_groups(cells, k)
        groups += [(identifiers, group) for group in kept]
        withheld |= {key: (*withheld.get(key, ()), *identifiers) for key in hidden}
    groups += [(OF_FLEET, group) for group in fleet_groups(base.inventory, sources.follows, query)]
    used = user_groups(base.inventory, devices, machines, query, stretch.last_day)
    groups += [(OF_USERS, group) for group in used]
    if with_actions:
        groups += [(OF_ACTIONS, group) for group in action_groups(sources, query)]
    cut = () if sums.is_released else cut_populations(base.periods, stretch.months, base.hosts)
    return IndicatorFigures(_disclose_figures(groups, targets, k, cut), withheld)


def _disclose_figures(
    groups: Iterable[tuple[Sequence[str], IndicatorGroup]],
    targets: Targets,
    k: int,
    cut: Collection[Population] = (),
) -> tuple[GroupFigure, ...]:
    """Return the disclosed figures; `cut` holds the populations with deleted months."""
    found = (
        one._replace(figure=Figure(None, one.figure.n))
        if TABLE[one.meta.indicator].is_of_months and one.key.population in cut
        else one
        for identifiers, group in groups
        for one in figures_of(identifiers, group, targets)
    )
    order = {identifier: place for place, identifier in enumerate(TABLE)}
    return tuple(
        sorted(
            (one._replace(figure=disclose_figure(one.figure, one.key, k)) for one in found),
            key=lambda one: order[one.meta.indicator],
        )
    )


def figures_of(identifiers: Iterable[str], group: IndicatorGroup, targets: Targets) -> Iterator[GroupFigure]:
    """Yield the figures of one group, before the disclosure rule."""
    for identifier in identifiers:
        indicator = load_indicator(identifier)
        for figure in indicator.figures(group, targets):
            yield GroupFigure(indicator.meta, group.key, figure)


def action_groups(sources: SobrietySources, query: Query) -> Iterator[IndicatorGroup]:
    """Yield one group per action in force that has whole months after it."""
    actions = actions_in_force(sources.follows.actions())
    hosts = sources.base.hosts if actions else ()
    end = stretch_of(query).months[1]
    for _, windows, comparison in compare_actions(sources.base.periods, hosts, actions, end):
        yield IndicatorGroup(GroupKey(windows.after, windows.end), comparison=comparison)


# --- disclosure rule


def merge_small_groups(
    groups: Mapping[GroupKey, IndicatorGroup], k: int
) -> tuple[list[IndicatorGroup], list[GroupKey]]:
    """Return (groups that may be shown, populations withheld whole), by the rule of `disclosure`."""
    rows, withheld = merge_families(groups, k, _cells, _merge_groups)
    shown = (replace(group, key=key) for key, group in rows)
    return sorted(shown, key=lambda group: group.key.order), withheld


def _cells(groups: Mapping[GroupKey, IndicatorGroup]) -> list[DisclosureCell[GroupKey]]:
    numbers = map(HostId, count())  # each device is one member, and of no other cell
    return [_cell(key, group, numbers) for key, group in groups.items()]


def _cell(key: GroupKey, group: IndicatorGroup, numbers: Iterator[HostId]) -> DisclosureCell[GroupKey]:
    devices = islice(numbers, sum(one.number for one in group.devices))
    members = {HostId(one.host_id): 1 for one in group.machines} or dict.fromkeys(devices, 1)
    energies = {one.host_id: one.use().derived_millijoules for one in group.machines}
    return DisclosureCell(key, members, (energies,))


def _merge_groups(groups: Sequence[IndicatorGroup]) -> IndicatorGroup:
    return IndicatorGroup(
        groups[0].key,
        tuple(one for group in groups for one in group.machines),
        tuple(one for group in groups for one in group.devices),
    )


def _by_key(
    query: Query, machines: Iterable[IndicatorMachine], devices: Iterable[DeviceGroup]
) -> dict[GroupKey, IndicatorGroup]:
    found: defaultdict[GroupKey, tuple[list[IndicatorMachine], list[DeviceGroup]]] = defaultdict(
        lambda: ([], [])
    )
    for machine in machines:
        key = _key_of(query, machine, machine.device_class.value, memo=machine.is_virtual)
        found[key][0].append(machine)
    for device in devices:
        found[_key_of(query, device, device.device_class, memo=False)][1].append(device)
    return {key: IndicatorGroup(key, tuple(ms), tuple(ds)) for key, (ms, ds) in found.items()}


def _key_of(query: Query, one: IndicatorMachine | DeviceGroup, device_class: str, *, memo: bool) -> GroupKey:
    key = query.key._replace(
        entity=one.entity,
        site=one.site,
        population=one.population,
        device_class=device_class,
        memo=memo,
        power_context=one.power_context,
    )
    return query.group_observed(key)


def telling_sums(identifier: str, group: Group, targets: Targets) -> tuple[GroupSums, bool]:
    """Return the sums of the months that tell an indicator, and whether some months do not.

    Where no month tells it, or all together do, they are the group's.
    """

    def tells(sums: GroupSums) -> bool:
        inputs = IndicatorGroup(group.key, sums=sums)
        return any(one.figure.value is not None for one in figures_of((identifier,), inputs, targets))

    telling = [] if tells(group.sums) else [sums for sums in group.parts if tells(sums)]
    if not telling:
        return group.sums, False
    return reduce(partial(add_sums, same_time=False), telling), True


def _figures_of_group(identifier: str, group: Group, targets: Targets) -> Iterator[GroupFigure]:
    sums, is_partial = telling_sums(identifier, group, targets)
    for one in figures_of((identifier,), IndicatorGroup(group.key, sums=sums), targets):
        yield one._replace(figure=replace(one.figure, incomplete=True)) if is_partial else one


def indicator_rows(sums: IndicatorSums, targets: Targets, data: str) -> list[Row]:
    """Compute every indicator of every group it applies to, with the group's coverage, then published ones.

    `data`: real or simulated.
    """
    coverage = load_indicator(COVERAGE)
    of_sums = [
        indicators_report.row(
            one.meta,
            one.key,
            one.figure,
            coverage_states=next((found.value for found in coverage.figures(inputs, targets)), None),
            incomplete=group.sums.incomplete,
            data=data,
        )
        for identifier in OF_SUMS
        for group in sums.groups
        for inputs in (IndicatorGroup(group.key, sums=group.sums),)
        for one in _figures_of_group(identifier, group, targets)
    ]
    published = (
        indicators_report.row(load_indicator(one.indicator).meta, one.key, one.figure, data=data)
        for one in sums.rows
    )
    return [*of_sums, *published]
