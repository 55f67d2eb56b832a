# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Groups machines' months as `gather` groups days (pure):
days of PCs are deleted after 62 days, months stay. Decision 0031.

Imputed energy is left out: these are sums of observations.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Final

from veilleuse.collector.account.group_sums import Tally, merge_small_groups
from veilleuse.collector.account.observations import ObservedGroups
from veilleuse.collector.account.observed_days import gather
from veilleuse.collector.account.parts import Part
from veilleuse.collector.calendars.periods import Slice, enrolled_milliseconds, slices
from veilleuse.collector.disclosure import EXEMPT
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
from veilleuse.collector.model.sums import EnergyClass, EnergySums, StateSums
from veilleuse.collector.ports import PeriodReader, Reader
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, State, Supply

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


def gather_periods(
    reader: Reader, periods: PeriodReader, query: Query, hosts: Iterable[Host] | None = None
) -> ObservedGroups:
    """Return every group of the query, of `hosts` only when given.

    Raises UsageError where the query cuts a month whose days are deleted, and StoreDamaged.
    """
    tallies = tally_periods(reader, periods, query, hosts)
    groups, withheld = merge_small_groups(tallies, query.k_anonymity)
    return ObservedGroups(tuple(sorted(groups, key=lambda group: group.key.order)), withheld)


def tally_periods(
    reader: Reader, periods: PeriodReader, query: Query, hosts: Iterable[Host] | None = None
) -> dict[GroupKey, Tally]:
    """Return the same groups before the disclosure rule: no value of them may be published.
    Raises the same errors.
    """
    sites = {site.site: site for site in reader.sites()}
    chosen = {host.host_id: host for host in (reader.hosts() if hosts is None else hosts)}
    tallies: dict[GroupKey, Tally] = {}
    for part in slices(query.first, query.end, by_month="month" in query.dimensions):
        tallies |= _tallies(periods, query, part, chosen, sites)
    return tallies


def gather_kept(reader: Reader, periods: PeriodReader, query: Query) -> ObservedGroups:
    """Return every group of the query, from days or months.

    Servers keep their days for years and use `gather`; other populations use `gather_periods`. Raises the
    errors of both.
    """
    hosts = reader.hosts()
    exempt = [host for host in hosts if host.population in EXEMPT]
    ruled = [host for host in hosts if host.population not in EXEMPT]
    found = (
        gather(reader, query, exempt) if exempt else ObservedGroups((), ()),
        gather_periods(reader, periods, query, ruled) if ruled else ObservedGroups((), ()),
    )
    return ObservedGroups(
        tuple(sorted((group for one in found for group in one.groups), key=lambda group: group.key.order)),
        tuple(key for one in found for key in one.withheld),
    )


def _tallies(
    periods: PeriodReader,
    query: Query,
    part: Slice,
    hosts: Mapping[HostId, Host],
    sites: Mapping[str, Site],
) -> dict[GroupKey, Tally]:
    """Return the groups of one slice with an enrolled machine or a measurement."""
    of = {
        host_id: key_of_host(host, sites[host.site], part.first, part.end).coarsen(query.dimensions)
        for host_id, host in hosts.items()
    }
    tallies: defaultdict[GroupKey, Tally] = defaultdict(Tally)
    seen: Counter[HostId] = Counter()
    for host_id, rows in groupby(periods.host_periods(part.first, part.end), lambda row: row.host_id):
        if host_id not in of:
            continue
        for one in _by_band(rows):
            seen[host_id] += _add(tallies[of[host_id]], hosts[host_id], one)
            if query.screens:
                _add_screens(tallies, of[host_id], one)
    now = query.now_unix_milliseconds
    for host_id, host in hosts.items():
        # A measured machine was there, whatever its enrolment says: coverage is never above 1.
        if length := max(enrolled_milliseconds(host, sites[host.site], part, now), seen[host_id]):
            tallies[of[host_id]].enrolled[host_id] += length
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
            # A month has 0 where nothing was measured: absent, unless another machine measured it.
            idle = [values[place] or None for place in _IDLE] if state is State.ON_IDLE else ()
            tally.add_state(row.host_id, (row.band, state), StateSums(milliseconds, *idle))
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
    """Add screens to a group of their own where classes are separate,
    else to the machine's group under their own class.

    A month does not say which screens were metered. All are modelled, as in the fleet's figure
    (`observations.screens`).
    """
    sums = EnergySums(*row.values[_SCREENS : _SCREENS + 3])
    if not any(sums.values):
        return
    if key.device_class is not None:
        key = replace(key, device_class=EnergyClass.MONITOR.value)
        tallies[key].times[Part.OTHER][row.host_id] += sums.milliseconds
    energy_key = (EnergyClass.MONITOR, Method.LOAD_MODELLED, row.band, State.ON_ACTIVE)
    tallies[key].add_energy(row.host_id, energy_key, sums)
    tallies[key].apportioned |= row.apportioned
