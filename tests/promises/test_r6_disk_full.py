# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R6: the collector's disk fills up."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from tests.promises.support.contract import HelloRequest, PushRequest, message
from tests.promises.support.disks import fill, free_bytes, tmpfs
from tests.promises.support.load import SERVICE, Identity
from tests.promises.support.measured import measured
from tests.promises.support.trial import Trial
from tests.support.stack import get
from tests.support.waiting import PATIENCE_SECONDS, until

DISK_MIB = 64
LEFT_BYTES = 1_500_000
"""Less than the reserve, 5 % of the disk; enough for a revocation and a page of the log."""


@pytest.mark.promise("R6", "R18")
def test_disk_full(tmp_path, figure, time_bound):
    """Below its reserve the collector only refuses records, with a delay; with space it resumes by itself."""
    (tmp_path / "collector").mkdir(mode=0o700)
    reserve = {"VEILLEUSE__STORE__FREE_BYTES_MINIMUM": "268435456"}  # the default: 5 % of this disk are less
    with tmpfs(tmp_path / "collector", DISK_MIB), Trial(tmp_path, reserve) as trial:
        trial.enrol(21)
        outsider = trial.agents.pop()
        trial.start()
        trial.load(100)
        trial.wait_for_ack()
        trial.stack.wait_for(trial.stack.answers, "the pages answer too", process=trial.collector)
        filler = fill(trial.stack.data, LEFT_BYTES)
        trial.note("full")
        with channel(trial, outsider) as call:
            code, reason, retry_after = refusal(call, *push(outsider))
            assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "store_full")
            assert retry_after > 0
            metrics = get(trial.stack.url + "metrics")
            assert 'veilleuse_collector_store_errors_total{reason="full"}' in metrics
            assert "<html" in get(trial.stack.url)
            hosts = trial.stack.must("veilleuse", "hosts", "list")
            assert outsider.agent_id[:8] in hosts
            trial.stack.must("veilleuse", "hosts", "revoke", outsider.agent_id, "--yes")
            assert refusal(call, *hello())[:2] == (grpc.StatusCode.PERMISSION_DENIED, "revoked")
        before = refused(trial)
        until(lambda: refused(trial) > before + 50, "the agents push no more")
        left = free_bytes(trial.stack.data)
        filler.unlink()
        resumed = trial.wait_for_ack(trial.note("space"))
        report = trial.end()
    figure(
        f"{report}, records refused with {reason} and a delay of {retry_after:,} ms, page, /metrics, `hosts list` and `hosts "
        f"revoke` worked, storing resumed after {resumed:.1f} s"
    )
    assert left > 0
    time_bound(resumed, 10, "storing resumed")
    assert report.sound, report.details


def refused(trial: Trial) -> int:
    """Return how many calls were refused because the disk is full."""
    metrics = get(trial.stack.url + "metrics")
    found = re.search(
        r'^veilleuse_collector_refused_calls_total\{reason="store_full"\} (\S+)$', metrics, re.M
    )
    return round(float(found[1])) if found else 0


@contextmanager
def channel(trial: Trial, agent: Identity) -> Iterator[Any]:
    """Yield `call(method, request, response)` over mutual TLS, as this agent."""
    credentials = grpc.ssl_channel_credentials(
        trial.roots.encode(), agent.key_pem.encode(), agent.chain_pem.encode()
    )
    with grpc.secure_channel(trial.address, credentials) as opened:

        def call(method: str, request: Any, response: str) -> Any:
            unary: Any = opened.unary_unary(
                SERVICE + method,
                request_serializer=lambda asked: asked.SerializeToString(),
                response_deserializer=message(response).FromString,
            )
            return unary(request, timeout=PATIENCE_SECONDS)

        yield call


def push(agent: Identity) -> tuple[str, Any, str]:
    """Return a push of an agent's first record."""
    epoch = bytes.fromhex(agent.agent_id)[:8]
    record = measured(agent.population, 0, random.Random(1))
    before = hashlib.sha256(epoch).digest()
    request = PushRequest(epoch=epoch, first_seq=1, chain_before=before, records=[record.wire])
    return "Push", request, "PushResponse"


def hello() -> tuple[str, Any, str]:
    """Return the smallest Hello."""
    request = HelloRequest(epoch=bytes(8))
    request.protocol.minimum = request.protocol.maximum = 1
    return "Hello", request, "HelloResponse"


def refusal(call: Any, *asked: Any) -> tuple[grpc.StatusCode, str, int]:
    """Return status, reason and delay in milliseconds of a refused call."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*asked)
    error: Any = caught.value
    told = dict(error.trailing_metadata() or ())
    return (
        error.code(),
        told.get("veilleuse-reason", ""),
        int(told.get("retry-after-milliseconds", 0)),
    )
