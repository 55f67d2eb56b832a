# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines what a report reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Final

from veilleuse.collector.calendars.periods import Slice, add_months
from veilleuse.collector.closed_years.published_rows import ReleasedFleet
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.fleet.census import default_context
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.model.inventory import Asset, DeclaredPowers
from veilleuse.collector.model.query import Perimeters, Query, perimeters_in_force
from veilleuse.collector.model.records import HostId
from veilleuse.collector.ports.imports import FactorReader, InventoryReader
from veilleuse.collector.ports.months import ClosedYearReader, PublicationReader
from veilleuse.collector.ports.store import DataReader, MeteringReader, PeriodReader
from veilleuse.collector.settings import ReportingSettings
from veilleuse.wire.vocabulary import Population

_MONTHS_LOOKED_AT: Final = 36
"""Months before the present one in which the newest released one is looked for."""


@dataclass(frozen=True)
class Sources:
    """Read-only readers of one report. Not thread-safe."""

    reader: DataReader
    periods: PeriodReader
    inventory: InventoryReader
    factors: FactorReader
    metering: MeteringReader
    closings: ClosedYearReader
    published: PublicationReader
    reporting: ReportingSettings = field(default_factory=ReportingSettings)
    """Settings whose zones apply to devices without a declared site."""

    @cached_property
    def hosts(self) -> tuple[Host, ...]:
        """Return the hosts, read once a report."""
        return self.reader.hosts()

    @cached_property
    def assets(self) -> tuple[Asset, ...]:
        """Return the assets, read once a report."""
        return self.inventory.assets()

    @cached_property
    def exempt_hosts(self) -> tuple[Host, ...]:
        """Return the servers, but for those that the inventory calls a person's machine: read once a report.

        Only these may be shown one by one.
        """
        servers = [host for population in sorted(EXEMPT) for host in self.reader.hosts(population)]
        if not servers:
            return ()
        people = {
            host_id
            for asset in self.assets
            if asset.population is not None and asset.population not in EXEMPT
            for host_id in asset.host_ids
        }
        return tuple(host for host in servers if host.host_id not in people)

    @cached_property
    def released(self) -> ReleasedFleet:
        """Return the fleet of released months; closed years are read once a report."""
        return ReleasedFleet(self.published, self.closings)

    @cached_property
    def perimeters(self) -> tuple[Perimeters, ...]:
        """Return all declared perimeters, oldest first, read once a report."""
        return self.factors.perimeters()

    @cached_property
    def declared_powers(self) -> DeclaredPowers:
        """Return the declared powers in force, read once a report."""
        return self.factors.declared_powers()

    @cached_property
    def same(self) -> dict[HostId, HostId]:
        """Return machine of a reinstalled asset → the asset's last machine, which maps to itself."""
        return self.inventory.reinstalled()

    def has_pcs(self, until: date, populations: Collection[Population] = tuple(Population)) -> bool:
        """Return whether a machine under the rule, of one of these populations, was enrolled before a day."""
        return any(
            host.population in populations and host.population not in EXEMPT and is_enrolled(host, until)
            for host in self.hosts
        )

    def may_have_months(self, first: date, end: date) -> bool:
        """Return whether a month has something to publish: records of servers, or enrolled PCs.

        That PCs sent records is not asked: it would tell whether the only one did.
        """
        return self.closings.has_months(first, end, tuple(EXEMPT)) or self.has_pcs(end)

    def newest_months(self, today: date, most: int = 12) -> tuple[Slice, ...]:
        """Return the newest released month and those before it without a hole, oldest first."""
        found: list[Slice] = []
        end = today.replace(day=1)
        for _ in range(_MONTHS_LOOKED_AT):
            part = Slice(add_months(end, -1), end)
            if self.released.has(part):
                found.insert(0, part)
            elif found:
                break
            if len(found) == most:
                break
            end = part.first
        return tuple(found)

    def add_places(self, query: Query) -> Query:
        """Return the query with reinstalled machines, and what its dimensions need: perimeters, contexts."""
        query = replace(self.add_perimeters(query), same=self.same)
        if {"perimeter", "power_context"}.isdisjoint(query.dimensions):
            return query
        contexts = {host_id: asset.power_context for asset in self.assets for host_id in asset.host_ids}
        by_default = {host.host_id: default_context(host.population) for host in self.hosts}
        return replace(query, contexts=by_default | contexts)

    def add_perimeters(self, query: Query) -> Query:
        """Return the query with the perimeters of each of its years: of a closed one as frozen."""
        if "perimeter" not in query.dimensions:
            return query
        found = []
        for year in range(query.first.year, (query.end - timedelta(days=1)).year + 1):
            closed = self.released.closed(year)
            own = perimeters_in_force(self.perimeters, year) if closed is None else closed.kept.perimeters
            found.append(replace(own, year=year))
        return replace(query, perimeters=tuple(found))


def first_stored_months(
    periods: PeriodReader, months: tuple[date, date], hosts: Iterable[Host]
) -> dict[Population, date]:
    """Return population → first month with stored rows; the end of the period where no month has any.

    Only populations without rows of the period's first months, although such machines were enrolled. A sum
    over the period would cover only the remaining months. `months` are the 1st of two months, end exclusive.
    """
    known = {host.host_id: host for host in hosts}
    at, end = months
    last = add_months(end, -1)
    waiting = {host.population for host in known.values() if is_enrolled(host, last) and at < end}
    found: dict[Population, date] = {}
    while waiting and at < end:
        first_enrolled: dict[Population, date] = {}
        for row in periods.host_months(at, add_months(at, 1)):
            host = known.get(row.host_id)
            if host is not None and host.population in waiting:
                before = first_enrolled.get(host.population, host.enrolled_on)
                first_enrolled[host.population] = min(before, host.enrolled_on)
                if at == months[0] and first_enrolled.keys() == waiting:
                    break  # no month of the period is earlier
        for population, day in first_enrolled.items():
            if at > months[0] and day <= add_months(at, -1):
                found[population] = at
        waiting -= first_enrolled.keys()
        at = add_months(at, 1)
    return found | dict.fromkeys(waiting, end)


def cut_populations(
    periods: PeriodReader, months: tuple[date, date], hosts: Iterable[Host]
) -> frozenset[Population]:
    """Return the populations of `first_stored_months`."""
    return frozenset(first_stored_months(periods, months, hosts))


def is_enrolled(host: Host, until: date) -> bool:
    """Return true when a host is in the fleet and was enrolled before that day."""
    return host.status in (HostStatus.ACTIVE, HostStatus.SUSPENDED) and host.enrolled_on < until


def is_cut(periods: PeriodReader, first: date, end: date, hosts: Iterable[Host]) -> bool:
    """Return true when a whole calendar year lacks first months of any population.

    Later months of the population are still stored, or none is.
    """
    whole = (first.month, first.day) == (1, 1) == (end.month, end.day) and first < end
    return whole and bool(cut_populations(periods, (first, end), hosts))
