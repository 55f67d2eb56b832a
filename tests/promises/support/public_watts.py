# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Public watts: the derivation's model gives them to a machine off, asleep or idle by its class alone."""

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
"""States with constant watts. In use, a machine's watts follow its load."""
NEAR: Final = Fraction(2, 100)
"""Relative difference up to which energy counts as at a class's watts."""
ROUNDING_MILLIJOULES: Final = 20
_LONG_MILLISECONDS: Final = 10**9


@cache
def watts_of(device_class: DeviceClass, state: State) -> Fraction | None:
    """Return the watts on mains. None: the class has no such state, or its watts follow its load."""
    cell = Cell(Band.OPEN, state, Supply.AC, _LONG_MILLISECONDS)
    parts = model_energy(cell, MachineFacts(device_class), _LONG_MILLISECONDS, 0) if state in CONSTANT else ()
    energy = sum(part.energy_millijoules for part in parts)
    return Fraction(energy, _LONG_MILLISECONDS) if energy else None


def watts_at(
    classes: Iterable[DeviceClass], state: State, milliseconds: int, millijoules: int
) -> Fraction | None:
    """Return the watts of the first class that explain all of this energy; None where no class does."""
    for watts in (watts_of(device_class, state) for device_class in classes):
        if watts is not None:
            expected = watts * milliseconds
            if abs(millijoules - expected) <= NEAR * expected + ROUNDING_MILLIJOULES:
                return watts
    return None
