# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the validator: one case a rule of the contract. S7, S8, S12."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.support.pushes import (
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
from tests.support.sound import (
    ACCEPTED,
    CLASSROOM,
    DATE,
    FAKE,
    LAPTOP,
    NIGHT,
    altered,
    decoded,
    meter,
    refused,
    with_cell,
)
from veilleuse.collector.errors import MalformedRequest
from veilleuse.collector.model.records import Grain, HostId, Reason, RecordPeriod, ValidPush
from veilleuse.collector.validate import MachineLimits, check_push
from veilleuse.collector.wire_codec import cells_from_wire, number
from veilleuse.wire.chain import chain_next, record_hash
from veilleuse.wire.limits import CELL_BUCKETS, CELL_SUMS
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


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_the_contract_allows_is_accepted(name):
    """Each record is decoded completely."""
    record, machine = ACCEPTED[name]
    result = decoded(record, machine)
    wire = record.SerializeToString()
    assert (result.seq, result.wire, result.hash) == (7, wire, record_hash(wire))
    if record.HasField("measurement"):
        assert result.cells == cells_from_wire(wire)
        assert len(result.cells) == len(record.measurement.cells)


_OVER = 2**64 - 1
REFUSED: dict[str, tuple[Any, MachineLimits, Reason]] = {
    "noise": (b"\xff\xff\xff", SERVER, Reason.NOT_A_RECORD),
    "nothing": (b"", SERVER, Reason.NOT_A_RECORD),
    "too large": (bytes(65 * 1024), SERVER, Reason.RECORD_TOO_LARGE),
    "no period": (measurement(pb.Period()), SERVER, Reason.PERIOD_MISSING),
    "a workstation with a clock": (measurement(), WORKSTATION, Reason.PERIOD_KIND_NOT_ALLOWED),
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
    "no calendar": (measurement(calendar_sha256=b""), SERVER, Reason.CALENDAR_HASH_LENGTH),
    "no idle rule": (measurement(idle_rule_version=0), SERVER, Reason.IDLE_RULE_OUT_OF_RANGE),
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
        with_cell(state=pb.STATE_UNKNOWN, any_core_busy_milliseconds=1),
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
    "a span of 500 days": (gap(milliseconds=500 * 86_400_000), SERVER, Reason.GAP_OUT_OF_RANGE),
    "a gap of 1,000 years": (
        pb.Record(
            gap=pb.Gap(
                reason=pb.GAP_REASON_SPOOL_CAP,
                records=1,
                spans=[pb.GapSpan(milliseconds=400 * 86_400_000)] * 913,
            )
        ),
        SERVER,
        Reason.GAP_OUT_OF_RANGE,
    ),
    "a gap of 10^12 records": (gap(records=10**12), SERVER, Reason.GAP_OUT_OF_RANGE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_contract_forbids_is_refused_with_its_reason(name):
    """The refusal has one word."""
    record, machine, reason = REFUSED[name]
    assert refused(record, machine) == reason


@pytest.mark.parametrize("name", [*CELL_SUMS, *CELL_BUCKETS])
def test_no_sum_exceeds_its_cell(name: str):
    """A sum or a bucket list above the cell's 60 s is refused: without a range any number is stored."""
    size = CELL_BUCKETS.get(name)
    value = [60_001, *[0] * (size - 1)] if size else 60_001
    assert refused(with_cell(**{name: value})) in set(Reason)


ONLY_THE_STORE = {Reason.PERIOD_FULL, Reason.TOO_MANY_POINTS_OF_HOST, Reason.NOT_STORABLE}
"""tests/conformance covers these reasons."""


def test_every_reason_is_met_and_documented():
    """Every reason has a case here and a line in docs/wire.md."""
    assert {reason for _, _, reason in REFUSED.values()} == set(Reason) - ONLY_THE_STORE
    text = (Path(__file__).parents[4] / "docs" / "wire.md").read_text(encoding="utf-8")
    assert [reason for reason in Reason if f"`{reason}`" not in text] == []


def test_the_words_are_those_of_the_contract():
    """Each word has the number of the enum value of its name."""
    for words in (Band, State, Supply, PointKind, Boundary, GapReason, Population, DeviceClass):
        enum = pb.DESCRIPTOR.enum_types_by_name[words.__name__]
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", words.__name__).upper() + "_"
        named = {
            value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number
        }
        assert {word.value: number(word) for word in words} == named


def test_a_newer_agent_s_unknown_fields_are_tolerated():
    """Field 200 of a Record and of a Measurement is ignored, and kept in the bytes."""
    extra = b"\xc2\x0c\x03abc"  # field 200, length-delimited
    wire = realistic(MONDAY_10H).SerializeToString() + extra
    assert decoded(wire).wire == wire
    inside = realistic(MONDAY_10H).measurement.SerializeToString() + extra
    assert len(decoded(b"\x0a" + _varint(len(inside)) + inside).cells) == 2


def test_the_period_becomes_the_key():
    """A clock period has its start and length; dates and weeks have day numbers and their cells' sum."""
    assert decoded(realistic(MONDAY_10H)).period == RecordPeriod(Grain.HOUR, MONDAY_10H, 300_000)
    of_day = decoded(measurement(DATE, [NIGHT]), WORKSTATION).period
    assert of_day == RecordPeriod(Grain.DAY, date(2026, 3, 4).toordinal(), 60_000)
    of_week = decoded(measurement(week(2026, 10)), WORKSTATION).period
    assert of_week == RecordPeriod(Grain.WEEK, date(2026, 3, 2).toordinal(), 60_000)


def test_each_sum_arrives_under_its_own_name():
    """With distinct values in every field of a cell, none is swapped, and the others stay absent."""
    values: dict[str, Any] = {name: 100 - place for place, name in enumerate(CELL_SUMS)}
    values["cpu_bucket_milliseconds"] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22]
    values["memory_bucket_milliseconds"] = [1, 2, 3, 4, 5]
    values["network_rate_milliseconds"] = [9, 8, 7, 6]
    (one,) = decoded(with_cell(**values)).cells
    for name, value in values.items():
        assert getattr(one, name) == (tuple(value) if isinstance(value, list) else value), name
    (bare,) = decoded(with_cell()).cells
    assert all(getattr(bare, name) in (None, ()) for name in values)


def test_what_few_cells_have_arrives_too():
    """Displays by size, energy inside update windows by point, and units by name are decoded."""
    (one,) = decoded(
        with_cell(
            energies=[(0, 90, 60_000), (1, 50, 60_000)],
            update_window_milliseconds=9,
            update_window_energies=[
                pb.PointEnergy(point_index=1, energy_millijoules=7, covered_milliseconds=8)
            ],
            displays=[
                pb.DisplayTime(size=pb.DISPLAY_SIZE_UNKNOWN, milliseconds=4),
                pb.DisplayTime(size=pb.DISPLAY_SIZE_22_TO_27, milliseconds=2),
            ],
            units=[pb.UnitTime(name="unit:nginx", cpu_milliseconds=3), pb.UnitTime(name="guest:7")],
        )
    ).cells
    assert one.display_milliseconds == (0, 2, 0, 4)
    assert [(point.domain, *rest) for point, *rest in one.update_window_energies] == [("dram", 7, 8)]
    assert one.units == (("unit:nginx", 3), ("guest:7", 0))
    (bare,) = decoded(with_cell()).cells
    assert (bare.display_milliseconds, bare.update_window_energies, bare.units) == ((), (), ())


# --- the push as a whole


def test_the_chain_is_recomputed_from_chain_before():
    """Each record has the chain up to itself."""
    wires = [realistic(MONDAY_10H).SerializeToString(), gap().SerializeToString()]
    request = pb.PushRequest(epoch=b"12345678", first_seq=5, chain_before=bytes(32), records=wires)
    push = check_push(request, HostId(3), SERVER, NOW)
    assert isinstance(push, ValidPush)
    one = chain_next(bytes(32), wires[0])
    assert [(r.seq, r.chain) for r in push.records] == [(5, one), (6, chain_next(one, wires[1]))]


def test_all_refusals_of_a_push_are_told_at_once():
    """The answer has (seq, reason) of each bad record, and no good one is stored."""
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
    """A malformed request is never stored, nor retried as it is."""
    fields = {"epoch": b"12345678", "first_seq": 1, "chain_before": bytes(32), "records": [b"x"], **change}
    with pytest.raises(MalformedRequest) as caught:
        check_push(pb.PushRequest(**fields), HostId(1), SERVER, NOW)
    assert caught.value.reason == reason


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
