# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Converts wire to model: numbers ↔ words, validated protobuf messages → dataclasses.

The store decodes wire bytes here.

Nothing is checked here: the package `validate` checked the bytes before they were stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, TypeVar

from veilleuse.collector.model.hosts import HostHealth, MachineFacts, SourceHealth
from veilleuse.collector.model.records import Cell, Grain, Point, RecordPeriod
from veilleuse.wire.limits import DISPLAY_SIZES
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import (
    Band,
    Boundary,
    DeviceClass,
    GapReason,
    PointKind,
    Population,
    State,
    Supply,
)

E = TypeVar("E", bound=StrEnum)


def _words(kind: type[E]) -> dict[int, E]:
    """Return number on the wire → word.

    The order of both lists is equal; a test compares it with telemetry.proto.
    """
    return dict(enumerate(kind, 1))


BANDS: Final = _words(Band)
STATES: Final = _words(State)
SUPPLIES: Final = _words(Supply)
POINT_KINDS: Final = _words(PointKind)
BOUNDARIES: Final = _words(Boundary)
GAP_REASONS: Final = _words(GapReason)
POPULATIONS: Final = _words(Population)
DEVICE_CLASSES: Final = _words(DeviceClass)

_SIZES: Final = range(1, len(DISPLAY_SIZES) + 1)
"""Numbers of telemetry.proto's DisplaySize."""

_NUMBERS: Final[dict[type[StrEnum], dict[StrEnum, int]]] = {
    kind: {word: value for value, word in enumerate(kind, 1)}
    for kind in (Band, State, Supply, PointKind, Boundary, GapReason, Population, DeviceClass)
}


def number(word: StrEnum) -> int:
    """Return the number of a word on the wire and in the store, ≥ 1."""
    return _NUMBERS[type(word)][word]


def point_from_message(point: Any) -> Point:
    """Convert a validated Point."""
    return Point(POINT_KINDS[point.kind], point.domain, BOUNDARIES[point.boundary], point.subject)


def cells_from_measurement(measurement: Any) -> tuple[Cell, ...]:
    """Return the cells of a validated Measurement, in its order."""
    points = [point_from_message(point) for point in measurement.points]
    return tuple(
        [cell_from_message(cell, point_energies(cell.energies, points), points) for cell in measurement.cells]
    )


def cells_from_wire(record: bytes) -> tuple[Cell, ...]:
    """Return the cells of a stored record; none for a gap."""
    return cells_from_measurement(pb.Record.FromString(record).measurement)


def point_energies(messages: Any, points: Sequence[Point]) -> tuple[tuple[Point, int, int], ...]:
    """Return (point, millijoules, covered milliseconds) of each PointEnergy."""
    return tuple(
        [(points[one.point_index], one.energy_millijoules, one.covered_milliseconds) for one in messages]
    )


def cell_from_message(
    cell: Any, energies: tuple[tuple[Point, int, int], ...], points: Sequence[Point]
) -> Cell:
    """Convert a validated Cell; `energies`: its own, converted."""
    has = cell.HasField
    return Cell(
        BANDS[cell.band],
        STATES[cell.state],
        SUPPLIES[cell.supply],
        cell.milliseconds,
        energies,
        cell.cpu_covered_milliseconds if has("cpu_covered_milliseconds") else None,
        cell.cpu_busy_milliseconds if has("cpu_busy_milliseconds") else None,
        tuple(cell.cpu_bucket_milliseconds),
        tuple(cell.memory_bucket_milliseconds),
        cell.any_core_busy_milliseconds if has("any_core_busy_milliseconds") else None,
        cell.idle_beyond_15_minutes_milliseconds if has("idle_beyond_15_minutes_milliseconds") else None,
        cell.idle_beyond_30_minutes_milliseconds if has("idle_beyond_30_minutes_milliseconds") else None,
        cell.idle_beyond_60_minutes_milliseconds if has("idle_beyond_60_minutes_milliseconds") else None,
        tuple(cell.network_rate_milliseconds),
        cell.update_window_milliseconds if has("update_window_milliseconds") else None,
        _displays(cell.displays),
        point_energies(cell.update_window_energies, points),
        tuple([(unit.name, unit.cpu_milliseconds) for unit in cell.units]),
        cell.own_cpu_milliseconds if has("own_cpu_milliseconds") else None,
    )


def _displays(displays: Any) -> tuple[int, ...]:
    """Return milliseconds by size. With any size, all are known: an absent one was on for 0 ms."""
    if not displays:
        return ()
    by_size = {one.size: one.milliseconds for one in displays}
    return tuple([by_size.get(size, 0) for size in _SIZES])


def record_period(period: Any, milliseconds: int) -> RecordPeriod:
    """Return the key of a validated Period. `milliseconds`: the sum of the cells, for dates and weeks."""
    kind = period.WhichOneof("kind")
    if kind == "clock":
        return RecordPeriod(
            Grain.HOUR, period.clock.start_unix_milliseconds, period.clock.duration_milliseconds
        )
    if kind == "date":
        return RecordPeriod(
            Grain.DAY, date(period.date.year, period.date.month, period.date.day).toordinal(), milliseconds
        )
    return RecordPeriod(
        Grain.WEEK, date.fromisocalendar(period.week.year, period.week.week, 1).toordinal(), milliseconds
    )


def gap_spans(gap: Any) -> tuple[tuple[RecordPeriod, int], ...]:
    """Return (period, milliseconds lost) of the dated spans of a validated Gap; a clock span may exceed a
    day.
    """
    return tuple(
        (record_period(span.period, span.milliseconds), span.milliseconds)
        for span in gap.spans
        if span.HasField("period")
    )


@lru_cache(maxsize=1024)
def facts_from_wire(facts_wire: bytes) -> MachineFacts:
    """Decode Facts, after validate.clean_facts, for the wall model; empty bytes = nothing known.

    Machines bought together often have equal facts: results are cached.
    """
    facts = pb.Facts.FromString(facts_wire)

    def known(name: str) -> Any:
        return getattr(facts, name) if facts.HasField(name) else None

    return MachineFacts(
        device_class=DEVICE_CLASSES.get(facts.device_class, DeviceClass.UNKNOWN),
        vendor=known("vendor"),
        model=known("model"),
        cpu_model=known("cpu_model"),
        cpu_count=known("cpu_count"),
        memory_bytes=known("memory_bytes"),
        memory_modules=known("memory_modules"),
        hard_disks=known("hard_disks"),
        solid_state_disks=known("solid_state_disks"),
        virtualisation=known("virtualisation"),
        display_off_ac_seconds=known("display_off_ac_seconds"),
        sleep_ac_seconds=known("sleep_ac_seconds"),
    )


def health_from_wire(health_wire: bytes) -> HostHealth:
    """Decode Health, after validate.clean_health."""
    health = pb.Health.FromString(health_wire)
    return HostHealth(
        agent_version=health.agent_version,
        spool_records=health.spool_records,
        spool_bytes=health.spool_bytes,
        drops=tuple((GAP_REASONS[drop.reason], drop.records) for drop in health.drops),
        sources=tuple(
            SourceHealth(
                source.name,
                source.successes,
                source.failures,
                source.unavailable if source.HasField("unavailable") else None,
            )
            for source in health.sources
        ),
        resident_cpu_milliseconds=(
            health.resident_cpu_milliseconds if health.HasField("resident_cpu_milliseconds") else None
        ),
        resident_rss_bytes=health.resident_rss_bytes if health.HasField("resident_rss_bytes") else None,
        quarantine_records=health.quarantine_records if health.HasField("quarantine_records") else None,
    )
