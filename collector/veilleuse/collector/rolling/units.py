# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Days and weeks → what each adds to its months (pure). Exact: what is added day by day, or all at once, is the same.

Counters are those that the wall model multiplied: in each cell one signal, as derive chose it (psys where it is trusted, else package +
DRAM + discrete GPU: never both), over the milliseconds that a counter method answered for. Where a meter or the battery answered,
nothing was multiplied, and nothing is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from typing import Final, TypeAlias

from veilleuse.collector.account.perimeter import evening_of
from veilleuse.collector.derive.counters import counter_signal, discharge, psys_is_trusted, scaled
from veilleuse.collector.metering import PsysCheck
from veilleuse.collector.model import Cell, Grain, HostId
from veilleuse.collector.ports.months import CARRIED_COLUMNS, UnitEnergy, UnitPoint, Units, UnitSum
from veilleuse.collector.rolling.almanac import SiteDays
from veilleuse.collector.vectors import COLUMNS, NIGHT_ON_MILLISECONDS, PLACE, DayType, HostPeriod
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Boundary, Population, State, Supply

Key: TypeAlias = tuple[DayType, Band]
Sums: TypeAlias = dict[Key, list[int]]
_CellKey: TypeAlias = tuple[Band, State, Supply]
_Unit: TypeAlias = tuple[Grain, int]

ON: Final = frozenset({State.ON_ACTIVE, State.ON_IDLE})
_STATE: Final = {
    (state, supply): PLACE[f"{state}_{supply}_milliseconds"] for state in State for supply in Supply
}
_CARRIED: Final = tuple(PLACE[name] for name in CARRIED_COLUMNS)
_METHOD: Final = {method: PLACE[f"{method}_milliseconds"] for method in Method}
"""Milliseconds, then energy, then uncertainty."""
_STATE_ENERGY: Final = {state: PLACE[f"{state}_energy_millijoules"] for state in State}
_COUNTERS: Final = PLACE["counters_energy_millijoules"]
_COVERED: Final = PLACE["counters_covered_milliseconds"]
_BATTERY: Final = PLACE["battery_out_energy_millijoules"]
_SCREENS: Final = PLACE["screens_milliseconds"]
_NIGHTS: Final = PLACE["nights_on"]
_WINDOW: Final = PLACE["update_window_energy_millijoules"]
_COUNTED: Final = frozenset({Method.COUNTER_CALIBRATED, Method.COUNTER_MODELLED})


class Months:
    """What units add, by month, day type and band."""

    def __init__(self) -> None:
        self.sums: defaultdict[date, Sums] = defaultdict(dict)
        self.apportioned: set[tuple[date, Key]] = set()

    def add(self, month: date, key: Key, vector: Iterable[int]) -> None:
        """Column by column."""
        standing = self.sums[month].get(key)
        self.sums[month][key] = list(vector) if standing is None else list(map(int.__add__, standing, vector))

    def rows(self, host_id: HostId, month: date) -> tuple[HostPeriod, ...]:
        """Of one month; none of nothing."""
        sums = self.sums.get(month, {})
        return tuple(
            HostPeriod(
                host_id, month, kind, band, tuple(sums[kind, band]), (month, (kind, band)) in self.apportioned
            )
            for kind in DayType
            for band in Band
            if (kind, band) in sums and any(sums[kind, band])
        )


def contributions(units: Units, days: SiteDays, time_zone: str, psys: PsysCheck) -> Months:
    """What these days and weeks add to each month that they lie in."""
    months = Months()
    nights = _evenings(units, time_zone) if days.population is Population.CLASSROOM else {}
    for (grain, start), bands in _vectors(units, trust_psys=psys_is_trusted(psys)).items():
        if grain is Grain.DAY:
            facts = days.of(start)
            _night(bands, start, days.population, nights)
            for band, vector in bands.items():
                months.add(facts.month, (facts.day_type, band), vector)
        else:
            _add_week(months, days, start, bands)
    return months


def _add_week(months: Months, days: SiteDays, monday: int, bands: dict[Band, list[int]]) -> None:
    shares = days.week(monday)
    for band, vector in bands.items():
        parts = [list[int]() for _ in shares.parts]
        for value in vector:
            for part, share in zip(parts, shares.share(value) if value else [0] * len(parts), strict=True):
                part.append(share)
        for (month, kind), part in zip(shares.parts, parts, strict=True):
            months.add(month, (kind, band), part)
            if shares.shared:
                months.apportioned.add((month, (kind, band)))


def _night(bands: dict[Band, list[int]], day: int, population: Population, evenings: dict[int, int]) -> None:
    """One more night when it was on for longer than 4 h: by local date on workstations, by the evening in classrooms."""
    if population is Population.WORKSTATION:
        night = bands.get(Band.NIGHT)
        on = sum(night[_STATE[state, supply]] for state in ON for supply in Supply) if night else 0
    elif population is Population.CLASSROOM:
        on = evenings.get(day, 0)
    else:
        return  # servers are not in I1
    if on > NIGHT_ON_MILLISECONDS:
        bands.setdefault(Band.NIGHT, [0] * len(COLUMNS))[_NIGHTS] += 1


def _evenings(units: Units, time_zone: str) -> dict[int, int]:
    """Day number of the evening → milliseconds on."""
    found: defaultdict[int, int] = defaultdict(int)
    for hour, milliseconds in units.night_hours:
        found[evening_of(hour, time_zone).toordinal()] += milliseconds
    return found


def _vectors(units: Units, *, trust_psys: bool) -> dict[_Unit, dict[Band, list[int]]]:
    """Each day and week alone, by band."""
    found: defaultdict[_Unit, dict[Band, list[int]]] = defaultdict(dict)

    def vector(row: UnitSum | UnitEnergy) -> list[int]:
        return found[row.grain, row.start].setdefault(row.band, [0] * len(COLUMNS))

    for one in units.sums:
        into = vector(one)
        into[_STATE[one.state, one.supply]] += one.milliseconds
        for place, value in zip(_CARRIED, one.carried, strict=True):
            if value:
                into[place] += value
    for energy in units.energies:
        into = vector(energy)
        place = _METHOD[energy.method]
        into[place] += energy.milliseconds
        into[place + 1] += energy.energy_millijoules
        into[place + 2] += energy.uncertainty_millijoules
        into[_STATE_ENERGY[energy.state]] += energy.energy_millijoules
    for screen in units.screens:
        into = vector(screen)
        into[_SCREENS] += screen.milliseconds
        into[_SCREENS + 1] += screen.energy_millijoules
        into[_SCREENS + 2] += screen.uncertainty_millijoules
    _measured(units, found, trust_psys=trust_psys)
    return found


def _measured(units: Units, found: dict[_Unit, dict[Band, list[int]]], *, trust_psys: bool) -> None:
    """Counters, battery, update windows: cell by cell."""
    points: defaultdict[tuple[_Unit, _CellKey], list[UnitPoint]] = defaultdict(list)
    for one in units.points:
        points[(one.grain, one.start), (one.band, one.state, one.supply)].append(one)
    counted: defaultdict[tuple[_Unit, _CellKey], int] = defaultdict(int)
    derived: defaultdict[tuple[_Unit, _CellKey], int] = defaultdict(int)
    for energy in units.energies:
        place = (energy.grain, energy.start), (energy.band, energy.state, energy.supply)
        derived[place] += energy.energy_millijoules
        if energy.method in _COUNTED:
            counted[place] += energy.milliseconds
    for one_sum in units.sums:
        place = (one_sum.grain, one_sum.start), (one_sum.band, one_sum.state, one_sum.supply)
        seen = points.get(place, ())
        into = found[place[0]][one_sum.band]
        if seen:
            cell = _cell(one_sum, seen)
            drained = discharge(cell)
            into[_BATTERY] += drained.energy_millijoules if drained else 0
            signal = counter_signal(cell, trust_psys=trust_psys) if counted[place] else None
            if signal is not None:
                time = min(signal.covered_milliseconds, counted[place])
                into[_COUNTERS] += scaled(signal.energy_millijoules * time, signal.covered_milliseconds)
                into[_COVERED] += time
        if one_sum.update_window_milliseconds and derived[place]:
            into[_WINDOW] += _in_windows(one_sum, seen, derived[place])


def _cell(one: UnitSum, points: Iterable[UnitPoint]) -> Cell:
    energies = tuple((p.point, p.energy_millijoules, p.covered_milliseconds) for p in points)
    return Cell(one.band, one.state, one.supply, one.milliseconds, energies)


def _in_windows(one: UnitSum, points: Iterable[UnitPoint], energy: int) -> int:
    """The part of a cell's wall energy inside update windows: as of what was measured, at the wall where anything was; else of time."""
    told = [p for p in points if p.update_window_energy_millijoules is not None and p.energy_millijoules > 0]
    walls = [p for p in told if p.point.boundary is Boundary.WALL]
    whole = sum(p.energy_millijoules for p in walls or told)
    inside = sum(p.update_window_energy_millijoules or 0 for p in walls or told)
    if not whole:
        whole, inside = one.milliseconds, one.update_window_milliseconds
    return scaled(energy * min(inside, whole), whole) if whole else 0


def added_rows(months: Months, rows: Iterable[HostPeriod]) -> None:
    """Add what is kept already."""
    for row in rows:
        months.add(row.period_from, (row.day_type, row.band), row.values)
        if row.apportioned:
            months.apportioned.add((row.period_from, (row.day_type, row.band)))
