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
    """Data of a year that its figure does not contain yet."""

    periods: int
    """Hours, days and weeks that wait to be derived."""
    months: int
    """(machine, month) not stored, or out of date."""


class MayGo(NamedTuple):
    """Data of an expired year that may be deleted, because the year is closed or its statistics are
    stored.
    """

    months: frozenset[int] | None = None
    """Years whose months of machines may be deleted; None: all."""
    readings_until: int | None = None
    """Readings of shared meters from this moment on (Unix ms) stay; None: none does."""


class ClosedYearReader(Protocol):
    """Closed years, read-only, in any process."""

    def revisions(self, year: int | None = None) -> tuple[ClosedYear, ...]:
        """Return all revisions, or one year's, by year and revision."""

    def file(self, one: ClosedYear) -> ClosedFile:
        """Return the content of a revision. Raises StoreDamaged."""

    def waiting(self, year: int) -> PendingMonths:
        """Return the pending data of the year."""

    def kept_years(self) -> tuple[KeptYear, ...]:
        """Return the years with stored statistics that are not closed, in order."""

    def kept_file(self, one: KeptYear) -> ClosedFile:
        """Return the terms (`report`) and statistics of a kept year, without a signature.
        Raises StoreDamaged.
        """

    def first_year(self) -> int | None:
        """Return the first year with a stored month of a machine or reading of a meter;
        None = there is none.
        """

    def has_months(self, first: date, end: date, populations: Collection[Population]) -> bool:
        """Return whether a month that begins in [first, end) is stored of any machine of these
        populations.
        """

    def has_readings(self, first: date, end: date) -> bool:
        """Return whether a reading of any meter is stored of an hour that begins in these UTC days."""

    def definitive_years(self) -> frozenset[int]:
        """Return the years with a definitive revision: their months of PCs may be deleted."""


class ClosedYears(ClosedYearReader, Protocol):
    """Closed years with writes. Used like the Registry."""

    def put(self, one: ClosedYear, file: PackedFile) -> None:
        """Store the next revision of its year; statistics kept while it was open are deleted.

        Raises AdminError when it is not the next.
        """

    def keep(self, one: KeptYear, file: PackedFile | None) -> None:
        """Replace the kept statistics of the year; None: it cannot be kept.
        Raises AdminError when it is closed.
        """

    def may_go(self, today: date) -> MayGo:
        """Return the data of ended years that retention may delete."""


class PublicationSummary(NamedTuple):
    """A PublicationSummary is a publication without its content."""

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
    """Publications, read-only, in any process and thread."""

    def summary(self, kind: PublicationKind, first: date, end: date) -> PublicationSummary | None:
        """Return a publication without its content; None without one. Fast, even for large content."""

    def find(self, kind: PublicationKind, first: date, end: date) -> Publication | None:
        """Return a publication as published; None without one."""

    def waits(self, first: date, end: date) -> bool:
        """Return whether records of machines under the disclosure rule,
        of days in [first, end), wait to be derived.
        """


class Publications(Protocol):
    """Publications with writes, in the writer's thread;
    each write is a transaction, or part of the caller's.
    """

    def put(self, one: Publication) -> bool:
        """Store a publication where its kind and period have none. False: one exists and stays.

        Raises AdminError when there is no room.
        """

    def summaries(self) -> tuple[PublicationSummary, ...]:
        """Return all, by period and kind."""

    def take_back(self, first: date, end: date) -> int:
        """Delete the publications inside [first, end); return their number."""

    def expire(self, until: date, years: Collection[int]) -> int:
        """Delete the publications that ended by `until`, or began in one of the years;
        return their number.
        """
