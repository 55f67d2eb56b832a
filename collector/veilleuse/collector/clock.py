# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the real clock for the collector; no other module of the collector does."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, tzinfo

from veilleuse.wire.units import NANOSECONDS_PER_MILLISECOND


def now() -> datetime:
    """Return the present moment in UTC."""
    return datetime.now(UTC)


def today(zone: tzinfo = UTC) -> date:
    """Return the day that it is in a time zone."""
    return datetime.now(zone).date()


def unix_milliseconds() -> int:
    """Return the Unix time in milliseconds."""
    return time.time_ns() // NANOSECONDS_PER_MILLISECOND


def unix_seconds() -> float:
    """Return the Unix time in seconds."""
    return time.time()
