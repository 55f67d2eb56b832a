# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What an agent signs with its key, and the collector verifies: to renew an expired certificate (docs/wire.md §6),
and to prove of which machine it is a copy (docs/wire.md §7)."""

from __future__ import annotations

import hashlib
from typing import Final

CONTEXT: Final = b"veilleuse renew-expired v1"
"""So that the signature is good for nothing else."""
COPY_CONTEXT: Final = b"veilleuse copy-of v1"


def renew_expired_message(nonce: bytes, certificate_request_der: bytes) -> bytes:
    """Context ‖ nonce ‖ SHA-256(certificate request). Source: telemetry.proto, RenewExpiredRequest."""
    return CONTEXT + nonce + hashlib.sha256(certificate_request_der).digest()


def copy_of_message(nonce: bytes, certificate_request_der: bytes) -> bytes:
    """Context ‖ nonce ‖ SHA-256(certificate request). Source: telemetry.proto, CopyOf."""
    return COPY_CONTEXT + nonce + hashlib.sha256(certificate_request_der).digest()
