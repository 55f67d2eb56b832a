# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Estimates the released months of a year, machines first, then their screens (pure).

docs/methodology.md §6, *Released months*.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import add

from veilleuse.collector.fleet.observations import MONITOR
from veilleuse.collector.fleet.samples import Days
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import Group
from veilleuse.collector.release.cells import NO_DAYS, ClassOfFamily, PublishedCell
from veilleuse.collector.release.class_means import levels_of_year, means_of_months
from veilleuse.collector.release.fleet import FleetCount, FleetEstimate, ReleaseAssumptions
from veilleuse.collector.release.rows import FleetRow, Source, family_of, is_ruled
from veilleuse.collector.release.screens import screens_of_month, with_standby
from veilleuse.collector.release.tables import Hidden


@dataclass(frozen=True, slots=True)
class ReleasedMonth:
    """Published cells of one month, and the fleet of that month."""

    cells: Sequence[Group]
    hidden: Sequence[Hidden]
    fleet: Mapping[GroupKey, FleetCount]
    screens: Mapping[GroupKey, FleetCount] = field(default_factory=dict)
    """External screens that the inventory lists."""
    servers: Sequence[PublishedCell] = ()
    """Cells of servers, of any number of machines."""
    k: int = 0
    """Rule under which its cells were published; 0: that of the assumptions."""


def estimate_months(
    months: Sequence[ReleasedMonth], assumptions: ReleaseAssumptions
) -> list[tuple[FleetRow, ...]]:
    """Estimate the released months of one year; return the rows of each.

    A month in which a class or a place is not published uses the year's other months.
    """
    cells = [
        [
            *(PublishedCell.of(group) for group in month.cells if group.key.device_class != MONITOR),
            *month.servers,
        ]
        for month in months
    ]
    hidden = [_hidden(month.hidden) for month in months]
    own = [replace(assumptions, k=month.k or assumptions.k) for month in months]
    machines = _estimate([month.fleet for month in months], cells, hidden, own)
    of_screens = [
        screens_of_month(
            month.cells,
            month.hidden,
            {key: count for key, count in month.fleet.items() if is_ruled(key)},
            [row for row in rows if is_ruled(row.key)],
        )
        for month, rows in zip(months, machines, strict=True)
    ]
    fleets, screen_cells = zip(*of_screens, strict=True) if of_screens else ((), ())
    without_default = [
        replace(one, class_microwatts={}, declared=frozenset()) for one in own
    ]  # of screens' time
    screens = _estimate(fleets, screen_cells, [frozenset()] * len(months), without_default)
    default = assumptions.class_microwatts.get(MONITOR, NO_DAYS)
    source = Source.DECLARED if MONITOR in assumptions.declared else Source.DEFAULT
    return [
        (*rows, *with_standby(on, month.screens, default, source))
        for month, rows, on in zip(months, machines, screens, strict=True)
    ]


def _estimate(
    fleets: Sequence[Mapping[GroupKey, FleetCount]],
    cells: Sequence[Sequence[PublishedCell]],
    hidden: Sequence[Collection[ClassOfFamily]],
    assumptions: Sequence[ReleaseAssumptions],
) -> list[tuple[FleetRow, ...]]:
    samples = [[cell for cell in of_month if cell.is_sample] for of_month in cells]
    means = means_of_months(samples, [_days_by_class(fleet) for fleet in fleets])
    levels = levels_of_year(samples, means)
    return [
        tuple(FleetEstimate(fleet, of_month, names, of_classes, levels, own).rows())
        for fleet, of_month, names, of_classes, own in zip(
            fleets, cells, hidden, means, assumptions, strict=True
        )
    ]


def _hidden(hidden: Sequence[Hidden]) -> frozenset[ClassOfFamily]:
    return frozenset(
        (family_of(one.family)._replace(entity=one.branch), name)
        for one in hidden
        for name in one.device_classes
    )


def _days_by_class(fleet: Mapping[GroupKey, FleetCount]) -> dict[ClassOfFamily, Days]:
    found: dict[ClassOfFamily, Days] = {}
    for key, count in fleet.items():
        name = family_of(key), key.device_class or ""
        found[name] = tuple(map(add, found.get(name, NO_DAYS), count.milliseconds))
    return found
