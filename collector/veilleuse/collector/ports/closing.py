# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of closed years: kept for ever, never changed. docs/decisions/0039."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from veilleuse.collector.closed import ClosedFile, ClosedYear, PackedFile


class Waiting(NamedTuple):
    """What of a year is not in its figure yet."""

    periods: int
    """Hours, days and weeks that wait to be derived."""
    months: int
    """(machine, month) not kept, or no longer true."""


class ClosedYearReader(Protocol):
    """Read-only, any process."""

    def revisions(self, year: int | None = None) -> tuple[ClosedYear, ...]:
        """All, or a year's, by year and revision."""

    def file(self, one: ClosedYear) -> ClosedFile:
        """The content of a revision. Raises StoreDamaged."""

    def waiting(self, year: int) -> Waiting:
        """Of the year."""


class ClosedYears(ClosedYearReader, Protocol):
    """The same with its one write. Used like the Registry."""

    def put(self, one: ClosedYear, file: PackedFile) -> None:
        """The next revision of its year. Raises AdminError when it is not the next."""

    def definitive_years(self) -> frozenset[int]:
        """Years of which a revision is definitive: their months of PCs may go."""
