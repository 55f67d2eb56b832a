# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the size of a display from its EDID. Pure: any bytes give a size or none.

Source: VESA E-EDID Standard, Release A, Revision 2 (EDID 1.4, 2006), sections 3.6.2 (size) and 3.10.2
(detailed timing).
"""

from __future__ import annotations

from typing import Final

BLOCK_BYTES: Final = 128
_HEADER: Final = bytes((0, 255, 255, 255, 255, 255, 255, 0))
_MILLIMETRES_PER_INCH: Final = 25.4
_SHORTEST_INCHES: Final = 5.0
"""A smaller value is a placeholder, not the size of a screen in use."""
_LONGEST_INCHES: Final = 120.0
_ASPECTS: Final = frozenset({(16, 9), (16, 10), (160, 90), (160, 100), (1600, 900), (1600, 1000)})
"""Aspect ratios that televisions and projectors write in place of a size.

mutter and Chromium exclude the same six.
"""
_AGREEING_MILLIMETRES: Final = 15
"""Largest difference between the size in mm and the size in whole cm (± 5 mm).

With a larger one the size in mm belongs to something else: to the picture, or to another display it was
copied from.
"""
_NO_SERIALS: Final = frozenset({0, 0x01010101, 0xFFFFFFFF})
"""Serial numbers written by makers that do not number their displays."""
_CLASS_EDGES_INCHES: Final = (22.0, 27.0)
_UNKNOWN_CLASS: Final = 3


def size_class(edid: bytes) -> int:
    """Return the place in wire.limits.DISPLAY_SIZES: 0 below 22 inches, 1 below 27, 2 from 27 on, 3 unknown.

    The size is first rounded to half an inch: a display sold as 27 inches has 597 × 336 mm, 26.97 inches.
    """
    inches = diagonal_inches(edid)
    if inches is None:
        return _UNKNOWN_CLASS
    rounded = int(inches * 2 + 0.5) / 2
    return sum(rounded >= edge for edge in _CLASS_EDGES_INCHES)


def diagonal_inches(edid: bytes) -> float | None:
    """Return the diagonal of the visible picture, 5 to 120 inches; None without a plausible size.

    Uses the millimetres of the preferred timing when they agree with the whole centimetres, else the
    centimetres.
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
    """Tell whether the base block is complete: length, header and checksum."""
    base = edid[:BLOCK_BYTES]
    return len(base) == BLOCK_BYTES and base.startswith(_HEADER) and sum(base) % 256 == 0


def identity(edid: bytes) -> bytes | None:
    """Return maker, product, serial number and date of this display; None when it has no serial number.

    Used to tell one display seen by two graphics cards from two displays of the same model. Never leaves the
    process, never logged.
    """
    if not is_edid(edid) or int.from_bytes(edid[12:16], "little") in _NO_SERIALS:
        return None
    return bytes(edid[8:18])


def _preferred_timing(edid: bytes) -> tuple[int, int] | None:
    """Return (width, height) in mm of the first detailed timing; None when it is a text, or not plausible."""
    timing = edid[54:72]
    if timing[0] == timing[1] == 0:  # no pixel clock: a descriptor
        return None
    return _believable(timing[12] | (timing[14] & 0xF0) << 4, timing[13] | (timing[14] & 0x0F) << 8)


def _believable(width: int, height: int) -> tuple[int, int] | None:
    """Return the size in mm; None when it is not plausible.

    A 0 means unknown (a projector), or one half of an aspect ratio (EDID 1.4).
    """
    if not width or not height or {(width, height), (height, width)} & _ASPECTS:
        return None
    return (width, height) if _SHORTEST_INCHES <= _inches(width, height) <= _LONGEST_INCHES else None


def _agree(fine: tuple[int, int], coarse: tuple[int, int]) -> bool:
    return all(abs(one - other) <= _AGREEING_MILLIMETRES for one, other in zip(fine, coarse, strict=True))


def _inches(width: int, height: int) -> float:
    return float((width * width + height * height) ** 0.5) / _MILLIMETRES_PER_INCH
