# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the estimator's inputs from machine periods: the sample and the fleet (pure). docs/methodology.md
§6.

Strata are device class × place: entity, site, population, power context. Any grouping of a report is a union
of strata, so all groupings of one period have one total.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Final, NamedTuple

from veilleuse.collector.fleet.census import FleetDevice
from veilleuse.collector.fleet.pool import FEWEST
from veilleuse.collector.fleet.samples import (
    DAY_TYPES,
    Days,
    InService,
    SampleCell,
    SampleMachine,
    Stratum,
    age_band,
)
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.months import (
    METHOD_COLUMNS,
    PLACE,
    SCREEN_COLUMNS,
    STATE_COLUMNS,
    STATE_ENERGY_COLUMNS,
    DayType,
    HostPeriod,
    Vector,
)
from veilleuse.collector.model.query import DEFAULT_PERIMETERS, GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import EnergyClass, EnergySums
from veilleuse.wire.ladder import Method
from veilleuse.wire.sums import apportion
from veilleuse.wire.vocabulary import DeviceClass, Population, State, Supply

_SEPARATOR: Final = "\x1f"
MONITOR: Final = EnergyClass.MONITOR.value
PCS: Final = frozenset(
    one.value
    for one in DeviceClass
    if one not in (DeviceClass.SERVER, DeviceClass.VIRTUAL_MACHINE, DeviceClass.UNKNOWN)
)
"""Device classes that have external screens."""


class Place(NamedTuple):
    """Place of a machine: what divides rows in addition to its class."""

    entity: str
    site: str
    zone: str
    population: Population | None
    power_context: PowerContext
    perimeter: str | None = None
    """None where its machines are of several."""

    def stratum(self, device_class: str) -> Stratum:
        """Return the stratum of a device class at this place."""
        return _stratum(self, device_class)

    @classmethod
    def at(
        cls, standing: FleetDevice, perimeter_of: Callable[[GroupKey], str | None] = DEFAULT_PERIMETERS.of
    ) -> Place:
        """Return the place of a device."""
        entity, population, context = standing.entity, standing.population, standing.power_context
        key = GroupKey(
            entity=entity,
            population=population,
            device_class=standing.device_class,
            power_context=context,
        )
        return cls(entity, standing.site, standing.zone, population, context, perimeter_of(key))

    @classmethod
    def of(cls, stratum: Stratum) -> Place:
        """Return the place of a stratum: the inverse of `stratum`."""
        entity, site, zone, population, context, perimeter = stratum.entity.split(_SEPARATOR)
        kind = Population(population) if population else None
        return cls(entity, site, zone, kind, PowerContext(context), perimeter or None)


@lru_cache(maxsize=65_536)
def _stratum(place: Place, device_class: str) -> Stratum:
    return Stratum(device_class, _SEPARATOR.join(str(part or "") for part in place))


@dataclass(slots=True)
class ObservedMachine:
    """One machine over the period."""

    host_id: HostId
    rows: list[HostPeriod]
    """Rows by day type and band; by month too for a machine that moved."""

    @property
    def apportioned(self) -> bool:
        """True when any row is apportioned."""
        return any(row.apportioned for row in self.rows)

    @property
    def total(self) -> Vector:
        """Sum of all rows, column by column; () without rows."""
        return tuple(map(sum, zip(*[row.values for row in self.rows], strict=True)))

    @property
    def by_day_type(self) -> dict[DayType, Vector]:
        """Sums by day type, over bands and months."""
        rows: dict[DayType, list[Vector]] = {}
        for row in self.rows:
            rows.setdefault(row.day_type, []).append(row.values)
        return {
            kind: values[0] if len(values) == 1 else tuple(map(sum, zip(*values, strict=True)))
            for kind, values in rows.items()
        }

    def without_bands(self) -> ObservedMachine:
        """Return the same machine with one row per day type, as the figures use it."""
        first, apportioned = self.rows[0], self.apportioned
        return ObservedMachine(
            self.host_id,
            [
                HostPeriod(self.host_id, first.period_from, kind, first.band, values, apportioned)
                for kind, values in self.by_day_type.items()
            ],
        )

    def days(self, value: Callable[[Vector], int]) -> Days:
        """Return an additive value by day type."""
        found = dict.fromkeys(DAY_TYPES, 0)
        for row in self.rows:
            found[row.day_type] += value(row.values)
        return tuple(found.values())


def group_by_machine(periods: Iterable[HostPeriod]) -> Iterable[ObservedMachine]:
    """Yield each machine's rows; `periods` is in host order."""
    for host_id, rows in groupby(periods, attrgetter("host_id")):
        yield ObservedMachine(host_id, list(rows))


_STATE_PLACES: Final = {
    state: [STATE_COLUMNS.index(f"{state}_{supply}_milliseconds") for supply in Supply] for state in State
}
_STATE_ENERGIES: Final = [PLACE[column] for column in STATE_ENERGY_COLUMNS]
_METHOD_PLACES: Final = {
    method: [
        PLACE[f"{method}_{what}"]
        for what in ("milliseconds", "energy_millijoules", "uncertainty_millijoules")
    ]
    for method in Method
}
_ON: Final = (State.ON_ACTIVE, State.ON_IDLE)
_IMPUTED_ENERGY: Final = PLACE["imputed_energy_millijoules"]
_IMPUTED_TIME: Final = PLACE["imputed_milliseconds"]
_SCREENS_TIME, _SCREENS_ENERGY, _SCREENS_UNCERTAINTY = (PLACE[column] for column in SCREEN_COLUMNS[-3:])
_ENERGIES: Final = itemgetter(*(places[1] for places in _METHOD_PLACES.values()), _IMPUTED_ENERGY)
_TIMES: Final = itemgetter(*(places[0] for places in _METHOD_PLACES.values()), _IMPUTED_TIME)
_ON_TIMES: Final = itemgetter(*(place for state in _ON for place in _STATE_PLACES[state]))
_ON_ENERGIES: Final = itemgetter(*(PLACE[f"{state}_energy_millijoules"] for state in _ON))
_KNOWN_TIMES: Final = itemgetter(
    *(place for state in State if state is not State.UNKNOWN for place in _STATE_PLACES[state])
)
assert len(METHOD_COLUMNS) == 3 * len(_METHOD_PLACES), "one triple of columns per method"


def state_energies(vector: Vector) -> dict[State, tuple[int, int]]:
    """State → (milliseconds, millijoules)."""
    return {
        state: (sum([vector[place] for place in places]), vector[energy])
        for (state, places), energy in zip(_STATE_PLACES.items(), _STATE_ENERGIES, strict=True)
    }


def machine(
    one: ObservedMachine, total: Vector, stratum: Stratum, standing: FleetDevice | None = None
) -> SampleMachine:
    """Return the machine as a `SampleMachine`; without `standing`,
    for several machines at once without hardware and age.
    """
    return SampleMachine(
        stratum=stratum,
        hardware=hardware_name(standing.model) if standing else "",
        energy_millijoules=one.days(_energy),
        accounted_milliseconds=one.days(_accounted),
        methods=_methods(total),
        imputed_millijoules=total[_IMPUTED_ENERGY],
        observed_milliseconds=sum(_KNOWN_TIMES(total)),
        on_milliseconds=sum(_ON_TIMES(total)),
        on_millijoules=sum(_ON_ENERGIES(total)),
        unobserved_milliseconds=total[PLACE["unobserved_milliseconds"]],
        counters_milliseconds=total[PLACE["counters_covered_milliseconds"]],
        counters_millijoules=total[PLACE["counters_energy_millijoules"]],
        age_years=standing.age_years if standing else None,
        refurbished=standing.refurbished if standing else None,
    )


def screens(one: ObservedMachine, total: Vector, stratum: Stratum) -> SampleMachine | None:
    """Return a machine's external screens as one machine of class `monitor`,
    with display-on time; None without any.
    """
    time, energy = total[_SCREENS_TIME], total[_SCREENS_ENERGY]
    if not time and not energy:
        return None
    method = Method.LOAD_MODELLED
    return SampleMachine(
        stratum=stratum,
        hardware="",
        energy_millijoules=one.days(itemgetter(_SCREENS_ENERGY)),
        accounted_milliseconds=one.days(itemgetter(_SCREENS_TIME)),
        methods={method: EnergySums(time, energy, total[_SCREENS_UNCERTAINTY])},
        observed_milliseconds=time,
        on_milliseconds=time,
        on_millijoules=energy,
    )


def _energy(row: Vector) -> int:
    return sum(_ENERGIES(row))


def _accounted(row: Vector) -> int:
    return sum(_TIMES(row))


def _methods(total: Vector) -> dict[Method, EnergySums]:
    return {
        method: EnergySums(total[time], total[energy], total[uncertainty])
        for method, (time, energy, uncertainty) in _METHOD_PLACES.items()
        if total[time] or total[energy]
    }


@dataclass(slots=True)
class FleetBook:
    """Counts of the fleet by stratum, while devices are added."""

    machines: Counter[Stratum] = field(default_factory=Counter)
    times: defaultdict[Stratum, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    cells: defaultdict[Stratum, Counter[SampleCell]] = field(default_factory=lambda: defaultdict(Counter))
    unmatched: list[tuple[Stratum, FleetDevice]] = field(default_factory=list)
    """Machines without an asset, until `settle`."""
    spare: Counter[Stratum] = field(default_factory=Counter)
    """Assets without a matched machine, or whose machine has left."""
    listed: defaultdict[tuple[str, str], list[tuple[Stratum, Mapping[DayType, int]]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Entity and site → the external screens that the inventory lists there, with their time in service."""
    standby: Counter[Stratum] = field(default_factory=Counter)
    """Time of listed screens while they are not on, by the stratum of the PCs' screens."""
    by_default: defaultdict[Stratum, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Time in service of listed screens in places where no PC reports display-on time."""

    def add_device(self, stratum: Stratum, standing: FleetDevice) -> None:
        """Add one device, of the inventory or not."""
        if stratum.device_class == MONITOR:  # PCs report its display-on time
            self.listed[standing.entity, standing.site].append((stratum, standing.milliseconds))
        elif standing.inventoried:
            self.add(stratum, standing)
            self.spare[stratum] += standing.host_id is None or standing.has_left
        else:
            self.unmatched.append((stratum, standing))

    def settle(self) -> None:
        """Assign machines without an asset, once all devices are added.

        Such a machine takes an unmatched asset of its stratum while there are any. A machine that has left
        always takes one: its asset may now be its successor's. Its measured energy counts all the same.
        """
        inventoried = set(self.machines)
        for stratum, standing in self.unmatched:
            if standing.has_left and stratum in inventoried:
                continue
            if self.spare[stratum] > 0:
                self.spare[stratum] -= 1
            else:
                self.add(stratum, standing)
        self.unmatched.clear()

    def complete(
        self,
        sampled: Mapping[Stratum, int],
        times: Mapping[Stratum, Mapping[str, int]],
        examples: Mapping[Stratum, Stratum],
    ) -> None:
        """Raise the fleet to at least what was measured, and give PCs without measurement external screens.

        `sampled`, `times`: measured machines of each stratum, and their accounted time by day type.
        `examples`: stratum of a place's screens → group of places whose PCs together report display-on time.
        Call it once, after `settle`.
        """
        for stratum, number in sampled.items():
            self.raise_to_sample(stratum, number, times[stratum])
        self._screens(sampled, times, examples)
        self._standby()

    def _screens(
        self,
        sampled: Mapping[Stratum, int],
        times: Mapping[Stratum, Mapping[str, int]],
        examples: Mapping[Stratum, Stratum],
    ) -> None:
        """Give a place's PCs the display-on time per PC time of their own group of places,
        else of all groups.

        A group of fewer than ten PCs without any screen is left out: it may be chance. Inventories have no
        hours, so listed screens do not count here.
        """
        lit, used = _Times(), _Times()
        members = Counter[Stratum]()
        for stratum, group in times.items():
            into = examples.get(Place.of(stratum).stratum(MONITOR))
            if into is not None and stratum.device_class == MONITOR:
                lit[into].update(group)
            elif into is not None and stratum.device_class in PCS:
                used[into].update(group)
                members[into] += sampled[stratum]
        tells = {into for into in used if into in lit or members[into] >= FEWEST}
        all_lit, all_used = Counter[str](), Counter[str]()
        for into in tells:
            all_lit.update(lit[into])
            all_used.update(used[into])
        for place, fleet in _pcs_by_place(self.times).items():
            stratum = place.stratum(MONITOR)
            into = examples.get(stratum)
            on, time = (lit[into], used[into]) if into in tells else (all_lit, all_used)
            for kind, milliseconds in fleet.items():
                if time[kind] and on[kind]:
                    self.times[stratum][kind] = max(
                        self.times[stratum][kind], on[kind] * milliseconds // time[kind]
                    )

    def _standby(self) -> None:
        """Put listed screens in standby for the time that they are not on; docs/methodology.md section 6.

        Standby is shared among the PCs of an entity and site in proportion to their display-on time. Where no
        PC reports display-on time, the whole time in service is at the class default.
        """
        on: defaultdict[tuple[str, str], dict[Stratum, int]] = defaultdict(dict)
        for stratum, times in sorted(self.times.items()):  # apportioned in this order, whatever a set's was
            if stratum.device_class == MONITOR and (own := sum(times.values())):
                place = Place.of(stratum)
                on[place.entity, place.site][stratum] = own
        for where, screens in self.listed.items():
            lit = on[where]
            if not lit:
                for stratum, time in screens:
                    self.machines[stratum] += 1
                    self.by_default[stratum].update(time)
                continue
            weights = list(lit.values())
            rest = max(0, sum(sum(time.values()) for _, time in screens) - sum(weights))
            self.standby.update(dict(zip(lit, apportion(rest, weights), strict=True)))
            for stratum, number in zip(lit, apportion(len(screens), weights), strict=True):
                self.machines[stratum] = max(self.machines[stratum], number)

    def add(self, stratum: Stratum, standing: FleetDevice) -> None:
        """Add one device."""
        self.machines[stratum] += 1
        self.times[stratum].update(standing.milliseconds)
        self.cells[stratum][
            SampleCell(hardware_name(standing.model), age_band(standing.age_years, standing.refurbished))
        ] += 1

    def raise_to_sample(self, stratum: Stratum, sampled: int, times: Mapping[str, int]) -> None:
        """Raise the fleet of a stratum to what was measured: coverage is never above 1.

        A site's calendar may give a day another type than the inventory's site: that day's time moves, it is
        not added.
        """
        self.machines[stratum] = max(self.machines[stratum], sampled)
        standing = self.times[stratum]
        more = [max(0, times.get(kind, 0) - standing[kind]) for kind in DAY_TYPES]
        if any(more):
            left = [max(0, standing[kind] - times.get(kind, 0)) for kind in DAY_TYPES]
            taken = apportion(min(sum(more), sum(left)), left)
            for kind, one, less in zip(DAY_TYPES, more, taken, strict=True):
                standing[kind] += one - less

    def in_service(self) -> Iterable[InService]:
        """Yield the fleet of each stratum for the estimator."""
        for stratum in {**self.machines, **self.times}:
            times, by_default = self.times[stratum], self.by_default.get(stratum, Counter())
            yield InService(
                stratum,
                self.machines[stratum],
                tuple(times[kind] for kind in DAY_TYPES),
                dict(self.cells[stratum]),
                self.standby[stratum],
                tuple(by_default[kind] for kind in DAY_TYPES),
            )


class _Times(defaultdict[Stratum, Counter[str]]):
    """Milliseconds by day type."""

    def __init__(self) -> None:
        super().__init__(Counter)


def _pcs_by_place(times: Mapping[Stratum, Mapping[str, int]]) -> dict[Place, Counter[str]]:
    """Sum the time by day type of the machines that may have external screens."""
    found: dict[Place, Counter[str]] = {}
    for stratum, of in times.items():
        if stratum.device_class in PCS:
            found.setdefault(Place.of(stratum), Counter()).update(of)
    return found


@lru_cache(maxsize=4096)
def hardware_name(text: str) -> str:
    """Normalise vendor and model: case and repeated spaces do not count, as in calibrations."""
    return " ".join(text.casefold().split())
