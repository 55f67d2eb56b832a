# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tells which months are released, and draws figures of months, with a table of the same values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Final

from markupsafe import Markup

from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.documents.charts import Series, columns
from veilleuse.collector.documents.text import Words
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.web.pages.frame import Look
from veilleuse.collector.web.pages.parts import Amounts, Grid, Head, cells

_COLOURS: Final = (3, 0)
"""Colours of the year before and of the newest year."""
_GRAMS: Final = ((1_000_000, "tCO₂e"), (1_000, "kgCO₂e"), (1, "gCO₂e"))


@dataclass(frozen=True, slots=True)
class Legend:
    """Entry of one colour."""

    name: str
    colour: int


@dataclass(frozen=True, slots=True)
class GridChart:
    """A drawing with its legend, and a table of the same values."""

    drawing: Markup
    legend: tuple[Legend, ...]
    grid: Grid


async def newest_months(look: Look) -> tuple[Slice, ...]:
    """Return the newest released month and up to eleven before it without a hole, oldest first."""
    today = look.today
    return await look.read(lambda store: sources_of(store, look.settings.reporting).newest_months(today))


def emissions_chart(identifier: str, amounts: Mapping[date, Amounts], w: Words) -> GridChart:
    """Draw a column a month, the year before in grey."""
    months = sorted(amounts)
    most = max((amounts[one].grams or Fraction(0) for one in months), default=Fraction(0))
    scale, unit = next((pair for pair in _GRAMS if most >= pair[0]), _GRAMS[-1])
    years = sorted({one.year for one in months})
    series = [
        Series(
            str(year),
            tuple(
                float(grams / scale)
                if one.year == year and (grams := amounts[one].grams) is not None
                else None
                for one in months
            ),
            _COLOURS[-len(years) + number],
        )
        for number, year in enumerate(years)
    ]
    drawing = columns(
        identifier,
        w("months.emissions", unit=unit),
        [w.short_month(one) for one in months],
        series,
        w.tick,
        unit=unit,
        shorts=[w.short_month(one)[0].upper() for one in months],
    )
    heads = (
        Head(w("months.month")),
        *(Head(w(f"bilan.{key}"), is_number=True) for key in ("emissions", "energy")),
    )
    rows = tuple(cells(w.month(one), amounts[one].emissions(w), amounts[one].energy(w)) for one in months)
    legend = tuple(Legend(one.name, one.colour) for one in series)
    return GridChart(drawing, legend, Grid(w("months.table"), heads, rows))


def span_text(months: Sequence[Slice], w: Words) -> str:
    """Write from which month to which."""
    return period_text(months[0].first, months[-1].first, w)


def period_text(first: date, last: date, w: Words) -> str:
    """Write from which month to which; both are days of them."""
    return w.months(first, last)
