# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse published …`: published periods, whose figures never change. docs/api.md."""

from __future__ import annotations

from typing import Annotated

import typer

from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    load_settings,
    moment,
    parse_date,
    plural,
    print_result,
    run_operation,
    who_and_why,
)

app = typer.Typer(**APP)


@app.callback()
def published() -> None:
    """List, take back or allow published periods of workstations and classroom PCs."""


@app.command(name="list")
def list_published(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the published periods."""
    found = run_operation(load_settings(config), "published_list")
    rows = [
        {
            "kind": one["kind"],
            "from": one["period_from"],
            "to": one["period_to"],
            "published": moment(one["published_unix_milliseconds"]),
            "k": str(one["k_anonymity"]),
            "method": one["method_version"],
            "bytes": str(one["bytes"]),
        }
        for one in found
    ]
    print_result(found, rows, as_json, empty="nothing is published yet")


@app.command(name="take-back")
def take_back(
    first: Annotated[str, typer.Argument(metavar="FROM", help="first day, e.g. 2026-10-01")],
    end: Annotated[str, typer.Argument(metavar="TO", help="day after the last, e.g. 2026-11-01")],
    why: Annotated[str, typer.Option(help="reason, for the access journal")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete the publications inside [FROM, TO).

    For wrong figures: the collector computes them again within minutes. It cannot be undone. Anyone with the
    old figures can subtract: the difference is the machines that came late, moved or were forgotten since.
    """
    days = [parse_date(name, text).isoformat() for name, text in (("FROM", first), ("TO", end))]
    done = run_operation(
        load_settings(config),
        "published_take_back",
        first=days[0],
        end=days[1],
        **who_and_why(why, "published take-back"),
    )
    periods = f"{done['periods']} published {plural(done['periods'], 'period')}"
    print_result(done, f"{periods} taken back: the collector computes them again within minutes", as_json)


@app.command()
def allow(
    first: Annotated[str, typer.Argument(metavar="FROM", help="first day, e.g. 2026-10-01")],
    end: Annotated[str, typer.Argument(metavar="TO", help="day after the last, e.g. 2026-11-01")],
    why: Annotated[str, typer.Option(help="reason, for the access journal")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish the months that a restore holds.

    Anyone with figures that were published before can subtract: the difference is the machines that came
    late, moved or were forgotten since.
    """
    days = [parse_date(name, text).isoformat() for name, text in (("FROM", first), ("TO", end))]
    done = run_operation(
        load_settings(config),
        "published_allow",
        first=days[0],
        end=days[1],
        **who_and_why(why, "published allow"),
    )
    print_result(
        done, f"{days[0]} to {days[1]}: the collector publishes these months within minutes", as_json
    )
