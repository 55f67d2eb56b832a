# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Call the receiver and delay its writer, for the tests of the receiver."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import grpc
import pytest

from tests.support.pushes import MONDAY_10H, Stream, realistic
from tests.support.waiting import PATIENCE_SECONDS, comes
from veilleuse.collector.ingest.writer import Writer
from veilleuse.wire.v1 import telemetry_pb2 as pb

ANSWER_SECONDS: Final = 30.0
"""Timeout of a call that takes milliseconds, because a test machine may stall."""
HELD_SECONDS: Final = 30.0
"""The writer is released after this time, even if the test fails."""


def hello(stream: Stream, **fields: Any) -> pb.HelloRequest:
    """Return the Hello of a current agent."""
    return pb.HelloRequest(
        epoch=fields.pop("epoch", stream.epoch),
        protocol=fields.pop("protocol", pb.ProtocolRange(minimum=1, maximum=1)),
        **fields,
    )


def refusal(call: Any, request: Any) -> tuple[grpc.StatusCode, str, int]:
    """Make a call that must fail; return its (status code, reason, retry after milliseconds)."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=ANSWER_SECONDS)
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
    """Append one realistic record to the stream and return the request that pushes it."""
    first = len(stream.wires) + 1
    stream.add(realistic(MONDAY_10H + first * 300_000))
    return stream.request(first)


def hold(writer: Writer) -> threading.Event:
    """Keep the writer's thread busy until the returned event is set; returns once it is busy."""
    release, entered = threading.Event(), threading.Event()

    def busy() -> None:
        entered.set()
        release.wait(HELD_SECONDS)

    writer.submit(busy, alone=True)
    assert entered.wait(PATIENCE_SECONDS)
    return release


def give_up(call: Callable[[], object], arrived: Callable[[], object]) -> None:
    """Make a call that times out, up to 20 times, until `arrived` is true. On a machine that stalls, a call
    may time out before it arrives. Fails if none arrives."""
    for _ in range(20):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
        if comes(arrived, 2):
            return
    raise AssertionError("not one of 20 calls has arrived")
