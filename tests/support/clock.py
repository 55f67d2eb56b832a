# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the real clock for the tests, and sets it: no other file of tests reads it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import tests.support.clock_use  # noqa: F401  before any module takes a function of the product's clocks
from veilleuse.collector.clock import now, today, unix_milliseconds, unix_seconds

__all__ = [
    "FIXED",
    "LIBRARY",
    "environment_at",
    "now",
    "offset_seconds",
    "today",
    "unix_milliseconds",
    "unix_seconds",
]

FIXED: Final = datetime(2026, 12, 16, 9, tzinfo=UTC)
"""The moment at which a run of tests begins, whenever it is: a Wednesday amid a month."""
LIBRARY: Final = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
"""libfaketime, where it is installed."""


def offset_seconds() -> float:
    """Return how far this process's clock is ahead of the machine's, in seconds."""
    return float(os.environ.get("FAKETIME") or 0)


def environment_at(moment: datetime) -> dict[str, str]:
    """Return the variables with which a process's clock begins at a moment, and its children's with it.

    Monotonic clocks and the times of files stay the machine's. Programs in Go and static ones ignore it.
    """
    assert LIBRARY is not None
    ahead = offset_seconds() + (moment - now()) / timedelta(seconds=1)
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME": f"{ahead:+.0f}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # otherwise threads that wait for Python's lock never sleep
        "NO_FAKE_STAT": "1",
    }
