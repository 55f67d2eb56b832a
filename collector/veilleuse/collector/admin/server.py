# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Serves the operations of the running collector on a socket: one JSON object per line, bounded in size."""

from __future__ import annotations

import json
import logging
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.admin.operations import Operations
from veilleuse.collector.errors import CollectorError, UsageError
from veilleuse.collector.ipc import MAX_REQUEST_BYTES, SOCKET_FILE, PrivateServer

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 32


class AdminServer(PrivateServer):
    """Serves operations on `<data_dir>/admin.sock`, mode 0600, while the server is open."""

    def __init__(self, data_dir: Path, operations: Operations) -> None:
        """Open the socket, like PrivateServer. Raises DataDirectoryError."""
        self._operations = operations
        super().__init__(data_dir, SOCKET_FILE, self._converse, places=MAX_CONNECTIONS)

    def _converse(self, reading: BufferedIOBase, writing: BufferedIOBase) -> None:
        """Answer each line until the caller closes, is silent for 10 s, or sends a line that is too long."""
        while line := _read_line(reading):
            too_long = len(line) > MAX_REQUEST_BYTES
            answer = _TOO_LONG if too_long else _answer(self._operations, line)
            writing.write(json.dumps(answer).encode() + b"\n")
            if too_long:
                return


def _read_line(reading: BufferedIOBase) -> bytes:
    try:
        return reading.readline(MAX_REQUEST_BYTES + 1)
    except TimeoutError:
        return b""


def _answer(operations: Operations, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return _refused(2, "the request is not JSON")
    try:
        if not isinstance(request, dict) or not isinstance(operation := request.pop("op", None), str):
            raise UsageError('the request is not a JSON object with an "op"')
        return {"ok": True, "result": operations.perform(operation, request)}
    except CollectorError as error:
        return _refused(error.exit_code, str(error))
    except Exception:  # outermost call of the administration: it must answer
        log.exception("administration call failed")
        return _refused(1, "the collector failed: its log says why")


def _refused(exit_code: int, error: str) -> dict[str, Any]:
    return {"ok": False, "exit_code": exit_code, "error": error}


_TOO_LONG: Final = _refused(2, f"a request has at most {MAX_REQUEST_BYTES} bytes")
