# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse journal`: who looked at what, and why. For the data protection officer; reading it is a line of it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    WhyOption,
    date_of,
    perform,
    plural,
    print_json,
    print_table,
    settings_of,
    signed,
)
from veilleuse.collector.model.accounts import MAX_JOURNAL_LINES, Journal

app = typer.Typer(**APP)


@app.command()
def journal(
    config: ConfigOption = None,
    since: Annotated[str | None, typer.Option(metavar="DAY", help="first day, e.g. 2026-10-01")] = None,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="day after the last")] = None,
    who: Annotated[
        str | None, typer.Option(metavar="NAME", help="only of this login, or of this account of the API")
    ] = None,
    of: Annotated[
        Journal | None,
        typer.Option(help="operators: commands here; api: figures read over HTTP (default: both)"),
    ] = None,
    limit: Annotated[int, typer.Option(help="most lines, the newest first")] = MAX_JOURNAL_LINES,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show who looked up names, exported, imported, changed or took back, and why; and who read figures over HTTP.

    The newest first. Days and times are of reporting.time_zone. That you read it is noted in it.
    """
    mark = signed(why, "journal")
    found = perform(
        settings_of(config),
        "journal",
        since=None if since is None else date_of("--since", since).isoformat(),
        until=None if until is None else date_of("--until", until).isoformat(),
        who=who,
        limit=limit,
        of=None if of is None else of.value,
        reader=mark["who"],
        why=mark["why"],
    )
    lines = found["lines"]
    if as_json:
        print_json(lines)
    else:
        print_table([_row(one) for one in lines], empty="nobody did anything that is noted, in these days")
    if found["cut"]:
        oldest = lines[-1]["time"][:10]
        print(
            f"veilleuse: only the newest {len(lines)} {plural(len(lines), 'line')}, back to {oldest}: ask for those before with --until",
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_WARNINGS)


def _row(one: dict[str, Any]) -> dict[str, str]:
    """One line; what the API's callers wrote in their query cannot move a terminal's cursor."""
    what = one["what"] if "what" in one else _request(one)
    row = {"time": one["time"], "of": one["of"], "who": one["who"], "what": what, "why": one.get("why", "")}
    return {name: _printable(value) for name, value in row.items()}


def _request(one: dict[str, Any]) -> str:
    query = f"?{one['query']}" if one["query"] else ""
    times = "" if one["times"] == 1 else f", {one['times']} times"
    return f"{one['route']}{query}: {one['status']}, {one['rows']} {plural(one['rows'], 'row')}{times}"


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
