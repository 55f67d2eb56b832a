# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Save what the process still sees of a database whose file was removed, before the process ends."""

from __future__ import annotations

import logging
from typing import Final

from veilleuse.collector.assembly import Collector
from veilleuse.collector.errors import CollectorError, QueueFull

log = logging.getLogger(__name__)

RESCUE_SECONDS: Final = 30.0
"""Between two tries, while there is no folder or no room for the copy: nothing is acknowledged meanwhile."""


def rescued(collector: Collector) -> bool:
    """Whether the process may end: there is nothing to save, or it is saved. Else the log says what is wanting."""
    writer, store = collector.writer, collector.store

    def between() -> None:
        writer.serve_waiting()  # who waits is told at once that nothing is stored

    try:
        copy = writer.submit(lambda: store.rescue(between), alone=True).result()
    except QueueFull:  # somebody stops the service meanwhile
        return True
    except (CollectorError, OSError) as error:
        remedy = (
            "give it folder and room, and do not stop the collector: only it still holds what was removed"
        )
        log.error("rescue of a lost database failed", extra={"error": str(error), "remedy": remedy})
        return False
    if copy is not None:
        log.error("rescued a lost database", extra={"file": str(copy)})
    return True
