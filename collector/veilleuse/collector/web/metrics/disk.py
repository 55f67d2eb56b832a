# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the disk space of the store, and predicts when it runs out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.backup.notes import last_loss
from veilleuse.collector.model.records import DaySize
from veilleuse.collector.settings import CollectorSettings

HISTORY_DAYS: Final = 3
"""Fewest days of sizes from which a growth is computed."""
_WINDOW_DAYS: Final = 30
"""Days of sizes that the growth uses: older sizes are of another fleet."""


@dataclass(frozen=True, slots=True)
class Disk:
    """Disk space used by the store, and free space."""

    size_bytes: int
    free_bytes: int
    reserve_bytes: int
    days_until_full: float | None = None
    """Days until free space reaches the reserve, ≥ 0; inf without growth, None while not known."""
    lost_unix_milliseconds: int | None = None
    """Time at which a collector last ended because its store was replaced; None: never."""


def read_disk(settings: CollectorSettings, history: Sequence[DaySize]) -> Disk:
    """Return sizes of the database's files and the disk's free space, bytes; 0 for missing files."""
    directory = settings.data_dir
    size = sum(
        path.stat().st_size
        for name in ("data.db", "data.db-wal", "identity.db", "identity.db-wal")
        if (path := directory / name).exists()
    )
    usage = shutil.disk_usage(directory)
    reserve = min(settings.store.free_bytes_minimum, int(settings.store.free_ratio_minimum * usage.total))
    days = days_until_full(history, usage.free - reserve)
    return Disk(size, usage.free, reserve, days, last_loss(directory))


def days_until_full(history: Sequence[DaySize], room_bytes: int) -> float | None:
    """Return the days until the databases take `room_bytes` more, ≥ 0.

    Returns inf when the databases do not grow, None with fewer than HISTORY_DAYS days. The growth is the
    slope of the least-squares line through the sizes of the last 30 days. Other programs on the same disk are
    not counted.
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
