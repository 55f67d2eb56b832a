# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse action add|list|withdraw`: actions whose savings are measured (I14)."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    day,
    load_settings,
    print_result,
    run_operation,
)
from veilleuse.collector.inventory.actions_csv import ACTIONS, SITES_SEPARATOR, checked
from veilleuse.collector.model.actions import StoredAction
from veilleuse.collector.store import open_reader

app = typer.Typer(**APP)

WhyOption = Annotated[str, typer.Option(help="reason, for the record")]


@app.callback()
def action() -> None:
    """Enter actions at sites, so that `report indicators` measures what they saved (I14)."""


@app.command()
def add(
    action_id: Annotated[str, typer.Argument(metavar="ID", help="your name of the action; it never changes")],
    site: Annotated[list[str], typer.Option("--site", help="site of the action; repeatable")],
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="first day of the action")],
    what: Annotated[str, typer.Option(help="what was done")],
    config: ConfigOption = None,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Enter an action, or a new version of one.

    Old versions stay on record. `veilleuse reen import` enters a file of them.
    """
    cells = {"action_id": action_id, "sites": SITES_SEPARATOR.join(site), "from_day": first, "what": what}
    line = checked(ACTIONS, cells)
    found = run_operation(
        load_settings(config),
        "follow_import",
        kind=ACTIONS,
        lines=[dict(line.cells)],
        name="",
        who=getpass.getuser(),
        why=why,
    )
    word = "entered" if found["new"] else "entered anew" if found["changed"] else "is known already"
    print_result(found, f"action {action_id} {word}", as_json)


@app.command(name="list")
def list_actions(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List actions, withdrawn and replaced ones too."""
    with open_reader(load_settings(config).data_dir) as store:
        found = [_facts(kept) for kept in store.follows.actions()]
    rows = [
        {
            "action": one["action_id"],
            "from": one["from_day"],
            "sites": ", ".join(one["sites"]),
            "what": one["what"],
            "entered": day(one["entered_unix_milliseconds"]),
            "": "withdrawn" if one["withdrawn"] else "",
        }
        for one in found
    ]
    print_result(found, rows, as_json, empty="no action is entered: see 'veilleuse action add --help'")


@app.command()
def withdraw(
    action_id: Annotated[str, typer.Argument(metavar="ID")],
    why: WhyOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw an action: it no longer counts. It stays in the list."""
    found = run_operation(
        load_settings(config), "action_withdraw", action_id=action_id, who=getpass.getuser(), why=why
    )
    print_result(found, f"action {action_id} withdrawn", as_json)


def _facts(kept: StoredAction) -> dict[str, Any]:
    one = kept.action
    return {
        "action_id": one.action_id,
        "sites": list(one.sites),
        "from_day": one.from_day.isoformat(),
        "what": one.what,
        "entered_unix_milliseconds": kept.entered_unix_milliseconds,
        "who": kept.who,
        "why": kept.why,
        "withdrawn": kept.withdrawn_unix_milliseconds is not None,
        "withdrawn_unix_milliseconds": kept.withdrawn_unix_milliseconds,
        "withdrawn_by": kept.withdrawn_by,
        "withdrawn_why": kept.withdrawn_why,
    }
