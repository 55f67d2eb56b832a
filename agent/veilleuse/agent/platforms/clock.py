# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The real clocks, and a sleep that a signal can end, on the present system (platforms/__init__.py)."""

from __future__ import annotations

from veilleuse.agent.model import Instant
from veilleuse.agent.platforms import here


def instant_now() -> Instant:
    """Read all three clocks within microseconds of each other."""
    return Instant(*here.clocks())


def read_boot_id(procfs: str) -> str:
    """Return the boot id of the system; empty where there is none: each start then counts as another boot."""
    return here.boot_id(procfs)


class SystemClock:
    """Implements `ports.Clock` on the clocks of the operating system."""

    def __init__(self, procfs: str = "/proc") -> None:
        self._procfs = procfs
        sleeper = here.sleeper()
        self.sleep, self.wake, self.close = sleeper.sleep, sleeper.wake, sleeper.close
        """Methods of `system.Sleeper`, bound directly: no method of ours delays the end of the wait."""

    def now(self) -> Instant:
        """Read all three clocks within microseconds of each other."""
        return instant_now()

    def boot_id(self) -> str:
        """See `read_boot_id`."""
        return read_boot_id(self._procfs)
