# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Closed years as they are stored: bytes that are never changed, and what is told of them. Below the store; no I/O."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from veilleuse.wire.vocabulary import Word

REPORT_KEY: Final = b'{"report":'
STATISTICS_KEY: Final = b',"statistics":'
END: Final = b"}\n"
FORMAT: Final = 1
MAXIMUM_BYTES: Final = 512 * 1024 * 1024
"""Of either part: some 20 kB a cell."""


class YearState(Word):
    """Of a year's figure. docs/closing.md."""

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
    """Of the whole file, hexadecimal."""

    @property
    def report_id(self) -> str:
        """2026-r1."""
        return f"{self.year}-r{self.revision}"


@dataclass(frozen=True, slots=True)
class KeptYear:
    """A year that nobody has closed, as the collector keeps it by itself; without its statistics. It is no revision: nothing of it is
    published or signed.
    """

    year: int
    kept_on: date
    """When its statistics were computed, UTC."""
    readings_may_go: bool
    """True: they were computed before the first reading of a shared meter went; rooms are those that were kept."""
    months_may_go: bool
    """True: likewise before the first month of a machine; the figure of the whole year is that of the statistics."""
    statistics_sha256: str | None
    """None: months had gone before the year could be kept; it cannot be any more."""

    @property
    def stands_alone(self) -> bool:
        """Its statistics are all there is of the whole year."""
        return self.months_may_go and self.statistics_sha256 is not None


@dataclass(frozen=True, slots=True)
class ClosedFile:
    """The content of one revision."""

    report: bytes
    """Canonical JSON: the frozen figures, and all that they were made with but machines."""
    statistics: bytes
    """Canonical JSON: what is kept of the machines."""
    signature: bytes
    """Content of the .sig file."""

    @property
    def content(self) -> bytes:
        """Of the .json file."""
        return file_content(self.report, self.statistics)


@dataclass(frozen=True, slots=True)
class PackedFile:
    """The same under zlib, the signature as it is: on the socket and in the store."""

    report: bytes
    statistics: bytes
    signature: bytes = b""

    def unpacked(self) -> ClosedFile:
        """Raises ValueError for what is damaged, or unpacks to more than MAXIMUM_BYTES."""
        return ClosedFile(_unpacked(self.report), _unpacked(self.statistics), self.signature)


def packed(file: ClosedFile) -> PackedFile:
    """Under zlib."""
    return PackedFile(zlib.compress(file.report), zlib.compress(file.statistics), file.signature)


def _unpacked(content: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        found = unpacking.decompress(content, MAXIMUM_BYTES)
    except zlib.error as error:
        raise ValueError(f"it is damaged ({error})") from error
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("it is cut short, or too long")
    return found


def file_content(report: bytes, statistics: bytes) -> bytes:
    """Both, as they stand in the file."""
    return b"".join((REPORT_KEY, report, STATISTICS_KEY, statistics, END))


def file_parts(content: bytes) -> tuple[bytes, bytes]:
    """(report, statistics) of a file. Raises ValueError for what is none."""
    middle = content.find(STATISTICS_KEY + b'{"')
    if not content.startswith(REPORT_KEY) or not content.endswith(END) or middle < 0:
        raise ValueError("it is no closed year, or it was cut short")
    report = content[len(REPORT_KEY) : middle]
    statistics = content[middle + len(STATISTICS_KEY) : -len(END)]
    return report, statistics


def canonical(value: Any) -> bytes:
    """JSON that is the same everywhere: sorted keys, no spaces, UTF-8. Raises TypeError for a float: no two machines write them alike."""
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(content: bytes) -> str:
    """Hexadecimal."""
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
