# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Count sub-messages in bytes as a parser would; keep or drop facts and health of a Hello by field. S16."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import fields
from typing import Any

import pytest

from tests.support.pushes import MONDAY_10H, cell, clock, gap, measurement, rapl, realistic
from tests.support.sound import refused
from tests.support.steps import counted
from veilleuse.collector.errors import MalformedRequest
from veilleuse.collector.model.records import Reason
from veilleuse.collector.validate import clean_facts, clean_health
from veilleuse.collector.validate.messages import find_crowded_field, find_crowded_inside, parse_push
from veilleuse.collector.wire_codec import cells_from_measurement, facts_from_wire, health_from_wire
from veilleuse.wire.limits import DISPLAY_BUCKETS
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass, GapReason

EMPTY_CELL = b"\x2a\x00"


def test_the_count_is_the_parser_s():
    """Records and cells are counted as a parser would, at the bound and one beyond it."""
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
    """Any bytes end the count without an exception."""
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
    """S8: 64 KiB of empty sub-messages are refused within few steps and little memory."""
    assert len(record) <= 64 * 1024
    tracemalloc.start()
    assert refused(record) is reason
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert counted(lambda: refused(record))[1] < 40_000, "all sub-messages were read"


def test_a_push_of_empty_records_is_never_parsed():
    """A push of 524,288 empty records is refused by their number."""
    with pytest.raises(MalformedRequest) as caught:
        parse_push(b"\x22\x00" * 524_288)
    assert caught.value.reason == "record_count"


def test_a_long_record_that_is_sound_passes():
    """A valid record of 18 cells with 64 energies, long enough to be counted, is accepted."""
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


def test_facts_keep_what_fits_and_lose_the_rest():
    """A name with markup, a CPU count of 10^9 and unknown fields (0.1's `os_type` too) are dropped."""
    facts = pb.Facts(
        device_class=pb.DEVICE_CLASS_LAPTOP,
        vendor="Dell Inc.",
        model="<script>",
        cpu_count=10**9,
        memory_bytes=8 * 2**30,
        hard_disks=0,
    )
    dirty = pb.Facts.FromString(facts.SerializeToString() + b"\xc2\x0c\x03abc" + b"\x6a\x05linux")
    clean = clean_facts(dirty)
    assert b"abc" not in clean
    assert b"linux" not in clean
    kept = facts_from_wire(clean)
    assert (kept.device_class, kept.vendor, kept.model) == (DeviceClass.LAPTOP, "Dell Inc.", None)
    assert (kept.cpu_count, kept.memory_bytes, kept.hard_disks) == (None, 8 * 2**30, 0)
    assert facts_from_wire(clean_facts(pb.Facts.FromString(b"\x08\x4d"))).device_class is DeviceClass.UNKNOWN


def test_health_keeps_what_fits():
    """Sources with invalid names are dropped, and numbers are bounded."""
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


def filled(message: Any) -> Any:
    """Fill every field, at every depth, with a value that validation allows."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            filled(getattr(message, field.name).add())
            continue
        # 1 is the first real value of each enum
        value: Any = "word" if field.cpp_type == field.CPPTYPE_STRING else 1
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


@pytest.mark.parametrize(("message", "clean"), [(pb.Facts, clean_facts), (pb.Health, clean_health)])
def test_no_field_is_forgotten(message, clean):
    """A field that is added to the wire and not to messages.py would be dropped without a word."""
    whole = filled(message())
    kept = {field.name for field, _ in message.FromString(clean(whole)).ListFields()}
    dropped = sorted(set(message.DESCRIPTOR.fields_by_name) - kept)
    assert not dropped, (
        f"validate/messages.py drops {dropped}: a number needs its range in _RANGES, a text _TEXTS"
    )
    assert message.FromString(clean(whole)) == whole


@pytest.mark.parametrize(("message", "decode"), [(pb.Facts, facts_from_wire), (pb.Health, health_from_wire)])
def test_every_field_is_decoded(message, decode):
    """A field that is kept and not decoded in wire_codec.py would never reach the model."""
    decoded = decode(filled(message()).SerializeToString())
    differing = {one.name for one in fields(decoded)} ^ set(message.DESCRIPTOR.fields_by_name)
    assert not differing, f"add to {type(decoded).__name__} in model/hosts.py: {sorted(differing)}"
    unread = [one.name for one in fields(decoded) if not getattr(decoded, one.name)]
    assert not unread, f"decode in wire_codec.py: {unread}"


def test_every_field_of_a_cell_is_decoded():
    """A field of a cell that is not decoded in wire_codec.py would never reach the sums."""
    (decoded,) = cells_from_measurement(pb.Measurement(points=[rapl()] * 2, cells=[filled(pb.Cell())]))
    sent = {DISPLAY_BUCKETS if name == "displays" else name for name in pb.Cell.DESCRIPTOR.fields_by_name}
    differing = set(decoded._fields) ^ sent
    assert not differing, f"add to Cell in model/records.py: {sorted(differing)}"
    unread = [name for name in decoded._fields if not getattr(decoded, name)]
    assert not unread, f"decode in cell_from_fields of wire_codec.py: {unread}"
