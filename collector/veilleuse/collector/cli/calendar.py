# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse calendar import|show|export|school-holidays`: the day types of a site."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.calendars.files import WEEKDAYS
from veilleuse.collector.cli.language import translate_cell
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    DryRunOption,
    JsonOption,
    WhyOption,
    load_settings,
    plural,
    print_note,
    print_result,
    print_table,
    print_text,
    read_text,
    run_operation,
    who_and_why,
)

app = typer.Typer(**APP)

MAXIMUM_BYTES: Final = 512 * 1024
TOO_LARGE: Final = "leave out what is past"
IMPORT_SECONDS: Final = 60.0

SiteOption = Annotated[
    str, typer.Option("--site", metavar="SITE", help="name of the site, as in its machines' enrolment")
]


@app.callback()
def calendar() -> None:
    """Import and show opening hours, closures, holidays and update windows of a site."""


@app.command(name="import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML: the whole calendar; CSV: its closures")],
    site: SiteOption,
    config: ConfigOption = None,
    dry_run: DryRunOption = False,
    create: Annotated[bool, typer.Option("--create", help="make the site when it does not exist")] = False,
    zone: Annotated[str | None, typer.Option(help="electricity zone of a new site, e.g. FR")] = None,
    time_zone: Annotated[str | None, typer.Option(help="time zone of a new site, e.g. Europe/Paris")] = None,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Declare the days of a site. Machines use them from the 1st of the next month on."""
    found = run_operation(
        load_settings(config),
        "calendar_import",
        timeout_seconds=IMPORT_SECONDS,
        site=site,
        text=read_text(file, MAXIMUM_BYTES, TOO_LARGE),
        name=file.name,
        **who_and_why(why, f"calendar import {file.name}"),
        dry_run=dry_run,
        create=create,
        zone=zone,
        time_zone=time_zone,
    )
    print_result(found, lambda: _print_import(found), as_json)
    if found["warnings"]:
        raise typer.Exit(EXIT_WARNINGS)


@app.command()
def show(
    site: SiteOption,
    config: ConfigOption = None,
    year: Annotated[int | None, typer.Option(help="civil year (default: this one)")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the type of each day of a year. Update windows that machines do not report are named too."""
    found = run_operation(load_settings(config), "calendar_show", site=site, year=year)
    print_result(found, lambda: _print_year(found), as_json)


@app.command()
def export(site: SiteOption, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Write the declared calendar of a site to standard output. `calendar import` reads it back."""
    found = run_operation(load_settings(config), "calendar_export", site=site)
    print_result(found, lambda: print(found["text"], end=""), as_json)


@app.command(name="school-holidays")
def school_holidays(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV of fr-en-calendrier-scolaire, or zone,first,last,name")
    ],
    config: ConfigOption = None,
    dry_run: DryRunOption = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Import school holidays of zones A, B and C. For days after the table that this version ships."""
    found = run_operation(
        load_settings(config),
        "calendar_school",
        timeout_seconds=IMPORT_SECONDS,
        text=read_text(file, MAXIMUM_BYTES, TOO_LARGE),
        name=file.name,
        **who_and_why(why, f"calendar school-holidays {file.name}"),
        dry_run=dry_run,
    )
    zones = ", ".join(f"zone {one['zone']} from {one['from']} to {one['to']}" for one in found["zones"])
    word = "nothing changes" if not found["changed"] else "would be imported" if dry_run else "imported"
    periods = f"{found['periods']} {plural(found['periods'], 'period')}"
    print_result(found, f"{periods}, {zones}: {word}", as_json)


def _print_import(found: dict[str, Any]) -> None:
    site = found["site"]
    if not found["changed"]:
        print_text(f"{site}: nothing changes")
    else:
        would = "would be " if found["dry_run"] else ""
        made = "site made, " if found["created"] else ""
        print_text(f"{site}: {would}{made}{would if made else ''}imported")
        for line in found["changes"]:
            print_text(f"  {_days_text(line) if ' → ' in line else line}")
        if found["distributed"]:
            when = f"from {found['from']} on" if found["from"] else "from their first contact on"
            closures = f"{found['closures']} closure{'s' * (found['closures'] != 1)}"
            print_text(f"  machines use it {when}: {closures}, known until {found['known_to']}")
        else:
            print_text("  nothing of it concerns machines: their calendar stays")
    for line in found["warnings"]:
        print_note(f"warning: {line}")


def _days_text(text: str) -> str:
    """Return weekly hours with the weekdays as standard output names them."""
    return re.sub("|".join(WEEKDAYS), lambda found: translate_cell(found[0]), text)


def _print_year(found: dict[str, Any]) -> None:
    print_text(f"{found['site']}: {found['zone']}, {found['time_zone']}")
    print_text(
        f"  open             {_days_text(found['open'])}{'' if found['declared'] else ' (default, nobody declared it)'}"
    )
    holidays = "none" if not found["public_holidays"] else "FR"
    print_text(f"  public holidays  {holidays}{' with Alsace-Moselle' if found['alsace_moselle'] else ''}")
    if found["school_zone"]:
        known = f"known from {found['school_known_from']} to {found['school_known_to']}"
        print_text(f"  school holidays  zone {found['school_zone']}, {known}")
    else:
        print_text("  school holidays  none")
    if found["known_to"]:
        print_text(f"  closures         machines know them until {found['known_to']}")
    for version in found["versions"]:
        print_text(
            f"  calendar         {version['calendar_sha256'][:12]} from {version['from'] or 'the beginning'}"
        )
    for window in found["update_windows"]:
        day = f"{'closed ' if window['closed_day'] else ''}{window['weekday']}"
        told = (
            "told"
            if window["workstations_tell"]
            else f"not told by workstations: {window['workstations_why']}"
        )
        cut = f"; {window['hourly_why']}" if window["hourly_why"] else ""
        print_text(
            f"  updates          {day}, {window['inside_minutes']} min of {window['band']}: {told}{cut}"
        )
    print_text(
        f"{found['year']}: " + ", ".join(f"{count} {word}" for word, count in found["day_types"].items())
    )
    print_table(list(_runs(found["days"])), empty="")


def _runs(days: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """Yield one row for consecutive days of one type and name, across weekends; ordinary days have no row."""
    working = [day for day in days if day["name"] or day["type"] != "closed"]
    for (kind, name), run in itertools.groupby(working, key=lambda day: (day["type"], day["name"])):
        if name or kind is None:
            dates = [str(day["date"]) for day in run]
            when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
            yield {"date": when, "type": kind or "not known", "name": name or "school holidays not known"}
