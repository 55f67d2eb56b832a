# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The two drawings of the first page, each with its legend and the same values as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.documents.charts import Series, nice_ticks
from veilleuse.collector.model.figures import AUTRES
from veilleuse.collector.web.metrics.fleet import is_virtual
from veilleuse.collector.web.metrics.released_month import ON, REST, RowLabels, times_of
from veilleuse.collector.web.metrics.snapshot import Snapshot
from veilleuse.collector.web.text import PageText, energy_unit
from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import DeviceClass, Population, State

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


STATE_COLOURS = {
    State.ON_ACTIVE.value: 0,
    State.ON_IDLE.value: 1,
    ON: 2,
    State.ASLEEP.value: 5,
    State.OFF.value: 3,
    REST: 4,
    State.UNKNOWN.value: 7,
}
LADDER = tuple(Method)
"""What is known best lies at the bottom of a column."""
DASH = "–"


@dataclass(frozen=True, slots=True)
class PageTable:
    """The alternative to a chart, or a list of figures. The first cell of a row is its heading."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Legend:
    """One colour."""

    name: str
    colour: int
    hatched: bool


@dataclass(frozen=True, slots=True)
class PageChart:
    """A drawing, its legend and the same values as a table."""

    drawing: Markup
    legend: tuple[Legend, ...]
    table: PageTable


def energy_chart(look: Snapshot, w: PageText) -> PageChart | None:
    """Columns per hour of the current day; None when nothing was derived today."""
    rows = look.fleet.hours
    if not rows:
        return None
    starts = _hours(look)
    sums: defaultdict[tuple[DeviceClass, Method], defaultdict[int, int]]
    sums = defaultdict(lambda: defaultdict(int))
    for row in rows:
        device_class = look.fleet.hosts[row.host_id].facts.device_class
        sums[device_class, row.cell.method][row.start] += row.cell.energy_millijoules
    keys = sorted(sums, key=lambda key: (is_virtual(key[0]), key[0], LADDER.index(key[1])))
    whole = max(sum(sums[key].get(start, 0) for key in keys) for start in starts)
    scale, unit = energy_unit(whole)
    series = [
        Series(
            _series_name(*key, w),
            tuple(sums[key][s] / scale if s in sums[key] else None for s in starts),
            colour,
            hatched=key[1] not in MEASURED,
        )
        for colour, key in enumerate(keys)
    ]
    zone = ZoneInfo(look.fleet.time_zone)
    labels = [f"{datetime.fromtimestamp(s / MILLISECONDS_PER_SECOND, zone):%H}" for s in starts]
    drawing = columns("energy", w("energy.chart", unit=unit), labels, series, w.tick, unit=unit, every=3)
    table = PageTable(
        w("energy.table", unit=unit),
        (w("energy.hour"), *(one.name for one in series)),
        (
            *(
                (f"{label}:00", *(_cell(one.values[i], w) for one in series))
                for i, label in enumerate(labels)
                if any(one.values[i] is not None for one in series)
            ),
            (w("energy.sum"), *(w.number(sum(v or 0.0 for v in one.values)) for one in series)),
        ),
    )
    legend = tuple(Legend(one.name, one.colour, one.hatched) for one in series)
    return PageChart(drawing, legend, table)


def _hours(look: Snapshot) -> list[int]:
    """Unix milliseconds of the UTC hours of the current civil day: 23, 24 or 25."""
    first, last = (
        day_start_unix_milliseconds(day, look.fleet.time_zone)
        for day in (look.today, look.today + timedelta(days=1))
    )
    return list(range(first - first % MILLISECONDS_PER_HOUR, last, MILLISECONDS_PER_HOUR))


def _series_name(device_class: DeviceClass, method: Method, w: PageText) -> str:
    name = f"{w(f'device_class.{device_class.value}')} · {w(f'methods.{method.value}')}"
    return w("group.memo", name=name) if is_virtual(device_class) else name


def states_chart(look: Snapshot, w: PageText) -> PageChart | None:
    """One bar per kind of server today, then one per row of the last released month."""
    bars: list[tuple[str, dict[str, int]]] = []
    for virtual in (False, True):
        sums: defaultdict[str, int] = defaultdict(int)
        for row in look.fleet.today.sums:
            if is_virtual(look.fleet.hosts[row.host_id].facts.device_class) is virtual:
                sums[row.cell.state.value] += row.cell.milliseconds
        if sums:
            name = machines_name(Population.SERVER, virtual, w)
            bars.append((f"{name} · {w('indicators.today')}", dict(sums)))
    if look.month:
        for of, used in look.month.uses.items():
            if times := times_of(used):
                bars.append((f"{row_name(of, w)} · {w.month(look.month.first)}", times))
    return _states_chart(bars, w) if bars else None


def _states_chart(bars: Sequence[tuple[str, dict[str, int]]], w: PageText) -> PageChart:
    series = [
        Series(
            w(f"states.{state}"),
            tuple(sums[state] / MILLISECONDS_PER_HOUR if state in sums else None for _, sums in bars),
            colour,
            hatched=state == State.UNKNOWN,
        )
        for state, colour in STATE_COLOURS.items()
        if any(state in sums for _, sums in bars)
    ]
    names = [name for name, _ in bars]
    table = PageTable(
        w("states.table"),
        (w("states.group"), *(one.name for one in series)),
        tuple((name, *(_cell(one.values[i], w) for one in series)) for i, name in enumerate(names)),
    )
    legend = tuple(Legend(one.name, one.colour, one.hatched) for one in series)
    return PageChart(shares("states", w("states.chart"), names, series), legend, table)


def row_name(row: RowLabels, w: PageText) -> str:
    """Entity, population and class, in words."""
    if row.entity == AUTRES:
        group = f"{w('states.autres')} · {w(f'population.{row.population}')}"
        return group if row.device_class == AUTRES else f"{group} · {w(f'device_class.{row.device_class}')}"
    return f"{row.entity} · {class_name(row, w)}"


def class_name(row: RowLabels, w: PageText) -> str:
    """Population and class, in words."""
    return f"{w(f'population.{row.population}')} · {w(f'device_class.{row.device_class}')}"


def machines_name(population: Population, virtual: bool, w: PageText) -> str:
    """The physical or the virtual machines of a population, in words."""
    return w(f"group.virtual_{population.value}" if virtual else f"group.{population.value}")


def _cell(value: float | None, w: PageText) -> str:
    return DASH if value is None else w.number(value)
