# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Agents reach the collector by several addresses, by port 443 and by proxies: docs/networks.md.

Squid and HAProxy are Debian's; names of example.org are resolved by squid alone.
"""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.tree import ROOT
from tests.support import clock
from tests.support.fakes.agent import Agent, energies, record
from tests.support.fakes.authority import TestAuthority
from tests.support.fakes.collector import FakeCollector
from tests.support.machines import Served, served, settings_in
from tests.support.ports import free_port, free_ports
from tests.support.proxies import HaProxy, Squid
from veilleuse.agent.commands import doctor_network
from veilleuse.agent.errors import AddressAway, AgentError
from veilleuse.agent.identity.store import IdentityStore
from veilleuse.agent.sending.enrol import enrol
from veilleuse.agent.sending.process import Connection
from veilleuse.agent.spool.outbox import Outbox

NAMES = ("agents.example.org", "enrol.example.org")
USER, PASSWORD = "lycee", "CANARY:s3cr@t é"
FAR = 30 * 86_400_000


class Network:
    """A collector behind HAProxy's one port, and a squid that asks for credentials."""

    def __init__(self, collector: Served, entrance: HaProxy, proxy: Squid) -> None:
        self.collector, self.entrance, self.proxy = collector, entrance, proxy
        self.addresses = [f"{name}:{entrance.port}" for name in NAMES]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Give a collector behind the HAProxy of docs/networks.md and a squid with Basic authentication."""
    records, enrolment = free_ports(2)
    documented = re.search(r"```haproxy\n(.+?)```", (ROOT / "docs/networks.md").read_text(), re.DOTALL)
    assert documented is not None
    configuration = documented[1].replace(":8641", f":{records}").replace(":8642", f":{enrolment}")
    with (
        HaProxy(configuration) as entrance,
        Squid(entrance.port, users={USER: PASSWORD}, hosts=NAMES) as proxy,
        served(
            settings_in(
                tmp_path_factory.mktemp("collector"),
                **{
                    "grpc.address": f"127.0.0.1:{records}",
                    "grpc.enrolment_address": f"127.0.0.1:{enrolment}",
                    "grpc.advertised_address": f"{NAMES[0]}:{entrance.port}",
                    "grpc.advertised_enrolment_address": f"{NAMES[1]}:{entrance.port}",
                    "pki.server_names": f"{', '.join(NAMES)}, 127.0.0.1",
                },
            )
        ) as collector,
    ):
        yield Network(collector, entrance, proxy)


def by(proxy: Squid, folder: Path, credentials: str = "") -> dict[str, str]:
    """Return the agent's settings for a proxy, with `user:password` in a file."""
    settings = {"collector.proxy": f"http://{proxy.address}"}
    if credentials:
        (folder / "credentials").touch(mode=0o600)
        (folder / "credentials").write_text(credentials + "\n", encoding="utf-8")
        settings["collector.proxy_credentials_file"] = str(folder / "credentials")
    return settings


def join_file(folder: Path, join: dict[str, Any]) -> Path:
    """Write the content of a join file and return its path."""
    path = folder / "join"
    path.touch(mode=0o600)
    path.write_text(json.dumps({key: value for key, value in join.items() if key != "token_id"}))
    return path


def not_enrolled(agent: Agent, join: Path) -> str:
    """Return the message of an enrolment that does not reach the collector."""
    with pytest.raises(AddressAway) as caught:
        enrol(agent.settings, join)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


def diagnosis(agent: Agent, *, enrolled: bool = True) -> list[tuple[str, bool, str]]:
    """Return service, answers and text of each route that `doctor` tries."""
    rows = doctor_network.rows(agent.settings, agent.identity if enrolled else None)
    assert not any(PASSWORD in line for line in doctor_network.lines(rows))
    return [(row["service"], row["answers"], row["text"]) for row in rows]


def test_by_a_proxy_with_credentials_to_one_port(network, tmp_path):
    """An agent enrols and delivers by squid and HAProxy. Squid resolves both names, and knows the user."""
    agent = Agent(tmp_path / "state", **by(network.proxy, tmp_path, f"{USER}:{PASSWORD}"))
    enrol(agent.settings, join_file(tmp_path, network.collector.token()))
    agent.measure(record(0), record(1))
    assert agent.send()
    assert agent.control()["standing"] == "ok"
    assert all(row[3] is not None for row in agent.rows())
    assert diagnosis(agent) == [("records", True, ""), ("enrolment", True, "")]
    for address in network.addresses:
        network.proxy.wait_for(f"CONNECT {address} 200 {USER}")


def test_what_is_said_of_credentials(network, tmp_path):
    """Missing and wrong credentials, and a file without a user or with a bad mode, have their messages."""
    join = join_file(tmp_path, network.collector.token())
    nobody = Agent(tmp_path / "state", **by(network.proxy, tmp_path))
    assert "asks for a user and a password (407): set collector.proxy_credentials_file" in not_enrolled(
        nobody, join
    )
    stranger = Agent(tmp_path / "state", **by(network.proxy, tmp_path, f"{USER}:{PASSWORD}!"))
    assert "does not accept the user and the password" in not_enrolled(stranger, join)
    stranger = Agent(tmp_path / "state", **by(network.proxy, tmp_path, PASSWORD.replace(":", "")))
    with pytest.raises(AgentError, match="names no user"):
        enrol(stranger.settings, join)
    (tmp_path / "credentials").chmod(0o644)
    with pytest.raises(AgentError, match="chmod o-rwx"):
        enrol(stranger.settings, join)
    join.rename(nobody.state / "join.json")
    for agent, words in ((nobody, "asks for a user"), (stranger, "chmod o-rwx")):
        rows = diagnosis(agent, enrolled=False)
        assert rows
        assert not any(answers for _, answers, _ in rows)
        assert all(words in text for _, _, text in rows)


def test_a_proxy_that_refuses_or_cannot_reach(network, tmp_path):
    """A port that the proxy forbids, and an address that it does not reach, are told apart."""
    dead = free_port()
    with Squid(network.entrance.port, dead) as proxy:
        agent = Agent(tmp_path / "state", **by(proxy, tmp_path))
        join = network.collector.token()
        for address, words in (
            ("127.0.0.1:8642", "refuses to connect to 127.0.0.1:8642 (403): have CONNECT"),
            (f"127.0.0.1:{dead}", f"cannot reach 127.0.0.1:{dead} (503)"),
        ):
            join_path = join_file(tmp_path, join | {"address": address, "enrolment_address": address})
            assert words in not_enrolled(agent, join_path)
            join_path.rename(agent.state / "join.json")
            assert all(words in text for _, _, text in diagnosis(agent, enrolled=False))


def test_a_proxy_that_was_away(network, tmp_path):
    """While the proxy is down nothing is delivered, with its address in the reason; then all arrives."""
    agent = Agent(tmp_path / "state", **by(network.proxy, tmp_path, f"{USER}:{PASSWORD}"))
    enrol(agent.settings, join_file(tmp_path, network.collector.token()))
    agent.measure(record(0))
    network.proxy.stop()
    try:
        assert not agent.send()
        assert f"by the proxy {network.proxy.address} cannot be reached" in agent.control()["standing"]
        assert [answers for _, answers, _ in diagnosis(agent)] == [False, False]
    finally:
        network.proxy.start()
    assert agent.send()
    assert "failures" not in agent.control()
    assert all(row[3] is not None for row in agent.rows())


def test_a_proxy_that_inspects_tls(network, tmp_path):
    """The agent refuses the certificate of the inspection, and `doctor` names the issuer."""
    authority = TestAuthority("Inspection of the school").root
    with Squid(network.entrance.port, inspecting=authority.pem + authority.key_pem, hosts=NAMES) as proxy:
        agent = Agent(tmp_path / "state", **by(proxy, tmp_path))
        join = join_file(tmp_path, network.collector.token())
        assert "another CA" in not_enrolled(agent, join)
        join.rename(agent.state / "join.json")
        rows = doctor_network.rows(agent.settings, None)
    assert len(rows) == 2
    assert all("issued by 'commonName=Inspection of the school root'" in row["text"] for row in rows)
    (warning,) = doctor_network.warnings(rows, enrolled=False)
    assert "no address of the collector answers" in warning


def test_the_first_address_that_answers(tmp_path, caplog):
    """A join file with a dead address, a silent one and a good one: each contact ends at the good one."""
    caplog.set_level(logging.INFO)
    dead, records, enrolment = free_ports(3)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        served(
            settings_in(
                tmp_path,
                **{
                    "grpc.address": f"127.0.0.1:{records}",
                    "grpc.enrolment_address": f"127.0.0.1:{enrolment}",
                    "grpc.advertised_address": f"127.0.0.1:{dead}, 127.0.0.1:{silent.getsockname()[1]}, "
                    f"127.0.0.1:{records}",
                    "grpc.advertised_enrolment_address": f"127.0.0.1:{dead}, 127.0.0.1:{enrolment}",
                },
            )
        ) as collector,
    ):
        join = collector.token()
        assert join["address"] == f"127.0.0.1:{dead}"
        assert join["addresses"][2] == f"127.0.0.1:{records}"
        agent = Agent(tmp_path / "state", **{"collector.deadline_seconds": "20"})
        enrol(agent.settings, join_file(tmp_path, join))
        agent.measure(record(0))
        assert agent.send()
        reached = [one for one in caplog.records if one.message == "collector reached"]
        (tried,) = (one.not_by for one in reached if one.route == f"127.0.0.1:{records}")
        for port in (dead, silent.getsockname()[1]):
            assert f"127.0.0.1:{port} cannot be reached" in tried
        assert all(row[3] is not None for row in agent.rows())


def test_at_school_and_at_home(tmp_path):
    """A list of proxies ends with `direct`: the agent delivers with the proxy, and without it."""
    with FakeCollector() as collector:
        port = int(collector.address.rpartition(":")[2])
        enrolment = int(collector.enrolment_address.rpartition(":")[2])
        with Squid(port, enrolment) as proxy:
            ways = {"collector.proxy": f"http://{proxy.address}, direct"}
            agent = Agent(tmp_path / "state", **ways)
            agent.enrol(collector)
            agent.measure(record(0))
            assert agent.send()
            for address in (collector.enrolment_address, collector.address):
                proxy.wait_for(f"CONNECT {address} 200 -")
            proxy.stop()
            agent.measure(record(1))
            assert agent.send()
        assert energies(collector.stored(agent.identity.agent_id)) == [1_000, 1_001]
        assert [answers for _, answers, _ in diagnosis(agent)] == [False, True, False, True]


def test_an_expired_certificate_is_renewed_by_the_proxy(tmp_path):
    """Renewal after expiry uses the enrolment address by the proxy too."""
    with FakeCollector() as collector:
        ports = [int(text.rpartition(":")[2]) for text in (collector.address, collector.enrolment_address)]
        with Squid(*ports) as proxy:
            agent = Agent(tmp_path / "state", **by(proxy, tmp_path))
            agent.enrol(collector)
            before = agent.identity.leaf_der()
            agent.send(lambda: clock.unix_milliseconds() + FAR)
            assert agent.identity.leaf_der() != before
            proxy.wait_for(f"CONNECT {collector.enrolment_address} 200 -", times=2)


def test_a_held_connection_keeps_its_route(tmp_path):
    """It stays where it is when a better route comes back; once broken, the search begins with the first."""
    with FakeCollector() as collector, ExitStack() as later:
        ports = [int(text.rpartition(":")[2]) for text in (collector.address, collector.enrolment_address)]
        proxy = Squid(*ports)
        agent = Agent(tmp_path / "state", **{"collector.proxy": f"http://{proxy.address}, direct"})
        agent.enrol(collector)

        def hold(outbox: Outbox) -> None:
            store = IdentityStore(agent.state)
            with Connection(agent.settings, outbox, store, clock.unix_milliseconds) as held:
                assert held.contact().records == 1
                later.enter_context(proxy)
                agent.measure(record(1))
                assert held.deliver().records == 1
                held.close()
                agent.measure(record(2))
                assert held.contact().records == 1
                proxy.stop()
                agent.measure(record(3))
                with pytest.raises(AddressAway):
                    held.deliver()
                assert held.contact().records == 1

        agent.measure(record(0))
        agent.with_outbox(hold)
        assert energies(collector.stored(agent.identity.agent_id)) == [1_000, 1_001, 1_002, 1_003]


def test_variables_of_the_environment_are_ignored(tmp_path, monkeypatch):
    """Neither HTTPS_PROXY takes a direct agent elsewhere, nor NO_PROXY one with a proxy past it."""
    for name in ("HTTPS_PROXY", "https_proxy", "http_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy", "no_grpc_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with FakeCollector() as collector:
        ports = [int(text.rpartition(":")[2]) for text in (collector.address, collector.enrolment_address)]
        Agent(tmp_path / "state").enrol(collector)
        with Squid(*ports) as proxy:
            assert Agent(tmp_path / "state", **by(proxy, tmp_path)).send()
            proxy.wait_for(f"CONNECT {collector.address} 200 -")
