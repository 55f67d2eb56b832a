# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse query`: runs SQL of an administrator beside the running collector."""

from __future__ import annotations

import csv
import sys
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    WhyOption,
    load_settings,
    plural,
    print_json,
    print_note,
    print_table,
    printable,
    run_operation,
    who_and_why,
)
from veilleuse.collector.documents.formats.csv import cell
from veilleuse.collector.errors import UsageError
from veilleuse.collector.ports.directory import QueryAnswer
from veilleuse.collector.store import open_reader

MAX_ROWS: Final = 100_000
MAX_SECONDS: Final = 300.0
"""Longest time of a query: the write-ahead log cannot start again while a query reads."""
_MAX_SQL_BYTES: Final = 100_000

app = typer.Typer(**APP)


@app.command()
def query(
    sql: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL",
            help="one SELECT, VALUES, WITH or EXPLAIN statement; - reads it from standard input",
        ),
    ] = None,
    tables: Annotated[bool, typer.Option("--tables", help="list tables and their columns instead")] = False,
    names: Annotated[
        bool,
        typer.Option(
            "--names",
            help="add identity.db as schema 'identity': names, pseudonyms, access journal; the journal notes this",
        ),
    ] = False,
    why: WhyOption = "",
    limit: Annotated[int, typer.Option(min=1, max=MAX_ROWS, help="most rows to print")] = 1_000,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=MAX_SECONDS, help="longest time of the query, in seconds")
    ] = 10.0,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV")] = False,
    config: ConfigOption = None,
) -> None:
    """Read the database with one SQL statement. It changes nothing and works while 'veilleuse serve' runs.

    You need the right to read the data directory. Rows are of single machines, PCs too: no rule of
    disclosure is applied, do not publish them. Hashes of tokens and the numbers that tell copies apart are
    read as NULL.
    """
    if (sql is None) is not tables:
        raise UsageError(
            "give one SQL statement, or --tables: e.g. veilleuse query 'SELECT count(*) FROM hosts'"
        )
    if as_json and as_csv:
        raise UsageError("choose --json or --csv")
    settings = load_settings(config)
    text = _from_standard_input() if sql == "-" else sql or ""
    if names and not tables:  # before this process opens a connection: the note may write to the same files
        run_operation(settings, "query_note", sql=text, **who_and_why(why, "query --names"))
    with open_reader(settings.data_dir) as store:
        if names:
            store.queries.attach_names()
        if tables:
            _write(store.queries.tables(), as_json=as_json, as_csv=as_csv)
            return
        answer = store.queries.ask(text, seconds=seconds, rows=limit)
    _write(answer.rows, as_json=as_json, as_csv=as_csv)
    _explain(answer, limit)


def _explain(answer: QueryAnswer, limit: int) -> None:
    """Say which columns are withheld and whether rows are left out. Raises Exit for the latter."""
    for column in answer.withheld:
        print_note(f"veilleuse: {column} is withheld: it is read as NULL")
    if answer.cut:
        rows = f"{limit} {plural(limit, 'row')}"
        print_note(f"veilleuse: only the first {rows}: ask for more with --limit")
        raise typer.Exit(EXIT_WARNINGS)


def _from_standard_input() -> str:
    content = sys.stdin.buffer.read(_MAX_SQL_BYTES + 1)
    if len(content) > _MAX_SQL_BYTES:
        raise UsageError(f"standard input has more than {_MAX_SQL_BYTES} bytes: give one SQL statement")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError("standard input is not UTF-8: give one SQL statement in UTF-8") from error


def _write(rows: list[dict[str, Any]], *, as_json: bool, as_csv: bool) -> None:
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    if as_json:
        print_json(plain)
    elif as_csv and plain:
        writer = csv.writer(sys.stdout, lineterminator="\r\n")
        writer.writerow(map(cell, plain[0]))
        writer.writerows(map(cell, row.values()) for row in plain)
    else:
        texts = [{printable(name): _text(value) for name, value in row.items()} for row in plain]
        print_table(texts, empty="no row", verbatim=True)


def _plain(value: Any) -> Any:
    """Return bytes as hexadecimal digits, and infinities, which JSON does not have, as text."""
    if isinstance(value, bytes):
        return value.hex()
    return repr(value) if value in (float("inf"), float("-inf")) else value


def _text(value: Any) -> str:
    """Return a cell of a table, without control characters: data must not move a terminal's cursor."""
    return "" if value is None else printable(str(value))
