# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse serve`: the composition root. Nothing here imports grpc before its environment is set."""

from __future__ import annotations

import os
from typing import Final

from veilleuse.collector.settings import CollectorSettings

ONLY_TLS_1_3: Final = "ECDHE-RSA-AES128-GCM-SHA256"
"""Cipher list that disables TLS 1.2, as gRPC's Python has no option for the lowest TLS version.

The list applies to TLS 1.2 only: TLS 1.3 has its own (RFC 8446). This cipher needs an RSA certificate, and
ours is on P-256. A TLS 1.2 handshake therefore finds no cipher.
"""


def serve(settings: CollectorSettings) -> int:
    """Run the collector until SIGTERM or SIGINT; return the exit code. Raises CollectorError at the start."""
    prepare_transport(settings)
    # imported only now: gRPC reads its environment when it is imported
    from veilleuse.collector.app.service import (
        run,
    )

    return run(settings)


def prepare_transport(settings: CollectorSettings) -> None:
    """Set the environment of gRPC. It has no effect once grpc is imported."""
    if settings.grpc.tls_minimum == "1.3":
        os.putenv("GRPC_SSL_CIPHER_SUITES", ONLY_TLS_1_3)
    if settings.log.level != "debug":
        os.putenv("GRPC_VERBOSITY", "ERROR")  # else every port scan writes a line
