# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks a Push: its shape, then each record; the chain is recomputed from `chain_before`.

The period of a record is checked by population: kind, range and alignment. docs/privacy.md §1.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from google.protobuf.message import DecodeError

from veilleuse.collector.errors import MalformedRequest, RecordRefused
from veilleuse.collector.model.records import DecodedRecord, HostId, Reason, ValidPush
from veilleuse.collector.validate.cells import (
    MAXIMUM_LIST,
    MachineLimits,
    check_cells,
    check_points,
    check_sensor_gaps,
)
from veilleuse.collector.validate.messages import ORDINARY_BYTES, find_crowded_inside
from veilleuse.collector.wire_codec import GAP_REASONS, gap_spans, record_period
from veilleuse.wire.chain import chain_next, record_hash
from veilleuse.wire.limits import (
    CHAIN_BYTES,
    EPOCH_BYTES,
    GAP_ID_BYTES,
    MAX_CELLS_PER_RECORD,
    MAX_POINTS_PER_RECORD,
    MAX_PUSH_BYTES,
    MAX_RECORD_BYTES,
    MAX_RECORDS_PER_PUSH,
)
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_HOUR, UNIX_EPOCH_DAY
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

MINIMUM_PERIOD_MILLISECONDS: Final = 10_000
EARLIEST: Final = date(2020, 1, 1)
"""Before the first line of this program: such a clock was never set."""
EARLIEST_UNIX_MILLISECONDS: Final = 1_577_836_800_000
FUTURE_DAYS: Final = 2
"""How far ahead an agent's clock may be; the agent files what it thinks implausible as a gap."""
LONGEST_DAY_MILLISECONDS: Final = MILLISECONDS_PER_DAY + MILLISECONDS_PER_HOUR
LONGEST_WEEK_MILLISECONDS: Final = 7 * MILLISECONDS_PER_DAY + MILLISECONDS_PER_HOUR
LONGEST_GAP_MILLISECONDS: Final = 400 * MILLISECONDS_PER_DAY


def _check_period(
    period: Any, population: Population, now_unix_milliseconds: int, *, gap: bool = False
) -> int:
    """Return the longest duration of a record of this period, in ms.

    With `gap`, a clock span may be longer than an hour and unaligned. Raises RecordRefused.
    """
    kind = period.WhichOneof("kind")
    if kind is None:
        raise RecordRefused(Reason.PERIOD_MISSING)
    # A day or a week is never too fine: a machine keeps these until it knows its population.
    if kind == "clock" and population is Population.WORKSTATION:
        raise RecordRefused(Reason.PERIOD_KIND_NOT_ALLOWED)
    if kind == "clock":
        return _check_clock(period.clock, population, now_unix_milliseconds, gap=gap)
    first = _first_day(period, kind)
    last = first + (6 if kind == "week" else 0)
    if last < EARLIEST.toordinal():
        raise RecordRefused(Reason.PERIOD_TOO_OLD)
    if first - UNIX_EPOCH_DAY > now_unix_milliseconds // MILLISECONDS_PER_DAY + FUTURE_DAYS:
        raise RecordRefused(Reason.PERIOD_IN_FUTURE)
    return LONGEST_DAY_MILLISECONDS if kind == "date" else LONGEST_WEEK_MILLISECONDS


def _first_day(period: Any, kind: str) -> int:
    try:
        if kind == "date":
            return date(period.date.year, period.date.month, period.date.day).toordinal()
        return date.fromisocalendar(period.week.year, period.week.week, 1).toordinal()
    except (ValueError, OverflowError) as error:
        raise RecordRefused(Reason.PERIOD_OUT_OF_RANGE) from error


def _check_clock(clock: Any, population: Population, now_unix_milliseconds: int, *, gap: bool) -> int:
    start: int = clock.start_unix_milliseconds
    duration: int = clock.duration_milliseconds
    longest = LONGEST_GAP_MILLISECONDS if gap else MILLISECONDS_PER_HOUR
    shortest = 1 if gap else MINIMUM_PERIOD_MILLISECONDS
    if not shortest <= duration <= longest:
        raise RecordRefused(Reason.DURATION_OUT_OF_RANGE)
    if start < EARLIEST_UNIX_MILLISECONDS:
        raise RecordRefused(Reason.PERIOD_TOO_OLD)
    if start + duration > now_unix_milliseconds + FUTURE_DAYS * MILLISECONDS_PER_DAY:
        raise RecordRefused(Reason.PERIOD_IN_FUTURE)
    # Whole seconds inside one UTC hour: an agent joins periods of its grain while it sleeps, 12 s of them or
    # 300.
    whole = start % 1_000 == 0 and duration % 1_000 == 0
    if not gap and not (whole and start % MILLISECONDS_PER_HOUR + duration <= MILLISECONDS_PER_HOUR):
        raise RecordRefused(Reason.PERIOD_NOT_ALIGNED)
    if not gap and population is Population.CLASSROOM and duration != MILLISECONDS_PER_HOUR:
        raise RecordRefused(Reason.GRAIN_TOO_FINE)
    return duration


MAXIMUM_SEQ: Final = 2**62
MAXIMUM_GAP_SPANS: Final = 1_024
MAXIMUM_GAP_RECORDS: Final = 2**32
"""At 10 s each, this is more than a thousand years."""
MAXIMUM_GAP_MILLISECONDS: Final = 10 * 366 * MILLISECONDS_PER_DAY
"""All spans of a record, and all dated ones of a push: ten years."""
MAXIMUM_IDLE_RULE: Final = 1_000
_MOST_OF_MEASUREMENT: Final = {
    pb.Measurement.POINTS_FIELD_NUMBER: MAX_POINTS_PER_RECORD,
    pb.Measurement.CELLS_FIELD_NUMBER: MAX_CELLS_PER_RECORD,
    pb.Measurement.GAPS_FIELD_NUMBER: MAXIMUM_LIST,
}
_CROWDED: Final = {
    pb.Measurement.POINTS_FIELD_NUMBER: Reason.TOO_MANY_POINTS,
    pb.Measurement.CELLS_FIELD_NUMBER: Reason.TOO_MANY_CELLS,
    pb.Measurement.GAPS_FIELD_NUMBER: Reason.SENSOR_GAPS,
}


def check_push(
    request: Any, host_id: HostId, machine: MachineLimits, now_unix_milliseconds: int
) -> ValidPush | tuple[tuple[int, Reason], ...]:
    """Return the push for the store, or (seq, reason) of each record that can never be stored.

    Raises MalformedRequest when it is not a push.
    """
    _check_shape(request)
    records: list[DecodedRecord] = []
    refusals: list[tuple[int, Reason]] = []
    chain = request.chain_before
    reach = 0  # of the gaps: the store has a row for each day of it
    for seq, wire in enumerate(request.records, request.first_seq):
        chain = chain_next(chain, wire)
        try:
            record = check_record(seq, wire, chain, machine, now_unix_milliseconds)
            reach += sum([period.milliseconds for period, _ in record.gap_spans])
            if record.gap_spans and reach > MAXIMUM_GAP_MILLISECONDS:
                raise RecordRefused(Reason.GAP_OUT_OF_RANGE)
            records.append(record)
        except RecordRefused as error:
            refusals.append((seq, Reason(error.reason)))
    if refusals:
        return tuple(refusals)
    return ValidPush(host_id, request.epoch, request.first_seq, request.chain_before, tuple(records))


def check_record(
    seq: int, wire: bytes, chain: bytes, machine: MachineLimits, now_unix_milliseconds: int
) -> DecodedRecord:
    """Check one record. Raises RecordRefused."""
    if len(wire) > ORDINARY_BYTES:
        _check_long(wire)
    try:
        record = pb.Record.FromString(wire)
    except DecodeError as error:
        raise RecordRefused(Reason.NOT_A_RECORD) from error
    match record.WhichOneof("body"):
        case "measurement":
            return _check_measurement(seq, wire, chain, record.measurement, machine, now_unix_milliseconds)
        case "gap":
            return _check_gap(seq, wire, chain, record.gap, machine.population, now_unix_milliseconds)
    raise RecordRefused(Reason.NOT_A_RECORD)


def _check_long(wire: bytes) -> None:
    """Check a record of unusual length before it is parsed. Raises RecordRefused."""
    if len(wire) > MAX_RECORD_BYTES:
        raise RecordRefused(Reason.RECORD_TOO_LARGE)
    if found := find_crowded_inside(wire, pb.Record.MEASUREMENT_FIELD_NUMBER, _MOST_OF_MEASUREMENT):
        raise RecordRefused(_CROWDED[found])
    if find_crowded_inside(wire, pb.Record.GAP_FIELD_NUMBER, {pb.Gap.SPANS_FIELD_NUMBER: MAXIMUM_GAP_SPANS}):
        raise RecordRefused(Reason.GAP_OUT_OF_RANGE)


def _check_shape(request: Any) -> None:
    if len(request.epoch) != EPOCH_BYTES:
        raise MalformedRequest("epoch_length", f"the epoch has {EPOCH_BYTES} bytes, not {len(request.epoch)}")
    if len(request.chain_before) != CHAIN_BYTES:
        raise MalformedRequest(
            "chain_length", f"chain_before has {CHAIN_BYTES} bytes, not {len(request.chain_before)}"
        )
    if not 1 <= len(request.records) <= MAX_RECORDS_PER_PUSH:
        raise MalformedRequest(
            "record_count", f"a push has 1 to {MAX_RECORDS_PER_PUSH} records, not {len(request.records)}"
        )
    if not 1 <= request.first_seq <= MAXIMUM_SEQ:
        raise MalformedRequest("seq_out_of_range", "first_seq is 1 to 2^62")
    size = sum(map(len, request.records))
    if size > MAX_PUSH_BYTES:
        raise MalformedRequest(
            "push_too_large", f"the records of a push have at most {MAX_PUSH_BYTES} bytes, not {size}"
        )


def _check_measurement(
    seq: int, wire: bytes, chain: bytes, measurement: Any, machine: MachineLimits, now_unix_milliseconds: int
) -> DecodedRecord:
    longest = _check_period(measurement.period, machine.population, now_unix_milliseconds)
    if len(measurement.calendar_sha256) != CHAIN_BYTES:
        raise RecordRefused(Reason.CALENDAR_HASH_LENGTH)
    if not 1 <= measurement.idle_rule_version <= MAXIMUM_IDLE_RULE:
        raise RecordRefused(Reason.IDLE_RULE_OUT_OF_RANGE)
    points = check_points(measurement.points, machine)
    cells = check_cells(measurement.cells, points, machine, measurement.period.WhichOneof("kind"), longest)
    return DecodedRecord(
        seq=seq,
        wire=wire,
        hash=record_hash(wire),
        chain=chain,
        period=record_period(measurement.period, sum(cell.milliseconds for cell in cells)),
        cells=cells,
        sensor_gaps=check_sensor_gaps(measurement.gaps, longest),
    )


def _check_gap(
    seq: int, wire: bytes, chain: bytes, gap: Any, population: Population, now_unix_milliseconds: int
) -> DecodedRecord:
    reason = GAP_REASONS.get(gap.reason)
    if reason is None:
        raise RecordRefused(Reason.GAP_UNKNOWN)
    if not 1 <= gap.records <= MAXIMUM_GAP_RECORDS or len(gap.spans) > MAXIMUM_GAP_SPANS:
        raise RecordRefused(Reason.GAP_OUT_OF_RANGE)
    if len(gap.gap_id) not in (0, GAP_ID_BYTES):
        raise RecordRefused(Reason.GAP_OUT_OF_RANGE)
    lost = reach = 0
    for span in gap.spans:
        longest = LONGEST_GAP_MILLISECONDS
        if span.HasField("period"):
            longest = _check_period(span.period, population, now_unix_milliseconds, gap=True)
            reach += longest
        if span.milliseconds > longest:
            raise RecordRefused(Reason.GAP_OUT_OF_RANGE)
        lost += span.milliseconds
    if max(lost, reach) > MAXIMUM_GAP_MILLISECONDS:
        raise RecordRefused(Reason.GAP_OUT_OF_RANGE)
    return DecodedRecord(
        seq=seq,
        wire=wire,
        hash=record_hash(wire),
        chain=chain,
        period=None,
        gap=reason,
        gap_milliseconds=lost,
        gap_records=gap.records,
        gap_spans=gap_spans(gap),
        gap_told_apart=bool(gap.gap_id)
        or (bool(gap.spans) and all(span.HasField("period") for span in gap.spans)),
    )
