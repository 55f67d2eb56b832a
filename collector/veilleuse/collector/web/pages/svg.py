# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Charts as SVG text, drawn by the server: no script, colours from the style sheet, every text escaped. Pure.

A chart never stands alone: the page puts a table with the same numbers beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from markupsafe import Markup, escape

from veilleuse.collector.documents.drawing import Series, nice_ticks

__all__ = ["Series", "columns", "nice_ticks", "shares"]

WIDTH: Final = 720
HEIGHT: Final = 290
LEFT: Final = 88
RIGHT: Final = 8
TOP: Final = 16
UNIT: Final = 28
"""Room for the unit above an axis."""
BOTTOM: Final = 30
BAR: Final = 34
LABEL: Final = 30
"""Room for the label above a bar: its text is larger on narrow screens."""
LONGEST: Final = 54
"""Characters that fit above a bar on a narrow screen: 720 ÷ (24 × 0.55)."""
SEPARATOR: Final = " · "
"""Between the parts of a label."""
COLOURS: Final = 8
"""Classes c0 to c7 of the style sheet."""


def columns(
    identifier: str,
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    write: Callable[[float], str],
    *,
    unit: str = "",
    every: int = 1,
) -> Markup:
    """Stacked columns over time. `write` formats the axis; `unit` is written above it; every `every`-th label is written."""
    totals = [sum(one.values[i] or 0.0 for one in series) for i in range(len(labels))]
    ticks = nice_ticks(max(totals, default=0.0))
    top = TOP + (UNIT if unit else 0)
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - top - BOTTOM
    step = plot_width / max(1, len(labels))
    scale = plot_height / ticks[-1]
    parts = [_open(identifier, title, HEIGHT), _patterns(identifier)]
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
            parts.append(_rectangle(identifier, one, x + step * 0.12, y, step * 0.76, height))
        if i % every == 0:
            parts.append(
                f'<text class="axis middle" x="{x + step / 2:.1f}" y="{HEIGHT - 10}">{escape(label)}</text>'
            )
    parts.append("</svg>")
    return Markup("".join(parts))


def shares(identifier: str, title: str, labels: Sequence[str], series: Sequence[Series]) -> Markup:
    """One full-width bar per label, cut by each series' share of it. A label without any value has no bar."""
    height = TOP + len(labels) * (BAR + LABEL)
    parts = [_open(identifier, title, height), _patterns(identifier)]
    for i, label in enumerate(labels):
        top = TOP + i * (BAR + LABEL)
        parts += [
            f'<text class="{kind}" x="0" y="{top + 14}">{escape(text)}</text>' for kind, text in _above(label)
        ]
        total = sum(one.values[i] or 0.0 for one in series)
        x = 0.0
        for one in series:
            value = one.values[i]
            if value is None or value <= 0 or total <= 0:
                continue
            width = value / total * WIDTH
            parts.append(_rectangle(identifier, one, x, top + 22, width, BAR))
            x += width
    parts.append("</svg>")
    return Markup("".join(parts))


def _above(label: str) -> list[tuple[str, str]]:
    """(class, text) of what stands above a bar. A long label has a shorter one for narrow screens, without its first part: the
    table beside the chart has it whole."""
    short = label.partition(SEPARATOR)[2]
    if len(label) <= LONGEST or not short:
        return [("axis", label)]
    return [("axis long", label), ("axis short", short)]


def _open(identifier: str, title: str, height: int) -> str:
    name = escape(identifier)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-title" '
        f'xmlns="http://www.w3.org/2000/svg"><title id="{name}-title">{escape(title)}</title>'
    )


def _patterns(identifier: str) -> str:
    return (
        f'<defs><pattern id="{escape(identifier)}-hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect class="stripe" width="2" height="6"/></pattern></defs>'
    )


def _rectangle(identifier: str, one: Series, x: float, y: float, width: float, height: float) -> str:
    box = f'x="{x:.2f}" y="{y:.2f}" width="{max(width, 0.5):.2f}" height="{max(height, 0.5):.2f}"'
    drawn = f'<rect class="c{one.colour % COLOURS}" {box}/>'
    if one.hatched:
        drawn += f'<rect fill="url(#{escape(identifier)}-hatch)" {box}/>'
    return drawn
