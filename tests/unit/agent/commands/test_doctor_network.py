# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what `doctor` says of the routes to the collector: the words must name the real cause."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.fakes.agent import Agent
from tests.support.fakes.authority import TestAuthority
from tests.support.fakes.collector import FakeCollector
from tests.support.ports import free_port
from veilleuse.agent.commands.doctor_network import lines, rows, warnings

DAY = timedelta(days=1)


@contextmanager
def listening(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the address of a server that handles each connection, one after another."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    handle(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def told(tmp_path: Path, collector: FakeCollector, address: str, **settings: str) -> str:
    """Return the text about `address`, with the CA of `collector` in a join file that waits."""
    agent = Agent(tmp_path / "state", **settings)
    collector.join_file(agent.state / "join.json", address=address, enrolment_address=address)
    found = rows(agent.settings, None)
    assert [row["service"] for row in found] == ["records", "enrolment"]
    assert {row["answers"] for row in found} == {not found[0]["text"]}
    (line,) = {line.partition(": ")[2] for line in lines(found) if line.startswith("  ")}
    assert line.startswith(f"{address}, ")
    return str(found[0]["text"])


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ({"begins": -2 * DAY, "ends": -DAY}, "has expired by this machine's clock"),
        ({"begins": DAY, "ends": 2 * DAY}, "of the future by this machine's clock"),
        ({"name": "collector.example.org"}, "pki.server_names"),
        ({}, ""),
    ],
)
def test_a_certificate_of_another_time_or_name(tmp_path, server, words):
    """A wrong clock or name is not reported as another CA."""
    authority = TestAuthority()
    authority.server = authority.new_server(**server)
    with FakeCollector(authority) as collector:
        found = told(tmp_path, collector, collector.enrolment_address)
    assert words in found
    assert bool(words) == bool(found)


def test_another_authority(tmp_path, collector):
    """The issuer of the certificate is named, and no character of it can move a cursor."""
    with FakeCollector(TestAuthority("\x1b[2J other")) as other:
        found = told(tmp_path, collector, other.address)
    assert "issued by 'commonName=\\x1b[2J other intermediate': TLS is inspected on the way" in found


@pytest.mark.parametrize("address", ["nowhere.invalid:443", "localhost:{free}"])
def test_nobody_there(tmp_path, collector, address):
    """A name without an address and a closed port have different causes."""
    found = told(tmp_path, collector, address.format(free=free_port()))
    expected = "finds no address of the name nowhere.invalid" if "nowhere" in address else "it refuses"
    assert expected in found


def test_no_tls_there(tmp_path, collector):
    """A server of plain HTTP, and one that hangs up, are no collectors."""
    with listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as address:
        assert "is the port right?" in told(tmp_path, collector, address)
    with listening(lambda connection: None) as address:
        assert "closed before TLS is set up" in told(tmp_path, collector, address)


def test_a_server_that_ends_tls(tmp_path, collector):
    """A web server with the collector's own certificate does not speak HTTP/2 to agents."""
    server = collector.authority.server
    (tmp_path / "pem").write_bytes(server.pem + collector.authority.intermediate.pem + server.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    with listening(handle) as address:
        assert "without HTTP/2" in told(tmp_path, collector, address)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate x\r\n\r\n", "it offers NTLM, Negotiate"),
        (b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", "only Basic is supported"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n", "refuses to connect to a.example.org:443 (302)"),
        (b"SSH-2.0-OpenSSH\r\n", "is no HTTP proxy"),
        (b"", "is no HTTP proxy"),
    ],
)  # fmt: skip
def test_the_answer_of_a_proxy(tmp_path, collector, answer, words):
    """What a proxy offers, and what is no proxy, is said."""

    def handle(connection: socket.socket) -> None:
        connection.recv(1_000)
        connection.sendall(answer)

    with listening(handle) as address:
        proxy = {"collector.proxy": f"http://{address}"}
        assert words in told(tmp_path, collector, "a.example.org:443", **proxy)


def test_nothing_is_tried_without_a_ca(agent):
    """Before enrolment, and without a join file, nothing can be checked."""
    assert rows(agent.settings, None) == []
    assert list(warnings([], enrolled=False)) == []


def test_one_warning_when_no_route_of_the_needed_service_answers(agent, collector):
    """An enrolled agent needs the records; an enrolment port that was closed later is no warning."""
    agent.enrol(collector)
    found = rows(agent.settings, agent.identity)
    assert list(warnings(found, enrolled=True)) == []
    found[1]["answers"] = False
    assert list(warnings(found, enrolled=True)) == []
    assert len(list(warnings(found, enrolled=False))) == 1
