# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Receives contents that are too large for one line of the socket, in pieces.

Few uploads at a time, in memory; an unfinished upload is dropped.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from veilleuse.collector.errors import AdminError, UsageError

KEPT_SECONDS: Final = 300.0
"""An upload that stops for longer gives its place to another one."""
PUBLICATION_PLACES: Final = 4
"""Concurrent publications: two web processes, each with a month for the API and one of indicators."""
PUBLICATION_KEPT_SECONDS: Final = 10.0
"""The same for a publication: a web process that stops between two pieces is dead."""
_NAME: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(slots=True)
class _Upload:
    """An upload that is not complete."""

    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    touched: float = 0.0


class Uploads:
    """Collects the pieces of uploads. Safe from any thread."""

    def __init__(
        self,
        monotonic_seconds: Callable[[], float] = time.monotonic,
        *,
        places: int = 1,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        """`places`: concurrent uploads; `kept_seconds`: one that stops for longer loses its place."""
        self._now = monotonic_seconds
        self._places = places
        self._kept_seconds = kept_seconds
        self._lock = threading.Lock()
        self._uploads: dict[str, _Upload] = {}

    def add(self, name: str, number: int, data: str, maximum_bytes: int) -> int:
        """Add the next piece, in base64; returns the bytes so far.

        Raises UsageError; AdminError while other uploads take all places.
        """
        if not _NAME.fullmatch(name):
            raise UsageError("the name of an upload must be 32 hexadecimal digits")
        try:
            piece = base64.b64decode(data, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise UsageError("a piece of an upload must be base64") from error
        with self._lock:
            if number == 0:
                self._begin(name)
            one = self._uploads.get(name)
            if one is None or number != len(one.pieces):
                raise UsageError("a piece of an upload is missing: send it again from the first")
            if one.size + len(piece) > maximum_bytes:
                del self._uploads[name]
                raise UsageError(f"more than {maximum_bytes} bytes: import it in parts")
            one.pieces.append(piece)
            one.size += len(piece)
            one.touched = self._now()
            return one.size

    def take(self, name: str) -> bytes:
        """Return the whole content, and drop the upload. Raises UsageError when there is none."""
        with self._lock:
            one = self._uploads.pop(name, None)
        if one is None:
            raise UsageError("there is no such upload: send it again")
        return b"".join(one.pieces)

    def _begin(self, name: str) -> None:
        """Take a place for an upload. An earlier try with the same name is dropped."""
        self._uploads.pop(name, None)
        stopped = self._now() - self._kept_seconds
        self._uploads = {key: one for key, one in self._uploads.items() if one.touched > stopped}
        if len(self._uploads) >= self._places:
            raise AdminError("another upload is under way: try again in a moment")
        self._uploads[name] = _Upload(touched=self._now())


def open_publication_uploads() -> Uploads:
    """Make the uploads of publications, apart from those of imports: neither waits for the other."""
    return Uploads(places=PUBLICATION_PLACES, kept_seconds=PUBLICATION_KEPT_SECONDS)
