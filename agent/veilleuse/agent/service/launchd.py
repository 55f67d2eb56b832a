# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""launchd as the service manager of macOS. It has no protocol of notifications: it starts, ends (SIGTERM, then SIGKILL), restarts.

Source: launchd.plist(5); sysctl kern.willshutdown (xnu, iokit/Kernel/IOPMrootDomain.cpp). Never run on a Mac: docs/macos.md.
"""

from __future__ import annotations

from veilleuse.agent.platforms.macos.api import MacosCallTable, number


class Launchd:
    """`ports.ServiceManager`."""

    def __init__(self, calls: MacosCallTable | None = None) -> None:
        self._calls = calls

    def ready(self) -> None:
        """Nobody asks."""

    def alive(self, status: str = "") -> None:
        """Nobody asks."""

    def stopping(self) -> None:
        """Nobody asks."""

    def machine_is_going_down(self) -> bool:
        """Whether this stop is the machine's: what ends user space sets kern.willshutdown to 1 first. False when it cannot be told."""
        if self._calls is None:
            from veilleuse.agent.platforms.macos.system import real_calls

            self._calls = real_calls()
        return number(self._calls, "kern.willshutdown") == 1
