# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The real clocks, and a sleep that a signal can end; of whichever system runs here (platforms/__init__.py)."""

from __future__ import annotations

from veilleuse.agent.model import Instant
from veilleuse.agent.platforms import here


def instant_now() -> Instant:
    """All three clocks, read within microseconds of each other."""
    return Instant(*here.clocks())


def read_boot_id(procfs: str) -> str:
    """The system's boot id; empty where there is none: every start then counts as another boot."""
    return here.boot_id(procfs)


class SystemClock:
    """`ports.Clock` on the operating system's clocks."""

    def __init__(self, procfs: str = "/proc") -> None:
        self._procfs = procfs
        sleeper = here.sleeper()
        self.sleep, self.wake, self.close = sleeper.sleep, sleeper.wake, sleeper.close
        """As in `system.Sleeper`: no method of ours stands between a signal and the end of the wait."""

    def now(self) -> Instant:
        """All three clocks, read within microseconds of each other."""
        return instant_now()

    def boot_id(self) -> str:
        """As `read_boot_id`."""
        return read_boot_id(self._procfs)
