# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The notifications of an agent's service: one at its start, and one after each of its steps."""

from __future__ import annotations

import socket
from contextlib import suppress

from tests.support.waiting import PATIENCE_SECONDS


def whole_step(manager: socket.socket) -> None:
    """Return after a step that began after this call: the second notification from now on."""
    manager.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            manager.recv(100)
    manager.settimeout(PATIENCE_SECONDS)
    for _ in range(2):
        while not manager.recv(100).startswith(b"WATCHDOG=1"):
            pass
