# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A source that measures nothing, for tests and demonstrations. It is labelled FAKE in every report.

It is never chosen by default. Copy this file to write a new source: it has all that a source needs.
"""

from __future__ import annotations

import time
from typing import ClassVar, Final

from veilleuse.agent.errors import SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, Reading
from veilleuse.agent.ports import SourceContext
from veilleuse.wire.units import MICROJOULES_PER_JOULE, NANOJOULES_PER_MICROJOULE
from veilleuse.wire.vocabulary import Boundary, PointKind

RANGE_MICROJOULES: Final = 262_143_328_850
"""A common RAPL range, so that the fake counter wraps like a real one."""
_WRAP_SECONDS: Final = 600
"""Shortest time between two wraps at the ceiling: longer than any tick, so that no wrap is missed."""


class Fake:
    """`ports.Source`: a counter that advances by `fake_watts`, at the wall boundary."""

    name = "fake"
    KINDS: ClassVar = (PointKind.FAKE,)

    def __init__(self, context: SourceContext) -> None:
        self._watts = context.fake_watts
        self._ceiling_watts = 2 * self._watts
        self._range_microjoules = max(
            RANGE_MICROJOULES, int(self._ceiling_watts * _WRAP_SECONDS * MICROJOULES_PER_JOULE)
        )

    def open(self) -> tuple[Point, ...]:
        """Return one point. Raises SourceUnavailable when no power is set: 0 W is never reported."""
        if self._watts <= 0:
            raise SourceUnavailable(
                "no_device", "the fake source has no power to pretend", "set measure.fake_watts above 0"
            )
        return (Point(PointKind.FAKE, "fake", Boundary.WALL),)

    def read(self) -> tuple[Reading, ...]:
        """Return the counter; 1 W for 1 ns is 1 nJ."""
        energy = int(time.monotonic_ns() * self._watts) // NANOJOULES_PER_MICROJOULE % self._range_microjoules
        return (EnergyCounter(self.open()[0], energy, self._range_microjoules, self._ceiling_watts),)

    def close(self) -> None:
        """Do nothing: no file or connection stays open."""
