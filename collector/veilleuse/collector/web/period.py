# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Closed periods of workstations and classroom PCs, in groups that may be shown. DESIGN.md §7.

A period is shown once, when it is old enough to be complete, and does not move afterwards: the difference between two
looks would otherwise be one late machine. Its groups are those of its month: who enrols during a month is counted from
the next one on.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, NamedTuple

from veilleuse.collector.model import DerivedRow, Grain, Host, HostId, SumRow
from veilleuse.collector.ports import Reader
from veilleuse.collector.privacy import MIXED, OTHERS, Cell, publish
from veilleuse.collector.web.fleet import is_virtual
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import DeviceClass, Population, State

log = logging.getLogger(__name__)

LAG_DAYS: Final[Mapping[Population, int]] = {Population.CLASSROOM: 2, Population.WORKSTATION: 3}
"""Whole days between a period's end and its showing: classroom PCs call hourly while on, workstations once a day."""


class Group(NamedTuple):
    """The labels of a group, as text."""

    entity: str
    site: str
    population: str
    device_class: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One state of one published group."""

    state: str
    method: str | None
    """None for time; `mixed` when more than one method is inside."""
    amount: int
    """Milliseconds or millijoules."""
    sites: Mapping[str, int]
    """The same per site: each has its grid zone."""


@dataclass(frozen=True, slots=True)
class PublishedGroup:
    """A group that may be shown."""

    group: Group
    hosts: int
    times: tuple[Figure, ...]
    energies: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Period:
    """One population over one closed day or week."""

    population: Population
    grain: Grain
    start: int
    """Day number, as in Grain."""
    groups: tuple[PublishedGroup, ...]
    merged: int
    withheld: int

    @property
    def first_day(self) -> date:
        """The day, or the Monday."""
        return date.fromordinal(self.start)


class Periods:
    """The newest closed periods; each computed once and kept."""

    def __init__(self, reader: Reader, k: int) -> None:
        """`k`: fewest machines of a published group."""
        self._reader = reader
        self._k = k
        self._kept: dict[tuple[Population, Grain, int], Period] = {}

    def closed(self, hosts: Mapping[HostId, Host], today: date) -> tuple[Period, ...]:
        """One day and one week per population under the rule that has machines."""
        present = {host.population for host in hosts.values()}
        wanted = [
            (population, grain, last_closed(grain, today, lag))
            for population, lag in LAG_DAYS.items()
            if population in present
            for grain in (Grain.DAY, Grain.WEEK)
        ]
        self._kept = {
            key: self._kept.get(key) or self._publish(hosts, *key)  # computed once, then frozen
            for key in wanted
        }
        return tuple(self._kept.values())

    def _publish(
        self, hosts: Mapping[HostId, Host], population: Population, grain: Grain, start: int
    ) -> Period:
        members = frozen_members(hosts, population, date.fromordinal(start))
        sums = tuple(r for r in self._reader.sums(grain, start, start + 1) if r.host_id in members)
        derived = tuple(r for r in self._reader.derived(grain, start, start + 1) if r.host_id in members)
        period = publish_period(members, sums, derived, (population, grain, start), self._k)
        log.info(
            "closed period published",
            extra={
                "population": population.value,
                "grain": grain.name,
                "day": date.fromordinal(start).isoformat(),
                "groups": len(period.groups),
                "merged": period.merged,
                "withheld": period.withheld,
            },
        )
        return period


def last_closed(grain: Grain, today: date, lag_days: int) -> int:
    """Start of the newest day or ISO week that ended at least `lag_days` whole days before `today`."""
    end = today - timedelta(days=lag_days)
    if grain is Grain.WEEK:
        return (end - timedelta(days=end.isoweekday() - 1 + 7)).toordinal()
    return (end - timedelta(days=1)).toordinal()


def frozen_members(hosts: Mapping[HostId, Host], population: Population, day: date) -> dict[HostId, Host]:
    """Hosts of a population that were enrolled before the month of `day` began."""
    first = day.replace(day=1)
    return {
        key: host for key, host in hosts.items() if host.population is population and host.enrolled_on < first
    }


def publish_period(
    members: Mapping[HostId, Host],
    sums: Iterable[SumRow],
    derived: Iterable[DerivedRow],
    key: tuple[Population, Grain, int],
    k: int,
) -> Period:
    """Groups first, then the states inside each: every figure shown has at least k contributing machines (pure)."""
    sums, derived = tuple(sums), tuple(derived)
    active = _observed(sums)
    by_group: defaultdict[Group, dict[HostId, int]] = defaultdict(dict)
    for host_id, milliseconds in active.items():
        by_group[group_of(members[host_id])][host_id] = milliseconds
    shown, merged, withheld = _groups(by_group, k)
    groups = tuple(
        PublishedGroup(
            group,
            len(who),
            _figures(((r.host_id, r.cell.state, None, r.cell.milliseconds) for r in sums), who, members, k),
            _figures(
                ((r.host_id, r.cell.state, r.cell.method, r.cell.energy_millijoules) for r in derived),
                who,
                members,
                k,
            ),
        )
        for group, who in sorted(shown, key=lambda pair: pair[0])
    )
    return Period(*key, groups, merged, withheld)


def _groups(
    by_group: Mapping[Group, Mapping[HostId, int]], k: int
) -> tuple[list[tuple[Group, frozenset[HostId]]], int, int]:
    """(groups with their machines, how many were merged, how many withheld)."""
    shown: list[tuple[Group, frozenset[HostId]]] = []
    merged = withheld = 0
    # Virtual machines apart: they are a memo line, never in a total.
    for virtual, others in ((False, OTHERS), (True, DeviceClass.VIRTUAL_MACHINE.value)):
        cells = [
            Cell(group, who) for group, who in by_group.items() if is_virtual(group.device_class) is virtual
        ]
        level = publish(cells, k)
        shown += [(cell.key, frozenset(cell.contributions)) for cell in level.kept]
        if level.others is not None:
            rest = Group(OTHERS, OTHERS, cells[0].key.population, others)
            shown.append((rest, frozenset(level.others.contributions)))
        merged += len(level.merged_keys)
        withheld += len(level.withheld_keys)
    return shown, merged, withheld


def group_of(host: Host) -> Group:
    """Its labels."""
    return Group(host.org_entity, host.site, host.population.value, host.facts.device_class.value)


def _observed(sums: Iterable[SumRow]) -> dict[HostId, int]:
    """Milliseconds of known state per host."""
    seen: dict[HostId, int] = {}
    for row in sums:
        if row.cell.state is not State.UNKNOWN and row.cell.milliseconds > 0:
            seen[row.host_id] = seen.get(row.host_id, 0) + row.cell.milliseconds
    return seen


def _figures(
    rows: Iterable[tuple[HostId, State, Method | None, int]],
    group: frozenset[HostId],
    members: Mapping[HostId, Host],
    k: int,
) -> tuple[Figure, ...]:
    """The rows of one group, per state."""
    per_state: defaultdict[State, dict[HostId, int]] = defaultdict(dict)
    methods: defaultdict[State, set[Method]] = defaultdict(set)
    for host_id, state, method, amount in rows:
        if host_id not in group:
            continue
        who = per_state[state]
        who[host_id] = who.get(host_id, 0) + amount
        if method is not None:
            methods[state].add(method)
    level = publish([Cell(state, who) for state, who in per_state.items()], k)
    figures = [_figure(cell.key.value, methods[cell.key], cell.contributions, members) for cell in level.kept]
    if level.others is not None:
        inside = set[Method]().union(*(methods[state] for state in level.merged_keys))
        figures.append(_figure(OTHERS, inside, level.others.contributions, members))
    return tuple(sorted(figures, key=lambda figure: figure.state))


def _figure(
    state: str,
    methods: set[Method],
    contributions: Mapping[HostId, int],
    members: Mapping[HostId, Host],
) -> Figure:
    sites: defaultdict[str, int] = defaultdict(int)
    for host_id, amount in contributions.items():
        sites[members[host_id].site] += amount
    method = next(iter(methods)).value if len(methods) == 1 else (MIXED if methods else None)
    return Figure(state, method, sum(contributions.values()), dict(sites))
