# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The size of a display from its EDID. Pure; whatever the bytes are, it gives a size or says that there is none.

Source: VESA E-EDID Standard, Release A, Revision 2 (EDID 1.4, 2006), sections 3.6.2 (size) and 3.10.2 (detailed timing). Neither
the name nor the serial number of a display is ever returned; `identity` stays in the process.
"""

from __future__ import annotations

from typing import Final

BLOCK_BYTES: Final = 128
_HEADER: Final = bytes((0, 255, 255, 255, 255, 255, 255, 0))
_MILLIMETRES_PER_INCH: Final = 25.4
_SHORTEST_INCHES: Final = 5.0
"""Below: a stand-in, not a screen that somebody works at."""
_LONGEST_INCHES: Final = 120.0
_ASPECTS: Final = frozenset({(16, 9), (16, 10), (160, 90), (160, 100), (1600, 900), (1600, 1000)})
"""Aspect ratios where a size should be, as televisions and projectors have them; mutter and Chromium leave out the same six."""
_AGREEING_MILLIMETRES: Final = 15
"""A size in mm that is further from the one in whole cm (± 5 mm) than this is of something else: of the picture, or copied."""
_NO_SERIALS: Final = frozenset({0, 0x01010101, 0xFFFFFFFF})
"""What makers write who do not number their displays."""
_CLASS_EDGES_INCHES: Final = (22.0, 27.0)
_UNKNOWN_CLASS: Final = 3


def size_class(edid: bytes) -> int:
    """Place in wire.limits.DISPLAY_SIZES: 0 below 22 inches, 1 below 27, 2 from 27 on, 3 not known.

    Rounded to half an inch first: what is sold as 27 inches is 597 × 336 mm, 26.97 inches.
    """
    inches = diagonal_inches(edid)
    if inches is None:
        return _UNKNOWN_CLASS
    rounded = int(inches * 2 + 0.5) / 2
    return sum(rounded >= edge for edge in _CLASS_EDGES_INCHES)


def diagonal_inches(edid: bytes) -> float | None:
    """Diagonal of the visible picture, 5 to 120; None when the display does not tell a believable one.

    The millimetres of the preferred timing where they agree with the whole centimetres, else the centimetres.
    """
    if not is_edid(edid):
        return None
    coarse = _believable(edid[21] * 10, edid[22] * 10)
    fine = _preferred_timing(edid)
    if fine is None or (coarse is not None and not _agree(fine, coarse)):
        chosen = coarse
    else:
        chosen = fine if coarse is not None or (edid[21], edid[22]) == (0, 0) else None
    return None if chosen is None else _inches(*chosen)


def is_edid(edid: bytes) -> bool:
    """Whether the base block is whole: its length, its header and its checksum."""
    base = edid[:BLOCK_BYTES]
    return len(base) == BLOCK_BYTES and base.startswith(_HEADER) and sum(base) % 256 == 0


def identity(edid: bytes) -> bytes | None:
    """What only this very display has: maker, product, serial number, date. None when it has no number of its own.

    To tell one display that two graphics cards see from two of a kind. Never leaves the process, never logged.
    """
    if not is_edid(edid) or int.from_bytes(edid[12:16], "little") in _NO_SERIALS:
        return None
    return bytes(edid[8:18])


def _preferred_timing(edid: bytes) -> tuple[int, int] | None:
    """(width, height) in mm of the first detailed timing; None when it is a text, or not believable."""
    timing = edid[54:72]
    if timing[0] == timing[1] == 0:  # no pixel clock: a descriptor
        return None
    return _believable(timing[12] | (timing[14] & 0xF0) << 4, timing[13] | (timing[14] & 0x0F) << 8)


def _believable(width: int, height: int) -> tuple[int, int] | None:
    """The size in mm, when it is one: a 0 is unknown (a projector), or one half of an aspect ratio (EDID 1.4)."""
    if not width or not height or {(width, height), (height, width)} & _ASPECTS:
        return None
    return (width, height) if _SHORTEST_INCHES <= _inches(width, height) <= _LONGEST_INCHES else None


def _agree(fine: tuple[int, int], coarse: tuple[int, int]) -> bool:
    return all(abs(one - other) <= _AGREEING_MILLIMETRES for one, other in zip(fine, coarse, strict=True))


def _inches(width: int, height: int) -> float:
    return float((width * width + height * height) ** 0.5) / _MILLIMETRES_PER_INCH
