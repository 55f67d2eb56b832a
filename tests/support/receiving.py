# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the tests of the receiver say to it, and how they hold its writer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import grpc
import pytest

from tests.support.pushes import MONDAY_10H, Stream, realistic
from tests.support.service import Service
from tests.support.waiting import PATIENCE_SECONDS, comes
from veilleuse.wire.v1 import telemetry_pb2 as pb

ANSWER_SECONDS: Final = 30.0
"""For an answer that takes milliseconds: a machine may stall."""
HELD_SECONDS: Final = 30.0
"""A writer is held no longer, whatever becomes of the test."""


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
    """One more record."""
    first = len(stream.wires) + 1
    stream.add(realistic(MONDAY_10H + first * 300_000))
    return stream.request(first)


def hold(service: Service) -> threading.Event:
    """Keep the writer's thread busy until the event is set."""
    release, entered = threading.Event(), threading.Event()

    def busy() -> None:
        entered.set()
        release.wait(HELD_SECONDS)

    service.writer.submit(busy, alone=True)
    assert entered.wait(PATIENCE_SECONDS)
    return release


def give_up(call: Callable[[], object], arrived: Callable[[], object]) -> None:
    """Call with little patience until a call that ran out of it has arrived: it may run out on its way, on a
    machine that stalls."""
    for _ in range(20):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
        if comes(arrived, 2):
            return
    raise AssertionError("not one of 20 calls has arrived")
