# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the sums of a measurement: each field on its own, then against the others."""

from __future__ import annotations

import re
from collections.abc import KeysView, Sequence
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
    cell_from_fields,
)
from veilleuse.wire.limits import (
    CELL_BUCKETS,
    DISPLAY_SIZES,
    FACT_PATTERN,
    IDLE_RUN_EDGES_MINUTES,
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
_IDLE_RUNS: Final = tuple(f"idle_beyond_{minutes}_minutes_milliseconds" for minutes in IDLE_RUN_EDGES_MINUTES)
_CPU_BUCKETS: Final = CELL_BUCKETS["cpu_bucket_milliseconds"]
_RARE: Final = frozenset(
    {
        "update_window_milliseconds",
        "update_window_energies",
        "displays",
        "units",
    }
)
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
        if point in points:
            raise RecordRefused(Reason.POINT_REPEATED)
        points.append(point)
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
    cells = tuple(_check_cell(message, points, machine) for message in messages)
    if len({(cell.band, cell.state, cell.supply) for cell in cells}) != len(cells):
        raise RecordRefused(Reason.CELL_REPEATED)
    if sum(cell.milliseconds for cell in cells) > longest_milliseconds:
        raise RecordRefused(Reason.CELLS_EXCEED_PERIOD)
    if period_kind != "clock" and any((cell.band is Band.OPEN) is (period_kind == "date") for cell in cells):
        # the open band is reported by the week, the others by the day
        raise RecordRefused(Reason.BAND_NOT_OF_PERIOD)
    return cells


def check_sensor_gaps(
    messages: Sequence[Any], longest_milliseconds: int
) -> tuple[tuple[GapReason, str, int], ...]:
    """Return (reason, source, milliseconds) of the time that a source did not cover. Raises RecordRefused."""
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
    fields = {field.name: value for field, value in message.ListFields()}
    milliseconds = fields.get("milliseconds", 0)
    if milliseconds == 0:
        raise RecordRefused(Reason.CELL_EMPTY)
    state = STATES.get(fields.get("state", 0))
    if state is None or fields.get("band", 0) not in BANDS or fields.get("supply", 0) not in SUPPLIES:
        raise RecordRefused(Reason.CELL_UNKNOWN)
    _check_population(fields.keys(), machine.population)
    if state in _NOT_ON and not fields.keys() <= _NOT_ON_FIELDS:
        raise RecordRefused(Reason.LOAD_WHILE_NOT_ON)
    seen = _check_energies(fields.get("energies", ()), points, machine, milliseconds)
    if state in _NOT_ON and not all(_works_alone(points[index]) for index in seen):
        raise RecordRefused(Reason.ENERGY_WHILE_NOT_ON)
    _check_load(fields, milliseconds)
    if not fields.keys().isdisjoint(_RARE):
        _check_rare(fields, milliseconds, seen)
    return cell_from_fields(fields, points)


def _check_population(names: KeysView[str], population: Population) -> None:
    if population is Population.SERVER:
        return
    if population is Population.WORKSTATION and "network_rate_milliseconds" in names:
        raise RecordRefused(Reason.NOT_ON_WORKSTATIONS)
    if "units" in names:
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
    energies: Sequence[Any], points: list[Point], machine: MachineLimits, milliseconds: int
) -> dict[int, int]:
    """Check the energies and return {point index: millijoules}."""
    if len(energies) > len(points):
        raise RecordRefused(Reason.ENERGY_REPEATED)
    seen: dict[int, int] = {}
    for energy in energies:
        index, covered = energy.point_index, energy.covered_milliseconds
        if index >= len(points):
            raise RecordRefused(Reason.POINT_INDEX)
        if index in seen:
            raise RecordRefused(Reason.ENERGY_REPEATED)
        if covered > milliseconds:
            raise RecordRefused(Reason.ENERGY_EXCEEDS_CELL)
        ceiling = machine.ceiling_watts(points[index]) * covered + CEILING_SLACK_MILLIJOULES
        if energy.energy_millijoules > ceiling:
            raise RecordRefused(Reason.ENERGY_ABOVE_CEILING)
        seen[index] = energy.energy_millijoules
    return seen


def _check_load(fields: dict[str, Any], milliseconds: int) -> None:
    covered = fields.get("cpu_covered_milliseconds", 0)
    if (
        covered > milliseconds
        or fields.get("cpu_busy_milliseconds", 0) > covered
        or fields.get("any_core_busy_milliseconds", 0) > covered
    ):
        raise RecordRefused(Reason.CPU_EXCEEDS)
    for name, size in CELL_BUCKETS.items():
        if name in fields:
            buckets = fields[name]
            if len(buckets) != size:
                raise RecordRefused(Reason.BUCKETS_LENGTH)
            total = sum(buckets)
            if total > milliseconds or (size == _CPU_BUCKETS and total != covered):
                raise RecordRefused(Reason.BUCKETS_SUM)
    longer = milliseconds
    for name in _IDLE_RUNS:
        beyond = fields.get(name, 0)
        if beyond > longer:
            raise RecordRefused(Reason.IDLE_RUNS)
        longer = beyond


def _check_rare(fields: dict[str, Any], milliseconds: int, energies: dict[int, int]) -> None:
    if fields.get("update_window_milliseconds", 0) > milliseconds:
        raise RecordRefused(Reason.UPDATE_WINDOW)
    windows = fields.get("update_window_energies", ())
    if len(windows) > len(energies) or len({one.point_index for one in windows}) != len(windows):
        raise RecordRefused(Reason.UPDATE_WINDOW)
    for one in windows:
        if (
            one.energy_millijoules > energies.get(one.point_index, -1)
            or one.covered_milliseconds > milliseconds
        ):
            raise RecordRefused(Reason.UPDATE_WINDOW)
    _check_displays(fields.get("displays", ()), milliseconds)
    _check_units(fields.get("units", ()), milliseconds)


def _check_displays(displays: Sequence[Any], milliseconds: int) -> None:
    if len(displays) > len(_DISPLAY_SIZES) or len({one.size for one in displays}) != len(displays):
        raise RecordRefused(Reason.DISPLAYS)
    for one in displays:
        if one.size not in _DISPLAY_SIZES or one.milliseconds > MAX_DISPLAYS_PER_SIZE * milliseconds:
            raise RecordRefused(Reason.DISPLAYS)


def _check_units(units: Sequence[Any], milliseconds: int) -> None:
    if len(units) > MAX_UNITS_PER_CELL or len({one.name for one in units}) != len(units):
        raise RecordRefused(Reason.UNITS)
    for one in units:
        if not UNIT_PATTERN.fullmatch(one.name) or one.cpu_milliseconds > MAX_CPUS * milliseconds:
            raise RecordRefused(Reason.UNITS)
