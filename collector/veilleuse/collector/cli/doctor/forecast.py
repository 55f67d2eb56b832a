# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""When the disk will be full, from the sizes of the last weeks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from veilleuse.collector.store.sqlite.upkeep import DaySize

HISTORY_DAYS: Final = 3
"""Fewest days of sizes that tell a growth."""
_WINDOW_DAYS: Final = 30
"""Older sizes say nothing of the present fleet."""


def days_until_full(history: Sequence[DaySize], room_bytes: int) -> float | None:
    """Days until the databases have taken `room_bytes` more, ≥ 0; inf when they do not grow; None with too few days.

    The growth is the slope of the least-squares line through the sizes of the last 30 days. Only this growth is known:
    what other programs write on the same disk is not.
    """
    recent = [size for size in history if (history[-1].day - size.day).days <= _WINDOW_DAYS]
    if len(recent) < HISTORY_DAYS:
        return None
    days = [size.day.toordinal() for size in recent]
    mean_day = sum(days) / len(days)
    mean_bytes = sum(size.data_bytes for size in recent) / len(recent)
    slope = sum(
        (day - mean_day) * (size.data_bytes - mean_bytes) for day, size in zip(days, recent, strict=True)
    ) / sum((day - mean_day) ** 2 for day in days)
    return max(0, room_bytes) / slope if slope > 0 else float("inf")
