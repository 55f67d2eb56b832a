# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the page of actions: what would save most, beside what was declared and measured since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from markupsafe import Markup, escape
from starlette.responses import Response

from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.documents.document import Document
from veilleuse.collector.documents.text import Words
from veilleuse.collector.model.indicators import Figure
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR
from veilleuse.collector.model.query import AUTRES, Basis, Query, is_within
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.readers import sobriety_sources_of, targets_of
from veilleuse.collector.reports.recommendations.document import (
    RecommendationWriter,
    recommendations_document,
)
from veilleuse.collector.reports.recommendations.facts import (
    DeclaredAction,
    FleetFacts,
    PlacedServer,
    read_facts,
    read_savings,
    read_servers,
)
from veilleuse.collector.reports.recommendations.priorities import DIMENSIONS, Recommendation, rank
from veilleuse.collector.web.api.resources import ResourceKind
from veilleuse.collector.web.pages.bilan import FORMATS
from veilleuse.collector.web.pages.entities.places import places_of
from veilleuse.collector.web.pages.frame import Look
from veilleuse.collector.web.pages.months import newest_months, span_text
from veilleuse.collector.web.pages.parts import PAGE_ROWS, Grid, Head, cells
from veilleuse.collector.web.pages.servers import ONE
from veilleuse.collector.web.problems import Problem
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Population

PATH: Final = "/actions"


@dataclass(frozen=True, slots=True)
class Priorities:
    """The recommendations that the reader may see, and what they are made of."""

    ranked: tuple[Recommendation, ...]
    facts: FleetFacts
    writer: RecommendationWriter
    answer: Document
    """The API's answer behind them."""


@dataclass(frozen=True, slots=True)
class ActionItem:
    """One recommendation, as the page shows it."""

    number: int
    branch: str
    """Entities above its own."""
    sentence: Markup
    amount: str
    share: float
    """Length of its bar, 0 to 1."""
    owner: str
    causes: str
    """The causes that are told, where there are several."""
    declared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ActionsPage:
    """Values of the template."""

    items: tuple[ActionItem, ...]
    intro: str
    notes: tuple[str, ...]
    branch: str
    branches: tuple[tuple[str, str], ...]
    """(value, name) of the choice of entities."""
    pages: tuple[tuple[str, str], ...]
    declared: Grid | None
    downloads: tuple[tuple[str, str], ...]
    empty: str


async def priorities_of(look: Look, months: Sequence[Slice], *, with_savings: bool) -> Priorities:
    """Rank what would save most in these released months, for the reader."""
    part, reporting = Slice(months[0].first, months[-1].end), look.settings.reporting
    answer = await look.document(ResourceKind.INDICATORS, Query(part.first, part.end, DIMENSIONS))

    def servers_in(store: ReadStore) -> tuple[PlacedServer, ...]:
        return read_servers(sobriety_sources_of(store, reporting), part)

    servers = (
        await look.kept("ranked servers", (part, look.today), lambda: look.read(servers_in))
        if look.sees_servers
        else None
    )
    savings = await savings_of(look, part) if with_savings else None

    def facts_in(store: ReadStore) -> FleetFacts:
        sources = sobriety_sources_of(store, reporting)
        return read_facts(sources, part, look.account.entities, servers=servers, savings=savings)

    facts, targets = await look.read(facts_in), targets_of(look.settings.indicators)
    ranked = rank(answer.tables["rows"], facts, targets, len(months))
    return Priorities(ranked, facts, RecommendationWriter(look.w, targets), answer)


async def savings_of(look: Look, part: Slice) -> Mapping[str, Figure]:
    """Return the measured saving of each action, for administrators."""
    reporting = look.settings.reporting
    kept = await look.read(lambda store: store.follows.actions())

    def read(store: ReadStore) -> Mapping[str, Figure]:
        return read_savings(sobriety_sources_of(store, reporting), part, reporting.k_anonymity)

    return await look.kept("savings", (part, kept), lambda: look.read(read)) if kept else {}


def link_of(look: Look, one: Recommendation, found: Priorities) -> Markup:
    """Write a recommendation whose place leads to its entity on the page of actions."""
    address = look.link(PATH, entity=one.key.entity if one.key.entity != AUTRES else None)
    return _with_place(one, found.writer, Markup('<a href="{}">{{}}</a>').format(address))


def _with_place(one: Recommendation, writer: RecommendationWriter, around: Markup) -> Markup:
    """Write the sentence with its place, or its server, inside an element."""
    place = escape(one.server or writer.place(one))
    return Markup(escape(writer.sentence(one)).replace(place, around.format(place), 1))


async def actions(look: Look) -> Mapping[str, object] | Response:
    """Build the page, or the file that `format` asks for."""
    months, form = await newest_months(look), look.parameter("format")
    if form and form not in FORMATS:
        raise Problem(400, "malformed", f"'{form}' is no value of 'format': use {', '.join(FORMATS)}")
    if not months:
        k = look.settings.reporting.k_anonymity
        return {"page": ActionsPage((), "", (), "", (), (), None, (), look.w("actions.empty", k=k))}
    found = await priorities_of(look, months, with_savings=look.is_admin)
    if branch := look.parameter("entity"):
        places = await look.read(lambda store: places_of(store, look))
        known = places.entities | {one.key.entity or "" for one in found.ranked}
        if not any(is_within(one, (branch,)) for one in known):
            raise Problem(404, "not_found", look.w("entity.unknown"), remedy=look.w("entity.choose"))
    if form:
        document = recommendations_document(
            _inside(found, branch), _actions_at(found, branch), found.writer, found.answer.head
        )
        if look.is_admin and found.facts.actions:
            # measured savings are not published, nor is a file with them
            document = replace(document, head={**document.head, BASIS: Basis.UNRELEASED.value})
        return await look.file(document, form, f"veilleuse-actions-{months[-1].first:%Y-%m}")
    return {"page": _page(look, found, months)}


def _page(look: Look, found: Priorities, months: Sequence[Slice]) -> ActionsPage:
    w, branch = look.w, look.parameter("entity")
    inside, actions_here = _inside(found, branch), _actions_at(found, branch)
    last = max(1, -(-len(inside) // PAGE_ROWS))
    number = look.whole_number("page", 1, 1, 10_000)
    first = (min(number, last) - 1) * PAGE_ROWS
    largest = max((one.yearly.value or 0.0 for one in inside), default=0.0)
    items = tuple(
        _item(rank, one, found.writer, largest, look)
        for rank, one in enumerate(inside[first : first + PAGE_ROWS], first + 1)
    )
    hidden = _hidden(found.answer)
    names = sorted({one.key.entity for one in found.ranked if one.key.entity and one.key.entity != AUTRES})
    pages = [(w("grid.before"), number - 1)] * (number > 1) + [(w("grid.after"), number + 1)] * (
        number < last
    )
    return ActionsPage(
        items,
        _intro(inside, months, w) if items or not hidden else "",
        tuple(_notes(look, found)),
        branch,
        tuple((name, name.replace(ENTITY_SEPARATOR, " › ")) for name in names),
        tuple((text, look.link(PATH, entity=branch or None, page=page)) for text, page in pages),
        _declared(look, found.writer, actions_here) if actions_here else None,
        tuple(
            (w(f"bilan.as_{form}"), look.link(PATH, entity=branch or None, format=form)) for form in FORMATS
        ),
        "" if items else _nothing(hidden, look),
    )


def _inside(found: Priorities, branch: str) -> list[Recommendation]:
    """Return the recommendations of an entity and all below it; all without one."""
    return [one for one in found.ranked if not branch or is_within(one.key.entity or "", (branch,))]


def _actions_at(found: Priorities, branch: str) -> list[DeclaredAction]:
    """Return the actions at sites with machines of an entity and all below it; all without one."""
    entities = (branch,) if branch else ()
    sites = frozenset[str]().union(*(found.facts.sites_of(entities, one) for one in Population))
    return [one for one in found.facts.actions if not branch or sites & set(one.action.sites)]


def _hidden(answer: Document) -> Counter[str]:
    """Return the number of months in which too few machines of a population stand behind I4."""
    return Counter(
        str(row["population"])
        for row in answer.tables.get("withheld", ())
        if row.get("reason") == "too_few" and "I4" in str(row.get("indicators", "")).split(", ")
    )


def _nothing(hidden: Mapping[str, int], look: Look) -> str:
    """Say why the list is empty: what is hidden is not zero."""
    k = look.settings.reporting.k_anonymity
    return look.w("actions.all_hidden", k=k) if hidden else look.w("actions.none")


def _intro(ranked: Sequence[Recommendation], months: Sequence[Slice], w: Words) -> str:
    kwh = sum(one.figure.value or 0.0 for one in ranked)
    return w(
        "actions.intro",
        span=span_text(months, w),
        energy=w.energy(round(kwh * MILLIJOULES_PER_KWH)),
        lines=w.count("actions.lines", sum(bool(one.figure.value) for one in ranked)),
    )


def _notes(look: Look, found: Priorities) -> Iterator[str]:
    w = look.w
    yield w("actions.by_entity")
    if found.facts.servers is None:
        yield w("actions.servers_hidden")
    withheld = sum(
        row["indicator"] == "I4" and bool(row.get("withheld")) for row in found.answer.tables["rows"]
    )
    if withheld:
        yield w.count("actions.withheld", withheld)
    for population, number in _hidden(found.answer).items():
        machines, k = w.word("population", population), look.settings.reporting.k_anonymity
        yield w.count("actions.hidden", number, machines=machines, k=k)


def _item(
    number: int, one: Recommendation, writer: RecommendationWriter, largest: float, look: Look
) -> ActionItem:
    entity, w = one.key.entity or "", writer.w
    branch = entity.rpartition(ENTITY_SEPARATOR)[0].replace(ENTITY_SEPARATOR, " › ")
    around = Markup("<strong>{}</strong>")
    if one.server:
        around = Markup('<strong><a href="{}">{{}}</a></strong>').format(look.link(ONE, id=one.server))
    causes = ", ".join(f"{cause} {share}" for cause, share in writer.causes(one))
    return ActionItem(
        number,
        branch,
        _with_place(one, writer, around),
        writer.amount(one),
        (one.yearly.value or 0.0) / largest if largest else 0.0,
        writer.owner(one),
        w("actions.causes", causes=causes) if ", " in causes else "",
        tuple(writer.declared(action, is_admin=look.is_admin) for action in one.actions),
    )


def _declared(look: Look, writer: RecommendationWriter, found: Sequence[DeclaredAction]) -> Grid:
    w = look.w

    def row(one: DeclaredAction) -> tuple[str, ...]:
        action, saving = one.action, writer.saving(one, is_admin=look.is_admin)
        if len(action.sites) > 1:
            saving = w("actions.of_sites", saving=saving, sites=w.number(len(action.sites)))
        return (action.what, ", ".join(action.sites), _day(action.from_day, w), saving)

    heads = tuple(Head(w(f"actions.{key}")) for key in ("action", "sites", "since", "saving"))
    rows = tuple(cells(*row(one)) for one in found)
    return Grid(w("actions.declared_caption"), heads, rows)


def _day(day: date, w: Words) -> str:
    return w.day(day.isoformat())
