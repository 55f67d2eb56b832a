# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Make EDID blocks byte by byte by the standard (EDID 1.4), and a /sys/class/drm that contains them."""

from __future__ import annotations

from pathlib import Path

HEADER = bytes((0, 255, 255, 255, 255, 255, 255, 0))
SERIAL_TEXT = "CN0SERIAL77EDID"
"""Serial number as text, as some makers write it; tests check that it never leaves the machine."""
NAME_TEXT = "VEILLEUSE24"


def checked(block: bytes) -> bytes:
    """Return the 127 bytes followed by their checksum."""
    assert len(block) == 127
    return block + bytes([-sum(block) % 256])


def make_edid(
    centimetres: tuple[int, int],
    millimetres: tuple[int, int] | None,
    *,
    serial: int = 0x5A5A1234,
    product: int = 0x4242,
) -> bytes:
    """Return the EDID of a digital 1920 × 1080 display; without `millimetres`, it has no detailed timing."""
    maker = (22 << 10 | 5 << 5 | 9).to_bytes(2, "big")  # VEI
    base = (
        HEADER + maker + product.to_bytes(2, "little") + serial.to_bytes(4, "little") + bytes((10, 31, 1, 4))
    )
    features = bytes((0xA5, *centimetres, 120, 0x3A))
    colours = bytes.fromhex("fc8125a3574f9f270d5054")[1:]
    timings = bytes((0x21, 0x08, 0x00)) + bytes((1, 1)) * 8
    name, number = _text(0xFC, NAME_TEXT), _text(0xFF, SERIAL_TEXT[:13])
    first = _text(0xFE, "no timing") if millimetres is None else _timing(*millimetres)
    limits = bytes.fromhex("000000fd00384c1e5311000a202020202020")
    return checked(base + features + colours + timings + first + limits + name + number + bytes(1))


def _timing(width: int, height: int) -> bytes:
    """Return the timing of 1920 × 1080 at 60 Hz (CTA-861 format 16) with this size in millimetres."""
    clock = (14_850).to_bytes(2, "little")
    picture = bytes((0x80, 0x18, 0x71, 0x38, 0x2D, 0x40, 0x58, 0x2C, 0x45, 0x00))
    size = bytes((width & 0xFF, height & 0xFF, (width >> 8) << 4 | height >> 8))
    return clock + picture + size + bytes((0, 0, 0x1E))


def _text(tag: int, text: str) -> bytes:
    return bytes((0, 0, 0, tag, 0)) + (text + "\n").encode("ascii")[:13].ljust(13, b" ")


class Drm:
    """A /sys/class/drm below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "class/drm").mkdir(parents=True, exist_ok=True)

    def card(self, name: str, driver: str) -> None:
        """Add a graphics card with its driver."""
        device = self.root / "class/drm" / name / "device"
        device.mkdir(parents=True)
        (device / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")

    def plug(
        self,
        name: str,
        edid: bytes = b"",
        *,
        status: str = "connected",
        enabled: str = "enabled",
        power: str = "On",
    ) -> Path:
        """Add a connector, or change its state; return its folder."""
        folder = self.root / "class/drm" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in (("status", status), ("enabled", enabled), ("dpms", power)):
            (folder / file).write_text(f"{text}\n")
        (folder / "edid").write_bytes(edid)
        return folder
