# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse report emissions|indicators|indicative|attribution`: figures of any period, read beside the running collector."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from veilleuse.collector.account.observed_days import (
    DEFAULT_DIMENSIONS,
    DIMENSIONS,
    ObservedGroups,
    ObservedQuery,
)
from veilleuse.collector.account.observed_months import gather_kept
from veilleuse.collector.account.observed_statement import withheld_row
from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.cli.output import refuse_terminal, write_output
from veilleuse.collector.cli.report_indicators import reen_sheet, servers_of, with_sobriety
from veilleuse.collector.cli.shared import APP, ConfigOption, date_of, plural, settings_of
from veilleuse.collector.documents.document import (
    BINARY,
    FORMATS,
    LANGUAGES,
    Document,
    Head,
    Value,
    add_under_way,
    renderer,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.grid.ledger import DIMENSIONS as HOURLY
from veilleuse.collector.grid.ledger import HourlyQuery
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.ports import Reader
from veilleuse.collector.reports import indicators_document as indicators_report
from veilleuse.collector.reports.attribution import attribution_document
from veilleuse.collector.reports.emissions import emissions_report_of, prepare_for_publication, today
from veilleuse.collector.reports.fleet_year import YearQuery
from veilleuse.collector.reports.indicative import indicative_report_of
from veilleuse.collector.reports.indicators import indicator_rows
from veilleuse.collector.reports.inputs import sources_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, NANOSECONDS_PER_MILLISECOND

app = typer.Typer(**APP)

From = Annotated[str, typer.Option("--from", metavar="DATE", help="first day, e.g. 2026-01-01")]
To = Annotated[str, typer.Option("--to", metavar="DATE", help="day after the last, e.g. 2027-01-01")]
GroupBy = Annotated[str, typer.Option(help=f"comma-separated: {', '.join(DIMENSIONS)}")]
Format = Annotated[str, typer.Option("--format", help=" or ".join(FORMATS))]
Output = Annotated[
    str, typer.Option("-o", "--output", metavar="FILE", help="where to write; - is standard output")
]
Language = Annotated[str, typer.Option(help=f"of html, pdf and xlsx: {' or '.join(LANGUAGES)}")]

_GROUP_BY: Final = ",".join(DEFAULT_DIMENSIONS)

_Head: TypeAlias = "dict[str, Value | list[str] | None]"
_Make: TypeAlias = Callable[[ObservedGroups, CollectorSettings, _Head], Document]
_Write: TypeAlias = Callable[[Document], None]


@app.callback()
def report() -> None:
    """Figures over a period, grouped as asked; read beside the running collector."""


@app.command("emissions")
def emissions(
    first: From,
    end: To,
    group_by: GroupBy = _GROUP_BY,
    form: Format = "csv",
    output: Output = "-",
    language: Language = LANGUAGES[0],
    tree: Annotated[
        str, typer.Option(help="'then': machines where they stood; 'now', pro forma: where they stand now")
    ] = "then",
    public: Annotated[
        bool,
        typer.Option(
            "--public", help="of a closed year, rounded so that it may be published beside its months"
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Energy and emissions of the use phase. With coverage, uncertainty, factor and method beside each figure."""
    settings = settings_of(config)
    if tree not in ("then", "now"):
        raise UsageError(f"--tree '{tree}' is neither 'then' nor 'now'")
    if date_of("--from", first) > today():
        raise UsageError(
            f"--from {first} has not come yet: today is {today()}, choose a period that has begun"
        )
    query = YearQuery(
        date_of("--from", first),
        date_of("--to", end),
        _dimensions(group_by),
        settings.reporting.k_anonymity,
        today(),
        current_tree=tree == "now",
    )
    write = _writer(form, language, output)
    with open_reader(settings.data_dir) as store:
        sources = sources_of(store, settings.reporting)
        made = emissions_report_of(sources, query, random_roll_out=settings.reporting.random_roll_out)
    made = prepare_for_publication(made) if public else made
    write(made.document)
    _warn(made.document.head, len(made.statement.withheld))
    for warning in made.warnings:
        print(warning["en"], file=sys.stderr)


@app.command("indicators")
def indicators(
    first: From,
    end: To,
    group_by: GroupBy = _GROUP_BY,
    form: Format = "csv",
    output: Output = "-",
    language: Language = LANGUAGES[0],
    servers: Annotated[
        bool,
        typer.Option("--servers", help="I6, I7 and I8 server by server: for operations, not to be published"),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Sobriety indicators, I1 to I14. With thresholds, coverage, and who acts on each."""
    write, settings = _writer(form, language, output), settings_of(config)
    finish = servers_of if servers else with_sobriety
    _report(indicators_document, (first, end, group_by), lambda made: write(finish(made, settings)), config)


@app.command("reen")
def reen(
    first: From,
    end: To,
    form: Format = "csv",
    output: Output = "-",
    language: Language = LANGUAGES[0],
    config: ConfigOption = None,
) -> None:
    """The follow-up sheet of the REEN strategy. Objectives 1° to 6°, measures, and the use phase beside the whole bilan."""
    settings, write = settings_of(config), _writer(form, language, output)
    made = reen_sheet(settings, date_of("--from", first), date_of("--to", end))
    write(made)
    _warn(made.head, 0)


@app.command("indicative")
def indicative(
    first: From,
    end: To,
    group_by: Annotated[str, typer.Option(help=f"comma-separated: {', '.join(HOURLY)}")] = _GROUP_BY,
    series: Annotated[str | None, typer.Option(help="of the grid (default: intensity.series)")] = None,
    form: Format = "csv",
    output: Output = "-",
    language: Language = LANGUAGES[0],
    config: ConfigOption = None,
) -> None:
    """Emissions hour by hour with the grid's intensity. Indicatif, hors bilan: servers and classrooms alone."""
    settings = settings_of(config)
    query = HourlyQuery(
        date_of("--from", first),
        date_of("--to", end),
        _dimensions(group_by),
        settings.reporting.k_anonymity,
        series or settings.intensity.series,
        time.time_ns() // NANOSECONDS_PER_MILLISECOND,
    )
    write = _writer(form, language, output)
    with open_reader(settings.data_dir) as store:
        found, document = indicative_report_of(store.data, query)
    write(document)
    _warn(document.head, len(found.ledger.withheld))


@app.command("attribution")
def attribution(
    host: Annotated[str, typer.Option(metavar="HOST", help="agent id, or the beginning of it")],
    first: From,
    end: To,
    form: Format = "csv",
    output: Output = "-",
    language: Language = LANGUAGES[0],
    config: ConfigOption = None,
) -> None:
    """A server's energy shared between its services and guests. By CPU time; what it draws idle is shown apart."""
    settings = settings_of(config)
    write = _writer(form, language, output)
    since, until = date_of("--from", first), date_of("--to", end)
    with open_reader(settings.data_dir) as store:
        document = attribution_document(
            store.data, host, since, until, time.time_ns() // NANOSECONDS_PER_MILLISECOND
        )
    write(document)


def _report(make: _Make, asked: tuple[str, str, str], write: _Write, config: Path | None) -> None:
    """Gather, make the document, write it; `asked`: --from, --to, --group-by as typed. Raises UsageError where days are gone."""
    settings = settings_of(config)
    query = _observed_query(settings, *asked)
    with open_reader(settings.data_dir) as store:
        gathered = gather_kept(store.data, Periods(store.data), query)
        head = _head(store.data, query)
    write(make(gathered, settings, head))
    _warn(head, len(gathered.withheld))


def indicators_document(gathered: ObservedGroups, settings: CollectorSettings, head: _Head) -> Document:
    """Every built-in indicator of every group it applies to."""
    rows = indicator_rows(gathered.groups, settings, str(head["data"]))
    return indicators_report.document(rows, map(withheld_row, gathered.withheld), head)


def _observed_query(settings: CollectorSettings, first: str, end: str, group_by: str) -> ObservedQuery:
    return ObservedQuery(
        date_of("--from", first),
        date_of("--to", end),
        _dimensions(group_by),
        settings.reporting.k_anonymity,
        time.time_ns() // NANOSECONDS_PER_MILLISECOND,
    )


def _dimensions(group_by: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in group_by.split(",") if part.strip())


def _writer(form: str, language: str, output: str) -> _Write:
    """What writes a document where it was asked for; what cannot be is told before anything is computed. Raises UsageError."""
    if form not in FORMATS:
        raise UsageError(f"unknown format '{form}': use {', '.join(FORMATS)}")
    if language not in LANGUAGES:
        raise UsageError(f"unknown language '{language}': use {', '.join(LANGUAGES)}")
    binary = form in BINARY
    refuse_terminal(output, binary=binary)
    render = renderer(form)
    return lambda document: write_output(
        render(add_under_way(replace(document, language=language), today())), output, binary=binary
    )


def _head(reader: Reader, query: ObservedQuery) -> _Head:
    return {
        "from": query.first.isoformat(),
        "to": query.end.isoformat(),
        "group_by": list(query.dimensions),
        "k_anonymity": query.k_anonymity,
        "data": "simulated" if reader.data_kind().simulated else "real",
        "method_version": METHOD_VERSION,
        "periods_not_derived": reader.dirty_count(),
        "unexplained_milliseconds": _unexplained_milliseconds(reader, query),
        "generated_unix_milliseconds": query.now_unix_milliseconds,
    }


def _unexplained_milliseconds(reader: Reader, query: ObservedQuery) -> int:
    """R18: time of all machines that is neither stored nor declared lost, in their whole days and weeks of the period."""
    last = query.end - timedelta(days=1)
    rows = reader.balance(query.first, last, by_hour=False)
    return sum(row.unexplained_milliseconds for row in rows)


def _warn(head: Head, hidden: int) -> None:
    waiting = head["periods_not_derived"]
    if isinstance(waiting, int) and waiting:
        print(
            f"note: {waiting} {plural(waiting, 'period', 'wait')} to be derived, not in the figures yet ('veilleuse derive')",
            file=sys.stderr,
        )
    unexplained = head.get("unexplained_milliseconds")
    if isinstance(unexplained, int) and unexplained > 0:
        print(
            f"note: {unexplained / MILLISECONDS_PER_HOUR:,.1f} h of machines are neither stored nor declared lost; "
            "coverage counts them as not observed ('veilleuse doctor' names the machines)",
            file=sys.stderr,
        )
    if hidden:
        print(
            f"note: {hidden} {plural(hidden, 'group')} too small to be shown: what was measured of these is in no row or total",
            file=sys.stderr,
        )
