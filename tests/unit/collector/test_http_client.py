# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the HTTP client over fake servers: what is refused before a request, what no server can do."""

from __future__ import annotations

import contextlib
import gzip
import logging
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.authority import TestAuthority
from tests.support.fakes.devices import Asked, FakeDevice, Handler, dripping, endless, page, reply
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector.http_client import FetchError, HttpClient, Route, check_address, get_json

TOKEN = "t0ken-of-a-test"


def failure_of(ask: Callable[[], Any]) -> FetchError:
    """Return the error that a call ends with: one line, without the token."""
    with pytest.raises(FetchError) as failed:
        ask()
    text = str(failed.value)
    assert "\n" not in text
    assert TOKEN not in text
    return failed.value


def outcome_at(device: FakeDevice, seconds: float = PATIENCE_SECONDS) -> str:
    """Return the outcome of a GET with a token at a device."""
    ask = partial(get_json, f"http://{device.address}", "/x", Route(seconds), {"auth-token": TOKEN})
    return failure_of(ask).outcome


def letters(asked: Asked) -> Iterator[bytes]:
    """Answer with a body that comes letter by letter, each within a short wait."""
    yield b"HTTP/1.1 200 Said\r\n\r\n"
    while True:
        yield b""
        yield b" "


@pytest.mark.parametrize("handler", [dripping, letters, lambda asked: None])
def test_the_total_is_for_all_of_it(handler: Handler):
    """A slow head, a slow body and no answer all end at the total, although no single wait is long."""
    with FakeDevice(handler) as device:
        assert outcome_at(device, 0.3) == "timeout"


def test_silence_ends_before_the_total():
    """With both bounds, the error names the silence."""
    with FakeDevice(lambda asked: None) as device:
        client = HttpClient(f"http://{device.address}", Route(PATIENCE_SECONDS, silence_seconds=0.2))
        error = failure_of(partial(client.get, "/"))
        assert (error.outcome, "within 0.2 s" in str(error)) == ("timeout", True)


def test_a_body_without_end_is_left():
    """A body without end is cut at the bound in bytes."""
    with FakeDevice(endless) as device:
        assert outcome_at(device) == "too_long"


def test_a_gzip_bomb_stays_packed():
    """No compression is requested, and a compressed answer is not unpacked: 200 MiB of zeros are no JSON."""
    bomb = gzip.compress(bytes(200 * 2**20), 1)
    with FakeDevice(lambda asked: reply(200, None, {"Content-Encoding": "gzip"}, bomb)) as device:
        assert outcome_at(device) == "not_understood"
        assert device.asked[0].headers["accept-encoding"] == "identity"
        answer = HttpClient(f"http://{device.address}", Route(PATIENCE_SECONDS)).get("/")
        assert answer.body == bomb


@pytest.mark.parametrize(
    ("handler", "outcome"),
    [
        (page(b"<html>"), "not_understood"),
        (page(b"[" * 100_000), "not_understood"),
        (page(b'{"value": NaN}'), "not_understood"),
        (lambda asked: reply(500), "refused"),
        (lambda asked: reply(401, {"error": TOKEN}), "refused"),
        (lambda asked: reply(429), "quota"),
        (lambda asked: b"no HTTP at all\r\n\r\n", "unreachable"),
        (lambda asked: f"HTTP/1.1 {asked.headers['auth-token']}\r\n\r\n".encode(), "unreachable"),
        (lambda asked: b"HTTP/1.1 200 Said\r\nX: " + b"x" * 200_000, "unreachable"),
        (lambda asked: b"HTTP/1.1 200 Said\r\nContent-Length: 9\r\n\r\n[]", "unreachable"),
        (lambda asked: b"", "unreachable"),
    ],
)
def test_nonsense_is_one_line(handler: Handler, outcome: str):
    """HTML, deep nesting, NaN, errors, non-HTTP, an echoed token, a cut body: each gives one line."""
    with FakeDevice(handler) as device:
        assert outcome_at(device) == outcome


def redirect(place: str) -> Handler:
    """Return a handler that redirects every request."""
    return lambda asked: reply(302, {}, {"Location": place})


def test_no_redirect_is_followed():
    """No redirect is followed, to another server or the same one: it would carry the token."""
    with FakeDevice(page(b"{}")) as elsewhere:
        for place in (f"http://{elsewhere.address}/", "/y"):
            with FakeDevice(redirect(place)) as device:
                assert outcome_at(device) == "refused"
                assert len(device.asked) == 1
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://odre.example.org", ""),
        ("http://10.0.0.1:5000", ""),
        ("http://localhost.example.org", ""),
        ("ftp://127.0.0.1", ""),
        ("file:///etc/passwd", ""),
        ("127.0.0.1:5000", ""),
        ("", ""),
        ("https://[::1/x", ""),
        ("http://127.0.0.1:99999", ""),
        ("https://example.org/?a=b", ""),
        (f"https://user:{TOKEN}@example.org", ""),
        (f"ftp://user:{TOKEN}@example.org", ""),
        (f"https://user:{TOKEN}/@example.org", ""),
        ("https://example.org", "https://proxy.example.org"),
        ("https://example.org", "proxy:3128"),
        ("https://example.org", f"http://user:{TOKEN}@proxy.example.org"),
    ],
)
def test_addresses_that_are_not_asked(url: str, proxy: str):
    """Plain HTTP beyond this machine, users in addresses, other proxies and non-URLs are refused."""
    assert failure_of(lambda: HttpClient(url, Route(1, proxy))).outcome == "not_configured"


def test_addresses_that_are_asked():
    """TLS is allowed anywhere, plain HTTP on this machine."""
    for good in ("https://example.org/api", "http://127.0.0.1:5000", "http://[::1]:5000", "http://localhost"):
        assert check_address(good, "it").hostname


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/é", f"https://{'a' * 70}.example.org", "https://a..b"])
def test_a_name_that_nobody_can_be_asked_for(url: str):
    """An impossible name or path is refused before anything is sent."""
    assert failure_of(lambda: get_json(url, "/", Route(PATIENCE_SECONDS))).outcome == "not_configured"


def tls(signed: Any, authority: TestAuthority, folder: Path) -> ssl.SSLContext:
    """Return the TLS context of a server."""
    chain = folder / "chain.pem"
    chain.write_bytes(signed.pem + authority.intermediate.pem + signed.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


class Proxy:
    """A fake forward proxy: it handles CONNECT and keeps the request."""

    def __init__(self, target: int) -> None:
        self.asked: list[str] = []
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(PATIENCE_SECONDS)

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        self._listener.close()
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            self.asked.append(client.recv(4096).decode())
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=self._pump, args=(server, client))
            back.start()
            self._pump(client, server)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def ca(tmp_path: Path, authority: TestAuthority) -> str:
    """Return the file of the authority."""
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.root.pem + authority.intermediate.pem)
    return str(path)


def test_tls_is_checked(tmp_path: Path, authority: TestAuthority, ca: str):
    """A server of the given authority is trusted; others are refused before any request."""
    stranger = TestAuthority("stranger")
    signed = authority.new_server(name="other.example")
    for server in (tls(stranger.server, stranger, tmp_path), tls(signed, authority, tmp_path)):
        with FakeDevice(page(b"{}"), server) as device:
            client = HttpClient(f"https://127.0.0.1:{device.port}", Route(PATIENCE_SECONDS, "", ca))
            error = failure_of(partial(client.get, "/"))
            assert (error.outcome, "set ca_file" in str(error), device.asked) == ("not_trusted", True, [])
    with FakeDevice(page(b"{}"), tls(authority.server, authority, tmp_path)) as device:
        assert get_json(f"https://127.0.0.1:{device.port}", "/", Route(PATIENCE_SECONDS, "", ca)) == {}
        client = HttpClient(f"https://127.0.0.1:{device.port}", Route(PATIENCE_SECONDS))
        assert failure_of(partial(client.get, "/")).outcome == "not_trusted"


def test_through_a_proxy(tmp_path: Path, authority: TestAuthority, ca: str):
    """The proxy sees a name and a port, but no path and no token."""
    with FakeDevice(page(b"{}"), tls(authority.server, authority, tmp_path)) as device:
        proxy = Proxy(device.port)
        route = Route(PATIENCE_SECONDS, proxy.url, ca)
        assert get_json(f"https://localhost:{device.port}", "/v3/x", route, {"auth-token": TOKEN}) == {}
        proxy.join()
        (said,) = proxy.asked
        assert said.startswith(f"CONNECT localhost:{device.port} HTTP/1.1\r\n")
        assert "/v3" not in said
        assert TOKEN not in said


def test_a_proxy_that_refuses():
    """A proxy's status is in the error; plain HTTP to this machine bypasses the proxy."""
    with FakeDevice(lambda asked: reply(407)) as proxy, FakeDevice(page(b"{}")) as device:
        route = Route(PATIENCE_SECONDS, f"http://{proxy.address}")
        error = failure_of(lambda: get_json("https://localhost:9", "/", route))
        assert (error.outcome, "407" in str(error)) == ("unreachable", True)
        assert get_json(f"http://{device.address}", "/", route) == {}


def test_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Proxies and passwords of the environment are ignored: settings alone decide where a token goes."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with FakeDevice(page(b"{}")) as device:
        assert get_json(f"http://{device.address}", "/", Route(PATIENCE_SECONDS)) == {}
        assert "authorization" not in device.asked[0].headers


def test_requests_are_not_logged(caplog: pytest.LogCaptureFixture):
    """Neither httpx nor its engine logs a request, at any level."""
    caplog.set_level(logging.DEBUG)
    with FakeDevice(page(b"{}")) as device:
        get_json(f"http://{device.address}", "/x", Route(PATIENCE_SECONDS), {"auth-token": TOKEN})
    assert caplog.records == []


def test_who_asks_nobody_does_not_load_it():
    """`veilleuse inventory --help` and the service do not import httpx, which takes a third of a second."""
    program = """
import sys
from veilleuse.collector.cli.main import run
run(["inventory", "--help"])
import veilleuse.collector.app.service, veilleuse.collector.grid.poll
print("httpx" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"
