# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse meters import|list|show`: meters that several machines share, and the balance of a room."""

from __future__ import annotations

import getpass
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer

from veilleuse.collector.account.perimeter import day_start_unix_milliseconds
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    perform,
    print_json,
    print_table,
    settings_of,
)
from veilleuse.collector.derive.rooms import NodeBalance, RoomBalance, room_balance
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.metering import FOR_EVER, WHOLE_PPM, DeclaredMeter, MeterShare
from veilleuse.collector.model import HostId
from veilleuse.collector.store.sqlite import SqliteReader
from veilleuse.collector.store.sqlite.days import civil_day
from veilleuse.collector.store.sqlite.metering import SqliteMeteringReader
from veilleuse.wire.units import MILLIJOULES_PER_KWH, MILLISECONDS_PER_HOUR

app = typer.Typer(**APP)

MAXIMUM_BYTES: Final = 768 * 1024
IMPORT_SECONDS: Final = 120.0
_LONGEST_DAYS: Final = 400


@app.callback()
def meters() -> None:
    """Meters that several machines share, and the balance of a room."""


@app.command(name="import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or TOML")],
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would change, and change nothing")
    ] = False,
    why: Annotated[str, typer.Option(help="reason, for the access journal")] = "",
    as_json: JsonOption = False,
) -> None:
    """Declare meters, their shares and PUEs. All of the file, or nothing of it where a row is refused."""
    found = perform(
        settings_of(config),
        "meters_import",
        timeout_seconds=IMPORT_SECONDS,
        text=_text(file),
        name=file.name,
        who=getpass.getuser(),
        why=why or f"veilleuse meters import {file.name}",
        dry_run=dry_run,
    )
    if as_json:
        print_json(found)
    else:
        for refused in found["refused"]:
            print(f"{file.name}, {refused['where']}: {refused['why']}")
    if found["refused"]:
        number = len(found["refused"])
        raise AdminError(f"{number} row{'s' * (number > 1)} of {file.name} refused: nothing was imported")
    if not as_json:
        changed = ", ".join([*found["changed"], *found["changed_rooms"]]) or "nothing"
        would = "would change" if dry_run else "changed"
        print(f"{found['meters']} meters, {found['shares']} shares, {found['pues']} PUEs; {would}: {changed}")


@app.command(name="list")
def list_meters(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List meters, with what is declared of them."""
    settings = settings_of(config)
    with (
        closing(SqliteMeteringReader(settings.data_dir)) as reader,
        closing(SqliteReader(settings.data_dir)) as hosts,
    ):
        declared = reader.declared()
        agents = {host.host_id: host.agent_id.hex() for host in hosts.hosts()}
    shares: defaultdict[str, list[MeterShare]] = defaultdict(list)
    for share in declared.shares:
        shares[share.meter].append(share)
    found = [_facts(meter, shares[meter.meter], agents) for meter in declared.meters]
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "meter": one["meter"],
            "room": one["room"],
            "boundary": one["boundary"],
            "below": one["parent"] or "",
            "shares": ", ".join(
                f"{share['host'][:12]} {share['part']} {share['share']:g} from {share['from']}"
                for share in one["shares"]
            ),
        }
        for one in found
    ]
    print_table(rows, empty="no meter is declared: see 'veilleuse meters import --help'")


@app.command()
def show(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="as declared")],
    first: Annotated[str, typer.Option("--from", metavar="D", help="first day")],
    end: Annotated[str, typer.Option("--to", metavar="D", help="day after the last")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Balance of a room over a period: its meters against its machines."""
    settings = settings_of(config)
    since, until = _day(first, "--from"), _day(end, "--to")
    if not since < until <= since + timedelta(days=_LONGEST_DAYS):
        raise UsageError(f"--from {since} must be before --to {until}, by at most {_LONGEST_DAYS} days")
    with (
        closing(SqliteMeteringReader(settings.data_dir)) as reader,
        closing(SqliteReader(settings.data_dir)) as sites,
    ):
        declared = reader.declared()
        inside = [meter for meter in declared.meters if meter.room == room]
        if not inside:
            rooms = ", ".join(sorted({meter.room for meter in declared.meters})) or "none is declared"
            raise UsageError(f"no room '{room}': {rooms}")
        zones = {site.site: site.time_zone for site in sites.sites()}
        zone = zones[inside[0].site]
        start, stop = (day_start_unix_milliseconds(day, zone) for day in (since, until))
        hours = reader.hours([meter.meter for meter in inside], start, stop)
    balance = room_balance(room, declared, hours, _days_of(start, stop, zone))
    if as_json:
        print_json(_document(balance, since, until))
    else:
        _print(balance, since, until)
    if any(node.is_wrong for node in balance.nodes):
        raise typer.Exit(EXIT_WARNINGS)


def _text(file: Path) -> str:
    try:
        raw = file.read_bytes()
        if len(raw) > MAXIMUM_BYTES:
            raise UsageError(f"{file} has {len(raw)} bytes: at most {MAXIMUM_BYTES}; import it in parts")
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8: save it as UTF-8") from error


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} '{text}' is no date: write YYYY-MM-DD") from error


def _days_of(start: int, stop: int, zone: str) -> dict[int, int]:
    first = start + -start % MILLISECONDS_PER_HOUR
    where = ZoneInfo(zone)
    return {hour: civil_day(where, hour) for hour in range(first, stop, MILLISECONDS_PER_HOUR)}


def _facts(one: DeclaredMeter, shares: Iterable[MeterShare], agents: dict[HostId, str]) -> dict[str, Any]:
    return {
        "meter": one.meter,
        "site": one.site,
        "room": one.room,
        "boundary": one.boundary.value,
        "parent": one.parent,
        "efficiency": None if one.efficiency_ppm is None else one.efficiency_ppm / WHOLE_PPM,
        "shares": [
            {
                "host": agents.get(share.host_id, ""),
                "part": share.part.value,
                "share": share.share_ppm / WHOLE_PPM,
                "from": share.valid_from.isoformat(),
                "to": None if share.valid_to == FOR_EVER else share.valid_to.isoformat(),
            }
            for share in shares
        ],
    }


def _document(balance: RoomBalance, since: date, until: date) -> dict[str, Any]:
    values = {
        name: getattr(balance, f"{name}_millijoules")
        for name in ("it", "machines", "other_room", "ups_loss", "overhead", "overhead_u", "sensitivity")
    }
    return {
        "room": balance.room,
        "period_from": since.isoformat(),
        "period_to": until.isoformat(),
        **{f"{name}_millijoules": value for name, value in values.items()},
        **{
            f"kwh_{name}": None if values[name] is None else values[name] / MILLIJOULES_PER_KWH
            for name in ("it", "ups_loss", "overhead", "other_room")
        },
        "overhead": balance.overhead,
        "meters": [_node(node) for node in balance.nodes],
        "notes": list(balance.notes),
    }


def _node(node: NodeBalance) -> dict[str, Any]:
    ppm = node.residual_ppm
    return {
        **asdict(node),
        "boundary": node.boundary.value,
        "residual_millijoules": node.residual_millijoules,
        "residual_ratio": None if ppm is None else ppm / WHOLE_PPM,
        "error": node.is_wrong,
    }


def _print(balance: RoomBalance, since: date, until: date) -> None:
    print(f"{balance.room}, {since} to {until}")
    lines = (
        ("machines", balance.machines_millijoules),
        ("other_room", balance.other_room_millijoules),
        ("kwh_it", balance.it_millijoules),
        ("kwh_ups_loss", balance.ups_loss_millijoules),
        ("kwh_overhead", balance.overhead_millijoules),
    )
    for name, value in lines:
        print(f"  {name:<13} {_kwh(value)}")
    if balance.sensitivity_millijoules is not None:
        print(
            f"  overhead not included; at a PUE of 1.55 it would be {_kwh(balance.sensitivity_millijoules)}"
        )
    rows = [
        {
            "meter": node.meter,
            "boundary": node.boundary.value,
            "kWh": _kwh(node.energy_millijoules),
            "below": _kwh(node.children_millijoules),
            "left": _kwh(node.residual_millijoules),
            "": "ERROR: below -5 %" if node.is_wrong else "",
        }
        for node in balance.nodes
    ]
    print_table(rows, empty="")
    for note in balance.notes:
        print(f"  note: {note}")


def _kwh(millijoules: int | None) -> str:
    return "not known" if millijoules is None else f"{millijoules / MILLIJOULES_PER_KWH:.3f}"
