# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of facts and health of a Hello: valid fields are kept, others dropped one by one. S16."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from veilleuse.collector.validate import clean_facts, clean_health
from veilleuse.collector.wire_codec import facts_from_wire, health_from_wire
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import (
    DeviceClass,
    GapReason,
)


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
        else:  # 1 is the first real value of each enum
            setattr(message, field.name, "word" if field.cpp_type == field.CPPTYPE_STRING else 1)
    return message


@pytest.mark.parametrize(("message", "clean"), [(pb.Facts, clean_facts), (pb.Health, clean_health)])
def test_no_field_is_forgotten(message, clean):
    """A field that is added to the wire and not to documents.py would be dropped without a word."""
    whole = filled(message())
    assert message.FromString(clean(whole)) == whole


@pytest.mark.parametrize(("message", "decode"), [(pb.Facts, facts_from_wire), (pb.Health, health_from_wire)])
def test_every_field_is_decoded(message, decode):
    """A field that is kept and not decoded in wire_codec.py would never reach the model."""
    decoded = decode(filled(message()).SerializeToString())
    assert {one.name for one in fields(decoded)} == set(message.DESCRIPTOR.fields_by_name)
    assert all(getattr(decoded, one.name) for one in fields(decoded))
