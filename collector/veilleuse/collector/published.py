# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What was published of a period of machines under the rule, as it is kept: once, and unchanged. docs/decisions/0042. No I/O."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import dataclass
from datetime import date
from typing import Final

from veilleuse.wire.vocabulary import Word

MAXIMUM_BYTES: Final = 4 * 1024 * 1024
"""Of one content: some 3 kB a group."""
MAXIMUM_PERIODS: Final = 1_000
"""Of all kinds together."""
MAXIMUM_ALL_BYTES: Final = 256 * 1024 * 1024
MAXIMUM_DAYS: Final = 31
"""Longest period."""


class Kind(Word):
    """What a publication is of. One per kind and period."""

    RELEASE = "release"
    """A month of the release that readers of the API see: veilleuse.collector.web.api.release."""
    INDICATORS = "indicators"
    """I3 to I5 of a month on `/metrics` and the page: veilleuse.collector.web.indicators."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Figures that may be shown, of one whole period."""

    kind: Kind
    first: date
    end: date
    """Exclusive."""
    format: int
    """Of the content; each kind counts its own."""
    k_anonymity: int
    """Fewest machines behind a group of it."""
    method_version: str
    """METHOD.md's, when it was published."""
    published_unix_milliseconds: int
    content: str
    """JSON of words and integers, without a machine."""

    @property
    def name(self) -> str:
        """For people: release 2026-10-01 to 2026-11-01."""
        return f"{self.kind} {self.first} to {self.end}"


def packed(content: str) -> str:
    """For the socket, whose lines are short: base64 of zlib."""
    return base64.b64encode(zlib.compress(content.encode())).decode()


def unpacked(data: str) -> str:
    """What was packed. Raises ValueError for what is no JSON object, or has more than MAXIMUM_BYTES."""
    unpacking = zlib.decompressobj()
    try:
        found = unpacking.decompress(base64.b64decode(data, validate=True), MAXIMUM_BYTES)
    except (binascii.Error, zlib.error, TypeError) as error:
        raise ValueError(f"it is not packed as it should be ({error})") from error
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError(f"it is cut short, or has more than {MAXIMUM_BYTES} bytes")
    content = found.decode()
    if not isinstance(json.loads(content), dict):
        raise ValueError("it is no JSON object")
    return content
