# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the indicative ledger of a period from stored hours and intensities. Servers and classrooms only.

Workstations send no hours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.disclosure.partition import merge_families
from veilleuse.collector.disclosure.rule import DisclosureCell
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.grid import (
    MINUTES_PER_HOUR,
    NOTHING,
    STATUSES,
    GridIntensity,
    HourIntensity,
    Hourly,
    IntensityStatus,
    Ledger,
    LedgerLine,
    Sums,
)
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.query import GroupKey, Query, is_within, key_of_host
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import EnergySums
from veilleuse.collector.ports.imports import IntensityReader
from veilleuse.collector.ports.store import HourReader
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Population


def by_hour(values: Iterable[GridIntensity]) -> dict[int, HourIntensity]:
    """Return hour (Unix milliseconds) → its intensity.

    Raises ValueError unless values are of one series and disjoint.

    A value of a quarter, a half or a whole hour lies in one hour. An hour with three known quarters has a
    quarter of gap.
    """
    weights: Counter[int] = Counter()
    minutes: defaultdict[int, Counter[IntensityStatus]] = defaultdict(Counter)
    of: set[tuple[str, str]] = set()
    for one in values:
        hour = one.start_unix_milliseconds - one.start_unix_milliseconds % MILLISECONDS_PER_HOUR
        weights[hour] += one.milligrams_per_kwh * one.minutes
        minutes[hour][one.status] += one.minutes
        of.add((one.zone, one.series))
    if len(of) > 1:
        raise ValueError(f"one series of one zone, not {sorted(of)}")
    found = {
        hour: HourIntensity(weights[hour], tuple(known[status] for status in STATUSES))
        for hour, known in minutes.items()
    }
    if any(hour.known_minutes > MINUTES_PER_HOUR for hour in found.values()):
        raise ValueError("values overlap")
    return found


@dataclass(slots=True)
class LedgerGroup:
    """Sums of one group, with each machine's part for the rule of disclosure."""

    machines: defaultdict[HostId, Sums] = field(default_factory=lambda: defaultdict(Sums))

    def cell(self, key: GroupKey) -> DisclosureCell[GroupKey]:
        """Return the energy, and beside it the known part and the gap: each is a figure of its own."""
        return DisclosureCell(
            key,
            {host: one.energy_millijoules for host, one in self.machines.items()},
            (
                {host: one.known_energy_minutes for host, one in self.machines.items()},
                {host: one.gap_energy_minutes for host, one in self.machines.items()},
            ),
        )


Hours = Iterable[tuple[HostId, HourIntensity, EnergySums]]
"""(machine, intensity of its hours, energy of all its hours of that intensity)."""


def ledger(hours: Hours, key_of: Mapping[HostId, GroupKey], k: int) -> Ledger:
    """Build groups of at least `k` machines; servers need no minimum.

    Small groups merge into `autres` or are withheld.

    Machines not in `key_of` are left out.
    """
    groups: defaultdict[GroupKey, LedgerGroup] = defaultdict(LedgerGroup)
    for host_id, hour, energy in hours:
        key = key_of.get(host_id)
        if key is not None:
            groups[key].machines[host_id].add(energy.energy_millijoules, hour)
    rows, withheld = merge_families(groups, k, _cells, _merge)
    lines = [_line(key, group) for key, group in rows]
    return Ledger(tuple(sorted(lines, key=_order)), tuple(sorted(withheld, key=str)))


def _cells(groups: Mapping[GroupKey, LedgerGroup]) -> list[DisclosureCell[GroupKey]]:
    return [group.cell(key) for key, group in groups.items()]


def _merge(groups: Iterable[LedgerGroup]) -> LedgerGroup:
    """Merge groups; a machine is in one of them."""
    whole = LedgerGroup()
    for group in groups:
        whole.machines.update(group.machines)
    return whole


def _order(line: LedgerLine) -> tuple[bool, str]:
    return line.key.memo, str(line.key)


def _line(key: GroupKey, group: LedgerGroup) -> LedgerLine:
    total = Sums()
    for one in group.machines.values():
        total += one
    return LedgerLine(key, len(group.machines), total)


POPULATIONS: Final = frozenset({Population.SERVER, Population.CLASSROOM})
DIMENSIONS: Final = ("entity", "site", "population", "device_class")
"""Requested dimensions; `population` and the grid zone always separate rows."""


def indicative(
    reader: HourReader, query: Query, series: str, populations: frozenset[Population] = POPULATIONS
) -> Hourly:
    """Compute the ledger over every machine with hours. Raises UsageError for an unknown dimension."""
    unknown = [name for name in query.dimensions if name not in DIMENSIONS]
    if unknown:
        raise UsageError(f"cannot group by '{unknown[0]}': use {', '.join(DIMENSIONS)}")
    sites = {site.site: site for site in reader.sites()}
    only = next(iter(populations)) if len(populations) == 1 else None
    hosts = {
        host.host_id: host
        for host in reader.hosts(only)
        if host.population in populations
        and host.site in sites
        and is_within(host.org_entity, query.entities)
    }
    keys = {
        host.host_id: key_of_host(host, sites[host.site], query.first, query.end).coarsen(query.dimensions)
        for host in hosts.values()
    }
    grid = reader.intensities()
    zones = {sites[host.site].zone for host in hosts.values()}
    return Hourly(
        ledger(_hours(reader, grid, query, series, hosts, sites, only), keys, query.k_anonymity),
        tuple(one for one in grid.states() if one.series == series and one.zone in zones),
        _hours_from(reader, hosts, only),
    )


def _hours(
    reader: HourReader,
    grid: IntensityReader,
    query: Query,
    series: str,
    hosts: Mapping[HostId, Host],
    sites: Mapping[str, Site],
    only: Population | None,
) -> Iterator[tuple[HostId, HourIntensity, EnergySums]]:
    """Yield hours site by site: each site has its time zone and its grid."""
    members: defaultdict[tuple[str, str], set[HostId]] = defaultdict(set)
    for host in hosts.values():
        site = sites[host.site]
        members[site.zone, site.time_zone].add(host.host_id)
    for (zone, time_zone), own in sorted(members.items()):
        start = _whole_hour(day_start_unix_milliseconds(query.first, time_zone))
        end = _whole_hour(day_start_unix_milliseconds(query.end, time_zone))
        end = min(end, _whole_hour(query.now_unix_milliseconds))
        known = by_hour(grid.values(zone, series, start, end))
        labels, kinds = _labels(range(start, end, MILLISECONDS_PER_HOUR), known)
        for host_id, label, sums in reader.hour_sums(labels, only):
            if host_id in own:
                yield host_id, kinds[label], sums


def _whole_hour(unix_milliseconds: int) -> int:
    """Return the hour that begins then or next: the store files hours under civil days."""
    return unix_milliseconds + -unix_milliseconds % MILLISECONDS_PER_HOUR


def _labels(
    hours: Sequence[int], known: Mapping[int, HourIntensity]
) -> tuple[dict[int, int], list[HourIntensity]]:
    """Return (hour → label, label → intensity).

    Hours of equal intensity share a label: the store sums them.
    """
    kinds: list[HourIntensity] = [NOTHING]
    numbers: dict[HourIntensity, int] = {NOTHING: 0}
    labels: dict[int, int] = {}
    for hour in hours:
        found = known.get(hour, NOTHING)
        if found not in numbers:
            numbers[found] = len(kinds)
            kinds.append(found)
        labels[hour] = numbers[found]
    return labels, kinds


def _hours_from(
    reader: HourReader, hosts: Mapping[HostId, Host], only: Population | None
) -> dict[Population, int]:
    found: dict[Population, int] = {}
    for host_id, start in reader.oldest_hours(only).items():
        host = hosts.get(host_id)
        if host is not None:
            found[host.population] = min(start, found.get(host.population, start))
    return found
