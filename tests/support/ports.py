# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Choose loopback ports for programs that need to know theirs, and may restart on the same port."""

from __future__ import annotations

import os
import random
import socket
from contextlib import ExitStack
from itertools import count
from typing import Final

WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
"""Each worker has its own range of ports. A test that waits for a port to close never meets the server of
another worker there."""
PORTS: Final = 1_500
FIRST: Final = 20_000 + WORKER * PORTS
"""The range is below the ports that Linux assigns (from 32768 on). No other program is assigned one of these
ports while its server is down."""

_turn = count(random.SystemRandom().randrange(PORTS))


def free_ports(number: int) -> list[int]:
    """Return ports where nobody listens, TCP or UDP; a process gets one again only after 1,499 others."""
    found: list[int] = []
    while len(found) < number:
        port = FIRST + next(_turn) % PORTS
        if _is_free(port):
            found.append(port)
    return found


def free_port() -> int:
    """Return one port of `free_ports`."""
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
