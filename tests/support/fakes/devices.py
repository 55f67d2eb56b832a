# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run a fake HTTP device on loopback that answers by a handler, or fails, and keeps the requests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import socket
import ssl
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.support.waiting import PATIENCE_SECONDS

PAUSE_SECONDS = 0.05
"""Pace of a slow device; no result depends on it."""


class Asked(NamedTuple):
    """One received request."""

    method: str
    path: str
    headers: dict[str, str]
    """Header names are in lower case."""
    body: bytes


Reply = bytes | Iterator[bytes] | None
"""Bytes to send, whole or in parts, of which an empty one is a pause; None sends nothing and keeps the
connection open."""
Handler = Callable[[Asked], Reply]


def reply(
    status: int, document: object = None, headers: dict[str, str] | None = None, text: bytes = b""
) -> bytes:
    """Return a whole answer as small devices send it: without a length, closed at the end."""
    body = text if document is None else json.dumps(document).encode()
    head = [f"HTTP/1.1 {status} Said", "Content-Type: application/json", "Connection: close"]
    head += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def page(text: bytes) -> Handler:
    """Return a handler that answers every request with 200 and these bytes as body."""
    return lambda asked: reply(200, text=text)


def endless(asked: Asked) -> Iterator[bytes]:
    """Yield a chunked body without an end."""
    yield b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"10000\r\n" + b" " * 0x10000 + b"\r\n"


def dripping(asked: Asked) -> Iterator[bytes]:
    """Yield a header byte by byte with pauses, for longer than any test lasts, so that no single read waits
    long."""
    yield b"HTTP/1.1 200 Said\r\nX-Slow: "
    for _ in range(1_000):
        yield b""
        yield b"x"


class FakeDevice:
    """A server with one thread per connection; `handler` may be changed at any time."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self.handler = handler
        self.asked: list[Asked] = []
        self._tls = tls
        self._gone = threading.Event()
        self._refusing = False
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> FakeDevice:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._gone.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        self._listener.close()

    def refuse(self) -> None:
        """Close every new connection at once from now on."""
        self._refusing = True

    def answer(self) -> None:
        """Answer connections again after `refuse`."""
        self._refusing = False

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._gone.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                if self._refusing:
                    connection.close()
                else:
                    self._start(self._serve, connection)

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(PATIENCE_SECONDS)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(plain.close)
            connection = plain
            if self._tls is not None:
                connection = self._tls.wrap_socket(plain, server_side=True)
                stack.callback(connection.close)
            asked = _received(connection)
            if asked is None:
                return
            self.asked.append(asked)
            said = self.handler(asked)
            if said is None:
                self._gone.wait()
                return
            for part in (said,) if isinstance(said, bytes) else said:
                if self._gone.wait(0 if part else PAUSE_SECONDS):
                    return
                connection.sendall(part)


def _received(connection: socket.socket) -> Asked | None:
    text = b""
    while b"\r\n\r\n" not in text:
        part = connection.recv(65536)
        if not part:
            return None
        text += part
    head, _, body = text.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, path, _ = first.split(" ")
    return Asked(method, path, headers, body)


# ------------------------------------------------------------------------------------- passwords


def behind_basic(handler: Handler, name: str, secret: str) -> Handler:
    """Return a handler that requires Basic authentication (RFC 7617)."""

    def guarded(asked: Asked) -> Reply:
        scheme, _, value = asked.headers.get("authorization", "").partition(" ")
        if scheme == "Basic" and b64decode(value).decode() == f"{name}:{secret}":
            return handler(asked)
        return reply(401, headers={"WWW-Authenticate": 'Basic realm="device"'})

    return guarded


def behind_digest(handler: Handler, name: str, secret: str, realm: str) -> Handler:
    """Return a handler that requires Digest authentication with SHA-256 (RFC 7616), as Shelly Gen2 does; each
    nonce is valid once."""
    nonces: set[str] = set()

    def guarded(asked: Asked) -> Reply:
        given = dict(re.findall(r'(\w+)="?([^",]*)"?', asked.headers.get("authorization", "")))
        nonce = given.get("nonce", "")
        if nonce in nonces and given.get("uri") == asked.path:
            nonces.remove(nonce)
            who, what = _sha256(f"{name}:{realm}:{secret}"), _sha256(f"{asked.method}:{asked.path}")
            parts = (who, nonce, given.get("nc", ""), given.get("cnonce", ""), "auth", what)
            if given.get("username") == name and given.get("response") == _sha256(":".join(parts)):
                return handler(asked)
        fresh = secrets.token_hex(8)
        nonces.add(fresh)
        challenge = f'Digest qop="auth", realm="{realm}", nonce="{fresh}", algorithm=SHA-256'
        return reply(401, headers={"WWW-Authenticate": challenge})

    return guarded


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
