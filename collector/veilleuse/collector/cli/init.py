# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse init`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from veilleuse.collector.cli.shared import APP, ConfigOption, JsonOption, print_json, settings_of
from veilleuse.collector.errors import UsageError

app = typer.Typer(**APP)


@app.command()
def init(
    config: ConfigOption = None,
    site: Annotated[str | None, typer.Option(help="a first site, with the default timetable")] = None,
    zone: Annotated[str | None, typer.Option(help="its grid zone (default: reporting.zone)")] = None,
    time_zone: Annotated[
        str | None, typer.Option(help="its IANA time zone (default: reporting.time_zone)")
    ] = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="do nothing when there is one already")
    ] = False,
    simulated: Annotated[
        bool,
        typer.Option(
            "--simulated",
            help="for tests and demonstrations: fake sources are accepted, and all outputs say so",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the data directory: both databases, the certificate authority, the fleet key."""
    settings = settings_of(config)
    if site is None and (zone or time_zone):
        raise UsageError("--zone and --time-zone are of a site: give --site NAME too")
    from veilleuse.collector.assembly import initialise, is_initialised

    if if_missing and is_initialised(settings.data_dir):
        if as_json:
            print_json({"data_dir": str(settings.data_dir), "created": False})
        return
    made = initialise(settings, site=site, zone=zone, time_zone=time_zone, simulated=simulated)
    if as_json:
        facts = {
            "data_dir": str(made.data_dir),
            "created": True,
            "ca_sha256": made.ca_sha256,
            "site": made.site,
        }
        print_json({**facts, "root_key": str(made.root_key)})
        return
    print(f"data directory   {made.data_dir}")
    print(f"ca_sha256        {made.ca_sha256}")
    print(f"root key         {made.root_key}")
    print(
        "Move the root key off-line now (an encrypted stick in a safe): the collector never needs it, and whoever has it "
        "can pose as any machine.",
        file=sys.stderr,
    )
