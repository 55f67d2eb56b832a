# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What reports read of a data directory, opened together and closed together; beside a running collector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from veilleuse.collector.model.inventory import Asset
from veilleuse.collector.model.records import Host
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.ports import FactorReader, PeriodReader
from veilleuse.collector.ports.readers import ClosedYearReader
from veilleuse.collector.settings import Reporting
from veilleuse.collector.store.sqlite import SqliteFactorsReader, SqliteInventoryReader, SqliteReader
from veilleuse.collector.store.sqlite.closed_years import SqliteClosingsReader
from veilleuse.collector.store.sqlite.meters import SqliteMeteringReader


@dataclass(frozen=True)
class Sources:
    """All read-only; used by one thread, for one report."""

    reader: SqliteReader
    periods: PeriodReader
    inventory: SqliteInventoryReader
    factors: FactorReader
    metering: SqliteMeteringReader
    closings: ClosedYearReader
    reporting: Reporting = field(default_factory=Reporting)
    """Its zones are those of devices whose site nobody declared."""

    @cached_property
    def hosts(self) -> tuple[Host, ...]:
        """Read once a report."""
        return self.reader.hosts()

    @cached_property
    def assets(self) -> tuple[Asset, ...]:
        """Likewise."""
        return self.inventory.assets()


@contextmanager
def opened(
    directory: Path, reporting: Reporting, with_reader: SqliteReader | None = None
) -> Iterator[Sources]:
    """`with_reader`: one that is open, and stays so; None: one of its own. Raises DataDirectoryError when there is no database or an
    old one, StoreTooNew, StoreDamaged."""
    with (
        closing(SqliteReader(directory)) if with_reader is None else nullcontext(with_reader) as reader,
        closing(SqliteInventoryReader(directory)) as inventory,
        closing(SqliteFactorsReader(directory)) as factors,
        closing(SqliteMeteringReader(directory)) as metering,
        closing(SqliteClosingsReader(directory)) as closings,
    ):
        yield Sources(reader, Periods(reader), inventory, factors, metering, closings, reporting)
