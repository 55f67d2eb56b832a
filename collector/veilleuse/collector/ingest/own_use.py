# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts what the running collector uses: CPU time of its processes, and bytes of its agents' calls.

The bytes are those of the messages, by population: docs/methodology.md §12, *What Veilleuse itself uses*.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psutil

from veilleuse.collector.ingest.counters import Count, Health
from veilleuse.collector.model.months import OWN_CPU
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

_KEEP_SECONDS: Final = 10.0
"""Time for which a reading of the processes is used again: it reads the parent of each process in /proc."""


def tree_cpu_milliseconds() -> int:
    """Return the CPU time of this process and its children, those that ended included."""
    mine = psutil.Process()
    seconds = 0.0
    for process in (mine, *mine.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended: its parent has its time
            spent = process.cpu_times()
            seconds += spent.user + spent.system + spent.children_user + spent.children_system
    return round(seconds * MILLISECONDS_PER_SECOND)


class OwnUse:
    """What the collector used since its start. Safe to share between threads."""

    def __init__(self, health: Health, read_cpu: Callable[[], int] = tree_cpu_milliseconds) -> None:
        self._health, self._read_cpu = health, read_cpu
        self._lock = threading.Lock()
        self._cpu, self._read_at = 0, float("-inf")
        self._taken: Counter[str] = Counter()

    def cpu_milliseconds(self) -> int:
        """Return the CPU time since the start, at most 10 s old; it never falls."""
        with self._lock:
            if time.monotonic() - self._read_at > _KEEP_SECONDS:
                # a child that has ended and is not waited for yet is missing for a moment
                self._cpu, self._read_at = max(self._cpu, self._read_cpu()), time.monotonic()
            return self._cpu

    def take(self) -> dict[str, int]:
        """Return what was used since the last call, by name; `give_back` undoes it where it was not stored.

        Names: OWN_CPU; those of `Count`, after the population.
        """
        counts = self._health.snapshot()
        whole = Counter({OWN_CPU: self.cpu_milliseconds()})
        for kind in (Count.RECEIVED_BYTES, Count.SENT_BYTES):
            whole.update({f"{population}_{kind}": number for population, number in counts[kind].items()})
        with self._lock:
            used = whole - self._taken
            self._taken += used
        return dict(used)

    def give_back(self, used: dict[str, int]) -> None:
        """Count these with the next call of `take`."""
        with self._lock:
            self._taken.subtract(used)
