# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that the recorded exchange of each released wire version still decodes. The records are never
rewritten.

v1_push.binpb is a PushRequest and v1_hello.binpb a HelloRequest, as 0.1 sent them. v1_sums.json has the
push's sums. Their bytes contain fields that are reserved since then.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.unknown_fields import UnknownFieldSet

from veilleuse.agent.model import (
    Cell,
    ClockPeriod,
    DatePeriod,
    Gap,
    Point,
    Record,
    WeekPeriod,
)
from veilleuse.agent.sending.encode import encode_gap, encode_record
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, Boundary, GapReason, PointKind, State, Supply

GOLDEN = Path(__file__).parents[2] / "fixtures/golden/wire"
EPOCH = bytes.fromhex("0123456789abcdef")
PACKAGE = Point(PointKind.RAPL, "package-0", Boundary.COMPONENT)
DRAM = Point(PointKind.RAPL, "dram", Boundary.COMPONENT)
PLUG = Point(PointKind.PLUG, "outlet 1", Boundary.WALL, "meter:7")
BATTERY = Point(PointKind.BATTERY_OUT, "BAT0", Boundary.MACHINE_DC)


def server() -> Record:
    """Return five minutes of a server in two states."""
    busy = Cell(
        milliseconds=200_000,
        energies={PACKAGE: (12_345_678, 200_000), DRAM: (1_234_567, 190_000), PLUG: (20_000_001, 200_000)},
        sums={
            "cpu_covered_milliseconds": 200_000,
            "cpu_busy_milliseconds": 91_500,
            "any_core_busy_milliseconds": 40_000,
        },
        buckets={
            "cpu_bucket_milliseconds": [0, 0, 0, 0, 0, 0, 60_000, 140_000, 0, 0, 0, 0, 0],
            "memory_bucket_milliseconds": [0, 200_000, 0, 0, 0],
            "network_rate_milliseconds": [0, 0, 0, 200_000],
        },
    )
    idle = Cell(
        100_000, {PACKAGE: (0, 100_000)}, {"cpu_covered_milliseconds": 100_000, "cpu_busy_milliseconds": 0}
    )
    return Record(
        period=ClockPeriod(1_772_442_000_000, 300_000),
        calendar_sha256="",
        idle_rule_version=1,
        cells={(Band.OPEN, State.ON_ACTIVE, Supply.AC): busy, (Band.OPEN, State.ON_IDLE, Supply.AC): idle},
        gaps={(GapReason.SENSOR_LOST, "linux_rapl"): 10_000},
    )


def workstation_day() -> Record:
    """Return the closed and night bands of a workstation's day, partly on battery."""
    cells = {
        (Band.CLOSED, State.ON_IDLE, Supply.BATTERY): Cell(600_000, {BATTERY: (4_200_000, 600_000)}),
        (Band.CLOSED, State.OFF, Supply.AC): Cell(20_400_000),
        (Band.NIGHT, State.ASLEEP, Supply.UNKNOWN): Cell(1),
        (Band.NIGHT, State.UNKNOWN, Supply.UNKNOWN): Cell(28_799_999),
    }
    return Record(DatePeriod(date(2026, 3, 2)), "5a" * 32, 1, cells, {})


def workstation_week() -> Record:
    """Return the open band of that day's week."""
    sums = {"idle_beyond_15_minutes_milliseconds": 900_000, "idle_beyond_30_minutes_milliseconds": 0}
    cells = {(Band.OPEN, State.ON_IDLE, Supply.AC): Cell(180_000_000, {}, sums)}
    return Record(WeekPeriod(2026, 10), "5a" * 32, 1, cells, {})


def push() -> pb.PushRequest:
    """Return the recorded push."""
    lost = Gap(GapReason.SPOOL_CAP, ((DatePeriod(date(2026, 3, 1)), 86_400_000), (None, 5)), 2)
    wires = [encode_record(server()), encode_record(workstation_day()), encode_record(workstation_week())]
    return pb.PushRequest(
        epoch=EPOCH, first_seq=1, chain_before=chain_start(EPOCH), records=[*wires, encode_gap(lost)]
    )


def hello() -> pb.HelloRequest:
    """Return the recorded Hello with facts and health."""
    return pb.HelloRequest(
        epoch=EPOCH,
        last_seq=4,
        protocol=pb.ProtocolRange(minimum=1, maximum=1),
        instance_id=bytes(range(16)),
        calendar=pb.DocumentStatus(
            sha256=hashlib.sha256(DEFAULT_CALENDAR.to_json().encode()).digest(),
            state=pb.APPLIED_STATE_CONFIRMED,
        ),
        facts=pb.Facts(
            device_class=pb.DEVICE_CLASS_SERVER,
            vendor="Dell Inc.",
            model="PowerEdge R640",
            cpu_count=48,
            memory_bytes=201_454_000_000,
            virtualisation="none",
        ),
        health=pb.Health(
            agent_version="0.1.0",
            spool_records=4,
            spool_bytes=40_960,
            drops=[pb.DropTotal(reason=pb.GAP_REASON_SPOOL_CAP, records=2)],
            sources=[
                pb.SourceHealth(name="linux_rapl", successes=8_640, failures=1),
                pb.SourceHealth(name="linux_battery", unavailable="no_device"),
            ],
            resident_cpu_milliseconds=9_000,
            resident_rss_bytes=19_000_000,
        ),
    )


def known(message: Any) -> Any:
    """Remove fields that 0.1 sent and the contract has reserved since; fail for any other unknown field."""
    proto = DescriptorProto()
    message.DESCRIPTOR.CopyToProto(proto)
    reserved = {number for span in proto.reserved_range for number in range(span.start, span.end)}
    unknown = UnknownFieldSet(message)
    assert {unknown[place].field_number for place in range(len(unknown))} <= reserved, message.DESCRIPTOR.name
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                known(one)
    message.DiscardUnknownFields()
    return message


def test_todays_encoder_still_writes_the_recorded_bytes():
    """Apart from reserved fields, today's encoder writes the bytes that 0.1 did."""
    recorded = pb.PushRequest.FromString((GOLDEN / "v1_push.binpb").read_bytes())
    for was, now in zip(recorded.records, push().records, strict=True):
        assert known(pb.Record.FromString(was)).SerializeToString(deterministic=True) == now
    opening = known(pb.HelloRequest.FromString((GOLDEN / "v1_hello.binpb").read_bytes()))
    assert opening.SerializeToString(deterministic=True) == hello().SerializeToString(deterministic=True)


def test_every_recorded_batch_decodes():
    """Each recorded push has no unknown field but reserved ones, a valid chain, and its recorded sums."""
    files = sorted(GOLDEN.glob("*_push.binpb"))
    assert files
    for file in files:
        content = file.read_bytes()
        request = pb.PushRequest.FromString(content)
        assert request.SerializeToString(deterministic=True) == content
        chain = request.chain_before
        assert chain == chain_start(request.epoch)
        for wire in request.records:
            known(pb.Record.FromString(wire))
            chain = chain_next(chain, wire)
        expected = json.loads(file.with_name(file.name.replace("_push.binpb", "_sums.json")).read_text())
        assert sums(request, chain).items() <= expected.items()


def test_every_recorded_hello_decodes():
    """Each recorded Hello has its facts and health."""
    for file in sorted(GOLDEN.glob("*_hello.binpb")):
        request = known(pb.HelloRequest.FromString(file.read_bytes()))
        assert request.facts.model == "PowerEdge R640"
        assert request.health.drops[0].records == 2
        assert request.health.sources[1].unavailable == "no_device"


def sums(request: pb.PushRequest, chain: bytes) -> dict[str, int | str]:
    """Return the sums of a push."""
    records = [pb.Record.FromString(wire) for wire in request.records]
    cells = [cell for one in records for cell in one.measurement.cells]
    return {
        "records": len(records),
        "cells": len(cells),
        "milliseconds": sum(cell.milliseconds for cell in cells),
        "energy_millijoules": sum(energy.energy_millijoules for cell in cells for energy in cell.energies),
        "measured_zero_energies": sum(
            energy.energy_millijoules == 0 for cell in cells for energy in cell.energies
        ),
        "cpu_busy_milliseconds": sum(cell.cpu_busy_milliseconds for cell in cells),
        "cells_without_cpu": sum(not cell.HasField("cpu_busy_milliseconds") for cell in cells),
        "lost_milliseconds": sum(span.milliseconds for one in records for span in one.gap.spans),
        "lost_records": sum(one.gap.records for one in records),
        "chain": chain.hex(),
    }
