# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Watts that the model of the derivation gives a machine off, asleep or idle by its class alone: everybody
may read them."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from typing import Final

from veilleuse.collector.derive.loadmodel import model_energy
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Cell
from veilleuse.wire.vocabulary import Band, DeviceClass, State, Supply

CONSTANT: Final = (State.OFF, State.ASLEEP, State.ON_IDLE)
"""In use, a machine's watts follow its load."""
NEAR: Final = Fraction(2, 100)
"""Relative: what is nearer than this to a class's watts counts as at these."""
ROUNDING_MILLIJOULES: Final = 20
_LONG_MILLISECONDS: Final = 10**9


@cache
def watts_of(device_class: DeviceClass, state: State) -> Fraction | None:
    """On mains, at a load that nobody measured. None: the class has no such state, or its watts follow its
    load."""
    cell = Cell(Band.OPEN, state, Supply.AC, _LONG_MILLISECONDS)
    parts = model_energy(cell, MachineFacts(device_class), _LONG_MILLISECONDS, 0) if state in CONSTANT else ()
    energy = sum(part.energy_millijoules for part in parts)
    return Fraction(energy, _LONG_MILLISECONDS) if energy else None


def watts_at(
    classes: Iterable[DeviceClass], state: State, milliseconds: int, millijoules: int
) -> Fraction | None:
    """Those of the first class that all of this energy is at; None where it is at none's."""
    for watts in (watts_of(device_class, state) for device_class in classes):
        if watts is not None:
            expected = watts * milliseconds
            if abs(millijoules - expected) <= NEAR * expected + ROUNDING_MILLIJOULES:
                return watts
    return None
