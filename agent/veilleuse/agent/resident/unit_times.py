# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the CPU time of units between two polls from cumulative values, as units start and end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from veilleuse.agent.model import UnitReading
from veilleuse.wire.limits import MAX_CPUS, OTHER_UNITS, UNIT_PATTERN

LONGEST_MILLISECONDS: Final = 300_000
"""Older values are not subtracted from: it is not known in which machine state the time was spent."""
MOST_REMEMBERED: Final = 1_024
"""Number of units kept; above it, units that have ended are deleted."""
_SLACK: Final = 2
"""Tolerated ratio of the CPU time shown to the processors' time: the clocks are not read at one moment."""


class UnitTimes:
    """The last values of one source's units."""

    __slots__ = ("_last", "_read_at", "_strange")

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        """Unit → CPU ms. Missing units are kept: their value is still valid when they come back."""
        self._strange: set[str] = set()
        """Units whose name the wire does not accept."""
        self._read_at: int | None = None
        """Boot-time of the last poll that gave any unit, ms."""

    def forget(self) -> None:
        """Delete all values, after a suspend or a long silence: the next poll counts as the first."""
        self._last.clear()
        self._strange.clear()
        self._read_at = None

    def advance(
        self, readings: Sequence[UnitReading], now: int, awake: int, processors: int
    ) -> tuple[tuple[str, int], ...]:
        """Return (unit, CPU ms > 0) since the last poll.

        `now` is the boot-time in ms; `awake` is the ms of the tick that gets the times. A unit that is new or
        has restarted may have spent its whole value since the last poll. If the value exceeds what
        `processors` can give, the unit existed before, unread, and counts from now on.
        """
        read_at = self._read_at
        if read_at is not None and now - read_at > LONGEST_MILLISECONDS:
            self.forget()
            read_at = None
        elapsed = 0 if read_at is None else now - read_at
        most = min(_SLACK * processors * elapsed, MAX_CPUS * awake)
        spent = [(r.name, self._since(r)) for r in readings]
        for name, value in readings:
            if name not in self._last and not UNIT_PATTERN.fullmatch(name):
                self._strange.add(name)
            self._last[name] = value
        self._read_at = now
        if len(self._last) > MOST_REMEMBERED:
            self._last = dict(readings)
            self._strange &= self._last.keys()
        found = tuple(
            (OTHER_UNITS if name in self._strange else name, milliseconds)
            for name, milliseconds in spent
            if 0 < milliseconds <= most
        )
        return found if sum(milliseconds for _, milliseconds in found) <= most else ()

    def _since(self, reading: UnitReading) -> int:
        advance = reading.cpu_milliseconds - self._last.get(reading.name, 0)
        return advance if advance >= 0 else reading.cpu_milliseconds
