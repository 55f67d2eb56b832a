# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the ids of a Mac. They never leave the machine in clear. Never run on a Mac: docs/macos.md.

The interface is described in host/hardware_ids/__init__.py. Source of `ioreg -c IOPlatformExpertDevice`:
ioreg(8), Technical Note TN1103. The address of a network card is not used: macOS may give a Wi-Fi card
another address in each network.
"""

from __future__ import annotations

import plistlib
from collections.abc import Callable, Mapping
from typing import Final
from xml.parsers.expat import ExpatError

from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.sources.run_program import Program
from veilleuse.wire.pseudonym import normalise_serial, normalise_uuid

COMMAND: Final = ("/usr/sbin/ioreg", "-r", "-c", "IOPlatformExpertDevice", "-d", "1", "-a")
_SECONDS: Final = 5.0


def hardware_ids(_roots: object, ask: Callable[[], bytes] | None = None) -> dict[str, str]:
    """Implement `hardware.hardware_ids` with the ids of the logic board.

    A Mac with a new board is another machine and starts again: docs/macos.md.
    """
    serial, hardware = asset_numbers(_roots, ask)
    found = {"smbios-uuid": hardware, "board-serial": serial}
    return {name: value for name, value in found.items() if value}


def asset_numbers(_roots: object, ask: Callable[[], bytes] | None = None) -> tuple[str | None, str | None]:
    """Implement `hardware.asset_numbers`: (machine serial, hardware UUID), as in inventories."""
    node = platform(ask or _ioreg)
    return normalise_serial(_text_value(node, "IOPlatformSerialNumber")), normalise_uuid(
        _text_value(node, "IOPlatformUUID")
    )


def platform(ask: Callable[[], bytes]) -> Mapping[str, object]:
    """Return the platform's node; empty when ioreg gives nothing that can be parsed."""
    try:
        document = plistlib.loads(ask(), fmt=plistlib.FMT_XML)
    except (
        ReadFailed,
        ExpatError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
    ):
        return {}
    nodes = [node for node in document if isinstance(node, dict)] if isinstance(document, list) else []
    return nodes[0] if nodes else {}


def _text_value(node: Mapping[str, object], name: str) -> str:
    value = node.get(name)
    return value if isinstance(value, str) else ""


def _ioreg() -> bytes:
    return Program().run(COMMAND, {}, _SECONDS).output.encode()
