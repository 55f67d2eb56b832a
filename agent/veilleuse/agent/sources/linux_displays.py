# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts the external displays that are on, by size class, from /sys/class/drm. Per driver: docs/sources.md.

Source: kernel drivers/gpu/drm/drm_sysfs.c. `status`, `enabled`, `dpms` and `edid` of a connector are values
that the kernel already has. Reading them sends no request to a display. Only the size class is reported: no
name, no serial number.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import DisplaysReading, Point, Reading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.edid import identity, size_class
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
