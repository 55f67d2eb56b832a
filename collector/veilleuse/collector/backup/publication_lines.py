# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads and writes the lines of the file of publications. publication_register.py says what they mean."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

from veilleuse.collector.enrolment.register import hash_of
from veilleuse.collector.model.publications import (
    MAXIMUM_BYTES,
    Publication,
    PublicationHold,
    PublicationKind,
)
from veilleuse.wire.files import open_owned, remove_owned, rename_owned, sync_folder

Line = Mapping[str, Any]
PUBLICATION, TAKEN_BACK, HELD = "publication", "taken_back", "held"
_KINDS: Final = frozenset({PUBLICATION, TAKEN_BACK, HELD})
_LINE_BYTES: Final = 2 * MAXIMUM_BYTES
"""Longest line: each character of a content takes two bytes at most, as JSON in JSON."""


class PublicationKey(NamedTuple):
    """What a line is about; of the hold, all fields are empty."""

    publication: PublicationKind | None = None
    first: date | None = None
    end: date | None = None


@dataclass(frozen=True, slots=True)
class LinePlace:
    """Where a line is in the file."""

    offset: int
    bytes: int
    number: int
    line_hash: str
    kind: str
    key: PublicationKey


@dataclass(frozen=True, slots=True)
class LineContents:
    """Lines of a file for one data directory, in their order, without their contents."""

    places: tuple[LinePlace, ...] = ()
    unreadable: int = 0
    """Number of damaged lines, also of a torn last one."""
    missing: bool = False

    def is_continued(self, number: int, line_hash: str) -> bool:
        """Return True when the file contains the line `number` of the database, or was rewritten since."""
        if not self.places:
            return False
        return self.places[0].number > number or any(
            place.number == number and place.line_hash == line_hash for place in self.places
        )

    def after(self, number: int) -> tuple[LinePlace, ...]:
        """Return the lines above a number."""
        return tuple(place for place in self.places if place.number > number)

    def fault_after(self, number: int, line_hash: str) -> str:
        """Return what is wrong for a database that contains the line `number`; empty: nothing."""
        if self.missing:
            return "it is missing"
        if self.unreadable:
            return f"{self.unreadable} of its lines cannot be read"
        if not self.places:
            return "it has no line of this collector"
        if not self.is_continued(number, line_hash):
            return "it does not hold what was written last: it is older"
        numbers = [place.number for place in self.places]
        whole = range(numbers[0], numbers[0] + len(numbers))
        return "" if numbers == list(whole) else "lines of it are missing"


@dataclass(slots=True)
class LineFile:
    """The file. Not thread-safe."""

    path: Path
    of: int
    """Creation time of the data directory, Unix ms."""
    size: int = 0
    last: int = 0
    """Number of the last line; higher ones are free."""
    last_hash: str = ""
    _others: list[tuple[int, int]] = field(default_factory=list)
    """(offset, bytes) of lines of other data directories."""

    @property
    def note(self) -> str:
        """Return number and hash of the last line, as enrolment.register.known_line reads them."""
        return f"{self.last}:{self.last_hash}"

    def load(self, known: int = 0) -> LineContents:
        """Read all lines; numbers up to `known` are not given again. Raises OSError."""
        places, unreadable = [], 0
        self._others, self.last = [], known
        try:
            descriptor = open_owned(self.path, os.O_RDONLY)
        except FileNotFoundError:
            self.size = 0
            return LineContents(missing=True)
        with os.fdopen(descriptor, "rb") as file:
            offset = 0
            while data := file.readline(_LINE_BYTES):
                line = _parsed(data)
                if line is None:
                    unreadable += bool(data.strip())
                elif line["of"] != self.of:
                    self._others.append((offset, len(data)))
                else:
                    places.append(_placed(line, offset, len(data)))
                offset += len(data)
            self.size = offset
        if places and places[-1].number >= self.last:
            self.last, self.last_hash = places[-1].number, places[-1].line_hash
        return LineContents(tuple(places), unreadable)

    def read(self, place: LinePlace) -> Line:
        """Read a line again. Raises OSError, also where it changed."""
        data = self._bytes_at(place.offset, place.bytes)
        line = _parsed(data)
        if line is None or line["n"] != place.number:
            raise OSError(None, "it changed while it was read")
        return line

    def append(self, lines: Iterable[Line]) -> list[LinePlace]:
        """Append lines durably, all or none. Raises OSError."""
        descriptor = open_owned(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
            try:
                if torn:
                    _write(descriptor, b"\n")
                places, last, last_hash = self._write_all(descriptor, lines, size + bool(torn))
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if not size:
            sync_folder(self.path.parent)
        self.last, self.last_hash = last, last_hash
        self.size = places[-1].offset + places[-1].bytes if places else size
        return places

    def rewrite(self, lines: Iterable[Line]) -> list[LinePlace]:
        """Replace the file, all or nothing, by these lines with new numbers. Raises OSError."""
        draft = self.path.with_name(self.path.name + ".new")
        remove_owned(draft)
        descriptor = open_owned(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            offset = 0
            others = []
            for start, size in self._others:
                _write(descriptor, self._bytes_at(start, size))
                others.append((offset, size))
                offset += size
            places, last, last_hash = self._write_all(descriptor, lines, offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        rename_owned(draft, self.path)
        sync_folder(self.path.parent)
        self.last, self.last_hash, self._others = last, last_hash, others
        self.size = places[-1].offset + places[-1].bytes if places else offset
        return places

    def _write_all(
        self, descriptor: int, lines: Iterable[Line], offset: int
    ) -> tuple[list[LinePlace], int, str]:
        """Write lines with the next numbers; return their places, and number and hash of the last one."""
        places: list[LinePlace] = []
        number, line_hash = self.last, self.last_hash
        for one in lines:
            number += 1
            line = {"n": number, "of": self.of, **{key: one[key] for key in one if key not in _OWN}}
            line_hash = hash_of(line)
            data = (json.dumps({**line, "sha256": line_hash}, separators=(",", ":")) + "\n").encode()
            _write(descriptor, data)
            places.append(_placed({**line, "sha256": line_hash}, offset, len(data)))
            offset += len(data)
        return places, number, line_hash

    def _bytes_at(self, offset: int, size: int) -> bytes:
        descriptor = open_owned(self.path, os.O_RDONLY)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)


_OWN: Final = frozenset({"n", "of", "sha256"})
"""Fields that a new line does not take from the line that it repeats."""


def publication_facts(one: Publication) -> dict[str, Any]:
    """Return the fields of a PUBLICATION line."""
    return {
        **key_facts(PublicationKey(one.kind, one.first, one.end)),
        "format": one.format,
        "k_anonymity": one.k_anonymity,
        "method_version": one.method_version,
        "published": one.published_unix_milliseconds,
        "content": one.content,
    }


def publication_from(line: Line) -> Publication:
    """Return the publication of a line that was checked when it was read."""
    return Publication(
        PublicationKind(line["publication"]),
        date.fromisoformat(line["first"]),
        date.fromisoformat(line["end"]),
        int(line["format"]),
        int(line["k_anonymity"]),
        str(line["method_version"]),
        int(line["published"]),
        str(line["content"]),
    )


def key_facts(key: PublicationKey) -> dict[str, str]:
    """Return the fields that name a publication."""
    return {"publication": str(key.publication), "first": str(key.first), "end": str(key.end)}


def hold_facts(hold: PublicationHold | None) -> dict[str, Any]:
    """Return the fields of a HELD line."""
    return {"hold": hold.to_json() if hold else ""}


def hold_from(line: Line) -> PublicationHold | None:
    """Return the hold of a line that was checked when it was read; None: nothing is held."""
    return PublicationHold.from_json(line["hold"]) if line["hold"] else None


def _parsed(data: bytes) -> dict[str, Any] | None:
    """Parse a line of any data directory; None when it is damaged, torn, or none of ours."""
    if not data.endswith(b"\n"):
        return None
    try:
        line = json.loads(data)
        sha256 = line.pop("sha256")
        numbers = (line["n"], line["of"])
        if sha256 != hash_of(line) or line["kind"] not in _KINDS:
            return None
        if not all(type(number) is int for number in numbers):
            return None
        line["sha256"] = sha256
        _check_facts(line)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return line if isinstance(line, dict) else None


def _check_facts(line: Line) -> None:
    """Raise ValueError, TypeError or KeyError where the fields of a line cannot be used."""
    if line["kind"] == PUBLICATION:
        publication_from(line)
    elif line["kind"] == HELD:
        hold_from(line)
    else:
        _key_of(line)


def _key_of(line: Line) -> PublicationKey:
    if line["kind"] == HELD:
        return PublicationKey()
    days = (date.fromisoformat(line[name]) for name in ("first", "end"))
    return PublicationKey(PublicationKind(line["publication"]), *days)


def _placed(line: Line, offset: int, size: int) -> LinePlace:
    return LinePlace(offset, size, line["n"], line["sha256"], line["kind"], _key_of(line))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
