# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines stored publications of machines under the disclosure rule: written once, never changed, but for
kind `fleet`. docs/api.md. No I/O.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final, Generic, TypeVar

from veilleuse.wire.vocabulary import Word

T = TypeVar("T")
MAXIMUM_BYTES: Final = 32 * 1024 * 1024
"""Limit of one content: some 10,000 groups of 3 kB, with at least 50,000 machines, each with a screen."""
MAXIMUM_PERIODS: Final = 1_000
"""Limit over all kinds together."""
MAXIMUM_ALL_BYTES: Final = 640 * 1024 * 1024
"""Room for 18 months of the largest (`retention.pc_monthly_months`), one more, and small ones."""
MAXIMUM_DAYS: Final = 31
"""Longest period."""


class PublicationKind(Word):
    """Subject of a publication. One per kind and period."""

    RELEASE = "release"
    """A month of the release for readers of the API: veilleuse.collector.release.tables."""
    INDICATORS = "indicators"
    """Indicators of machines in a month: veilleuse.collector.release.indicator_rows."""
    FLEET = "fleet"
    """The fleet's energy in a month: veilleuse.collector.release.fleet.

    It is replaced where the inventory was corrected: it holds nothing of a PC that the release does not hold.
    """
    SERVERS = "servers"
    """What was measured of servers and server rooms in a month: veilleuse.collector.release.servers."""
    OWN_USE = "own_use"
    """What Veilleuse itself used in a month: veilleuse.collector.release.own_use.

    It is kept when the others go: nothing could compute it again.
    """


@dataclass(frozen=True, slots=True)
class Publication:
    """Publishable figures of one whole period."""

    kind: PublicationKind
    first: date
    end: date
    """Exclusive."""
    format: int
    """Format number of the content, separate for each kind."""
    k_anonymity: int
    """Fewest machines of a group."""
    method_version: str
    """docs/methodology.md §6's version at publication."""
    published_unix_milliseconds: int
    content: str
    """JSON of strings and integers, without a machine."""

    @property
    def name(self) -> str:
        """Return the name for readers: release 2026-10-01 to 2026-11-01."""
        return f"{self.kind} {self.first} to {self.end}"


@dataclass(frozen=True, slots=True)
class PublicationHold:
    """Months that stay unpublished after a restore, since nobody knows whether they were published before."""

    until: date
    """Day of the restore: months that ended by then are held."""
    why: str
    """What is wrong with the file of publications, for people."""
    allowed: tuple[tuple[date, date], ...] = ()
    """Periods [first, end) that an operator allowed to be published."""

    def covers(self, first: date, end: date) -> bool:
        """Return true when [first, end) may not be published."""
        return end <= self.until and not any(since <= first and end <= to for since, to in self.allowed)

    def allow(self, first: date, end: date) -> PublicationHold:
        """Return the hold without [first, end)."""
        return replace(self, allowed=tuple(sorted({*self.allowed, (first, end)})))

    def to_json(self) -> str:
        """Return the hold as a JSON object."""
        periods = [[day.isoformat() for day in period] for period in self.allowed]
        return json.dumps({"until": self.until.isoformat(), "why": self.why, "allowed": periods})

    @classmethod
    def from_json(cls, text: str) -> PublicationHold:
        """Parse a hold. Raises ValueError."""
        try:
            told = json.loads(text)
            periods = [tuple(map(date.fromisoformat, period)) for period in told["allowed"]]
            allowed = tuple((first, end) for first, end in periods)
            return cls(date.fromisoformat(told["until"]), str(told["why"]), allowed)
        except (KeyError, TypeError) as error:
            raise ValueError("no hold of publications") from error


HOLD_NOTE: Final = "publications_held"
"""Key in the table meta: the PublicationHold in force, as JSON."""


def content_of(data: bytes) -> str:
    """Decode received content. Raises ValueError for another type than a JSON object, or more than
    MAXIMUM_BYTES.
    """
    if len(data) > MAXIMUM_BYTES:
        raise ValueError(f"it has more than {MAXIMUM_BYTES} bytes")
    content = data.decode()
    if not isinstance(json.loads(content), dict):
        raise ValueError("it is no JSON object")
    return content


@dataclass(frozen=True, slots=True)
class FigureFormat(Generic[T]):
    """Format of one kind of figures.

    A different content of the same kind is a different format; older formats are not shown.
    """

    kind: PublicationKind
    format: int
    encode: Callable[[T], dict[str, Any]]
    """Encodes figures as words and integers, without machines."""
    decode: Callable[[dict[str, Any], date, date], T]
    """Decodes what was published of [first, end). Raises ValueError, KeyError, TypeError."""
    is_empty: Callable[[T], bool]
    """Returns true when the figures show nothing.

    Empty figures are not published, since no later snapshot could be compared with them.
    """
