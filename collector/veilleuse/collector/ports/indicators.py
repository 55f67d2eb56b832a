# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ports of indicators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Protocol, runtime_checkable

from veilleuse.collector.model.calibration import CalibrationBook
from veilleuse.collector.model.figures import (
    GaugeParts,
    GroupKey,
    GroupSums,
    IndicatorFigure,
    IndicatorMeta,
    Thresholds,
)
from veilleuse.collector.model.indicators import Figure, IndicatorMachine, Load, Pair, SobrietyGroup, Targets
from veilleuse.collector.model.records import (
    HostId,
)


class Indicator(Protocol):
    """Defines an indicator. Its docstring has formula, period, unit, threshold, direction and owner."""

    meta: IndicatorMeta

    def threshold(self, thresholds: Thresholds, /) -> float | None:
        """Return the configured target, in the indicator's unit; None when there is none."""

    def figure(self, key: GroupKey, sums: GroupSums, /) -> IndicatorFigure | None:
        """Return its figure for one group; None when it does not apply to this kind of machine. Pure."""

    def parts(self, figure: IndicatorFigure | None, /) -> GaugeParts:
        """Return the value of each of its gauges."""


class SobrietyIndicator(Protocol):
    """Defines an indicator of machines and assets. Its docstring has the parts of an `Indicator`'s."""

    meta: IndicatorMeta

    def figures(self, group: SobrietyGroup, targets: Targets, /) -> Iterable[Figure]:
        """Return its figures for one group; none when it does not apply to this kind of group. Pure."""


class GaugedIndicator(SobrietyIndicator, Protocol):
    """Defines an indicator whose table line has gauges."""

    def parts(self, figure: Figure, /) -> GaugeParts:
        """Return the value of each of its gauges."""


@runtime_checkable
class MachineRatio(Protocol):
    """Defines an indicator that is a ratio of sums over machines: a sample then gives an interval for the
    fleet.
    """

    def pair(self, machine: IndicatorMachine, targets: Targets, /) -> Pair:
        """Return (part, whole) of one machine; 0 of 0 where it is in neither."""


class LoadReader(Protocol):
    """Inputs of I4 and I6 to I8 in addition to months; read-only, in any process."""

    def server_loads(self, end: date, days: Sequence[int]) -> Mapping[HostId, Mapping[int, Load]]:
        """Return server → days → its load over the last `days` civil days of its site before `end`."""

    def book(self) -> CalibrationBook:
        """Return the calibrations in force."""
