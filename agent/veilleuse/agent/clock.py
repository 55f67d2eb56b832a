# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the real clock for the agent; no other module of the agent does."""

from __future__ import annotations

import time

from veilleuse.wire.units import NANOSECONDS_PER_MILLISECOND


def unix_milliseconds() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // NANOSECONDS_PER_MILLISECOND


def unix_seconds() -> float:
    """Return the Unix time in seconds."""
    return time.time()


def utc_date() -> str:
    """Return the UTC day, as YYYY-MM-DD."""
    return time.strftime("%Y-%m-%d", time.gmtime())
