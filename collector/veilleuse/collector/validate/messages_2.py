# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Bytes of a request → its message, measured before it is parsed; and what a Hello must be."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from veilleuse.collector.errors import MalformedRequest
from veilleuse.collector.model.clones import INSTANCE_ID_BYTES
from veilleuse.collector.validate.messages import ORDINARY_BYTES, crowded
from veilleuse.wire.limits import (
    CHAIN_BYTES,
    EPOCH_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_RECORDS_PER_PUSH,
    PROTOCOL_MINOR_MAXIMUM,
    PROTOCOL_MINOR_MINIMUM,
)
from veilleuse.wire.v1 import telemetry_pb2 as pb

MAXIMUM_FEATURES: Final = 32
_RECORDS: Final = pb.PushRequest.RECORDS_FIELD_NUMBER


def parsed(kind: Any, wire: bytes, maximum_bytes: int) -> Any:
    """The message of that kind. Raises MalformedRequest: message_too_large, not_a_message."""
    if len(wire) > maximum_bytes:
        raise MalformedRequest(
            "message_too_large", f"a {kind.__name__} has at most {maximum_bytes} bytes, not {len(wire)}"
        )
    try:
        return kind.FromString(wire)
    except DecodeError as error:
        raise MalformedRequest("not_a_message", f"this is no {kind.__name__}") from error


def parsed_push(wire: bytes) -> Any:
    """A PushRequest. Raises MalformedRequest: message_too_large, record_count, not_a_message."""
    if len(wire) > ORDINARY_BYTES and crowded(wire, {_RECORDS: MAX_RECORDS_PER_PUSH}) is not None:
        raise MalformedRequest("record_count", f"a push has 1 to {MAX_RECORDS_PER_PUSH} records")
    return parsed(pb.PushRequest, wire, MAX_MESSAGE_BYTES)


def check_hello(request: Any) -> int:
    """The protocol version to speak. Raises MalformedRequest."""
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
