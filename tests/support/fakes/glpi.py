# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run a fake GLPI: an HTTP server on loopback that answers by GLPI's apirest.md, from lists of items."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.peers import peer

USER_TOKEN, APP_TOKEN = "u" * 40, "a" * 40


def computer(number: int, **more: Any) -> dict[str, Any]:
    """Return a computer with expanded dropdowns, in the form of apirest.md's example."""
    return {
        "id": number,
        "entities_id": "Métropole &#62; Collèges",
        "name": f"PC{number:04}",
        "serial": f"SN{number:06}X",
        "otherserial": f"INV-{number}",
        "contact": "dupont",
        "users_id": "dupont",
        "locations_id": "Lyon &#62; Salle 12",
        "computermodels_id": "OptiPlex 7090",
        "computertypes_id": "Mini Tower",
        "is_template": 0,
        "manufacturers_id": "Dell Inc.",
        "is_deleted": 0,
        "states_id": "En service",
        "uuid": f"4c4c4544-0000-1000-8000-{number:012x}",
        "comment": "bureau de Mme Martin",
        **more,
    }


class FakeGlpi:
    """The server's items, and its next faults."""

    def __init__(self) -> None:
        self.items: dict[str, list[dict[str, Any]]] = {
            "Entity": [
                {"id": 0, "completename": "Métropole"},
                {"id": 1, "completename": "Métropole &#62; Collèges"},
            ],
            "Infocom": [],
            "Computer_Item": [],
        }
        self.faults: list[tuple[str, int, dict[str, str], bytes]] = []
        """(path, status, headers, body): each answers one request for its path, in order."""
        self.session = 0
        self.alive: set[str] = set()
        self.lives = 10_000
        """Requests that remain until the session ends."""
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.range_beyond_end_is_an_error = True
        self.tells_totals = True
        self._answers = threading.Event()
        self._answers.set()
        self.url = ""

    @property
    def slow_seconds(self) -> float:
        """Unless 0, each request waits for its answer until this is 0 again."""
        return 0.0 if self._answers.is_set() else float("inf")

    @slow_seconds.setter
    def slow_seconds(self, seconds: float) -> None:
        (self._answers.clear if seconds else self._answers.set)()

    def wait(self) -> None:
        """Wait while it is slow."""
        self._answers.wait()

    def answer(
        self, path: str, query: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, dict[str, str], Any]:
        self.requests.append((path, query))
        for place, (at, status, more, body) in enumerate(self.faults):
            if at == path:
                del self.faults[place]
                return status, more, body
        if headers.get("app-token") != APP_TOKEN:
            return 400, {}, ["ERROR_WRONG_APP_TOKEN_PARAMETER", "the App-Token parameter seems wrong"]
        if path == "initSession":
            return self._begin(headers)
        token = headers.get("session-token", "")
        if token not in self.alive or self.lives <= 0:
            self.alive.discard(token)
            return 401, {}, ["ERROR_SESSION_TOKEN_INVALID", "session_token seems invalid"]
        if path == "killSession":
            self.alive.discard(token)
            return 200, {}, None
        self.lives -= 1
        return self._page(path, query)

    def _begin(self, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        if headers.get("authorization") != f"user_token {USER_TOKEN}":
            return 401, {}, ["ERROR_GLPI_LOGIN_USER_TOKEN", "parameter user_token seems invalid"]
        self.session += 1
        self.lives = max(self.lives, 3)
        self.alive.add(f"session{self.session}")
        return 200, {}, {"session_token": f"session{self.session}"}

    def _page(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        if path not in self.items:
            return 400, {}, ["ERROR_RESOURCE_NOT_FOUND_NOR_COMMONDBTM", "resource not found"]
        things = self.items[path]
        first, last = map(int, query["range"].split("-"))
        if first > max(len(things) - 1, 0) and self.range_beyond_end_is_an_error:
            return (
                400,
                {},
                ["ERROR_RANGE_EXCEED_TOTAL", f"Provided range exceed total count of data: {len(things)}"],
            )
        page = things[first : last + 1]
        whole = len(page) == len(things)
        told = {
            "Content-Range": f"{first}-{first + len(page) - 1}/{len(things)}",
            "Accept-Range": f"{path} 990",
        }
        return 200 if whole else 206, told if self.tells_totals else {}, page


def _self_signed(chain: Path, key: Path) -> None:
    """Make a certificate for 127.0.0.1 with openssl, valid for a day."""
    subprocess.run(
        [peer("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=glpi", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", chain],
        check=True, capture_output=True,
    )  # fmt: skip


@contextmanager
def fake_glpi(folder: Path | None = None) -> Iterator[FakeGlpi]:
    """Serve while the block runs. With a folder it serves over TLS; its self-signed certificate is put there
    as glpi.pem."""
    fake = FakeGlpi()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.wait()
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            path = unquote(parts.path).removeprefix("/apirest.php/").strip("/")
            status, told, document = fake.answer(path, query, headers)
            body = (
                document if isinstance(document, bytes) else json.dumps(document, ensure_ascii=False).encode()
            )
            self.send_response(status)
            for name, value in told.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # tests close connections early
    if folder is not None:
        chain, key = folder / "glpi.pem", folder / "glpi.key"
        _self_signed(chain, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if folder is None else "https"
    fake.url = f"{scheme}://127.0.0.1:{server.server_address[1]}/apirest.php"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.slow_seconds = 0.0
        server.shutdown()
        server.server_close()
        thread.join()
