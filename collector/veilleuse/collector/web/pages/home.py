# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the first page: the year to date, its months, what to do, and what is wrong now.

Its figures are the API's answers to the reader; the live fleet is one tile, for readers of all of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from veilleuse.collector.account.change import ChangeObstacle
from veilleuse.collector.account.equivalences import equivalences
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.documents.document import Document
from veilleuse.collector.documents.text import Words
from veilleuse.collector.model.query import Query
from veilleuse.collector.release.tables import released_on
from veilleuse.collector.reports.recommendations.priorities import gather_servers
from veilleuse.collector.reports.summaries.change import YearChange
from veilleuse.collector.reports.summaries.emissions import not_demonstrated_text
from veilleuse.collector.web.access import Guard
from veilleuse.collector.web.api.resources import ResourceKind
from veilleuse.collector.web.metrics.released_month import last_month
from veilleuse.collector.web.metrics.samples import energy_today
from veilleuse.collector.web.metrics.snapshot import Snapshot
from veilleuse.collector.web.pages import bilan
from veilleuse.collector.web.pages.actions import link_of, priorities_of
from veilleuse.collector.web.pages.conditions import find_conditions, waiting_silences
from veilleuse.collector.web.pages.frame import Look, is_limited
from veilleuse.collector.web.pages.months import (
    GridChart,
    emissions_chart,
    newest_months,
    period_text,
    span_text,
)
from veilleuse.collector.web.pages.parts import Amounts, amounts_of
from veilleuse.collector.web.problems import Problem
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

MOST_ACTIONS: Final = 5
_NO_FACTOR: Final = 422
"""Status of a figure that cannot be computed: a grid zone has no factor."""


@dataclass(frozen=True, slots=True)
class HomeTile:
    """One figure with its basis, and where to read more."""

    label: str
    value: str
    """Empty where words tell all."""
    notes: tuple[str, ...] = ()
    path: str = ""
    """Page that tells more, linked where the reader may open it."""


@dataclass(frozen=True, slots=True)
class HomePage:
    """Values of the template."""

    title: str
    entities: tuple[str, ...]
    """Entities that the account is limited to."""
    period: str = ""
    badge: str = ""
    tiles: tuple[HomeTile, ...] = ()
    chart: GridChart | None = None
    actions: tuple[Markup, ...] = ()
    conditions: tuple[str, ...] = ()
    has_live: bool = False
    """True where the reader sees the whole fleet, and so what is wrong with it."""
    waiting: tuple[str, ...] = ()
    """Sentences about machines that have not called yet, and are not judged."""
    is_new: bool = False
    """True where no machine is enrolled yet."""
    equivalents: tuple[tuple[str, str, str], ...] = ()
    """(number, unit, source)."""
    total: str = ""
    empty: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    """Name → address: of the year by entity and by month."""


async def home(look: Look) -> Mapping[str, object]:
    """Build the page."""
    w, months, snapshot = look.w, await newest_months(look), await look.snapshot()
    entities = look.account.entities if is_limited(look.account) else ()
    has_live = look.caller.may(Guard.FLEET) and not entities
    year = (months[-1].end - timedelta(days=1)).year if months else look.today.year
    page = HomePage(
        w("home.title", year=year),
        entities,
        tiles=tuple(_live(snapshot, w)) if has_live else (),
        conditions=tuple(find_conditions(snapshot, look.settings.reporting.k_anonymity, w))
        if has_live
        else (),
        has_live=has_live,
        waiting=tuple(waiting_silences(snapshot, w)) if has_live else (),
        is_new=not snapshot.fleet.places,
    )
    if not months:
        empty = _why_empty(look, snapshot) if has_live else w("home.no_month")
        return {"page": replace(page, empty=empty)}
    try:
        page = await _with_figures(look, page, months, year, snapshot.month_facts.held)
    except Problem as problem:
        if problem.status != _NO_FACTOR:
            raise
        # What is wrong must be seen all the same.
        page = replace(page, empty=w("home.no_factor"))
    return {"page": page, "span": span_text(months, w)}


def _why_empty(look: Look, snapshot: Snapshot) -> str:
    """Say why no month is released yet, and what to do."""
    w = look.w
    if not snapshot.fleet.places:
        return w("home.first_steps")
    begun, held = snapshot.day_start.pcs.first_enrolled_on, snapshot.month_facts.held
    if held:
        return w("home.held", of_month=w.of_month(held[-1]))
    if begun is None:
        return w("home.first_month", day=w.long_day(released_on(snapshot.today)))
    first, end = last_month(snapshot.today)
    if begun >= end:
        return w("home.not_yet", of_month=w.of_month(begun), day=w.long_day(released_on(begun)))
    return w("home.waiting", of_month=w.of_month(first))


async def _with_figures(
    look: Look, page: HomePage, months: Sequence[Slice], year: int, held: Collection[date]
) -> HomePage:
    """Add the figures of the released months, and what to do."""
    w = look.w
    of_year = await look.document(ResourceKind.EMISSIONS, bilan.year_query(year, "perimeter"))
    change = await bilan.year_change(look, of_year, year)
    by_month = await look.document(ResourceKind.EMISSIONS, Query(months[0].first, months[-1].end, ("month",)))
    found = await priorities_of(look, months, with_savings=False)
    shortened = gather_servers(found.ranked, found.facts, found.writer.targets)
    totals = of_year.tables.get("totals", ())
    return replace(
        page,
        period=_period(months[-1].end, year, held, w),
        badge=bilan.badge_of(of_year),
        tiles=(*_year_tiles(look, of_year, change, year), *page.tiles),
        chart=emissions_chart("months", _by_month(by_month), w) if totals else None,
        actions=tuple(link_of(look, one, found) for one in shortened[:MOST_ACTIONS]),
        equivalents=tuple(_equivalents(of_year, w)),
        total=sum(map(amounts_of, totals), Amounts()).emissions(w),
        empty="" if totals else w("home.no_figure"),
        links={
            w("home.by_entity"): look.link(bilan.PATH, year=year, by="entity"),
            w("home.by_month"): look.link(bilan.PATH, year=year, by="month"),
        },
    )


def _period(end: date, year: int, held: Collection[date], w: Words) -> str:
    if end == date(year + 1, 1, 1):
        return w("bilan.whole_year")
    last, day = end - timedelta(days=1), released_on(end)
    months = period_text(date(year, 1, 1), last, w)
    following = w.month(end).partition(" ")[0]
    if end in held:
        return w("home.until_held", months=months, next=following)
    return w("home.until", months=months, next=following, day=w.long_day(day))


def _year_tiles(
    look: Look, document: Document, change: YearChange | ChangeObstacle | None, year: int
) -> Iterator[HomeTile]:
    w, totals = look.w, document.tables.get("totals", ())
    if not totals:
        return
    first, *others = bilan.tiles_of(totals, w)
    yield HomeTile(first[0], first[1], (first[2],), bilan.PATH)
    yield HomeTile(*others[0][:2], (others[0][2],))
    label = w("home.change", year=year - 1)
    if isinstance(change, YearChange):
        pair = bilan.pair_of(change, w)
        whole, activity, factor = (value for _, value, _ in pair.rows[2:])
        parts = w("home.parts", change=whole, activity=activity, factor=factor)
        yield HomeTile(label, pair.share, (parts, pair.months), bilan.PATH)
    elif change is not None:  # words alone, and small: no sign that people would take for a change
        yield HomeTile(label, "", (not_demonstrated_text(change, w),), bilan.PATH)
    yield HomeTile(*others[1][:2], (others[1][2],), "/qualite")


def _by_month(document: Document) -> dict[date, Amounts]:
    found = defaultdict[date, Amounts](Amounts)
    for row in document.tables.get("totals", ()):
        month = date.fromisoformat(str(row["period_from"])).replace(day=1)
        found[month] = found[month] + amounts_of(row)
    return dict(found)


def _equivalents(document: Document, w: Words) -> Iterator[tuple[str, str, str]]:
    """Yield (number, unit, source) of each comparison with a single total, rounded by the account."""
    if document.tables.get("equivalents"):
        (total,) = document.tables["totals"]
        for one in equivalences(float(str(total["kgco2e_total"]))):
            yield w.plain_number(one.shown), one.unit[w.language], one.source


def _live(snapshot: Snapshot, w: Words) -> Iterator[HomeTile]:
    """Yield the tile of the physical servers now; none without one."""
    active = snapshot.fleet.servers.active(virtual=False)
    if not active:
        return
    power = snapshot.fleet.power_of(virtual=False)
    energy, _ = energy_today(snapshot, virtual=False)
    missing, _ = snapshot.fleet.without_power(virtual=False)
    notes = [w.count("count.server", active)]
    label, value = w("home.servers"), w("none.unknown")
    if power:
        zone = ZoneInfo(snapshot.fleet.time_zone)
        clock = datetime.fromtimestamp(power.end_unix_milliseconds / MILLISECONDS_PER_SECOND, zone)
        label, value = w("home.servers_at", time=f"{clock:%H:%M}"), w.watts(power.watts)
    if energy is not None:
        notes.append(w("home.since_midnight", energy=w.energy(energy)))
    if missing:
        notes.append(w.count("home.without_power", missing))
    yield HomeTile(label, value, (" · ".join(notes),), "/serveurs")
