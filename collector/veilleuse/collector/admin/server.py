# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The socket on which the running collector offers its operations: one JSON object per line, bounded in size."""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.admin.operations import Operations
from veilleuse.collector.admin_client import MAX_REQUEST_BYTES, SOCKET_FILE, socket_path
from veilleuse.collector.errors import CollectorError, DataDirectoryError, UsageError

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 32
IDLE_SECONDS: Final = 10.0
STOP_SECONDS: Final = 1.0


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
        self._data_dir = data_dir
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="admin", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._closing.set()
        with (
            suppress(OSError),  # somebody removed the socket: the thread ends with us
            socket_path(self._data_dir) as path,
            socket.socket(socket.AF_UNIX) as waking,
        ):
            waking.settimeout(STOP_SECONDS)
            waking.connect(path)
        self._thread.join(STOP_SECONDS)
        self._server.server_close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        """One connection after the other; asleep in between, where serve_forever would look twice a second."""
        while not self._closing.is_set():
            self._server.handle_request()


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
            too_long = len(line) > MAX_REQUEST_BYTES
            answer = _TOO_LONG if too_long else _answer(self.server.operations, line)
            self.wfile.write(json.dumps(answer).encode() + b"\n")
            if too_long:
                return

    def _read_line(self) -> bytes:
        try:
            return self.rfile.readline(MAX_REQUEST_BYTES + 1)
        except TimeoutError:
            return b""


def _answer(operations: Operations, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
        if not isinstance(request, dict) or not isinstance(operation := request.pop("op", None), str):
            raise UsageError('the request is not a JSON object with an "op"')
        return {"ok": True, "result": operations.perform(operation, request)}
    except (ValueError, RecursionError):
        return _refused(2, "the request is not JSON")
    except CollectorError as error:
        return _refused(error.exit_code, str(error))
    except Exception:  # the administration's outermost call, as a servicer's: it must answer
        log.exception("administration call failed")
        return _refused(1, "the collector failed: its log says why")


def _refused(exit_code: int, error: str) -> dict[str, Any]:
    return {"ok": False, "exit_code": exit_code, "error": error}


_TOO_LONG: Final = _refused(2, f"a request has at most {MAX_REQUEST_BYTES} bytes")
