# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""School holidays after the shipped table, as an administrator brings them: all of a file or nothing of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from veilleuse.collector.calendars.school import merged, read_school_holidays

if TYPE_CHECKING:
    from veilleuse.collector.admin.operations import Operations

log = logging.getLogger(__name__)


def bring_school_holidays(
    operations: Operations, *, text: str, name: str, who: str, why: str = "", dry_run: bool = False
) -> dict[str, Any]:
    """Over the span that a zone has in the file, the file counts; what was imported outside it stays. Raises UsageError."""
    brought = read_school_holidays(text, name)
    office, calendars = operations.office, operations.calendars

    def job() -> bool:
        stored = calendars.school_periods()
        wanted = merged(stored, brought)
        if wanted == stored or dry_run:
            return wanted != stored
        calendars.replace_school_periods(wanted)
        office.registry.write_journal(
            now_unix_milliseconds=office.now_unix_milliseconds(),
            who=who[:128],
            what=f"school holidays imported: {len(brought)} periods",
            why=why[:256],
        )
        return True

    changed = office.commit(job)
    imported = changed and not dry_run
    if imported:
        log.info("school holidays imported", extra={"periods": len(brought)})
    zones = sorted({one.zone for one in brought})
    return {
        "periods": len(brought),
        "zones": [
            {
                "zone": zone.value,
                "from": min(one.first for one in brought if one.zone is zone).isoformat(),
                "to": max(one.last for one in brought if one.zone is zone).isoformat(),
            }
            for zone in zones
        ],
        "changed": changed,
        "imported": imported,
        "dry_run": dry_run,
    }
