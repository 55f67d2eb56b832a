# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fake an upsd that does what a real one cannot: lie, send slowly, fall silent. tests/integration/test_nut.py
uses a real one."""

from __future__ import annotations

import contextlib
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator

SILENCE = None
"""No answer."""
PAUSE_SECONDS = 0.02
"""Pace of a slow server; no result depends on it."""
Answer = Iterable[bytes] | None
"""Parts, of which an empty one is a pause."""


class FakeUpsd:
    """Serves one UPS on a free port of 127.0.0.1."""

    def __init__(self, variables: dict[str, str], ups: str = "rack") -> None:
        self.ups = ups
        self.variables = variables
        self.heard: list[str] = []
        self.answer: Callable[[str], Answer] = self.honest
        self.tls: ssl.SSLContext | None = None
        self._released = threading.Event()
        self._server: _Server | None = None
        self.port = 0
        self.listen()

    @property
    def address(self) -> str:
        """The server's address as host:port."""
        return f"127.0.0.1:{self.port}"

    def honest(self, line: str) -> Answer:
        """Return the correct answer to a line, by net-protocol.txt."""
        match line.replace('"', "").split():
            case ["LIST", "UPS"]:
                return [f'BEGIN LIST UPS\nUPS {self.ups} "fake"\nEND LIST UPS\n'.encode()]
            case ["LIST", "VAR", self.ups]:
                rows = "".join(f'VAR {self.ups} {name} "{value}"\n' for name, value in self.variables.items())
                return [f"BEGIN LIST VAR {self.ups}\n{rows}END LIST VAR {self.ups}\n".encode()]
            case ["GET", "VAR", self.ups, name] if name in self.variables:
                return [f'VAR {self.ups} {name} "{self.variables[name]}"\n'.encode()]
            case ["GET", "VAR", self.ups, _]:
                return [b"ERR VAR-NOT-SUPPORTED\n"]
            case ["USERNAME" | "PASSWORD", *_]:
                return [b"OK\n"]
            case ["STARTTLS"]:
                return [b"OK STARTTLS\n" if self.tls else b"ERR FEATURE-NOT-CONFIGURED\n"]
        return [b"ERR UNKNOWN-COMMAND\n"]

    def says(self, answer: bytes) -> Callable[[], None]:
        """Return a function that makes every GET be answered by `answer`, and the rest correctly."""

        def say() -> None:
            self.answer = lambda line: [answer] if line.startswith("GET") else self.honest(line)

        return say

    def hang(self) -> None:
        """Receive requests and answer none from now on."""
        self._released.clear()
        self.answer = lambda _: SILENCE

    def refuse(self) -> None:
        """Stop the server: nothing listens at the address any more."""
        if self._server is not None:
            self._released.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def listen(self) -> None:
        """Answer correctly from now on, at the same address."""
        self.answer = self.honest
        self._released.set()
        if self._server is None:
            self._released.clear()
            self._server = _Server(self.port, self)
            self.port = self._server.server_address[1]
            threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def reply(self, line: str) -> Answer:
        """Return the answer to a line; for SILENCE, wait until released."""
        self.heard.append(line)
        answer = self.answer(line)
        if answer is SILENCE:
            self._released.wait()
        return answer

    def pause(self) -> None:
        """Wait for a moment, or until released."""
        self._released.wait(PAUSE_SECONDS)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, fake: FakeUpsd) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.fake = fake


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client has closed the connection
            while line := self.rfile.readline(4_096).decode().rstrip("\n"):
                for part in self.server.fake.reply(line) or ():
                    if not part:
                        self.server.fake.pause()
                    self.connection.sendall(part)
                if line == "STARTTLS" and (tls := self.server.fake.tls):
                    self._secure(tls)

    def _secure(self, tls: ssl.SSLContext) -> None:
        self.connection = tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
            self.connection.close()


@contextlib.contextmanager
def fake_upsd(variables: dict[str, str], ups: str = "rack") -> Iterator[FakeUpsd]:
    """Run a server while the block runs."""
    fake = FakeUpsd(variables, ups)
    try:
        yield fake
    finally:
        fake.refuse()
