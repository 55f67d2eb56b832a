# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Finds what the width of an interval reveals: a step, a mean of published steps, or else how much of an
energy was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tests.promises.support.read_together import Row
from tests.promises.support.summed import Found
from veilleuse.collector.quantiles import Z95

U_STEP: Final = 0.05
"""Step of relative standard uncertainties: whole multiples do not reveal how much was measured."""
OF_INTERVALS: Final = ("u_model", "gsd2", "kwh_lo95", "kwh_hi95", "kgco2e_lo95", "kgco2e_hi95")
_NEAR: Final = 1e-6


class Width(NamedTuple):
    """Relative standard uncertainties of a row's energy: one value, unless something is wrong."""

    row: Row
    energy: Found
    millijoules: int
    told: tuple[float, ...]

    @property
    def is_step(self) -> bool:
        """True when all are whole numbers of steps."""
        return all(abs(one / U_STEP - round(one / U_STEP)) <= _NEAR for one in self.told)

    def is_mean(self, steps: Sequence[Width]) -> bool:
        """Return whether all are the mean of steps of disjoint rows that its role gets and that make up this
        row: it then reveals nothing more."""
        mine = [one for one in steps if one.row.roles == self.row.roles and self._holds(one)]
        return self._is_mean(frozenset(self.energy.cells), 0, 0.0, mine)

    def _holds(self, other: Width) -> bool:
        return self.energy.selector == other.energy.selector and {*other.energy.cells} < {*self.energy.cells}

    def _is_mean(
        self, left: frozenset[object], energy: int, uncertain: float, steps: Sequence[Width]
    ) -> bool:
        if not left:
            whole = energy == self.millijoules
            return whole and all(abs(one - uncertain / energy) <= _NEAR for one in self.told)
        first = min(left, key=repr)
        return any(
            self._is_mean(
                left - cells, energy + one.millijoules, uncertain + one.told[0] * one.millijoules, steps
            )
            for one in steps
            if first in (cells := frozenset(one.energy.cells)) and cells <= left
        )


def width_of(row: Row, energy: Found, millijoules: int, numbers: Mapping[str, float]) -> Width:
    """Return the width of a row's interval. `numbers`: those of OF_INTERVALS."""
    told = [numbers.get("u_model", 0.0)]
    for unit, other in (("kwh", 0.0), ("kgco2e", row.numbers.get("u_factor", 0.0))):
        if f"{unit}_lo95" in numbers:
            wide = math.log(numbers[f"{unit}_hi95"] / numbers[f"{unit}_lo95"]) / (2 * Z95)
            told.append(math.sqrt(max(0.0, wide**2 - other**2)))
    return Width(row, energy, millijoules, tuple(told))
