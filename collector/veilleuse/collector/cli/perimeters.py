# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse perimeters …`: the parts of the fleet that yearly figures are given for."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Any

import typer

from veilleuse.collector import clock
from veilleuse.collector.cli.factor_contracts import factor_reader
from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    load_settings,
    moment,
    print_json,
    print_note,
    print_result,
    print_table,
    print_text,
    read_text,
    run_operation,
)
from veilleuse.collector.inventory.perimeters import MAXIMUM_BYTES, read_perimeters
from veilleuse.collector.model.query import Perimeters, perimeters_in_force
from veilleuse.collector.store.directory import DATA_FILE

app = typer.Typer(**APP)


@app.callback()
def perimeters() -> None:
    """Show or declare perimeters: agents' posts, colleges, data centre, hosted, or your own."""


@app.command("show")
def show(
    year: Annotated[int | None, typer.Option(help="year; default: the present one")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the perimeters of a year, and who declared them. The first rule that fits a device decides."""
    asked = year or clock.today().year
    found = _in_force(config, asked)
    if as_json:
        print_json(
            {
                "year": asked,
                "declared_for": found.year,
                "declared_unix_milliseconds": found.declared_unix_milliseconds,
                "declared_by": found.declared_by or None,
                "why": found.why or None,
                "rules": found.document(),
            }
        )
        return
    print_table([_row(rule) for rule in found.document()], empty="")
    print_text(declaration_of(found))
    if found.year is None:
        print_text("'veilleuse perimeters declare FILE --year YEAR' declares your own")


def declaration_of(perimeters: Perimeters) -> str:
    """Return who declared perimeters and when."""
    if perimeters.declared_unix_milliseconds is None:
        return "the product's default"
    when = moment(perimeters.declared_unix_milliseconds)
    return f"declared for {perimeters.year} by {perimeters.declared_by}, {when}"


@app.command("declare")
def declare(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="TOML with [[perimeter]]: see docs/reports.md")
    ],
    year: Annotated[int, typer.Option(help="first year that they hold for")],
    why: Annotated[str, typer.Option(help="reason, for the record")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Declare the perimeters of a year and of later ones.

    They hold until you declare others. Earlier declarations stay on record. A year that is closed
    definitively keeps its own.
    """
    text = read_text(file, MAXIMUM_BYTES, "leave out all but [[perimeter]]")
    found = run_operation(
        load_settings(config),
        "perimeters_declare",
        year=year,
        rules=Perimeters(read_perimeters(text, file.name)).document(),
        who=getpass.getuser(),
        why=why,
    )
    names = ", ".join(found["perimeters"])
    print_result(found, f"perimeters of {year}: {names}; declared by {found['declared_by']}", as_json)
    if found["is_closed"]:
        print_note(
            f"note: {year} is closed provisionally: its reports keep the perimeters frozen with it until a revision "
            f"('veilleuse close {year} --why TEXT'), which takes these while machines' months are kept"
        )


def _in_force(config: Path | None, year: int) -> Perimeters:
    settings = load_settings(config)
    if not (settings.data_dir / DATA_FILE).exists():
        return perimeters_in_force((), year)
    with factor_reader(settings) as reader:
        return perimeters_in_force(reader.perimeters(), year)


def _row(rule: dict[str, str]) -> dict[str, Any]:
    names = ("perimeter", "entity", "population", "power_context", "device_class")
    return {name: rule.get(name, "") for name in names}
