# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Notification protocol of systemd, without a dependency. Source: sd_notify(3), systemd.service(5)."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping

_STATE_TIMEOUT_SECONDS = 2.0
_SEND_TIMEOUT_SECONDS = 1.0


class SystemdNotifier:
    """Implements `ports.ServiceManager` for a unit with Type=notify; does nothing outside one."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        address = variables.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = "\0" + address[1:]  # the abstract namespace
        self._address = address
        self._booted = os.path.isdir("/run/systemd/system")

    def ready(self) -> None:
        """Report that measuring has begun."""
        self._send("READY=1")

    def alive(self, status: str = "") -> None:
        """Feed the watchdog; `systemctl status` shows `status`."""
        self._send(f"WATCHDOG=1\nSTATUS={status}" if status else "WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the process is ending."""
        self._send("STOPPING=1")

    def machine_is_going_down(self) -> bool:
        """Return True when the machine shuts down.

        The time until the next boot is then `off`, else `unknown`. It is asked once, at the end, of
        `systemctl is-system-running` (`stopping` once a shutdown or reboot job is queued). False when systemd
        cannot be asked: `unknown` claims nothing.
        """
        if not self._booted:
            return False
        try:
            answer = subprocess.run(
                ["systemctl", "is-system-running"],
                capture_output=True,
                timeout=_STATE_TIMEOUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return answer.stdout.strip() == b"stopping"

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                # a manager that does not read must not stop the measuring
                channel.settimeout(_SEND_TIMEOUT_SECONDS)
                channel.sendto(message.encode(), self._address)
        except OSError:
            return  # the manager is going away; the agent does not depend on it
