# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test how often a device is asked (sources/readings.py)."""

from __future__ import annotations

from typing import Any

import pytest

from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.model import PowerGauge
from veilleuse.agent.ports import MeterSpec
from veilleuse.agent.sources.readings import RateLimiter, point_of
from veilleuse.wire.vocabulary import Boundary, PointKind

METER = MeterSpec("desk-12", "shelly_plug", "192.0.2.1", "machine", Boundary.WALL, 10, 5.0, 3680.0, "", {})


def test_paced_keeps_its_last_word():
    """Within the pause a reading or failure holds; after `forget` the device is asked again."""
    reading = PowerGauge(point_of(PointKind.PLUG, METER), 1)
    said: list[Any] = [ReadFailed("busy"), (reading,)]
    asked = []

    def ask() -> Any:
        asked.append(1)
        word = said.pop(0)
        if isinstance(word, ReadFailed):
            raise word
        return word

    paced = RateLimiter(ask)
    for _ in range(2):
        with pytest.raises(ReadFailed, match="busy"):
            paced.read(30)
    paced.forget()
    assert paced.read(30) == (reading,)
    assert paced.read(30) == (reading,)
    assert len(asked) == 2
