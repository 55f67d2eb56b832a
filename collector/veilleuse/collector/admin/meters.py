# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Declaring shared meters, as an administrator asks it: all of a file or nothing of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from veilleuse.collector.admin.meter_checks import Checked, check
from veilleuse.collector.admin.meter_files import rows_of
from veilleuse.collector.metering import Metering, MeterShare

if TYPE_CHECKING:
    from veilleuse.collector.admin.operations import Operations

log = logging.getLogger(__name__)


def bring(
    operations: Operations, *, text: str, name: str, who: str, why: str = "", dry_run: bool = False
) -> dict[str, Any]:
    """Declare what a file says: each meter and each room with a PUE that it names is then just that, the others stay.

    One refused row, and nothing is declared. The same file again changes nothing. `refused`: where and why. Raises UsageError
    when the file has no form at all.
    """
    rows = rows_of(text, name)
    office, metering = operations.office, operations.metering

    def job() -> tuple[Checked, Metering]:
        known = metering.declared()
        sites = frozenset(site.site for site in office.registry.sites())
        checked = check(rows, known, office.registry.hosts(), sites)
        changed = _changed(checked, known)
        if not checked.refused and not dry_run and (changed.meters or changed.pues):
            metering.declare(changed.meters, changed.shares, changed.pues)
            office.registry.write_journal(
                now_unix_milliseconds=office.now_unix_milliseconds(),
                who=who[:128],
                what=f"meters declared: {len(changed.meters)}, PUEs: {len(changed.pues)}",
                why=why[:256],
            )
        return checked, changed

    checked, changed = office.commit(job)
    imported = not checked.refused and not dry_run
    if imported:
        operations.derive.wake()
        log.info("meters declared", extra={"meters": len(checked.meters), "changed": len(changed.meters)})
    return {
        "meters": len(checked.meters),
        "shares": len(checked.shares),
        "pues": len(checked.pues),
        "changed": [meter.meter for meter in changed.meters],
        "changed_rooms": sorted({pue.room for pue in changed.pues}),
        "refused": [{"where": where, "why": why} for where, why in checked.refused],
        "imported": imported,
        "dry_run": dry_run,
    }


def _changed(checked: Checked, known: Metering) -> Metering:
    """What differs from what is known; shares in any order are the same."""
    before = {meter.meter: meter for meter in known.meters}
    old, new = _by_meter(known.shares), _by_meter(checked.shares)
    meters = tuple(
        meter
        for name, meter in checked.meters.items()
        if before.get(name) != meter or old.get(name) != new.get(name)
    )
    names = {meter.meter for meter in meters}
    rooms = {pue.room for pue in checked.pues}
    changed_rooms = {
        room
        for room in rooms
        if {pue for pue in known.pues if pue.room == room}
        != {pue for pue in checked.pues if pue.room == room}
    }
    return Metering(
        meters,
        tuple(share for share in checked.shares if share.meter in names),
        tuple(pue for pue in checked.pues if pue.room in changed_rooms),
    )


def _by_meter(shares: Iterable[MeterShare]) -> dict[str, set[MeterShare]]:
    found: dict[str, set[MeterShare]] = {}
    for share in shares:
        found.setdefault(share.meter, set()).add(share)
    return found
