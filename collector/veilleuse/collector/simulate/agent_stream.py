# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Generates the messages of a simulated machine's agent: encoded records and gaps, in stream order.

Its cells are built from spans cut at slot edges, by the contract of telemetry.proto.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, TypeAlias

from veilleuse.collector.model.records import CellKey
from veilleuse.collector.simulate.calendars import Slot, Timetable
from veilleuse.collector.simulate.fleet import SimulatedDevice
from veilleuse.collector.simulate.physics import Physics, Watts
from veilleuse.collector.simulate.routines import IDLE_LOAD, Span
from veilleuse.collector.wire_codec import number
from veilleuse.wire.limits import (
    BUSY_CORE_RATIO,
    CELL_BUCKETS,
    CPU_BUCKET_EDGES_PERCENT,
    DISPLAY_SIZES,
    GAP_ID_BYTES,
    IDLE_RULE_VERSION,
    IDLE_RUN_EDGES_MINUTES,
    MEMORY_BUCKET_EDGES_PERCENT,
    NETWORK_RATE_EDGES_BYTES_PER_SECOND,
    bucket_index,
)
from veilleuse.wire.units import MILLISECONDS_PER_MINUTE
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

SCREEN_SIZE: Final = DISPLAY_SIZES.index("22_to_27") + 1
_CPU_BUCKETS, _MEMORY_BUCKETS, _RATE_BUCKETS = (
    CELL_BUCKETS[f"{name}_milliseconds"] for name in ("cpu_bucket", "memory_bucket", "network_rate")
)
_IDLE_EDGES: Final = tuple(minutes * MILLISECONDS_PER_MINUTE for minutes in IDLE_RUN_EDGES_MINUTES)
_ON: Final = frozenset({State.ON_ACTIVE, State.ON_IDLE})
_BANDS: Final = {band: number(band) for band in Band}
_STATES: Final = {state: number(state) for state in State}
_SUPPLIES: Final = {supply: number(supply) for supply in Supply}
_BYTES_PER_SECOND_AT_FULL_LOAD: Final = 2_000_000
_QUIET_BYTES_PER_SECOND: Final = 400
_PC_OWN_CPU, _SERVER_OWN_CPU = 1.2e-4, 2.5e-4
"""CPU time of an agent over its machine's time on, as `make bench-agent` measures it, rounded."""
MACHINE: Final = "machine"
_POINTS: Final = {
    "package": (PointKind.RAPL, "package-0", Boundary.COMPONENT),
    "dram": (PointKind.RAPL, "dram", Boundary.COMPONENT),
    "wall": (PointKind.BMC, "bmc", Boundary.WALL),
    "battery": (PointKind.BATTERY_OUT, "BAT0", Boundary.MACHINE_DC),
}
_RAPL_SOURCE: Final = "linux_rapl"
_SUNDAY: Final = 7
Powers: TypeAlias = Sequence[tuple[Watts, Watts]]
"""Power of each span: while active, while idle."""
SharedWatts: TypeAlias = Callable[[int], Sequence[float]]
"""Start of a clock period → mean power of each shared meter over it."""
UNKNOWN_SPAN: Final = Span(0, 0, State.UNKNOWN, Supply.UNKNOWN)


class CellSums:
    """Sums of one cell; energies in millijoules by the index of their point."""

    __slots__ = ("buckets", "busy", "energies", "idle_beyond", "milliseconds", "screens")

    def __init__(self) -> None:
        self.milliseconds = 0
        self.energies: dict[int, float] = {}
        self.busy = 0.0
        self.buckets: dict[int, int] = {}
        self.screens = 0
        self.idle_beyond = [0, 0, 0]

    def on(self, milliseconds: int, load: float, screens: int) -> None:
        """Add time on at one load."""
        self.busy += milliseconds * load
        bucket = _bucket(load)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + milliseconds
        self.screens += milliseconds * screens


_BUCKETS: Final[dict[float, int]] = {}


def _bucket(load: float) -> int:
    found = _BUCKETS.get(load)
    if found is None:
        if len(_BUCKETS) > 10_000:
            _BUCKETS.clear()
        found = _BUCKETS[load] = bucket_index(load * 100, CPU_BUCKET_EDGES_PERCENT)
    return found


Cells = dict[CellKey, CellSums]


def pieces(spans: Sequence[Span], slots: Sequence[Slot]) -> Iterator[tuple[Slot, int, int, int]]:
    """Yield (slot, index of the span, start, end) of every stretch; spans and slots cover the same time."""
    place = 0
    for slot in slots:
        while spans[place].end <= slot.start:
            place += 1
        at = place
        while at < len(spans) and spans[at].start < slot.end:
            span = spans[at]
            start, end = max(slot.start, span.start), min(slot.end, span.end)
            if start < end:
                yield slot, at, start, end
            at += 1


class Sensors:
    """Powers that an agent reads, with their point in the records."""

    def __init__(self, indexes: Mapping[str, int]) -> None:
        """Take package, dram, wall, battery → index of its point; an absent one is not read."""
        self._read = [
            (index, Watts._fields.index(name), name == "wall", name in ("package", "dram"))
            for name, index in indexes.items()
            if name in Watts._fields
        ]

    def read(self, sums: CellSums, watts: Watts, milliseconds: int, gain: float, *, on: bool) -> None:
        """Add the readings of these milliseconds; 1 W over 1 ms is 1 mJ."""
        energies = sums.energies
        for index, place, gains, only_on in self._read:
            power = watts[place] * gain if gains else watts[place]
            if power and (on or not only_on):
                energies[index] = energies.get(index, 0.0) + power * milliseconds


def add_piece(
    cells: Cells,
    band: Band,
    span: Span,
    piece: tuple[int, int],
    powers: tuple[Watts, Watts],
    sensors: Sensors | None,
    gain: float,
) -> None:
    """Add one stretch [start, end) to its cells; `sensors` None: they were lost."""
    start, end = piece
    length = end - start
    if span.state is not State.ON_ACTIVE and span.state is not State.ON_IDLE:
        sums = cells.setdefault((band, span.state, span.supply), CellSums())
        sums.milliseconds += length
        if sensors is not None and span.state is not State.UNKNOWN:
            sensors.read(sums, powers[1], length, gain, on=False)
        return
    active = round(length * span.active) if span.state is State.ON_ACTIVE else 0
    for state, milliseconds, load, watts in (
        (State.ON_ACTIVE, active, span.load, powers[0]),
        (State.ON_IDLE, length - active, IDLE_LOAD, powers[1]),
    ):
        if not milliseconds:
            continue
        sums = cells.setdefault((band, state, span.supply), CellSums())
        sums.milliseconds += milliseconds
        sums.on(milliseconds, load, span.screens)
        if sensors is not None:
            sensors.read(sums, watts, milliseconds, gain, on=True)
        if span.state is State.ON_IDLE:
            for place, edge in enumerate(_IDLE_EDGES):
                sums.idle_beyond[place] += max(0, min(length, end - span.idle_since - edge))


def write_cell(cell: Any, key: CellKey, sums: CellSums, device: SimulatedDevice) -> None:
    """Write a cell into its message."""
    band, state, supply = key
    cell.band, cell.state, cell.supply = _BANDS[band], _STATES[state], _SUPPLIES[supply]
    cell.milliseconds = sums.milliseconds
    for index, energy in sorted(sums.energies.items()):
        cell.energies.add(
            point_index=index, energy_millijoules=round(energy), covered_milliseconds=sums.milliseconds
        )
    if state in _ON:
        _write_load(cell, sums)
        rate = _SERVER_OWN_CPU if device.place.is_room else _PC_OWN_CPU
        cell.own_cpu_milliseconds = max(1, round(sums.milliseconds * rate))
        if device.place.is_room:
            _write_traffic(cell, sums, device.model.memory_ratio)
            for name, share in device.services:
                spent = round(sums.busy * device.model.cpu_count * share)
                cell.units.add(name=name, cpu_milliseconds=spent)
        if device.screens:
            cell.displays.add(size=SCREEN_SIZE, milliseconds=sums.screens)


def _write_load(cell: Any, sums: CellSums) -> None:
    buckets = [0] * _CPU_BUCKETS
    for place, milliseconds in sums.buckets.items():
        buckets[place] = milliseconds
    cell.cpu_covered_milliseconds = sums.milliseconds
    cell.cpu_busy_milliseconds = min(sums.milliseconds, round(sums.busy))
    cell.cpu_bucket_milliseconds.extend(buckets)
    cell.idle_beyond_15_minutes_milliseconds = sums.idle_beyond[0]
    cell.idle_beyond_30_minutes_milliseconds = sums.idle_beyond[1]
    cell.idle_beyond_60_minutes_milliseconds = sums.idle_beyond[2]


def _write_traffic(cell: Any, sums: CellSums, memory_ratio: float) -> None:
    """Write a server's traffic in proportion to its load, so that an idle server has almost none."""
    load = sums.busy / sums.milliseconds
    rate = _QUIET_BYTES_PER_SECOND + round(load * load * _BYTES_PER_SECOND_AT_FULL_LOAD)
    rates, memory = [0] * _RATE_BUCKETS, [0] * _MEMORY_BUCKETS
    rates[bucket_index(rate, NETWORK_RATE_EDGES_BYTES_PER_SECOND)] = sums.milliseconds
    memory[bucket_index(memory_ratio * 100, MEMORY_BUCKET_EDGES_PERCENT)] = sums.milliseconds
    cell.any_core_busy_milliseconds = sums.milliseconds if load > BUSY_CORE_RATIO / 2 else 0
    cell.memory_bucket_milliseconds.extend(memory)
    cell.network_rate_milliseconds.extend(rates)


def points_of(device: SimulatedDevice, meters: Mapping[str, PointKind]) -> tuple[list[Any], dict[str, int]]:
    """Return (points of the records, name → index); `meters`: shared meters that the agent polls."""
    names = []
    if device.model.has_counters:
        names += ["package", "dram"]
    if device.model.own_meter:
        names.append("wall")
    if device.model.device_class is DeviceClass.LAPTOP:
        names.append("battery")
    points = [_point(*_POINTS[name], MACHINE) for name in names]
    for meter, kind in meters.items():
        points.append(_point(kind, meter, Boundary.WALL, f"meter:{meter}"))
        names.append(meter)
    return points, {name: index for index, name in enumerate(names)}


def _point(kind: PointKind, domain: str, boundary: Boundary, subject: str) -> Any:
    words: dict[str, Any] = {"kind": number(kind), "boundary": number(boundary)}
    return pb.Point(domain=domain, subject=subject, **words)


@dataclass(frozen=True, slots=True)
class _CellInputs:
    """Inputs that turn one day's spans into cells."""

    spans: Sequence[Span]
    powers: Powers
    sensors: Sensors | None
    gain: float
    silent: bool
    """The agent was not running: it later reports this time as unknown."""

    def add(self, cells: Cells, slot: Slot, place: int, start: int, end: int) -> None:
        """Add a stretch of the span at index `place`."""
        if self.silent:
            sums = cells.setdefault((slot.band, UNKNOWN_SPAN.state, UNKNOWN_SPAN.supply), CellSums())
            sums.milliseconds += end - start
        else:
            piece = (start, end)
            add_piece(cells, slot.band, self.spans[place], piece, self.powers[place], self.sensors, self.gain)


class Agent:
    """Agent of one machine: takes its days in order, returns its messages."""

    def __init__(
        self,
        device: SimulatedDevice,
        timetable: Timetable,
        physics: Physics,
        seed: int,
        meters: Mapping[str, PointKind] | None = None,
        shared_watts: SharedWatts | None = None,
    ) -> None:
        """Take the machine; `meters` and `shared_watts`: shared meters that it polls, servers only."""
        self._device, self._timetable = device, timetable
        self._draw = random.Random(f"{seed}/{device.number}/gaps")
        self._points, indexes = points_of(device, meters or {})
        self._meters = [indexes[name] for name in meters or {}]
        self._shared_watts = shared_watts
        self._sensors = Sensors(indexes)
        self._gain = physics.meter_gain(fine=False)
        self._population = device.place.population
        self._week: Cells = {}
        self._lost: list[tuple[Any, int]] = []
        """(period, milliseconds) of records that never arrive."""

    def day(self, day: date, spans: Sequence[Span], powers: Powers) -> Iterator[bytes]:
        """Yield the records that end on this day; records lost to trouble become a gap once it is over."""
        trouble = self._device.trouble
        inside = trouble is not None and trouble.first <= day < trouble.end
        reason = trouble.reason if trouble is not None and inside else None
        silent = inside and reason is None
        lost = inside and reason not in (None, GapReason.SENSOR_LOST)
        sensors = None if reason is GapReason.SENSOR_LOST else self._sensors
        into = _CellInputs(spans, powers, sensors, self._gain, silent)
        weekly = self._population is Population.WORKSTATION
        records = self._by_day(day, into) if weekly else self._by_clock(day, into)
        for period, cells in records:
            length = sum([sums.milliseconds for sums in cells.values()])
            if lost:
                self._lost.append((period, length))
            else:
                yield self._record(day, period, cells, length, sensors_lost=sensors is None)
        if trouble is not None and day + timedelta(days=1) == trouble.end and self._lost:
            yield self._gap(trouble.reason)

    # --- periods

    def _by_clock(self, day: date, into: _CellInputs) -> Iterator[tuple[Any, Cells]]:
        begun, cells = 0, Cells()
        for slot, place, start, end in pieces(into.spans, self._timetable.slots(day)):
            if slot.period_start != begun:
                if cells:
                    yield self._clock(begun, cells), cells
                begun, cells = slot.period_start, Cells()
            into.add(cells, slot, place, start, end)
        yield self._clock(begun, cells), cells

    def _clock(self, start: int, cells: Cells) -> Any:
        if self._shared_watts is not None:
            for index, watts in zip(self._meters, self._shared_watts(start), strict=True):
                for sums in cells.values():
                    sums.energies[index] = watts * sums.milliseconds
        length = sum([sums.milliseconds for sums in cells.values()])
        return pb.Period(clock=pb.ClockPeriod(start_unix_milliseconds=start, duration_milliseconds=length))

    def _by_day(self, day: date, into: _CellInputs) -> Iterator[tuple[Any, Cells]]:
        cells: Cells = {}
        for slot, place, start, end in pieces(into.spans, self._timetable.slots(day)):
            into.add(self._week if slot.band is Band.OPEN else cells, slot, place, start, end)
        if cells:
            yield pb.Period(date=pb.LocalDate(year=day.year, month=day.month, day=day.day)), cells
        if day.isoweekday() == _SUNDAY and self._week:
            year, week, _ = day.isocalendar()
            yield pb.Period(week=pb.IsoWeek(year=year, week=week)), self._week
            self._week = {}

    # --- messages

    def _record(self, day: date, period: Any, cells: Cells, length: int, *, sensors_lost: bool) -> bytes:
        record = pb.Record()
        measurement = record.measurement
        measurement.period.CopyFrom(period)
        measurement.calendar_sha256 = self._timetable.sha256(day)
        measurement.idle_rule_version = IDLE_RULE_VERSION
        measurement.points.extend(self._points)
        for key, sums in cells.items():
            write_cell(measurement.cells.add(), key, sums, self._device)
        if sensors_lost and self._points and any(state is not State.OFF for _, state, _ in cells):
            reason: Any = number(GapReason.SENSOR_LOST)
            measurement.gaps.add(reason=reason, milliseconds=length, source=_RAPL_SOURCE)
        return record.SerializeToString(deterministic=True)

    def _gap(self, reason: GapReason | None) -> bytes:
        """Return the gap of the lost records; without a trusted clock it has no period."""
        word: Any = number(reason or GapReason.DISABLED)
        gap = pb.Gap(reason=word, records=len(self._lost), gap_id=self._draw.randbytes(GAP_ID_BYTES))
        if reason is GapReason.CLOCK_UNKNOWN:
            gap.spans.add(milliseconds=sum(milliseconds for _, milliseconds in self._lost))
        else:
            for period, milliseconds in _merge_spans(self._lost):
                gap.spans.add(period=period, milliseconds=milliseconds)
        self._lost = []
        return pb.Record(gap=gap).SerializeToString(deterministic=True)


def _merge_spans(lost: Sequence[tuple[Any, int]]) -> list[tuple[Any, int]]:
    """Merge adjacent clock periods into one span; days and weeks stay separate."""
    found: list[tuple[Any, int]] = []
    for period, milliseconds in lost:
        if found and period.HasField("clock") and found[-1][0].HasField("clock"):
            before = found[-1][0].clock
            end = before.start_unix_milliseconds + before.duration_milliseconds
            if end == period.clock.start_unix_milliseconds:
                before.duration_milliseconds += period.clock.duration_milliseconds
                found[-1] = (found[-1][0], found[-1][1] + milliseconds)
                continue
        found.append((period, milliseconds))
    return found
