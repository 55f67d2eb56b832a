# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How often one identity may make the collector do something. No I/O."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_BUCKETS: Final = 10_000


class Buckets:
    """A token bucket per agent id: bounds what one identity can make the collector write or issue. Thread-safe."""

    def __init__(
        self, capacity: int, seconds_each: float, monotonic_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """`capacity` ≥ 1 at once, then one each `seconds_each` > 0."""
        self._capacity = capacity
        self._seconds_each = seconds_each
        self._now = monotonic_seconds
        self._empty_until: OrderedDict[bytes, float] = OrderedDict()
        """When a bucket will be full again; a full one is not kept."""
        self._lock = threading.Lock()

    def take(self, agent_id: bytes) -> bool:
        """Whether there was one left. The fullest-longest buckets are forgotten when there are more than 10,000."""
        with self._lock:
            now = self._now()
            full_at = max(self._empty_until.pop(agent_id, now), now) + self._seconds_each
            granted = full_at - now <= self._capacity * self._seconds_each
            self._empty_until[agent_id] = full_at if granted else full_at - self._seconds_each
            while len(self._empty_until) > MAX_BUCKETS:
                self._empty_until.popitem(last=False)
            return granted


def conflict_buckets() -> Buckets:
    """For what a conflict writes: ten at once, then one a minute."""
    return Buckets(10, 60.0)
