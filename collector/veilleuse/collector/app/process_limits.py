# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Limits of a process, set before gRPC is imported and reads its environment.

Descriptors and memory arenas.
"""

from __future__ import annotations

import ctypes
import logging
import resource
from typing import Final

WANTED: Final = 65_536
"""Enough for 10,000 agents that come back together, and as many silent strangers (S9)."""
_M_ARENA_MAX: Final = -8
"""malloc.h of glibc."""
ARENAS: Final = 2

log = logging.getLogger(__name__)


def raise_descriptor_limit() -> None:
    """Raise the soft limit, 1,024 under many service managers, up to the hard limit. Never raises."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError) as error:
        log.warning("descriptor limit stays low", extra={"limit": soft, "error": str(error)})


def bound_arenas() -> None:
    """Use at most two arenas for all threads; no effect on C libraries without arenas.

    Call it before any thread is started.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
