# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the page of the REEN follow-up sheet: objectives with target and trend, downloads, templates.

The sheet is that of `veilleuse report reen`; readers get it without what only administrators may see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Final

from starlette.responses import Response

from veilleuse.collector.documents.document import FOR_PEOPLE, MEDIA_TYPES, Document, Row
from veilleuse.collector.documents.text import DASH, NO_BREAK, Words
from veilleuse.collector.indicators import NIGHTS, TABLE
from veilleuse.collector.inventory import actions_csv, plain_csv
from veilleuse.collector.model.actions import OBJECTIVES, ActionTable
from veilleuse.collector.model.query import TOTAL, Basis
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.readers import sobriety_sources_of, sources_of, targets_of
from veilleuse.collector.reports.reen import reen_document
from veilleuse.collector.reports.summaries.emissions import not_demonstrated_text
from veilleuse.collector.reports.summaries.reen import add_summary, scope_of
from veilleuse.collector.reports.summaries.rows import ends_of, interval_text
from veilleuse.collector.web.metrics.fleet_emissions import inputs_of_released
from veilleuse.collector.web.pages.bilan import FORMATS, years_of
from veilleuse.collector.web.pages.frame import Look
from veilleuse.collector.web.pages.indicators import indicator_name
from veilleuse.collector.web.pages.parts import (
    Grid,
    Head,
    PageCell,
    amounts_of,
    cells,
    grams_of,
    interval_column,
)
from veilleuse.collector.web.pages.reen.readers import LinesAlone, for_readers, without_names
from veilleuse.collector.web.problems import Problem
from veilleuse.wire.units import MILLIJOULES_PER_KWH

PATH: Final = "/reen"
TEMPLATES: Final[Mapping[str, Callable[[str], str]]] = {
    **dict.fromkeys(actions_csv.KINDS, actions_csv.template),
    **dict.fromkeys(plain_csv.KINDS, plain_csv.template),
}
"""Empty files to fill in: they hold nothing of this fleet."""
_ENDS: Final = (("95", "95 %"), ("_sample", "sample only"))
_KWH: Final = "kWh"
_KILOGRAMS: Final = "kgCO2e"
_RATIO: Final = "ratio"
_KEPT_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class ReenPage:
    """Values of the template."""

    year: int
    is_unreleased: bool
    tiles: tuple[tuple[str, str, str], ...]
    changes: tuple[str, ...]
    """What moved since the baselines, and what is missing."""
    objectives: tuple[tuple[str, Grid | None], ...]
    """(title, its lines); None for an objective without any."""
    measures: Grid | None
    perimeters: Grid | None
    bilan: Grid | None
    downloads: tuple[tuple[str, str], ...]
    templates: tuple[tuple[str, str, str, str], ...]
    """(name, what it is for, address, command that imports it)."""
    notes: tuple[str, ...]


async def reen(look: Look) -> Mapping[str, object] | Response:
    """Build the page, or the file that `format` or `template` asks for."""
    if name := look.parameter("template"):
        return _template(name)
    years = await look.read(lambda store: years_of(store, look.today))
    year = look.whole_number("year", years[0], years[-1], look.today.year)
    inputs = await look.read(partial(_inputs, look=look, years=range(years[-1], year + 1)))
    make = partial(look.read, partial(_sheet, look=look, year=year))
    document = await look.kept(f"reen {year} {look.is_admin}", inputs, make)
    await look.note(f"year={year}", sum(map(len, document.tables.values())))
    if form := look.parameter("format"):
        if form not in FORMATS:
            raise Problem(400, "malformed", f"'{form}' is no value of 'format': use {', '.join(FORMATS)}")
        shown = add_summary(document) if form in FOR_PEOPLE else document
        return await look.file(shown, form, f"veilleuse-reen-{year}")
    return {"page": _page(look, document, year), "years": years}


def _template(name: str) -> Response:
    if name not in TEMPLATES:
        raise Problem(404, "not_found", f"there is no template '{name}'")
    headers = {"content-disposition": f'attachment; filename="{name}.csv"'}
    return Response(TEMPLATES[name](name), 200, headers, media_type=MEDIA_TYPES["csv"])


def _inputs(store: ReadStore, look: Look, years: range) -> object:
    """Return what the sheet depends on; an administrator's has live data, and is kept for a minute."""
    if look.is_admin:
        return int(look.context.clock()) // _KEPT_SECONDS
    return (
        look.today,
        store.inventory.inventory_imported_on(),
        *(store.follows.lines(table) for table in ActionTable),
        *inputs_of_released(sources_of(store, look.settings.reporting), years),
    )


def _sheet(store: ReadStore, look: Look, year: int) -> Document:
    settings = look.settings
    sources = sobriety_sources_of(store, settings.reporting)
    if not look.is_admin:
        sources = replace(sources, follows=LinesAlone(sources.follows))
    period = date(year, 1, 1), date(year + 1, 1, 1)
    k = settings.reporting.k_anonymity
    document = reen_document(sources, *period, k, look.today, targets_of(settings.indicators))
    return add_summary(without_names(document) if look.is_admin else for_readers(document))


def _page(look: Look, document: Document, year: int) -> ReenPage:
    w, rows = look.w, document.tables["rows"]
    perimeters, summary = document.tables["perimeters"], document.summary
    return ReenPage(
        year,
        document.head.get(BASIS) != Basis.RELEASED.value and bool(perimeters),
        tuple(_tiles(rows, document.tables["measures"], perimeters, w)),
        tuple(w.text(one)[0] for one in summary.sentences) if summary else (),
        tuple((w.word("objective", one), _objective(look, one, rows)) for one in OBJECTIVES),
        _measures(document.tables["measures"], w),
        _perimeters(perimeters, w),
        _bilan(document.tables["bilan"], w),
        tuple((w(f"bilan.as_{form}"), look.link(PATH, year=year, format=form)) for form in FORMATS),
        tuple(
            (name, w(f"reen.{name}_text"), look.link(PATH, template=name), _import_of(name))
            for name in TEMPLATES
        ),
        tuple(w.text(one)[0] for one in document.assumptions),
    )


def _import_of(name: str) -> str:
    return f"veilleuse {'inventory' if name in plain_csv.KINDS else 'reen'} import {name}.csv --dry-run"


def _tiles(
    rows: Sequence[Row], measures: Sequence[Row], perimeters: Sequence[Row], w: Words
) -> Iterable[tuple[str, str, str]]:
    for row in perimeters:
        if row["perimeter"] == TOTAL:
            yield w("reen.use_phase"), amounts_of(row).emissions(w), interval_text(row, w)
    judged = [bool(row["reached"]) for row in rows if "reached" in row]
    if judged:
        told = w("reen.of", part=w.number(sum(judged)), whole=w.number(len(judged)))
        yield w("reen.targets"), told, w("reen.targets_note")
    yield w("reen.measures"), w.number(len(measures)), w("reen.measures_note")


def _objective(look: Look, objective: str, rows: Iterable[Row]) -> Grid | None:
    w = look.w
    found = tuple(
        cells(
            PageCell(_name(row, w), link=_definition(look, row), note=str(row.get("pilot", ""))),
            PageCell(_amount(row, "value", w), note=_why_not(row, look) or _interval(row, w)),
            _dated(row, "baseline", w),
            _goal(row, w),
            _trend_cell(row, w),
            PageCell(_state(row, w), note=w.word("status", str(row["status"])) if "status" in row else ""),
        )
        for row in rows
        if row["objective"] == objective and row.get("origin") != "missing"
    )
    keys = ("indicator", "value", "baseline", "target", "trend", "state")
    heads = tuple(Head(w(f"reen.{key}"), is_number=key in keys[1:5]) for key in keys)
    return Grid(w("reen.caption", objective=w.word("objective", objective)), heads, found) if found else None


def _state(row: Row, w: Words) -> str:
    if "reached" not in row and (suspects := int(str(row.get("suspects", 0)))):
        return w.count("sobriety.suspects", suspects)
    return w("reen.reached" if row["reached"] else "reen.not_reached") if "reached" in row else DASH


def _definition(look: Look, row: Row) -> str:
    indicator = str(row.get("indicator", ""))
    return f"{look.link('/methode')}#{indicator}" if indicator in TABLE else ""


def _name(row: Row, w: Words) -> str:
    indicator = str(row.get("indicator", ""))
    if indicator in TABLE:
        name = f"{indicator} · {indicator_name(indicator, w)}"
    else:
        name = w.word("name", str(row["name"])) if "name" in row else indicator
    details = [str(row["category"])] if "category" in row else []
    if "population" in row:
        details.append(w.word("population", str(row["population"])))
    elif scope := scope_of(row, w):
        details.append(scope)
    return f"{name} ({', '.join(details)})" if details else name


def _why_not(row: Row, look: Look) -> str:
    if row.get("reason") == "too_few":
        return look.w("reen.too_few", k=look.settings.reporting.k_anonymity)
    return look.w.word("reason", str(row["reason"])) if "reason" in row else ""


def _amount(row: Row, column: str, w: Words) -> str:
    """Write a number in the unit of its row."""
    value, unit = row.get(column), str(row.get("unit", ""))
    if not isinstance(value, int | float):
        return DASH
    if unit == _RATIO:
        return w.percent(value) if 0 <= value <= 1 and row["indicator"] != NIGHTS else w.number(value)
    if unit == _KWH and value >= 0:
        return w.energy(round(value * MILLIJOULES_PER_KWH))
    if unit == _KILOGRAMS and value >= 0:
        return w.grams(grams_of(value))
    return f"{w.number(value)}{NO_BREAK}{w.word('unit', unit)}" if unit else w.number(value)


def _interval(row: Row, w: Words) -> str:
    for end, kind in _ENDS:
        if f"value_lo{end}" in row and f"value_hi{end}" in row:
            low, high = (_amount(row, f"value_{one}{end}", w) for one in ("lo", "hi"))
            return w("amounts.interval", low=low, high=high, interval=w.word("interval", kind))
    return ""


def _dated(row: Row, what: str, w: Words) -> str:
    """Write a value with its year; the baseline made again by today's method where it is known."""
    restated = f"restated_{what}_value"
    text = _amount(row, restated if restated in row else f"{what}_value", w)
    return f"{text} ({row[f'{what}_year']})" if text != DASH and f"{what}_year" in row else text


def _goal(row: Row, w: Words) -> str:
    """Write the target, or the indicator's threshold where that is a goal."""
    if "target_value" in row:
        return _dated(row, "target", w)
    line = TABLE.get(str(row.get("indicator")))
    is_goal = line is not None and line.is_threshold_a_goal and "threshold" in row
    return w("reen.threshold", value=_amount(row, "threshold", w)) if is_goal else DASH


def _trend(row: Row) -> float | None:
    for column in ("restated_trend_ratio", "trend_ratio"):
        value = row.get(column)
        if isinstance(value, int | float):
            return float(value)
    return None


def _trend_cell(row: Row, w: Words) -> PageCell:
    """Write the trend, or in small words why it is not demonstrated."""
    trend, reason = _trend(row), row.get("not_demonstrated")
    note = not_demonstrated_text(str(reason), w) if reason else ""
    return PageCell(DASH if trend is None else _signed(trend, w), note=note)


def _signed(ratio: float, w: Words) -> str:
    return ("+" if ratio > 0 else "−" if ratio < 0 else "") + w.percent(abs(ratio))


def _measures(rows: Iterable[Row], w: Words) -> Grid | None:
    found = tuple(
        cells(
            PageCell(str(row.get("what") or row.get("action") or DASH), note=str(row.get("pilot", ""))),
            w.word("objective", str(row["objective"])) if "objective" in row else DASH,
            w.word("status", str(row["status"])) if "status" in row else DASH,
            " – ".join(w.day(str(row[key])) for key in ("from_day", "to_day") if key in row) or DASH,
            PageCell(_saving(row, "saving_kwh", w), note=_saving_interval(row, w)),
        )
        for row in rows
    )
    keys = ("measure", "objective", "status", "days", "saving")
    heads = tuple(Head(w(f"reen.{key}"), is_number=key == "saving") for key in keys)
    return Grid(w("reen.measures_caption"), heads, found) if found else None


def _saving(row: Row, column: str, w: Words) -> str:
    value = row.get(column)
    if not isinstance(value, int | float):
        return DASH
    return ("−" if value < 0 else "") + w.energy(round(abs(value) * MILLIJOULES_PER_KWH))


def _saving_interval(row: Row, w: Words) -> str:
    if "saving_lo95_kwh" not in row:
        return ""
    low, high = (_saving(row, f"saving_{end}95_kwh", w) for end in ("lo", "hi"))
    interval = w("amounts.interval", low=low, high=high, interval=w.word("interval", "95 %"))
    return interval if row.get("claimed") == "yes" else w("reen.not_claimed", interval=interval)


def _perimeters(rows: Iterable[Row], w: Words) -> Grid | None:
    rows = list(rows)
    head, intervals = interval_column(list(map(ends_of, rows)), w)
    lines = {
        str(row["perimeter"]): cells(
            w.word("perimeter", str(row["perimeter"])),
            amounts_of(row).emissions(w),
            amounts_of(row).energy(w),
            interval,
        )
        for row, interval in zip(rows, intervals, strict=True)
    }
    foot = lines.pop(TOTAL, ())
    heads = (
        Head(w("bilan.by_perimeter")),
        *(Head(w(f"bilan.{key}"), is_number=True) for key in ("emissions", "energy")),
        head,
    )
    return Grid(w("reen.perimeters_caption"), heads, tuple(lines.values()), foot) if lines else None


def _bilan(rows: Iterable[Row], w: Words) -> Grid | None:
    found = tuple(
        cells(
            w.word("item", str(row["item"])),
            str(row["year"]),
            w.word("part_of_bilan", str(row["part_of_bilan"])),
            amounts_of(row).emissions(w),
            w.percent(float(str(row["share_of_whole"]))) if "share_of_whole" in row else DASH,
        )
        for row in rows
    )
    keys = ("item", "year", "part", "emissions", "share")
    heads = tuple(Head(w(f"reen.{key}"), is_number=key in ("emissions", "share")) for key in keys)
    return Grid(w("reen.bilan_caption"), heads, found) if found else None
