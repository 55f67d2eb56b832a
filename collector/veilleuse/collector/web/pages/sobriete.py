# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the page of the sobriety indicators: a card each, with its value, target, months and worst places.

Those of machines are the API's answers to the reader. Those of the inventory are of what it lists today.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.documents.charts import Series, lines
from veilleuse.collector.documents.document import Row
from veilleuse.collector.documents.text import DASH, Words
from veilleuse.collector.indicators import TABLE, IndicatorInput, load_indicator
from veilleuse.collector.indicators.out_of_hours import OutOfHours
from veilleuse.collector.model.indicators import MILLISECONDS, Figure, is_reached
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR
from veilleuse.collector.model.query import AUTRES, Query
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.release.indicator_rows import IndicatorRow
from veilleuse.collector.reports.indicators import GroupFigure, inventory_figures
from veilleuse.collector.reports.indicators_document import figure_of, key_of
from veilleuse.collector.reports.readers import sobriety_sources_of, targets_of
from veilleuse.collector.web.access import Guard
from veilleuse.collector.web.api.resources import ResourceKind
from veilleuse.collector.web.pages.bilan import ENTITY
from veilleuse.collector.web.pages.frame import Look, is_limited
from veilleuse.collector.web.pages.indicators import (
    definition_of,
    format_figure,
    indicator_name,
    threshold_of,
)
from veilleuse.collector.web.pages.months import GridChart, Legend, newest_months, period_text, span_text
from veilleuse.collector.web.pages.parts import Grid, Head, cells
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Population

PATH: Final = "/sobriete"
MOST_WORST: Final = 3
_POPULATIONS: Final = (Population.WORKSTATION, Population.CLASSROOM, Population.SERVER)
_COLOURS: Final = {Population.WORKSTATION: 0, Population.CLASSROOM: 1, Population.SERVER: 4}
_OF_INVENTORY: Final = (IndicatorInput.DEVICES, IndicatorInput.FLEET, IndicatorInput.USERS)


@dataclass(frozen=True, slots=True)
class CardLine:
    """The value of one kind of machine or category."""

    name: str
    value: str
    notes: tuple[str, ...] = ()
    reached: bool | None = None
    """Whether the target is reached; None without a target or a value."""


@dataclass(frozen=True, slots=True)
class IndicatorCard:
    """One indicator."""

    identifier: str
    name: str
    definition: str
    period: str
    target: str
    lines: tuple[CardLine, ...]
    chart: GridChart | None
    worst: tuple[tuple[str, str, str], ...]
    """(entity, address of its page, value), the worst first."""
    worst_heading: str
    owner: str
    empty: str
    """What to do where there is no value."""


async def sobriete(look: Look) -> Mapping[str, object]:
    """Build the page."""
    w, months = look.w, await newest_months(look)
    k = look.settings.reporting.k_anonymity
    if not months:
        return {"cards": (), "empty": w("sobriete.empty", k=k), "span": ""}
    figures = await _released(look, months)
    inventory: tuple[GroupFigure, ...] = ()
    day = min(date(months[-1].first.year, 12, 31), look.today)
    sees_inventory = look.caller.may(Guard.FLEET) and not is_limited(look.account)
    if sees_inventory:
        inventory = await _inventory(look, months[-1])
    cards = tuple(
        _savings_card(look)
        if TABLE[identifier].made_of is IndicatorInput.ACTIONS
        else _inventory_card(identifier, inventory, look, day, sees_inventory=sees_inventory)
        if TABLE[identifier].made_of in _OF_INVENTORY
        else _card(identifier, figures, look)
        for identifier in TABLE
    )
    return {"cards": cards, "empty": "", "span": span_text(months, w)}


# --- figures of machines, as released


@dataclass(frozen=True, slots=True)
class ReleasedFigures:
    """Rows of the API's answers."""

    months: tuple[Slice, ...]
    year: tuple[Row, ...]
    """By population, of the newest year."""
    by_month: tuple[Row, ...]
    """By population and month."""
    by_entity: tuple[Row, ...]
    """By entity and population, of the newest month."""


async def _released(look: Look, months: tuple[Slice, ...]) -> ReleasedFigures:
    last = months[-1]
    first = max(months[0].first, date(last.first.year, 1, 1))

    async def rows(begin: date, *dimensions: str) -> tuple[Row, ...]:
        found = await look.document(ResourceKind.INDICATORS, Query(begin, last.end, dimensions))
        return tuple(row for row in found.tables["rows"] if row["level"] != "memo")

    return ReleasedFigures(
        months,
        await rows(first, "population"),
        await rows(months[0].first, "population", "month"),
        await rows(last.first, "entity", "population"),
    )


def _card(identifier: str, figures: ReleasedFigures, look: Look) -> IndicatorCard:
    w, meta = look.w, load_indicator(identifier).meta
    targets = targets_of(look.settings.indicators)
    year = _newest(_of(identifier, figures.year))
    last = figures.months[-1]
    goal = targets.out_of_hours_target_ratio if identifier == OutOfHours.meta.indicator else None
    target = year[0].get("threshold") if year else goal
    shown_target = (
        w("sobriete.target", value=_value(identifier, Figure(float(target), 0), w))
        if isinstance(target, int | float)
        else w("sobriete.threshold", text=threshold_of(identifier, w, targets))
        if w.has(f"sobriety.{identifier}_threshold")
        else w("sobriete.no_target")
    )
    worst, period = _worst(identifier, figures.by_entity, look), _period(year, w)
    return IndicatorCard(
        identifier,
        indicator_name(identifier, w),
        definition_of(identifier, w, targets),
        period,
        shown_target,
        tuple(_line(identifier, row, period, look) for row in year),
        _chart(identifier, figures, w),
        worst,
        w(f"sobriete.worst_{meta.direction}", month=w.month(last.first)) if worst else "",
        w.word("owner", meta.owner),
        "" if year else w("sobriete.nothing", k=look.settings.reporting.k_anonymity),
    )


def _period(rows: Sequence[Row], w: Words) -> str:
    """Write the months that these rows are made of; empty without any."""
    if not rows:
        return ""
    first = min(date.fromisoformat(str(row["period_from"])) for row in rows)
    end = max(date.fromisoformat(str(row["period_to"])) for row in rows)
    return period_text(first, end - timedelta(days=1), w)


def _of(identifier: str, rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["indicator"] == identifier]


def _newest(rows: Iterable[Row]) -> list[Row]:
    """Return the newest row of each population, in the order of the populations."""
    found: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: str(row["period_to"])):
        found[str(row["population"])] = row
    return [found[population] for population in _POPULATIONS if population in found]


def _line(identifier: str, row: Row, period: str, look: Look) -> CardLine:
    w, figure, population = look.w, figure_of(row), str(row["population"])
    notes: list[str] = []
    if figure.withheld:
        notes.append(w("sobriety.withheld", k=look.settings.reporting.k_anonymity))
    elif figure.value is not None or TABLE[identifier].days is not None:
        notes += _notes(identifier, row, w)
    if figure.incomplete:
        notes.append(w("sobriete.incomplete"))
    if (own := _period([row], w)) != period:
        notes.append(own)
    suspects = int(figure.details.get("suspects", 0))
    reached = is_reached(figure.value, figure.threshold, str(row["direction"]), suspects)
    value = _value(identifier, figure, w)
    if TABLE[identifier].days is not None and figure.value is not None:
        value, *notes = notes
    return CardLine(w.word("population", population), value, tuple(notes), reached)


def _value(identifier: str, figure: Figure, w: Words) -> str:
    """Write a value by its indicator's unit."""
    if figure.value is None:
        return w("sobriete.withheld") if figure.withheld else w("sobriety.unknown")
    meta = load_indicator(identifier).meta
    if meta.unit == "kWh":
        return w.energy(round(figure.value * MILLIJOULES_PER_KWH))
    if meta.unit == "ratio":
        return w.number(figure.value) if figure.counted_in == "W" else w.percent(figure.value)
    return w(f"sobriete.{meta.unit.replace(' ', '_')}", value=w.number(figure.value))


def _notes(identifier: str, row: Row, w: Words) -> Iterator[str]:
    figure = figure_of(row)
    if w.has(f"sobriety.{identifier}_note") or TABLE[identifier].days is not None:
        value, notes = format_figure(IndicatorRow(identifier, key_of(row), figure), w)
        told = (value, *notes) if TABLE[identifier].days is not None else notes
        yield from (one for one in told if one != DASH)
        return
    if "nights_on" in figure.details:
        yield w("sobriete.nights", nights=w.number(int(figure.details["nights_on"])))
    if "kwh" in figure.details:
        kwh = round(float(figure.details["kwh"]) * MILLIJOULES_PER_KWH)
        yield w("sobriete.drawn", energy=w.energy(kwh))
    if figure.counted_in == MILLISECONDS and "coverage_energy" in figure.details:
        yield w("sobriete.with_energy", share=w.percent(float(figure.details["coverage_energy"])))


def _chart(identifier: str, figures: ReleasedFigures, w: Words) -> GridChart | None:
    """Draw the months of each population; None with a single month."""
    rows, months = _of(identifier, figures.by_month), [one.first for one in figures.months]
    by_population = defaultdict[str, dict[date, Figure]](dict)
    for row in rows:
        by_population[str(row["population"])][date.fromisoformat(str(row["period_from"]))] = figure_of(row)
    shown = [one for one in _POPULATIONS if any(f.value is not None for f in by_population[one].values())]
    values = [
        figure.value for one in shown for figure in by_population[one].values() if figure.value is not None
    ]
    if len(values) <= len(shown):
        return None
    scale, write = _axis(identifier, rows, values, w)
    series = [
        Series(
            w.word("population", one),
            tuple(
                None if (value := _known(by_population[one].get(month))) is None else value * scale
                for month in months
            ),
            _COLOURS[one],
        )
        for one in shown
    ]
    target = next((figure_of(row).threshold for row in rows), None)
    drawing = lines(
        f"chart-{identifier}",
        w("sobriete.chart", name=indicator_name(identifier, w)),
        [w.short_month(one) for one in months],
        series,
        write,
        target=None if target is None else target * scale,
        shorts=[w.short_month(one)[0].upper() for one in months],
    )
    heads = (Head(w("months.month")), *(Head(one.name, is_number=True) for one in series))
    table = tuple(
        cells(
            w.month(month),
            *(
                _value(identifier, figure, w) if (figure := by_population[one].get(month)) else DASH
                for one in shown
            ),
        )
        for month in months
    )
    legend = tuple(Legend(one.name, one.colour) for one in series)
    return GridChart(drawing, legend, Grid(indicator_name(identifier, w), heads, table))


def _known(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _axis(
    identifier: str, rows: Sequence[Row], values: Sequence[float], w: Words
) -> tuple[float, Callable[[float], str]]:
    """Return the scale of an axis, and how its ticks are written."""
    if load_indicator(identifier).meta.unit == "kWh":
        is_large = max(values, default=0.0) >= 1_000
        unit = "MWh" if is_large else "kWh"
        return (0.001 if is_large else 1.0), lambda tick: f"{w.tick(tick)} {unit}"
    if any(row.get("counted_in") == "W" for row in rows):
        return 1.0, w.tick
    return 100.0, lambda tick: w("percent", number=w.tick(tick))


def _worst(identifier: str, rows: Iterable[Row], look: Look) -> tuple[tuple[str, str, str], ...]:
    """Return the entities whose value is farthest on the wrong side, in the newest month."""
    known = [
        (figure.value, row, figure)
        for row in _of(identifier, rows)
        if (figure := figure_of(row)).value and row.get("entity")
    ]
    is_lower = load_indicator(identifier).meta.direction == "lower"
    known.sort(key=lambda one: one[0] or 0.0, reverse=is_lower)
    entities = {str(row["entity"]) for _, row, _ in known}
    if len(entities) < 2:
        return ()
    several = len({row["population"] for _, row, _ in known}) > 1
    return tuple(
        (
            _place(row, look.w, several=several),
            "" if row["level"] == AUTRES else look.link(ENTITY, name=row["entity"]),
            _value(identifier, figure, look.w),
        )
        for _, row, figure in known[:MOST_WORST]
    )


def _place(row: Row, w: Words, *, several: bool) -> str:
    entity = str(row["entity"])
    name = entity.rpartition(ENTITY_SEPARATOR)[2]
    if row["level"] == AUTRES:
        name = w("actions.merged_all") if entity == AUTRES else w("actions.merged", place=name)
    return f"{name} ({w.word('population', str(row['population']))})" if several else name


# --- figures of the inventory


async def _inventory(look: Look, last: Slice) -> tuple[GroupFigure, ...]:
    """Compute I9 to I12 of the newest year with released months, as of today's inventory."""
    settings, today = look.settings, look.today
    first = date(last.first.year, 1, 1)
    query = Query(
        first,
        date(first.year + 1, 1, 1),
        ("population",),
        settings.reporting.k_anonymity,
        today,
    )

    def read(store: ReadStore) -> tuple[GroupFigure, ...]:
        sources = sobriety_sources_of(store, settings.reporting)
        return inventory_figures(sources, query, targets_of(settings.indicators))

    return await look.read(read)


def _inventory_card(
    identifier: str, figures: Iterable[GroupFigure], look: Look, day: date, *, sees_inventory: bool
) -> IndicatorCard:
    w, meta = look.w, load_indicator(identifier).meta
    found = [one for one in figures if one.meta.indicator == identifier]
    thresholds = {one.figure.threshold for one in found} - {None}
    target = w("sobriete.no_target")
    if len(thresholds) == 1:
        key = "target" if TABLE[identifier].is_threshold_a_goal else "lifetime"
        value = _value(identifier, Figure(thresholds.pop(), 0), w)
        target = w(f"sobriete.{key}", value=value)
    why = (
        "" if found else w(f"sobriete.no_{identifier}") if sees_inventory else w("sobriete.inventory_hidden")
    )
    return IndicatorCard(
        identifier,
        indicator_name(identifier, w),
        definition_of(identifier, w, targets_of(look.settings.indicators)),
        w("sobriete.inventory", day=w.day(day.isoformat())),
        target,
        tuple(_inventory_line(identifier, one, w) for one in found),
        None,
        (),
        "",
        w.word("owner", meta.owner),
        why,
    )


def _inventory_line(identifier: str, one: GroupFigure, w: Words) -> CardLine:
    figure, population = one.figure, one.key.population
    name = str(figure.details.get("category", "")) or (
        w.word("population", population)
        if population
        else w("sobriete.other" if TABLE[identifier].made_of is IndicatorInput.DEVICES else "sobriete.all")
    )
    notes = []
    if figure.numerator is not None and figure.denominator is not None:
        amounts = [w.number(round(number)) for number in (figure.numerator, figure.denominator)]
        notes.append(w(f"sobriete.{identifier}_counts", part=amounts[0], whole=amounts[1]))
    is_goal = TABLE[identifier].is_threshold_a_goal
    reached = is_reached(figure.value, figure.threshold, one.meta.direction) if is_goal else None
    return CardLine(name, _value(identifier, figure, w), tuple(notes), reached)


def _savings_card(look: Look) -> IndicatorCard:
    """Return the card of I14, whose figures stand beside the actions."""
    w, identifier = look.w, "I14"
    return IndicatorCard(
        identifier,
        indicator_name(identifier, w),
        definition_of(identifier, w, targets_of(look.settings.indicators)),
        "",
        w("sobriete.no_target"),
        (),
        None,
        (),
        "",
        w.word("owner", load_indicator(identifier).meta.owner),
        w("sobriete.savings"),
    )
