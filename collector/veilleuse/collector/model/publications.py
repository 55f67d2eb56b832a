# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What was published of a period of machines under the rule, as it is kept: once, and unchanged. docs/api.md. No I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Final

from veilleuse.wire.vocabulary import Word

MAXIMUM_BYTES: Final = 32 * 1024 * 1024
"""Of one content: some 10,000 groups of 3 kB, behind which stand 50,000 machines at least, each with a screen."""
MAXIMUM_PERIODS: Final = 1_000
"""Of all kinds together."""
MAXIMUM_ALL_BYTES: Final = 640 * 1024 * 1024
"""18 months of the largest (`retention.pc_monthly_months`), one more, and what is small."""
MAXIMUM_DAYS: Final = 31
"""Longest period."""


class PublicationKind(Word):
    """What a publication is of. One per kind and period."""

    RELEASE = "release"
    """A month of the release that readers of the API see: veilleuse.collector.web.api.release."""
    INDICATORS = "indicators"
    """I3 to I5 of a month on `/metrics` and the page: veilleuse.collector.web.metrics.indicators_monthly."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Figures that may be shown, of one whole period."""

    kind: PublicationKind
    first: date
    end: date
    """Exclusive."""
    format: int
    """Of the content; each kind counts its own."""
    k_anonymity: int
    """Fewest machines behind a group of it."""
    method_version: str
    """Version of the method, when it was published."""
    published_unix_milliseconds: int
    content: str
    """JSON of words and integers, without a machine."""

    @property
    def name(self) -> str:
        """For people: release 2026-10-01 to 2026-11-01."""
        return f"{self.kind} {self.first} to {self.end}"


def content_of(data: bytes) -> str:
    """What was sent, as text. Raises ValueError for what is no JSON object, or has more than MAXIMUM_BYTES."""
    if len(data) > MAXIMUM_BYTES:
        raise ValueError(f"it has more than {MAXIMUM_BYTES} bytes")
    content = data.decode()
    if not isinstance(json.loads(content), dict):
        raise ValueError("it is no JSON object")
    return content
