# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ports of closed years, kept years and publications. docs/decisions/0039."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import NamedTuple, Protocol

from veilleuse.collector.model.closed_years import ClosedFile, ClosedYear, KeptYear, PackedFile
from veilleuse.collector.model.publications import Publication, PublicationKind
from veilleuse.wire.vocabulary import Population


class PendingMonths(NamedTuple):
    """What of a year is not in its figure yet."""

    periods: int
    """Hours, days and weeks that wait to be derived."""
    months: int
    """(machine, month) not kept, or no longer true."""


class MayGo(NamedTuple):
    """What of too old a year may go, because the year is closed or its statistics are kept."""

    months: frozenset[int] | None = None
    """Years whose months of machines may; None: all."""
    readings_until: int | None = None
    """Readings of shared meters from this moment on (Unix ms) stay; None: none does."""


class ClosedYearReader(Protocol):
    """Read-only, any process."""

    def revisions(self, year: int | None = None) -> tuple[ClosedYear, ...]:
        """All, or a year's, by year and revision."""

    def file(self, one: ClosedYear) -> ClosedFile:
        """The content of a revision. Raises StoreDamaged."""

    def waiting(self, year: int) -> PendingMonths:
        """Of the year."""

    def kept_years(self) -> tuple[KeptYear, ...]:
        """Years that are kept and not closed, in order."""

    def kept_file(self, one: KeptYear) -> ClosedFile:
        """What was in force (`report`) and the statistics of a kept year, without a signature. Raises StoreDamaged."""

    def first_year(self) -> int | None:
        """The first year of which a month of a machine or a reading of a meter is kept; None = there is none."""

    def has_months(self, first: date, end: date, populations: Collection[Population]) -> bool:
        """Whether a month that begins in [first, end) is kept of any machine of these."""

    def has_readings(self, first: date, end: date) -> bool:
        """Whether a reading of any meter is kept of an hour that begins in these days of UTC."""

    def definitive_years(self) -> frozenset[int]:
        """Years of which a revision is definitive: their months of PCs may go."""


class ClosedYears(ClosedYearReader, Protocol):
    """The same with its writes. Used like the Registry."""

    def put(self, one: ClosedYear, file: PackedFile) -> None:
        """The next revision of its year; what was kept of the year while it was open goes. Raises AdminError when it is not the next."""

    def keep(self, one: KeptYear, file: PackedFile | None) -> None:
        """In place of what was kept of the year before; None: it cannot be kept. Raises AdminError when it is closed."""

    def may_go(self, today: date) -> MayGo:
        """What retention asks before it takes anything of a year that is over."""


class PublicationSummary(NamedTuple):
    """A publication without its content."""

    kind: PublicationKind
    first: date
    end: date
    """Exclusive."""
    format: int
    k_anonymity: int
    method_version: str
    published_unix_milliseconds: int
    content_bytes: int


class PublicationReader(Protocol):
    """Read-only, any process, any thread."""

    def told(self, kind: PublicationKind, first: date, end: date) -> PublicationSummary | None:
        """What is kept of a period, without its content; None: nothing. Cheap, however large the content."""

    def find(self, kind: PublicationKind, first: date, end: date) -> Publication | None:
        """As it was published; None: it was not."""

    def waits(self, first: date, end: date) -> bool:
        """Whether records of machines under the rule, of days in [first, end), wait to be derived."""


class Publications(Protocol):
    """In the writer's thread; each write is a transaction, or part of the caller's."""

    def put(self, one: Publication) -> bool:
        """Keep it where nothing is kept of its kind and period. False: something is, and stays. Raises AdminError when there is no room."""

    def told(self) -> tuple[PublicationSummary, ...]:
        """All, by period and kind."""

    def take_back(self, first: date, end: date) -> int:
        """Delete those that lie inside [first, end); how many."""

    def expire(self, until: date, years: Collection[int]) -> int:
        """Delete those that ended by `until`, or began in one of the years; how many."""
