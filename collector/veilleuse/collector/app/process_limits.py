# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a process asks of the system before gRPC is imported, which reads its environment then: descriptors and memory arenas."""

from __future__ import annotations

import ctypes
import logging
import resource
from typing import Final

WANTED: Final = 65_536
"""10,000 agents that come back together, and as many strangers that say nothing (S9)."""
_M_ARENA_MAX: Final = -8
"""malloc.h of glibc."""
ARENAS: Final = 2

log = logging.getLogger(__name__)


def raise_descriptor_limit() -> None:
    """Lift the soft limit, 1,024 under many service managers, as far as the hard one allows. Never raises."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError) as error:
        log.warning("descriptor limit stays low", extra={"limit": soft, "error": str(error)})


def bound_arenas() -> None:
    """At most two arenas for all threads. Before any thread is started; nothing where the C library has no such thing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
