# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How both gRPC ports behave. The bounds: PROMISES.md §2.3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from veilleuse.wire.limits import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES

OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", 4),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 5 * 60_000),
    ("grpc.max_connection_age_ms", 60 * 60_000),
    ("grpc.max_connection_age_grace_ms", 5 * 60_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a share of the calls
)
GRACE_SECONDS: Final = 1.5
"""Time calls under way have to end when we stop; the whole stop takes less than 5 s."""
