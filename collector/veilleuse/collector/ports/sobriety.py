# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of the sobriety indicators I3 to I12, of actions and of the REEN sheet's imported lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Protocol

from veilleuse.collector.model.actions import Action, FollowTable, KeptAction, Line, LineChange
from veilleuse.collector.model.calibration import CalibrationBook
from veilleuse.collector.model.figures import IndicatorMeta
from veilleuse.collector.model.indicators import Figure, Load, SobrietyGroup, Targets
from veilleuse.collector.model.records import HostId


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


class FollowReader(Protocol):
    """Actions, and imported lines of the REEN sheet."""

    def actions(self) -> tuple[KeptAction, ...]:
        """All that ever were, withdrawn and replaced ones too, in the order they came. Raises StoreDamaged."""

    def lines(self, table: FollowTable) -> tuple[Line, ...]:
        """Those in force, in the order of their keys. Raises StoreDamaged."""


class Follows(FollowReader, Protocol):
    """The writer's side. Used like the Registry. Rows are added, never changed."""

    def enter(self, actions: Sequence[Action], who: str, why: str, now_unix_milliseconds: int) -> None:
        """New actions, or new versions of those that are known by their id."""

    def withdraw(self, action_id: str, who: str, why: str, now_unix_milliseconds: int) -> None:
        """From now on it counts no more. Raises AdminError when there is none in force."""

    def put(
        self,
        table: FollowTable,
        changes: Sequence[LineChange],
        file_name: str,
        who: str,
        why: str,
        now_unix_milliseconds: int,
    ) -> None:
        """Lines in force from now on, and keys that no longer are."""
