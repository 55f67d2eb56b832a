# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Mutated bytes and poisoned values against an oracle that shares no code with the validator. S7, S8, S12."""

from __future__ import annotations

import random
import re
import time
import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.pushes import (
    HOUR,
    NOW,
    SERVER,
    WORKSTATION,
)
from tests.unit.collector.sound import (
    ACCEPTED,
    CLASSROOM,
    LAPTOP,
    decoded,
    refused,
    with_cell,
)
from veilleuse.collector.errors import RecordRefused
from veilleuse.collector.model import DecodedRecord
from veilleuse.collector.validate import Machine, Reason
from veilleuse.collector.validate.push import check_record
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import (
    DeviceClass,
    PointKind,
    Population,
)


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
        assert refused(bomb) is Reason.TOO_MANY_CELLS
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
