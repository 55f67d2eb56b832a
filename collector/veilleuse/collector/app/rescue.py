# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Saves the open content of a database whose file was removed, before the process ends."""

from __future__ import annotations

import logging
import time
from typing import Final

from veilleuse.collector.app.data_directory import Collector
from veilleuse.collector.enrolment.ca import FOLDER
from veilleuse.collector.errors import CollectorError, QueueFull, StoreDamaged, StoreLost
from veilleuse.collector.store.directory import FLEET_KEY_FILE, name_remedy

log = logging.getLogger(__name__)

RESCUE_SECONDS: Final = 30.0
"""Wait between two tries, while there is no folder or no room for the copy.

Nothing is acknowledged meanwhile.
"""
_SETTLE_SECONDS: Final = 1.0
"""Wait for further removals: what removes one file often removes the next, and a fresh copy."""


def rescue(collector: Collector) -> bool:
    """Return True when the process may end: nothing is left to save. Else the log names the obstacle."""
    writer, store = collector.writer, collector.store

    def between() -> None:
        writer.serve_waiting()  # waiting calls learn at once that nothing is stored

    try:
        if store.files.lost is not None:
            time.sleep(_SETTLE_SECONDS)
        while copies := writer.submit(lambda: store.rescue(between), alone=True).result():
            log.error("rescued a lost database", extra={"files": ", ".join(map(str, copies))})
            time.sleep(_SETTLE_SECONDS)
    except QueueFull:  # the service is being stopped
        return True
    except (CollectorError, OSError) as error:
        remedy = (
            "give it folder and room, and do not stop the collector: only it still holds what was removed"
        )
        log.error("rescue of a lost database failed", extra={"error": str(error), "remedy": remedy})
        return False
    return True


def describe_loss(collector: Collector, lost: StoreLost) -> StoreDamaged:
    """Return one line about the loss.

    Each saved database and how to restore it, and what only a backup has.
    """
    data_dir, saved = collector.settings.data_dir, collector.store.rescued
    if not saved:
        return lost
    line = str(lost)
    if others := [path.name for path in saved if path != lost.database]:
        line += f"; {' and '.join(others)} was lost too"
    wanted = (data_dir / FOLDER, data_dir / FLEET_KEY_FILE, collector.issuing.register.path)
    if gone := [path.name for path in wanted if not path.exists()]:
        line += (
            f"; {', '.join(gone)} went too, and only a backup has it: first 'veilleuse restore FILE', then "
            "the next steps"
        )
    return StoreDamaged(f"{line}; {name_remedy(*saved)}")
