# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sockets in the data directory, mode 0600, over which processes of the same account call the collector."""

from __future__ import annotations

import base64
import errno
import json
import logging
import os
import socket
import socketserver
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Final, TypeAlias

from veilleuse.collector.errors import AdminError, DataDirectoryError, UsageError
from veilleuse.collector.model.hosts import Host
from veilleuse.wire.files import FileRefused
from veilleuse.wire.limits import AGENT_ID_DIGITS_MINIMUM

log = logging.getLogger(__name__)

Conversation: TypeAlias = Callable[[BufferedIOBase, BufferedIOBase], None]
"""Reads the caller's message from the first, answers on the second.

The connection is closed when it returns.
"""
GATEWAY_FILE: Final = "door.sock"
"""Socket on which the collector answers veilleuse.collector.app.gateway."""
GATEWAY_INNER_FILE: Final = "door-inner.sock"
"""Socket on which gRPC listens inside the gateway."""
IDLE_SECONDS: Final = 10.0
"""A caller that is silent for this time is cut: its read raises TimeoutError."""
STOP_SECONDS: Final = 1.0
_PATH_BYTES: Final = 100
"""The limit of the kernel is 108: unix(7)."""


@contextmanager
def socket_path(data_dir: Path, name: str) -> Iterator[str]:
    """Yield a path of the socket that is short enough for the kernel, whatever the data directory's path."""
    path = str(data_dir / name)
    if len(os.fsencode(path)) < _PATH_BYTES:
        yield path
        return
    folder = os.open(data_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)


def connect(connection: socket.socket, data_dir: Path, name: str) -> None:
    """Connect to a socket of the data directory, owned by its owner or root; links are not followed.

    Raises OSError.
    """
    descriptor = os.open(data_dir / name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found, folder = os.fstat(descriptor), data_dir.stat()
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in (0, folder.st_uid, os.geteuid()):
            raise FileRefused(
                errno.EPERM, f"{name} is no socket of the service: see who put it there, then remove it"
            )
        connection.connect(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class PrivateServer:
    """Listens on `<data_dir>/<name>` while it is open: one thread per connection, within limits."""

    def __init__(self, data_dir: Path, name: str, conversation: Conversation, *, places: int) -> None:
        """Listen at once.

        The caller holds the directory's lock, so an existing socket belongs to a dead process. `places`:
        connections at once, the next one is closed. Raises DataDirectoryError.
        """
        self._data_dir, self._name = data_dir, name
        self._path = data_dir / name
        try:
            self._path.unlink(missing_ok=True)
            with socket_path(data_dir, name) as path:
                self._server = _Server(path, conversation, places)
        except OSError as error:
            raise DataDirectoryError(f"cannot listen on {self._path}: {error.strerror or error}") from error
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._closing.set()
        with (
            suppress(OSError),  # the socket may have been removed: the thread ends with the process
            socket.socket(socket.AF_UNIX) as waking,
        ):
            waking.settimeout(STOP_SECONDS)
            connect(waking, self._data_dir, self._name)
        self._thread.join(STOP_SECONDS)
        self._server.server_close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        """Handle one connection after the other.

        It sleeps in between, while serve_forever would wake twice a second.
        """
        while not self._closing.is_set():
            self._server.handle_request()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, conversation: Conversation, places: int) -> None:
        self.conversation = conversation
        self.places = threading.BoundedSemaphore(places)
        super().__init__(path, _Handler, bind_and_activate=False)
        os.fchmod(self.socket.fileno(), 0o600)  # the file gets the mode of its socket: unix(7)
        self.server_bind()
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start one thread per connection, within limits."""
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
        """Log an error; a caller that went away needs no traceback."""
        kind, error, trace = sys.exc_info()
        if isinstance(error, OSError):
            log.debug("connection on a private socket broken", extra={"error": str(error)})
        elif kind is not None and error is not None:
            log.error("conversation on a private socket failed", exc_info=(kind, error, trace))


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    timeout = IDLE_SECONDS

    def handle(self) -> None:
        """Pass both directions to the conversation."""
        self.server.conversation(self.rfile, self.wfile)


SOCKET_FILE: Final = "admin.sock"
MAX_REQUEST_BYTES: Final = 1024 * 1024
"""A file of meters fits; only the owner can use the socket."""
PIECE_BYTES: Final = 512 * 1024
"""Size of a piece of a longer upload, before base64."""
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
TIMEOUT_SECONDS: Final = 5.0
START: Final = (
    "start it: 'systemctl start veilleuse-collector', or 'veilleuse serve' where systemd does not run it"
)
"""Remedy where no collector runs."""


class CollectorNotRunning(AdminError):
    """No process listens on the data directory's socket."""


def ask(data_dir: Path, operation: str, *, timeout_seconds: float = TIMEOUT_SECONDS, **arguments: Any) -> Any:
    """Return the result of an operation of the running collector, as JSON values.

    Raises CollectorNotRunning; UsageError or AdminError with the collector's own line; UnicodeEncodeError for
    invalid text.
    """
    request = json.dumps({"op": operation, **arguments}, ensure_ascii=False).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_seconds)
            connect(connection, data_dir, SOCKET_FILE)
            connection.sendall(request)
            answer = _read_line(connection)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        raise CollectorNotRunning(f"no collector runs on {data_dir}: {START}") from error
    except TimeoutError as error:
        raise AdminError(
            f"the collector on {data_dir} did not answer within {timeout_seconds:g} s"
        ) from error
    except OSError as error:
        raise AdminError(f"cannot ask the collector on {data_dir}: {error.strerror or error}") from error
    return _result(data_dir, answer)


def send(
    data_dir: Path, operation: str, *, timeout_seconds: float = TIMEOUT_SECONDS, **arguments: Any
) -> None:
    """Send one operation to the running collector, the only writer. Raises AdminError for any refusal."""
    try:
        ask(data_dir, operation, timeout_seconds=timeout_seconds, **arguments)
    except UsageError as error:
        raise AdminError(str(error)) from error


def pieces_of(upload: str, data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the arguments of each request that uploads a piece of `data`, in order.

    `upload`: name of the upload, 32 random hexadecimal digits.
    """
    for number, start in enumerate(range(0, len(data), PIECE_BYTES)):
        piece = base64.b64encode(data[start : start + PIECE_BYTES]).decode()
        yield {"upload": upload, "number": number, "data": piece}


def one_host(known: Iterable[Host], beginning: str) -> Host:
    """Return the host whose agent id begins with these digits, at least AGENT_ID_DIGITS_MINIMUM.

    Raises AdminError unless there is exactly one.
    """
    matches = [host for host in known if beginning and host.agent_id.hex().startswith(beginning.lower())]
    if not matches:
        what = f"no host '{beginning}'"
    elif len(beginning) < AGENT_ID_DIGITS_MINIMUM:
        what = (
            f"'{beginning}' is too short to name a host: give {AGENT_ID_DIGITS_MINIMUM} digits of its agent "
            "id or more"
        )
    elif len(matches) > 1:
        what = f"{len(matches)} hosts begin with '{beginning}': give more digits"
    else:
        return matches[0]
    raise AdminError(f"{what}; see 'veilleuse hosts list'")


def _read_line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece:
            break
        received += piece
        if len(received) > MAX_ANSWER_BYTES:
            raise AdminError("the collector's answer is too long")
    return bytes(received)


def _result(data_dir: Path, answer: bytes) -> Any:
    try:
        parsed = json.loads(answer)
        if parsed["ok"]:
            return parsed["result"]
        failure = UsageError if parsed["exit_code"] == UsageError.exit_code else AdminError
        line = str(parsed["error"])
        if line.startswith("unknown operation"):  # commands are updated before the service is restarted
            line = (
                f"the collector on {data_dir} is of another version than this command: restart 'veilleuse "
                "serve'"
            )
            failure = AdminError
    except (ValueError, KeyError, TypeError) as error:
        raise AdminError(f"the collector on {data_dir} gave no answer: look at its log") from error
    raise failure(line)
