# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse meters …`: meters that several machines share, and the balance of a room."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer

from veilleuse.collector import clock
from veilleuse.collector.calendars.periods import civil_day, day_start_unix_milliseconds
from veilleuse.collector.cli.language import translate_cell
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    IN_PARTS,
    ConfigOption,
    DryRunOption,
    JsonOption,
    WhyOption,
    load_settings,
    parse_date,
    plural,
    print_json,
    print_note,
    print_result,
    print_table,
    print_text,
    read_text,
    run_operation,
    who_and_why,
)
from veilleuse.collector.derive.rooms import NodeBalance, RoomBalance
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.fleet.rooms import RoomServers
from veilleuse.collector.model.meters import (
    EVERY_OTHER,
    FOR_EVER,
    WHOLE_PPM,
    DeclaredMeter,
    MeterShare,
    RoomServer,
    rooms_without_meter,
)
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.reports.emissions import servers_in_no_room_on
from veilleuse.collector.reports.fleet_year import servers_in_rooms
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.reports.rooms import balance_of, room_warnings
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.limits import AGENT_ID_DIGITS
from veilleuse.wire.units import MILLIJOULES_PER_KWH, MILLISECONDS_PER_HOUR, MILLISECONDS_PER_SECOND

app = typer.Typer(**APP)

MAXIMUM_BYTES: Final = 768 * 1024
IMPORT_SECONDS: Final = 120.0
_LONGEST_DAYS: Final = 400


@app.callback()
def meters() -> None:
    """Declare meters that several machines share, list them, and show the balance of a room."""


@app.command(name="import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or TOML; docs/sources.md, Shared meters")],
    config: ConfigOption = None,
    dry_run: DryRunOption = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Declare meters, their shares and PUEs from a file. A refused row refuses the whole file."""
    settings = load_settings(config)
    found = run_operation(
        settings,
        "meters_import",
        timeout_seconds=IMPORT_SECONDS,
        text=read_text(file, MAXIMUM_BYTES, IN_PARTS),
        name=file.name,
        **who_and_why(why, f"meters import {file.name}"),
        dry_run=dry_run,
    )
    if as_json:
        print_json(found)
    else:
        for refused in found["refused"]:
            print_text(f"{file.name}, {refused['where']}: {' '.join(refused['why'].split())}")
    if found["refused"]:
        number = len(found["refused"])
        raise AdminError(f"{number} row{'s' * (number > 1)} of {file.name} refused: nothing was imported")
    if not as_json:
        changed = ", ".join([*found["changed"], *found["changed_rooms"]]) or "nothing"
        would = "would change" if dry_run else "changed"
        counts = [("meters", "meter"), ("shares", "share"), ("pues", "PUE")]
        counts += [("servers", "placed server")] * bool(found["servers"])
        told = ", ".join(f"{found[name]} {plural(found[name], noun)}" for name, noun in counts)
        print_text(f"{told}; {would}: {changed}")
    if found["imported"]:
        _print_warnings(settings)


@app.command(name="list")
def list_meters(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List meters with their declarations. Meters that agents read and nobody declared are listed too."""
    settings = load_settings(config)
    with open_reader(settings.data_dir) as store:
        declared, read = store.metering.declarations(), store.metering.last_read()
        agents = {host.host_id: host.agent_id.hex() for host in store.data.hosts()}
    shares: defaultdict[str, list[MeterShare]] = defaultdict(list)
    for share in declared.shares:
        shares[share.meter].append(share)
    found = [
        {**_facts(meter, shares[meter.meter], agents), "last_read": _utc(read.pop(meter.meter, None))}
        for meter in declared.meters
    ]
    found += [{"meter": name, "shares": [], "last_read": _utc(hour)} for name, hour in sorted(read.items())]
    found += _servers_in_rooms(declared.servers, agents)
    rows = [
        {
            "meter": one.get("meter", ""),
            "room": one.get("room", "not declared"),
            "boundary": one.get("boundary", ""),
            "below": one.get("parent") or "",
            "last read": (one["last_read"] or "never")[:16] if "meter" in one else "",
            "shares": ", ".join(
                [
                    f"{share['host'][:AGENT_ID_DIGITS]} {share['part']} {share['share']:g} "
                    f"{_days_text(share)}"
                    for share in one.get("shares", ())
                ]
                or [
                    f"{server['host'][:AGENT_ID_DIGITS]} {_days_text(server)}"
                    for server in one.get("servers", ())
                ]
            ),
        }
        for one in found
    ]
    print_result(found, rows, as_json, empty="no meter is declared: see 'veilleuse meters import --help'")


@app.command()
def show(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="name of the room, as declared")],
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="first day, e.g. 2026-01-01")],
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="day after the last, e.g. 2026-02-01")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the balance of a room over a period. Its meters are compared with its machines."""
    settings = load_settings(config)
    since, until = parse_date("--from", first), parse_date("--to", end)
    if not since < until <= since + timedelta(days=_LONGEST_DAYS):
        raise UsageError(f"--from {since} must be before --to {until}, by at most {_LONGEST_DAYS} days")
    with open_reader(settings.data_dir) as store:
        sources = sources_of(store, settings.reporting)
        servers = servers_in_rooms(sources, Query(since, until, (), 1, clock.today()))
        declared = servers.declared
        inside = [meter for meter in declared.meters if meter.room == room]
        if not inside and any(one.room == room for one in declared.servers):
            raise UsageError(
                f"room '{room}' is declared without a meter and has no balance: its servers count in their "
                "class"
            )
        if not inside:
            rooms = ", ".join(sorted({meter.room for meter in declared.meters}))
            raise UsageError(f"no room '{room}': {f'declared: {rooms}' if rooms else 'none is declared'}")
        zones = {site.site: site.time_zone for site in sources.reader.sites()}
        zone = zones[inside[0].site]
        start, stop = (day_start_unix_milliseconds(day, zone) for day in (since, until))
        hours = sources.metering.hours([meter.meter for meter in inside], start, stop)
        if not any(hours.values()):
            raise AdminError(
                f"room '{room}' has no reading from {since} to {until}: none was read, or they are older "
                f"than {settings.retention.server_records_months} months (retention.server_records_months); "
                "'veilleuse meters list' shows when each meter was last read"
            )
        made, found = balance_of(room, hours, _days_of(start, stop, zone), servers)
    balance = made.balance
    if found is not None:
        notes = _servers_notes(room, since, until, found, placed=servers.are_declared_in(room))
        balance = replace(balance, notes=(*balance.notes, *notes))
    print_result(_document(balance, since, until), lambda: _print(balance, since, until), as_json)
    if any(node.is_wrong for node in balance.nodes) or (found is not None and found.is_wrong):
        raise typer.Exit(EXIT_WARNINGS)


def _servers_notes(room: str, since: date, until: date, found: RoomServers, *, placed: bool) -> Iterator[str]:
    silent = sum(milliseconds for _, milliseconds in found.silent)
    if silent and placed:
        yield (
            f"{silent / MILLISECONDS_PER_HOUR:.0f} h of its servers were not measured: their energy is in "
            "other_room here, and is estimated separately in 'veilleuse report emissions'"
        )
    for warning in room_warnings(room, since, until, found):
        yield warning["en"]


def _print_warnings(settings: CollectorSettings) -> None:
    with open_reader(settings.data_dir) as store:
        sources = sources_of(store, settings.reporting)
        names = servers_in_no_room_on(sources, clock.today())
        without = list(rooms_without_meter(sources.metering.declarations(), clock.today()))
    for text, _ in without:
        print_note(f"warning: {text}")
    if names:
        print_note(
            f"warning: {len(names)} {plural(len(names), 'server')} of a site with a metered room declared in "
            f"no room, may count twice: {', '.join(names)}"
        )


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
                **_span(share),
            }
            for share in shares
        ],
    }


def _servers_in_rooms(
    servers: Iterable[RoomServer], agents: Mapping[HostId, str]
) -> Iterator[dict[str, Any]]:
    """Yield the servers that stand in a room without a share, room by room, as a file declares them."""
    for (room, site), inside in groupby(servers, lambda one: (one.room, one.site)):
        yield {
            "room": room,
            "site": site,
            "servers": [
                {
                    "host": EVERY_OTHER
                    if one.is_default
                    else f"#{one.asset_id}"
                    if one.host_id is None
                    else agents.get(one.host_id, ""),
                    **_span(one),
                }
                for one in inside
            ],
        }


def _span(one: MeterShare | RoomServer) -> dict[str, str | None]:
    """Return first and last day; a last day of None means no end."""
    return {
        "from": one.valid_from.isoformat(),
        "to": None if one.valid_to == FOR_EVER else one.valid_to.isoformat(),
    }


def _days_text(told: Mapping[str, Any]) -> str:
    return translate_cell(f"from {told['from']}" + (f" to {told['to']}" if told["to"] else ""))


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
    sums = ("energy_millijoules", "children_millijoules", "machines_millijoules")
    unknown = {} if node.hours else dict.fromkeys(sums)
    return {
        **asdict(node),
        **unknown,
        "boundary": node.boundary.value,
        "residual_millijoules": node.residual_millijoules if node.hours else None,
        "residual_ratio": None if ppm is None else ppm / WHOLE_PPM,
        "error": node.is_wrong,
    }


def _print(balance: RoomBalance, since: date, until: date) -> None:
    print_text(f"{balance.room}, {translate_cell(f'{since} to {until}', 'date')}")
    lines = (
        ("machines", balance.machines_millijoules),
        ("other_room", balance.other_room_millijoules),
        ("kwh_it", balance.it_millijoules),
        ("kwh_ups_loss", balance.ups_loss_millijoules),
        ("kwh_overhead", balance.overhead_millijoules),
    )
    for name, value in lines:
        print_text(f"  {name:<13} {_kwh(value)}")
    if balance.sensitivity_millijoules is not None:
        print_text(
            f"  overhead not included; at a PUE of 1.55 it would be {_kwh(balance.sensitivity_millijoules)}"
        )
    rows = [
        {
            "meter": node.meter,
            "boundary": node.boundary.value,
            "hours": str(node.hours),
            "kWh": _kwh(node.energy_millijoules if node.hours else None),
            "below": _kwh(node.children_millijoules if node.hours else None),
            "machines": _kwh(node.machines_millijoules if node.hours else None),
            "left": _kwh(node.residual_millijoules if node.hours else None),
            "": "ERROR: below -5 %" if node.is_wrong else "",
        }
        for node in balance.nodes
    ]
    print_table(rows, empty="")
    for note in balance.notes:
        print_text(f"  note: {note}")


def _utc(hour: int | None) -> str | None:
    """Return the start of an hour as ISO 8601 in UTC; None for None."""
    return None if hour is None else datetime.fromtimestamp(hour / MILLISECONDS_PER_SECOND, UTC).isoformat()


def _kwh(millijoules: int | None) -> str:
    return "not known" if millijoules is None else f"{millijoules / MILLIJOULES_PER_KWH:.3f}"
