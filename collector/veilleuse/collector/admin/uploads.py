# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What is too large for one line of the socket comes in pieces; one upload at a time, in memory, forgotten when it is not ended."""

from __future__ import annotations

import base64
import binascii
import re
import threading
import time
from collections.abc import Callable
from typing import Final

from veilleuse.collector.errors import AdminError, UsageError

KEPT_SECONDS: Final = 300.0
"""An upload that stops for longer makes room for another one."""
_NAME: Final = re.compile(r"[0-9a-f]{32}")


class Uploads:
    """Safe from any thread."""

    def __init__(self, monotonic_seconds: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic_seconds
        self._lock = threading.Lock()
        self._name = ""
        self._pieces: list[bytes] = []
        self._touched = 0.0

    def add(self, name: str, number: int, data: str, maximum_bytes: int) -> int:
        """The next piece, in base64; bytes so far. Raises UsageError; AdminError while another upload is under way."""
        if not _NAME.fullmatch(name):
            raise UsageError("an upload is named by 32 hexadecimal digits")
        try:
            piece = base64.b64decode(data, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise UsageError("a piece of an upload is base64") from error
        with self._lock:
            if number == 0:
                if self._pieces and name != self._name and self._now() - self._touched < KEPT_SECONDS:
                    raise AdminError("another import is being sent: try again in a moment")
                self._name, self._pieces = name, []
            if name != self._name or number != len(self._pieces):
                raise UsageError("a piece of an upload is missing: send it again from the first")
            if sum(map(len, self._pieces)) + len(piece) > maximum_bytes:
                self._pieces = []
                raise UsageError(f"more than {maximum_bytes} bytes: import it in parts")
            self._pieces.append(piece)
            self._touched = self._now()
            return sum(map(len, self._pieces))

    def take(self, name: str) -> bytes:
        """All of it, forgotten here. Raises UsageError when it is not there."""
        with self._lock:
            if not self._pieces or name != self._name:
                raise UsageError("there is no such upload: send it again")
            whole, self._pieces = b"".join(self._pieces), []
            return whole
