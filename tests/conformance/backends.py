# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The stores that the conformance suite tests; a new one needs one function and one line in BACKENDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tests.support.pushes import NOW
from tests.support.stored_sums import SqliteSumReader, SumReader
from veilleuse.collector import settings
from veilleuse.collector.model.records import Point
from veilleuse.collector.ports.imports import ActionStore, Factors, Intensities, InventoryStore
from veilleuse.collector.ports.months import ClosedYears, MonthReader, MonthStore, Publications
from veilleuse.collector.ports.registry import Accounts, Calendars, Configurations, HostEraser, Registry
from veilleuse.collector.ports.stages import Calibrations, DeriveStore, IngestStore, MeteringStore
from veilleuse.collector.store.sqlite import create_store
from veilleuse.wire.vocabulary import (
    Boundary,
    PointKind,
)

LIMITS = settings.Store(free_bytes_minimum=0)
MONDAY = date(2026, 3, 2).toordinal()
PACKAGE = Point(PointKind.RAPL, "package-0", Boundary.COMPONENT, "machine")


@dataclass
class Backend:
    """One open store, accessed only through its ports."""

    ingest: IngestStore
    derive: DeriveStore
    registry: Registry
    reader: SumReader
    configurations: Configurations
    calibrations: Calibrations
    metering: MeteringStore
    forgetting: HostEraser
    calendars: Calendars
    transaction: Callable[[], AbstractContextManager[None]]
    factors: Factors
    rolls: MonthStore = field(kw_only=True)
    roll_reader: MonthReader = field(kw_only=True)
    intensities: Intensities = field(kw_only=True)
    accounts: Accounts = field(kw_only=True)
    inventory: InventoryStore = field(kw_only=True)
    follows: ActionStore = field(kw_only=True)
    closings: ClosedYears = field(kw_only=True)
    publications: Publications = field(kw_only=True)


def _sqlite(directory: Path) -> Iterator[Backend]:
    with (
        closing(create_store(directory, LIMITS, simulated=False, now_unix_milliseconds=NOW)) as store,
        closing(SqliteSumReader(directory)) as reader,
    ):
        yield Backend(
            store.ingest,
            store.derive,
            store.registry,
            reader,
            store.configurations,
            store.calibrations,
            store.metering,
            store.forgetting,
            store.calendars,
            store.transaction,
            store.factors,
            rolls=store.rolls,
            roll_reader=reader,
            intensities=store.intensities,
            accounts=store.accounts,
            inventory=store.inventory,
            follows=store.follows,
            closings=store.closings,
            publications=store.publications,
        )


BACKENDS = {"sqlite": _sqlite}
