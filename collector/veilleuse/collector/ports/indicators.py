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
    """A named sobriety figure. Formula, period, unit, threshold, direction and owner stand in the class's docstring."""

    meta: IndicatorMeta

    def threshold(self, thresholds: Thresholds, /) -> float | None:
        """The target as set, in the indicator's unit; None when there is none."""

    def figure(self, key: GroupKey, sums: GroupSums, /) -> IndicatorFigure | None:
        """Its figure for one group; None when the indicator is not of this kind of machine. Pure."""


class SobrietyIndicator(Protocol):
    """As `Indicator`, of machines and assets. Formula, period, unit, threshold, direction and owner stand in its docstring."""

    meta: IndicatorMeta

    def figures(self, group: SobrietyGroup, targets: Targets, /) -> Iterable[Figure]:
        """Its figures of one group; none when it is not of this kind of group. Pure."""


class LoadReader(Protocol):
    """What I4 and I6 to I8 ask beside months; read-only, any process."""

    def server_loads(self, end: date, days: Sequence[int]) -> Mapping[HostId, Mapping[int, Load]]:
        """Server → days → its load over the last so many civil days of its site before `end`."""

    def book(self) -> CalibrationBook:
        """The calibrations in force."""
