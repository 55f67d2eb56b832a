# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Groups stored sums and derived energy in one pass, for reports and indicators.

Days are the civil days of each machine's site. A workstation's week record may cross the edge of a period. It
is then shared in proportion to the calendar's open time and flagged `apportioned`. Shares are integers, so
that those of neighbouring periods sum exactly to the week. The store adds up per machine; this module only
groups.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache, partial
from typing import Final

from veilleuse.collector.account.group_sums import Tally, merge_small_groups
from veilleuse.collector.account.observations import ObservedGroups
from veilleuse.collector.account.parts import Part
from veilleuse.collector.calendars.periods import (
    Slice,
    WeekShares,
    day_start_unix_milliseconds,
    enrolled_milliseconds,
    evening_of,
    slices,
)
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.query import GroupKey, Query, key_of_host
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import EnergyClass, EnergySums, StateSums
from veilleuse.collector.ports import Reader
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Band, Population, State

NIGHT_ON_MILLISECONDS: Final = 4 * MILLISECONDS_PER_HOUR
"""Time on above which a night counts: docs/methodology.md §12, I1."""


def gather(reader: Reader, query: Query, hosts: Iterable[Host] | None = None) -> ObservedGroups:
    """Return every group of the query, of `hosts` only when given.

    Raises CalendarError or StoreDamaged for a damaged calendar.
    """
    sites = {site.site: site for site in reader.sites()}
    chosen = {host.host_id: host for host in (reader.hosts() if hosts is None else hosts)}
    fleet = _Fleet(chosen, sites, cache(lambda name: WeekShares(reader.calendars(sites[name]))))
    tallies: dict[GroupKey, Tally] = {}
    for part in slices(query.first, query.end, by_month="month" in query.dimensions):
        tallies |= _Pass(reader, query, part, fleet).tallies()
    groups, withheld = merge_small_groups(tallies, query.k_anonymity)
    return ObservedGroups(tuple(sorted(groups, key=lambda group: group.key.order)), withheld)


@dataclass(frozen=True, slots=True)
class _Fleet:
    """Machines of the query and their sites. A machine that enrols meanwhile waits for the next report."""

    hosts: dict[HostId, Host]
    sites: dict[str, Site]
    weeks: Callable[[str], WeekShares]
    """Week shares of a site; read when a week is first cut there."""


class _Pass:
    """One pass over a slice of the query."""

    def __init__(self, reader: Reader, query: Query, part: Slice, fleet: _Fleet) -> None:
        self._reader = reader
        self._query = query
        self._part = part
        self._hosts, self._sites, self._weeks = fleet.hosts, fleet.sites, fleet.weeks
        self._seen: Counter[HostId] = Counter()
        self._tallies: defaultdict[GroupKey, Tally] = defaultdict(Tally)
        self._of = {
            host_id: key_of_host(host, self._sites[host.site], part.first, part.end).coarsen(query.dimensions)
            for host_id, host in self._hosts.items()
        }

    def tallies(self) -> dict[GroupKey, Tally]:
        """Return the groups of the slice with an enrolled machine or a measurement."""
        first, end = self._part.days
        for grain, last in ((Grain.DAY, end), (Grain.WEEK, end - 6)):
            for host_id, key, states in self._reader.state_sums(grain, first, last):
                self._add_state(host_id, key, states)
            for host_id, energy_key, energies in self._reader.energy_sums(grain, first, last):
                self._add_energy(host_id, energy_key, energies)
            if self._query.screens:
                for host_id, energy_key, energies in self._reader.screen_sums(grain, first, last):
                    self._add_screens(host_id, energy_key, energies)
        for monday in self._part.cut_mondays():
            self._cut_week(monday)
        self._nights()
        self._enrolment()
        return {
            key: tally for key, tally in self._tallies.items() if tally.enrolled_milliseconds or tally.hosts
        }

    def _add_state(self, host_id: HostId, key: tuple[Band, State], sums: StateSums) -> None:
        if host_id in self._of:
            self._tallies[self._of[host_id]].add_state(host_id, key, sums)
            self._seen[host_id] += sums.milliseconds

    def _add_energy(self, host_id: HostId, key: tuple[Method, Band, State], sums: EnergySums) -> None:
        if host_id in self._of:
            device_class = self._hosts[host_id].facts.device_class
            self._tallies[self._of[host_id]].add_energy(host_id, (device_class, *key), sums)

    def _add_screens(
        self, host_id: HostId, key: tuple[Method, Band, State], sums: EnergySums, *, apportioned: bool = False
    ) -> None:
        """Add screens to a group of their own where classes are separate,
        else to the machine's group under their own class.
        """
        group = self._of.get(host_id)
        if group is None:
            return
        if group.device_class is not None:
            group = replace(group, device_class=EnergyClass.MONITOR.value)
            self._tallies[group].times[Part.OTHER][host_id] += sums.milliseconds
        self._tallies[group].add_energy(host_id, (EnergyClass.MONITOR, *key), sums)
        self._tallies[group].apportioned |= apportioned

    def _cut_week(self, monday: int) -> None:
        """Add the part of a week inside the slice; integers, so that neighbouring periods sum to the week."""
        for host_id, key, states in self._reader.state_sums(Grain.WEEK, monday, monday + 1):
            inside = states.share(self._share_of(host_id, monday))
            if any(inside.values):
                self._add_state(host_id, key, inside)
                self._apportioned(host_id)
        for host_id, energy_key, energies in self._reader.energy_sums(Grain.WEEK, monday, monday + 1):
            part = energies.share(self._share_of(host_id, monday))
            if any(part.values):
                self._add_energy(host_id, energy_key, part)
                self._apportioned(host_id)
        if self._query.screens:
            for host_id, energy_key, energies in self._reader.screen_sums(Grain.WEEK, monday, monday + 1):
                part = energies.share(self._share_of(host_id, monday))
                if any(part.values):
                    self._add_screens(host_id, energy_key, part, apportioned=True)

    def _share_of(self, host_id: HostId, monday: int) -> Callable[[int], int]:
        host = self._hosts.get(host_id)
        if host is None:
            return lambda _: 0
        return partial(self._weeks(host.site).share, monday, *self._part.days)

    def _apportioned(self, host_id: HostId) -> None:
        self._tallies[self._of[host_id]].apportioned = True

    def _nights(self) -> None:
        """Count machine-nights on > 4 h: by local date at day grain (workstations),
        by evening at hour grain (classrooms).
        """
        for host_id, dates in self._reader.dates_on(*self._part.days, NIGHT_ON_MILLISECONDS):
            if host_id in self._of and self._hosts[host_id].population is Population.WORKSTATION:
                self._tallies[self._of[host_id]].nights[host_id] += dates
        for (host_id, evening), milliseconds in self._classroom_evenings().items():
            if milliseconds > NIGHT_ON_MILLISECONDS and self._part.first <= evening < self._part.end:
                self._tallies[self._of[host_id]].nights[host_id] += 1

    def _classroom_evenings(self) -> Counter[tuple[HostId, date]]:
        """Return milliseconds on per machine and evening, over the slice and the morning after it."""
        found: Counter[tuple[HostId, date]] = Counter()
        zones = {site.time_zone for site in self._sites.values()}
        if not any(host.population is Population.CLASSROOM for host in self._hosts.values()):
            return found
        start = min(day_start_unix_milliseconds(self._part.first, zone) for zone in zones)
        stop = max(day_start_unix_milliseconds(self._part.end + timedelta(days=1), zone) for zone in zones)
        for host_id, hour, milliseconds in self._reader.night_hours(Population.CLASSROOM, start, stop):
            host = self._hosts.get(host_id)
            if host is not None:
                found[host_id, evening_of(hour, self._sites[host.site].time_zone)] += milliseconds
        return found

    def _enrolment(self) -> None:
        """Add enrolled time, at least the observed time:
        a measured machine was there, so coverage is never above 1.
        """
        now = self._query.now_unix_milliseconds
        for host_id, host in self._hosts.items():
            enrolled = enrolled_milliseconds(host, self._sites[host.site], self._part, now)
            if length := max(enrolled, self._seen[host_id]):
                self._tallies[self._of[host_id]].enrolled[host_id] += length
