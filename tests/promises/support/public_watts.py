# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Public watts: the derivation's model gives them to a machine off or asleep by its class alone, to a machine
that is on where its load is not reported or stays in one step of its scale, and to screens by their sizes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from typing import Final

from veilleuse.collector.derive.loadmodel import model_energy
from veilleuse.collector.derive.screens import screen_energies
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.meters import NOT_SHARED
from veilleuse.collector.model.records import Cell
from veilleuse.wire.limits import BUCKETS, DISPLAY_SIZES
from veilleuse.wire.vocabulary import Band, DeviceClass, State, Supply

CONSTANT: Final = (State.OFF, State.ASLEEP, State.ON_IDLE)
"""States with constant watts of a machine without a reported load."""
NEAR: Final = Fraction(2, 100)
"""Relative difference up to which energy in these states, or of screens, counts as at constant watts."""
EXACT: Final = Fraction(1, 10_000)
"""The same for a machine on: a reported load gives any watts, and some are near a constant by chance."""
ROUNDING_MILLIJOULES: Final = 20
MOST_SCREENS: Final = 4
_LONG_MILLISECONDS: Final = 10**9


@cache
def watts_of(device_class: DeviceClass, state: State) -> Fraction | None:
    """Return the watts on mains without a reported load; None: the class has no such state."""
    return _modelled(device_class, Cell(Band.OPEN, state, Supply.AC, _LONG_MILLISECONDS))


@cache
def watts_by_load(device_class: DeviceClass, state: State) -> tuple[Fraction, ...]:
    """Return the watts on mains of a machine that is on, by load: not reported, or all in one step."""
    if state not in (State.ON_IDLE, State.ON_ACTIVE):
        return ()
    steps = range(BUCKETS["cpu_bucket_milliseconds"])
    unreported = Cell(Band.OPEN, state, Supply.AC, _LONG_MILLISECONDS)
    reported = unreported._replace(cpu_covered_milliseconds=_LONG_MILLISECONDS, cpu_busy_milliseconds=0)
    cells = [unreported]
    for step in steps:
        buckets = tuple(_LONG_MILLISECONDS * (one == step) for one in steps)
        cells.append(reported._replace(cpu_bucket_milliseconds=buckets))
    return tuple(watts for one in cells if (watts := _modelled(device_class, one)) is not None)


def _modelled(device_class: DeviceClass, cell: Cell) -> Fraction | None:
    parts = model_energy(cell, MachineFacts(device_class), _LONG_MILLISECONDS, 0)
    energy = sum(part.energy_millijoules for part in parts)
    return Fraction(energy, _LONG_MILLISECONDS) if energy else None


@cache
def watts_of_screens() -> tuple[Fraction, ...]:
    """Return the watts of up to MOST_SCREENS screens that are on, of any sizes."""
    one_each = []
    for size in range(len(DISPLAY_SIZES)):
        lit = tuple(_LONG_MILLISECONDS * (one == size) for one in range(len(DISPLAY_SIZES)))
        cell = Cell(Band.OPEN, State.ON_ACTIVE, Supply.AC, _LONG_MILLISECONDS, display_milliseconds=lit)
        (energy,) = screen_energies([cell], NOT_SHARED)
        assert energy is not None
        one_each.append(Fraction(energy.energy_millijoules, _LONG_MILLISECONDS))
    mixes = (
        itertools.combinations_with_replacement(sorted(set(one_each)), number)
        for number in range(1, MOST_SCREENS + 1)
    )
    return tuple(sorted({sum(mix, Fraction(0)) for of_number in mixes for mix in of_number}))


def watts_at(
    classes: Iterable[DeviceClass], state: State, milliseconds: int, millijoules: int
) -> Fraction | None:
    """Return the watts of the first class that explain all of this energy; None where no class does."""
    for device_class in classes:
        usual = watts_of(device_class, state) if state in CONSTANT else None
        candidates = [(usual, NEAR)] if usual is not None else []
        candidates += [(watts, EXACT) for watts in watts_by_load(device_class, state)]
        for watts, within in candidates:
            if _explains(watts, within, milliseconds, millijoules):
                return watts
    return None


def screens_at(milliseconds: int, millijoules: int) -> Fraction | None:
    """Return the watts of screens that are on all this time; None where none explain the energy."""
    return next((one for one in watts_of_screens() if _explains(one, NEAR, milliseconds, millijoules)), None)


def _explains(watts: Fraction, within: Fraction, milliseconds: int, millijoules: int) -> bool:
    expected = watts * milliseconds
    return abs(millijoules - expected) <= within * expected + ROUNDING_MILLIJOULES
