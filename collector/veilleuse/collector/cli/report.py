# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse report emissions|indicators|reen|numecoeval|indicative|attribution`.

Figures of any period, read beside the running collector.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Annotated, Final, TypeAlias

import typer

from veilleuse.collector import clock
from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.calendars.periods import Slice, slices
from veilleuse.collector.cli.output import refuse_terminal, write_output
from veilleuse.collector.cli.progress import shown_step
from veilleuse.collector.cli.shared import APP, ConfigOption, load_settings, parse_date, plural, print_note
from veilleuse.collector.closed_years.signed_year import add_sign_off
from veilleuse.collector.documents.document import (
    BINARY,
    FOR_PEOPLE,
    FORMATS,
    LANGUAGES,
    RELEASED_UNTIL,
    Document,
    Head,
    Value,
    add_under_way,
    renderer,
)
from veilleuse.collector.documents.text import words
from veilleuse.collector.errors import UsageError
from veilleuse.collector.grid.ledger import DIMENSIONS as HOURLY
from veilleuse.collector.model.query import DEFAULT_DIMENSIONS, DIMENSIONS, MAX_LEVEL, Basis, Query
from veilleuse.collector.ports.store import Reader
from veilleuse.collector.release.figures import find_stretches
from veilleuse.collector.release.own_rows import add_own_rows
from veilleuse.collector.reports import indicators_document as indicators_report
from veilleuse.collector.reports.attribution import attribution_document
from veilleuse.collector.reports.emissions import (
    MOST_DAYS_BALANCED,
    emissions_report_of,
    prepare_for_publication,
)
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.exchange import numecoeval as equipment
from veilleuse.collector.reports.indicative import indicative_report_of
from veilleuse.collector.reports.indicators import compute_indicators, indicator_rows, sum_for_indicators
from veilleuse.collector.reports.indicators_document import (
    servers_document,
    with_rows,
    withheld_group_row,
)
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.reports.machines import machines_of, server_rows, stretch_of
from veilleuse.collector.reports.readers import sobriety_sources_of, sources_of, targets_of
from veilleuse.collector.reports.recommendations.document import (
    RecommendationWriter,
    recommendations_document,
)
from veilleuse.collector.reports.recommendations.facts import read_facts, read_savings, read_servers
from veilleuse.collector.reports.recommendations.priorities import DIMENSIONS as RANKED_BY
from veilleuse.collector.reports.recommendations.priorities import rank
from veilleuse.collector.reports.reen import reen_document
from veilleuse.collector.reports.summaries import emissions as emissions_summary
from veilleuse.collector.reports.summaries import indicators as indicators_summary
from veilleuse.collector.reports.summaries import reen as reen_summary
from veilleuse.collector.reports.summaries.answers import answer_all
from veilleuse.collector.settings import CollectorSettings, is_french
from veilleuse.collector.store import open_reader
from veilleuse.wire.units import MILLISECONDS_PER_HOUR

app = typer.Typer(**APP)
From = Annotated[str, typer.Option("--from", metavar="DATE", help="first day, e.g. 2026-01-01")]
To = Annotated[str, typer.Option("--to", metavar="DATE", help="day after the last, e.g. 2027-01-01")]
GroupBy = Annotated[str, typer.Option(help=f"comma-separated: {', '.join(DIMENSIONS)}")]
Level = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MAX_LEVEL,
        help="parts of an entity's path that divide rows: 2 = one row of 'Métropole > Collèges' and all below it",
    ),
]
Format = Annotated[str, typer.Option("--format", help=" or ".join(FORMATS))]
Output = Annotated[
    str, typer.Option("-o", "--output", metavar="FILE", help="where to write; - is standard output")
]
Language = Annotated[
    str, typer.Option(help=f"language of labels, notes and numbers for people: {' or '.join(LANGUAGES)}")
]
BasisOption = Annotated[
    str,
    typer.Option(
        "--basis",
        help="released: months as published, the same for all readers; unreleased: from machines' present data, with sites "
        "and causes of changes; observed: only what was measured of released months",
    ),
]
_GROUP_BY: Final = ",".join(DEFAULT_DIMENSIONS)
_COMPUTING: Final = "computing the report"
_Head: TypeAlias = "dict[str, Value | list[str] | None]"
_Write: TypeAlias = Callable[[Document], None]


@app.callback()
def report() -> None:
    """Write figures of a period to a file; works while the collector runs."""


@app.command("emissions")
def emissions(
    first: From,
    end: To,
    group_by: GroupBy = _GROUP_BY,
    level: Level = None,
    form: Format = "csv",
    output: Output = "-",
    language: Language = LANGUAGES[0],
    tree: Annotated[
        str,
        typer.Option(
            help="then: machines in the entity and site of that time; now: in their present ones (pro forma)"
        ),
    ] = "then",
    basis: BasisOption = Basis.RELEASED.value,
    public: Annotated[
        bool,
        typer.Option(
            "--public",
            help="only sums of released months, which may be published beside them",
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write energy and emissions of the use phase. With coverage, uncertainty, factor and method of each."""
    settings = load_settings(config)
    if tree not in ("then", "now"):
        raise UsageError(f"--tree '{tree}' is neither 'then' nor 'now'")
    query = replace(
        _query(settings, first, end, group_by, level), current_tree=tree == "now", basis=_basis_of(basis)
    )
    write = _make_writer(form, language, output)
    random = settings.reporting.random_roll_out
    with shown_step(_COMPUTING), open_reader(settings.data_dir) as store:
        sources = sources_of(store, settings.reporting)
        made = emissions_report_of(sources, query, random_roll_out=random)
        _note_if_unreleased(sources, query, made.document.head)
        made = prepare_for_publication(made) if public else made
        document = add_own_rows(made.document, sources.published, query)
        document = add_sign_off(document, made.signed_year, made.statement.totals, public=public)
        if form in FOR_PEOPLE:
            document = _add_emissions_summary(sources, query, document, random_roll_out=random)
    write(document)
    is_released = RELEASED_UNTIL in made.document.head
    _print_notes(made.document.head, 0 if is_released else len(made.statement.withheld))
    for warning in made.warnings:
        print(warning["fr" if is_french() else "en"], file=sys.stderr)


def _add_emissions_summary(
    sources: Sources, query: Query, document: Document, *, random_roll_out: bool
) -> Document:
    asked = emissions_summary.questions(query, document.head)
    answers = answer_all(sources, asked, document.head.get(BASIS), random_roll_out=random_roll_out)
    return emissions_summary.add_summary(document, answers)


@app.command("indicators")
def indicators(
    first: From,
    end: To,
    group_by: GroupBy = _GROUP_BY,
    level: Level = None,
    form: Format = "csv",
    output: Output = "-",
    language: Language = LANGUAGES[0],
    basis: BasisOption = Basis.RELEASED.value,
    servers: Annotated[
        bool,
        typer.Option("--servers", help="I6, I7 and I8 of each server: for operations, not to be published"),
    ] = False,
    actions: Annotated[
        bool,
        typer.Option(
            "--actions",
            help="what would save most, ranked by avoidable kWh, server by server too: for operations, not to be published",
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Write the sobriety indicators. With thresholds, coverage and who can act on each."""
    write, settings = _make_writer(form, language, output), load_settings(config)
    if servers and actions:
        raise UsageError("--servers and --actions are two reports: ask for one of them")
    query = replace(_query(settings, first, end, group_by, level), basis=_basis_of(basis))
    with shown_step(_COMPUTING):
        made = (
            make_recommendations(settings, query, language)
            if actions
            else make_indicators(settings, query, servers=servers)
        )
        if form in FOR_PEOPLE and not servers and not actions:
            asked = indicators_summary.questions(query)
            made = indicators_summary.add_summary(
                made, {name: make_indicators(settings, one) for name, one in asked.items()}
            )
    write(made)
    _print_notes(made.head, sum("reason" not in row for row in made.tables.get("withheld", ())))


@app.command("reen")
def reen(
    first: From,
    end: To,
    form: Format = "csv",
    output: Output = "-",
    language: Language = LANGUAGES[0],
    config: ConfigOption = None,
) -> None:
    """Write the follow-up sheet of the REEN strategy. Objectives 1° to 6°, measures, use phase, bilan."""
    settings, write = load_settings(config), _make_writer(form, language, output)
    with shown_step(_COMPUTING):
        made = reen_sheet(settings, _begun(first), parse_date("--to", end))
    write(reen_summary.add_summary(made) if form in FOR_PEOPLE else made)
    _print_notes(made.head, 0)


@app.command("numecoeval")
def numecoeval(
    first: From, end: To, level: Level = None, output: Output = "-", config: ConfigOption = None
) -> None:
    """Write a released year as equipment for NumEcoEval. Groups for G4IT, never machines."""
    settings = load_settings(config)
    query = _query(settings, first, end, ",".join(equipment.DIMENSIONS), level)
    random = settings.reporting.random_roll_out
    with shown_step(_COMPUTING), open_reader(settings.data_dir) as store:
        found = emissions_report_of(sources_of(store, settings.reporting), query, random_roll_out=random)
        made = equipment.equipment_file(found.document)
    write_output(made.content, output, binary=False)
    _print_notes(found.document.head, 0)
    if not made.is_whole_year:
        print_note(
            f"note: the kWh are of {made.first} to {made.last}, and NumEcoEval reads them as those of a year"
        )
    if count := made.machines_without_energy:
        print_note(
            f"note: the report has no energy for {count} {plural(count, 'machine')}: NumEcoEval takes its own reference"
        )


@app.command("indicative")
def indicative(
    first: From,
    end: To,
    group_by: Annotated[str, typer.Option(help=f"comma-separated: {', '.join(HOURLY)}")] = _GROUP_BY,
    series: Annotated[str | None, typer.Option(help="series of the grid (default: intensity.series)")] = None,
    form: Format = "csv",
    output: Output = "-",
    language: Language = LANGUAGES[0],
    config: ConfigOption = None,
) -> None:
    """Write emissions by hour, with the grid's intensity. Indicatif, hors bilan: servers, classrooms."""
    settings = load_settings(config)
    query = _query(settings, first, end, group_by)
    write = _make_writer(form, language, output)
    with shown_step(_COMPUTING), open_reader(settings.data_dir) as store:
        found, document = indicative_report_of(store.data, query, series or settings.intensity.series)
    write(document)
    _print_notes(document.head, len(found.ledger.withheld))


@app.command("attribution")
def attribution(
    host: Annotated[str, typer.Option(metavar="HOST", help="agent id, or its first digits")],
    first: From,
    end: To,
    form: Format = "csv",
    output: Output = "-",
    language: Language = LANGUAGES[0],
    config: ConfigOption = None,
) -> None:
    """Share the energy of a server between its services and guests.

    Shares follow CPU time; idle energy is a row of its own.
    """
    settings = load_settings(config)
    write = _make_writer(form, language, output)
    since, until = _begun(first), parse_date("--to", end)
    with shown_step(_COMPUTING), open_reader(settings.data_dir) as store:
        document = attribution_document(store.data, host, since, until, clock.unix_milliseconds())
    write(document)


def make_indicators(settings: CollectorSettings, query: Query, *, servers: bool = False) -> Document:
    """Return the report of the indicators; `servers`: of the same query, server by server.

    Raises UsageError when days of the period are gone.
    """
    targets = targets_of(settings.indicators)
    with open_reader(settings.data_dir) as store:
        sources = sobriety_sources_of(store, settings.reporting)
        head = _head(store.data, query)
        if servers:
            stretch = stretch_of(query)
            machines = machines_of(sources, stretch, sources.base.hosts, sources.base.assets)
            left_out = ("group_by", "level", "k_anonymity")
            head = {name: value for name, value in head.items() if name not in left_out}
            return servers_document(server_rows(machines, targets, data=str(head["data"])), head)
        sums = sum_for_indicators(sources.base, query)
        found = compute_indicators(sources, query, targets, sums)
    data = str(head["data"])
    document = indicators_report.document(
        indicator_rows(sums, targets, data), sums.withheld, {**head, **sums.head}
    )
    rows = [indicators_report.row(one.meta, one.key, one.figure, data=data) for one in found.figures]
    until_today = add_under_way(replace(document, head=head, tables={"rows": rows}), query.today)
    document = with_rows(
        add_under_way(document, query.today),
        until_today.tables["rows"],
        [withheld_group_row(*lacking) for lacking in found.withheld.items()],
    )
    return replace(document, assumptions=(*document.assumptions, *sums.notes))


def make_recommendations(settings: CollectorSettings, query: Query, language: str) -> Document:
    """Return what would save most in the whole months inside the query's period.

    Raises UsageError without a whole month, or when days of the period are gone.
    """
    targets = targets_of(settings.indicators)
    query = replace(query, dimensions=RANKED_BY, level=None)
    first, end = stretch_of(query).months
    if first == end:
        raise UsageError(f"no whole month has ended between {query.first} and {query.end}: ask for more")
    with open_reader(settings.data_dir) as store:
        sources = sobriety_sources_of(store, settings.reporting)
        head = _head(store.data, query)
        sums = sum_for_indicators(sources.base, query)
        part = Slice(first, end)
        facts = read_facts(
            sources,
            part,
            servers=read_servers(sources, part),
            savings=read_savings(sources, part, query.k_anonymity),
        )
        found = compute_indicators(sources, query, targets, sums) if not sums.is_released else None
    rows = [
        *indicator_rows(sums, targets, str(head["data"])),
        *(
            indicators_report.row(one.meta, one.key, one.figure, data=str(head["data"]))
            for one in (found.figures if found else ())
        ),
    ]
    writer = RecommendationWriter(words(language), targets)
    ranked = rank(rows, facts, targets, len(slices(first, end, by_month=True)))
    return recommendations_document(ranked, facts.actions, writer, {**head, **sums.head})


def _basis_of(text: str) -> Basis:
    try:
        return Basis(text)
    except ValueError:
        raise UsageError(f"--basis '{text}' is none of {', '.join(Basis)}") from None


def _begun(first: str) -> date:
    """Return the date of --from. Raises UsageError for another text, or a day to come."""
    day = parse_date("--from", first)
    if day > clock.today():
        raise UsageError(
            f"--from {first} is in the future: today is {clock.today()}, choose a period that has begun"
        )
    return day


def _query(
    settings: CollectorSettings, first: str, end: str, group_by: str, level: int | None = None
) -> Query:
    """Return the query of --from, --to and --group-by as typed. Raises UsageError."""
    query = Query(
        _begun(first),
        parse_date("--to", end),
        tuple(part.strip() for part in group_by.split(",") if part.strip()),
        settings.reporting.k_anonymity,
        clock.today(),
        clock.unix_milliseconds(),
        level=level,
    )
    if level and "entity" not in query.dimensions:
        raise UsageError("--level needs rows by entity: add 'entity' to --group-by, or leave out --level")
    return query


def _make_writer(form: str, language: str, output: str) -> _Write:
    """Return a function that writes a document to the requested output.

    Checks the options before anything is computed. Raises UsageError.
    """
    if form not in FORMATS:
        raise UsageError(f"unknown format '{form}': use {', '.join(FORMATS)}")
    if language not in LANGUAGES:
        raise UsageError(f"unknown language '{language}': use {', '.join(LANGUAGES)}")
    binary = form in BINARY
    refuse_terminal(output, binary=binary)
    render = renderer(form)

    def write(document: Document) -> None:
        with shown_step(f"writing {form}"):
            content = render(add_under_way(replace(document, language=language), clock.today()))
        write_output(content, output, binary=binary)

    return write


def _head(reader: Reader, query: Query) -> _Head:
    return {
        "from": query.first.isoformat(),
        "to": query.end.isoformat(),
        "group_by": list(query.dimensions),
        **({"level": query.level} if query.level else {}),
        "k_anonymity": query.k_anonymity,
        "data": "simulated" if reader.data_kind().simulated else "real",
        "method_version": METHOD_VERSION,
        "periods_not_derived": reader.dirty_count(),
        "unexplained_milliseconds": _unexplained_milliseconds(reader, query),
        "generated_unix_milliseconds": query.now_unix_milliseconds,
    }


def _unexplained_milliseconds(reader: Reader, query: Query) -> int | None:
    """Return the time of all machines that is neither stored nor declared lost (R18), in milliseconds.

    Counts their whole days and weeks of the period; None for longer periods, as in the emissions report.
    """
    if query.end - query.first > MOST_DAYS_BALANCED:
        return None
    last = query.end - timedelta(days=1)
    rows = reader.balance(query.first, last, by_hour=False)
    return sum(row.unexplained_milliseconds for row in rows)


def _note_if_unreleased(sources: Sources, query: Query, head: Head) -> None:
    """Print a note where months of these years are released, and the figure is not of them."""
    was_asked = query.basis is Basis.UNRELEASED
    if was_asked or head.get(BASIS) != Basis.UNRELEASED.value:
        return
    first, end = date(query.first.year, 1, 1), date((query.end - timedelta(days=1)).year + 1, 1, 1)
    if find_stretches(sources.released, replace(query, first=first, end=end), cut=True):
        print_note(
            "note: not a published figure: released months do not answer this period and grouping as a whole, so it is computed "
            "from the present data of machines (basis: unreleased)"
        )


def _print_notes(head: Head, hidden: int) -> None:
    waiting = head.get("periods_not_derived")
    if isinstance(waiting, int) and waiting:
        print_note(
            f"note: {waiting} {plural(waiting, 'period', 'wait')} to be derived, not in the figures yet "
            "('veilleuse derive')"
        )
    unexplained = head.get("unexplained_milliseconds")
    if isinstance(unexplained, int) and unexplained > 0:
        print_note(
            f"note: {unexplained / MILLISECONDS_PER_HOUR:,.1f} h of machines are neither stored nor declared "
            "lost; coverage counts them as not observed ('veilleuse doctor' names the machines)"
        )
    until = head.get(RELEASED_UNTIL)
    if isinstance(until, str) and until < str(head["to"]):
        print_note(f"note: released until {until}: the rest of the period is in no row or total")
    if hidden:
        print_note(
            f"note: {hidden} {plural(hidden, 'group')} too small to be shown: their measurements are in no "
            "row or total"
        )


def reen_sheet(settings: CollectorSettings, first: date, end: date) -> Document:
    """Return the follow-up sheet. Raises UsageError, UnknownZone."""
    with open_reader(settings.data_dir) as store:
        sources = sobriety_sources_of(store, settings.reporting)
        return reen_document(
            sources,
            first,
            end,
            settings.reporting.k_anonymity,
            clock.today(),
            targets_of(settings.indicators),
        )
