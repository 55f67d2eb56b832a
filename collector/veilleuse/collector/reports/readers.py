# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Opens what reports read beside a running collector."""

from __future__ import annotations

from dataclasses import dataclass

from veilleuse.collector.model.indicators import Targets
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.ports.directory import LoadReader, ReadStore
from veilleuse.collector.ports.imports import ActionReader
from veilleuse.collector.ports.store import DataReader
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.settings import Indicators, ReportingSettings


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
        store.publications,
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
