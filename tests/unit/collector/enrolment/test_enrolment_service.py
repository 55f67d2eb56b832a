# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the answers of :8642 when something fails inside."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.machines import Machine, refusal, served, settings_in
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector.enrolment.clones import CloneEnrolment
from veilleuse.collector.enrolment.enrol import Enroller
from veilleuse.collector.enrolment.issuing import Challenges, Renewal
from veilleuse.collector.enrolment.service import EnrolmentServicer
from veilleuse.collector.enrolment.tokens import FailureLimiter
from veilleuse.collector.errors import StoreFull
from veilleuse.wire import metadata
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.v1 import telemetry_pb2_grpc as pb_grpc


@contextmanager
def desk(folder: Path, trouble: Exception) -> Iterator[tuple[Any, Machine, list[str]]]:
    """Return a stub of the service, a machine and the counted refusals; cleaning of facts raises
    `trouble`."""

    def clean_facts(facts: pb.Facts) -> bytes:
        raise trouble

    counted: list[str] = []
    with served(settings_in(folder)) as running:
        issuing = running.collector.issuing
        challenges = Challenges()
        limiter = FailureLimiter()
        servicer = EnrolmentServicer(
            Enroller(issuing, limiter),
            CloneEnrolment(issuing, limiter, challenges),
            Renewal(issuing, challenges),
            challenges,
            clean_facts,
            counted.append,
        )
        server = grpc.server(ThreadPoolExecutor(1))
        pb_grpc.add_EnrolmentServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield pb_grpc.EnrolmentServiceStub(channel), Machine(running.token()), counted
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("trouble", "code", "reason"),
    [
        (ZeroDivisionError("a secret of ours"), grpc.StatusCode.INTERNAL, "internal"),
        (StoreFull("no space left for /var/lib/a secret of ours"), grpc.StatusCode.UNAVAILABLE, "put_off"),
    ],
)
def test_trouble_inside_is_not_told_to_strangers(tmp_path, trouble, code, reason):
    """The caller gets a status, one word and a retry time, and no detail of the failure."""
    with desk(tmp_path, trouble) as (stub, machine, _):
        request = pb.EnrolRequest(
            token=machine.join["token"], certificate_request_der=machine.request(), facts=pb.Facts()
        )
        with pytest.raises(grpc.RpcError) as caught:
            stub.Enrol(request, timeout=PATIENCE_SECONDS)
    assert refusal(caught.value) == (code, reason)
    assert "secret" not in str(caught.value.details())
    said: Any = caught.value.trailing_metadata()
    assert int(dict(said)[metadata.RETRY_AFTER]) > 0


def test_a_renewal_that_is_refused_is_counted(tmp_path):
    """The refusal is counted by its reason, so that attempts with wrong keys are visible."""
    with desk(tmp_path, ValueError()) as (stub, machine, counted):
        with pytest.raises(grpc.RpcError) as caught:
            stub.RenewExpired(
                pb.RenewExpiredRequest(agent_id=bytes(16), certificate_request_der=machine.request())
            )
        assert refusal(caught.value) == (grpc.StatusCode.PERMISSION_DENIED, "not_an_agent")
        assert counted == ["not_an_agent"]
