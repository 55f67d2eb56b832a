# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the meaning given to a failed call: the operator's message must name the real cause."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from typing import Any

import grpc
import pytest

from tests.support.fakes.authority import TestAuthority
from tests.support.fakes.collector import FakeCollector
from veilleuse.agent.errors import AgentError, CollectorAway, IdentityError
from veilleuse.agent.sending.client import LONGEST_WAIT_MILLISECONDS, EnrolmentCalls, open_channel, translate
from veilleuse.agent.sending.routes import Route
from veilleuse.wire.v1 import telemetry_pb2 as pb

DAY = timedelta(days=1)


def trouble(address: str, roots_pem: bytes) -> AgentError:
    """Return the error of one call to an address."""
    with open_channel(Route(address), None, roots_pem) as channel, pytest.raises(AgentError) as caught:
        EnrolmentCalls(channel, Route(address), 5).challenge(pb.ChallengeRequest(agent_id=bytes(16)))
    return caught.value


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ({"begins": -2 * DAY, "ends": -DAY}, "has expired by this machine's clock"),
        ({"begins": DAY, "ends": 2 * DAY}, "of the future by this machine's clock"),
        ({"name": "collector.example.org"}, "pki.server_names"),
    ],
)
def test_a_certificate_of_another_time_or_name(server, words):
    """A wrong clock or name is not reported as another CA."""
    authority = TestAuthority()
    authority.server = authority.new_server(**server)
    with FakeCollector(authority) as collector:
        found = trouble(collector.enrolment_address, authority.root.pem)
    assert isinstance(found, CollectorAway)
    assert words in str(found)
    assert "another CA" not in str(found)


def test_another_authority():
    """A server of another CA is reported as such."""
    with FakeCollector() as collector:
        assert "another CA" in str(trouble(collector.enrolment_address, TestAuthority("other").root.pem))


def test_the_port_of_the_pages_is_no_collector():
    """A server without TLS, such as the pages' port 8640, gives a message that questions the port."""

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)  # without a caller the test fails and does not wait for ever
        thread = threading.Thread(target=answer)
        thread.start()
        found = trouble(f"127.0.0.1:{server.getsockname()[1]}", TestAuthority().root.pem)
        thread.join()
    assert "does not speak TLS: is the port right?" in str(found)


@pytest.mark.parametrize("address", ["nowhere.invalid:8642", "127.0.0.1:1", "[::1]:1"])
def test_nobody_there(address):
    """By DNS name, IPv4 or IPv6, the message holds the address."""
    found = trouble(address, TestAuthority().root.pem)
    assert isinstance(found, CollectorAway)
    assert f"the collector at {address} cannot be reached" in str(found)


def test_roots_that_are_none():
    """Invalid roots of this machine are not reported as an unreachable collector."""
    with FakeCollector() as collector:
        found = trouble(collector.enrolment_address, b"garbage")
    assert isinstance(found, IdentityError)
    assert "enrol again" in str(found)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("1500", 1500), ("0", 0), ("9" * 15, LONGEST_WAIT_MILLISECONDS), ("9" * 5000, 0), ("x", 0)],
)
def test_a_wait_has_a_bound(asked, expected):
    """The collector's wait is limited to a day; an invalid one counts as 0."""

    class Refused(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.RESOURCE_EXHAUSTED

        def details(self) -> str:
            return "busy"

        def trailing_metadata(self) -> Any:
            return (("retry-after-milliseconds", asked),)

    found = translate(Refused(), Route("here:1"))
    assert isinstance(found, CollectorAway)
    assert found.retry_after_milliseconds == expected
