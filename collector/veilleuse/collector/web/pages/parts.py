# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Parts that pages are made of: tables with numbers, links and bars, and figures written for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, TypeVar

from veilleuse.collector.documents.document import Row
from veilleuse.collector.documents.text import DASH, Words
from veilleuse.collector.reports.summaries.rows import Ends, ends_text
from veilleuse.wire.units import GRAMS_PER_KILOGRAM

PAGE_ROWS: Final = 50
"""Rows of a table on one page."""


@dataclass(frozen=True, slots=True)
class Head:
    """Heading of a column."""

    text: str
    is_number: bool = False
    """Numbers are aligned to the right."""
    link: str = ""
    """Address that sorts by this column."""
    sorts: str = ""
    """`ascending` or `descending` where the table is sorted by this column."""


@dataclass(frozen=True, slots=True)
class PageCell:
    """A cell with more than a text."""

    text: str
    link: str = ""
    share: float | None = None
    """Length of a bar before the text, 0 to 1; the text says the same."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. The first cell of a row is its heading."""

    caption: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[PageCell, ...], ...]
    foot: tuple[PageCell, ...] = ()
    """The sum, in the last line."""
    pages: Mapping[str, str] = field(default_factory=dict)
    """Text → address of the pages before and after."""
    count: str = ""
    """Which rows of how many are shown."""


def cells(*texts: str | PageCell) -> tuple[PageCell, ...]:
    """Return the cells of a row."""
    return tuple(one if isinstance(one, PageCell) else PageCell(one) for one in texts)


@dataclass(frozen=True, slots=True)
class Amounts:
    """Energy and emissions of a group; None where nothing is known, which is not 0."""

    energy_millijoules: int | None = None
    grams: Fraction | None = None

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(_sum(self.energy_millijoules, other.energy_millijoules), _sum(self.grams, other.grams))

    def energy(self, w: Words) -> str:
        """Write the energy."""
        return DASH if self.energy_millijoules is None else w.energy(self.energy_millijoules)

    def emissions(self, w: Words) -> str:
        """Write the emissions."""
        return DASH if self.grams is None else w.grams(self.grams)


N = TypeVar("N", int, Fraction)


def _sum(one: N | None, other: N | None) -> N | None:
    return other if one is None else one if other is None else one + other


def amounts_of(row: Row) -> Amounts:
    """Return the amounts of a row of a report."""
    energy, kilograms = row.get("energy_millijoules"), row.get("kgco2e_total")
    return Amounts(
        energy if isinstance(energy, int) else None,
        grams_of(kilograms) if isinstance(kilograms, float | int) else None,
    )


def grams_of(kilograms: float) -> Fraction:
    """Convert a report's kilograms, digit for digit."""
    return Fraction(repr(kilograms)) * GRAMS_PER_KILOGRAM


def interval_column(
    intervals: Sequence[Ends | None], w: Words, unit: str = "kgco2e"
) -> tuple[Head, list[str]]:
    """Return heading and texts of a column; where all intervals are of one kind, the heading names it."""
    kinds = {one[0] for one in intervals if one is not None}
    with_kind = len(kinds) != 1
    head = w("amounts.intervals" if with_kind else "amounts.intervals_of", interval=_kinds_text(kinds, w))
    texts = [ends_text(one, w, unit, with_kind=with_kind) or DASH for one in intervals]
    return Head(head, is_number=not with_kind), texts


def _kinds_text(kinds: Iterable[str], w: Words) -> str:
    return ", ".join(w.word("interval", one) for one in sorted(kinds))


def paginate(grid: Grid, page: int, w: Words, link: Callable[[int], str]) -> Grid:
    """Cut a table to one page, from 1; the last one for a page after it. `link` returns a page's address."""
    number = len(grid.rows)
    last = max(1, -(-number // PAGE_ROWS))
    page = min(page, last)
    others = {"before": page - 1 if page > 1 else None, "after": page + 1 if page < last else None}
    return replace(
        grid,
        rows=grid.rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS],
        pages={w(f"table.{key}"): link(other) for key, other in others.items() if other is not None},
        count=w("table.count", n=w.number(number), page=page, pages=last) if last > 1 else "",
    )
