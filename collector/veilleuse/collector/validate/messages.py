# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How many sub-messages are there, asked of the bytes: a parser would make an object of each first. PROMISES.md S8.

A megabyte of empty sub-messages is half a million objects, some hundred MiB. Only messages too long to be ordinary are
looked at. Source of the format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

ORDINARY_BYTES: Final = 8 * 1024
"""What fits in here is parsed as it is: at most some thousand objects."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def crowded(wire: bytes, most: Mapping[int, int]) -> int | None:
    """Number of the first field that occurs more often than `most` says; None when none does, or the bytes end early."""
    return _count(wire, 0, len(wire), most, Counter())


def crowded_inside(wire: bytes, outer: int, most: Mapping[int, int]) -> int | None:
    """The same of the fields inside the sub-messages `outer`, all of them together."""
    counts: Counter[int] = Counter()
    for number, start, end in _fields(wire, 0, len(wire)):
        if number == outer and (found := _count(wire, start, end, most, counts)) is not None:
            return found
    return None


def _count(wire: bytes, start: int, end: int, most: Mapping[int, int], counts: Counter[int]) -> int | None:
    for number, _, _ in _fields(wire, start, end):
        if number in most:
            counts[number] += 1
            if counts[number] > most[number]:
                return number
    return None


def _fields(wire: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end of its content); stops where the bytes make no sense: the parser will say so."""
    while position < end:
        tag, position = _varint(wire, position, end)
        kind, start = tag & 7, position
        if kind == _VARINT:
            _, position = _varint(wire, position, end)
        elif kind == _LENGTH:
            length, start = _varint(wire, position, end)
            position = start + length
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            return  # groups: none of ours
        if position > end:
            return
        yield tag >> 3, start, position


def _varint(wire: bytes, position: int, end: int) -> tuple[int, int]:
    """(value, position after it); a position beyond `end` when it does not end."""
    value = shift = 0
    while position < end and shift < 70:
        byte = wire[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return value, end + 1
