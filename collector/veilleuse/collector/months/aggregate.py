# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Aggregates days and weeks into months (pure). Exact:
adding day by day or all at once gives the same result.

Counters are the inputs of the wall model: in each cell one signal, as derive selected it. That is psys where
it is trusted, else package + DRAM + discrete GPU, never both. It is taken over the milliseconds derived by a
counter method. Time derived by a meter or battery has no counters here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date
from operator import add
from typing import Final, TypeAlias

from veilleuse.collector.calendars.periods import evening_of
from veilleuse.collector.derive.counters import counter_signal, discharge, psys_is_trusted, round_quotient
from veilleuse.collector.model.meters import PsysCheck
from veilleuse.collector.model.months import (
    COLUMNS,
    NIGHT_ON_MILLISECONDS,
    PLACE,
    UNKNOWN_DERIVED,
    DayType,
    HostPeriod,
)
from veilleuse.collector.model.records import Cell, Grain, HostId
from veilleuse.collector.months.site_days import SiteDays
from veilleuse.collector.ports.months import CARRIED_COLUMNS, UnitPoint, Units, UnitSum
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Boundary, Population, State, Supply

Key: TypeAlias = tuple[DayType, Band]
Sums: TypeAlias = dict[Key, list[int]]
_UnitBand: TypeAlias = tuple[Grain, int, Band]
_UnitCell: TypeAlias = tuple[Grain, int, Band, State, Supply]
"""First fields of every row of a unit."""

ON: Final = frozenset({State.ON_ACTIVE, State.ON_IDLE})
_STATE: Final = {
    (state, supply): PLACE[f"{state}_{supply}_milliseconds"] for state in State for supply in Supply
}
_CARRIED: Final = tuple(PLACE[name] for name in CARRIED_COLUMNS)
_METHOD: Final = {method: PLACE[f"{method}_milliseconds"] for method in Method}
"""Place of milliseconds; energy and uncertainty follow."""
_STATE_ENERGY: Final = {state: PLACE[f"{state}_energy_millijoules"] for state in State}
_UNKNOWN_DERIVED: Final = PLACE[UNKNOWN_DERIVED]
_COUNTERS: Final = PLACE["counters_energy_millijoules"]
_COVERED: Final = PLACE["counters_covered_milliseconds"]
_BATTERY: Final = PLACE["battery_out_energy_millijoules"]
_SCREENS: Final = PLACE["screens_milliseconds"]
_NIGHTS: Final = PLACE["nights_on"]
_WINDOW: Final = PLACE["update_window_energy_millijoules"]
_COUNTED: Final = frozenset({Method.COUNTER_CALIBRATED, Method.COUNTER_MODELLED})


class Months:
    """Sums by month, day type and band."""

    def __init__(self) -> None:
        self.sums: defaultdict[date, Sums] = defaultdict(dict)
        self.apportioned: set[tuple[date, Key]] = set()

    def vector(self, month: date, key: Key) -> list[int]:
        """Return the sums of a month and key, to be added to."""
        return self.sums[month].setdefault(key, [0] * len(COLUMNS))

    def add(self, month: date, key: Key, vector: Iterable[int]) -> None:
        """Add a vector, column by column."""
        standing = self.vector(month, key)
        standing[:] = map(add, standing, vector)

    def rows(self, host_id: HostId, month: date) -> tuple[HostPeriod, ...]:
        """Return the rows of one month; none without values."""
        sums = self.sums.get(month, {})
        return tuple(
            HostPeriod(
                host_id, month, kind, band, tuple(sums[kind, band]), (month, (kind, band)) in self.apportioned
            )
            for kind in DayType
            for band in Band
            if (kind, band) in sums and any(sums[kind, band])
        )


class _Vectors(dict[_UnitBand, list[int]]):
    """Sums to which a unit's rows are added: a day's are its month's;
    a week has its own, divided once complete.
    """

    def __init__(self, months: Months, days: SiteDays) -> None:
        super().__init__()
        self._months, self._days = months, days

    def __missing__(self, where: _UnitBand) -> list[int]:
        grain, start, band = where
        if grain is Grain.DAY:
            facts = self._days.of(start)
            made = self._months.vector(facts.month, (facts.day_type, band))
        else:
            made = [0] * len(COLUMNS)
        self[where] = made
        return made


def contributions(units: Units, days: SiteDays, time_zone: str, psys: PsysCheck) -> Months:
    """Return the sums of these days and weeks by month."""
    months = Months()
    into = _Vectors(months, days)
    _add_states(units, into)
    _add_energies(units, into)
    _add_measured(units, into, trust_psys=psys_is_trusted(psys))
    for day in _nights(units, days.population, time_zone):
        into[Grain.DAY, day, Band.NIGHT][_NIGHTS] += 1
    for (grain, start, band), vector in into.items():
        if grain is Grain.WEEK:
            _add_week(months, days, start, band, vector)
    return months


def _add_week(months: Months, days: SiteDays, monday: int, band: Band, vector: list[int]) -> None:
    shares = days.week(monday)
    if not shares.is_shared:
        ((month, kind),) = shares.parts
        months.add(month, (kind, band), vector)
        return
    parts = [list[int]() for _ in shares.parts]
    for value in vector:
        for part, share in zip(parts, shares.share(value) if value else [0] * len(parts), strict=True):
            part.append(share)
    for (month, kind), part in zip(shares.parts, parts, strict=True):
        months.add(month, (kind, band), part)
        months.apportioned.add((month, (kind, band)))


def _nights(units: Units, population: Population, time_zone: str) -> Iterable[int]:
    """Return days with a night on for longer than 4 h.

    Workstations: by local date. Classrooms: by evening. Servers are not in I1.
    """
    on: Counter[int] = Counter()
    if population is Population.WORKSTATION:
        for one in units.sums:
            if one.band is Band.NIGHT and one.state in ON and one.grain is Grain.DAY:
                on[one.start] += one.milliseconds
    elif population is Population.CLASSROOM:
        days = {start for grain, start in units.starts if grain is Grain.DAY}
        for hour, milliseconds in units.night_hours:
            evening = evening_of(hour, time_zone).toordinal()
            if evening in days:
                on[evening] += milliseconds
    return (day for day, milliseconds in on.items() if milliseconds > NIGHT_ON_MILLISECONDS)


def _add_states(units: Units, into: _Vectors) -> None:
    for one in units.sums:
        vector = into[one[:3]]
        vector[_STATE[one.state, one.supply]] += one.milliseconds
        if any(one.carried):
            for place, value in zip(_CARRIED, one.carried, strict=True):
                vector[place] += value


def _add_energies(units: Units, into: _Vectors) -> None:
    for one in units.energies:
        vector = into[one[:3]]
        place = _METHOD[one.method]
        vector[place] += one.milliseconds
        vector[place + 1] += one.energy_millijoules
        vector[place + 2] += one.uncertainty_millijoules
        vector[_STATE_ENERGY[one.state]] += one.energy_millijoules
        if one.state is State.UNKNOWN:
            vector[_UNKNOWN_DERIVED] += one.milliseconds
    for one in units.screens:
        vector = into[one[:3]]
        vector[_SCREENS] += one.milliseconds
        vector[_SCREENS + 1] += one.energy_millijoules
        vector[_SCREENS + 2] += one.uncertainty_millijoules


def _add_measured(units: Units, into: _Vectors, *, trust_psys: bool) -> None:
    """Add counters, battery and update windows, cell by cell."""
    points: defaultdict[_UnitCell, list[UnitPoint]] = defaultdict(list)
    for point in units.points:
        points[point[:5]].append(point)
    counted: defaultdict[_UnitCell, int] = defaultdict(int)
    for energy in units.energies:
        if energy.method in _COUNTED:
            counted[energy[:5]] += energy.milliseconds
    for one in units.sums:
        seen = points.get(one[:5])
        if seen:
            cell, vector = _cell(one, seen), into[one[:3]]
            drained = discharge(cell)
            vector[_BATTERY] += drained.energy_millijoules if drained else 0
            time = counted[one[:5]]
            signal = counter_signal(cell, trust_psys=trust_psys) if time else None
            if signal is not None:
                time = min(signal.covered_milliseconds, time)
                vector[_COUNTERS] += round_quotient(
                    signal.energy_millijoules * time, signal.covered_milliseconds
                )
                vector[_COVERED] += time
    with_windows = [one for one in units.sums if one.update_window_milliseconds]
    if with_windows:
        derived: Counter[_UnitCell] = Counter()
        for energy in units.energies:
            derived[energy[:5]] += energy.energy_millijoules
        for one in with_windows:
            if derived[one[:5]]:
                inside = _in_windows(one, points.get(one[:5], ()), derived[one[:5]])
                into[one[:3]][_WINDOW] += inside


def _cell(one: UnitSum, points: Iterable[UnitPoint]) -> Cell:
    energies = tuple([(p.point, p.energy_millijoules, p.covered_milliseconds) for p in points])
    return Cell(one.band, one.state, one.supply, one.milliseconds, energies)


def _in_windows(one: UnitSum, points: Iterable[UnitPoint], energy: int) -> int:
    """Return the part of a cell's wall energy inside update windows.

    It uses the share of measured energy, at the wall where that was measured; without measured energy, the
    share of time.
    """
    reported = [
        p for p in points if p.update_window_energy_millijoules is not None and p.energy_millijoules > 0
    ]
    walls = [p for p in reported if p.point.boundary is Boundary.WALL]
    whole = sum(p.energy_millijoules for p in walls or reported)
    inside = sum(p.update_window_energy_millijoules or 0 for p in walls or reported)
    if not whole:
        whole, inside = one.milliseconds, one.update_window_milliseconds
    return round_quotient(energy * min(inside, whole), whole) if whole else 0


def add_rows(months: Months, rows: Iterable[HostPeriod]) -> None:
    """Add rows stored already."""
    for row in rows:
        months.add(row.period_from, (row.day_type, row.band), row.values)
        if row.apportioned:
            months.apportioned.add((row.period_from, (row.day_type, row.band)))
