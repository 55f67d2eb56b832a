# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse account create|list|show|revoke|journal`: accounts that read figures over HTTP."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    WhyOption,
    day,
    load_settings,
    moment,
    new_private,
    print_facts,
    print_json,
    print_result,
    print_text,
    run_operation,
    who_and_why,
)
from veilleuse.collector.model.accounts import DEFAULT_DAYS, Role

app = typer.Typer(**APP)

NameArgument = Annotated[str, typer.Argument(metavar="ACCOUNT", help="name or number of the account")]


@app.callback()
def account() -> None:
    """Manage accounts that read figures over HTTP.

    Each use has its account, with a token, a role and an end.
    """


@app.command()
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="name of a use, e.g. grafana; never of a person")
    ],
    config: ConfigOption = None,
    role: Annotated[
        Role,
        typer.Option(
            help="reader: released figures; owner: and the servers of its entities; admin: any period and grouping"
        ),
    ] = Role.READER,
    entity: Annotated[
        list[str] | None,
        typer.Option(help="let a reader see only this entity and those below it; repeatable (default: all)"),
    ] = None,
    days: Annotated[float, typer.Option(help="days until the account ends; at most 1098")] = DEFAULT_DAYS,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="write the token to this file, mode 0600, instead of printing it"
        ),
    ] = None,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Create an account. Its token is shown once and stored nowhere."""
    settings = load_settings(config)
    with nullcontext() if output is None else new_private(output) as file:
        made = run_operation(
            settings,
            "account_create",
            name=name,
            role=role.value,
            entities=entity or [],
            days=days,
            **who_and_why(why, f"account create {name}"),
        )
        if file is not None:
            file.write(made.pop("token") + "\n")
    _print_created(made, output, as_json=as_json)
    if made["warnings"]:
        raise typer.Exit(EXIT_WARNINGS)


def _print_created(made: dict[str, Any], output: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json({**made, "output": None if output is None else str(output)})
        return
    print_text(
        f"account {made['account_id']} '{made['name']}': {made['role']} of {_visible_entities(made)}, "
        f"good until {moment(made['expires_unix_milliseconds'])}"
    )
    for warning in made["warnings"]:
        print_text(f"warning: {warning}")
    print_text(f"token: {output}" if output is not None else f"token, shown this once: {made['token']}")


@app.command(name="list")
def list_accounts(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List accounts, without their tokens: these are stored nowhere."""
    found = run_operation(load_settings(config), "account_list")
    rows = [
        {
            "account": one["name"],
            "number": str(one["account_id"]),
            "state": one["state"],
            "role": one["role"],
            "sees": _visible_entities(one),
            "until": day(one["expires_unix_milliseconds"]),
            "last used": one["last_used_on"] or "never",
        }
        for one in found
    ]
    print_result(found, rows, as_json, empty="no account yet: 'veilleuse account create NAME'")


@app.command()
def show(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one account."""
    one = run_operation(load_settings(config), "account_show", account=name)
    if as_json:
        print_json(one)
        return
    facts = {
        "account": f"{one['name']} (number {one['account_id']})",
        "state": one["state"],
        "role": one["role"],
        "sees": _visible_entities(one),
        "created": moment(one["created_unix_milliseconds"]),
        "good until": moment(one["expires_unix_milliseconds"]),
        "revoked": moment(one["revoked_unix_milliseconds"]),
        "last used": one["last_used_on"] or "never",
    }
    print_facts(facts, 11)


@app.command()
def revoke(
    name: NameArgument, config: ConfigOption = None, why: WhyOption = "", as_json: JsonOption = False
) -> None:
    """End an account. Its next request is refused."""
    asked = who_and_why(why, f"account revoke {name}")
    done = run_operation(load_settings(config), "account_revoke", account=name, **asked)
    print_result(done, f"account {done['account_id']} '{done['name']}' revoked", as_json)


@app.command()
def journal(
    config: ConfigOption = None,
    name: Annotated[
        str | None, typer.Option("--account", metavar="ACCOUNT", help="only lines of this account")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="DATE", help="first UTC day")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DATE", help="UTC day after the last")] = None,
    limit: Annotated[int, typer.Option(help="most lines, the newest first")] = 1_000,
    as_json: JsonOption = False,
) -> None:
    """Show who read what. Equal requests within one hour are one line; lines are deleted after a year."""
    found = run_operation(
        load_settings(config), "account_journal", account=name, first=first, end=end, limit=limit
    )
    rows = [
        {
            "last": moment(line["last_unix_milliseconds"]),
            "account": f"{line['account']} ({line['account_id']})",
            "route": line["route"],
            "query": line["query"],
            "status": str(line["status"]),
            "times": str(line["times"]),
            "rows": str(line["rows"]),
        }
        for line in found
    ]
    print_result(found, rows, as_json, empty="nothing was read")


def _visible_entities(one: dict[str, Any]) -> str:
    return ", ".join(one["entities"]) or "the whole fleet"
