# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ports of indicators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Protocol

from veilleuse.collector.model.calibration import CalibrationBook
from veilleuse.collector.model.figures import (
    GroupKey,
    GroupSums,
    IndicatorFigure,
    IndicatorMeta,
    Thresholds,
)
from veilleuse.collector.model.indicators import Figure, Load, SobrietyGroup, Targets
from veilleuse.collector.model.records import (
    HostId,
)


class Indicator(Protocol):
    """A named indicator. Its docstring has the formula, period, unit, threshold, direction and owner."""

    meta: IndicatorMeta

    def threshold(self, thresholds: Thresholds, /) -> float | None:
        """Return the configured target, in the indicator's unit; None when there is none."""

    def figure(self, key: GroupKey, sums: GroupSums, /) -> IndicatorFigure | None:
        """Return its figure for one group; None when it does not apply to this kind of machine. Pure."""


class SobrietyIndicator(Protocol):
    """An `Indicator` of machines and assets. Its docstring has the formula, period, unit, threshold,
    direction and owner.
    """

    meta: IndicatorMeta

    def figures(self, group: SobrietyGroup, targets: Targets, /) -> Iterable[Figure]:
        """Return its figures for one group; none when it does not apply to this kind of group. Pure."""


class LoadReader(Protocol):
    """Inputs of I4 and I6 to I8 in addition to months; read-only, in any process."""

    def server_loads(self, end: date, days: Sequence[int]) -> Mapping[HostId, Mapping[int, Load]]:
        """Return server → days → its load over the last `days` civil days of its site before `end`."""

    def book(self) -> CalibrationBook:
        """Return the calibrations in force."""
