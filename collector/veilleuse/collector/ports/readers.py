# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of closed years: kept for ever, never changed. docs/decisions/0039."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import NamedTuple, Protocol

from veilleuse.collector.model.closed_years import ClosedFile, ClosedYear, KeptYear, PackedFile
from veilleuse.wire.vocabulary import Population


class Waiting(NamedTuple):
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

    def waiting(self, year: int) -> Waiting:
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


class ClosedYears(ClosedYearReader, Protocol):
    """The same with its writes. Used like the Registry."""

    def put(self, one: ClosedYear, file: PackedFile) -> None:
        """The next revision of its year; what was kept of the year while it was open goes. Raises AdminError when it is not the next."""

    def keep(self, one: KeptYear, file: PackedFile | None) -> None:
        """In place of what was kept of the year before; None: it cannot be kept. Raises AdminError when it is closed."""

    def may_go(self, today: date) -> MayGo:
        """What retention asks before it takes anything of a year that is over."""

    def definitive_years(self) -> frozenset[int]:
        """Years of which a revision is definitive: their months of PCs may go."""
