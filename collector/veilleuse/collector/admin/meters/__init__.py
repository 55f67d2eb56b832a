# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Declares shared meters from a file, all of it or nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.admin.meters.files import rows_of
from veilleuse.collector.admin.meters.rows import MeterFileResult, check_rows
from veilleuse.collector.model.meters import MeterDeclarations, MeterShare, Pue, RoomServer

log = logging.getLogger(__name__)

_OfRoom = TypeVar("_OfRoom", Pue, RoomServer)


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
            issuing.registry.write_journal(
                now_unix_milliseconds=issuing.now_unix_milliseconds(),
                who=who[:128],
                what=(
                    f"meters declared: {len(changed.meters)}, PUEs: {len(changed.pues)}, servers in rooms: "
                    f"{len(changed.servers)}"
                ),
                why=why[:256],
            )
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
