# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums the fleet's rows of released months as the rows of a report (pure). docs/methodology.md §6.

Every outlet adds the same stored rows here, so that all have the same digits.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from functools import partial
from itertools import groupby
from typing import Final, Protocol

from veilleuse.collector.account.row import FigureRow, PeriodFigures, RoomParts
from veilleuse.collector.account.server_rooms import with_machines
from veilleuse.collector.account.telework import PeriodHomeShare
from veilleuse.collector.calendars.periods import Slice, add_months, slices
from veilleuse.collector.errors import StoreDamaged
from veilleuse.collector.fleet.estimate import (
    DataType,
    Estimate,
    EstimateBasis,
    Representativeness,
)
from veilleuse.collector.fleet.observations import MONITOR, Place
from veilleuse.collector.gc_pause import without_garbage_collection
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.months import WAIT_DAYS
from veilleuse.collector.model.query import Basis, GroupKey, Query
from veilleuse.collector.model.sums import Detail, EnergyClass
from veilleuse.collector.ports.months import PublicationReader
from veilleuse.collector.quantiles import Z95
from veilleuse.collector.release.rows import (
    FLEET,
    MILLION,
    OF_TOTAL,
    FleetMonth,
    FleetRow,
    HomePart,
    Source,
    is_inside,
    observed_rows,
    split_at_home,
)
from veilleuse.wire.ladder import MEASURED, Method

HIDDEN: Final = frozenset({Detail.METHODS, Detail.DERIVED})
"""Details that a row with machines under the rule of disclosure does not show."""
HIDDEN_OF_FEW: Final = HIDDEN | {Detail.COVERAGE}
"""Details that a row of fewer than k PCs does not show: it has no cell of its own."""


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
        own = self._own[pool].setdefault(row.key.over(), _Own())  # one of all months
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


@dataclass(slots=True)
class _Sum:
    """Sum of rows, with what a report shows beside the energy."""

    fleet: FleetSum = field(default_factory=FleetSum)
    hosts: Counter[Slice] = field(default_factory=Counter)
    machines: Counter[Slice] = field(default_factory=Counter)
    methods: Counter[Method] = field(default_factory=Counter)
    imputed: int = 0
    derived_milliseconds: int = 0
    is_ruled: bool = False
    pcs: Counter[Slice] = field(default_factory=Counter)
    """PCs in service of rows under the rule; where there are screens alone, as many as have their time."""
    sampled: set[Representativeness] = field(default_factory=set)
    """Representativeness of the rows; of one under the rule, with a random roll-out."""
    apportioned: bool = False
    rooms: list[RoomParts] = field(default_factory=list)
    room_millijoules: int = 0
    has_machines: bool = False
    is_observed: bool = False
    declared_millijoules: int = 0
    """Part of the energy that a declared power gives."""
    is_declared: bool = False
    random_roll_out: bool = False
    k: int = 1
    places: Counter[Place] = field(default_factory=Counter)

    def add(self, part: Slice, row: FleetRow) -> None:
        """Add a row of one month."""
        self.fleet.add(row)
        key, measured = row.key, row.measured
        if row.source is Source.DECLARED:
            self.is_declared = True
            self.declared_millijoules += row.declared_millijoules
        if key.device_class != MONITOR or not self.has_machines:
            if key.device_class != MONITOR and not self.has_machines:
                self.has_machines = True  # a machine and its screens count once
                self.hosts.clear()
                self.machines.clear()
                self.pcs.clear()
            self.hosts[part] += row.hosts
            self.machines[part] += row.machines
            if measured is None:
                self.pcs[part] += row.pcs_in(part)
        context = key.power_context or PowerContext.OWN_SITE
        self.places[Place(key.entity or "", row.site, key.zone, key.population, context)] += (
            row.energy_millijoules
        )
        if measured is None:
            self.is_ruled = True
            self.sampled.add(row.representativeness)
            return
        self.methods.update(measured.methods)
        self.imputed += measured.imputed_millijoules
        self.derived_milliseconds += measured.derived_milliseconds
        if row.fleet_milliseconds or row.energy_millijoules or row.weak_millijoules:
            self.sampled.add(Representativeness(measured.representativeness))
        self.apportioned |= measured.apportioned
        if measured.room is not None:
            self.rooms.append(measured.room)
            self.room_millijoules += row.energy_millijoules

    @property
    def is_of_few(self) -> bool:
        """Return whether the row is of 1 to k − 1 PCs."""
        return self.is_ruled and 0 < max(self.pcs.values(), default=0) < self.k

    def row(self, key: GroupKey, *, is_incomplete: bool) -> FigureRow:
        """Return the row of a report."""
        machines = self.fleet.energy_millijoules - self.room_millijoules
        return FigureRow(
            key,
            self._estimate(),
            max(self.hosts.values(), default=0),
            self.apportioned,
            HIDDEN_OF_FEW if self.is_of_few else HIDDEN if self.is_ruled else frozenset(),
            {},
            {},
            tuple(sorted(self.places.items(), key=str)),
            with_machines(self.rooms, machines) if self.rooms else None,
            is_released=True,
            is_incomplete=is_incomplete,
        )

    def _estimate(self) -> Estimate:
        fleet, energy = self.fleet, self.fleet.energy_millijoules
        measured = sum(part for method, part in self.methods.items() if method in MEASURED)
        known = fleet.known_millijoules
        sampled = fleet.extrapolated_millijoules - fleet.default_millijoules
        by_default = EstimateBasis.DECLARED if self.is_declared else EstimateBasis.CLASS_DEFAULT
        return Estimate(
            energy_millijoules=energy,
            measured_millijoules=measured,
            modelled_millijoules=known - measured,
            imputed_millijoules=self.imputed,
            extrapolated_millijoules=fleet.extrapolated_millijoules - self.imputed,
            default_millijoules=fleet.default_millijoules,
            methods=dict(self.methods),
            machines_fleet=max(self.machines.values(), default=0),
            machines_sampled=max(self.hosts.values(), default=0),
            fleet_milliseconds=fleet.machine_milliseconds,
            observed_milliseconds=fleet.known_milliseconds,
            derived_milliseconds=self.derived_milliseconds,
            sampling_variance=(fleet.u_sampling * energy) ** 2,
            degrees_of_freedom=float("inf"),
            u_sampling=fleet.u_sampling,
            u_model=fleet.u_model,
            low_log=fleet.low_log,
            high_log=fleet.high_log,
            representativeness=self._representativeness(),
            basis=EstimateBasis.OBSERVED
            if self.is_observed
            else EstimateBasis.DECLARED
            if 2 * self.declared_millijoules > energy
            else EstimateBasis.CENSUS
            if self.sampled == {Representativeness.CENSUS} and not self.is_of_few
            else EstimateBasis.SAMPLE
            if known or sampled
            else by_default,
            data_type=self._data_type(measured),
            unestimated=(),
        )

    def _representativeness(self) -> Representativeness:
        if self.is_observed or (self.sampled == {Representativeness.CENSUS} and not self.is_of_few):
            return Representativeness.CENSUS
        is_random = self.random_roll_out or not self.is_ruled
        if is_random and Representativeness.NOT_DEMONSTRATED not in self.sampled:
            return Representativeness.DEMONSTRATED
        return Representativeness.NOT_DEMONSTRATED

    def _data_type(self, measured: int) -> DataType:
        fleet = self.fleet
        sizes = (
            (DataType.REAL, measured),
            (DataType.EXTRAPOLATED, fleet.extrapolated_millijoules - fleet.default_millijoules),
            (DataType.STATISTICAL, fleet.known_millijoules - measured),
            (DataType.APPROXIMATE, fleet.default_millijoules),
        )
        return max(reversed(sizes), key=lambda size: size[1])[0]


def sum_fleet(
    part: Slice,
    months: Iterable[tuple[Slice, Sequence[FleetRow]]],
    query: Query,
    *,
    random_roll_out: bool,
) -> PeriodFigures:
    """Sum the rows of the months of one stretch; `query` has perimeters, grouping, basis and entities.

    Rooms belong to no entity: a reader of some does not see them.
    """
    is_observed = query.basis is Basis.OBSERVED
    new_sum = partial(_Sum, is_observed=is_observed, random_roll_out=random_roll_out, k=query.k_anonymity)
    groups, whole = defaultdict[GroupKey, _Sum](new_sum), new_sum()
    homes, incomplete = set[PeriodHomeShare](), set[GroupKey]()
    since, declared = None, set[str]()
    for month, rows in months:
        inside = [(row.key, row) for row in rows if is_inside(row.key, query.entities)]
        since = since or (month.first if inside else None)
        declared |= {str(key.device_class) for key, row in inside if row.declared_millijoules}
        homes |= {_home_share(row.key, row.home) for _, row in inside if row.home is not None}
        if is_observed:
            inside, cut = observed_rows(inside, query)
            incomplete |= {key.over(part.first, part.end) for key in cut}
        for key, row in inside:
            if not row.key.memo:
                whole.add(month, row)
            for one in split_at_home(row):
                at = key if one.key is row.key else key._replace(power_context=PowerContext.HOME)
                groups[_group(at, query).over(part.first, part.end)].add(month, one)
    made = [group.row(key, is_incomplete=key in incomplete) for key, group in groups.items()]
    made.sort(key=lambda row: row.key.order)
    shown = tuple(row for row in made if not row.key.memo)
    is_cut = OF_TOTAL.over(part.first, part.end) in incomplete
    total = whole.row(_total_key(shown), is_incomplete=is_cut) if shown else None
    memo = tuple(row for row in made if row.key.memo)
    return PeriodFigures(
        part.first, part.end, shown, memo, total, (), tuple(sorted(homes)), (), since, frozenset(declared)
    )


def _group(key: GroupKey, query: Query) -> GroupKey:
    """Return the key of the row that holds a place: one row a perimeter, whichever its populations."""
    row = query.group(key)
    is_divided = "perimeter" not in query.dimensions or "population" in query.dimensions
    return row if is_divided else row._replace(population=None)


def _home_share(key: GroupKey, home: HomePart) -> PeriodHomeShare:
    share = Fraction(home.share_ppm, MILLION)
    return PeriodHomeShare(key.entity or "", key.device_class or "", share, home.declared_by)


def _total_key(rows: Collection[FigureRow]) -> GroupKey:
    zones = {row.key.zone for row in rows}
    contexts = {row.key.power_context for row in rows if row.key.power_context is not None}
    return GroupKey(zone=zones.pop() if len(zones) == 1 else "", power_context=min(contexts, default=None))


DIMENSIONS: Final = frozenset(
    {"entity", "device_class", "population", "perimeter", "power_context", "year", "month"}
)
"""Dimensions of released rows; `site` would be a second partition."""


@dataclass(frozen=True, slots=True)
class ReleasedStretch:
    """Consecutive released months inside one stretch of a question."""

    months: tuple[Slice, ...]

    @property
    def part(self) -> Slice:
        """Period of the rows."""
        return Slice(self.months[0].first, self.months[-1].end)


class FleetReader(Protocol):
    """Fleet of released months."""

    def has(self, part: Slice) -> bool:
        """Return whether a month is released, under the rule of its publication."""

    def rows(self, part: Slice) -> FleetMonth:
        """Return the rows of a released month; () where it was taken back meanwhile. Raises StoreDamaged."""


@dataclass(frozen=True, slots=True)
class PublishedFleet:
    """Fleet of months as published."""

    published: PublicationReader

    def has(self, part: Slice) -> bool:
        """See FleetReader."""
        summary = self.published.summary(FLEET.kind, part.first, part.end)
        return summary is not None and summary.format == FLEET.format

    def rows(self, part: Slice) -> FleetMonth:
        """See FleetReader."""
        found = self.published.find(FLEET.kind, part.first, part.end)
        if found is None:
            return ()
        try:
            return FLEET.decode(json.loads(found.content), part.first, part.end)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreDamaged(
                f"published {found.name} cannot be read ({type(error).__name__}: {error}): restore a backup, or have it "
                f"computed anew with 'veilleuse published take-back {found.first} {found.end} --why TEXT'"
            ) from error


def find_stretches(fleet: FleetReader, query: Query, *, cut: bool = False) -> tuple[ReleasedStretch, ...]:
    """Return the released months that answer a question; () where they cannot.

    They answer where the question begins with one: a later part that is not released yet is left out. `cut`:
    months inside the period answer for it, whatever else it holds.
    """
    if query.basis is Basis.UNRELEASED or query.current_tree or not DIMENSIONS.issuperset(query.dimensions):
        return ()
    if not cut and (query.first.day, query.end.day) != (1, 1):
        return ()
    found = []
    for part in slices(query.first, query.end, by_month="month" in query.dimensions):
        months = [one for one in _months(part) if fleet.has(one)]
        run = next(divide_at_holes(months), None)
        if run is not None and (cut or run.part.first == part.first):
            found.append(run)
        elif not cut and not found:
            return ()
    return tuple(found)


def divide_at_holes(months: Sequence[Slice]) -> Iterator[ReleasedStretch]:
    """Yield the runs of consecutive months; `months` are in order."""
    for _, run in groupby(enumerate(months), lambda one: add_months(one[1].first, -one[0])):
        yield ReleasedStretch(tuple(month for _, month in run))


def _months(part: Slice) -> Iterator[Slice]:
    """Yield the whole calendar months inside a period."""
    first = part.first if part.first.day == 1 else add_months(part.first.replace(day=1), 1)
    while (end := add_months(first, 1)) <= part.end:
        yield Slice(first, end)
        first = end


def read_figures(
    fleet: FleetReader, stretches: Iterable[ReleasedStretch], query: Query, *, random_roll_out: bool
) -> tuple[PeriodFigures, ...]:
    """Return the figures of each stretch; the query holds its perimeters. Raises StoreDamaged."""
    with without_garbage_collection():
        return tuple(
            sum_fleet(
                stretch.part,
                ((part, fleet.rows(part)) for part in stretch.months),
                query,
                random_roll_out=random_roll_out,
            )
            for stretch in stretches
        )


def missing_months(stretches: Iterable[ReleasedStretch], query: Query) -> Iterator[dict[str, str]]:
    """Yield the parts of a question without released months, and the day on which more may be released."""
    may_group = DIMENSIONS.issuperset(query.dimensions)
    running = (query.today - timedelta(days=WAIT_DAYS)).replace(day=1)
    at = query.first
    for stretch in (*stretches, None):
        end = query.end if stretch is None else stretch.part.first
        if at < end:
            month = max(at, running)
            on = add_months(month.replace(day=1), 1) + timedelta(days=WAIT_DAYS)
            yield {
                "period_from": at.isoformat(),
                "period_to": end.isoformat(),
                "reason": "period" if may_group else "grouping",
                **({"released_on": on.isoformat()} if may_group and month < end else {}),
            }
        if stretch is not None:
            at = stretch.part.end
