# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the sums of a measurement: each field on its own, then against the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from veilleuse.collector.errors import RecordRefused
from veilleuse.collector.model.records import Cell, Point, Reason
from veilleuse.collector.wire_codec import (
    BANDS,
    BOUNDARIES,
    GAP_REASONS,
    POINT_KINDS,
    STATES,
    SUPPLIES,
    cell_from_message,
    point_energies,
)
from veilleuse.wire.limits import (
    CELL_BUCKETS,
    DISPLAY_SIZES,
    FACT_PATTERN,
    MAX_CELLS_PER_RECORD,
    MAX_CPUS,
    MAX_DISPLAYS_PER_SIZE,
    MAX_POINTS_PER_RECORD,
    MAX_UNITS_PER_CELL,
    UNIT_PATTERN,
)
from veilleuse.wire.vocabulary import Band, Boundary, DeviceClass, GapReason, PointKind, Population, State

SUBJECT_PATTERN: Final = re.compile(r"machine|meter:[A-Za-z0-9 ._-]{1,58}")
SOURCE_PATTERN: Final = re.compile(r"[a-z0-9_]{0,64}")

SERVER_CEILING_WATTS: Final = 5_000
"""Ceiling of a machine that enrolled with a server's token. No machine draws more at any point.

Project values, 2026: twice the largest power supply sold.
"""
CEILING_WATTS: Final = {DeviceClass.LAPTOP: 300}
"""Ceilings of other machines by their declared class; no class lifts a ceiling above OTHER_CEILING_WATTS."""
OTHER_CEILING_WATTS: Final = 1_500
METER_CEILING_WATTS: Final = 200_000
"""Ceiling of a meter shared by a room: a 200 kVA UPS."""
CEILING_SLACK_MILLIJOULES: Final = 1_000
"""A counter's step at the edge of a cell: an agent that splits a tick may leave some mJ that cover 0 ms."""
MAXIMUM_LIST: Final = 64

_NOT_ON: Final = frozenset({State.ASLEEP, State.OFF, State.UNKNOWN})
_METERS: Final = frozenset({PointKind.UPS, PointKind.PDU, PointKind.PLUG, PointKind.BMC})
_BATTERIES: Final = frozenset({PointKind.BATTERY_OUT, PointKind.BATTERY_IN})
_NOT_ON_FIELDS: Final = frozenset({"band", "state", "supply", "milliseconds", "energies"})
_CPU_BUCKETS: Final = CELL_BUCKETS["cpu_bucket_milliseconds"]
_DISPLAY_SIZES: Final = range(1, len(DISPLAY_SIZES) + 1)


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """Limits of the machine that sent a measurement."""

    population: Population
    device_class: DeviceClass
    allow_fake: bool

    def ceiling_watts(self, point: Point) -> int:
        """Return the power that this point can never exceed."""
        if point.subject != "machine":
            return METER_CEILING_WATTS
        if self.population is Population.SERVER:
            return SERVER_CEILING_WATTS
        return CEILING_WATTS.get(self.device_class, OTHER_CEILING_WATTS)


def check_points(messages: Sequence[Any], machine: MachineLimits) -> list[Point]:
    """Check the points of a measurement. Raises RecordRefused."""
    if len(messages) > MAX_POINTS_PER_RECORD:
        raise RecordRefused(Reason.TOO_MANY_POINTS)
    points: list[Point] = []
    for message in messages:
        point = _point(message.kind, message.domain, message.boundary, message.subject)
        if point.kind is PointKind.FAKE and not machine.allow_fake:
            raise RecordRefused(Reason.POINT_FAKE)
        points.append(point)
    if len(set(points)) != len(points):
        raise RecordRefused(Reason.POINT_REPEATED)
    return points


@lru_cache(maxsize=4096)
def _point(kind: int, domain: str, boundary: int, subject: str) -> Point:
    """Check one point.

    The cache helps as a fleet has few points, sent with each record; errors are not cached.
    """
    if kind not in POINT_KINDS or boundary not in BOUNDARIES:
        raise RecordRefused(Reason.POINT_UNKNOWN)
    if not FACT_PATTERN.fullmatch(domain) or not SUBJECT_PATTERN.fullmatch(subject):
        raise RecordRefused(Reason.POINT_TEXT)
    return Point(POINT_KINDS[kind], domain, BOUNDARIES[boundary], subject)


def check_cells(
    messages: Sequence[Any],
    points: list[Point],
    machine: MachineLimits,
    period_kind: str,
    longest_milliseconds: int,
) -> tuple[Cell, ...]:
    """Check the cells of a measurement; together they may not exceed its period. Raises RecordRefused."""
    if not messages:
        raise RecordRefused(Reason.CELLS_MISSING)
    if len(messages) > MAX_CELLS_PER_RECORD:
        raise RecordRefused(Reason.TOO_MANY_CELLS)
    cells = tuple([_check_cell(message, points, machine) for message in messages])
    if len({(cell.band, cell.state, cell.supply) for cell in cells}) != len(cells):
        raise RecordRefused(Reason.CELL_REPEATED)
    if sum([cell.milliseconds for cell in cells]) > longest_milliseconds:
        raise RecordRefused(Reason.CELLS_EXCEED_PERIOD)
    if period_kind != "clock" and any((cell.band is Band.OPEN) is (period_kind == "date") for cell in cells):
        # the open band is reported by the week, the others by the day
        raise RecordRefused(Reason.BAND_NOT_OF_PERIOD)
    return cells


def check_sensor_gaps(
    messages: Sequence[Any], longest_milliseconds: int
) -> tuple[tuple[GapReason, str, int], ...]:
    """Return (reason, source, milliseconds) of the time that a source did not cover. Raises RecordRefused."""
    if not messages:
        return ()
    if len(messages) > MAXIMUM_LIST:
        raise RecordRefused(Reason.SENSOR_GAPS)
    gaps: dict[tuple[GapReason, str], int] = {}
    for message in messages:
        reason = GAP_REASONS.get(message.reason)
        if reason is None:
            raise RecordRefused(Reason.GAP_UNKNOWN)
        key = (reason, message.source)
        if (
            key in gaps
            or not 0 < message.milliseconds <= longest_milliseconds
            or not SOURCE_PATTERN.fullmatch(message.source)
        ):
            raise RecordRefused(Reason.SENSOR_GAPS)
        gaps[key] = message.milliseconds
    return tuple((reason, source, milliseconds) for (reason, source), milliseconds in gaps.items())


def _check_cell(message: Any, points: list[Point], machine: MachineLimits) -> Cell:
    milliseconds = message.milliseconds
    if milliseconds == 0:
        raise RecordRefused(Reason.CELL_EMPTY)
    state = STATES.get(message.state)
    if state is None or message.band not in BANDS or message.supply not in SUPPLIES:
        raise RecordRefused(Reason.CELL_UNKNOWN)
    if state in _NOT_ON:
        return _check_not_on(message, state, points, machine)
    energies = _check_energies(message.energies, points, machine, milliseconds)
    try:
        cell = cell_from_message(message, energies, points)
    except IndexError as error:
        raise RecordRefused(Reason.UPDATE_WINDOW) from error
    _check_population(cell, machine.population)
    _check_load(cell)
    _check_windows(cell)
    if cell.display_milliseconds:
        _check_displays(message.displays, milliseconds)
    if cell.units:
        _check_units(cell.units, milliseconds)
    return cell


def _check_not_on(message: Any, state: State, points: list[Point], machine: MachineLimits) -> Cell:
    """Check a cell of time off, asleep or unknown: it has no load."""
    if not {field.name for field, _ in message.ListFields()} <= _NOT_ON_FIELDS:
        raise RecordRefused(Reason.LOAD_WHILE_NOT_ON)
    energies = _check_energies(message.energies, points, machine, message.milliseconds)
    if not all(_works_alone(point) for point, _, _ in energies):
        raise RecordRefused(Reason.ENERGY_WHILE_NOT_ON)
    return Cell(BANDS[message.band], state, SUPPLIES[message.supply], message.milliseconds, energies)


def _check_population(cell: Cell, population: Population) -> None:
    if population is Population.SERVER:
        return
    if population is Population.WORKSTATION and cell.network_rate_milliseconds:
        raise RecordRefused(Reason.NOT_ON_WORKSTATIONS)
    if cell.units:
        raise RecordRefused(Reason.SERVERS_ONLY)


def _works_alone(point: Point) -> bool:
    """True when the point measures while the machine is asleep or off."""
    return (
        point.kind in _BATTERIES
        or point.kind in _METERS
        or point.subject != "machine"
        or (point.kind is PointKind.FAKE and point.boundary is Boundary.WALL)
    )


def _check_energies(
    messages: Sequence[Any], points: list[Point], machine: MachineLimits, milliseconds: int
) -> tuple[tuple[Point, int, int], ...]:
    """Check the energies and convert them."""
    if len(messages) > len(points):
        raise RecordRefused(Reason.ENERGY_REPEATED)
    try:
        energies = point_energies(messages, points)
    except IndexError as error:
        raise RecordRefused(Reason.POINT_INDEX) from error
    if len(energies) > 1 and len({point for point, _, _ in energies}) != len(energies):
        raise RecordRefused(Reason.ENERGY_REPEATED)
    for point, energy, covered in energies:
        if covered > milliseconds:
            raise RecordRefused(Reason.ENERGY_EXCEEDS_CELL)
        if energy > machine.ceiling_watts(point) * covered + CEILING_SLACK_MILLIJOULES:
            raise RecordRefused(Reason.ENERGY_ABOVE_CEILING)
    return energies


def _check_load(cell: Cell) -> None:
    covered = cell.cpu_covered_milliseconds or 0
    if (
        covered > cell.milliseconds
        or (cell.cpu_busy_milliseconds or 0) > covered
        or (cell.any_core_busy_milliseconds or 0) > covered
        or (cell.own_cpu_milliseconds or 0) > cell.milliseconds
    ):
        raise RecordRefused(Reason.CPU_EXCEEDS)
    for name, size in CELL_BUCKETS.items():
        if buckets := getattr(cell, name):
            if len(buckets) != size:
                raise RecordRefused(Reason.BUCKETS_LENGTH)
            total = sum(buckets)
            if total > cell.milliseconds or (size == _CPU_BUCKETS and total != covered):
                raise RecordRefused(Reason.BUCKETS_SUM)
    longer = cell.milliseconds
    for beyond in (
        cell.idle_beyond_15_minutes_milliseconds,
        cell.idle_beyond_30_minutes_milliseconds,
        cell.idle_beyond_60_minutes_milliseconds,
    ):
        if (beyond or 0) > longer:
            raise RecordRefused(Reason.IDLE_RUNS)
        longer = beyond or 0


def _check_windows(cell: Cell) -> None:
    """Check the time and energies inside update windows."""
    if (cell.update_window_milliseconds or 0) > cell.milliseconds:
        raise RecordRefused(Reason.UPDATE_WINDOW)
    windows = cell.update_window_energies
    if not windows:
        return
    energies = {point: energy for point, energy, _ in cell.energies}
    if len({point for point, _, _ in windows}) != len(windows):
        raise RecordRefused(Reason.UPDATE_WINDOW)
    for point, energy, covered in windows:
        if energy > energies.get(point, -1) or covered > cell.milliseconds:
            raise RecordRefused(Reason.UPDATE_WINDOW)


def _check_displays(displays: Sequence[Any], milliseconds: int) -> None:
    if len(displays) > len(_DISPLAY_SIZES) or len({one.size for one in displays}) != len(displays):
        raise RecordRefused(Reason.DISPLAYS)
    for one in displays:
        if one.size not in _DISPLAY_SIZES or one.milliseconds > MAX_DISPLAYS_PER_SIZE * milliseconds:
            raise RecordRefused(Reason.DISPLAYS)


def _check_units(units: Sequence[tuple[str, int]], milliseconds: int) -> None:
    if len(units) > MAX_UNITS_PER_CELL or len({name for name, _ in units}) != len(units):
        raise RecordRefused(Reason.UNITS)
    for name, spent in units:
        if not UNIT_PATTERN.fullmatch(name) or spent > MAX_CPUS * milliseconds:
            raise RecordRefused(Reason.UNITS)
