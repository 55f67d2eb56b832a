# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What tells one Mac from another: host/hardware_ids/__init__.py's two questions. Nothing read here leaves the machine as it is.

`ioreg -c IOPlatformExpertDevice`: ioreg(8), Technical Note TN1103. Not the address of a network card: macOS may give a
Wi-Fi card another one in each network. Never run on a Mac: docs/macos.md.
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
    """`hardware.hardware_ids`: of the logic board. A board that is replaced is another machine: it begins again, docs/macos.md."""
    serial, hardware = asset_numbers(_roots, ask)
    found = {"smbios-uuid": hardware, "board-serial": serial}
    return {name: value for name, value in found.items() if value}


def asset_numbers(_roots: object, ask: Callable[[], bytes] | None = None) -> tuple[str | None, str | None]:
    """`hardware.asset_numbers`: (serial of the machine, UUID of its hardware), as inventories have them."""
    node = platform(ask or _ioreg)
    return normalise_serial(_said(node, "IOPlatformSerialNumber")), normalise_uuid(
        _said(node, "IOPlatformUUID")
    )


def platform(ask: Callable[[], bytes]) -> Mapping[str, object]:
    """The node; empty when ioreg says nothing, or nothing that is understood."""
    try:
        told = plistlib.loads(ask(), fmt=plistlib.FMT_XML)
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
    nodes = [node for node in told if isinstance(node, dict)] if isinstance(told, list) else []
    return nodes[0] if nodes else {}


def _said(node: Mapping[str, object], name: str) -> str:
    value = node.get(name)
    return value if isinstance(value, str) else ""


def _ioreg() -> bytes:
    return Program().run(COMMAND, {}, _SECONDS).output.encode()
