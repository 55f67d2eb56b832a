# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Trailing metadata of a refused call: docs/wire.md."""

from __future__ import annotations

from typing import Final

REASON: Final = "veilleuse-reason"
"""Reason in one word."""
RETRY_AFTER: Final = "retry-after-milliseconds"
"""Time to wait before the next call; 0 = the agent decides."""
