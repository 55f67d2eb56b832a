# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Declares shared meters from a file of `veilleuse meters import`, all of it or nothing.

The file is CSV (comma, semicolon or tab) or TOML. A CSV has one line a share; the columns of a meter must be
on its first line at least. A line without a host declares only the meter; a line without a meter declares a
server that stands in the room. A TOML has [[meter]] tables with `share = [{…}]`, and [[pue]] and [[server]]
tables.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final, TypeVar

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.admin.meter_rows import METER_KEYS, MeterDeclaration, MeterFileResult, check_rows
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.meters import MeterDeclarations, MeterShare, Pue, RoomServer
from veilleuse.wire.settings_file import parse_toml

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

log = logging.getLogger(__name__)

_OfRoom = TypeVar("_OfRoom", Pue, RoomServer)
SHARE_KEYS: Final = ("host", "part", "share", "from", "to")
PUE_KEYS: Final = ("room", "pue", "point", "from", "to")
SERVER_KEYS: Final = ("site", "room", "host", "from", "to")
COLUMNS: Final = (*METER_KEYS, *SHARE_KEYS)
MAXIMUM_ROWS: Final = 20_000


def import_file(
    context: AdminContext, *, text: str, name: str, who: str, why: str = "", dry_run: bool = False
) -> dict[str, Any]:
    """Declare the meters, PUEs and servers in rooms of a file.

    The file replaces all declarations of the meters and rooms that it names; others stay. One refused row
    refuses the whole file (`refused`: where and why). The same file again changes nothing. Raises UsageError
    for a file that cannot be parsed.
    """
    rows = rows_of(text, name)
    issuing, metering = context.issuing, context.store.metering
    places_servers = any(row.kind == "server" for row in rows)
    assets = context.alone(context.store.inventory.snapshot).assets if places_servers else ()

    def job() -> tuple[MeterFileResult, MeterDeclarations]:
        known = metering.declarations()
        sites = frozenset(site.site for site in issuing.registry.sites())
        checked = check_rows(rows, known, issuing.registry.hosts(), sites, assets)
        changed = _changed(checked, known)
        if not checked.refused and not dry_run and (changed.meters or changed.pues or changed.servers):
            metering.declare(changed.meters, changed.shares, changed.pues, changed.servers)
            what = (
                f"meters declared: {len(changed.meters)}, PUEs: {len(changed.pues)}, servers in rooms: "
                f"{len(changed.servers)}"
            )
            context.note(who, what, why)
        return checked, changed

    checked, changed = issuing.commit(job)
    imported = not checked.refused and not dry_run
    if imported:
        context.derive.wake()
        log.info("meters declared", extra={"meters": len(checked.meters), "changed": len(changed.meters)})
    return {
        "meters": len(checked.meters),
        "shares": len(checked.shares),
        "pues": len(checked.pues),
        "servers": len(checked.servers),
        "changed": [meter.meter for meter in changed.meters],
        "changed_rooms": sorted(
            {pue.room for pue in changed.pues} | {server.room for server in changed.servers}
        ),
        "refused": [{"where": where, "why": why} for where, why in checked.refused],
        "imported": imported,
        "dry_run": dry_run,
    }


def _changed(checked: MeterFileResult, known: MeterDeclarations) -> MeterDeclarations:
    """Return the declarations that differ from the known ones; the order of shares does not count."""
    before = {meter.meter: meter for meter in known.meters}
    old, new = _by_meter(known.shares), _by_meter(checked.shares)
    meters = tuple(
        meter
        for name, meter in checked.meters.items()
        if before.get(name) != meter or old.get(name) != new.get(name)
    )
    names = {meter.meter for meter in meters}
    return MeterDeclarations(
        meters,
        tuple(share for share in checked.shares if share.meter in names),
        _of_changed_rooms(checked.pues, known.pues),
        _of_changed_rooms(checked.servers, known.servers),
    )


def _of_changed_rooms(new: Sequence[_OfRoom], known: Sequence[_OfRoom]) -> tuple[_OfRoom, ...]:
    """Return the declarations of rooms whose known declarations differ."""
    changed = {
        room
        for room in {one.room for one in new}
        if {one for one in known if one.room == room} != {one for one in new if one.room == room}
    }
    return tuple(one for one in new if one.room in changed)


def _by_meter(shares: Iterable[MeterShare]) -> dict[str, set[MeterShare]]:
    found: dict[str, set[MeterShare]] = {}
    for share in shares:
        found.setdefault(share.meter, set()).add(share)
    return found


def rows_of(text: str, name: str) -> list[MeterDeclaration]:
    """Return all rows of a file; its name gives the format. Raises UsageError when it cannot be parsed."""
    form = next((form for ending, form in _FORMS.items() if name.lower().endswith(ending)), None)
    if form is None:
        raise UsageError(f"{name} is neither .csv nor .toml: meters are declared in one of these")
    try:
        found = list(form(text))
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
    if len(found) > MAXIMUM_ROWS:
        raise UsageError(f"{name} has more than {MAXIMUM_ROWS} rows: import it in parts, meter by meter")
    if not found:
        raise UsageError(f"{name} declares nothing")
    return found


def _csv(text: str) -> Iterator[MeterDeclaration]:
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise UsageError(f"it is empty: its first line names the columns, of {', '.join(COLUMNS)}")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        yield from _lines(reader, delimiter)
    except csv.Error as error:
        raise UsageError(f"line {reader.line_num}: {error}") from error


def _lines(reader: CsvReader, delimiter: str) -> Iterator[MeterDeclaration]:
    columns = [column.strip().lower() for column in next(reader, [])]
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown or not {"meter", "room"}.intersection(columns):
        what = f"unknown column '{unknown[0][:40]}'" if unknown else "no column 'meter'"
        raise UsageError(f"line 1: {what}: use {', '.join(COLUMNS)}")
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise UsageError(f"line 1: column '{twice[0]}' is there twice")
    for cells in reader:
        values = {column: cell.strip() for column, cell in zip(columns, cells, strict=False) if cell.strip()}
        where = f"line {reader.line_num}"
        if not values:
            continue
        if len(cells) > len(columns):
            hint = ": a decimal comma needs ; between the columns" if delimiter == "," else ""
            raise UsageError(f"{where} has more cells than columns{hint}")
        if "meter" not in values and "host" in values:
            if more := [key for key in values if key not in SERVER_KEYS]:
                raise UsageError(
                    f"{where}: '{more[0]}' belongs to a meter, and the line names none; for a server in a "
                    f"room use {', '.join(SERVER_KEYS)}"
                )
            yield MeterDeclaration("server", where, values)
            continue
        yield MeterDeclaration("meter", where, {key: values[key] for key in METER_KEYS if key in values})
        share: dict[str, str] = {key: values[key] for key in ("meter", *SHARE_KEYS) if key in values}
        if len(share) > 1:
            yield MeterDeclaration("share", where, share)


def _toml(text: str) -> Iterator[MeterDeclaration]:
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"it is not TOML: {error}") from error
    if unknown := [key for key in document if key not in ("meter", "pue", "server")]:
        raise UsageError(f"unknown table '{unknown[0]}': use [[meter]], [[pue]] and [[server]]")
    for number, table in enumerate(_tables(document, "meter"), 1):
        where = f"meter {number}"
        shares = _tables(table, "share")
        values = _texts({key: value for key, value in table.items() if key != "share"}, METER_KEYS, where)
        yield MeterDeclaration("meter", where, values)
        for place, share in enumerate(shares, 1):
            here = f"{where}, share {place}"
            name = {"meter": values["meter"]} if "meter" in values else {}
            yield MeterDeclaration("share", here, name | _texts(share, SHARE_KEYS, here))
    for number, table in enumerate(_tables(document, "pue"), 1):
        yield MeterDeclaration("pue", f"pue {number}", _texts(table, PUE_KEYS, f"pue {number}"))
    for number, table in enumerate(_tables(document, "server"), 1):
        yield MeterDeclaration("server", f"server {number}", _texts(table, SERVER_KEYS, f"server {number}"))


_FORMS: Final[Mapping[str, Callable[[str], Iterator[MeterDeclaration]]]] = {".toml": _toml, ".csv": _csv}


def _tables(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UsageError(f"'{key}' must be tables: write [[{key}]]")
    return found


def _texts(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in table.items():
        if key not in keys:
            raise UsageError(f"{where}: unknown key '{key}': use {', '.join(keys)}")
        if isinstance(value, bool) or not isinstance(value, (str, int, float, date)):
            raise UsageError(f"{where}: '{key}' must be a text, a number or a date")
        values[key] = str(value)
    return values
