# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Groups the ports of a data directory, as composition roots open it, with readers that few need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date
from typing import Any, NamedTuple, Protocol, TypeAlias

from veilleuse.collector.model.calibration import CalibrationBook, StoredFit
from veilleuse.collector.model.indicators import Load
from veilleuse.collector.model.records import (
    Cell,
    Grain,
    HostId,
)
from veilleuse.collector.ports.imports import (
    ActionReader,
    ActionStore,
    FactorReader,
    Factors,
    Intensities,
    InventoryReader,
    InventoryStore,
)
from veilleuse.collector.ports.months import (
    ClosedYearReader,
    ClosedYears,
    PublicationReader,
    Publications,
)
from veilleuse.collector.ports.registry import AccountReader, Accounts, Calendars, HostEraser
from veilleuse.collector.ports.stages import Calibrations, DeriveStore, MeteringStore
from veilleuse.collector.ports.store import BoundedReader, DataReader, MeteringReader
from veilleuse.wire.vocabulary import Boundary, PointKind


class ReferenceReader(Protocol):
    """Reads records of reference units, for calibration; for one thread."""

    def stored(self) -> tuple[StoredFit, ...]:
        """Return Calibrations.stored."""

    def periods(self, hosts: Iterable[HostId]) -> int:
        """Count the periods of these hosts that a calibration would derive again."""

    def hosts_with(self, kinds: Iterable[PointKind], boundary: Boundary | None = None) -> frozenset[HostId]:
        """Return the hosts that ever sent a point of the machine itself of one of these kinds."""

    def records(
        self, host_id: HostId, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[int, int, tuple[Cell, ...]]]:
        """Yield (start, milliseconds, cells) of a host's records with start ≤ bucket < end (as in Grain), in
        time order.
        """


class LoadReader(Protocol):
    """Inputs of I4 and I6 to I8 in addition to months; read-only, in any process."""

    def server_loads(self, end: date, days: Sequence[int]) -> Mapping[HostId, Mapping[int, Load]]:
        """Return server → days → its load over the last `days` civil days of its site before `end`."""

    def book(self) -> CalibrationBook:
        """Return the calibrations in force."""


class QueryAnswer(NamedTuple):
    """A QueryAnswer holds rows of a query."""

    rows: list[dict[str, Any]]
    cut: bool
    """True when there were more rows than requested."""
    withheld: tuple[str, ...]
    """`table.column` of each column that was read as NULL."""


class QueryReader(Protocol):
    """Runs SQL of an administrator, read-only and limited; secrets are read as NULL."""

    def attach_names(self) -> None:
        """Attach identity.db too, as schema `identity`."""

    def tables(self) -> list[dict[str, str]]:
        """Return each column of each table, by table: `table`, `column`, `type`, `key`, `note`."""

    def ask(self, sql: str, *, seconds: float, rows: int) -> QueryAnswer:
        """Return the first `rows` rows of one statement.

        Raises UsageError for wrong SQL, QueryTooSlow after `seconds`.
        """


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
