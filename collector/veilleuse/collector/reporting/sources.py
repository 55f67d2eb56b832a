# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What reports read of a data directory, opened together and closed together; beside a running collector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from veilleuse.collector.ports import FactorReader, InventoryReader, PeriodReader
from veilleuse.collector.rolling.reading import Periods
from veilleuse.collector.store.sqlite import SqliteFactorsReader, SqliteInventoryReader, SqliteReader
from veilleuse.collector.store.sqlite.metering import SqliteMeteringReader


@dataclass(frozen=True, slots=True)
class Sources:
    """All read-only; used by one thread."""

    reader: SqliteReader
    periods: PeriodReader
    inventory: InventoryReader
    factors: FactorReader
    metering: SqliteMeteringReader


@contextmanager
def opened(directory: Path) -> Iterator[Sources]:
    """Raises DataDirectoryError when there is no database or an old one, StoreTooNew, StoreDamaged."""
    with (
        closing(SqliteReader(directory)) as reader,
        closing(SqliteInventoryReader(directory)) as inventory,
        closing(SqliteFactorsReader(directory)) as factors,
        closing(SqliteMeteringReader(directory)) as metering,
    ):
        yield Sources(reader, Periods(reader), inventory, factors, metering)
