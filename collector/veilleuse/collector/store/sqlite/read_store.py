# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Opens all readers of a data directory. Implements ports.store.ReadStore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

from veilleuse.collector.ports.store import ReadStore
from veilleuse.collector.store.sqlite.accounts import SqliteAccountReader
from veilleuse.collector.store.sqlite.actions import SqliteFollowReader
from veilleuse.collector.store.sqlite.bounded_reader import SqliteBoundedReader
from veilleuse.collector.store.sqlite.calibration import SqliteReferenceReader
from veilleuse.collector.store.sqlite.closed_years import SqliteClosingsReader
from veilleuse.collector.store.sqlite.factors import SqliteFactorsReader
from veilleuse.collector.store.sqlite.inspect import SqliteQueryReader
from veilleuse.collector.store.sqlite.inventory import SqliteInventoryReader
from veilleuse.collector.store.sqlite.meters import SqliteMeteringReader
from veilleuse.collector.store.sqlite.publications import SqlitePublicationReader
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.collector.store.sqlite.server_loads import SqliteLoadReader


class _Closable(Protocol):
    def close(self) -> None: ...


_Reader = TypeVar("_Reader", bound=_Closable)


class SqliteReadStore:
    """SqliteReadStore holds all readers, each opened at its first use."""

    def __init__(self, directory: Path, opened: ExitStack) -> None:
        """`opened` closes them."""
        self._directory = directory
        self._opened = opened

    @cached_property
    def data(self) -> SqliteReader:
        return self._open(SqliteReader)

    @cached_property
    def bounded(self) -> SqliteBoundedReader:
        return self._open(SqliteBoundedReader)

    @cached_property
    def inventory(self) -> SqliteInventoryReader:
        return self._open(SqliteInventoryReader)

    @cached_property
    def factors(self) -> SqliteFactorsReader:
        return self._open(SqliteFactorsReader)

    @cached_property
    def metering(self) -> SqliteMeteringReader:
        return self._open(SqliteMeteringReader)

    @cached_property
    def closings(self) -> SqliteClosingsReader:
        return self._open(SqliteClosingsReader)

    @cached_property
    def loads(self) -> SqliteLoadReader:
        return self._open(SqliteLoadReader)

    @cached_property
    def follows(self) -> SqliteFollowReader:
        return self._open(SqliteFollowReader)

    @cached_property
    def publications(self) -> SqlitePublicationReader:
        return self._open(SqlitePublicationReader)

    @cached_property
    def accounts(self) -> SqliteAccountReader:
        return self._open(SqliteAccountReader)

    @cached_property
    def references(self) -> SqliteReferenceReader:
        return self._open(SqliteReferenceReader)

    @cached_property
    def queries(self) -> SqliteQueryReader:
        return self._open(SqliteQueryReader)

    def _open(self, reader: Callable[[Path], _Reader]) -> _Reader:
        return self._opened.enter_context(closing(reader(self._directory)))


@contextmanager
def open_reader(directory: Path) -> Iterator[ReadStore]:
    """Open a data directory for reading, with or without a running collector.

    Each reader opens at its first use.
    """
    with ExitStack() as opened:
        yield SqliteReadStore(directory, opened)
