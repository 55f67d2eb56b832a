# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What an agent signs, and the collector verifies, to renew an expired certificate: PROMISES.md §2.6.5."""

from __future__ import annotations

import hashlib
from typing import Final

CONTEXT: Final = b"veilleuse renew-expired v1"
"""So that the signature is good for nothing else."""


def renew_expired_message(nonce: bytes, certificate_request_der: bytes) -> bytes:
    """Context ‖ nonce ‖ SHA-256(certificate request). Source: telemetry.proto, RenewExpiredRequest."""
    return CONTEXT + nonce + hashlib.sha256(certificate_request_der).digest()
