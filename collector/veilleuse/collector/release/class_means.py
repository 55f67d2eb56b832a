# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the mean power of each device class from the published cells of a year's months (pure)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NamedTuple

from veilleuse.collector.fleet.samples import DAY_TYPES, Days
from veilleuse.collector.model.months import DayType
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.quantiles import Z95, quantile95
from veilleuse.collector.release.cells import NO_DAYS, ClassOfFamily, PublishedCell

SPREAD: Final = 1.0
"""Relative standard deviation between machines of a class in a month, where too few cells are published to
compute it. Our choice.
"""
DEGREES: Final = 10
"""Degrees of freedom to which SPREAD completes those of the published cells."""
VARIANCE_OF_FEW: Final = (SPREAD * quantile95(DEGREES) / Z95) ** 2
"""Relative variance between machines, × (t ÷ 1.96)², where no cell gives any."""
_OPEN: Final = DAY_TYPES.index(DayType.OPEN)


@dataclass(frozen=True, slots=True)
class ClassMean:
    """Mean power of a class in one month."""

    watts: Fraction
    machines: float
    concentration: float
    """Σ of squared shares of the cells in the class's machines."""
    variance: float
    """Relative variance between machines, × (t ÷ 1.96)² for its degrees of freedom."""
    u_model: float
    milliseconds: int
    """Known time; 0 for a mean of other months."""
    open_share: Fraction
    """Share of open days in the class's time in service."""
    slope: Fraction = Fraction(0)
    """Increase of the mean power with the share of open days, for a mean of other months."""

    def watts_on(self, days: Days) -> Fraction:
        """Return the mean power of devices with these times in service by day type."""
        return self.watts + self.slope * (_open_share(days) - self.open_share)


def means_of_months(
    cells: Sequence[Iterable[PublishedCell]], days: Sequence[Mapping[ClassOfFamily, Days]]
) -> list[dict[ClassOfFamily, ClassMean]]:
    """Return the means of each month: of its own cells, else of the year's other months.

    `days`: time in service of each class in each month, by day type.
    """
    own = [dict(_means(of_month, times)) for of_month, times in zip(cells, days, strict=True)]
    year: defaultdict[ClassOfFamily, list[ClassMean]] = defaultdict(list)
    for means in own:
        for name, mean in means.items():
            year[name].append(mean)
    others = {name: _of_other_months(means) for name, means in year.items()}
    return [others | means for means in own]


def _means(
    cells: Iterable[PublishedCell], days: Mapping[ClassOfFamily, Days]
) -> Iterator[tuple[ClassOfFamily, ClassMean]]:
    by_class: defaultdict[ClassOfFamily, list[PublishedCell]] = defaultdict(list)
    for cell in cells:
        if cell.key.device_class != AUTRES and cell.milliseconds:
            by_class[cell.of_class].append(cell)
    for name, members in by_class.items():
        yield name, _mean(members, _open_share(days.get(name, NO_DAYS)))


def _open_share(days: Days) -> Fraction:
    return Fraction(days[_OPEN], sum(days)) if any(days) else Fraction(0)


def _mean(cells: Sequence[PublishedCell], open_share: Fraction) -> ClassMean:
    machines, energy = sum(cell.hosts for cell in cells), sum(cell.millijoules for cell in cells)
    time = sum(cell.milliseconds for cell in cells)
    watts = energy / time
    degrees = len(cells) - 1
    lacking = max(0, DEGREES - degrees)
    squares = math.fsum(cell.hosts * (cell.watts / watts - 1) ** 2 for cell in cells) if watts else 0.0
    return ClassMean(
        Fraction(energy, time),
        machines,
        math.fsum((cell.hosts / machines) ** 2 for cell in cells),
        (squares + lacking * SPREAD**2) / (degrees + lacking) * (quantile95(degrees + lacking) / Z95) ** 2,
        sum(cell.uncertain_millijoules for cell in cells) / energy if energy else 0.0,
        time,
        open_share,
    )


def _of_other_months(means: Sequence[ClassMean]) -> ClassMean:
    """Return the mean for a month in which no cell of the class is published.

    Power is a line in the share of open days, by least squares; neither open nor other days draw less than
    nothing. Where all months have the same share, it is their mean.
    """

    def average(value: Callable[[ClassMean], Fraction]) -> Fraction:
        whole = sum((one.milliseconds * value(one) for one in means), Fraction(0))
        return whole / sum(one.milliseconds for one in means)

    watts, share = average(lambda one: one.watts), average(lambda one: one.open_share)
    squares = average(lambda one: (one.open_share - share) ** 2)
    products = average(lambda one: (one.open_share - share) * (one.watts - watts))
    steepest = watts / share if share else Fraction(0)
    slope = min(max(products / squares, Fraction(0)), steepest) if squares else Fraction(0)
    return ClassMean(
        watts,
        float(average(lambda one: Fraction(one.machines))),
        max(one.concentration for one in means),
        max(one.variance for one in means),
        max(one.u_model for one in means),
        0,
        share,
        slope,
    )


class PlaceLevel(NamedTuple):
    """Mean power of the machines of one entity and class ÷ the class's, over months with their own cell."""

    ratio: Fraction
    machines: float


def levels_of_year(
    cells: Sequence[Iterable[PublishedCell]], means: Sequence[Mapping[ClassOfFamily, ClassMean]]
) -> dict[GroupKey, PlaceLevel]:
    """Return entity and device class → its level in the year."""
    sums: defaultdict[GroupKey, list[Fraction]] = defaultdict(lambda: [Fraction(0)] * 4)
    for of_month, mean_of in zip(cells, means, strict=True):
        for cell in of_month:
            mean = mean_of.get(cell.of_class)
            if mean is not None and not cell.key.autres and mean.watts:
                time = Fraction(cell.milliseconds)
                values = (time, cell.hosts * time, Fraction(cell.millijoules), time * mean.watts)
                sums[cell.key] = [one + more for one, more in zip(sums[cell.key], values, strict=True)]
    return {
        key: PlaceLevel(energy / expected, float(hosts / time))
        for key, (time, hosts, energy, expected) in sums.items()
        if time
    }
