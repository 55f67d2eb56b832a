# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counting sub-messages in the bytes: what a parser would find, without the objects."""

from __future__ import annotations

import random
import time
import tracemalloc
from typing import Any

import pytest

from tests.support.pushes import MONDAY_10H, cell, clock, gap, measurement, realistic
from tests.support.sound import refused
from veilleuse.collector.errors import MalformedRequest
from veilleuse.collector.model.records import Reason
from veilleuse.collector.validate.messages import find_crowded_field, find_crowded_inside, parse_push
from veilleuse.wire.v1 import telemetry_pb2 as pb

EMPTY_CELL = b"\x2a\x00"


def test_the_count_is_the_parser_s():
    """Of records and of cells, at the bound and one beyond it."""
    request = pb.PushRequest(epoch=bytes(8), first_seq=2**40, chain_before=bytes(32), records=[b"abc"] * 300)
    wire = request.SerializeToString()
    assert find_crowded_field(wire, {4: 300}) is None
    assert find_crowded_field(wire, {4: 299}) == 4
    record = realistic(MONDAY_10H)
    assert len(record.measurement.cells) == len(record.measurement.points) == 2
    wire = record.SerializeToString()
    assert find_crowded_inside(wire, 1, {4: 2, 5: 2}) is None
    assert find_crowded_inside(wire, 1, {4: 2, 5: 1}) == 5
    assert find_crowded_inside(wire + wire, 1, {5: 3}) == 5, (
        "a message that comes twice is one message to a parser"
    )
    assert find_crowded_inside(gap().SerializeToString(), 1, {5: 0}) is None


def test_nonsense_ends_the_count_and_nothing_else():
    """Whatever the bytes: no exception, and an end."""
    chance = random.Random(4)
    sound = realistic(MONDAY_10H).SerializeToString()
    for _ in range(5_000):
        wire = bytearray(sound)
        for _ in range(3):
            wire[chance.randrange(len(wire))] = chance.randrange(256)
        find_crowded_field(bytes(wire), {1: 5})
        find_crowded_inside(bytes(wire), 1, {5: 1})
    for nonsense in (b"", b"\xff" * 100, b"\x80", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b", bytes(100)):
        assert find_crowded_inside(nonsense, 1, {5: 1}) is None


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"\x0a\xfc\xff\x03" + EMPTY_CELL * 32_766, Reason.TOO_MANY_CELLS),
        (b"\x0a\xfc\xff\x03" + b"\x22\x00" * 32_766, Reason.TOO_MANY_POINTS),
        (b"\x0a\xfc\xff\x03" + b"\x32\x00" * 32_766, Reason.SENSOR_GAPS),
        (b"\x12\xfc\xff\x03" + b"\x12\x00" * 32_766, Reason.GAP_OUT_OF_RANGE),
    ],
)
def test_a_record_of_empty_sub_messages_costs_little(record: bytes, reason: Reason):
    """S8: 64 KiB of them are refused in little time, and nothing is made of them."""
    assert len(record) <= 64 * 1024
    tracemalloc.start()
    began = time.process_time()
    for _ in range(20):
        assert refused(record) is reason
    assert time.process_time() - began < 2
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_push_of_empty_records_is_never_parsed():
    """524,288 of them: refused by their number."""
    with pytest.raises(MalformedRequest) as caught:
        parse_push(b"\x22\x00" * 524_288)
    assert caught.value.reason == "record_count"


def test_a_long_record_that_is_sound_passes():
    """32 cells of 64 energies: above the length from which records are looked at, and nothing is wrong with
    it."""
    points = [
        pb.Point(kind=pb.POINT_KIND_RAPL, domain=f"p{i}", boundary=pb.BOUNDARY_COMPONENT, subject="machine")
        for i in range(64)
    ]
    keys: list[tuple[Any, Any, Any]] = [
        (band, state, supply) for band in (1, 2, 3) for state in (1, 2) for supply in (1, 2, 3)
    ]
    cells = [
        cell(1_000, band=band, state=state, supply=supply, energies=[(i, 9, 1_000) for i in range(64)])
        for band, state, supply in keys
    ]
    record = measurement(clock(), cells, points)
    assert record.ByteSize() > 8 * 1024
    with pytest.raises(pytest.fail.Exception):
        refused(record)
