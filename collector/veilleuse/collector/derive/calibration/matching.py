# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Readings of a file × stored records of the same machine → samples (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Final

from veilleuse.collector.derive.calibration.readings import Reading
from veilleuse.collector.derive.calibration.samples import (
    COVERED,
    ON,
    Samples,
    StoredRecord,
    at_the_wall,
    measured,
    standing_by,
    state_of,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.calibration import Hardware
from veilleuse.collector.model.records import Cell, MachineFacts
from veilleuse.wire.units import MILLISECONDS_PER_HOUR

FILE: Final = "file"
"""Stands for the kind of meter of a file."""
MAX_CONTRADICTIONS: Final = 0.05
"""Share of a unit's readings whose state the records may deny: the seconds around a change; ours."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Readings beside the records that they are of."""

    cells: tuple[Cell, ...]
    start: int
    state: str
    readings: tuple[Reading, ...]

    @property
    def watts(self) -> float:
        """Mean of the readings, weighted by their length; of moments, plain."""
        lengths = [one.end - one.start or 1 for one in self.readings]
        whole = sum(one.milliwatts * length for one, length in zip(self.readings, lengths, strict=True))
        return whole / sum(lengths) / 1000


def file_samples(
    samples: Samples,
    hardware: Hardware,
    unit: str,
    machine: MachineFacts,
    readings: Sequence[Reading],
    records: Sequence[StoredRecord],
) -> int:
    """Add a unit's samples; how many readings were used. Readings and records in the order of time.

    Raises UsageError when clocks do not overlap, or the file contradicts the records.
    """
    long = _typical_length(readings) > _typical_record(records)
    pairings = _records_in_readings(readings, records) if long else _readings_in_records(readings, records)
    _agree(unit, readings, pairings)
    used: set[int] = set()
    for pairing in pairings:
        if any(one.state not in ("", pairing.state) for one in pairing.readings):
            continue
        seen = measured(machine, pairing.cells) if at_the_wall(pairing.cells) else None
        if seen is not None:
            samples.add(hardware, unit, FILE, pairing.start, seen, pairing.watts)
            used.update(one.row for one in pairing.readings)
    beside = {one.row for pairing in pairings for one in pairing.readings}
    for one in readings:
        if one.state in ("", ON) or one.row in beside or _touches(one, records):
            continue
        seen = standing_by(machine, one.state, one.end - one.start or _interval(readings))
        if seen is not None:
            samples.add(hardware, unit, FILE, one.start, seen, one.milliwatts / 1000)
            used.add(one.row)
    if not used:
        raise UsageError(_no_overlap(unit, readings, records))
    return len(used)


def _typical_length(readings: Sequence[Reading]) -> float:
    return median(one.end - one.start for one in readings)


def _typical_record(records: Sequence[StoredRecord]) -> float:
    return median(one.milliseconds for one in records) if records else float("inf")


def _interval(readings: Sequence[Reading]) -> int:
    """Time a reading of a moment stands for."""
    if len(readings) < 2:
        return 1000
    whole = (readings[-1].start - readings[0].start) // (len(readings) - 1)
    return max(1000, min(whole, MILLISECONDS_PER_HOUR))


def _readings_in_records(readings: Sequence[Reading], records: Sequence[StoredRecord]) -> list[Pairing]:
    """Each record that is of one state with the readings that lie in it; stretches must cover most of it."""
    found, at = [], 0
    for record in records:
        start, end = record.start_unix_milliseconds, record.start_unix_milliseconds + record.milliseconds
        while at < len(readings) and readings[at].start < start:
            at += 1
        inside = []
        while at < len(readings) and readings[at].start < end:
            if readings[at].end <= end:
                inside.append(readings[at])
            at += 1
        state = state_of(record)
        lengths = sum(one.end - one.start for one in inside)
        of_moments = all(one.end == one.start for one in inside)
        if inside and state is not None and (of_moments or lengths >= COVERED * record.milliseconds):
            found.append(Pairing(record.cells, start, state, tuple(inside)))
    return found


def _records_in_readings(readings: Sequence[Reading], records: Sequence[StoredRecord]) -> list[Pairing]:
    """Each reading with the records that lie in it, when all are of one state and they cover most of it."""
    found, at = [], 0
    for reading in readings:
        while at < len(records) and records[at].start_unix_milliseconds < reading.start:
            at += 1
        inside = []
        while at < len(records) and records[at].start_unix_milliseconds < reading.end:
            if records[at].start_unix_milliseconds + records[at].milliseconds <= reading.end:
                inside.append(records[at])
            at += 1
        time = sum(one.milliseconds for one in inside)
        states = {state_of(one) for one in inside}
        state = states.pop() if len(states) == 1 else None
        if state is not None and time >= COVERED * (reading.end - reading.start):
            cells = tuple(cell for one in inside for cell in one.cells)
            found.append(Pairing(cells, reading.start, state, (reading,)))
    return found


def _touches(reading: Reading, records: Sequence[StoredRecord]) -> bool:
    """Whether any record is of a part of that time."""
    low, high = 0, len(records)
    while low < high:
        middle = (low + high) // 2
        one = records[middle]
        if one.start_unix_milliseconds + one.milliseconds <= reading.start:
            low = middle + 1
        else:
            high = middle
    return low < len(records) and records[low].start_unix_milliseconds < max(reading.end, reading.start + 1)


def _agree(unit: str, readings: Sequence[Reading], pairings: Sequence[Pairing]) -> None:
    """Raises UsageError when the records deny the states that the file tells."""
    denied = [
        (one, pairing.state)
        for pairing in pairings
        for one in pairing.readings
        if one.state not in ("", pairing.state)
    ]
    if len(denied) > MAX_CONTRADICTIONS * len(readings):
        (first, state), many = denied[0], len(denied)
        raise UsageError(
            f"row {first.row}, column state: it says {first.state}, the records of '{unit}' say {state} ({many:,} such rows): "
            "wrong machine, or wrong clock"
        )


def _no_overlap(unit: str, readings: Sequence[Reading], records: Sequence[StoredRecord]) -> str:
    span = f"{_when(readings[0].start)} to {_when(readings[-1].end)}"
    if not records:
        return f"unit '{unit}': no stored record of it in the time of its readings, {span}: wrong machine, or wrong clock"
    last = records[-1]
    stored = (
        f"{_when(records[0].start_unix_milliseconds)} to "
        f"{_when(last.start_unix_milliseconds + last.milliseconds)}"
    )
    return (
        f"unit '{unit}': none of its readings ({span}) lies in a record with counters (records: {stored}): look at the clock, "
        "and whether its records are short enough"
    )


def _when(unix_milliseconds: int) -> str:
    return datetime.fromtimestamp(unix_milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
