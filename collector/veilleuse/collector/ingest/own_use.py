# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts what the running collector uses: CPU time of its processes, and bytes of servers' calls.

The bytes are those of the messages; of PCs none are counted: docs/methodology.md §12, *What Veilleuse
itself uses*.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from veilleuse.collector.ingest.counters import Count, Health
from veilleuse.collector.model.months import OWN_CPU
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

_KEEP_SECONDS: Final = 10.0
"""Time for which a reading of the processes is used again: it reads the parent of each process in /proc."""


def tree_cpu_milliseconds() -> int:
    """Return the CPU time of this process and its children, those that ended included.

    Those that run are read as in proc(5). psutil cannot: its list of children reads /proc/stat, which the
    service's unit hides (ProcSubset=pid).
    """
    running = sum(map(_ticks, _below(str(os.getpid())))) / os.sysconf("SC_CLK_TCK")
    return round((sum(os.times()[:4]) + running) * MILLISECONDS_PER_SECOND)


def _below(pid: str) -> Iterator[str]:
    """Yield all running processes below a process."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # it has just ended: its parent has its time
            for child in task.read_text("ascii").split():
                yield child
                yield from _below(child)


def _ticks(pid: str) -> int:
    """Return the time of a process and of the children that it waited for; 0 where it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return sum(map(int, stat.rpartition(b") ")[2].split()[11:15]))


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
