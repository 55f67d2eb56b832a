# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How fast bytes may come."""

from __future__ import annotations

import time
from collections.abc import Callable


class Budget:
    """So many bytes a second, and some at once. Who takes more waits for his turn; turns are in the order of asking."""

    def __init__(
        self, bytes_a_second: int, burst_bytes: int, monotonic_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """Both > 0. `monotonic_seconds`: a clock that only goes forward."""
        self._second_a_byte = 1 / bytes_a_second
        self._burst_seconds = burst_bytes / bytes_a_second
        self._now = monotonic_seconds
        self._paid_until = self._now() - self._burst_seconds

    def take(self, number: int) -> float:
        """Seconds ≥ 0 to wait before these bytes may be used."""
        now = self._now()
        self._paid_until = max(self._paid_until, now - self._burst_seconds) + number * self._second_a_byte
        return max(0.0, self._paid_until - now)
