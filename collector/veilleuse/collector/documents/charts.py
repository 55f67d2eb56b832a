# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Draw charts as SVG text, for reports and pages. No script; every text is escaped; no I/O.

`draw` is for HTML and PDF files: it sets colours and fonts as attributes, which a style sheet may override.
`columns` and `lines` are for pages, whose style sheet sets colours and fonts. A table with the same values
follows every drawing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from veilleuse.collector.documents.document import Chart, Document, Row, column
from veilleuse.collector.documents.text import DASH, Words, fitting_unit

COLOURS: Final = ("#0b62ad", "#b85000", "#2b7a35", "#5d6875", "#8645ad", "#007d83", "#a8285f", "#7d7000")
"""Colours c0 to c7 of the style sheets; tests hold them equal. Contrast on white: ≥ 3:1 (WCAG 2.1, 1.4.11).
"""


@dataclass(frozen=True, slots=True)
class Series:
    """A Series is one colour of a chart."""

    name: str
    values: tuple[float | None, ...]
    """One value per label; None = not known, nothing is drawn."""
    colour: int
    """Index in COLOURS, 0 to 7."""


def nice_ticks(maximum: float, count: int = 4) -> list[float]:
    """Return ticks from 0 to at least `maximum`, in round steps (1, 2, 2.5 or 5 × 10ⁿ).

    Returns 0 and 1 when `maximum` is not positive or not finite.
    """
    if not (math.isfinite(maximum) and maximum > 0):
        return [0.0, 1.0]
    raw = maximum / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    return [step * i for i in range(math.ceil(maximum / step - 1e-9) + 1)]


WIDTH: Final = 720
LEFT: Final = 88
"""Space for a vertical axis, in units of the viewBox."""
MARGIN: Final = 16
BAR: Final = 16
LABEL: Final = 20
"""Space for the label above the bars of a category."""
AXIS: Final = 34
HEIGHT: Final = 260
LONGEST: Final = 90
"""Maximum characters of a label; the table beside the chart has the full text."""
LETTER: Final = 10
"""Width of one letter of an axis; large enough for the larger letters of narrow screens."""
ROOM: Final = 84
"""Space for the value behind a bar."""


def draw(document: Document, number: int, chart: Chart, w: Words) -> Markup:
    """Draw one chart; `number` makes its element identifiers unique in the page."""
    rows = document.tables[chart.table]
    names = [_category(document, chart, row, w) for row in rows]
    series = [Series(label, values, i) for i, (label, values) in enumerate(_scaled(document, chart, w))]
    title, _ = w.text(chart.title)
    identifier = f"chart-{number}"
    draw_body = _over_time if chart.kind in ("line", "column") else _bars
    body, height = draw_body(names, series, chart.kind, w)
    alternative = escape(w("page.chart_alternative", title=title))
    return _svg(
        identifier, alternative, height, body, ' font-family="DejaVu Sans, sans-serif" font-size="12"'
    )


def _scaled(document: Document, chart: Chart, w: Words) -> Iterator[tuple[str, tuple[float | None, ...]]]:
    """Yield name and values of each series, all in the unit that fits the largest value."""
    rows = document.tables[chart.table]
    found = [[_figure(row, name) for row in rows] for name in chart.values]
    of = [column(document, chart.table, name) for name in chart.values]
    largest = max((abs(value) for values in found for value in values if value is not None), default=0.0)
    divisor, unit = fitting_unit(of[0].unit, largest)
    for one, values in zip(of, found, strict=True):
        label = f"{one.labels[w.language]} ({unit})" if unit else one.labels[w.language]
        yield label, tuple(None if value is None else value / divisor for value in values)


def legend(document: Document, chart: Chart, w: Words) -> list[tuple[int, str]]:
    """Return colour and name of each series."""
    return [(i, label) for i, (label, _) in enumerate(_scaled(document, chart, w))]


def swatch(colour: int, *, paper: bool = False) -> Markup:
    """Draw a coloured square for a legend.

    `paper`: without SVG, because a PDF would tag it as a figure without meaning.
    """
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
    parts = [_tick(zero + tick * scale, bottom, w.tick(tick), is_zero=tick == 0) for tick in ticks]
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


def _over_time(names: Sequence[str], series: Sequence[Series], kind: str, w: Words) -> tuple[list[str], int]:
    """Draw lines, or columns of one series with their values above."""
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
            f'<text text-anchor="end" x="{LEFT - 6}" y="{y + 4:.1f}">{escape(w.tick(tick))}</text>'
        )
    room = LETTER * (1 + max((len(_short(name, 12)) for name in names), default=0))
    every = 1 + int(room // step)  # Skip labels that would overlap.
    for i, name in enumerate(names):
        if i % every == 0:
            x = LEFT + (i + 0.5) * step
            parts.append(
                f'<text text-anchor="middle" x="{x:.1f}" y="{HEIGHT - 12}">{escape(_short(name, 12))}</text>'
            )
    if kind == "column":
        return parts + _columns_of(series[0], step, zero, scale, w), HEIGHT
    for one in series:
        points = [
            None if value is None else (LEFT + (i + 0.5) * step, zero - value * scale)
            for i, value in enumerate(one.values)
        ]
        parts += _run(one.colour, points)
    return parts, HEIGHT


def _columns_of(one: Series, step: float, zero: float, scale: float, w: Words) -> list[str]:
    parts = []
    for i, value in enumerate(one.values):
        if value is not None:
            x, y = LEFT + (i + 0.15) * step, zero - max(0.0, value) * scale
            parts.append(_rectangle(one.colour, x, y, 0.7 * step, abs(value) * scale))
            parts.append(
                f'<text text-anchor="middle" font-size="10" x="{x + 0.35 * step:.1f}" y="{y - 4:.1f}">'
                f"{escape(w.number(value))}</text>"
            )
    return parts


def _run(colour: int, points: Sequence[tuple[float, float] | None]) -> list[str]:
    """Draw a mark on each known point, and a line between neighbours that are both known."""
    parts = []
    for start, end in itertools.pairwise(points):
        if start is not None and end is not None:
            parts.append(
                f'<line class="l{colour}" stroke="{COLOURS[colour % 8]}" stroke-width="2" '
                f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'
            )
    return parts + [_rectangle(colour, x - 3, y - 3, 6, 6) for x, y in filter(None, points)]


def _reach(series: Sequence[Series], count: int, stacked: bool) -> tuple[float, float]:
    """Return the lowest and the highest value drawn, 0 included."""
    low = high = 0.0
    for i in range(count):
        values = [one.values[i] or 0.0 for one in series]
        if stacked:
            values = [sum(v for v in values if v < 0), sum(v for v in values if v > 0)]
        low, high = min(low, *values), max(high, *values)
    return low, high


def _axis(low: float, high: float) -> list[float]:
    """Return round steps from at most `low` ≤ 0 to at least `high` ≥ 0; 0 is one of them."""
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


def _svg(
    identifier: str,
    title: str,
    height: int,
    parts: Iterable[str],
    attributes: str = "",
    *,
    width: int = WIDTH,
) -> Markup:
    """Wrap the parts in an SVG element; `identifier` is the id of its title, which names the drawing."""
    name = escape(identifier)
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}" '
        f'xmlns="http://www.w3.org/2000/svg"{attributes}><title id="{name}">{escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def _rectangle(colour: int, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="c{colour % 8}" fill="{COLOURS[colour % 8]}" {_box(x, y, width, height)}/>'


def _box(x: float, y: float, width: float, height: float) -> str:
    """Return the attributes of a rectangle, at least 0.5 wide and high: small values stay visible."""
    return f'x="{x:.2f}" y="{y:.2f}" width="{max(width, 0.5):.2f}" height="{max(height, 0.5):.2f}"'


def _category(document: Document, chart: Chart, row: Row, w: Words) -> str:
    value = row.get(chart.category)
    return DASH if value is None else w.value(column(document, chart.table, chart.category), value, row)


def _figure(row: Row, name: str) -> float | None:
    value = row.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _short(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


# --- pages: the style sheet sets colours, lines and fonts

COLUMNS_HEIGHT: Final = 290
SMALL_WIDTH: Final = 440
SMALL_HEIGHT: Final = 170
SMALL_LEFT: Final = 62
SMALL_LABELS: Final = 8
"""Most labels of a small drawing that are all written; of more, every second one."""
RIGHT: Final = 8
TOP: Final = 16
UNIT: Final = 28
"""Space for the unit above an axis."""
BOTTOM: Final = 30


def columns(
    identifier: str,
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    write: Callable[[float], str],
    *,
    unit: str = "",
    every: int = 1,
    shorts: Sequence[str] = (),
) -> Markup:
    """Draw stacked columns over time.

    `write` formats the values of the axis; `unit` is written above the axis; every `every`-th label is
    written. `shorts`: labels for narrow screens.
    """
    totals = [sum(one.values[i] or 0.0 for one in series) for i in range(len(labels))]
    ticks = nice_ticks(max(totals, default=0.0))
    top = TOP + (UNIT if unit else 0)
    plot_width, plot_height = WIDTH - LEFT - RIGHT, COLUMNS_HEIGHT - top - BOTTOM
    step = plot_width / max(1, len(labels))
    scale = plot_height / ticks[-1]
    parts: list[str] = []
    if unit:
        parts.append(f'<text class="axis end" x="{LEFT - 6}" y="{TOP + 6}">{escape(unit)}</text>')
    for tick in ticks:
        y = top + plot_height - tick * scale
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis end" x="{LEFT - 6}" y="{y + 4:.1f}">{escape(write(tick))}</text>')
    for i, label in enumerate(labels):
        x, y = LEFT + i * step, float(top + plot_height)
        for one in series:
            value = one.values[i]
            if value is None or value <= 0:
                continue
            height = value * scale
            y -= height
            box = _box(x + step * 0.12, y, step * 0.76, height)
            parts.append(f'<rect class="c{one.colour % 8}" {box}/>')
        if i % every == 0:
            parts += _label(x + step / 2, COLUMNS_HEIGHT, label, shorts[i] if shorts else "")
    return _svg(f"{identifier}-title", title, COLUMNS_HEIGHT, parts)


def lines(
    identifier: str,
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    write: Callable[[float], str],
    *,
    target: float | None = None,
    shorts: Sequence[str] = (),
) -> Markup:
    """Draw lines over time, in a small drawing: gaps where a value is not known, and a dashed target.

    `write` formats the values of the axis; `shorts`: labels for narrow screens.
    """
    known = [value for one in series for value in one.values if value is not None]
    ticks = nice_ticks(max([*known, target or 0.0]), 3)
    plot_width, plot_height = SMALL_WIDTH - SMALL_LEFT - RIGHT, SMALL_HEIGHT - TOP - BOTTOM
    step, scale = plot_width / max(1, len(labels)), plot_height / ticks[-1]
    bottom = TOP + plot_height
    parts = []
    for tick in ticks:
        y = bottom - tick * scale
        parts.append(
            f'<line class="grid" x1="{SMALL_LEFT}" y1="{y:.1f}" x2="{SMALL_WIDTH - RIGHT}" y2="{y:.1f}"/>'
            f'<text class="axis end" x="{SMALL_LEFT - 6}" y="{y + 4:.1f}">{escape(write(tick))}</text>'
        )
    if target is not None:
        y = bottom - target * scale
        parts.append(
            f'<line class="target" x1="{SMALL_LEFT}" y1="{y:.1f}" x2="{SMALL_WIDTH - RIGHT}" y2="{y:.1f}"/>'
        )
    every = 1 if len(labels) <= SMALL_LABELS else 2
    for i, label in enumerate(labels):
        long = label if i % every == 0 else ""
        parts += _label(SMALL_LEFT + (i + 0.5) * step, SMALL_HEIGHT, long, shorts[i] if shorts else "")
    for one in series:
        points = [
            None if value is None else (SMALL_LEFT + (i + 0.5) * step, bottom - value * scale)
            for i, value in enumerate(one.values)
        ]
        parts += [
            f'<line class="l{one.colour % 8}" x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"/>'
            for a, b in itertools.pairwise(points)
            if a is not None and b is not None
        ]
        parts += [
            f'<circle class="c{one.colour % 8}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
            for x, y in filter(None, points)
        ]
    return _svg(f"{identifier}-title", title, SMALL_HEIGHT, parts, width=SMALL_WIDTH)


def _label(x: float, height: int, label: str, short: str = "") -> list[str]:
    """Write a label below an axis; `short`: the one for narrow screens."""
    return [
        f'<text class="axis middle{kind}" x="{x:.1f}" y="{height - 10}">{escape(text)}</text>'
        for kind, text in (((" long", label), (" short", short)) if short else (("", label),))
    ]
