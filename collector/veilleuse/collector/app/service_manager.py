# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the service manager is told, if there is one: sd_notify(3) without a library."""

from __future__ import annotations

import logging
import socket

from veilleuse.collector.settings import notify_socket

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Tell systemd, e.g. `READY=1`; nothing when it did not start us. Never raises."""
    address = notify_socket()
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.connect(address)
            connection.sendall(state.encode())
    except OSError as error:
        log.warning("service manager not told", extra={"state": state, "error": str(error)})
