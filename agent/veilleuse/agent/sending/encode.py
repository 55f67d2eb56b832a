# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Encodes model.Record and model.Gap as the wire's Record, once. Values that were not measured stay unset."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

from google.protobuf.message import DecodeError

from veilleuse.agent.model import (
    Cell,
    ClockPeriod,
    DatePeriod,
    Gap,
    Period,
    Point,
    Record,
    WeekPeriod,
    body_from_json,
)
from veilleuse.agent.spool.database import MAX_SPANS, SALVAGED
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.limits import (
    CELL_BUCKETS,
    DISPLAY_BUCKETS,
    GAP_ID_BYTES,
    MAX_UNITS_PER_CELL,
    MAX_UNITS_PER_RECORD,
    OTHER_UNITS,
)
from veilleuse.wire.sums import merge_smallest
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
    Word,
)

_ENUMS: Final[dict[type[Word], tuple[Any, str]]] = {
    Band: (pb.Band, "BAND_"),
    State: (pb.State, "STATE_"),
    Supply: (pb.Supply, "SUPPLY_"),
    PointKind: (pb.PointKind, "POINT_KIND_"),
    Boundary: (pb.Boundary, "BOUNDARY_"),
    GapReason: (pb.GapReason, "GAP_REASON_"),
    Population: (pb.Population, "POPULATION_"),
    DeviceClass: (pb.DeviceClass, "DEVICE_CLASS_"),
}


class WireEncoder:
    """Encoder of the outbox: encodes a spool row, and a gap for a lost record."""

    def encode(self, body: str) -> bytes:
        """Encode one spool row (JSON of Record or Gap) as a Record message.

        Raises ValueError when it is neither.
        """
        if body.startswith(SALVAGED):
            return _decode_salvaged(body)
        content = body_from_json(body)
        try:
            return encode_gap(content) if isinstance(content, Gap) else encode_record(content)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a record: {error}") from error

    def refused(self, wire: bytes) -> bytes:
        """Encode a Gap{refused} over the span of a record that the collector will never store.

        A gap that is itself refused loses its dates first, then its length. The gap id is derived from the
        refused bytes. An agent that was set back and is refused again sends the same gap.
        """
        gap_id = hashlib.sha256(b"refused" + wire).digest()[:GAP_ID_BYTES]
        lost = pb.Gap(reason=pb.GAP_REASON_REFUSED, records=1, gap_id=gap_id)
        try:
            record = pb.Record.FromString(wire)
        except DecodeError:
            return _serialise(pb.Record(gap=lost))
        if record.HasField("gap"):
            lost.records = max(1, record.gap.records)
            if any(span.HasField("period") for span in record.gap.spans):
                lost.spans.add(milliseconds=sum(span.milliseconds for span in record.gap.spans))
        elif record.measurement.HasField("period"):
            milliseconds = sum(cell.milliseconds for cell in record.measurement.cells)
            lost.spans.add(period=record.measurement.period, milliseconds=milliseconds)
        return _serialise(pb.Record(gap=lost))

    def lost(self, reason: str, records: int, spans: Sequence[bytes] = ()) -> bytes:
        """Encode a gap that replaces `records` ≥ 1 records over `spans`; without spans it is undated."""
        gap = pb.Gap(reason=number(GapReason(reason)), records=records, gap_id=os.urandom(GAP_ID_BYTES))
        for text in spans:
            with suppress(DecodeError):
                for span in pb.Gap.FromString(text).spans:
                    _add_span(gap, span)
        return _serialise(pb.Record(gap=gap))

    def spans(self, wire: bytes) -> bytes:
        """Encode the time of a record for `lost`: a Gap that holds only spans; empty when unreadable."""
        kept = pb.Gap()
        try:
            record = pb.Record.FromString(wire)
        except DecodeError:
            return b""
        if record.HasField("gap"):
            kept.spans.extend(record.gap.spans)
        elif record.measurement.HasField("period"):
            milliseconds = sum(cell.milliseconds for cell in record.measurement.cells)
            kept.spans.add(period=record.measurement.period, milliseconds=milliseconds)
        return kept.SerializeToString(deterministic=True)

    def records(self, wire: bytes) -> int:
        """Return the number of records that it covers, ≥ 1: one, or the count of a gap."""
        try:
            return max(1, pb.Record.FromString(wire).gap.records)
        except DecodeError:
            return 1

    def is_nameless_gap(self, wire: bytes) -> bool:
        """Return True for a gap of 0.1 without id or dates.

        Two such gaps may have equal bytes, so a collector cannot recognise a resent one.
        """
        try:
            record = pb.Record.FromString(wire)
        except DecodeError:
            return False
        dated = bool(record.gap.spans) and all(span.HasField("period") for span in record.gap.spans)
        return record.HasField("gap") and not record.gap.gap_id and not dated


def _decode_salvaged(body: str) -> bytes:
    """Decode a record that was numbered in a spool set aside, and check its chain. Raises ValueError."""
    try:
        raw = json.loads(body)
        wire, chain = bytes.fromhex(raw["wire"]), bytes.fromhex(raw["chain"])
        before = chain_start(bytes.fromhex(raw["epoch"])) if raw["seq"] == 1 else bytes.fromhex(raw["before"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a record: {error}") from error
    if chain_next(before, wire) != chain:
        raise ValueError("the bytes of a numbered record were damaged")
    return wire


def _add_span(gap: pb.Gap, span: pb.GapSpan) -> None:
    """Add a span: join adjoining clock periods and sum equal periods.

    Beyond MAX_SPANS the time is undated.
    """
    last = gap.spans[-1] if gap.spans else None
    if last is not None and last.period == span.period and last.HasField("period") == span.HasField("period"):
        last.milliseconds += span.milliseconds
    elif last is not None and _touches(last.period.clock, span.period.clock):
        last.period.clock.duration_milliseconds += span.period.clock.duration_milliseconds
        last.milliseconds += span.milliseconds
    elif len(gap.spans) >= MAX_SPANS:
        whole = sum(one.milliseconds for one in gap.spans) + span.milliseconds
        del gap.spans[:]
        gap.spans.add(milliseconds=whole)
    else:
        gap.spans.append(span)


def _touches(one: pb.ClockPeriod, other: pb.ClockPeriod) -> bool:
    end = one.start_unix_milliseconds + one.duration_milliseconds
    whole = one.duration_milliseconds > 0 and other.duration_milliseconds > 0  # not set: no clock period
    return whole and end == other.start_unix_milliseconds


def encode_record(record: Record) -> bytes:
    """Encode Record{measurement} as deterministic bytes: points, cells and gaps in a fixed order."""
    points = sorted(
        {point for cell in record.cells.values() for point in cell.energies},
        key=lambda point: (number(point.kind), point.domain, number(point.boundary), point.subject),
    )
    index = {point: position for position, point in enumerate(points)}
    measurement = pb.Measurement(
        period=encode_period(record.period),
        calendar_sha256=_calendar_hash(record.calendar_sha256),
        idle_rule_version=record.idle_rule_version,
        points=[encode_point(point) for point in points],
    )
    keys = sorted(record.cells, key=lambda key: (number(key[0]), number(key[1]), number(key[2])))
    with_units = sum(1 for cell in record.cells.values() if cell.units)
    most_units = min(MAX_UNITS_PER_CELL, MAX_UNITS_PER_RECORD // max(1, with_units))
    for key in keys:
        if record.cells[key].milliseconds > 0:
            cell = measurement.cells.add()
            _fill_cell(cell, key, record.cells[key], index)
            for name, spent in sorted(
                merge_smallest(record.cells[key].units, most_units, OTHER_UNITS).items()
            ):
                cell.units.add(name=name, cpu_milliseconds=spent)
    for (reason, source), lost in sorted(record.gaps.items(), key=lambda gap: (number(gap[0][0]), gap[0][1])):
        if lost > 0:
            measurement.gaps.add(reason=number(reason), milliseconds=lost, source=source)
    return _serialise(pb.Record(measurement=measurement))


def encode_gap(gap: Gap) -> bytes:
    """Encode Record{gap} as deterministic bytes."""
    message = pb.Gap(reason=number(gap.reason), records=gap.records, gap_id=bytes.fromhex(gap.gap_id))
    for period, lost in gap.spans:
        span = message.spans.add(milliseconds=lost)
        if period is not None:
            span.period.CopyFrom(encode_period(period))
    return _serialise(pb.Record(gap=message))


def encode_period(period: Period) -> pb.Period:
    """Encode a period."""
    match period:
        case ClockPeriod(start, duration):
            clock = pb.ClockPeriod(start_unix_milliseconds=start, duration_milliseconds=duration)
            return pb.Period(clock=clock)
        case DatePeriod(day):
            return pb.Period(date=pb.LocalDate(year=day.year, month=day.month, day=day.day))
        case WeekPeriod(year, week):
            return pb.Period(week=pb.IsoWeek(year=year, week=week))


def encode_point(point: Point) -> pb.Point:
    """Encode a point."""
    return pb.Point(
        kind=number(point.kind),
        domain=point.domain,
        boundary=number(point.boundary),
        subject=point.subject,
    )


@cache
def number(word: Word) -> Any:
    """Return the enum number of a vocabulary word; typed Any because each proto enum is its own type."""
    enum, prefix = _ENUMS[type(word)]
    return enum.Value(prefix + word.name)


def _fill_cell(cell: pb.Cell, key: tuple[Band, State, Supply], sums: Cell, index: dict[Point, int]) -> None:
    cell.band, cell.state, cell.supply = number(key[0]), number(key[1]), number(key[2])
    cell.milliseconds = sums.milliseconds
    for seen, into in (
        (sums.energies, cell.energies),
        (sums.window_energies, cell.update_window_energies),
    ):
        for point in sorted(seen, key=index.__getitem__):
            energy, covered = seen[point]
            into.add(point_index=index[point], energy_millijoules=energy, covered_milliseconds=covered)
    for name, value in sums.sums.items():
        setattr(cell, name, value)
    for name in CELL_BUCKETS:
        if name in sums.buckets:
            getattr(cell, name).extend(sums.buckets[name])
    for size, on in enumerate(sums.buckets.get(DISPLAY_BUCKETS, ()), 1):
        cell.displays.add(size=size, milliseconds=on)


@cache
def _calendar_hash(hexadecimal: str) -> bytes:
    if hexadecimal:
        return bytes.fromhex(hexadecimal)
    import hashlib

    from veilleuse.wire.bands import DEFAULT_CALENDAR

    return hashlib.sha256(DEFAULT_CALENDAR.to_json().encode()).digest()


def _serialise(record: pb.Record) -> bytes:
    return record.SerializeToString(deterministic=True)
