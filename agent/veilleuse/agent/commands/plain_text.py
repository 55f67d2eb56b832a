# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Wire messages as plain values for JSON, and as lines for people. Absent stays absent, zero stays zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from veilleuse.wire.units import MILLIJOULES_PER_JOULE, MILLISECONDS_PER_SECOND
from veilleuse.wire.v1 import telemetry_pb2 as pb


def plain(message: Message) -> dict[str, Any]:
    """Return each set field by name; enums as vocabulary words, bytes as hexadecimal.

    A number without presence is always included, so a measured 0 differs from an absent value.
    """
    fields: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            if value:
                fields[field.name] = [_value(field, one) for one in value]
        elif not field.has_presence or message.HasField(field.name):
            fields[field.name] = _value(field, value)
    return fields


def record_lines(record: pb.Record) -> Iterator[str]:
    """Yield the lines of a record for people."""
    if record.HasField("gap"):
        yield f"a gap of {record.gap.records} record(s): {_word('GapReason', record.gap.reason)}"
        for span in record.gap.spans:
            where = period_text(span.period) if span.HasField("period") else "at an unknown time"
            yield f"  {where}: {seconds_text(span.milliseconds)} lost"
        return
    measurement = record.measurement
    yield f"period: {period_text(measurement.period)}"
    for cell in measurement.cells:
        yield from _cell_lines(measurement, cell)
    if not any(cell.energies for cell in measurement.cells):
        yield "  energy: not measured (no source on this machine gives any)"
    for gap in measurement.gaps:
        yield f"  not covered by {gap.source or 'any source'}: {seconds_text(gap.milliseconds)} ({_word('GapReason', gap.reason)})"


def period_text(period: pb.Period) -> str:
    """Return `the day 2026-03-02`, `week 9 of 2026`, or a UTC start with its length."""
    match period.WhichOneof("kind"):
        case "date":
            return f"the day {period.date.year:04}-{period.date.month:02}-{period.date.day:02}"
        case "week":
            return f"week {period.week.week} of {period.week.year}"
        case "clock":
            length = seconds_text(period.clock.duration_milliseconds)
            return f"{utc_text(period.clock.start_unix_milliseconds)}, {length}"
        case _:
            return "not dated"


def utc_text(unix_milliseconds: int) -> str:
    """Return a time such as `2026-03-02 14:05:00 UTC`."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(unix_milliseconds / MILLISECONDS_PER_SECOND, UTC):%Y-%m-%d %H:%M:%S} UTC"


def seconds_text(milliseconds: int) -> str:
    """Return milliseconds as seconds, minutes or hours, with three digits."""
    seconds = milliseconds / MILLISECONDS_PER_SECOND
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _cell_lines(measurement: pb.Measurement, cell: pb.Cell) -> Iterator[str]:
    key = " ".join(
        (_word("Band", cell.band), _word("State", cell.state), f"supply {_word('Supply', cell.supply)}")
    )
    yield f"  {key}: {seconds_text(cell.milliseconds)}"
    if cell.HasField("cpu_busy_milliseconds") and cell.cpu_covered_milliseconds:
        ratio = cell.cpu_busy_milliseconds / cell.cpu_covered_milliseconds
        yield f"    processor: {ratio:.1%} busy over {seconds_text(cell.cpu_covered_milliseconds)}"
    for energy in cell.energies:
        point = measurement.points[energy.point_index]
        name = f"{_word('PointKind', point.kind)} {point.domain} ({_word('Boundary', point.boundary)})"
        if energy.covered_milliseconds:
            watts = energy.energy_millijoules / energy.covered_milliseconds
            yield f"    {name}: {energy.energy_millijoules / MILLIJOULES_PER_JOULE:.3f} J over {seconds_text(energy.covered_milliseconds)}, {watts:.2f} W"


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        return _enum_word(field.enum_type.name, field.enum_type.values_by_number[value].name)
    return value.hex() if isinstance(value, bytes) else value


def _word(enum: str, number: int) -> str:
    values = pb.DESCRIPTOR.enum_types_by_name[enum].values_by_number
    return _enum_word(enum, values[number].name)


def _enum_word(enum: str, name: str) -> str:
    """Return `on_idle` for `STATE_ON_IDLE` of `State`."""
    prefix = "".join(f"_{letter}" if letter.isupper() else letter for letter in enum).lstrip("_").upper()
    return name.removeprefix(f"{prefix}_").lower()
