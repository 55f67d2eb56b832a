# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Call the receiver and delay its writer, for the tests of the receiver."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from tests.support.pushes import MONDAY_10H, Stream, realistic
from tests.support.waiting import PATIENCE_SECONDS, deadline
from veilleuse.collector.ingest.writer import Writer
from veilleuse.wire.v1 import telemetry_pb2 as pb


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
        call(request, timeout=PATIENCE_SECONDS)
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
    """Keep the writer's thread busy until the returned event is set; returns once it is busy. The writer is
    released after a minute, even if the test fails."""
    release, entered = threading.Event(), threading.Event()

    def busy() -> None:
        entered.set()
        release.wait(PATIENCE_SECONDS)

    writer.submit(busy, alone=True)
    assert entered.wait(PATIENCE_SECONDS)
    return release


def let_a_minute_pass(patch: pytest.MonkeyPatch, *modules: Any) -> None:
    """Set the monotonic clock that these modules read ahead by PATIENCE_SECONDS."""
    for module in modules:
        patch.setattr(module, "time", SimpleNamespace(monotonic=deadline, sleep=time.sleep))
