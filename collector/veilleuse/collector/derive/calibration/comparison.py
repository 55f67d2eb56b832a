# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compares modelled with metered energy, for a study with plugs (pure). docs/calibration.md.

The plug's own readings are hidden from the model. The load model gets no counters either. A calibration is
fitted on the other units of the model.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean, stdev
from typing import Final, NamedTuple

from veilleuse.collector.derive.calibration.acceptance import Reference, wall_outcome
from veilleuse.collector.derive.calibration.readings import Reading
from veilleuse.collector.derive.calibration.samples import (
    COVERED,
    Samples,
    StoredRecord,
    at_the_wall,
    trusts_psys,
)
from veilleuse.collector.derive.counters import ON_STATES, best_meter
from veilleuse.collector.derive.wall import wall_energy
from veilleuse.collector.model.calibration import WALL
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Cell, Point
from veilleuse.collector.quantiles import Z95, quantile95
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLIWATTS_PER_WATT
from veilleuse.wire.vocabulary import Boundary, PointKind, State

PLUGS: Final = frozenset({PointKind.PLUG, PointKind.PDU})
"""Meters precise enough for a study: class 2, docs/methodology.md §1."""
_INSIDE: Final = frozenset({Method.COUNTER_MODELLED, Method.BATTERY})
"""Methods that measure inside the machine."""
FEWEST_UNITS: Final = 3
"""Fewer units give no interval: t is 12.7 for two. Our choice."""
FEWEST_HOURS_ON: Final = 20
"""Least time that the agent of a machine read its plug; our choice."""
ALL: Final = "all"
"""Device class or system of a row of several."""


class StudyTime(StrEnum):
    """Time over which a machine was compared."""

    ON = "on"
    """While it was on, on mains and not charging: its own agent read the plug."""
    WHOLE = "whole"
    """Also off, asleep and on battery: somebody read the plug's counter."""


@dataclass(slots=True)
class PlugComparison:
    """Energy of one machine by one method, and by its plug, over the same time. mJ and ms."""

    modelled_millijoules: float = 0.0
    uncertainty_millijoules: float = 0.0
    """Standard uncertainty that the method states; it adds linearly within a machine."""
    metered_millijoules: float = 0.0
    milliseconds: float = 0.0

    def add(self, modelled: float, uncertainty: float, metered: float, milliseconds: float) -> None:
        """Add energies over some time."""
        self.modelled_millijoules += modelled
        self.uncertainty_millijoules += uncertainty
        self.metered_millijoules += metered
        self.milliseconds += milliseconds

    @property
    def error(self) -> float:
        """Modelled ÷ metered, log scale; above 0: the model is too high."""
        return math.log(self.modelled_millijoules / self.metered_millijoules)

    @property
    def u(self) -> float:
        """Standard uncertainty that the method states, log scale."""
        return self.uncertainty_millijoules / self.modelled_millijoules


@dataclass(frozen=True, slots=True)
class StudyUnit:
    """One machine of a study, and its comparisons."""

    device_class: str
    system: str
    machine: MachineFacts
    plugged_share_ppm: int
    found: dict[tuple[StudyTime, Method], PlugComparison] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What could not be compared."""

    def compare_records(self, records: Sequence[StoredRecord], *, over: bool) -> None:
        """Compare the cells in which the machine was on, on mains, not charging, with its own plug.

        `over`: the study has ended.
        """
        on = compared = 0
        trust_psys = trusts_psys(records)
        for cell in (cell for record in records for cell in record.cells):
            if cell.state not in ON_STATES or not at_the_wall((cell,)):
                continue
            on += cell.milliseconds
            meter = best_meter(cell)
            if meter is None or meter.kind not in PLUGS or not meter.energy_millijoules:
                continue
            if meter.covered_milliseconds >= COVERED * cell.milliseconds:
                watts = meter.energy_millijoules / meter.covered_milliseconds
                self._compare(StudyTime.ON, (cell,), watts, trust_psys)
                compared += cell.milliseconds
        if 0 < compared < COVERED * on:
            self._drop(StudyTime.ON, f"its agent read the plug in {compared / on:.0%} of its time on")
        elif over and 0 < compared < FEWEST_HOURS_ON * MILLISECONDS_PER_HOUR:
            self._drop(StudyTime.ON, f"its agent read the plug for less than {FEWEST_HOURS_ON} h")

    def compare_readings(
        self, readings: Sequence[Reading], records: Sequence[StoredRecord], whole_milliseconds: int
    ) -> None:
        """Compare each reading with the records that begin in it, where they cover it by 90 to 110 %.

        `records`: in order of time. `whole_milliseconds`: time that the readings must cover; 0: as yet none.
        """
        compared = 0
        trust_psys = trusts_psys(records)
        starts = [record.start_unix_milliseconds for record in records]
        for reading in readings:
            inside = records[bisect_left(starts, reading.start) : bisect_left(starts, reading.end)]
            cells = [cell for record in inside for cell in record.cells]
            known = sum(cell.milliseconds for cell in cells if cell.state is not State.UNKNOWN)
            length = reading.end - reading.start
            if reading.milliwatts and COVERED * length <= known <= (2 - COVERED) * length:
                self._compare(StudyTime.WHOLE, cells, reading.milliwatts / MILLIWATTS_PER_WATT, trust_psys)
                compared += length
        if readings and compared < COVERED * whole_milliseconds:
            share = compared / whole_milliseconds
            self._drop(StudyTime.WHOLE, f"readings with records beside them cover {share:.0%} of the time")

    def hours(self, time: StudyTime) -> float:
        """Return the hours that were compared."""
        one = self.found.get((time, Method.LOAD_MODELLED))
        return one.milliseconds / MILLISECONDS_PER_HOUR if one else 0.0

    def _drop(self, time: StudyTime, why: str) -> None:
        self.notes.append(why)
        for key in [key for key in self.found if key[0] is time]:
            del self.found[key]

    def _compare(
        self, time: StudyTime, cells: Sequence[Cell], metered_watts: float, trust_psys: bool
    ) -> None:
        """Add the energy of some cells by each method, beside the plug's mean power over the same time."""
        on = sum(cell.milliseconds for cell in cells if cell.state in ON_STATES)
        bare = [cell._replace(energies=()) for cell in cells]
        blind = [cell._replace(energies=_inside(cell)) for cell in cells]
        for method, seen in ((Method.LOAD_MODELLED, bare), (Method.COUNTER_MODELLED, blind)):
            parts = [
                part
                for cell in seen
                for part in wall_energy(cell, self.machine, self.plugged_share_ppm, trust_psys=trust_psys)
            ]
            known = sum(part.milliseconds for part in parts)
            counted = sum(part.milliseconds for part in parts if part.method in _INSIDE)
            if known and (method is Method.LOAD_MODELLED or counted >= COVERED * on > 0):
                self.found.setdefault((time, method), PlugComparison()).add(
                    sum(part.energy_millijoules for part in parts),
                    sum(part.uncertainty_millijoules for part in parts),
                    metered_watts * known,
                    known,
                )


def _inside(cell: Cell) -> tuple[tuple[Point, int, int], ...]:
    """Return the energies that a machine without a meter would have."""
    return tuple(energy for energy in cell.energies if energy[0].boundary is not Boundary.WALL)


def leave_one_out(samples: Samples, reference: Reference) -> dict[str, PlugComparison]:
    """Predict the time on of each unit by the calibration that the other units of its model give.

    A calibration that would be refused predicts nothing. Returns unit → comparison.
    """
    found: dict[str, PlugComparison] = {}
    for (hardware, quantity), kinds_of_unit in samples.found.items():
        units = [unit for kinds in kinds_of_unit.values() for kind, unit in kinds.items() if kind in PLUGS]
        for unit in units if quantity.startswith(WALL) else ():
            others = [other for other in units if other.name != unit.name]
            outcome = wall_outcome(hardware, quantity.removeprefix(WALL), others, reference)
            if outcome.kept is not None and outcome.refused is None:
                total = unit.total
                modelled, u = outcome.kept.fit.energy(round(total.c), round(total.t))
                found.setdefault(unit.name, PlugComparison()).add(modelled, u, total.e, total.t)
    return found


class StudyRow(NamedTuple):
    """Result of a study for one class, system, method and time."""

    device_class: str
    system: str
    method: str
    time: str
    units: int
    hours: int
    error: float
    """Geometric mean over the units of modelled ÷ metered, less 1; above 0: the model is too high."""
    error_low: float | None
    error_high: float | None
    """95 % interval of `error`; None with fewer than FEWEST_UNITS."""
    gsd2_found: float
    """exp(2 × root mean square of the units' errors): the GSD² that the method should have stated."""
    gsd2_stated: float
    inside: int
    """Units whose plug is in the method's 95 % interval."""


def study_rows(units: Sequence[StudyUnit], meter_u: float, *, k: int | None = None) -> list[StudyRow]:
    """Return one row per class and system, and one of all where there are several.

    `meter_u`: gain error of the plugs, k = 1, log scale, common to all. `k`: the units are of people: one row
    of all, of k units or more.
    """
    found: list[StudyRow] = []
    for time, method in sorted({key for unit in units for key in unit.found}):
        having = [unit for unit in units if (time, method) in unit.found]
        groups: dict[tuple[str, str], list[StudyUnit]] = {}
        for unit in having if k is None else ():
            groups.setdefault((unit.device_class, unit.system), []).append(unit)
        groups = dict(sorted(groups.items()))
        if len(groups) != 1 and len(having) >= (k or 0):
            classes, systems = {unit.device_class for unit in having}, {unit.system for unit in having}
            groups[_common(classes), _common(systems)] = having
        for (device_class, system), members in groups.items():
            comparisons = [unit.found[time, method] for unit in members]
            found.append(_row((device_class, system, method.value, time.value), comparisons, meter_u))
    return found


def _common(words: set[str]) -> str:
    return words.pop() if len(words) == 1 else ALL


def _row(names: tuple[str, str, str, str], comparisons: Sequence[PlugComparison], meter_u: float) -> StudyRow:
    errors = [one.error for one in comparisons]
    mean, low, high = fmean(errors), None, None
    if len(errors) >= FEWEST_UNITS:
        t = quantile95(len(errors) - 1.0)
        half = math.hypot(t * stdev(errors) / math.sqrt(len(errors)), Z95 * meter_u)
        low, high = math.expm1(mean - half), math.expm1(mean + half)
    return StudyRow(
        *names,
        units=len(errors),
        hours=round(sum(one.milliseconds for one in comparisons) / MILLISECONDS_PER_HOUR),
        error=math.expm1(mean),
        error_low=low,
        error_high=high,
        gsd2_found=math.exp(2 * math.sqrt(fmean(error**2 for error in errors))),
        gsd2_stated=math.exp(2 * fmean(one.u for one in comparisons)),
        inside=sum(abs(one.error) <= Z95 * math.hypot(one.u, meter_u) for one in comparisons),
    )
