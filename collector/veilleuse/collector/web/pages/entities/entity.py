# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the page of one entity's year: total, classes, months, indicators, what is below it, its sites.

Its figures are the answers to a reader of that entity alone: released months, whoever looks.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Final

from starlette.responses import Response

from veilleuse.collector.documents.document import Document, Row
from veilleuse.collector.documents.text import DASH, Words
from veilleuse.collector.indicators import TABLE
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR
from veilleuse.collector.model.query import AUTRES, Query, is_within
from veilleuse.collector.reports.summaries.rows import Ends, ends_text, sum_ends
from veilleuse.collector.web.api.resources import ResourceKind
from veilleuse.collector.web.pages.bilan import (
    ENTITY,
    FORMATS,
    badge_of,
    closing_of,
    coverage_of,
    ends_of_branches,
    number_of,
    with_summary,
    years_of,
)
from veilleuse.collector.web.pages.entities.places import Places, places_of
from veilleuse.collector.web.pages.frame import Look
from veilleuse.collector.web.pages.indicators import indicator_name
from veilleuse.collector.web.pages.months import period_text
from veilleuse.collector.web.pages.parts import (
    Amounts,
    Grid,
    Head,
    PageCell,
    amounts_of,
    cells,
    interval_column,
    paginate,
)
from veilleuse.collector.web.problems import Problem
from veilleuse.wire.units import MILLIJOULES_PER_KWH

PATH: Final = ENTITY
SITE: Final = "/site"
_POWER: Final = "W"
"""What I5 is counted in: a ratio of powers, which is no share."""
_KWH: Final = "kWh"
_RATIO: Final = "ratio"


@dataclass(frozen=True, slots=True)
class EntityPage:
    """Values of the template."""

    name: str
    title: str
    year: int
    badge: str
    """provisional or closed."""
    status: str
    """Of a closed year: when it was closed, and by whom."""
    trail: tuple[tuple[str, str], ...]
    """(name, address) of the branches above; the address is empty for this one."""
    tiles: tuple[tuple[str, str, str], ...]
    """(label, value, note)."""
    classes: Grid | None
    months: Grid | None
    children: Grid | None
    indicators: Grid | None
    sites: tuple[tuple[str, str], ...]
    """(name, address)."""
    downloads: tuple[tuple[str, str], ...]


async def entity(look: Look) -> Mapping[str, object] | Response:
    """Build the page; without a name, of all that the account sees."""
    years = await look.read(lambda store: years_of(store, look.today))
    year = look.whole_number("year", years[0], 2000, look.today.year)
    places = await look.read(lambda store: places_of(store, look))
    fleet = await look.document(ResourceKind.EMISSIONS, _query(year, "entity"))
    rows, name = fleet.tables["rows"], look.parameter("name")
    known = {one for row in rows if (one := entity_of(row))} | places.entities
    is_known = any(is_within(one, (name,)) for one in known)
    if name and not (is_known and is_within(name, look.account.entities)):
        raise Problem(404, "not_found", look.w("entity.unknown"), remedy=look.w("entity.choose"))
    by_class = await look.document(ResourceKind.EMISSIONS, _query(year, "device_class", name))
    if form := look.parameter("format"):
        if form not in FORMATS:
            raise Problem(400, "malformed", f"'{form}' is no value of 'format': use {', '.join(FORMATS)}")
        shown = await with_summary(look, by_class, _query(year, "device_class", name), form)
        return await look.file(shown, form, f"veilleuse-{year}-{_file_name(name)}")
    by_month = await look.document(ResourceKind.EMISSIONS, _query(year, "month", name))
    indicators = await look.document(ResourceKind.INDICATORS, _query(year, "", name))
    depth = len((name or common_branch(known)).split(ENTITY_SEPARATOR)) + 1 if known else 1
    below = _groups(rows, name, depth)
    branches = [one for one, same in below.items() if one not in ("", name) and len(same) > 1]
    branches.sort(key=lambda one: -_grams(below[one]))
    ends = {one: sum_ends(same) for one, same in below.items() if one not in branches}
    ends |= await ends_of_branches(look, branches, year)
    page = _page(look, year, name, (by_class, by_month, indicators), (below, ends), places)
    to_choose = sorted({*years, year}, reverse=True)
    return {"page": page, "years": {one: look.link(PATH, name=name or None, year=one) for one in to_choose}}


def _file_name(entity: str) -> str:
    """Return the last part of a path as letters, digits and hyphens of ASCII."""
    plain = unicodedata.normalize("NFKD", entity.rpartition(ENTITY_SEPARATOR)[2]).encode("ascii", "ignore")
    return "-".join(re.findall("[a-z0-9]+", plain.decode().lower())) or "entity"


def _query(year: int, dimension: str, name: str = "") -> Query:
    """Return the query of a year, as a reader of one entity where a name is given."""
    dimensions = (dimension,) if dimension else ()
    return Query(date(year, 1, 1), date(year + 1, 1, 1), dimensions, entities=(name,) if name else ())


def entity_of(row: Row) -> str:
    """Return the entity of a row; empty for what belongs to none, such as the losses of a server room."""
    name = str(row.get("entity") or "")
    return "" if name == AUTRES else name


def common_branch(entities: Iterable[str]) -> str:
    """Return the longest path that all entities have in common; empty without one."""
    shared: list[str] = []
    for parts in zip(*(one.split(ENTITY_SEPARATOR) for one in entities), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ENTITY_SEPARATOR.join(shared)


def _page(
    look: Look,
    year: int,
    name: str,
    documents: tuple[Document, Document, Document],
    below: tuple[Mapping[str, Sequence[Row]], Mapping[str, Ends | None]],
    places: Places,
) -> EntityPage:
    w, here = look.w, {"name": name or None, "year": year}
    by_class, by_month, indicators = documents
    totals = by_class.tables.get("totals", ())
    sites = sorted({site for one, site in places.sites if not name or is_within(one, (name,))})
    return EntityPage(
        name,
        name.rpartition(ENTITY_SEPARATOR)[2] or w("entity.all"),
        year,
        badge_of(by_class),
        closing_of(by_class, w),
        tuple(_trail(look, name, year)),
        tuple(_tiles(totals, w)),
        _classes(by_class.tables["rows"], w),
        _months(by_month.tables["rows"], w),
        _children(look, name, year, *below),
        indicator_grid(look, indicators.tables["rows"]),
        tuple((one, look.link(SITE, name=one)) for one in sites),
        tuple((w(f"bilan.as_{form}"), look.link(PATH, **here, format=form)) for form in FORMATS),
    )


def _trail(look: Look, name: str, year: int) -> Iterable[tuple[str, str]]:
    parts = name.split(ENTITY_SEPARATOR) if name else []
    for depth in range(1, len(parts) + 1):
        path = ENTITY_SEPARATOR.join(parts[:depth])
        may_read = not look.account.entities or is_within(path, look.account.entities)
        is_here = depth == len(parts)
        yield parts[depth - 1], look.link(PATH, name=path, year=year) if may_read and not is_here else ""


def _tiles(totals: Sequence[Row], w: Words) -> Iterable[tuple[str, str, str]]:
    if not totals:
        return
    whole = sum(map(amounts_of, totals), Amounts())
    yield w("bilan.total"), whole.emissions(w), ends_text(sum_ends(totals), w)
    yield w("bilan.total_energy"), whole.energy(w), ends_text(sum_ends(totals, "kwh"), w, "kwh")
    yield w("bilan.total_coverage"), coverage_of(totals, w), w("bilan.coverage_note")
    if machines := sum(number_of(row, "n_fleet") for row in totals):
        yield w("entity.machines"), w.number(round(machines)), w("entity.machines_note")


def _classes(rows: Iterable[Row], w: Words) -> Grid | None:
    """Return one line per class, the largest first."""
    groups = sorted(_by(rows, "device_class").items(), key=lambda one: -_grams(one[1]))
    largest = max((_grams(same) for _, same in groups), default=Fraction(0))
    head, intervals = interval_column([sum_ends(same) for _, same in groups], w)
    found = tuple(
        cells(
            w.word("device_class", name),
            _bar(same, largest, w),
            _whole(same).energy(w),
            interval,
            coverage_of(same, w),
        )
        for (name, same), interval in zip(groups, intervals, strict=True)
    )
    heads = (*_heads(("by_class", "emissions", "energy"), w), head, *_heads(("coverage",), w))
    return Grid(w("entity.classes"), heads, found) if found else None


def _months(rows: Iterable[Row], w: Words) -> Grid | None:
    """Return one line per month, in order."""
    groups = _by(rows, "period_from")
    largest = max((_grams(same) for same in groups.values()), default=Fraction(0))
    found = tuple(
        cells(
            w.month(date.fromisoformat(name)),
            _bar(same, largest, w),
            _whole(same).energy(w),
            coverage_of(same, w),
        )
        for name, same in sorted(groups.items())
    )
    return (
        Grid(w("entity.months"), _heads(("by_month", "emissions", "energy", "coverage"), w), found)
        if found
        else None
    )


def _groups(rows: Iterable[Row], name: str, depth: int) -> dict[str, list[Row]]:
    """Return the rows inside an entity by the first parts of their path; of all, by none too."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        one = entity_of(row)
        if is_within(one, (name,) if name else ()):
            groups[ENTITY_SEPARATOR.join(one.split(ENTITY_SEPARATOR)[:depth])].append(row)
    return dict(groups)


def _children(
    look: Look, name: str, year: int, groups: Mapping[str, Sequence[Row]], ends: Mapping[str, Ends | None]
) -> Grid | None:
    """Return one line per entity just below, the largest first; None where there is none."""
    w = look.w
    if not groups.keys() - {name}:
        return None
    largest, whole = max(map(_grams, groups.values())), sum(map(_grams, groups.values()))
    ordered = sorted(groups.items(), key=lambda one: (one[0] == name, -_grams(one[1])))
    head, intervals = interval_column([ends.get(path) for path, _ in ordered], w)
    found = tuple(
        cells(
            PageCell(path.rpartition(ENTITY_SEPARATOR)[2], link=look.link(PATH, name=path, year=year))
            if path != name
            else PageCell(w("entity.own" if name else "entity.no_entity")),
            _bar(same, largest, w),
            w.percent(float(_grams(same) / whole)) if whole else DASH,
            _whole(same).energy(w),
            interval,
            coverage_of(same, w),
        )
        for (path, same), interval in zip(ordered, intervals, strict=True)
    )
    heads = (*_heads(("by_entity", "emissions", "share", "energy"), w), head, *_heads(("coverage",), w))
    grid = Grid(w("entity.children"), heads, found)
    number = look.whole_number("page", 1, 1, 10_000)
    return paginate(grid, number, w, lambda page: look.link(PATH, name=name or None, year=year, page=page))


def indicator_grid(look: Look, rows: Iterable[Row]) -> Grid | None:
    """Return the indicators of machines, each with its months and linked to its definition; None without any.

    Months that withhold one divide it into rows of the others.
    """
    w, order = look.w, list(TABLE)
    shown = [row for row in rows if row.get("level") != "memo"]
    found = tuple(
        cells(
            PageCell(
                f"{row['indicator']} · {indicator_name(str(row['indicator']), w)}",
                link=f"{look.link('/methode')}#{row['indicator']}",
                note=_months_of(row, look),
            ),
            w.word("population", str(row.get("population", ""))),
            _value(row, look),
            w.number(round(number_of(row, "n"))) if row.get("n") else DASH,
        )
        for row in sorted(
            shown,
            key=lambda row: (
                order.index(str(row["indicator"])),
                *(str(row.get(name)) for name in ("population", "period_from")),
            ),
        )
    )
    heads = (
        Head(w("entity.indicator")),
        Head(w("entity.population")),
        *(Head(w(f"entity.{key}"), is_number=True) for key in ("value", "measured")),
    )
    return Grid(w("entity.indicators"), heads, found) if found else None


def _months_of(row: Row, look: Look) -> str:
    first, end = (date.fromisoformat(str(row[name])) for name in ("period_from", "period_to"))
    return period_text(first, min(end - timedelta(days=1), look.today), look.w)


def _value(row: Row, look: Look) -> str:
    w, value = look.w, row.get("value")
    if row.get("withheld"):
        return w("entity.withheld")
    if not isinstance(value, int | float):
        return DASH
    if row.get("unit") == _KWH:
        return w.energy(round(value * MILLIJOULES_PER_KWH))
    return (
        w.percent(value) if row.get("unit") == _RATIO and row.get("counted_in") != _POWER else w.number(value)
    )


def _by(rows: Iterable[Row], column: str) -> dict[str, list[Row]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[str(row.get(column))].append(row)
    return dict(groups)


def _whole(rows: Iterable[Row]) -> Amounts:
    return sum(map(amounts_of, rows), Amounts())


def _grams(rows: Iterable[Row]) -> Fraction:
    return _whole(rows).grams or Fraction(0)


def _bar(rows: Sequence[Row], largest: Fraction, w: Words) -> PageCell:
    amounts = _whole(rows)
    return PageCell(amounts.emissions(w), share=float(_grams(rows) / largest) if largest else 0.0)


def _heads(keys: Iterable[str], w: Words) -> tuple[Head, ...]:
    numbers = ("emissions", "share", "energy", "coverage")
    return tuple(Head(w(f"bilan.{key}"), is_number=key in numbers) for key in keys)
