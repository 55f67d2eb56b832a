# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The validator: one test a rule, then mutated bytes against an oracle that shares no code with it. S7, S8, S12."""

from __future__ import annotations

import random
import re
import time
import tracemalloc
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.pushes import (
    HOUR,
    MONDAY_10H,
    NOW,
    SERVER,
    WORKSTATION,
    cell,
    clock,
    day,
    gap,
    measurement,
    rapl,
    realistic,
    week,
)
from veilleuse.collector.codec import SUM_FIELDS, cells_from_wire, facts_from_wire, health_from_wire, number
from veilleuse.collector.errors import MalformedRequest, RecordRefused
from veilleuse.collector.model import DecodedRecord, Grain, HostId, RecordPeriod, ValidPush
from veilleuse.collector.validate import Machine, Reason, check_push, clean_facts, clean_health
from veilleuse.collector.validate.push import check_record
from veilleuse.wire.chain import chain_next, record_hash
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

CLASSROOM = Machine(Population.CLASSROOM, DeviceClass.TOWER, allow_fake=False)
LAPTOP = Machine(Population.CLASSROOM, DeviceClass.LAPTOP, allow_fake=False)
FAKE_ALLOWED = Machine(Population.SERVER, DeviceClass.SERVER, allow_fake=True)
DATE = day(date(2026, 3, 4))
NIGHT = cell(band=pb.BAND_NIGHT)


def decoded(record: pb.Record | bytes, machine: Machine = SERVER) -> DecodedRecord:
    """Through the validator."""
    wire = record if isinstance(record, bytes) else record.SerializeToString()
    return check_record(7, wire, bytes(32), machine, NOW)


def refused(record: pb.Record | bytes, machine: Machine = SERVER) -> str:
    """The reason."""
    with pytest.raises(RecordRefused) as caught:
        decoded(record, machine)
    return caught.value.reason


def with_cell(**fields: Any) -> pb.Record:
    """A measurement of one cell of a minute."""
    return measurement(cells=[cell(**fields)], points=[rapl(), rapl("dram")])


def altered(change: Callable[[Any], None]) -> pb.Record:
    """A sound measurement with something changed in it."""
    record = realistic(MONDAY_10H)
    change(record.measurement)
    return record


def meter(kind: Any = pb.POINT_KIND_PDU, subject: str = "meter:rack-1") -> pb.Point:
    """A shared meter."""
    return pb.Point(kind=kind, domain="outlet 1", boundary=pb.BOUNDARY_WALL, subject=subject)


FAKE = pb.Point(kind=pb.POINT_KIND_FAKE, domain="wall", boundary=pb.BOUNDARY_WALL, subject="machine")
BATTERY = pb.Point(
    kind=pb.POINT_KIND_BATTERY_IN, domain="BAT0", boundary=pb.BOUNDARY_MACHINE_DC, subject="machine"
)
PDU_ASLEEP = measurement(cells=[cell(state=pb.STATE_OFF, energies=[(0, 900_000, 60_000)])], points=[meter()])
BATTERY_ASLEEP = measurement(
    clock(duration=HOUR),
    [cell(state=pb.STATE_ASLEEP, energies=[(0, 900_000, 60_000)])],
    [BATTERY],
)

ACCEPTED: dict[str, tuple[Any, Machine]] = {
    "a server's five minutes": (realistic(MONDAY_10H), SERVER),
    "ten seconds": (measurement(clock(duration=10_000), [cell(10_000)]), SERVER),
    "twelve seconds": (measurement(clock(MONDAY_10H + 12_000, 12_000), [cell(12_000)]), SERVER),
    "periods joined while asleep": (measurement(clock(MONDAY_10H + 600_000, 3_000_000)), SERVER),
    "a piece of 1 ms": (with_cell(milliseconds=1, energies=[(0, 3, 0), (1, 0, 0)]), SERVER),
    "a classroom's hour": (measurement(clock(duration=HOUR)), CLASSROOM),
    "a workstation's day": (measurement(DATE, [NIGHT]), WORKSTATION),
    "a workstation's week": (measurement(week(2026, 10)), WORKSTATION),
    "a week of 53": (measurement(week(2020, 53)), WORKSTATION),
    "a 25 hour day": (measurement(DATE, [cell(25 * HOUR, band=pb.BAND_CLOSED)]), WORKSTATION),
    "a meter while off": (PDU_ASLEEP, SERVER),
    "a battery while asleep": (BATTERY_ASLEEP, LAPTOP),
    "a fake source where it may": (measurement(points=[FAKE]), FAKE_ALLOWED),
    "energy at the ceiling": (with_cell(energies=[(0, 5000 * 60_000, 60_000)]), SERVER),
    "a measured zero": (with_cell(energies=[(0, 0, 60_000)], disk_read_bytes=0), SERVER),
    "a gap": (gap(milliseconds=5), SERVER),
    "a gap without anything known": (gap(records=40), WORKSTATION),
    "two days ahead": (measurement(clock(NOW + 47 * HOUR)), SERVER),
    "a unit of a server": (
        with_cell(units=[pb.UnitTime(name="unit:nginx.service", cpu_milliseconds=5)]),
        SERVER,
    ),
    "displays": (
        measurement(
            clock(duration=HOUR),
            [cell(displays=[pb.DisplayTime(size=pb.DISPLAY_SIZE_22_TO_27, milliseconds=120_000)])],
        ),
        LAPTOP,
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_contract_allows_is_accepted(name):
    """Each record comes through whole."""
    record, machine = ACCEPTED[name]
    result = decoded(record, machine)
    wire = record.SerializeToString()
    assert (result.seq, result.wire, result.hash) == (7, wire, record_hash(wire))
    if record.HasField("measurement"):
        assert result.cells == cells_from_wire(wire)
        assert len(result.cells) == len(record.measurement.cells)


_OVER = 2**64 - 1
REFUSED: dict[str, tuple[Any, Machine, Reason]] = {
    "noise": (b"\xff\xff\xff", SERVER, Reason.NOT_A_RECORD),
    "nothing": (b"", SERVER, Reason.NOT_A_RECORD),
    "too large": (bytes(65 * 1024), SERVER, Reason.RECORD_TOO_LARGE),
    "no period": (measurement(pb.Period()), SERVER, Reason.PERIOD_MISSING),
    "a workstation with a clock": (measurement(), WORKSTATION, Reason.PERIOD_KIND_NOT_ALLOWED),
    "a server with a date": (measurement(DATE), SERVER, Reason.PERIOD_KIND_NOT_ALLOWED),
    "a classroom with a week": (measurement(week(2026, 10)), CLASSROOM, Reason.PERIOD_KIND_NOT_ALLOWED),
    "a workstation's gap with a clock": (
        pb.Record(gap=pb.Gap(reason=pb.GAP_REASON_REFUSED, records=1, spans=[pb.GapSpan(period=clock())])),
        WORKSTATION,
        Reason.PERIOD_KIND_NOT_ALLOWED,
    ),
    "30 February": (
        measurement(pb.Period(date=pb.LocalDate(year=2026, month=2, day=30))),
        WORKSTATION,
        Reason.PERIOD_OUT_OF_RANGE,
    ),
    "week 53 of a year of 52": (measurement(week(2026 - 1, 53)), WORKSTATION, Reason.PERIOD_OUT_OF_RANGE),
    "the year 2^32": (measurement(week(2**32 - 1, 1)), WORKSTATION, Reason.PERIOD_OUT_OF_RANGE),
    "1970": (measurement(clock(0)), SERVER, Reason.PERIOD_TOO_OLD),
    "before 1970": (measurement(clock(-60_000)), SERVER, Reason.PERIOD_TOO_OLD),
    "2019 by date": (measurement(day(date(2019, 1, 1)), [NIGHT]), WORKSTATION, Reason.PERIOD_TOO_OLD),
    "the year 3000": (measurement(clock(32_503_680_000_000)), SERVER, Reason.PERIOD_IN_FUTURE),
    "the end of time": (measurement(clock(2**63 - 60_000)), SERVER, Reason.PERIOD_IN_FUTURE),
    "next week by date": (measurement(day(date(2026, 4, 20)), [NIGHT]), WORKSTATION, Reason.PERIOD_IN_FUTURE),
    "9 s": (measurement(clock(duration=9_000)), SERVER, Reason.DURATION_OUT_OF_RANGE),
    "2 h": (measurement(clock(duration=2 * HOUR)), SERVER, Reason.DURATION_OUT_OF_RANGE),
    "unaligned start": (measurement(clock(MONDAY_10H + 1)), SERVER, Reason.PERIOD_NOT_ALIGNED),
    "across the hour": (
        measurement(clock(MONDAY_10H + HOUR - 30_000, 60_000)),
        SERVER,
        Reason.PERIOD_NOT_ALIGNED,
    ),
    "a duration with milliseconds": (
        measurement(clock(MONDAY_10H, 60_001)),
        SERVER,
        Reason.PERIOD_NOT_ALIGNED,
    ),
    "a classroom's minute": (measurement(), CLASSROOM, Reason.GRAIN_TOO_FINE),
    "an offset of 15 h": (
        altered(lambda m: setattr(m.period.clock, "utc_offset_seconds", 54_000)),
        SERVER,
        Reason.OFFSET_OUT_OF_RANGE,
    ),
    "no calendar": (measurement(calendar_sha256=b""), SERVER, Reason.CALENDAR_HASH_LENGTH),
    "no idle rule": (measurement(idle_rule_version=0), SERVER, Reason.IDLE_RULE_OUT_OF_RANGE),
    "an agent of 1 PB": (measurement(max_rss_bytes=2**50), SERVER, Reason.RSS_OUT_OF_RANGE),
    "65 points": (
        measurement(points=[rapl(f"p{i}") for i in range(65)]),
        SERVER,
        Reason.TOO_MANY_POINTS,
    ),
    "a point of no kind": (
        measurement(points=[pb.Point(domain="x", boundary=pb.BOUNDARY_WALL, subject="machine")]),
        SERVER,
        Reason.POINT_UNKNOWN,
    ),
    "a kind from the future": (
        altered(lambda m: setattr(m.points[0], "kind", 99)),
        SERVER,
        Reason.POINT_UNKNOWN,
    ),
    "a boundary of none": (
        altered(lambda m: setattr(m.points[0], "boundary", 0)),
        SERVER,
        Reason.POINT_UNKNOWN,
    ),
    "markup in a domain": (measurement(points=[rapl("<b>")]), SERVER, Reason.POINT_TEXT),
    "a line in a domain": (measurement(points=[rapl("dram\n")]), SERVER, Reason.POINT_TEXT),
    "an empty domain": (measurement(points=[rapl("")]), SERVER, Reason.POINT_TEXT),
    "another subject": (measurement(points=[meter(subject="somebody")]), SERVER, Reason.POINT_TEXT),
    "a point twice": (measurement(points=[rapl(), rapl()]), SERVER, Reason.POINT_REPEATED),
    "a fake source on real data": (measurement(points=[FAKE]), SERVER, Reason.POINT_FAKE),
    "no cell": (altered(lambda m: m.ClearField("cells")), SERVER, Reason.CELLS_MISSING),
    "33 cells": (measurement(cells=[cell(1) for _ in range(33)]), SERVER, Reason.TOO_MANY_CELLS),
    "a band of none": (with_cell(band=0), SERVER, Reason.CELL_UNKNOWN),
    "a state from the future": (with_cell(state=6), SERVER, Reason.CELL_UNKNOWN),
    "a supply of none": (with_cell(supply=0), SERVER, Reason.CELL_UNKNOWN),
    "a cell twice": (measurement(cells=[cell(10), cell(10)]), SERVER, Reason.CELL_REPEATED),
    "an empty cell": (with_cell(milliseconds=0), SERVER, Reason.CELL_EMPTY),
    "cells longer than the period": (with_cell(milliseconds=60_001), SERVER, Reason.CELLS_EXCEED_PERIOD),
    "2^64 ms": (with_cell(milliseconds=_OVER), SERVER, Reason.CELLS_EXCEED_PERIOD),
    "a 26 hour day": (
        measurement(DATE, [cell(26 * HOUR, band=pb.BAND_CLOSED)]),
        WORKSTATION,
        Reason.CELLS_EXCEED_PERIOD,
    ),
    "the open band by the day": (measurement(DATE), WORKSTATION, Reason.BAND_NOT_OF_PERIOD),
    "the night by the week": (measurement(week(2026, 10), [NIGHT]), WORKSTATION, Reason.BAND_NOT_OF_PERIOD),
    "a workstation's network": (
        measurement(week(2026, 10), [cell(network_sent_bytes=0)]),
        WORKSTATION,
        Reason.NOT_ON_WORKSTATIONS,
    ),
    "a workstation's network rates": (
        measurement(week(2026, 10), [cell(network_rate_milliseconds=[0, 0, 0, 0])]),
        WORKSTATION,
        Reason.NOT_ON_WORKSTATIONS,
    ),
    "a classroom's units": (
        measurement(clock(duration=HOUR), [cell(units=[pb.UnitTime(name="unit:a", cpu_milliseconds=1)])]),
        CLASSROOM,
        Reason.SERVERS_ONLY,
    ),
    "load while off": (
        with_cell(state=pb.STATE_OFF, cpu_covered_milliseconds=1),
        SERVER,
        Reason.LOAD_WHILE_NOT_ON,
    ),
    "the agent's time while unknown": (
        with_cell(state=pb.STATE_UNKNOWN, agent_cpu_milliseconds=1),
        SERVER,
        Reason.LOAD_WHILE_NOT_ON,
    ),
    "RAPL while asleep": (
        with_cell(state=pb.STATE_ASLEEP, energies=[(0, 1, 1)]),
        SERVER,
        Reason.ENERGY_WHILE_NOT_ON,
    ),
    "a point that is not there": (with_cell(energies=[(2, 1, 1)]), SERVER, Reason.POINT_INDEX),
    "one point twice in a cell": (with_cell(energies=[(0, 1, 1), (0, 1, 1)]), SERVER, Reason.ENERGY_REPEATED),
    "three energies of two points": (
        with_cell(energies=[(0, 1, 1), (1, 1, 1), (0, 1, 1)]),
        SERVER,
        Reason.ENERGY_REPEATED,
    ),
    "2 J over 0 ms": (with_cell(energies=[(0, 2_000, 0)]), SERVER, Reason.ENERGY_ABOVE_CEILING),
    "energy longer than the cell": (with_cell(energies=[(0, 1, 60_001)]), SERVER, Reason.ENERGY_EXCEEDS_CELL),
    "10 MW": (with_cell(energies=[(0, 10_000_000 * 60_000, 60_000)]), SERVER, Reason.ENERGY_ABOVE_CEILING),
    "2^64 mJ": (with_cell(energies=[(0, _OVER, 60_000)]), SERVER, Reason.ENERGY_ABOVE_CEILING),
    "a laptop of 400 W": (
        measurement(clock(duration=HOUR), [cell(energies=[(0, 400 * 60_000, 60_000)])], [rapl()]),
        LAPTOP,
        Reason.ENERGY_ABOVE_CEILING,
    ),
    "busier than covered": (
        with_cell(cpu_covered_milliseconds=10, cpu_busy_milliseconds=11),
        SERVER,
        Reason.CPU_EXCEEDS,
    ),
    "busy without being covered": (with_cell(cpu_busy_milliseconds=1), SERVER, Reason.CPU_EXCEEDS),
    "covered longer than the cell": (with_cell(cpu_covered_milliseconds=60_001), SERVER, Reason.CPU_EXCEEDS),
    "a core longer than covered": (
        with_cell(cpu_covered_milliseconds=10, any_core_busy_milliseconds=11),
        SERVER,
        Reason.CPU_EXCEEDS,
    ),
    "12 CPU buckets": (with_cell(cpu_bucket_milliseconds=[0] * 12), SERVER, Reason.BUCKETS_LENGTH),
    "6 memory buckets": (with_cell(memory_bucket_milliseconds=[0] * 6), SERVER, Reason.BUCKETS_LENGTH),
    "CPU buckets that are not the covered time": (
        with_cell(cpu_covered_milliseconds=10, cpu_bucket_milliseconds=[9] + [0] * 12),
        SERVER,
        Reason.BUCKETS_SUM,
    ),
    "memory buckets longer than the cell": (
        with_cell(memory_bucket_milliseconds=[60_000, 1, 0, 0, 0]),
        SERVER,
        Reason.BUCKETS_SUM,
    ),
    "beyond 30 more than beyond 15": (
        with_cell(idle_beyond_15_minutes_milliseconds=1, idle_beyond_30_minutes_milliseconds=2),
        SERVER,
        Reason.IDLE_RUNS,
    ),
    "beyond 15 more than the cell": (
        with_cell(idle_beyond_15_minutes_milliseconds=60_001),
        SERVER,
        Reason.IDLE_RUNS,
    ),
    "2^64 bytes": (with_cell(disk_read_bytes=_OVER), SERVER, Reason.BYTES_OUT_OF_RANGE),
    "a GPU longer than the cell": (with_cell(gpu_busy_milliseconds=60_001), SERVER, Reason.GPU_EXCEEDS),
    "an agent of two days": (
        with_cell(agent_cpu_milliseconds=2 * 24 * HOUR),
        SERVER,
        Reason.AGENT_CPU_OUT_OF_RANGE,
    ),
    "an update longer than the cell": (
        with_cell(update_window_milliseconds=60_001),
        SERVER,
        Reason.UPDATE_WINDOW,
    ),
    "an update that is in no energy": (
        with_cell(update_window_energies=[pb.PointEnergy(point_index=0, energy_millijoules=1)]),
        SERVER,
        Reason.UPDATE_WINDOW,
    ),
    "an update with more than the cell's energy": (
        with_cell(
            energies=[(0, 5, 10)],
            update_window_energies=[pb.PointEnergy(point_index=0, energy_millijoules=6)],
        ),
        SERVER,
        Reason.UPDATE_WINDOW,
    ),
    "a display of no size": (with_cell(displays=[pb.DisplayTime(milliseconds=1)]), SERVER, Reason.DISPLAYS),
    "33 displays": (
        with_cell(displays=[pb.DisplayTime(size=pb.DISPLAY_SIZE_UNDER_22, milliseconds=33 * 60_000)]),
        SERVER,
        Reason.DISPLAYS,
    ),
    "a unit that is a path": (
        with_cell(units=[pb.UnitTime(name="unit:/etc", cpu_milliseconds=1)]),
        SERVER,
        Reason.UNITS,
    ),
    "a sensor's gap of no reason": (
        measurement(gaps=[pb.GapTotal(milliseconds=1)]),
        SERVER,
        Reason.GAP_UNKNOWN,
    ),
    "a sensor's gap longer than the period": (
        measurement(gaps=[pb.GapTotal(reason=pb.GAP_REASON_SENSOR_LOST, milliseconds=60_001)]),
        SERVER,
        Reason.SENSOR_GAPS,
    ),
    "a sensor with a capital": (
        measurement(gaps=[pb.GapTotal(reason=pb.GAP_REASON_SENSOR_LOST, milliseconds=1, source="RAPL")]),
        SERVER,
        Reason.SENSOR_GAPS,
    ),
    "a gap of no reason": (gap(reason=0), SERVER, Reason.GAP_UNKNOWN),
    "a gap of no record": (gap(records=0), SERVER, Reason.GAP_OUT_OF_RANGE),
    "a gap of 10^18 ms": (gap(milliseconds=10**18), SERVER, Reason.GAP_OUT_OF_RANGE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_contract_forbids_is_refused_with_its_reason(name):
    """Each with one word."""
    record, machine, reason = REFUSED[name]
    assert refused(record, machine) == reason


def test_every_reason_is_met_and_documented():
    """No rule without a test, none without its line in docs/wire.md."""
    assert {reason for _, _, reason in REFUSED.values()} == set(Reason)
    text = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
    assert [reason for reason in Reason if f"`{reason}`" not in text] == []


def test_the_words_are_those_of_the_contract():
    """The number of each word is that of the enum value of its name."""
    for words in (Band, State, Supply, PointKind, Boundary, GapReason, Population, DeviceClass):
        enum = pb.DESCRIPTOR.enum_types_by_name[words.__name__]
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", words.__name__).upper() + "_"
        named = {
            value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number
        }
        assert {word.value: number(word) for word in words} == named


def test_a_newer_agent_s_unknown_fields_are_tolerated():
    """Field 200 of a Record, and of a Measurement, say nothing to us and are kept in the bytes."""
    extra = b"\xc2\x0c\x03abc"  # field 200, length-delimited
    wire = realistic(MONDAY_10H).SerializeToString() + extra
    assert decoded(wire).wire == wire
    inside = realistic(MONDAY_10H).measurement.SerializeToString() + extra
    assert len(decoded(b"\x0a" + _varint(len(inside)) + inside).cells) == 2


def test_the_period_becomes_the_key():
    """Clock: its own start and length; dates and weeks: day numbers, and the sum of the cells."""
    assert decoded(realistic(MONDAY_10H)).period == RecordPeriod(Grain.HOUR, MONDAY_10H, 300_000)
    of_day = decoded(measurement(DATE, [NIGHT]), WORKSTATION).period
    assert of_day == RecordPeriod(Grain.DAY, date(2026, 3, 4).toordinal(), 60_000)
    of_week = decoded(measurement(week(2026, 10)), WORKSTATION).period
    assert of_week == RecordPeriod(Grain.WEEK, date(2026, 3, 2).toordinal(), 60_000)


def test_each_sum_arrives_under_its_own_name():
    """Distinct values in every field of a cell: none is swapped with a neighbour, and the rest stay absent."""
    values: dict[str, Any] = {name: 100 - place for place, name in enumerate(SUM_FIELDS)}
    values["cpu_bucket_milliseconds"] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22]
    values["memory_bucket_milliseconds"] = [1, 2, 3, 4, 5]
    values["network_rate_milliseconds"] = [9, 8, 7, 6]
    (one,) = decoded(with_cell(**values)).cells
    for name, value in values.items():
        assert getattr(one, name) == (tuple(value) if isinstance(value, list) else value), name
    (bare,) = decoded(with_cell()).cells
    assert all(getattr(bare, name) in (None, ()) for name in values)


# --- the push as a whole


def test_the_chain_is_recomputed_from_chain_before():
    """Each record carries the chain up to itself."""
    wires = [realistic(MONDAY_10H).SerializeToString(), gap().SerializeToString()]
    request = pb.PushRequest(epoch=b"12345678", first_seq=5, chain_before=bytes(32), records=wires)
    push = check_push(request, HostId(3), SERVER, NOW)
    assert isinstance(push, ValidPush)
    one = chain_next(bytes(32), wires[0])
    assert [(r.seq, r.chain) for r in push.records] == [(5, one), (6, chain_next(one, wires[1]))]


def test_all_refusals_of_a_push_are_told_at_once():
    """(seq, reason) of each bad record; the good ones are not stored either."""
    wires = [realistic(MONDAY_10H).SerializeToString(), b"", measurement(clock(0)).SerializeToString()]
    request = pb.PushRequest(epoch=b"12345678", first_seq=5, chain_before=bytes(32), records=wires)
    assert check_push(request, HostId(3), SERVER, NOW) == (
        (6, Reason.NOT_A_RECORD),
        (7, Reason.PERIOD_TOO_OLD),
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epoch": b"short"}, "epoch_length"),
        ({"chain_before": b""}, "chain_length"),
        ({"first_seq": 0}, "seq_out_of_range"),
        ({"first_seq": 2**64 - 1}, "seq_out_of_range"),
        ({"records": []}, "record_count"),
        ({"records": [b"x"] * 1025}, "record_count"),
        ({"records": [b"x" * 60_000] * 9}, "push_too_large"),
    ],
)
def test_a_request_that_is_no_push_is_malformed(change, reason):
    """Never stored, never retried as it is."""
    fields = {"epoch": b"12345678", "first_seq": 1, "chain_before": bytes(32), "records": [b"x"], **change}
    with pytest.raises(MalformedRequest) as caught:
        check_push(pb.PushRequest(**fields), HostId(1), SERVER, NOW)
    assert caught.value.reason == reason


# --- mutation


def test_mutated_bytes_never_crash_and_never_pass_wrongly():
    """S7: byte mutations of sound records: refused with a reason, or sound by an oracle of its own; 100,000 in all."""
    chance = random.Random(20260302)
    sound = [record.SerializeToString() for record, _ in ACCEPTED.values() if record.HasField("measurement")]
    machines = [SERVER, CLASSROOM, LAPTOP, WORKSTATION]
    accepted = 0
    reasons: set[Reason] = set()
    for turn in range(100_000):
        wire = _mutated(chance, sound)
        machine = machines[turn % 4]
        try:
            result = check_record(1, wire, bytes(32), machine, NOW)
        except RecordRefused as error:
            reasons.add(Reason(error.reason))
            continue
        accepted += 1
        _assert_sound(result, wire, machine)
    assert accepted > 500, "the mutations are not all hopeless"
    assert len(reasons) > 25, "nor all refused for the same thing"


@hypothesis_settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_poisoned_values_never_pass(data):
    """S12: any value in any sum: what comes through is within the record's own time and power."""
    extreme = st.one_of(st.integers(0, 70_000), st.sampled_from([0, 2**31, 2**53, 2**63, 2**64 - 1]))
    names = [
        "cpu_covered_milliseconds",
        "cpu_busy_milliseconds",
        "any_core_busy_milliseconds",
        "idle_beyond_15_minutes_milliseconds",
        "disk_read_bytes",
        "network_sent_bytes",
        "gpu_busy_milliseconds",
    ]
    fields = {name: data.draw(extreme) for name in data.draw(st.sets(st.sampled_from(names)))}
    energies = [(i, data.draw(extreme), data.draw(extreme)) for i in range(data.draw(st.integers(0, 2)))]
    record = with_cell(milliseconds=data.draw(extreme), energies=energies, **fields)
    try:
        result = decoded(record)
    except RecordRefused:
        return
    _assert_sound(result, record.SerializeToString(), SERVER)


def test_empty_sub_messages_cost_little():
    """S8: a record of 64 KiB of empty cells is refused in little time and memory; a larger one is not even parsed."""
    bomb = b"\x0a\xfc\xff\x03" + b"\x2a\x00" * 32_766
    assert len(bomb) <= 64 * 1024
    tracemalloc.start()
    began = time.monotonic()
    for _ in range(20):
        assert refused(bomb) in {Reason.PERIOD_MISSING, Reason.NOT_A_RECORD}
    assert time.monotonic() - began < 2
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def _mutated(chance: random.Random, sound: list[bytes]) -> bytes:
    wire = bytearray(chance.choice(sound))
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        kind = chance.randrange(5)
        position = chance.randrange(len(wire))
        if kind == 0:
            wire[position] = chance.randrange(256)
        elif kind == 1:
            wire[position] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del wire[position : position + chance.randrange(1, 4)]
        elif kind == 3:
            wire[position:position] = chance.randbytes(chance.randrange(1, 4))
        else:
            other = chance.choice(sound)
            wire[position:] = other[chance.randrange(len(other)) :]
        if not wire:
            return b""
    return bytes(wire)


def _assert_sound(result: DecodedRecord, wire: bytes, machine: Machine) -> None:
    """What must hold of anything accepted, written from telemetry.proto, not from the validator."""
    body = pb.Record.FromString(wire)
    if result.period is None:
        assert body.WhichOneof("body") == "gap"
        assert 1 <= body.gap.reason <= 7
        assert 1 <= result.gap_records <= 2**40
        return
    period = body.measurement.period
    assert (period.WhichOneof("kind") == "clock") is (machine.population is not Population.WORKSTATION)
    limit = {"clock": period.clock.duration_milliseconds, "date": 90_000_000, "week": 608_400_000}[
        period.WhichOneof("kind")
    ]
    if period.HasField("clock"):
        start = period.clock.start_unix_milliseconds
        assert start // HOUR == (start + limit - 1) // HOUR, "one UTC hour"
        assert 1_577_836_800_000 <= start <= NOW + 48 * HOUR
        assert limit % 1000 == 0
    assert sum(cell.milliseconds for cell in result.cells) <= limit
    assert 1 <= len(result.cells) <= 32
    assert len({(cell.band, cell.state, cell.supply) for cell in result.cells}) == len(result.cells)
    watts = 300 if machine.device_class is DeviceClass.LAPTOP else 5000
    for one, raw in zip(result.cells, body.measurement.cells, strict=True):
        assert all(0 <= value < 2**63 for value in _integers(raw))
        assert (one.cpu_busy_milliseconds or 0) <= (one.cpu_covered_milliseconds or 0) <= one.milliseconds
        assert sum(one.cpu_bucket_milliseconds) in (0, one.cpu_covered_milliseconds or 0)
        assert sum(one.memory_bucket_milliseconds) <= one.milliseconds
        assert sum(one.network_rate_milliseconds) <= one.milliseconds
        beyond = (
            one.idle_beyond_15_minutes_milliseconds or 0,
            one.idle_beyond_30_minutes_milliseconds or 0,
            one.idle_beyond_60_minutes_milliseconds or 0,
        )
        assert one.milliseconds >= beyond[0] >= beyond[1] >= beyond[2]
        if machine.population is Population.WORKSTATION:
            assert one.disk_read_bytes is one.network_sent_bytes is None
        for point, energy, covered in one.energies:
            ceiling = watts if point.subject == "machine" else 200_000
            assert 0 <= covered <= one.milliseconds
            assert energy <= ceiling * covered + 1000
            assert re.fullmatch(r"[A-Za-z0-9 ._-]{1,64}", point.domain)
            assert point.kind is not PointKind.FAKE


def _integers(raw: Any) -> list[int]:
    return [value for _, value in raw.ListFields() if isinstance(value, int)]


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


# --- facts and health


def test_facts_keep_what_fits_and_lose_the_rest():
    """A name with markup, a CPU count of 10^9 and a point of no kind are dropped; the rest stands; unknown fields go."""
    facts = pb.Facts(
        device_class=pb.DEVICE_CLASS_LAPTOP,
        vendor="Dell Inc.",
        model="<script>",
        cpu_count=10**9,
        memory_bytes=8 * 2**30,
        hard_disks=0,
        points=[rapl(), pb.Point(domain="x")],
        displays=[pb.DisplayCount(size=pb.DISPLAY_SIZE_22_TO_27, count=1), pb.DisplayCount(count=1)],
    )
    dirty = pb.Facts.FromString(facts.SerializeToString() + b"\xc2\x0c\x03abc")
    clean = clean_facts(dirty)
    assert b"abc" not in clean
    kept = facts_from_wire(clean)
    assert (kept.device_class, kept.vendor, kept.model) == (DeviceClass.LAPTOP, "Dell Inc.", None)
    assert (kept.cpu_count, kept.memory_bytes, kept.hard_disks) == (None, 8 * 2**30, 0)
    assert [point.domain for point in kept.points] == ["package-0"]
    assert len(pb.Facts.FromString(clean).displays) == 1
    assert facts_from_wire(clean_facts(pb.Facts.FromString(b"\x08\x4d"))).device_class is DeviceClass.UNKNOWN


def test_health_keeps_what_fits():
    """Sources with odd names go; numbers are bounded."""
    health = pb.Health(
        agent_version="0.1.0",
        spool_records=2**64 - 1,
        drops=[pb.DropTotal(reason=pb.GAP_REASON_SPOOL_CAP, records=3), pb.DropTotal(records=3)],
        sources=[
            pb.SourceHealth(name="linux_rapl", successes=5, unavailable="no_permission"),
            pb.SourceHealth(name="Évil", successes=5),
        ],
        resident_rss_bytes=18_000_000,
    )
    kept = health_from_wire(clean_health(health))
    assert kept.spool_records == 2**48
    assert kept.drops == ((GapReason.SPOOL_CAP, 3),)
    assert [(source.name, source.unavailable) for source in kept.sources] == [("linux_rapl", "no_permission")]
    assert (kept.resident_rss_bytes, kept.resident_cpu_milliseconds) == (18_000_000, None)
