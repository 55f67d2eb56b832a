# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the routes to the collector: their order, and which failures lead to the next one."""

from __future__ import annotations

import grpc
import pytest

from tests.support.fakes.agent import Agent
from tests.support.fakes.collector import FakeCollector
from tests.support.ports import free_ports
from veilleuse.agent.errors import AddressAway, CollectorAway, ConnectionClosed, IdentityError
from veilleuse.agent.identity.join_file import read_join_file
from veilleuse.agent.sending.routes import CONNECT_SECONDS, Route, first_that_answers, routes_to
from veilleuse.agent.settings import Collector, read_settings
from veilleuse.wire.settings_file import ConfigurationError

SECRET = "CANARY-s3cret"


def test_each_address_by_each_proxy_in_order():
    """The proxies vary first; a direct route has no credentials; several routes share no deadline."""
    collector = Collector(proxy="http://p:3128/, direct", deadline_seconds=60.0)
    routes = routes_to(collector, "a:1, b:2")
    assert [str(route) for route in routes] == [
        "a:1 by the proxy p:3128",
        "a:1",
        "b:2 by the proxy p:3128",
        "b:2",
    ]
    assert {route.connect_seconds for route in routes} == {CONNECT_SECONDS}


@pytest.mark.parametrize(("deadline", "expected"), [(60.0, 60.0), (2.0, 2.0)])
def test_one_route_has_the_whole_deadline(deadline, expected):
    """A slow network with one address is given the time that it had before there were several."""
    (route,) = routes_to(Collector(deadline_seconds=deadline), "a:1")
    assert route == Route("a:1", connect_seconds=expected)
    (first, _) = routes_to(Collector(deadline_seconds=deadline), "a:1,b:1")
    assert first.connect_seconds == min(CONNECT_SECONDS, deadline / 2)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("proxy", f"http://user:{SECRET}@proxy:3128", "into the file of collector.proxy_credentials_file"),
        ("proxy", f"user:{SECRET}@proxy:3128", "must be http://host:port or direct"),
        ("proxy", f"direct, http://user:{SECRET}@proxy:3128, {'x' * 80}", "into the file"),
        ("proxy", "https://proxy:3128", "no other kind of proxy"),
        ("proxy", "http://proxy", "must be host:port"),
        ("proxy", "http://proxy:0", "1 to 65535"),
        ("proxy", "http://proxy:3128/path", "must be host:port"),
        ("proxy", "direct,direct,direct,direct,direct", "4 at most"),
        ("address", "a:1, b", "b: it must be host:port"),
        ("address", ",", "up to 4"),
        ("address", "a:1,a:2,a:3,a:4,a:5", "up to 4"),
        ("enrolment_address", "a:1, 0.0.0.0:2", "nobody can connect to 0.0.0.0"),
    ],
)
def test_settings_that_are_no_routes(setting, value, words):
    """They are refused when they are read, and a password is not shown."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_settings(None, {}, {f"collector.{setting}": value})
    assert SECRET not in str(caught.value)


def test_the_credentials_are_in_no_text_of_a_route(tmp_path):
    """Neither str nor repr shows them."""
    (tmp_path / "credentials").touch(mode=0o600)
    (tmp_path / "credentials").write_text(f"user:{SECRET}\n")
    collector = Collector(proxy="http://p:1", proxy_credentials_file=str(tmp_path / "credentials"))
    (route,) = routes_to(collector, "a:1")
    assert route.authorization.startswith("Basic ")
    assert route.authorization not in repr(route) + str(route)


def test_which_errors_lead_to_the_next_route():
    """A closed connection is remembered when nothing answers, because it may mean an expired certificate."""
    routes = [Route("a:1"), Route("b:2"), Route("c:3")]
    tried: list[str] = []

    def attempt(route: Route) -> str:
        tried.append(route.address)
        if route.address == "a:1":
            raise ConnectionClosed("a closed")
        if len(routes) > 2:
            raise CollectorAway("wait", 7)
        raise AddressAway("b is away")

    with pytest.raises(CollectorAway, match="wait"):
        first_that_answers(routes, attempt)
    assert tried == ["a:1", "b:2"]
    del routes[2]
    with pytest.raises(ConnectionClosed, match="a closed; b is away"):
        first_that_answers(routes, attempt)


def test_an_answer_is_no_reason_for_another_address(tmp_path, collector):
    """A collector that asks to wait is obeyed, and the second address is not called."""
    with FakeCollector(collector.authority) as second:
        agent = Agent(
            tmp_path / "state",
            **{"collector.address": f"{collector.address}, {second.address}"},
        )
        agent.enrol(collector)
        collector.abort = (grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", 90_000)
        assert not agent.send()
        assert second.requests == []
        assert "busy" in agent.control()["standing"]


def test_no_address_answers(tmp_path, collector):
    """The reason names each address; a collector that comes back is found."""
    first, second = free_ports(2)
    addresses = f"127.0.0.1:{first}, 127.0.0.1:{second}"
    agent = Agent(tmp_path / "state", **{"collector.address": addresses})
    agent.enrol(collector)
    assert not agent.send()
    for port in (first, second):
        assert f"the collector at 127.0.0.1:{port} cannot be reached" in agent.control()["standing"]


def test_the_join_file_may_hold_several_addresses(tmp_path, collector):
    """They are kept, in order; each one is checked; a file of one address is read as before."""
    (dead,) = free_ports(1)
    agent = Agent(tmp_path / "state")
    several = {
        "addresses": [f"127.0.0.1:{dead}", collector.address],
        "enrolment_addresses": [f"127.0.0.1:{dead}", collector.enrolment_address],
    }
    identity = agent.enrol_with(collector.join_file(tmp_path / "join", **several))
    assert identity.place.address == f"127.0.0.1:{dead}, {collector.address}"
    assert agent.send()
    assert read_join_file(collector.join_file(tmp_path / "one")).address == collector.address
    for wrong in ([], ["a:1", "b"], "a:1", None, 7):
        with pytest.raises(IdentityError, match="addresses is"):
            read_join_file(collector.join_file(tmp_path / "wrong", addresses=wrong))
