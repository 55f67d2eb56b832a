# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the ports of a whole data directory, as composition roots open it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from veilleuse.collector.ports import (
    AccountReader,
    ActionReader,
    BoundedReader,
    ClosedYearReader,
    DataReader,
    FactorReader,
    InventoryReader,
    LoadReader,
    MeteringReader,
    PublicationReader,
    QueryReader,
    ReferenceReader,
)
from veilleuse.collector.ports.derive import Calibrations, DeriveStore, MeteringStore
from veilleuse.collector.ports.imports import ActionStore, Factors, Intensities, InventoryStore
from veilleuse.collector.ports.publications import ClosedYears, Publications
from veilleuse.collector.ports.registry import Accounts, Calendars, HostEraser


class WriteStore(Protocol):
    """Groups the ports for writing, used in the writer's thread. One job is one transaction of data.db."""

    @property
    def derive(self) -> DeriveStore: ...
    @property
    def forgetting(self) -> HostEraser: ...
    @property
    def calendars(self) -> Calendars: ...
    @property
    def calibrations(self) -> Calibrations: ...
    @property
    def metering(self) -> MeteringStore: ...
    @property
    def factors(self) -> Factors: ...
    @property
    def intensities(self) -> Intensities: ...
    @property
    def inventory(self) -> InventoryStore: ...
    @property
    def accounts(self) -> Accounts: ...
    @property
    def closings(self) -> ClosedYears: ...
    @property
    def publications(self) -> Publications: ...
    @property
    def follows(self) -> ActionStore: ...


class ReadStore(Protocol):
    """Groups the ports for reading, beside the writer and in any process.

    Each reader is opened at its first use, on its own connections; all are closed together. Opening one
    raises DataDirectoryError when there is no database or an old one, StoreTooNew, StoreDamaged.
    """

    @property
    def data(self) -> DataReader: ...
    @property
    def bounded(self) -> BoundedReader: ...
    @property
    def inventory(self) -> InventoryReader: ...
    @property
    def factors(self) -> FactorReader: ...
    @property
    def metering(self) -> MeteringReader: ...
    @property
    def closings(self) -> ClosedYearReader: ...
    @property
    def loads(self) -> LoadReader: ...
    @property
    def follows(self) -> ActionReader: ...
    @property
    def publications(self) -> PublicationReader: ...
    @property
    def accounts(self) -> AccountReader: ...
    @property
    def references(self) -> ReferenceReader: ...
    @property
    def queries(self) -> QueryReader: ...


OpenReadStore: TypeAlias = Callable[[], AbstractContextManager[ReadStore]]
"""Opens new readers for a thread or an answer."""
