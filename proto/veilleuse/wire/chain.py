# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Hash chain over a stream of records: docs/wire.md §1."""

from __future__ import annotations

import hashlib


def chain_start(epoch: bytes) -> bytes:
    """Return the chain value of sequence number 0: SHA-256 of the 8-byte epoch; 32 bytes."""
    return hashlib.sha256(epoch).digest()


def chain_next(chain_before: bytes, record: bytes) -> bytes:
    """Return SHA-256(chain_before ‖ record); 32 bytes."""
    return hashlib.sha256(chain_before + record).digest()


def record_hash(record: bytes) -> bytes:
    """Return the first 8 bytes of SHA-256(record), kept on the stored row."""
    return hashlib.sha256(record).digest()[:8]
