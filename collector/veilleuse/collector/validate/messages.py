# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Parses messages after counting their sub-messages in the bytes, and checks a Hello. docs/guarantees.md S8.

A megabyte of empty sub-messages is half a million objects, some hundred MiB. Only messages of unusual length
are counted. Source of the format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError

from veilleuse.collector.errors import MalformedRequest
from veilleuse.collector.model.clones import INSTANCE_ID_BYTES
from veilleuse.collector.validate.cells import SOURCE_PATTERN
from veilleuse.collector.wire_codec import DEVICE_CLASSES, GAP_REASONS, number
from veilleuse.wire.limits import (
    CHAIN_BYTES,
    EPOCH_BYTES,
    FACT_PATTERN,
    MAX_MESSAGE_BYTES,
    MAX_RECORDS_PER_PUSH,
    PROTOCOL_MINOR_MAXIMUM,
    PROTOCOL_MINOR_MINIMUM,
)
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass

ORDINARY_BYTES: Final = 8 * 1024
"""Shorter messages are parsed without a count: at most some thousand objects."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def find_crowded_field(wire: bytes, most: Mapping[int, int]) -> int | None:
    """Return the number of the first field that occurs more often than `most` allows.

    Returns None when there is none, or the bytes end early.
    """
    return _count(wire, 0, len(wire), most, Counter())


def find_crowded_inside(wire: bytes, outer: int, most: Mapping[int, int]) -> int | None:
    """Do the same for the fields inside all sub-messages `outer` together."""
    counts: Counter[int] = Counter()
    for field, start, end in _fields(wire, 0, len(wire)):
        if field == outer and (found := _count(wire, start, end, most, counts)) is not None:
            return found
    return None


def _count(wire: bytes, start: int, end: int, most: Mapping[int, int], counts: Counter[int]) -> int | None:
    for field, _, _ in _fields(wire, start, end):
        if field in most:
            counts[field] += 1
            if counts[field] > most[field]:
                return field
    return None


def _fields(wire: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, start, end of its content); stop at invalid bytes, which the parser reports."""
    while position < end:
        tag, position = _varint(wire, position, end)
        kind, start = tag & 7, position
        if kind == _VARINT:
            _, position = _varint(wire, position, end)
        elif kind == _LENGTH:
            length, start = _varint(wire, position, end)
            position = start + length
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            return  # groups: not in our messages
        if position > end:
            return
        yield tag >> 3, start, position


def _varint(wire: bytes, position: int, end: int) -> tuple[int, int]:
    """Return (value, position after it); a position beyond `end` when the varint does not end."""
    value = shift = 0
    while position < end and shift < 70:
        byte = wire[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return value, end + 1


MAXIMUM_FEATURES: Final = 32
_RECORDS: Final = pb.PushRequest.RECORDS_FIELD_NUMBER


def parse_message(kind: Any, wire: bytes, maximum_bytes: int) -> Any:
    """Parse a message of this kind. Raises MalformedRequest: message_too_large, not_a_message."""
    if len(wire) > maximum_bytes:
        raise MalformedRequest(
            "message_too_large", f"a {kind.__name__} has at most {maximum_bytes} bytes, not {len(wire)}"
        )
    try:
        return kind.FromString(wire)
    except DecodeError as error:
        raise MalformedRequest("not_a_message", f"this is no {kind.__name__}") from error


def parse_push(wire: bytes) -> Any:
    """Parse a PushRequest. Raises MalformedRequest: message_too_large, record_count, not_a_message."""
    if len(wire) > ORDINARY_BYTES and find_crowded_field(wire, {_RECORDS: MAX_RECORDS_PER_PUSH}) is not None:
        raise MalformedRequest("record_count", f"a push has 1 to {MAX_RECORDS_PER_PUSH} records")
    return parse_message(pb.PushRequest, wire, MAX_MESSAGE_BYTES)


def check_hello(request: Any) -> int:
    """Check a Hello and return the protocol version to speak. Raises MalformedRequest."""
    if len(request.epoch) != EPOCH_BYTES:
        raise MalformedRequest("epoch_length", f"the epoch has {EPOCH_BYTES} bytes, not {len(request.epoch)}")
    if len(request.instance_id) not in (0, INSTANCE_ID_BYTES):
        raise MalformedRequest("instance_id_length", f"instance_id has {INSTANCE_ID_BYTES} bytes, or none")
    for document in (request.configuration, request.calendar):
        if len(document.sha256) not in (0, CHAIN_BYTES):
            raise MalformedRequest(
                "document_hash_length", f"a document's sha256 has {CHAIN_BYTES} bytes, or none"
            )
    if len(request.features) > MAXIMUM_FEATURES:
        raise MalformedRequest("too_many_features", f"at most {MAXIMUM_FEATURES} features")
    chosen = min(request.protocol.maximum, PROTOCOL_MINOR_MAXIMUM)
    if chosen < max(request.protocol.minimum, PROTOCOL_MINOR_MINIMUM):
        raise MalformedRequest(
            "protocol_unsupported",
            f"this collector speaks versions {PROTOCOL_MINOR_MINIMUM} to {PROTOCOL_MINOR_MAXIMUM}, the agent "
            f"{request.protocol.minimum} to {request.protocol.maximum}: upgrade one of the two",
        )
    return int(chosen)


_TEXTS: Final = ("vendor", "model", "cpu_model", "virtualisation")
_RANGES: Final = {
    "cpu_count": (1, 4_096),
    "memory_bytes": (1, 2**50),
    "memory_modules": (1, 256),
    "hard_disks": (0, 1_024),
    "solid_state_disks": (0, 1_024),
    "display_off_ac_seconds": (0, 2**32),
    "sleep_ac_seconds": (0, 2**32),
}
_MAXIMUM_SOURCES: Final = 64
_MAXIMUM_COUNT: Final = 2**48


def clean_facts(facts: Any) -> bytes:
    """Encode Facts that contain only values allowed by telemetry.proto.

    Invalid fields are dropped one by one: a Hello refused for a vendor's odd name would silence the machine.
    """
    clean: Any = pb.Facts()
    known = facts.device_class in DEVICE_CLASSES
    clean.device_class = facts.device_class if known else number(DeviceClass.UNKNOWN)
    for name in _TEXTS:
        if facts.HasField(name) and FACT_PATTERN.fullmatch(getattr(facts, name)):
            setattr(clean, name, getattr(facts, name))
    for name, (lowest, highest) in _RANGES.items():
        if facts.HasField(name) and lowest <= getattr(facts, name) <= highest:
            setattr(clean, name, getattr(facts, name))
    return bytes(clean.SerializeToString(deterministic=True))


def clean_health(health: Any) -> bytes:
    """Encode Health that contains only values allowed by telemetry.proto; others are dropped, as of Facts."""
    clean = pb.Health(
        spool_records=min(health.spool_records, _MAXIMUM_COUNT),
        spool_bytes=min(health.spool_bytes, _MAXIMUM_COUNT),
    )
    if FACT_PATTERN.fullmatch(health.agent_version):
        clean.agent_version = health.agent_version
    for drop in health.drops[: len(GAP_REASONS)]:
        if drop.reason in GAP_REASONS:
            clean.drops.add(reason=drop.reason, records=min(drop.records, _MAXIMUM_COUNT))
    for source in health.sources[:_MAXIMUM_SOURCES]:
        if not source.name or not SOURCE_PATTERN.fullmatch(source.name):
            continue
        kept = clean.sources.add(
            name=source.name,
            successes=min(source.successes, _MAXIMUM_COUNT),
            failures=min(source.failures, _MAXIMUM_COUNT),
        )
        if source.HasField("unavailable") and SOURCE_PATTERN.fullmatch(source.unavailable):
            kept.unavailable = source.unavailable
    for name in ("resident_cpu_milliseconds", "resident_rss_bytes", "quarantine_records"):
        if health.HasField(name):
            setattr(clean, name, min(getattr(health, name), _MAXIMUM_COUNT))
    return clean.SerializeToString(deterministic=True)
