# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse reen …`: entries of the REEN follow-up sheet that are not computed."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    IN_PARTS,
    ConfigOption,
    JsonOption,
    check_settings,
    load_settings,
    plural,
    print_json,
    print_note,
    print_result,
    print_text,
    read_content,
    run_operation,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.actions_csv import KINDS, ActionsFile, read
from veilleuse.collector.inventory.actions_csv import template as template_of
from veilleuse.collector.inventory.cells import shown
from veilleuse.collector.model.actions import ActionTable
from veilleuse.collector.store import open_reader

app = typer.Typer(**APP)

MAXIMUM_BYTES: Final = 512 * 1024
IMPORT_SECONDS: Final = 60.0
EXIT_REFUSED: Final = 1


@app.callback()
def reen() -> None:
    """Enter objectives, measures, other items of the bilan and retired stock for `veilleuse report reen`."""


@app.command(name="import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=f"CSV of one kind: {', '.join(KINDS)}")],
    config: ConfigOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="end the lines that the file no longer names")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would change, and change nothing")
    ] = False,
    why: Annotated[str, typer.Option(help="reason, for the record")] = "",
    as_json: JsonOption = False,
) -> None:
    """Import a file. A refused row refuses the whole file; the same file again changes nothing."""
    found = read(read_content(file, MAXIMUM_BYTES, IN_PARTS), shown(file.name))
    if found.refusals:
        _print_refusals(found, as_json)
    answer = run_operation(
        load_settings(config),
        "follow_import",
        timeout_seconds=IMPORT_SECONDS,
        kind=found.kind,
        lines=[dict(line.cells) for line in found.lines],
        name=shown(file.name),
        who=getpass.getuser(),
        why=why,
        replace=replace,
        dry_run=dry_run,
    )
    print_result({**answer, "refused": []}, lambda: _print_import(answer), as_json)
    if answer["not_named"] and not replace:
        raise typer.Exit(EXIT_WARNINGS)


@app.command()
def template(
    name: Annotated[str, typer.Argument(metavar="NAME", help=", ".join(KINDS))],
    config: ConfigOption = None,
) -> None:
    """Write an empty CSV file to standard output. Its comments say what each column means."""
    check_settings(config)
    print(template_of(name), end="")


@app.command(name="list")
def list_lines(
    name: Annotated[str, typer.Argument(metavar="NAME", help=", ".join(ActionTable))],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the lines of one kind in force. `veilleuse action list` lists actions."""
    if name not in set(ActionTable):
        raise UsageError(f"no lines '{name}': use {', '.join(ActionTable)}")
    with open_reader(load_settings(config).data_dir) as store:
        lines = [dict(line.cells) for line in store.follows.lines(ActionTable(name))]
    columns = [column for column in KINDS[name] if any(column in cells for cells in lines)]
    print_result(
        lines,
        [{column: cells.get(column, "") for column in columns} for cells in lines],
        as_json,
        empty=f"nothing is entered: see 'veilleuse reen template {name}'",
    )


def _print_refusals(found: ActionsFile, as_json: bool) -> None:
    told = [
        {"where": one.where, "column": one.column, "what": one.what, "remedy": one.remedy}
        for one in found.refusals
    ]
    if as_json:
        print_json({"kind": found.kind, "lines": len(found.lines), "refused": told})
    for one in () if as_json else told:
        column = f", {one['column']}" if one["column"] else ""
        print_note(f"{one['where']}{column}: {one['what']}: {one['remedy']}")
    if not as_json:
        rows = plural(len(told), "row")
        print_note(f"nothing was imported: {len(told)} {rows} of {found.kind} refused")
    raise typer.Exit(EXIT_REFUSED)


def _print_import(answer: dict[str, Any]) -> None:
    would = "would be " if answer["dry_run"] else ""
    print_text(
        f"{answer['kind']}: {answer['lines']} {plural(answer['lines'], 'line')}; {would}new "
        f"{len(answer['new'])}, {would}changed {len(answer['changed'])}, {would}gone {len(answer['gone'])}"
    )
    for word in ("new", "changed", "gone"):
        for key in answer[word]:
            print_text(f"  {word:8} {key}")
    for key in answer["not_named"]:
        print_note(f"note: in force and not in the file: {key} (--replace ends it)")
