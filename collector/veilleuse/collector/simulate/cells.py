# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the cells of a simulated machine from spans cut at slot edges,
by the contract of telemetry.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from veilleuse.collector.model.records import CellKey
from veilleuse.collector.simulate.calendars import Slot
from veilleuse.collector.simulate.physics import Watts
from veilleuse.collector.simulate.routines import IDLE_LOAD, Span
from veilleuse.collector.wire_codec import number
from veilleuse.wire.limits import (
    BUSY_CORE_RATIO,
    CELL_BUCKETS,
    CPU_BUCKET_EDGES_PERCENT,
    DISPLAY_SIZES,
    IDLE_RUN_EDGES_MINUTES,
    NETWORK_RATE_EDGES_BYTES_PER_SECOND,
    bucket_index,
)
from veilleuse.wire.units import MILLISECONDS_PER_MINUTE
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, Population, State, Supply

SCREEN_SIZE: Final = DISPLAY_SIZES.index("22_to_27") + 1
_CPU_BUCKETS, _MEMORY_BUCKETS, _RATE_BUCKETS = (
    CELL_BUCKETS[f"{name}_milliseconds"] for name in ("cpu_bucket", "memory_bucket", "network_rate")
)
_IDLE_EDGES: Final = tuple(minutes * MILLISECONDS_PER_MINUTE for minutes in IDLE_RUN_EDGES_MINUTES)
_ON: Final = (State.ON_ACTIVE, State.ON_IDLE)
_BANDS: Final = {band: number(band) for band in Band}
_STATES: Final = {state: number(state) for state in State}
_SUPPLIES: Final = {supply: number(supply) for supply in Supply}
_BYTES_PER_SECOND_AT_FULL_LOAD: Final = 2_000_000
_QUIET_BYTES_PER_SECOND: Final = 400


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
UNKNOWN_SPAN: Final = Span(0, 0, State.UNKNOWN, Supply.UNKNOWN)


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
        self._indexes = indexes

    def read(self, sums: CellSums, watts: Watts, milliseconds: int, gain: float, *, on: bool) -> None:
        """Add the readings of these milliseconds; 1 W over 1 ms is 1 mJ."""
        for name, power in (
            ("package", watts.package if on else 0.0),
            ("dram", watts.dram if on else 0.0),
            ("wall", watts.wall * gain),
            ("battery", watts.battery),
        ):
            index = self._indexes.get(name)
            if index is not None and power:
                sums.energies[index] = sums.energies.get(index, 0.0) + power * milliseconds


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


def cell_message(key: CellKey, sums: CellSums, population: Population, screens: int) -> Any:
    """Encode a cell for the wire."""
    band, state, supply = key
    fields: dict[str, Any] = {
        "band": _BANDS[band],
        "state": _STATES[state],
        "supply": _SUPPLIES[supply],
        "milliseconds": sums.milliseconds,
    }
    if sums.energies:
        fields["energies"] = [
            pb.PointEnergy(
                point_index=index, energy_millijoules=round(energy), covered_milliseconds=sums.milliseconds
            )
            for index, energy in sorted(sums.energies.items())
        ]
    if state in _ON:
        fields |= _load(sums)
        if population is Population.SERVER:
            fields |= _traffic(sums)
        if screens:
            fields["displays"] = [pb.DisplayTime(size=SCREEN_SIZE, milliseconds=sums.screens)]  # type: ignore[arg-type]
    return pb.Cell(**fields)


def _load(sums: CellSums) -> dict[str, Any]:
    buckets = [0] * _CPU_BUCKETS
    for place, milliseconds in sums.buckets.items():
        buckets[place] = milliseconds
    return {
        "cpu_covered_milliseconds": sums.milliseconds,
        "cpu_busy_milliseconds": min(sums.milliseconds, round(sums.busy)),
        "cpu_bucket_milliseconds": buckets,
        "idle_beyond_15_minutes_milliseconds": sums.idle_beyond[0],
        "idle_beyond_30_minutes_milliseconds": sums.idle_beyond[1],
        "idle_beyond_60_minutes_milliseconds": sums.idle_beyond[2],
    }


def _traffic(sums: CellSums) -> dict[str, Any]:
    """Return a server's traffic in proportion to its load, so that an idle server has almost none."""
    load = sums.busy / sums.milliseconds
    rate = _QUIET_BYTES_PER_SECOND + round(load * load * _BYTES_PER_SECOND_AT_FULL_LOAD)
    rates, memory = [0] * _RATE_BUCKETS, [0] * _MEMORY_BUCKETS
    rates[bucket_index(rate, NETWORK_RATE_EDGES_BYTES_PER_SECOND)] = sums.milliseconds
    memory[_MEMORY_BUCKETS // 2] = sums.milliseconds
    return {
        "any_core_busy_milliseconds": sums.milliseconds if load > BUSY_CORE_RATIO / 2 else 0,
        "memory_bucket_milliseconds": memory,
        "network_rate_milliseconds": rates,
    }
