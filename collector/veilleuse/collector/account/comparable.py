# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Decides whether a row can be compared with that of the year before, and how many days each covers (pure). docs/methodology.md, section 10.

A change is told only between years that were both watched, on one basis: else it would be a change of what is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from veilleuse.collector.account.row import ClassFigure, FigureRow
from veilleuse.collector.account.server_rooms import OTHER_ROOM
from veilleuse.collector.fleet.estimate import EstimateBasis
from veilleuse.collector.fleet.observed import MONITOR

LEAST_DAYS: Final = 30
"""Days of each year that k machines must cover: ours. A month holds every day of the week four times."""
LEAST_SHARE: Final = 0.8
"""Of a period that is shorter than that, or hardly longer, so much of it."""
MOST_APART: Final = 0.05
"""Share of the period that the meters of rooms may have been read for more in one year than in the other: they count what they read. Ours."""


class NoComparison(StrEnum):
    """Why nothing is said of the change from the year before."""

    NO_DATA = "no_data"
    """Nothing was measured then."""
    NO_ROW = "no_row"
    """There was no such row."""
    MACHINES = "machines"
    """Fewer than k machines were measured in one of the years."""
    DAYS = "days"
    """k machines cover less than LEAST_DAYS of one of the years."""
    DAY_TYPES = "day_types"
    """A type of day that a year has was not observed in it."""
    BASIS = "basis"
    """What was measured in one year is at the class default in the other, or was not in the inventory."""
    RUNNING = "running"
    """The period has not ended."""
    GONE = "gone"
    """The first months of the year before are gone, and it was never closed."""
    OPEN = "open"
    """The year is closed, and the one before is not: what is told must not change once machines are gone."""
    NOT_KEPT = "not_kept"
    """The year before is closed, and cannot be told in this grouping, period or k."""
    METHOD = "method"
    """The year is closed, by another method."""


def why_not(before: FigureRow, after: FigureRow, days: int) -> NoComparison | None:
    """None where the two can be compared; `days`: length of the period."""
    found: set[NoComparison | None] = set()
    for name in {**before.classes, **after.classes}:
        pair = [row.classes[name] for row in (before, after) if name in row.classes]
        if name == OTHER_ROOM:
            found.add(_why_rooms_not(pair, days))
        elif not all(map(_is_default, pair)):
            found.add(_why_class_not(pair[0], pair[1], days) if len(pair) == 2 else NoComparison.MACHINES)
    if not found:  # nothing but class defaults
        found.add(NoComparison.BASIS)
    return next((reason for reason in NoComparison if reason in found), None)


def _why_rooms_not(both: Sequence[ClassFigure], days: int) -> NoComparison | None:
    covered = [one.covered.days for one in both]
    if len(both) < 2 or max(covered) - min(covered) > MOST_APART * days:
        return NoComparison.BASIS
    return NoComparison.DAYS if min(covered) < min(LEAST_DAYS, LEAST_SHARE * days) else None


def _why_class_not(before: ClassFigure, after: ClassFigure, days: int) -> NoComparison | None:
    both = (before, after)
    if not all(one.is_enough for one in both):
        return NoComparison.MACHINES
    if any(one.covered.days < min(LEAST_DAYS, LEAST_SHARE * days) for one in both):
        return NoComparison.DAYS
    if any(
        time and not seen
        for one in both
        for time, seen in zip(one.fleet_milliseconds, one.covered.by_day_type, strict=True)
    ):
        return NoComparison.DAY_TYPES
    on_one_basis = _is_default(before) == _is_default(after) and any(before.standby) == any(after.standby)
    return None if on_one_basis else NoComparison.BASIS


def _is_default(one: ClassFigure) -> bool:
    """For the most part."""
    told = one.estimate
    return told.basis is EstimateBasis.CLASS_DEFAULT or 2 * told.default_millijoules > told.energy_millijoules


def covered_days(row: FigureRow, days: int) -> float | None:
    """Days of the period, out of so many, that k machines cover; of rooms alone, that their meters were read.

    The mean of the classes that were measured, by their machine time; 0 where none was. Screens follow their PCs.
    """
    machines = {name: one for name, one in row.classes.items() if name != OTHER_ROOM}
    if not machines:
        return min(float(days), row.classes[OTHER_ROOM].covered.days) if row.classes else None
    measured = [
        (one.estimate.fleet_milliseconds or 1, one.covered.days)
        for name, one in machines.items()
        if one.covered.milliseconds and (name != MONITOR or len(machines) == 1)
    ]
    whole = sum(weight for weight, _ in measured)
    return min(float(days), sum(weight * seen for weight, seen in measured) / whole) if whole else 0.0
