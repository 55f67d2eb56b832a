# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the page of the yearly figure: energy and emissions of the use phase, by group, as sorted bars.

Its rows and its downloads are the API's answer to the reader's question: released months, for all readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from fractions import Fraction
from typing import Final

from starlette.responses import Response

from veilleuse.collector.account.change import ChangeObstacle
from veilleuse.collector.documents.charts import Series, columns
from veilleuse.collector.documents.document import FOR_PEOPLE, RELEASED_UNTIL, UNDER_WAY_UNTIL, Document, Row
from veilleuse.collector.documents.text import DASH, Words
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.closed_years import YearState
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR
from veilleuse.collector.model.query import AUTRES, Query
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.exchange.numecoeval import DIMENSIONS, EQUIPMENT, equipment_file
from veilleuse.collector.reports.summaries import emissions as emissions_summary
from veilleuse.collector.reports.summaries.change import (
    BEFORE,
    MONTHS,
    YearChange,
    change_questions,
    compare_years,
)
from veilleuse.collector.reports.summaries.emissions import not_demonstrated_text
from veilleuse.collector.reports.summaries.rows import (
    Ends,
    ends_of,
    ends_text,
    number,
    observed_share,
    signed,
    status_of,
    sum_ends,
)
from veilleuse.collector.web.api.resources import ResourceKind
from veilleuse.collector.web.pages.frame import Look, attachment
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
from veilleuse.wire.units import GRAMS_PER_KILOGRAM
from veilleuse.wire.vocabulary import Population

PATH: Final = "/bilan"
ENTITY: Final = "/entite"
BY: Final = ("entity", "perimeter", "class", "month", "site")
"""Groupings, the first one by default."""
_DIMENSIONS: Final = {"class": "device_class"}
_COLUMNS: Final = {"class": "device_class", "month": "period_from"}
FORMATS: Final = ("pdf", "xlsx", "csv", "json")
_RELEASED: Final = "released"
_CLOSED: Final = (YearState.CLOSED_PROVISIONAL.value, YearState.CLOSED_DEFINITIVE.value)
_MOST_ASKED: Final = 6
"""Branches whose own figure is asked for its interval, the largest ones: each takes a part of a second."""
_ROUNDING: Final = 1e-6
"""Largest relative difference of a sum of rounded rows and their rounded total."""


@dataclass(frozen=True, slots=True)
class YearPair:
    """This year beside the same months of the one before."""

    months: str
    rows: tuple[tuple[str, str, str], ...]
    """(what, value, interval or nothing): before, now, the change and its parts."""
    share: str
    """Change ÷ the year before, with its sign."""


@dataclass(frozen=True, slots=True)
class BilanPage:
    """Values of the template."""

    year: int
    by: str
    title: str
    badge: str
    badge_text: str
    period: str
    status: str
    """Of a closed year: when it was closed, and by whom."""
    tiles: tuple[tuple[str, str, str], ...]
    """(label, value, note)."""
    grid: Grid | None
    months: object
    """Drawing by month; None where rows are not months."""
    comparison: YearPair | None
    why_not_compared: str
    downloads: tuple[tuple[str, str], ...]
    factors: tuple[str, ...]
    notes: tuple[str, ...]
    empty: str
    summed: str
    """Which intervals are not shown, and what an interval of several rows is."""


async def bilan(look: Look) -> Mapping[str, object] | Response:
    """Build the page, or the file that `format` asks for."""
    years = await look.read(lambda store: years_of(store, look.today))
    year = look.whole_number("year", years[0], 2000, look.today.year)
    by, form = look.choice("by", BY), look.parameter("format")
    if form == EQUIPMENT:
        return await _equipment(look, year)
    query = year_query(year, _DIMENSIONS.get(by, by))
    document = await look.document(ResourceKind.EMISSIONS, query)
    if form:
        if form not in FORMATS:
            allowed = ", ".join((*FORMATS, EQUIPMENT))
            raise Problem(400, "malformed", f"'{form}' is no value of 'format': use {allowed}")
        shown = await with_summary(look, document, query, form)
        return await look.file(shown, form, f"veilleuse-{year}-{by}")
    of_year = (
        document if by != "month" else await look.document(ResourceKind.EMISSIONS, year_query(year, BY[0]))
    )
    change = await year_change(look, of_year, year)
    rows = document.tables["totals" if by == "month" and document.tables.get("totals") else "rows"]
    groups = _groups(rows, by)
    branches = [one.name for one in groups if one.is_branch]
    ends = await ends_of_branches(look, branches, year)
    groups = [replace(one, ends=ends.get(one.name)) if one.is_branch else one for one in groups]
    page = _page(look, document, of_year.tables.get("totals", ()), groups, year, by, change)
    links = {one: look.link(PATH, year=one, by=by) for one in sorted({*years, year}, reverse=True)}
    return {"page": page, "years": links, "bys": BY}


async def _equipment(look: Look, year: int) -> Response:
    """Return the released months of a year as equipment for NumEcoEval. Raises Problem."""
    asked = Query(date(year, 1, 1), date(year + 1, 1, 1), DIMENSIONS)
    document = await look.document(ResourceKind.EMISSIONS, asked)
    try:
        made = equipment_file(document)
    except UsageError as error:
        raise Problem(422, "unanswerable", str(error)) from error
    since = f"-{made.first}" if made.first > asked.first else ""
    until = f"-{made.last}" if since or not made.is_whole_year else ""
    return attachment(made.content, "csv", f"veilleuse-{year}-{EQUIPMENT}{since}{until}")


async def ends_of_branches(look: Look, names: Sequence[str], year: int) -> dict[str, Ends]:
    """Return entity → interval of its page's total, for the first entities alone.

    The sum of the ends of its rows is another interval.
    """
    found: dict[str, Ends] = {}
    for name in names[:_MOST_ASKED]:
        query = replace(year_query(year, "device_class"), entities=(name,))
        totals = (await look.document(ResourceKind.EMISSIONS, query)).tables.get("totals", ())
        if len(totals) == 1 and (ends := ends_of(totals[0])) is not None:
            found[name] = ends
    return found


async def with_summary(look: Look, document: Document, query: Query, form: str) -> Document:
    """Return the document with its summary, for a format that shows one."""
    if form not in FOR_PEOPLE:
        return document
    answers = await look.groups(emissions_summary.questions(query, document.head), document.head.get(BASIS))
    return emissions_summary.add_summary(document, answers)


def year_query(year: int, dimension: str) -> Query:
    """Return the query of a year by one dimension."""
    return Query(date(year, 1, 1), date(year + 1, 1, 1), (dimension,))


def badge_of(document: Document) -> str:
    """Return whether the figures are provisional, closed or unreleased."""
    if document.head.get(BASIS) != _RELEASED:
        return "unreleased"
    return "closed" if document.head.get("state") == YearState.CLOSED_DEFINITIVE.value else "provisional"


def closing_of(document: Document, w: Words) -> str:
    """Say when a year was closed, and by whom; empty for an open one."""
    return w.text(status_of(document))[0] if document.head.get("state") in _CLOSED else ""


def years_of(store: ReadStore, today: date) -> tuple[int, ...]:
    """Return the years with released months or a closed figure, and this one, newest first."""
    closed = {one.year for one in store.closings.revisions()}
    return tuple(sorted({today.year, *store.publications.years(), *closed}, reverse=True))


async def year_change(look: Look, document: Document, year: int) -> YearChange | ChangeObstacle | None:
    """Return the change from the year before, or why it is not demonstrated; None without released months."""
    if document.head.get(BASIS) != _RELEASED or not document.tables.get("totals"):
        return None
    asked = change_questions(year_query(year, "perimeter"), document.head)
    found = {name: await look.document(ResourceKind.EMISSIONS, query) for name, query in asked.items()}
    # An administrator gets an unreleased answer where the first months of the year before are not released.
    later = {name: asked[name] for name, one in found.items() if one.head.get(BASIS) != _RELEASED}
    if later:
        found = {**found, **await look.groups(later, _RELEASED)}
    return compare_years(*(found.get(name) for name in (MONTHS, BEFORE)))


def _page(
    look: Look,
    document: Document,
    totals: Sequence[Row],
    groups: Sequence[_Group],
    year: int,
    by: str,
    change: YearChange | ChangeObstacle | None,
) -> BilanPage:
    w = look.w
    whole = sum(map(amounts_of, totals), Amounts())
    here = {"year": year, "by": by}
    badge = badge_of(document)
    return BilanPage(
        year,
        by,
        w("bilan.title", year=year),
        badge,
        w(f"bilan.badge_{badge}"),
        _period(document, w) if totals else "",
        closing_of(document, w),
        tuple(tiles_of(totals, w)),
        _grid(look, groups, whole, here) if groups else None,
        _months(groups, w) if by == "month" and groups else None,
        pair_of(change, w) if isinstance(change, YearChange) else None,
        not_demonstrated_text(change, w) if isinstance(change, ChangeObstacle) else "",
        tuple(
            (w(f"bilan.as_{form}"), look.link(PATH, **here | {"format": form}))
            for form in (*FORMATS, *((EQUIPMENT,) if badge != "unreleased" else ()))
        ),
        tuple(_factors(document, w)),
        tuple(w.text(one)[0] for one in document.assumptions),
        w("bilan.empty_site" if by == "site" else "bilan.empty"),
        " ".join(_interval_notes(groups, w)),
    )


def _interval_notes(groups: Sequence[_Group], w: Words) -> Iterable[str]:
    if any(one.is_branch and one.ends is None for one in groups):
        yield w("bilan.branches")
    if any(one.is_sum for one in groups):
        yield w("bilan.summed")


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of one bar."""

    name: str
    """Value of the column; empty for merged groups."""
    amounts: Amounts
    rows: tuple[Row, ...]
    ends: Ends | None
    is_sum: bool
    """True where the interval is a sum of others."""
    is_branch: bool = False
    """True for several rows of one entity, which has a page of its own."""
    is_room: bool = False
    """True for what server rooms draw beside the entities' servers."""


def _groups(rows: Sequence[Row], by: str) -> list[_Group]:
    """Return the groups: by month in order, else the largest first. Entities are those of the first fork."""
    found: dict[tuple[str, bool], list[Row]] = {}
    depth = _first_fork(rows) if by == "entity" else 0
    for row in rows:
        name = str(row.get(_COLUMNS.get(by, by)) or "")
        if depth and name != AUTRES:
            name = ENTITY_SEPARATOR.join(name.split(ENTITY_SEPARATOR)[:depth])
        is_room = by == "entity" and not name and row.get("population") == Population.SERVER
        found.setdefault((name, is_room), []).append(row)
    groups = [_group(name, tuple(same), by, is_room=is_room) for (name, is_room), same in found.items()]
    if by == "month":
        return sorted(groups, key=lambda one: one.name)
    return sorted(groups, key=lambda one: one.amounts.grams or Fraction(-1), reverse=True)


def _group(name: str, rows: tuple[Row, ...], by: str, *, is_room: bool) -> _Group:
    is_branch = by == "entity" and name not in ("", AUTRES) and len(rows) > 1
    ends = None if is_branch else sum_ends(rows)
    amounts = sum(map(amounts_of, rows), Amounts())
    return _Group(name, amounts, rows, ends, len(rows) > 1 and ends is not None, is_branch, is_room)


def _first_fork(rows: Iterable[Row]) -> int:
    """Return the number of parts after which the entities' paths first differ."""
    paths = [
        str(row["entity"]).split(ENTITY_SEPARATOR) for row in rows if row.get("entity") not in (None, AUTRES)
    ]
    shared = 0
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return shared + 1


def _grid(look: Look, groups: Sequence[_Group], whole: Amounts, here: Mapping[str, object]) -> Grid:
    w = look.w
    largest = max((one.amounts.grams or Fraction(0) for one in groups), default=Fraction(0))
    head, intervals = interval_column([one.ends for one in groups], w)
    rows = tuple(
        cells(
            _name(look, one, here),
            PageCell(
                one.amounts.emissions(w), share=float((one.amounts.grams or 0) / largest) if largest else 0.0
            ),
            _share(one.amounts, whole, w),
            one.amounts.energy(w),
            interval,
            coverage_of(one.rows, w),
        )
        for one, interval in zip(groups, intervals, strict=True)
    )
    shown = sum((one.amounts for one in groups), Amounts())
    page = look.whole_number("page", 1, 1, 10_000)
    foot = cells(w("bilan.sum"), shown.emissions(w), _share(shown, whole, w), shown.energy(w), "", "")
    heads = (
        Head(w(f"bilan.by_{here['by']}")),
        *(Head(w(f"bilan.{key}"), is_number=True) for key in ("emissions", "share", "energy")),
        head,
        Head(w("bilan.coverage"), is_number=True),
    )
    whole_grid = Grid(w("bilan.caption", year=here["year"]), heads, rows, foot)
    return paginate(whole_grid, page, w, lambda other: look.link(PATH, **here, page=other))


def _name(look: Look, one: _Group, here: Mapping[str, object]) -> PageCell:
    w, by = look.w, here["by"]
    if not one.name or one.name == AUTRES:
        return PageCell(w("summary.rooms" if one.is_room else "bilan.merged"))
    if by == "entity":
        text = one.name.rpartition(ENTITY_SEPARATOR)[2]
        return PageCell(text, link=look.link(ENTITY, name=one.name, year=here["year"]))
    if by == "month":
        return PageCell(w.month(date.fromisoformat(one.name)))
    words = {"class": "device_class"}.get(str(by), str(by))
    return PageCell(w.word(words, one.name))


def _share(part: Amounts, whole: Amounts, w: Words) -> str:
    if not whole.grams or part.grams is None:
        return DASH
    share = float(part.grams / whole.grams)
    return w.percent(1.0 if abs(share - 1) < _ROUNDING else share)


def coverage_of(rows: Iterable[Row], w: Words) -> str:
    """Write the observed share of the machines' time, weighted by it; DASH where no machine has an agent."""
    share = observed_share(rows)
    return DASH if share is None else w.percent(share)


def number_of(row: Row, name: str) -> float:
    """Return a number of a row, 0 where it has none: for sums only."""
    return number(row, name) or 0.0


def _months(groups: Sequence[_Group], w: Words) -> object:
    values = tuple(None if one.amounts.grams is None else float(one.amounts.grams) for one in groups)
    scale, unit = (1_000_000, "t") if max(filter(None, values), default=0.0) >= 1_000_000 else (1_000, "kg")
    scaled = tuple(None if value is None else value / scale for value in values)
    labels = [w.short_month(date.fromisoformat(one.name)) for one in groups]
    title = w("bilan.chart", unit=f"{unit}CO₂e")
    return columns("months", title, labels, [Series(title, scaled, 0)], w.tick, unit=f"{unit}CO₂e")


def tiles_of(totals: Sequence[Row], w: Words) -> Iterable[tuple[str, str, str]]:
    """Yield (label, value, note) of emissions, energy and coverage; nothing without totals."""
    if not totals:
        return
    whole = sum(map(amounts_of, totals), Amounts())
    yield w("bilan.total"), whole.emissions(w), ends_text(sum_ends(totals), w)
    yield w("bilan.total_energy"), whole.energy(w), ends_text(sum_ends(totals, "kwh"), w, "kwh")
    yield w("bilan.total_coverage"), coverage_of(totals, w), w("bilan.coverage_note")


def pair_of(change: YearChange, w: Words) -> YearPair:
    """Write a demonstrated change: activity at the old factor, then the factor's change."""
    kilograms = (change.change_kgco2e, change.activity_kgco2e, change.factor_kgco2e)
    rows = (
        (w("bilan.before"), w.kilograms(change.before_kgco2e), ends_text(change.before_ends, w)),
        (w("bilan.now"), w.kilograms(change.now_kgco2e), ends_text(change.now_ends, w)),
        *(
            (w(f"bilan.{key}"), signed(w.kilograms(abs(value)), value), "")
            for key, value in zip(("change", "activity", "factor_effect"), kilograms, strict=True)
        ),
    )
    months = w("bilan.same_months", months=w.months(change.first, change.end - timedelta(days=1)))
    share = signed(w.percent(abs(change.change_kgco2e) / change.before_kgco2e), change.change_kgco2e)
    return YearPair(months, rows, share)


def _period(document: Document, w: Words) -> str:
    begin, end = (date.fromisoformat(str(document.head[name])) for name in ("from", "to"))
    first = min((str(row["period_from"]) for row in document.tables.get("totals", ())), default=str(begin))
    released, under_way = (document.head.get(name) for name in (RELEASED_UNTIL, UNDER_WAY_UNTIL))
    last = end - timedelta(days=1)
    if released:
        last = date.fromisoformat(str(released)) - timedelta(days=1)
    elif under_way:
        last = date.fromisoformat(str(under_way))
    is_to_come = last < end - timedelta(days=1)
    if first <= str(begin) and not is_to_come:
        return w("bilan.whole_year")
    months = period_text(date.fromisoformat(first), last, w)
    return w("bilan.until" if released and is_to_come else "bilan.part_of_year", months=months)


def _factors(document: Document, w: Words) -> Iterable[str]:
    for row in document.tables.get("factors", ()):
        grams = w.number(float(str(row["factor_kgco2e_per_kwh"])) * GRAMS_PER_KILOGRAM)
        text = w(
            "factor.text",
            grams=grams,
            zone=row["zone"],
            factor_id=row["factor_id"],
            source=row["factor_source"],
        )
        provisional = w("factor.provisional", year=row["year"]) if row.get("provisional") else ""
        yield f"{text} {provisional}".strip()
