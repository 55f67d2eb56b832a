# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What was published of a store under construction, and the way to have more kept, without a socket. For
tests and benches."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import date

from tests.support.filled import Filled
from veilleuse.collector.model.publications import Publication, PublicationKind, content_of
from veilleuse.collector.ports.months import PublicationSummary
from veilleuse.collector.store.sqlite.publications import SqlitePublicationReader


class Publishing:
    """A PublicationReader, and in `publish` what the socket leads to. Nothing stays open."""

    def __init__(self, data: Filled, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix seconds."""
        self._data = data
        self._clock = clock

    def summary(self, kind: PublicationKind, first: date, end: date) -> PublicationSummary | None:
        """See ports.PublicationReader."""
        with closing(SqlitePublicationReader(self._data.directory)) as reader:
            return reader.summary(kind, first, end)

    def find(self, kind: PublicationKind, first: date, end: date) -> Publication | None:
        """Likewise."""
        with closing(SqlitePublicationReader(self._data.directory)) as reader:
            return reader.find(kind, first, end)

    def waits(self, first: date, end: date) -> bool:
        """Likewise."""
        with closing(SqlitePublicationReader(self._data.directory)) as reader:
            return reader.waits(first, end)

    def publish(self, one: Publication) -> None:
        """As it comes through the socket. The first stays."""
        now = round(self._clock() * 1000)
        content = content_of(one.content.encode())
        self._data.store.publications.put(replace(one, published_unix_milliseconds=now, content=content))
