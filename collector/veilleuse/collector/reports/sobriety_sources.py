# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the sobriety indicators and the REEN sheet read of a data directory, beside what every report reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from veilleuse.collector.model.indicators import Targets
from veilleuse.collector.ports import FollowReader, LoadReader
from veilleuse.collector.reports.inputs import Sources, opened
from veilleuse.collector.settings import Indicators, Reporting
from veilleuse.collector.store.sqlite import SqliteFollowReader, SqliteLoadReader


@dataclass(frozen=True, slots=True)
class SobrietySources:
    """All read-only; used by one thread."""

    base: Sources
    loads: LoadReader
    follows: FollowReader


@contextmanager
def opened_for_sobriety(directory: Path, reporting: Reporting) -> Iterator[SobrietySources]:
    """Raises DataDirectoryError when there is no database or an old one, StoreTooNew, StoreDamaged."""
    with (
        opened(directory, reporting) as base,
        closing(SqliteLoadReader(directory)) as loads,
        closing(SqliteFollowReader(directory)) as follows,
    ):
        yield SobrietySources(base, loads, follows)


def targets_of(settings: Indicators) -> Targets:
    """The settings as the indicators take them."""
    return Targets(
        settings.display_off_minutes,
        settings.sleep_minutes,
        settings.comatose_cpu_percent,
        settings.comatose_network_bytes_per_second,
        settings.underused_mean_cpu_ratio,
        settings.underused_cpu_percent,
        settings.oversized_cpu_percent,
        settings.oversized_memory_percent,
        settings.oversized_core_ratio,
        settings.server_observed_ratio,
        settings.lifetime_years,
        settings.reused_purchases,
        settings.reused_retirements_ratio,
    )
