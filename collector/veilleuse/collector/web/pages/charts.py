# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the two charts of the first page, each with a legend and a table of the same values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from markupsafe import Markup

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.documents.charts import Series, columns, shares
from veilleuse.collector.documents.text import DASH, Words, energy_unit
from veilleuse.collector.model.query import AUTRES
from veilleuse.collector.web.metrics.released_month import ON, REST, RowLabels, times_of
from veilleuse.collector.web.metrics.servers import is_virtual
from veilleuse.collector.web.metrics.snapshot import Snapshot
from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import DeviceClass, Population, State

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
"""Methods from the bottom of a column to its top: the best known first."""


@dataclass(frozen=True, slots=True)
class PageTable:
    """Alternative to a chart, or a list of figures. The first cell of a row is its heading."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Legend:
    """Entry of one colour."""

    name: str
    colour: int
    hatched: bool


@dataclass(frozen=True, slots=True)
class PageChart:
    """A drawing, its legend and a table of the same values."""

    drawing: Markup
    legend: tuple[Legend, ...]
    table: PageTable


def energy_chart(snapshot: Snapshot, w: Words) -> PageChart | None:
    """Draw columns per hour of the current day; None when nothing was derived today."""
    sums = snapshot.fleet.hours
    if not sums:
        return None
    starts = _hours(snapshot)
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
    zone = ZoneInfo(snapshot.fleet.time_zone)
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


def _hours(snapshot: Snapshot) -> list[int]:
    """Return Unix milliseconds of the UTC hours of the current civil day: 23, 24 or 25 hours."""
    first, last = (
        day_start_unix_milliseconds(day, snapshot.fleet.time_zone)
        for day in (snapshot.today, snapshot.today + timedelta(days=1))
    )
    return list(range(first - first % MILLISECONDS_PER_HOUR, last, MILLISECONDS_PER_HOUR))


def _series_name(device_class: DeviceClass, method: Method, w: Words) -> str:
    name = f"{w.word('device_class', device_class.value)} · {w.word('method', method.value)}"
    return w("group.memo", name=name) if is_virtual(device_class) else name


def states_chart(snapshot: Snapshot, w: Words) -> PageChart | None:
    """Draw one bar per kind of server today, then one per row of the last released month."""
    bars: list[tuple[str, dict[str, int]]] = []
    for virtual in (False, True):
        sums: defaultdict[str, int] = defaultdict(int)
        for (group, state), milliseconds in snapshot.fleet.today.states.items():
            if is_virtual(group.device_class) is virtual:
                sums[state.value] += milliseconds
        if sums:
            name = machines_name(Population.SERVER, virtual, w)
            bars.append((f"{name} · {w('indicators.today')}", dict(sums)))
    if snapshot.month:
        for of, used in snapshot.month.uses.items():
            if times := times_of(used):
                bars.append((f"{row_name(of, w)} · {w.month(snapshot.month.first)}", times))
    return _states_chart(bars, w) if bars else None


def _states_chart(bars: Sequence[tuple[str, dict[str, int]]], w: Words) -> PageChart:
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


def row_name(row: RowLabels, w: Words) -> str:
    """Name a row by its entity, population and class."""
    if row.entity == AUTRES:
        group = f"{w('states.autres')} · {w.word('population', row.population)}"
        return (
            group if row.device_class == AUTRES else f"{group} · {w.word('device_class', row.device_class)}"
        )
    return f"{row.entity} · {class_name(row, w)}"


def class_name(row: RowLabels, w: Words) -> str:
    """Name a row by its population and class."""
    return f"{w.word('population', row.population)} · {w.word('device_class', row.device_class)}"


def machines_name(population: Population, virtual: bool, w: Words) -> str:
    """Name the physical or the virtual machines of a population."""
    return w(f"group.virtual_{population.value}" if virtual else f"group.{population.value}")


def _cell(value: float | None, w: Words) -> str:
    return DASH if value is None else w.number(value)
