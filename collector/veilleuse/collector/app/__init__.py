# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse serve`: the composition root. Nothing here imports grpc before its environment is set."""

from __future__ import annotations

import os
from typing import Final

from veilleuse.collector.settings import CollectorSettings

ONLY_TLS_1_3: Final = "ECDHE-RSA-AES128-GCM-SHA256"
"""gRPC's Python has no option for the lowest TLS version. Its cipher list binds TLS 1.2 only (RFC 8446 has its own), and
this one wants an RSA certificate where ours is on P-256: a TLS 1.2 handshake finds no cipher, TLS 1.3 is untouched."""


def serve(settings: CollectorSettings) -> int:
    """Run the collector until SIGTERM or SIGINT; the exit code. Raises CollectorError when it cannot start."""
    prepare_transport(settings)
    from veilleuse.collector.app.service import (
        run,
    )  # only now: gRPC reads its environment when it is imported

    return run(settings)


def prepare_transport(settings: CollectorSettings) -> None:
    """Set what gRPC reads from the environment. Of no effect once grpc is imported."""
    if settings.grpc.tls_minimum == "1.3":
        os.putenv("GRPC_SSL_CIPHER_SUITES", ONLY_TLS_1_3)
    if settings.log.level != "debug":
        os.putenv("GRPC_VERBOSITY", "ERROR")  # else every port scan writes a line
