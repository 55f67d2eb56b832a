# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A source that measures nothing: for tests and demonstrations, labelled FAKE down to the report. Never chosen by default.

It is also the file to copy for a new source: all a source needs is here.
"""

from __future__ import annotations

import time
from typing import Final

from veilleuse.agent.errors import SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, Reading
from veilleuse.agent.ports import SourceContext
from veilleuse.wire.vocabulary import Boundary, PointKind

RANGE_MICROJOULES: Final = 262_143_328_850
"""A common RAPL range, so that the fake wraps as the real one does."""
CEILING_WATTS: Final = 100_000.0
_NANOJOULES_PER_MICROJOULE: Final = 1_000


class Fake:
    """`ports.Source`: a counter that advances by `fake_watts`, on the wall side."""

    name = "fake"

    def __init__(self, context: SourceContext) -> None:
        self._watts = context.fake_watts

    def open(self) -> tuple[Point, ...]:
        """One point. Raises SourceUnavailable when no power is set: it never pretends 0 W."""
        if self._watts <= 0:
            raise SourceUnavailable(
                "no_device", "the fake source has no power to pretend", "set measure.fake_watts above 0"
            )
        return (Point(PointKind.FAKE, "fake", Boundary.WALL),)

    def read(self) -> tuple[Reading, ...]:
        """The counter now; 1 W for 1 ns is 1 nJ."""
        energy = int(time.monotonic_ns() * self._watts) // _NANOJOULES_PER_MICROJOULE % RANGE_MICROJOULES
        return (EnergyCounter(self.open()[0], energy, RANGE_MICROJOULES, CEILING_WATTS),)

    def close(self) -> None:
        """Nothing is held."""
