# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Messages that an agent signs and the collector verifies.

They renew an expired certificate (docs/wire.md §6), or prove of which machine this one is a clone (docs/wire.md §7).
"""

from __future__ import annotations

import hashlib
from typing import Final

CONTEXT: Final = b"veilleuse renew-expired v1"
"""Prefix that makes the signature valid for this purpose only."""
COPY_CONTEXT: Final = b"veilleuse copy-of v1"


def renew_expired_message(nonce: bytes, certificate_request_der: bytes) -> bytes:
    """Return context ‖ nonce ‖ SHA-256(certificate request). Source: telemetry.proto, RenewExpiredRequest."""
    return CONTEXT + nonce + hashlib.sha256(certificate_request_der).digest()


def copy_of_message(nonce: bytes, certificate_request_der: bytes) -> bytes:
    """Return context ‖ nonce ‖ SHA-256(certificate request). Source: telemetry.proto, CopyOf."""
    return COPY_CONTEXT + nonce + hashlib.sha256(certificate_request_der).digest()
