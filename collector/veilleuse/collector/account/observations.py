# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Groups what machines with an agent were observed to do (pure). docs/methodology.md §10.

Machines' months are read, whose days are deleted after 62 for PCs (decision 0031), and days at the edges of
the period. Nothing is imputed or extrapolated. Errors are common (linear) within one device class, for all
energy based on its priors, and within one measuring method. They are independent between these.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from veilleuse.collector.account.group_sums import Tally, merge_small_groups
from veilleuse.collector.calendars.periods import Slice, enrolled_milliseconds, slices
from veilleuse.collector.disclosure.parts import PART_OF, Part
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.months import (
    IDLE_COLUMNS,
    PLACE,
    SCREEN_COLUMNS,
    HostPeriod,
    Vector,
    add_vectors,
)
from veilleuse.collector.model.query import GroupKey, Query, key_of_host
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Detail, EnergyClass, EnergySums, Group, StateSums
from veilleuse.collector.ports.store import PeriodReader, Reader
from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.vocabulary import Band, DeviceClass, State, Supply

_TIMES: Final = tuple(
    (state, tuple(PLACE[f"{state}_{supply}_milliseconds"] for supply in Supply)) for state in State
)
_IDLE: Final = tuple(PLACE[name] for name in IDLE_COLUMNS)
_METHODS: Final = tuple((method, PLACE[f"{method}_milliseconds"]) for method in Method)
"""Place of milliseconds; energy and uncertainty follow."""
_STATE_ENERGIES: Final = tuple((state, PLACE[f"{state}_energy_millijoules"]) for state in State)
_SCREENS: Final = PLACE[SCREEN_COLUMNS[-3]]
"""Place of milliseconds; energy and uncertainty follow."""
_NIGHTS: Final = PLACE["nights_on"]


@dataclass(frozen=True, slots=True)
class ObservedGroups:
    """Groups, small ones merged, and the keys (dimensions blank) of populations withheld entirely."""

    groups: tuple[Group, ...]
    withheld: tuple[GroupKey, ...] = ()


def gather_periods(
    reader: Reader, periods: PeriodReader, query: Query, hosts: Iterable[Host] | None = None
) -> ObservedGroups:
    """Return every group of the query, of `hosts` only when given, from machines' months and days.

    Raises UsageError where the query cuts a month whose days are deleted, and StoreDamaged.
    """
    tallies = tally_periods(reader, periods, query, hosts)
    groups, withheld = merge_small_groups(tallies, query.k_anonymity)
    return ObservedGroups(tuple(sorted(groups, key=lambda group: group.key.order)), withheld)


def tally_periods(
    reader: Reader,
    periods: PeriodReader,
    query: Query,
    hosts: Iterable[Host] | None = None,
    places: Mapping[HostId, GroupKey] | None = None,
    *,
    screens: bool = False,
    spans: Mapping[HostId, Slice] | None = None,
) -> dict[GroupKey, Tally]:
    """Return the same groups before the disclosure rule: no value of them may be published.
    Raises the same errors.

    `places`: keys of machines that are not at the place of their enrolment. `screens`: with the energy
    of external screens, as groups of device class `monitor`. `spans`: days of enrolment of each machine,
    where these are not its own.
    """
    sites = {site.site: site for site in reader.sites()}
    chosen = {host.host_id: host for host in (reader.hosts() if hosts is None else hosts)}
    tallies: dict[GroupKey, Tally] = {}
    for part in slices(query.first, query.end, by_month="month" in query.dimensions):
        of = {
            host_id: query.group_observed(
                places[host_id].over(part.first, part.end)
                if places and host_id in places
                else key_of_host(host, sites[host.site], part.first, part.end, query.contexts.get(host_id))
            )
            for host_id, host in chosen.items()
        }
        tallies |= _tallies(periods, query, part, chosen, sites, of, screens=screens, spans=spans or {})
    return tallies


def _tallies(
    periods: PeriodReader,
    query: Query,
    part: Slice,
    hosts: Mapping[HostId, Host],
    sites: Mapping[str, Site],
    of: Mapping[HostId, GroupKey],
    *,
    screens: bool,
    spans: Mapping[HostId, Slice],
) -> dict[GroupKey, Tally]:
    """Return the groups of one slice with an enrolled machine or a measurement; `of`: keys of machines."""
    tallies: defaultdict[GroupKey, Tally] = defaultdict(Tally)
    seen: Counter[tuple[GroupKey, HostId]] = Counter()
    for host_id, rows in groupby(periods.host_periods(part.first, part.end), lambda row: row.host_id):
        if host_id not in of:
            continue
        last = query.same.get(host_id, host_id)
        if host_id in query.same:
            rows = (row._replace(host_id=last) for row in rows)
        for one in _by_band(rows):
            seen[of[host_id], last] += _add(tallies[of[host_id]], hosts[host_id], one)
            if screens:
                _add_screens(tallies, of[host_id], one)
    now = query.now_unix_milliseconds
    enrolled: Counter[tuple[GroupKey, HostId]] = Counter()
    for host_id, host in hosts.items():
        length = enrolled_milliseconds(host, sites[host.site], spans.get(host_id, part), now)
        enrolled[of[host_id], query.same.get(host_id, host_id)] += length
    # A measured machine was there, whatever its enrolment says: coverage is never above 1.
    for (key, host_id), length in (enrolled | seen).items():
        tallies[key].enrolled[host_id] += length
    return {key: tally for key, tally in tallies.items() if tally.enrolled_milliseconds or tally.hosts}


def _by_band(rows: Iterable[HostPeriod]) -> Iterable[HostPeriod]:
    """Merge the day types of one machine's rows: a third of the additions remain."""
    found: dict[Band, HostPeriod] = {}
    for row in rows:
        before = found.get(row.band)
        if before is not None:
            values, apportioned = (
                add_vectors(before.values, row.values),
                before.apportioned or row.apportioned,
            )
            row = HostPeriod(
                row.host_id, row.period_from, row.day_type, row.band, values, apportioned=apportioned
            )
        found[row.band] = row
    return found.values()


def _add(tally: Tally, host: Host, row: HostPeriod) -> int:
    """Add one machine's values in one band; return milliseconds of all states, unknown included."""
    values, whole = row.values, 0
    for state, places in _TIMES:
        if milliseconds := sum([values[place] for place in places]):
            whole += milliseconds
            # A month has 0 where nothing was measured: absent, unless a shorter run was. Servers measure it.
            idle = [values[place] for place in _IDLE] if state is State.ON_IDLE else []
            is_known = any(idle) or host.population in EXEMPT
            of_state = StateSums(milliseconds, *idle) if is_known else StateSums(milliseconds)
            tally.add_state(row.host_id, (row.band, state), of_state)
    for method, state, sums in _energies(values):
        tally.add_energy(row.host_id, (host.facts.device_class, method, row.band, state), sums)
    tally.nights[row.host_id] += values[_NIGHTS]
    tally.apportioned |= row.apportioned
    return whole


def _energies(values: Vector) -> Iterator[tuple[Method, State, EnergySums]]:
    """Yield the energy by method and state.

    A month holds sums by method and sums by state, not by both. They are paired in order, so that the
    methods' sums hold; no figure uses a pair. Rounding of shared weeks may leave energy above the states: it
    goes to the last state. As energy of unknown state it would be a part of its own, of few machines.
    """
    left = {state: values[place] for state, place in _STATE_ENERGIES if values[place]}
    last = next(reversed(left), State.UNKNOWN)
    for method, place in _METHODS:
        time, energy, u = values[place : place + 3]
        for state, of_state in left.items():
            if part := min(energy, of_state):
                yield method, state, EnergySums(time, part, u)
                left[state] -= part
                time, energy, u = 0, energy - part, 0
        if time or energy or u:
            yield method, last if energy else State.UNKNOWN, EnergySums(time, energy, u)


def _add_screens(tallies: defaultdict[GroupKey, Tally], key: GroupKey, row: HostPeriod) -> None:
    """Add screens to a group of their own, of the machine's place.

    A month does not say which screens were metered. All are modelled, as in the fleet's figure
    (`observations.screens`).
    """
    sums = EnergySums(*row.values[_SCREENS : _SCREENS + 3])
    if not any(sums.values):
        return
    key = key._replace(device_class=EnergyClass.MONITOR.value)
    tallies[key].times[Part.OTHER][row.host_id] += sums.milliseconds
    energy_key = (EnergyClass.MONITOR, Method.LOAD_MODELLED, row.band, State.ON_ACTIVE)
    tallies[key].add_energy(row.host_id, energy_key, sums)
    hours = PART_OF[row.band, State.ON_ACTIVE], State.ON_ACTIVE
    tallies[key].draws[hours][row.host_id] += sums.energy_millijoules
    tallies[key].apportioned |= row.apportioned


def u_model(groups: Iterable[Group]) -> float:
    """Return the relative standard uncertainty of the energy of groups.

    Errors add linearly within a class for energy based on its priors, and within a measuring method;
    otherwise in quadrature. For groups with withheld methods they add linearly over all. `autres` has no
    classes, and a sum must not look more certain because one of its classes is separate.
    """
    total = 0
    errors: defaultdict[tuple[DeviceClass | EnergyClass, Method | None] | None, int] = defaultdict(int)
    for group in groups:
        for (device_class, method, _, _), sums in group.sums.energies.items():
            total += sums.energy_millijoules
            error_key = (device_class, method if method in MEASURED else None)
            errors[None if Detail.METHODS in group.sums.withheld else error_key] += (
                sums.uncertainty_millijoules
            )
    return math.sqrt(sum(u**2 for u in errors.values())) / total if total else 0.0
