# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the tests of the receiver say to it, and how they hold its writer."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import pytest

from tests.pushes import MONDAY_10H, Stream, realistic
from tests.service import Service
from veilleuse.wire.v1 import telemetry_pb2 as pb


def hello(stream: Stream, **fields: Any) -> pb.HelloRequest:
    """A Hello of a current agent."""
    return pb.HelloRequest(
        epoch=fields.pop("epoch", stream.epoch),
        protocol=fields.pop("protocol", pb.ProtocolRange(minimum=1, maximum=1)),
        **fields,
    )


def refusal(call: Any, request: Any) -> tuple[grpc.StatusCode, str, int]:
    """(code, reason, retry after ms) of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10)
    error: Any = caught.value
    metadata = dict(error.trailing_metadata())
    details = error.details()
    assert details
    assert "\n" not in details
    return (
        error.code(),
        metadata.get("veilleuse-reason", ""),
        int(metadata.get("retry-after-milliseconds", 0)),
    )


def stream_request(stream: Stream) -> pb.PushRequest:
    """One more record."""
    first = len(stream.wires) + 1
    stream.add(realistic(MONDAY_10H + first * 300_000))
    return stream.request(first)


def hold(service: Service) -> threading.Event:
    """Keep the writer's thread busy until the event is set."""
    release, entered = threading.Event(), threading.Event()

    def busy() -> None:
        entered.set()
        release.wait(10)

    service.writer.submit(busy, alone=True)
    assert entered.wait(10)
    return release
