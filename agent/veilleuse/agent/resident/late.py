# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sources that were not there when the agent began: a driver loaded later, a helper that was installed, a battery put in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from veilleuse.agent.ports import SourceContext
from veilleuse.agent.resident.ticker import Ticker
from veilleuse.agent.sources import Sources
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE

log = logging.getLogger(__name__)

FIRST_WAIT_MILLISECONDS: Final = 2 * MILLISECONDS_PER_MINUTE
LONGEST_WAIT_MILLISECONDS: Final = MILLISECONDS_PER_HOUR
"""Some thirty looks a day: to ask Windows for its energy meters costs tens of milliseconds."""
_AT_EVERY_LOOK: Final = "polled"
"""It opens nothing: a few looks at names (poller.something_to_poll)."""
_RETRIED: Final = frozenset({"no_device", "no_permission"})
"""A virtual machine stays one, a library is installed with a restart."""


class LateSources:
    """Tries again what was unavailable: at the first looks often, since drivers load while the machine starts, then once an hour."""

    def __init__(self, context: Callable[[], SourceContext]) -> None:
        """`context`: what a source may know now; whether there is something to poll may change."""
        self._context = context
        self._due = 0  # boot-time, ms
        self._wait = FIRST_WAIT_MILLISECONDS

    def look(self, sources: Sources, ticker: Ticker, boottime_milliseconds: int) -> Sources:
        """The sources with those that are there now, and the ticker polls them too."""
        due = boottime_milliseconds >= self._due
        if due:
            self._due = boottime_milliseconds + self._wait
            self._wait = min(2 * self._wait, LONGEST_WAIT_MILLISECONDS)
        wanted = [
            missing.name
            for missing in sources.unavailable
            if missing.name == _AT_EVERY_LOOK or (due and missing.word in _RETRIED)
        ]
        if not wanted:
            return sources
        context = self._context()
        for name in wanted:
            sources, late = sources.tried_again(name, context)
            if late is not None:
                log.info("source available now", extra={"source": name})
                ticker.add(*late)
        return sources
