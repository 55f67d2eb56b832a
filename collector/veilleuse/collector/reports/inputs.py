# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Gathers the readers of a data directory that reports use beside a running collector."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from veilleuse.collector.calendars.periods import add_months
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.model.indicators import Targets
from veilleuse.collector.model.inventory import Asset
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.ports import (
    ActionReader,
    DataReader,
    FactorReader,
    InventoryReader,
    LoadReader,
    MeteringReader,
    PeriodReader,
)
from veilleuse.collector.ports.months import ClosedYearReader
from veilleuse.collector.ports.store import ReadStore
from veilleuse.collector.settings import Indicators, ReportingSettings
from veilleuse.wire.vocabulary import Population


@dataclass(frozen=True)
class Sources:
    """Read-only readers of one report. Not thread-safe."""

    reader: DataReader
    periods: PeriodReader
    inventory: InventoryReader
    factors: FactorReader
    metering: MeteringReader
    closings: ClosedYearReader
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


def sources_of(
    store: ReadStore, reporting: ReportingSettings, with_reader: DataReader | None = None
) -> Sources:
    """Gather the readers of a report; `with_reader` replaces `store.data`. Raises the errors of opening."""
    reader = store.data if with_reader is None else with_reader
    return Sources(
        reader,
        Periods(reader),
        store.inventory,
        store.factors,
        store.metering,
        store.closings,
        reporting,
    )


@dataclass(frozen=True, slots=True)
class SobrietySources:
    """Read-only readers of an indicators report. Not thread-safe."""

    base: Sources
    loads: LoadReader
    follows: ActionReader


def sobriety_sources_of(store: ReadStore, reporting: ReportingSettings) -> SobrietySources:
    """Gather the readers of an indicators report. Raises the errors of `sources_of`."""
    return SobrietySources(sources_of(store, reporting), store.loads, store.follows)


def targets_of(settings: Indicators) -> Targets:
    """Convert the settings to the indicators' targets."""
    return Targets(
        out_of_hours_target_ratio=settings.out_of_hours_target_ratio,
        display_off_minutes=settings.display_off_minutes,
        sleep_minutes=settings.sleep_minutes,
        comatose_cpu_percent=settings.comatose_cpu_percent,
        comatose_network_bytes_per_second=settings.comatose_network_bytes_per_second,
        underused_mean_cpu_ratio=settings.underused_mean_cpu_ratio,
        underused_cpu_percent=settings.underused_cpu_percent,
        oversized_cpu_percent=settings.oversized_cpu_percent,
        oversized_memory_percent=settings.oversized_memory_percent,
        oversized_core_ratio=settings.oversized_core_ratio,
        observed_ratio=settings.server_observed_ratio,
        lifetime_years=settings.lifetime_years,
        reused_purchases=settings.reused_purchases,
        reused_retirements_ratio=settings.reused_retirements_ratio,
    )


def cut_populations(
    periods: PeriodReader, months: tuple[date, date], hosts: Iterable[Host]
) -> frozenset[Population]:
    """Return populations without stored rows of the period's first months, although such machines were
    enrolled.

    A sum over the period would cover only the remaining months. `months` are the 1st of two months, end
    exclusive.
    """
    known = {host.host_id: host for host in hosts}
    at, end = months
    last = add_months(end, -1)
    waiting = {host.population for host in known.values() if is_enrolled(host, last) and at < end}
    found: set[Population] = set()
    while waiting and at < end:
        first_enrolled: dict[Population, date] = {}
        for row in periods.host_months(at, add_months(at, 1)):
            host = known.get(row.host_id)
            if host is not None and host.population in waiting:
                before = first_enrolled.get(host.population, host.enrolled_on)
                first_enrolled[host.population] = min(before, host.enrolled_on)
                if at == months[0] and first_enrolled.keys() == waiting:
                    break  # no month of the period is earlier
        cut = {one for one, day in first_enrolled.items() if at > months[0] and day <= add_months(at, -1)}
        found |= cut
        waiting -= first_enrolled.keys()
        at = add_months(at, 1)
    return frozenset(found | waiting)


def is_enrolled(host: Host, until: date) -> bool:
    """Return true when a host is in the fleet and was enrolled before that day."""
    return host.status in (HostStatus.ACTIVE, HostStatus.SUSPENDED) and host.enrolled_on < until


def is_cut(periods: PeriodReader, first: date, end: date, hosts: Iterable[Host]) -> bool:
    """Return true when a whole calendar year lacks first months of any population.

    Later months of the population are still stored, or none is.
    """
    whole = (first.month, first.day) == (1, 1) == (end.month, end.day) and first < end
    return whole and bool(cut_populations(periods, (first, end), hosts))
