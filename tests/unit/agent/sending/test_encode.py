# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the encoding of records: measured values arrive, unmeasured ones are unset, bytes are reproducible."""

from __future__ import annotations

import hashlib
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.agent import record
from veilleuse.agent.model import (
    Cell,
    ClockPeriod,
    DatePeriod,
    Gap,
    LoadDelta,
    Period,
    Point,
    PointEnergy,
    Record,
    Tick,
    WeekPeriod,
    body_from_json,
)
from veilleuse.agent.resident.cell_sums import add_share, split_tick
from veilleuse.agent.sending.encode import WireEncoder, encode_gap, encode_record
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.limits import BUCKETS, CELL_BUCKETS, CELL_SUMS
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, Boundary, GapReason, PointKind, Population, State, Supply

amounts = st.integers(0, 2**53)
lengths = st.integers(1, 604_800_000)
points = st.builds(
    Point,
    st.sampled_from(PointKind),
    st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
    st.sampled_from(Boundary),
    st.sampled_from(["machine", "meter:7"]),
)
buckets = st.fixed_dictionaries(
    {},
    optional={name: st.lists(amounts, min_size=size, max_size=size) for name, size in BUCKETS.items()},
)
cells = st.dictionaries(points, st.tuples(amounts, amounts), max_size=4).flatmap(
    lambda energies: st.builds(
        Cell,
        lengths,
        st.just(energies),
        st.dictionaries(st.sampled_from(CELL_SUMS), amounts),
        buckets,
        st.sets(st.sampled_from(sorted(energies))).map(
            lambda inside: {point: energies[point] for point in inside}
        )
        if energies
        else st.just({}),
        st.dictionaries(st.from_regex(r"unit:[a-z]{1,9}", fullmatch=True), amounts, max_size=4),
    )
)
periods: st.SearchStrategy[Period] = st.one_of(
    st.builds(ClockPeriod, st.integers(0, 2**42), st.integers(1, 3_600_000)),
    st.builds(DatePeriod, st.dates(date(2000, 1, 1), date(2200, 12, 31))),
    st.builds(WeekPeriod, st.integers(2000, 2200), st.integers(1, 53)),
)
records = st.builds(
    Record,
    periods,
    st.sampled_from(["", "ab" * 32]),
    st.just(1),
    st.dictionaries(
        st.tuples(st.sampled_from(Band), st.sampled_from(State), st.sampled_from(Supply)), cells, max_size=5
    ),
    st.dictionaries(
        st.tuples(st.sampled_from(GapReason), st.sampled_from(["", "linux_rapl"])), lengths, max_size=3
    ),
)
gaps = st.builds(
    Gap,
    st.sampled_from(GapReason),
    st.lists(st.tuples(st.none() | periods, amounts), max_size=3).map(tuple),
    st.integers(1, 10_000),
    st.just("") | st.binary(min_size=8, max_size=8).map(bytes.hex),
)


def decoded_period(period: pb.Period) -> Period:
    """Return the model's period for the wire's."""
    match period.WhichOneof("kind"):
        case "clock":
            clock = period.clock
            return ClockPeriod(clock.start_unix_milliseconds, clock.duration_milliseconds)
        case "date":
            return DatePeriod(date(period.date.year, period.date.month, period.date.day))
        case _:
            return WeekPeriod(period.week.year, period.week.week)


def decoded_cell(cell: pb.Cell, found: list[Point]) -> Cell:
    """Return the model's cell for the wire's; `found`: the record's points."""
    return Cell(
        cell.milliseconds,
        {found[one.point_index]: (one.energy_millijoules, one.covered_milliseconds) for one in cell.energies},
        {name: getattr(cell, name) for name in CELL_SUMS if cell.HasField(name)},
        {name: list(getattr(cell, name)) for name in CELL_BUCKETS if getattr(cell, name)}
        | ({"display_milliseconds": [one.milliseconds for one in cell.displays]} if cell.displays else {}),
        {
            found[one.point_index]: (one.energy_millijoules, one.covered_milliseconds)
            for one in cell.update_window_energies
        },
        {unit.name: unit.cpu_milliseconds for unit in cell.units},
    )


def test_a_tick_of_everything_sets_every_field():
    """The test finds a field of the wire that the agent never sends. The record takes the spool's way."""
    point = Point(PointKind.RAPL, "package-0", Boundary.COMPONENT, "machine")
    tick = Tick(
        start_unix_milliseconds=0,
        duration_milliseconds=10_000,
        state=State.ON_IDLE,
        supply=Supply.AC,
        energies=(PointEnergy(point, 1, 10_000),),
        load=LoadDelta(0.5, 0.9, 0.5, 1, 1),
        idle_run_milliseconds=7_200_000,
        displays_on=(1, 0, 0, 0),
        units=(("unit:ssh", 1),),
        own_cpu_milliseconds=3,
    )
    cell = Cell()
    (share,) = split_tick(tick, (10_000,))
    add_share(cell, share, tick, 0, 10_000, population=Population.SERVER, in_window=True)
    key, gap = (Band.OPEN, tick.state, tick.supply), (GapReason.SENSOR_LOST, "linux_hwmon")
    sent = Record(ClockPeriod(0, 10_000), "", 1, {key: cell}, {gap: 1})
    measurement = pb.Record.FromString(encode_record(Record.from_json(sent.to_json()))).measurement
    missing = [
        field.full_name
        for message in (measurement, measurement.cells[0])
        for field in message.DESCRIPTOR.fields
        if field not in dict(message.ListFields())
    ]
    assert not missing, (
        f'{missing}: the agent\'s places are in docs/development/changes.md, "add a field on the wire"; give a value in this test'
    )


def decoded(wire: bytes) -> Record:
    """Return the model's record for the wire's bytes, field by field, without code of the encoder."""
    message = pb.Record.FromString(wire).measurement

    def word(enum, prefix, number):
        return enum.Name(number).removeprefix(prefix).lower()

    found = [
        Point(
            PointKind(word(pb.PointKind, "POINT_KIND_", point.kind)),
            point.domain,
            Boundary(word(pb.Boundary, "BOUNDARY_", point.boundary)),
            point.subject,
        )
        for point in message.points
    ]
    cells = {}
    for cell in message.cells:
        key = (
            Band(word(pb.Band, "BAND_", cell.band)),
            State(word(pb.State, "STATE_", cell.state)),
            Supply(word(pb.Supply, "SUPPLY_", cell.supply)),
        )
        cells[key] = decoded_cell(cell, found)
    calendar = message.calendar_sha256.hex()
    return Record(
        decoded_period(message.period),
        "" if calendar == DEFAULT_SHA256 else calendar,
        message.idle_rule_version,
        cells,
        {
            (GapReason(word(pb.GapReason, "GAP_REASON_", gap.reason)), gap.source): gap.milliseconds
            for gap in message.gaps
        },
    )


DEFAULT_SHA256 = hashlib.sha256(DEFAULT_CALENDAR.to_json().encode()).hexdigest()


@given(records)
def test_a_record_survives_json_and_the_wire(one):
    """JSON in the spool and protobuf on the wire both give the same record back."""
    assert body_from_json(one.to_json()) == one
    wire = WireEncoder().encode(one.to_json())
    assert wire == encode_record(one)
    assert decoded(wire) == one


@given(gaps)
def test_a_gap_survives_json_and_the_wire(gap):
    """JSON and protobuf both give the same gap back; a span without a time has no period."""
    assert body_from_json(gap.to_json()) == gap
    message = pb.Record.FromString(encode_gap(gap)).gap
    assert message.records == gap.records
    assert message.gap_id.hex() == gap.gap_id
    spans = [
        (decoded_period(span.period) if span.HasField("period") else None, span.milliseconds)
        for span in message.spans
    ]
    assert tuple(spans) == gap.spans


@given(records, st.randoms())
def test_the_bytes_do_not_depend_on_the_order_of_growth(one, chance):
    """The same sums in another order encode to the same bytes."""
    keys = list(one.cells)
    chance.shuffle(keys)
    shuffled = Record(
        one.period,
        one.calendar_sha256,
        one.idle_rule_version,
        {key: one.cells[key] for key in keys},
        dict(reversed(one.gaps.items())),
    )
    assert encode_record(shuffled) == encode_record(one)


def test_absent_is_not_zero():
    """An unmeasured sum is not on the wire; a measured zero is."""
    cell = Cell(1_000, {}, {"any_core_busy_milliseconds": 0}, {})
    one = Record(DatePeriod(date(2026, 3, 2)), "", 1, {(Band.OPEN, State.ON_IDLE, Supply.AC): cell}, {})
    message = pb.Record.FromString(encode_record(one)).measurement.cells[0]
    assert message.HasField("any_core_busy_milliseconds")
    assert not message.HasField("cpu_busy_milliseconds")
    assert not message.energies
    assert not message.cpu_bucket_milliseconds


def test_a_row_of_0_1_is_sent_without_what_is_no_longer_told():
    """A row of version 0.1 has sums that the contract no longer has: only the others are sent."""
    cell = Cell(1_000, {}, {"cpu_busy_milliseconds": 5}, {})
    now = Record(DatePeriod(date(2026, 3, 2)), "", 1, {(Band.OPEN, State.ON_IDLE, Supply.AC): cell}, {})
    before = now.to_json().replace('{"cpu_busy', '{"disk_read_bytes":7,"agent_cpu_milliseconds":3,"cpu_busy')
    assert encode_record(Record.from_json(before.replace('"rss":0', '"rss":19000000'))) == encode_record(now)


def test_the_built_in_calendar_is_named_by_its_hash():
    """An empty calendar is sent as SHA-256(DEFAULT_CALENDAR.to_json())."""
    assert pb.Record.FromString(encode_record(record(0))).measurement.calendar_sha256.hex() == DEFAULT_SHA256


@pytest.mark.parametrize(
    "body",
    ["", "null", "{}", "[]", '{"gap":"no_such_reason","spans":[],"records":1}', record(0).to_json()[:-1]],
)
def test_what_is_no_record_is_refused(body):
    """Invalid text raises ValueError, which the outbox turns into a gap."""
    with pytest.raises(ValueError, match=r".*"):
        WireEncoder().encode(body)


def test_an_unknown_sum_is_refused():
    """A sum that the wire does not have raises ValueError instead of being lost."""
    body = record(0).to_json().replace("cpu_busy_milliseconds", "cpu_busy_minutes")
    with pytest.raises(ValueError, match="not a record"):
        WireEncoder().encode(body)


def test_a_refused_record_leaves_its_span():
    """A refused record becomes a gap of its period; a refused gap loses first dates, then length, never its
    count."""
    encoder = WireEncoder()
    wire = encode_record(record(3))
    gap = pb.Record.FromString(encoder.refused(wire)).gap
    assert (gap.reason, gap.records, gap.spans[0].milliseconds) == (pb.GAP_REASON_REFUSED, 1, 60_000)
    assert gap.spans[0].period == pb.Record.FromString(wire).measurement.period
    lost = encode_gap(Gap(GapReason.SPOOL_CAP, ((record(0).period, 5),), 9))
    again = pb.Record.FromString(encoder.refused(lost)).gap
    assert (again.reason, again.records) == (pb.GAP_REASON_REFUSED, 9)
    assert list(again.spans) == [pb.GapSpan(milliseconds=5)]
    last = pb.Record.FromString(encoder.refused(encoder.refused(lost))).gap
    assert (last.reason, last.records, list(last.spans)) == (pb.GAP_REASON_REFUSED, 9, [])
    assert pb.Record.FromString(encoder.refused(b"\xff\xff")).gap.records == 1
