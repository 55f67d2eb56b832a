# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts the external displays that are on, by size class, from /sys/class/drm. Per driver: docs/sources.md.

Sources: kernel drivers/gpu/drm/drm_sysfs.c; VESA E-EDID Standard, Release A, Revision 2 (EDID 1.4, 2006),
sections 3.6.2 (size) and 3.10.2 (detailed timing). `status`, `enabled`, `dpms` and `edid` of a connector are
values that the kernel already has. Reading them sends no request to a display. Only the size class is
reported: no name, no serial number.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import DisplaysReading, Point, Reading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.files import entries, text_or_none
from veilleuse.wire.limits import DISPLAY_SIZES

_EXTERNAL: Final = (
    "VGA",
    "DVI-I",
    "DVI-D",
    "DVI-A",
    "DP",
    "HDMI-A",
    "HDMI-B",
    "Composite",
    "SVIDEO",
    "Component",
    "DIN",
    "TV",
)
"""Connector types of drm_connector.c that a cable is plugged into.

Not included: eDP, LVDS, DSI, DPI, SPI, USB (built in), Virtual, Writeback, Unknown (the firmware's picture,
outputs not known).
"""
_INTERNAL: Final = ("eDP", "LVDS", "DSI", "DPI")
_MANAGEMENT: Final = frozenset({"ast", "mgag200", "hibmc-drm", "hibmc"})
"""Graphics of a server's management controller: a connected output without EDID is its remote console."""
_NVIDIA: Final = "nvidia"
_NVIDIA_VENDOR: Final = "0x10de"
_VGA_CLASS: Final = "0x0300"
"""PCI class of a GPU with outputs; 0x0302 has none."""
_POWER: Final = ("On", "Standby", "Suspend", "Off")
_LARGEST_EDID_BYTES: Final = 32_768
_READS_PER_EDID: Final = 360
"""Reads after which the EDID is read again (an hour at 10 s): the display may have been exchanged unseen."""


class Connector(NamedTuple):
    """One connector of one card."""

    folder: str
    card: str
    """Card name: card0, card1, …"""
    driver: str
    """Driver of the card; empty when it is not known."""


class _DisplayState(NamedTuple):
    state: tuple[str, str, str]
    """(status, enabled, dpms): while they are the same, so is the display."""
    until: int
    """Number of the read when the EDID is read again."""
    size: int
    identity: bytes | None
    has_edid: bool


class LinuxDisplays:
    """`ports.Source` of one `DisplaysReading` a tick."""

    name = "linux_displays"

    def __init__(self, context: SourceContext) -> None:
        self._sysfs = context.sysfs
        self._virtualisation = context.virtualisation
        self._seen: dict[str, _DisplayState] = {}
        self._drivers: dict[str, str] = {}
        self._reads = 0

    def open(self) -> tuple[Point, ...]:
        """Return no point: displays have no energy reading.

        Raises SourceUnavailable when no card shows connectors.
        """
        if hidden := _silent_nvidia(self._sysfs):
            raise SourceUnavailable(
                "no_device",
                f"the driver of the NVIDIA card {hidden} shows no connectors",
                "options nvidia_drm modeset=1 in /etc/modprobe.d, then start the machine again",
            )
        if not any(_kind(name) in (*_EXTERNAL, *_INTERNAL) for name in entries(f"{self._sysfs}/class/drm")):
            word = "no_device" if self._virtualisation == "none" else "virtual_machine"
            raise SourceUnavailable(word, f"no connector of a display under {self._sysfs}/class/drm")
        return ()

    def read(self) -> tuple[Reading, ...]:
        """Count the displays that are on now, by size.

        Raises ReadFailed when the state of a connected one is unknown.
        """
        self._reads += 1
        counts = [0] * len(DISPLAY_SIZES)
        for size in self._sizes():
            counts[size] += 1
        return (DisplaysReading(tuple(counts)),)

    def close(self) -> None:
        """Delete the cached displays."""
        self._seen.clear()

    # ------------------------------------------------------------------------------------ connectors

    def _sizes(self) -> list[int]:
        """Return the size of each display that is on, once.

        Two cards may see the same display (a switch between them, two cables).
        """
        sizes: list[int] = []
        cards_of: dict[bytes, set[str]] = {}
        present: dict[str, _DisplayState] = {}
        for connector in self._connectors():
            seen = self._read_connector(connector)
            if seen is None:
                continue
            present[connector.folder] = seen
            if not _is_on(connector, seen):
                continue
            if seen.identity is not None:
                cards = cards_of.setdefault(seen.identity, set())
                if cards - {connector.card}:
                    continue
                cards.add(connector.card)
            sizes.append(seen.size)
        self._seen = present
        return sizes

    def _connectors(self) -> list[Connector]:
        """List the connectors again at each read: those of a dock come and go.

        Raises ReadFailed when even the machine's own connectors are gone.
        """
        root = f"{self._sysfs}/class/drm"
        names = entries(root)
        if not any(_kind(name) in (*_EXTERNAL, *_INTERNAL) for name in names):
            raise ReadFailed(f"no connector under {root} any more")
        found = []
        for gone in self._drivers.keys() - set(names):
            del self._drivers[gone]  # a card of another driver may take its name
        for name in names:
            if _kind(name) in _EXTERNAL:
                card = name.partition("-")[0]
                if card not in self._drivers:
                    self._drivers[card] = _driver(f"{root}/{card}/device")
                found.append(Connector(f"{root}/{name}", card, self._drivers[card]))
        return found

    def _read_connector(self, connector: Connector) -> _DisplayState | None:
        """Return the connected display; None when there is none, or only a remote console.

        Raises ReadFailed.
        """
        folder = connector.folder
        status = text_or_none(f"{folder}/status")
        if status in (
            "disconnected",
            "unknown",
        ):  # unknown: a plug without a detect line is no evidence of a screen
            return None
        if status is None and not os.path.isdir(folder):  # a dock that was just pulled out
            return None
        if status != "connected":
            raise ReadFailed(f"cannot read {folder}/status")
        state = (status, text_or_none(f"{folder}/enabled") or "", text_or_none(f"{folder}/dpms") or "")
        seen = self._seen.get(folder)
        if seen is None or seen.state != state or self._reads >= seen.until:
            edid = _edid(folder)
            seen = _DisplayState(
                state, self._reads + _READS_PER_EDID, size_class(edid), identity(edid), bool(edid)
            )
        return None if connector.driver in _MANAGEMENT and not seen.has_edid else seen


def _is_on(connector: Connector, seen: _DisplayState) -> bool:
    """Tell whether a picture is sent to the display. Raises ReadFailed when the driver does not show it."""
    _, enabled, power = seen.state
    if connector.driver == _NVIDIA and enabled != "enabled":
        # NVIDIA's X driver bypasses the kernel's mode setting: a display that is on may be reported as
        # disabled.
        raise ReadFailed(
            f"the nvidia driver does not show if the display at {os.path.basename(connector.folder)} is on"
        )
    if enabled not in ("enabled", "disabled") or power not in _POWER:
        raise ReadFailed(f"cannot read enabled and dpms of {connector.folder}")
    return enabled == "enabled" and power == "On"


def _kind(name: str) -> str:
    """Return `HDMI-A` for `card0-HDMI-A-1`; empty when the name is no connector."""
    card, _, plug = name.partition("-")
    kind, _, number = plug.rpartition("-")
    return kind if card.startswith("card") and card[4:].isdigit() and number.isdigit() else ""


def _driver(device: str) -> str:
    try:
        return os.path.basename(os.readlink(f"{device}/driver"))
    except OSError:
        return ""


def _edid(folder: str) -> bytes:
    """Return the EDID; empty when the display gives none."""
    try:
        with open(f"{folder}/edid", "rb") as file:
            return file.read(_LARGEST_EDID_BYTES)
    except OSError:
        return b""


def _silent_nvidia(sysfs: str) -> str:
    """Return the PCI address of an NVIDIA card whose outputs the driver hides; empty when none."""
    root = f"{sysfs}/bus/pci/devices"
    for address in entries(root):
        device = f"{root}/{address}"
        if (
            (text_or_none(f"{device}/class") or "").startswith(_VGA_CLASS)
            and text_or_none(f"{device}/vendor") == _NVIDIA_VENDOR
            and _driver(device) == _NVIDIA
            and not any(
                _kind(n) for card in entries(f"{device}/drm") for n in entries(f"{device}/drm/{card}")
            )
        ):
            return address
    return ""


# -------------------------------------------------------------------------------------------- EDID

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
