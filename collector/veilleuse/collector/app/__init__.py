# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse serve`: the composition root, and what a process sets before gRPC reads its environment.

Nothing here imports grpc before that.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
from typing import Final

from veilleuse.collector.logs import configure
from veilleuse.collector.settings import CollectorSettings

log = logging.getLogger(__name__)

ONLY_TLS_1_3: Final = "ECDHE-RSA-AES128-GCM-SHA256"
"""Cipher list that disables TLS 1.2, as gRPC's Python has no option for the lowest TLS version.

The list applies to TLS 1.2 only: TLS 1.3 has its own (RFC 8446). This cipher needs an RSA certificate, and
ours is on P-256. A TLS 1.2 handshake therefore finds no cipher.
"""
DESCRIPTORS: Final = 65_536
"""Enough for 10,000 agents that come back together, and as many silent strangers (S9)."""
_M_ARENA_MAX: Final = -8
"""malloc.h of glibc."""
ARENAS: Final = 2


def serve(settings: CollectorSettings) -> int:
    """Run the collector until SIGTERM or SIGINT; return the exit code. Raises CollectorError at the start."""
    prepare_process(settings)
    # imported only now: gRPC reads its environment when it is imported
    from veilleuse.collector.app.service import run

    return run(settings)


def prepare_process(settings: CollectorSettings) -> None:
    """Configure the log, the limits of this process and the environment of gRPC.

    Call it before grpc is imported, which reads the environment, and before any thread is started.
    """
    configure(settings)
    _raise_descriptor_limit()
    _bound_arenas()
    if settings.grpc.tls_minimum == "1.3":
        os.putenv("GRPC_SSL_CIPHER_SUITES", ONLY_TLS_1_3)
    if settings.log.level != "debug":
        os.putenv("GRPC_VERBOSITY", "ERROR")  # else every port scan writes a line


def _raise_descriptor_limit() -> None:
    """Raise the soft limit, 1,024 under many service managers, up to the hard limit. Never raises."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError) as error:
        log.warning("descriptor limit stays low", extra={"limit": soft, "error": str(error)})


def _bound_arenas() -> None:
    """Use at most two arenas for all threads; no effect on C libraries without arenas."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
