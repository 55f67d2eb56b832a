# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines stored closed years: unchangeable bytes and their metadata. Below the store; no I/O."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from veilleuse.wire.vocabulary import Word

REPORT_KEY: Final = b'{"report":'
STATISTICS_KEY: Final = b',"statistics":'
END: Final = b"}\n"
FORMAT: Final = 1
MAXIMUM_BYTES: Final = 512 * 1024 * 1024
"""Limit of either part: some 20 kB a cell."""


class YearState(Word):
    """State of a year's figure. docs/closing.md."""

    OPEN = "open"
    CLOSED_PROVISIONAL = "closed_provisional"
    CLOSED_DEFINITIVE = "closed_definitive"


@dataclass(frozen=True, slots=True)
class ClosedYear:
    """One revision, without its content."""

    year: int
    revision: int
    """1, 2, 3 …"""
    state: YearState
    closed_unix_milliseconds: int
    statistics_sha256: str
    sha256: str
    """SHA-256 of the whole file, hexadecimal."""

    @property
    def report_id(self) -> str:
        """Return the name, such as 2026-r1."""
        return f"{self.year}-r{self.revision}"


@dataclass(frozen=True, slots=True)
class KeptYear:
    """A year that nobody has closed and whose statistics the collector stores by itself;
    without these statistics.

    It is no revision: none of it is published or signed.
    """

    year: int
    kept_on: date
    """UTC day on which its statistics were computed."""
    readings_may_go: bool
    """True: they were computed before the first reading of a shared meter was deleted;
    their rooms are then used.
    """
    months_may_go: bool
    """True: they were computed before the first month of a machine was deleted;
    their figure of the whole year is used.
    """
    statistics_sha256: str | None
    """None: months were deleted before the year was stored; it can no longer be."""

    @property
    def stands_alone(self) -> bool:
        """True when its statistics are the only data of the whole year."""
        return self.months_may_go and self.statistics_sha256 is not None


@dataclass(frozen=True, slots=True)
class ClosedFile:
    """Content of one revision."""

    report: bytes
    """Canonical JSON: the frozen figures, and all their inputs except machines."""
    statistics: bytes
    """Canonical JSON: statistics of the machines."""
    signature: bytes
    """Content of the .sig file."""

    @property
    def content(self) -> bytes:
        """Content of the .json file."""
        return file_content(self.report, self.statistics)


@dataclass(frozen=True, slots=True)
class PackedFile:
    """Content compressed by zlib, the signature unchanged: on the socket and in the store."""

    report: bytes
    statistics: bytes
    signature: bytes = b""

    def unpack(self) -> ClosedFile:
        """Decompress. Raises ValueError for damaged content, or more than MAXIMUM_BYTES."""
        return ClosedFile(_unpack(self.report), _unpack(self.statistics), self.signature)


def pack(file: ClosedFile) -> PackedFile:
    """Compress by zlib."""
    return PackedFile(zlib.compress(file.report), zlib.compress(file.statistics), file.signature)


def _unpack(content: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        found = unpacking.decompress(content, MAXIMUM_BYTES)
    except zlib.error as error:
        raise ValueError(f"it is damaged ({error})") from error
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("it is cut short, or too long")
    return found


def file_content(report: bytes, statistics: bytes) -> bytes:
    """Return both parts as in the file."""
    return b"".join((REPORT_KEY, report, STATISTICS_KEY, statistics, END))


def file_parts(content: bytes) -> tuple[bytes, bytes]:
    """Return (report, statistics) of a file. Raises ValueError for another file."""
    middle = content.find(STATISTICS_KEY + b'{"')
    if not content.startswith(REPORT_KEY) or not content.endswith(END) or middle < 0:
        raise ValueError("it is no closed year, or it was cut short")
    report = content[len(REPORT_KEY) : middle]
    statistics = content[middle + len(STATISTICS_KEY) : -len(END)]
    return report, statistics


def canonical(value: Any) -> bytes:
    """Serialise to JSON that is the same everywhere: sorted keys, no spaces, UTF-8.

    Raises TypeError for a float: two machines may write it differently.
    """
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(content: bytes) -> str:
    """Return the SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError(f"a float in what is kept: {value!r}")
    if isinstance(value, dict):
        for one in value.values():
            _refuse_floats(one)
    elif isinstance(value, list | tuple):
        for one in value:
            _refuse_floats(one)


RELEASED: Final = "released"
"""Key of the released months in a closed year's report; absent where none of its months was released."""
MONTHS_OF_YEAR: Final = 12


def figures_of(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the figures of a closed year: sums of its months if all are released, else its own estimate."""
    is_whole = len(report.get(RELEASED, {}).get("months", ())) == MONTHS_OF_YEAR
    found: Mapping[str, Any] = report[RELEASED]["figures"] if is_whole else report["figures"]
    return found
