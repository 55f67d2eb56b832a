# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse journal`: shows who read what, and why, for the data protection officer.

The journal notes that it was read.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    WhyOption,
    load_settings,
    parse_date,
    plural,
    print_note,
    print_result,
    printable,
    run_operation,
    who_and_why,
)
from veilleuse.collector.model.accounts import MAX_JOURNAL_LINES, Journal

app = typer.Typer(**APP)


@app.command()
def journal(
    config: ConfigOption = None,
    since: Annotated[str | None, typer.Option(metavar="DAY", help="first day, e.g. 2026-10-01")] = None,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="day after the last")] = None,
    who: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="only lines of this login, or of this account of the API"),
    ] = None,
    of: Annotated[
        Journal | None,
        typer.Option(help="operators: commands here; api: figures read over HTTP (default: both)"),
    ] = None,
    limit: Annotated[int, typer.Option(help="most lines, the newest first")] = MAX_JOURNAL_LINES,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show who looked up names, exported, imported or changed data, and why; and who read figures over HTTP.

    The newest lines come first. Days and times are in reporting.time_zone. The journal notes this reading.
    """
    mark = who_and_why(why, "journal")
    found = run_operation(
        load_settings(config),
        "journal",
        since=None if since is None else parse_date("--since", since).isoformat(),
        until=None if until is None else parse_date("--until", until).isoformat(),
        who=who,
        limit=limit,
        of=None if of is None else of.value,
        reader=mark["who"],
        why=mark["why"],
    )
    lines = found["lines"]
    print_result(lines, [_row(one) for one in lines], as_json, empty="the journal has no line of these days")
    if found["cut"]:
        oldest = lines[-1]["time"][:10]
        print_note(
            f"veilleuse: only the newest {len(lines)} {plural(len(lines), 'line')}, back to {oldest}: ask "
            "for older ones with --until"
        )
        raise typer.Exit(EXIT_WARNINGS)


def _row(one: dict[str, Any]) -> dict[str, str]:
    """Return one line without control characters: a query of the API must not move a terminal's cursor."""
    what = one["what"] if "what" in one else _request(one)
    row = {"time": one["time"], "of": one["of"], "who": one["who"], "what": what, "why": one.get("why", "")}
    return {name: printable(value) for name, value in row.items()}


def _request(one: dict[str, Any]) -> str:
    query = f"?{one['query']}" if one["query"] else ""
    times = "" if one["times"] == 1 else f", {one['times']} times"
    return f"{one['route']}{query}: {one['status']}, {one['rows']} {plural(one['rows'], 'row')}{times}"
