# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Adapter to launchd, the service manager of macOS.

launchd has no notifications: it starts, ends (SIGTERM, then SIGKILL) and restarts the process. Source:
launchd.plist(5); sysctl kern.willshutdown (xnu, iokit/Kernel/IOPMrootDomain.cpp). Never run on a Mac:
docs/macos.md.
"""

from __future__ import annotations

from veilleuse.agent.platforms.macos import MacosCallTable, real_calls, sysctl_number


class Launchd:
    """Implements `ports.ServiceManager` for launchd."""

    def __init__(self, calls: MacosCallTable | None = None) -> None:
        self._calls = calls or real_calls()

    def ready(self) -> None:
        """Do nothing: launchd has no notification."""

    def alive(self, status: str = "") -> None:
        """Do nothing: launchd has no notification."""

    def stopping(self) -> None:
        """Do nothing: launchd has no notification."""

    def machine_is_going_down(self) -> bool:
        """Return True when the machine shuts down: kern.willshutdown is then set to 1 first.

        False when unknown.
        """
        return sysctl_number(self._calls, "kern.willshutdown") == 1
