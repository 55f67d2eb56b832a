# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Estimates the fleet's energy of released months (pure). docs/methodology.md §6, *Released months*.

The input is published cells, counts of the inventory and constants, and nothing of a machine. So a figure
reveals no more than the cells reveal, whatever anyone subtracts. Energies are integer millijoules, times
integer milliseconds, uncertainties parts per million of a row's energy (k = 1, rounded up).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from veilleuse.collector.fleet.errors import default_u
from veilleuse.collector.fleet.pool import PRIOR_STRATA
from veilleuse.collector.fleet.samples import Days
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.release.cells import NO_DAYS, ClassOfFamily, PublishedCell
from veilleuse.collector.release.class_means import VARIANCE_OF_FEW, ClassMean, PlaceLevel
from veilleuse.collector.release.rows import DEFAULTS, MILLION, FleetRow, Source, family_of
from veilleuse.wire.sums import apportion
from veilleuse.wire.units import MICROWATTS_PER_WATT


class FleetCount(NamedTuple):
    """Devices in service in a month, as the inventory lists them."""

    machines: int
    milliseconds: Days
    """Time in service by day type."""


@dataclass(frozen=True, slots=True)
class ReleaseAssumptions:
    """Constants of an estimate."""

    class_microwatts: Mapping[str, Days]
    """Class default by day type."""
    k: int
    """Rule under which the months were published."""
    declared: frozenset[str] = frozenset()
    """Classes whose default is a declared power."""


class _Part(NamedTuple):
    """Devices of one place and class, with their share of a published cell."""

    key: GroupKey
    machines: int
    days: Days
    """Time in service by day type."""
    cell: PublishedCell | None = None
    hosts: int = 0
    known_milliseconds: int = 0
    known_millijoules: int = 0
    share: float = 1.0
    """Share of the time in service of all parts of the cell."""
    is_shared: bool = False
    """True for a cell that has other parts, or the name of no place."""

    @property
    def fleet(self) -> int:
        """Time in service, never below the published time."""
        return max(sum(self.days), self.known_milliseconds)

    @property
    def left(self) -> int:
        """Time in service that no published cell covers."""
        return self.fleet - self.known_milliseconds


class _Extra(NamedTuple):
    """Energy of unobserved time, millijoules, with its errors (k = 1)."""

    source: Source
    energy: int = 0
    default: int = 0
    own: float = 0.0
    shared: float = 0.0
    model: float = 0.0


class FleetEstimate:
    """Estimate of one month."""

    def __init__(
        self,
        fleet: Mapping[GroupKey, FleetCount],
        cells: Sequence[PublishedCell],
        hidden: Collection[ClassOfFamily],
        means: Mapping[ClassOfFamily, ClassMean],
        levels: Mapping[GroupKey, PlaceLevel],
        assumptions: ReleaseAssumptions,
    ) -> None:
        """Take the fleet and the published cells.

        `hidden`: classes with machines in the merged cells of a branch, the entity of their family. `means`,
        `levels`: those of the year.
        """
        self._fleet, self._cells, self._hidden = fleet, cells, hidden
        self._means, self._levels = means, levels
        self._defaults, self._k = assumptions.class_microwatts, assumptions.k
        self._declared = assumptions.declared
        self._places = {cell.key: cell for cell in cells}
        self._listed = Counter[ClassOfFamily]()
        for key, count in fleet.items():
            self._listed[_class_of(key)] += count.machines

    def rows(self) -> Iterator[FleetRow]:
        """Yield all rows."""
        members: defaultdict[PublishedCell | None, list[GroupKey]] = defaultdict(list)
        for key in sorted(self._fleet, key=_order):
            members[self._cell_of(key)].append(key)
        elsewhere = Counter[ClassOfFamily]()
        for cell in self._cells:
            if keys := members.get(cell):
                yield from self._divided(cell, keys)
            else:
                # The inventory does not list this place: its time is not counted at another place too.
                elsewhere[cell.of_class] += cell.milliseconds
                part = _Part(
                    cell.key, cell.hosts, NO_DAYS, cell, cell.hosts, cell.milliseconds, cell.millijoules
                )
                yield _row(part, _Extra(Source.OWN))
        yield from self._without_cell(members[None], elsewhere)

    def _cell_of(self, key: GroupKey) -> PublishedCell | None:
        """Return the cell of a place and class: its own, else the nearest merged one above it."""
        place = key._replace(power_context=None)
        own = self._places.get(key) or self._places.get(place)  # servers' cells have a power context
        if own is not None:
            return own
        family, name = _class_of(key)
        for above in place.merged_above:
            is_inside = (
                above.device_class != AUTRES or (family._replace(entity=above.entity), name) in self._hidden
            )
            if is_inside and above in self._places:
                return self._places[above]
        return None

    def _divided(self, cell: PublishedCell, keys: Sequence[GroupKey]) -> Iterator[FleetRow]:
        """Divide a cell among its devices, in proportion to their time in service."""
        counts = [self._fleet[key] for key in keys]
        weights = [sum(count.milliseconds) for count in counts]
        values = (cell.hosts, cell.milliseconds, cell.millijoules)
        parts = zip(*(apportion(value, weights) for value in values), strict=True)
        left, whole = max(0, sum(weights) - cell.milliseconds), sum(weights)
        is_shared = len(keys) > 1 or cell.key.autres
        for key, count, (hosts, time, energy) in zip(keys, counts, parts, strict=True):
            share = sum(count.milliseconds) / whole
            # Counts are of today, a cell is of its month: who left it since was in service then.
            machines = count.machines if is_shared else max(count.machines, hosts)
            of_cell = cell, min(hosts, machines), time, energy, share, is_shared
            part = _Part(key, machines, count.milliseconds, *of_cell)
            if cell.key.device_class == key.device_class and cell.is_sample and cell.milliseconds:
                yield _row(part, self._by_cell(part, cell, left))
            else:
                yield _row(part, self._by_class_or_default(part, left))

    def _without_cell(
        self, keys: Sequence[GroupKey], elsewhere: Mapping[ClassOfFamily, int]
    ) -> Iterator[FleetRow]:
        by_class: defaultdict[ClassOfFamily, list[GroupKey]] = defaultdict(list)
        for key in keys:
            by_class[_class_of(key)].append(key)
        for name, of_class in by_class.items():
            counts = [self._fleet[key] for key in of_class]
            times = [sum(count.milliseconds) for count in counts]
            taken = apportion(min(elsewhere.get(name, 0), sum(times)), times)
            for key, count, whole, less in zip(of_class, counts, times, taken, strict=True):
                days = tuple(time * (whole - less) // (whole or 1) for time in count.milliseconds)
                part = _Part(key, count.machines, days)
                yield _row(part, self._by_class_or_default(part, 0))

    # --- energy of unobserved time

    def _by_cell(self, part: _Part, cell: PublishedCell, left: int) -> _Extra:
        """Use the cell's mean; `left`: unobserved time of all that share it."""
        energy, variance = cell.energy_of(part.left), self._means[cell.of_class].variance
        error = _error_of_cell(cell, variance, part.left, left)
        model = cell.u_model * energy
        if part.share == 1:
            return _Extra(Source.OWN, energy, own=error, model=model)
        noise = cell.watts * _noise(part, variance, part.fleet)
        return _Extra(Source.BRANCH, energy, own=noise, shared=error, model=model)

    def _by_class_or_default(self, part: _Part, left: int) -> _Extra:
        mean = self._means.get(_class_of(part.key))
        if mean is None:
            return self._by_default(part, left)
        level = self._levels.get(part.key) or self._levels.get(part.key._replace(power_context=None))
        return _by_class(part, mean) if level is None else _by_level(part, mean, level)

    def _by_default(self, part: _Part, left: int) -> _Extra:
        """Use the class default; in a cell of several classes its mean for at most k devices of each class.

        The mean of other classes represents no more of them: decision 0045.
        """
        cell, device_class = part.cell, part.key.device_class or ""
        u = default_u(device_class, self._declared)
        if cell is None:
            default = self._default_energy(part, part.left)
            source = Source.DECLARED if device_class in self._declared else Source.DEFAULT
            return _Extra(source, default, default, shared=default * u)
        listed = self._listed[_class_of(part.key)]
        of_cell = part.left * min(self._k, listed) // listed if cell.is_sample else 0
        energy, default = cell.energy_of(of_cell), self._default_energy(part, part.left - of_cell)
        return _Extra(
            Source.BRANCH,
            energy + default,
            default,
            own=cell.watts * _noise(part, VARIANCE_OF_FEW, part.known_milliseconds + of_cell),
            shared=math.hypot(default * u, _error_of_cell(cell, VARIANCE_OF_FEW, of_cell, left)),
            model=cell.u_model * energy,
        )

    def _default_energy(self, part: _Part, left: int) -> int:
        microwatts, whole = self._defaults.get(part.key.device_class or "", NO_DAYS), sum(part.days)
        energy = sum(time * power for time, power in zip(part.days, microwatts, strict=True))
        return energy * left // (whole * MICROWATTS_PER_WATT) if whole else 0


def _by_class(part: _Part, mean: ClassMean) -> _Extra:
    """Use the mean of all published cells of the class."""
    watts = mean.watts_on(part.days)
    energy = int(part.left * watts)
    unknown = part.left if part.cell is None else part.fleet
    common = mean.variance / mean.machines + PRIOR_STRATA**2 * mean.concentration
    return _Extra(
        Source.CLASS,
        energy,
        own=float(watts) * _noise(part, mean.variance, unknown),
        shared=energy * math.sqrt(common),
        model=mean.u_model * energy,
    )


def _by_level(part: _Part, mean: ClassMean, level: PlaceLevel) -> _Extra:
    """Use the mean of the place's own cells in other months, at the class's power of this month."""
    energy = int(part.left * mean.watts_on(part.days) * level.ratio)
    squares = mean.variance * part.fleet / (level.machines * part.left) if part.left else 0.0
    source = Source.OWN if part.cell is None else Source.CLASS  # then the known part is not its own
    return _Extra(source, energy, own=energy * math.sqrt(squares), model=mean.u_model * energy)


def _error_of_cell(cell: PublishedCell, variance: float, time: int, left: int) -> float:
    """Return the error of a time at the cell's mean, mJ: docs/methodology.md §6's s²·U·M/n.

    `left`: unobserved time of all that use the mean; their errors add up linearly.
    """
    squares = variance * (cell.milliseconds + left) / (cell.hosts * left) if left else 0.0
    return cell.watts * math.sqrt(squares) * time


def _noise(part: _Part, variance: float, time: int) -> float:
    """Return how far the devices of a place may be from a mean that is not theirs, in ms of that mean."""
    between_machines = variance * time * part.fleet / max(1, part.machines)
    return math.sqrt(between_machines + (PRIOR_STRATA * time) ** 2)


def _row(part: _Part, extra: _Extra) -> FleetRow:
    energy = part.known_millijoules + extra.energy
    model = extra.model + (part.cell.u_model * part.known_millijoules if part.cell else 0.0)
    u_own, u_shared, u_model = (
        math.ceil(MILLION * error / energy) if energy else 0 for error in (extra.own, extra.shared, model)
    )
    cell = part.cell if extra.source in (Source.OWN, Source.BRANCH) else None
    of = part.key if cell is None else cell.key
    has_entity, has_class = cell is not None or extra.source is Source.OWN, extra.source not in DEFAULTS
    return FleetRow(
        part.key,
        extra.source,
        (has_entity and of.entity) or "",
        (has_class and of.device_class) or "",
        part.hosts,
        part.machines,
        part.fleet,
        part.known_milliseconds,
        part.known_millijoules,
        extra.energy,
        extra.default,
        0,
        round(MILLION * part.share) if extra.source is Source.BRANCH else MILLION,
        u_own,
        u_shared,
        u_model,
        cell=part.cell.key if part.cell and part.is_shared else None,
    )


def _order(key: GroupKey) -> tuple[str, ...]:
    words = (key.zone, key.population, key.memo, key.entity, key.device_class, key.power_context or "")
    return tuple(map(str, words))


def _class_of(key: GroupKey) -> ClassOfFamily:
    return family_of(key), key.device_class or ""
