# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the ids of a Windows machine: the registry, the firmware's table, the disk of the system.

The interface is described in host/hardware_ids/__init__.py. The network card is not used. An account without
rights cannot know if the address is the hardware's own, and docks change which card comes first. Sources:
Windows documentation, GetSystemFirmwareTable, STORAGE_DEVICE_DESCRIPTOR (winioctl.h); SMBIOS 3.7, types 1 to
3.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

from veilleuse.agent.host.hardware_ids import Roots
from veilleuse.agent.host.smbios import structures, table_of_windows
from veilleuse.agent.platforms.windows.calls import WindowsCallError, WindowsCallTable
from veilleuse.agent.platforms.windows.structures import disk_serial, property_request
from veilleuse.agent.platforms.windows.system import table
from veilleuse.wire.pseudonym import normalise_serial, normalise_uuid

MACHINE_GUID: Final = (r"SOFTWARE\Microsoft\Cryptography", "MachineGuid")
"""Windows creates this value at installation, and again when an image is generalised (sysprep)."""
SYSTEM_ROOT: Final = (r"SOFTWARE\Microsoft\Windows NT\CurrentVersion", "SystemRoot")
STORAGE_QUERY_PROPERTY: Final = 0x2D1400
_LARGEST_DESCRIPTOR_BYTES: Final = 1_024
_SYSTEM, _BOARD, _CHASSIS = 1, 2, 3
_SERIAL_OFFSET: Final = 7
"""Offset of the number of the serial's text, in all three structures."""
_UUID: Final = slice(8, 24)


def hardware_ids(roots: Roots, calls: WindowsCallTable | None = None) -> dict[str, str]:
    """Implement `hardware.hardware_ids`; `roots` is used on Linux only."""
    calls = calls or table()
    firmware = _firmware(calls)
    found = {
        "machine-id": str(calls.registry(*MACHINE_GUID) or "").strip().lower(),
        "smbios-uuid": _uuid(firmware),
        "board-serial": _serial(firmware, _BOARD),
        "disk-serial": _system_disk_serial(calls),
    }
    return {name: value for name, value in found.items() if value}


def asset_numbers(roots: Roots, calls: WindowsCallTable | None = None) -> tuple[str | None, str | None]:
    """Implement `hardware.asset_numbers`; this needs no right on Windows."""
    firmware = _firmware(calls or table())
    return _serial(firmware, _CHASSIS), _uuid(firmware)


def _firmware(calls: WindowsCallTable) -> bytes:
    try:
        return table_of_windows(calls.firmware_table())
    except WindowsCallError:
        return b""


def _serial(firmware: bytes, kind: int) -> str | None:
    """Return the serial of the first structure of that kind which has one."""
    return next((serial for text in _texts(firmware, kind) if (serial := normalise_serial(text))), None)


def _texts(firmware: bytes, kind: int) -> Iterator[str]:
    for one in structures(firmware):
        number = one.data[_SERIAL_OFFSET] if len(one.data) > _SERIAL_OFFSET else 0
        if one.kind == kind and 0 < number <= len(one.texts):
            yield one.texts[number - 1].decode("utf-8", "replace")


def _uuid(firmware: bytes) -> str | None:
    """Return the UUID as Windows shows it: its first three fields are little-endian (SMBIOS 7.2.1)."""
    for one in structures(firmware):
        if one.kind == _SYSTEM and len(data := one.data[_UUID]) == 16:
            return normalise_uuid(str(uuid.UUID(bytes_le=data)))
    return None


def _system_disk_serial(calls: WindowsCallTable) -> str:
    """Return the serial of the disk that holds the system's volume.

    Empty when the volume is on several disks, or the disk has no serial.
    """
    drive = str(calls.registry(*SYSTEM_ROOT) or "C:")
    try:
        handle = calls.open(rf"\\.\{drive[:2]}", read=False)
    except WindowsCallError:
        return ""
    try:
        request = property_request(0)
        return disk_serial(calls.control(handle, STORAGE_QUERY_PROPERTY, request, _LARGEST_DESCRIPTOR_BYTES))
    except (WindowsCallError, ValueError):
        return ""
    finally:
        calls.close(handle)
