# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A Chart as SVG text, for HTML and PDF: no script, every text escaped, colours as attributes that a style sheet may override.

Pure. A drawing never stands alone: a table with the same values follows it (view.chart_grid).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from veilleuse.collector.documents.columns import column
from veilleuse.collector.documents.document import Chart, Document, Row
from veilleuse.collector.documents.text import DASH, Words

COLOURS: Final = ("#0b62ad", "#b85000", "#2b7a35", "#5d6875", "#8645ad", "#007d83", "#a8285f", "#7d7000")
"""On white, each ≥ 3:1 (WCAG 2.1, 1.4.11): c0 to c7 of the style sheets; tests hold them together."""


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart."""

    name: str
    values: tuple[float | None, ...]
    """One per label; None = not known, nothing is drawn."""
    colour: int
    """0 to 7."""
    hatched: bool = False
    """Drawn with stripes: modelled, not measured."""


def nice_ticks(maximum: float, count: int = 4) -> list[float]:
    """0 to at least `maximum` in round steps (1, 2, 2.5 or 5 × 10ⁿ); 0 to 1 when there is nothing."""
    if not (math.isfinite(maximum) and maximum > 0):
        return [0.0, 1.0]
    raw = maximum / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    return [step * i for i in range(math.ceil(maximum / step - 1e-9) + 1)]


WIDTH: Final = 720
MARGIN: Final = 16
BAR: Final = 16
LABEL: Final = 20
"""Room for the label above the bars of a category."""
AXIS: Final = 34
LEFT: Final = 88
"""Room for the axis of a line."""
HEIGHT: Final = 260
LONGEST: Final = 90
"""Characters of a label; the table beside the chart has the whole one."""
LETTER: Final = 10
"""Width of a letter of an axis, the larger ones of narrow screens included."""
ROOM: Final = 84
"""Room for the value behind a bar."""


def draw(document: Document, number: int, chart: Chart, w: Words) -> Markup:
    """One chart; `number` makes its identifiers its own."""
    rows = document.tables[chart.table]
    names = [_category(document, chart, row, w) for row in rows]
    series = [
        Series(
            column(document, chart.table, name).label(w.language),
            tuple(_figure(row, name) for row in rows),
            i,
        )
        for i, name in enumerate(chart.values)
    ]
    title, _ = w.text(chart.title)
    identifier = f"chart-{number}"
    body, height = _line(names, series, w) if chart.kind == "line" else _bars(names, series, chart.kind, w)
    alternative = escape(w("page.chart_alternative", title=title))
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{identifier}" '
        f'xmlns="http://www.w3.org/2000/svg" font-family="DejaVu Sans, sans-serif" font-size="12">'
        f'<title id="{identifier}">{alternative}</title>{"".join(body)}</svg>'
    )


def legend(document: Document, chart: Chart, w: Words) -> list[tuple[int, str]]:
    """Colour and name of each series."""
    return [(i, column(document, chart.table, name).label(w.language)) for i, name in enumerate(chart.values)]


def swatch(colour: int, *, paper: bool = False) -> Markup:
    """A square of a colour, for a legend. `paper`: without a drawing, which a PDF would tag as a figure that says nothing."""
    if paper:
        return Markup(f'<span class="swatch s{colour % 8}"></span>')
    return Markup(
        f'<svg class="swatch" viewBox="0 0 16 16" width="12" height="12" aria-hidden="true" focusable="false" '
        f'xmlns="http://www.w3.org/2000/svg">{_rectangle(colour, 0, 0, 16, 16)}</svg>'
    )


def _bars(names: Sequence[str], series: Sequence[Series], kind: str, w: Words) -> tuple[list[str], int]:
    stacked = kind == "stacked"
    low, high = _reach(series, len(names), stacked)
    ticks = _axis(low, high)
    scale = (WIDTH - 2 * MARGIN - ROOM) / (ticks[-1] - ticks[0])
    zero = MARGIN - ticks[0] * scale
    group = LABEL + (BAR if stacked else BAR * len(series)) + 8
    bottom = MARGIN + group * len(names)
    parts = [_tick(zero + tick * scale, bottom, w.number(tick), is_zero=tick == 0) for tick in ticks]
    for i, name in enumerate(names):
        top = MARGIN + i * group
        parts.append(f'<text x="{MARGIN}" y="{top + 12}">{escape(_short(name))}</text>')
        ends = [zero, zero]
        for j, one in enumerate(series):
            value = one.values[i]
            y = top + LABEL + (0 if stacked else j * BAR)
            if value is None:
                if not stacked:
                    parts.append(f'<text x="{zero + 4:.1f}" y="{y + 12}">{DASH}</text>')
                continue
            length = abs(value) * scale
            side = value >= 0
            x = (ends[1] if side else ends[0] - length) if stacked else (zero if side else zero - length)
            ends[side] += length if side else -length
            parts.append(_rectangle(one.colour, x, y, length, BAR - 2))
            if not stacked:
                end = max(zero, x + length) + 4
                parts.append(f'<text x="{end:.1f}" y="{y + 12}">{escape(w.number(value))}</text>')
    return parts, bottom + AXIS


def _line(names: Sequence[str], series: Sequence[Series], w: Words) -> tuple[list[str], int]:
    low, high = _reach(series, len(names), stacked=False)
    ticks = _axis(low, high)
    plot = HEIGHT - MARGIN - AXIS
    scale = plot / (ticks[-1] - ticks[0])
    zero = MARGIN + ticks[-1] * scale
    step = (WIDTH - LEFT - MARGIN) / max(1, len(names))
    parts = []
    for tick in ticks:
        y = zero - tick * scale
        parts.append(
            f'<line class="grid" stroke="#c3cad4" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - MARGIN}" y2="{y:.1f}"/>'
            f'<text text-anchor="end" x="{LEFT - 6}" y="{y + 4:.1f}">{escape(w.number(tick))}</text>'
        )
    room = LETTER * (1 + max((len(_short(name, 12)) for name in names), default=0))
    every = 1 + int(room // step)  # labels that would stand on each other are left out
    for i, name in enumerate(names):
        if i % every == 0:
            x = LEFT + (i + 0.5) * step
            parts.append(
                f'<text text-anchor="middle" x="{x:.1f}" y="{HEIGHT - 12}">{escape(_short(name, 12))}</text>'
            )
    for one in series:
        points = [
            None if value is None else (LEFT + (i + 0.5) * step, zero - value * scale)
            for i, value in enumerate(one.values)
        ]
        parts += _run(one.colour, points)
    return parts, HEIGHT


def _run(colour: int, points: Sequence[tuple[float, float] | None]) -> list[str]:
    """Lines between neighbours that are both known: a gap stays a gap; and a mark on each."""
    parts = []
    for start, end in itertools.pairwise(points):
        if start is not None and end is not None:
            parts.append(
                f'<line class="l{colour}" stroke="{COLOURS[colour % 8]}" stroke-width="2" '
                f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'
            )
    return parts + [_rectangle(colour, x - 3, y - 3, 6, 6) for x, y in filter(None, points)]


def _reach(series: Sequence[Series], count: int, stacked: bool) -> tuple[float, float]:
    """Lowest and highest end of what is drawn, with 0."""
    low = high = 0.0
    for i in range(count):
        values = [one.values[i] or 0.0 for one in series]
        if stacked:
            values = [sum(v for v in values if v < 0), sum(v for v in values if v > 0)]
        low, high = min(low, *values), max(high, *values)
    return low, high


def _axis(low: float, high: float) -> list[float]:
    """Round steps from at most `low` ≤ 0 to at least `high` ≥ 0, 0 among them."""
    step = nice_ticks(high - low)[1]
    below = [-step * i for i in range(1, 25) if -step * (i - 1) > low + 1e-9 * step]
    above = [step * i for i in range(1, 25) if step * (i - 1) < high - 1e-9 * step]
    return [*reversed(below), 0.0, *above] if below or above else [0.0, step]


def _tick(x: float, bottom: float, text: str, *, is_zero: bool) -> str:
    kind = ("zero", "#4a5666") if is_zero else ("grid", "#c3cad4")
    return (
        f'<line class="{kind[0]}" stroke="{kind[1]}" x1="{x:.1f}" y1="{MARGIN}" x2="{x:.1f}" y2="{bottom}"/>'
        f'<text text-anchor="middle" x="{x:.1f}" y="{bottom + 18}">{escape(text)}</text>'
    )


def _rectangle(colour: int, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="c{colour % 8}" fill="{COLOURS[colour % 8]}" x="{x:.2f}" y="{y:.2f}" '
        f'width="{max(width, 0.5):.2f}" height="{height:.2f}"/>'
    )


def _category(document: Document, chart: Chart, row: Row, w: Words) -> str:
    value = row.get(chart.category)
    return DASH if value is None else w.value(column(document, chart.table, chart.category), value, row)


def _figure(row: Row, name: str) -> float | None:
    value = row.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _short(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
