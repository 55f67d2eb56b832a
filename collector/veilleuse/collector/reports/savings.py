# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compares each action with the months of machines before and after it, by site. I14 has the formula."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.calendars.periods import add_months
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.model.actions import Action, StoredAction
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.indicators import Comparison, Contributions, SiteEnergy, use_of
from veilleuse.collector.model.months import DayType
from veilleuse.collector.model.records import HostId
from veilleuse.collector.ports.store import PeriodReader
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Population

MOST_MONTHS: Final = 12
"""Most months of each side: longer ones would compare different fleets."""
_DAY_MILLISECONDS: Final = 24 * MILLISECONDS_PER_HOUR
_DAYS_PER_WEEK: Final = 7

_Cell: TypeAlias = tuple[str, DayType]
"""Device class, day type."""


class _Sum(NamedTuple):
    """Energy and its uncertainty in mJ, time in ms."""

    energy: int = 0
    time: int = 0
    uncertainty: int = 0


@dataclass(frozen=True, slots=True)
class _Side:
    """Derived energy of one machine before or after an action, by month and day type."""

    sums: dict[tuple[date, DayType], _Sum] = field(default_factory=dict)

    @property
    def is_seen(self) -> bool:
        return bool(self.sums)

    @property
    def months(self) -> set[date]:
        return {month for month, _ in self.sums}

    @property
    def whole(self) -> _Sum:
        return _Sum(*map(sum, zip(*self.sums.values(), strict=True)))

    def within(self, months: Collection[date]) -> _Side:
        return _Side({key: one for key, one in self.sums.items() if key[0] in months})


@dataclass(frozen=True, slots=True)
class Windows:
    """Whole months before and after an action; ends exclusive."""

    before: date
    action_month: date
    after: date
    end: date


def find_windows(action: Action, end: date) -> Windows | None:
    """Return the months to compare; None without a whole month between the action and `end`, the 1st of a
    month.
    """
    month = action.from_day.replace(day=1)
    after = month if action.from_day.day == 1 else add_months(month, 1)
    last = min(end, add_months(after, MOST_MONTHS))
    return Windows(add_months(month, -MOST_MONTHS), month, after, last) if after < last else None


def actions_in_force(kept: Sequence[StoredAction]) -> list[Action]:
    """Return the actions that are neither withdrawn nor replaced."""
    return [one.action for one in kept if one.withdrawn_unix_milliseconds is None]


def compare_actions(
    periods: PeriodReader, hosts: Sequence[Host], actions: Sequence[Action], end: date
) -> Iterator[tuple[Action, Windows, Comparison]]:
    """Compare each action that has months after it, up to `end`, the 1st of a month."""
    fleet = {host.host_id: host for host in hosts if host.facts.device_class.value != "virtual_machine"}
    for action in actions:
        found = find_windows(action, end)
        if found is None:
            continue
        others = {
            site
            for one in actions
            if one.action_id != action.action_id and one.from_day < found.end
            for site in one.sites
        }
        yield action, found, _compare(periods, fleet, action, found, others)


def _compare(
    periods: PeriodReader,
    fleet: Mapping[HostId, Host],
    action: Action,
    found: Windows,
    elsewhere: Collection[str],
) -> Comparison:
    before = _read_sides(periods, fleet, found.before, found.action_month)
    after = _read_sides(periods, fleet, found.after, found.end)
    new_machines = [one for one in after if one not in before and fleet[one].site in action.sites]
    control_sites = {
        host.site for host in fleet.values() if host.site not in action.sites and host.site not in elsewhere
    }
    touched, untouched = _split_arms(fleet, (action.sites, control_sites), before.keys() & after.keys())
    before, after = (_limit_to_shared_months(fleet, (touched, untouched), sides) for sides in (before, after))
    touched, untouched = _split_arms(fleet, (action.sites, control_sites), before.keys() & after.keys())
    both = [*touched, *untouched]
    rates = _Rates(fleet, before, both)
    renewals = [rates.frozen_and_actual(one, after[one]) for one in new_machines if one in after]
    energy = sum(after[one].whole.energy for one in touched)
    return Comparison(
        action.action_id,
        action.what,
        _sites(fleet, touched, rates, after),
        _sites(fleet, untouched, rates, after),
        min(_weeks(fleet, arm, before) for arm in (touched, untouched)),
        min(_weeks(fleet, arm, after) for arm in (touched, untouched)),
        sum(after[one].whole.time for one in touched) / _DAY_MILLISECONDS,
        sum(after[one].whole.uncertainty for one in touched) / energy if energy else 0.0,
        _contributions(fleet, touched, after),
        _contributions(fleet, untouched, after),
        len(touched),
        len(new_machines),
        sum(frozen - actual for frozen, actual in renewals),
        _contributions(fleet, new_machines, after),
    )


def _split_arms(
    fleet: Mapping[HostId, Host], sites: Sequence[Collection[str]], machines: Iterable[HostId]
) -> tuple[list[HostId], ...]:
    """Return the machines of the action's sites, and those of the control sites."""
    ordered = sorted(machines)
    return tuple([one for one in ordered if fleet[one].site in mine] for mine in sites)


def _contributions(
    fleet: Mapping[HostId, Host], machines: Iterable[HostId], after: Mapping[HostId, _Side]
) -> Contributions:
    """Return the contributions to a figure: energies of the machines of people, mJ."""
    mine = [one for one in machines if one in after and fleet[one].population not in EXEMPT]
    return {one: after[one].whole.energy for one in mine}


def _read_sides(
    periods: PeriodReader, fleet: Mapping[HostId, Host], first: date, end: date
) -> dict[HostId, _Side]:
    """Return the derived energy of each observed machine."""
    found: defaultdict[HostId, _Side] = defaultdict(_Side)
    for row in periods.host_months(first, end):
        use = use_of(row.values)
        if row.host_id in fleet and use.derived_milliseconds:
            sums, key = found[row.host_id].sums, (row.period_from, row.day_type)
            energy, time, uncertainty = sums.get(key, _Sum())
            sums[key] = _Sum(
                energy + use.derived_millijoules,
                time + use.derived_milliseconds,
                uncertainty + use.derived_uncertainty_millijoules,
            )
    return dict(found)


def _limit_to_shared_months(
    fleet: Mapping[HostId, Host], arms: Sequence[Collection[HostId]], sides: Mapping[HostId, _Side]
) -> dict[HostId, _Side]:
    """Limit the machines to the months observed in both arms, by population.

    Otherwise a season of the other arm would count as a saving. A population in only one arm keeps its
    months.
    """
    seen = [_months(fleet, arm, sides) for arm in arms]
    shared: dict[Population, set[date]] = {}
    for population in set[Population]().union(*seen):
        months = [mine[population] for mine in seen if population in mine]
        shared[population] = set.intersection(*months)
    kept = {one: side.within(shared.get(fleet[one].population, ())) for one, side in sides.items()}
    return {one: side for one, side in kept.items() if side.is_seen}


def _months(
    fleet: Mapping[HostId, Host], machines: Iterable[HostId], sides: Mapping[HostId, _Side]
) -> dict[Population, set[date]]:
    """Return the months in which any of the machines was observed, by population."""
    months: defaultdict[Population, set[date]] = defaultdict(set)
    for host_id in machines:
        months[fleet[host_id].population] |= sides[host_id].months
    return dict(months)


def _weeks(
    fleet: Mapping[HostId, Host], machines: Collection[HostId], sides: Mapping[HostId, _Side]
) -> float:
    """Return the weeks in which any machine of an arm was observed, for the population with the fewest.

    Retention deletes months of PCs before those of servers.
    """
    months = _months(fleet, machines, sides).values()
    days = [sum((add_months(month, 1) - month).days for month in seen) for seen in months]
    return min(days, default=0) / _DAYS_PER_WEEK


class _Rates:
    """Energy per time before the action, by class and day type: of the site, else of all compared sites."""

    def __init__(
        self, fleet: Mapping[HostId, Host], before: Mapping[HostId, _Side], panel: Sequence[HostId]
    ) -> None:
        self._fleet = fleet
        self._own: defaultdict[tuple[str, _Cell], list[int]] = defaultdict(lambda: [0, 0])
        self._all: defaultdict[_Cell, list[int]] = defaultdict(lambda: [0, 0])
        for host_id in panel:
            for (_, kind), one in before[host_id].sums.items():
                cell = (fleet[host_id].facts.device_class.value, kind)
                for sums in (self._own[fleet[host_id].site, cell], self._all[cell]):
                    sums[0] += one.energy
                    sums[1] += one.time

    def frozen_and_actual(self, host_id: HostId, after: _Side) -> tuple[int, int]:
        """Return (energy at the rates before, energy after) in mJ, over the day types with a rate before."""
        frozen = actual = 0
        host = self._fleet[host_id]
        for (_, kind), one in after.sums.items():
            cell = (host.facts.device_class.value, kind)
            energy, length = self._own.get((host.site, cell)) or self._all.get(cell) or (0, 0)
            if length:
                frozen += energy * one.time // length
                actual += one.energy
        return frozen, actual


def _sites(
    fleet: Mapping[HostId, Host],
    machines: Sequence[HostId],
    rates: _Rates,
    after: Mapping[HostId, _Side],
) -> tuple[SiteEnergy, ...]:
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for host_id in machines:
        frozen, actual = rates.frozen_and_actual(host_id, after[host_id])
        sums[fleet[host_id].site][0] += frozen
        sums[fleet[host_id].site][1] += actual
    return tuple(SiteEnergy(site, *both) for site, both in sorted(sums.items()))
