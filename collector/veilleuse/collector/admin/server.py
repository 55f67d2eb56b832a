# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The socket on which the running collector offers its operations: one JSON object per line, bounded in size."""

from __future__ import annotations

import json
import logging
import socketserver
import threading
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.admin.operations import Operations
from veilleuse.collector.admin_client import MAX_REQUEST_BYTES, SOCKET_FILE, socket_path
from veilleuse.collector.errors import CollectorError, DataDirectoryError, UsageError

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 32
IDLE_SECONDS: Final = 10.0


class AdminServer:
    """Offers operations on `<data_dir>/admin.sock`, mode 0600, while it is open."""

    def __init__(self, data_dir: Path, operations: Operations) -> None:
        """Listens at once. The caller holds the directory's lock, so a socket found there is of a dead process.

        Raises DataDirectoryError.
        """
        self._path = data_dir / SOCKET_FILE
        try:
            self._path.unlink(missing_ok=True)
            with socket_path(data_dir) as path:
                self._server = _Server(path, operations)
            self._path.chmod(0o600)  # until here the directory's own 0700 keeps others out
        except OSError as error:
            raise DataDirectoryError(f"cannot listen on {self._path}: {error.strerror or error}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="admin", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, operations: Operations) -> None:
        self.operations = operations
        self.places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(path, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread per connection, within bounds."""
        if self.places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is nothing to print a traceback about."""
        log.debug("administration connection broken")


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    timeout = IDLE_SECONDS

    def handle(self) -> None:
        """Answer line after line until the caller closes, is silent for 10 s, or writes too much."""
        while line := self._read_line():
            self.wfile.write(json.dumps(_answer(self.server.operations, line)).encode() + b"\n")

    def _read_line(self) -> bytes:
        try:
            line = self.rfile.readline(MAX_REQUEST_BYTES + 1)
        except TimeoutError:
            return b""
        return line if len(line) <= MAX_REQUEST_BYTES else b"too long"


def _answer(operations: Operations, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
        if not isinstance(request, dict) or not isinstance(operation := request.pop("op", None), str):
            raise UsageError('the request is not a JSON object with an "op"')
        return {"ok": True, "result": operations.perform(operation, request)}
    except ValueError:
        return {"ok": False, "exit_code": 2, "error": "the request is not JSON"}
    except CollectorError as error:
        return {"ok": False, "exit_code": error.exit_code, "error": str(error)}
