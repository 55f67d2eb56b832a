# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums rows of released months, with the interval of the sum (pure).

docs/methodology.md §6, *Released months*.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import EnergyClass
from veilleuse.collector.quantiles import Z95
from veilleuse.collector.release.fleet import MILLION, FleetRow, Source


@dataclass(slots=True)
class _Own:
    """Errors of one row of its own."""

    error: int = 0
    """Linear sum over months, millijoules × 1,000,000."""
    share_ppm: int = 0
    """Sum over months of its share of its cell."""
    months: int = 0
    known_millijoules: int = 0
    """Known energy that is its own: of its own cell, or its part of a cell that it shares."""


@dataclass(slots=True)
class FleetSum:
    """Sum of rows, of any months.

    The months of a row have the same machines, so that each of its three errors adds up linearly over months.
    The more of a cell's rows are in the sum, the less of their own errors is: the sum of all is published.
    """

    machine_milliseconds: int = 0
    known_milliseconds: int = 0
    known_millijoules: int = 0
    extrapolated_millijoules: int = 0
    default_millijoules: int = 0
    _own: defaultdict[tuple[object, ...], dict[GroupKey, _Own]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """Pool → place and class → errors."""
    _shared: Counter[tuple[object, ...]] = field(default_factory=Counter)
    _model: Counter[str | None] = field(default_factory=Counter)

    @classmethod
    def of(cls, rows: Iterable[FleetRow]) -> FleetSum:
        """Return the sum of rows."""
        found = cls()
        for row in rows:
            found.add(row)
        return found

    def add(self, row: FleetRow) -> None:
        """Add one row."""
        energy = row.energy_millijoules
        if row.key.device_class != EnergyClass.MONITOR:  # its time is that of PCs, which is counted
            self.machine_milliseconds += row.fleet_milliseconds
            self.known_milliseconds += row.known_milliseconds
        self.known_millijoules += row.known_millijoules
        self.extrapolated_millijoules += row.extrapolated_millijoules
        self.default_millijoules += row.default_millijoules
        pool = row.pool
        own = self._own[pool].setdefault(row.key, _Own())
        own.error += row.u_own_ppm * energy
        own.share_ppm += row.share_ppm
        own.months += 1
        if row.source in (Source.OWN, Source.BRANCH):
            own.known_millijoules += row.known_millijoules
        self._shared[pool] += row.u_shared_ppm * energy
        self._model[row.key.device_class] += row.u_model_ppm * energy

    @property
    def energy_millijoules(self) -> int:
        """Known and extrapolated energy."""
        return self.known_millijoules + self.extrapolated_millijoules

    @property
    def u_sampling(self) -> float:
        """Relative standard uncertainty of sampling."""
        squares = (
            sum(row.error**2 for row in rows.values()) * (MILLION - _inside_ppm(rows.values())) // MILLION
            for rows in self._own.values()
        )
        return self._relative(sum(squares) + sum(error**2 for error in self._shared.values()))

    @property
    def u_model(self) -> float:
        """Relative standard uncertainty of models and meters."""
        return self._relative(sum(error**2 for error in self._model.values()))

    @property
    def high_log(self) -> float:
        """Upper end of the interval on the log scale, ≥ 0."""
        return Z95 * math.hypot(self.u_sampling, self.u_model)

    @property
    def low_log(self) -> float:
        """Lower end likewise: never below the known energy, less the models' error.

        A part of a shared cell is known where all of the cell is in the sum.
        """
        known = sum(
            row.known_millijoules
            for rows in self._own.values()
            if not (inside := _inside_ppm(rows.values())) or inside >= MILLION - len(rows)
            for row in rows.values()
        )
        if not known:
            return self.high_log
        return min(self.high_log, Z95 * self.u_model + math.log(self.energy_millijoules / known))

    @property
    def bounds_millijoules(self) -> tuple[float, float]:
        """Interval of the energy."""
        energy = self.energy_millijoules
        return energy * math.exp(-self.low_log), energy * math.exp(self.high_log)

    def _relative(self, square: int) -> float:
        """Return a squared error ÷ the energy. In integers, the order of rows changes no digit."""
        return math.isqrt(square) / MILLION / self.energy_millijoules if self.energy_millijoules else 0.0


def _inside_ppm(rows: Collection[_Own]) -> int:
    """Return the share of a shared cell that these rows are; 0 where each has a cell of its own, or none."""
    if any(row.share_ppm == MILLION * row.months for row in rows):
        return 0
    return min(MILLION, sum(row.share_ppm // row.months for row in rows))
