# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the page of one site: its hours, entities and servers, and why its PCs have no published figure.

Accounts of administrators also see unreleased figures, marked so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from veilleuse.collector.calendars.files import span_text
from veilleuse.collector.documents.document import Row
from veilleuse.collector.documents.text import Words
from veilleuse.collector.model.calendars import in_force
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR
from veilleuse.collector.model.query import Query
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.reports.summaries.rows import ends_of
from veilleuse.collector.web.api.resources import ResourceKind
from veilleuse.collector.web.pages.bilan import coverage_of, years_of
from veilleuse.collector.web.pages.entities.entity import PATH as ENTITY
from veilleuse.collector.web.pages.entities.entity import SITE, indicator_grid
from veilleuse.collector.web.pages.entities.places import places_of
from veilleuse.collector.web.pages.frame import Look
from veilleuse.collector.web.pages.parts import (
    Grid,
    Head,
    PageCell,
    amounts_of,
    cells,
    interval_column,
    paginate,
)
from veilleuse.collector.web.problems import Problem
from veilleuse.wire.vocabulary import Population

PATH: Final = SITE
_TOO_SLOW: Final = "too_slow"
_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class SitePlace:
    """What the registry and the inventory say of a site."""

    site: Site | None
    """None: only the inventory knows it."""
    hours: tuple[tuple[str, ...], ...]
    """Open spans of each day of an ordinary week, Monday first; empty without a site."""


@dataclass(frozen=True, slots=True)
class SitePage:
    """Values of the template."""

    name: str
    year: int
    facts: tuple[tuple[str, str], ...]
    entities: tuple[tuple[str, str], ...]
    """(name, address)."""
    hours: Grid | None
    servers: Grid | None
    """Released indicators of its servers."""
    unreleased: Grid | None
    too_slow: str
    """Why the unreleased figures are not shown; empty when they are."""
    may_see_unreleased: bool


async def site(look: Look) -> Mapping[str, object]:
    """Build the page; without a name, the list of the sites."""
    places = await look.read(lambda store: places_of(store, look))
    names = sorted({name for _, name in places.sites})
    name = look.parameter("name")
    if not name:
        return {"page": None, "sites": _list(look, names)}
    if name not in names:
        raise Problem(404, "not_found", look.w("site.unknown"), remedy=look.w("site.choose"))
    year = (await look.read(lambda store: years_of(store, look.today)))[0]
    place = await look.read(lambda store: _place(store, look.today, name))
    entities = tuple(sorted(entity for entity, one in places.sites if one == name))
    period = date(year, 1, 1), date(year + 1, 1, 1)
    indicators = await look.document(ResourceKind.INDICATORS, Query(*period, ("site",), entities=entities))
    own = [row for row in indicators.tables["rows"] if row.get("site") == name]
    asked = Query(*period, ("site", "device_class"))
    unreleased, too_slow = await _unreleased(look, asked, name) if look.is_admin else ((), "")
    page = SitePage(
        name,
        year,
        tuple(_facts(place.site, look.w)),
        tuple((one.replace(ENTITY_SEPARATOR, " › "), look.link(ENTITY, name=one)) for one in entities),
        _hours(place, look.w),
        indicator_grid(look, [row for row in own if row.get("population") == Population.SERVER.value]),
        _figures(unreleased, year, look.w),
        too_slow,
        look.is_admin,
    )
    return {"page": page, "sites": None}


async def _unreleased(look: Look, query: Query, name: str) -> tuple[Sequence[Row], str]:
    """Return the site's rows of an administrator's answer, or why there are none."""
    try:
        found = await look.document(ResourceKind.EMISSIONS, query)
    except Problem as problem:
        if problem.kind != _TOO_SLOW:
            raise
        return (), problem.sentence(look.w)
    return [row for row in found.tables["rows"] if row.get("site") == name], ""


def _list(look: Look, names: Sequence[str]) -> Grid | None:
    w = look.w
    rows = tuple(cells(PageCell(one, link=look.link(PATH, name=one))) for one in names)
    number = look.whole_number("page", 1, 1, 10_000)
    grid = Grid(w("site.sites"), (Head(w("site.site")),), rows)
    return paginate(grid, number, w, lambda page: look.link(PATH, page=page)) if rows else None


def _place(store: ReadStore, today: date, name: str) -> SitePlace:
    found = next((one for one in store.data.sites() if one.site == name), None)
    if found is None:
        return SitePlace(None, ())
    calendar = in_force(store.data.calendars(found), today, Population.CLASSROOM).calendar
    return SitePlace(
        found,
        tuple(
            tuple(span_text(span) for span in calendar.open_spans if span.iso_weekday == day)
            for day in range(1, _DAYS + 1)
        ),
    )


def _facts(found: Site | None, w: Words) -> Iterable[tuple[str, str]]:
    if found is not None:
        yield w("site.zone"), found.zone
        yield w("site.time_zone"), found.time_zone


def _hours(place: SitePlace, w: Words) -> Grid | None:
    names = w.texts["day"]["weekdays"]
    rows = tuple(
        cells(names[day], ", ".join(spans) or w("site.closed")) for day, spans in enumerate(place.hours)
    )
    return Grid(w("site.hours"), (Head(w("site.day")), Head(w("site.open"))), rows) if rows else None


def _figures(rows: Sequence[Row], year: int, w: Words) -> Grid | None:
    """Return one line per row, the largest first."""
    ordered = sorted(rows, key=lambda row: -(amounts_of(row).grams or 0))
    head, intervals = interval_column(list(map(ends_of, ordered)), w)
    found = tuple(
        cells(
            w.word("device_class", str(row.get("device_class"))),
            amounts_of(row).emissions(w),
            amounts_of(row).energy(w),
            interval,
            coverage_of((row,), w),
        )
        for row, interval in zip(ordered, intervals, strict=True)
    )
    heads = (
        Head(w("bilan.by_class")),
        *(Head(w(f"bilan.{key}"), is_number=True) for key in ("emissions", "energy")),
        head,
        Head(w("bilan.coverage"), is_number=True),
    )
    return Grid(w("site.figures", year=year), heads, found) if found else None
