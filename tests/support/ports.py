# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ports of loopback for programs that are told where to listen, and may stop and start there again."""

from __future__ import annotations

import os
import random
import socket
from contextlib import ExitStack
from itertools import count
from typing import Final

WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
"""Workers have ports of their own: one that waits for a port to fall silent must not meet another one's
server there."""
PORTS: Final = 1_500
FIRST: Final = 20_000 + WORKER * PORTS
"""Below what Linux gives to those who ask for any port (32768 on): a test beside this one gets none of them
by chance while nobody listens there yet, or just now.
"""

_turn = count(random.SystemRandom().randrange(PORTS))


def free_ports(number: int) -> list[int]:
    """Ports nobody listens at, TCP or UDP; each is told once by this process."""
    found: list[int] = []
    while len(found) < number:
        port = FIRST + next(_turn) % PORTS
        if _is_free(port):
            found.append(port)
    return found


def free_port() -> int:
    """One of them."""
    (port,) = free_ports(1)
    return port


def _is_free(port: int) -> bool:
    try:
        with ExitStack() as opened:
            opened.enter_context(socket.create_server(("127.0.0.1", port)))
            datagrams = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            datagrams.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
