# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How another process asks the running collector: one JSON object per line over `<data_dir>/admin.sock`.

Request: `{"op": "health", …arguments}`. Answer: `{"ok": true, "result": …}`, or
`{"ok": false, "exit_code": 1 | 2, "error": "one clear line"}`. Operations: veilleuse.collector.admin.OPERATIONS.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.ipc.unix_socket import connect
from veilleuse.collector.model.records import Host
from veilleuse.wire.limits import AGENT_ID_DIGITS_MINIMUM

SOCKET_FILE: Final = "admin.sock"
MAX_REQUEST_BYTES: Final = 1024 * 1024
"""A file of meters goes through it; the socket is its owner's alone."""
PIECE_BYTES: Final = 512 * 1024
"""Of what is sent in pieces, before base64."""
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
TIMEOUT_SECONDS: Final = 5.0


class CollectorNotRunning(AdminError):
    """Nobody listens on the data directory's socket."""


def ask(data_dir: Path, operation: str, *, timeout_seconds: float = TIMEOUT_SECONDS, **arguments: Any) -> Any:
    """The result of an operation of the running collector, as JSON gives it.

    Raises CollectorNotRunning, UsageError or AdminError with the collector's own line; UnicodeEncodeError for what is no text.
    """
    request = json.dumps({"op": operation, **arguments}, ensure_ascii=False).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_seconds)
            connect(connection, data_dir, SOCKET_FILE)
            connection.sendall(request)
            answer = _read_line(connection)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        raise CollectorNotRunning(
            f"no collector runs on {data_dir}: start it with 'veilleuse serve'"
        ) from error
    except TimeoutError as error:
        raise AdminError(
            f"the collector on {data_dir} did not answer within {timeout_seconds:g} s"
        ) from error
    except OSError as error:
        raise AdminError(f"cannot ask the collector on {data_dir}: {error.strerror or error}") from error
    return _result(data_dir, answer)


def pieces_of(upload: str, data: bytes) -> Iterator[dict[str, Any]]:
    """The arguments of each request that sends a piece of it, in their order. `upload`: its name, 32 hexadecimal digits of chance."""
    for number, start in enumerate(range(0, len(data), PIECE_BYTES)):
        piece = base64.b64encode(data[start : start + PIECE_BYTES]).decode()
        yield {"upload": upload, "number": number, "data": piece}


def one_host(known: Iterable[Host], beginning: str) -> Host:
    """The host whose agent id begins like that, AGENT_ID_DIGITS_MINIMUM or more of its digits. Raises AdminError unless it is one."""
    matches = [host for host in known if beginning and host.agent_id.hex().startswith(beginning.lower())]
    if not matches:
        what = f"no host '{beginning}'"
    elif len(beginning) < AGENT_ID_DIGITS_MINIMUM:
        what = f"'{beginning}' is too short to name a host: give {AGENT_ID_DIGITS_MINIMUM} digits of its agent id or more"
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
            line = f"the collector on {data_dir} is of another version than this command: restart 'veilleuse serve'"
            failure = AdminError
    except (ValueError, KeyError, TypeError) as error:
        raise AdminError(f"the collector on {data_dir} gave no answer: look at its log") from error
    raise failure(line)
