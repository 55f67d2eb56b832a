# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""systemd's notification protocol, without a dependency. Source: sd_notify(3), systemd.service(5)."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping

_STATE_TIMEOUT_SECONDS = 2.0
_SEND_TIMEOUT_SECONDS = 1.0


class SystemdNotifier:
    """`ports.ServiceManager` for a unit with Type=notify; does nothing outside one."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        address = variables.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = "\0" + address[1:]  # the abstract namespace
        self._address = address
        self._booted = os.path.isdir("/run/systemd/system")

    def ready(self) -> None:
        """Measuring has begun."""
        self._send("READY=1")

    def alive(self, status: str = "") -> None:
        """Feed the watchdog; `status` is what `systemctl status` shows."""
        self._send(f"WATCHDOG=1\nSTATUS={status}" if status else "WATCHDOG=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def machine_is_going_down(self) -> bool:
        """Whether this stop is the machine's: then the time until the next boot is `off`, else `unknown`.

        Asked once, at the end, of `systemctl is-system-running` (`stopping` from the moment a shutdown or
        reboot job is queued). False when systemd cannot be asked: `unknown` claims nothing.
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
                channel.settimeout(
                    _SEND_TIMEOUT_SECONDS
                )  # a manager that does not read must not stop the measuring
                channel.sendto(message.encode(), self._address)
        except OSError:
            return  # the manager is going away; nothing here depends on it
