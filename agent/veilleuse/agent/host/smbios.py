# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Parses the names in the firmware's SMBIOS table. Pure; any bytes give texts or nothing.

The Linux kernel shows the same texts as files (/sys/class/dmi/id), under the names used here. The table also
holds serial numbers, asset tags and the UUID: this module never reads those fields. Source: SMBIOS 3.7
(DSP0134), 6.1 and types 0 to 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

LARGEST_TABLE_BYTES: Final = 1 << 20
_RAW_HEADER_BYTES: Final = 8
"""Header size of Windows' RawSMBIOSData: method, major, minor, revision, then the length in four bytes.

Source: GetSystemFirmwareTable.
"""
_HEADER_BYTES: Final = 4
_END_OF_TABLE: Final = 127
_CHASSIS: Final = 3
_TEXTS: Final = {
    0: {"bios_vendor": 0x04},
    1: {"sys_vendor": 0x04, "product_name": 0x05, "product_version": 0x06},
    2: {"board_vendor": 0x04, "board_name": 0x05},
}
"""Structure type → name in sysfs → offset of the text's number."""


class Structure(NamedTuple):
    """One structure of the table."""

    kind: int
    data: bytes
    """Formatted part, with its header of four bytes."""
    texts: tuple[bytes, ...]
    """Texts of the structure; text number 1 comes first."""


def table_of_windows(raw: bytes) -> bytes:
    """Return the table inside RawSMBIOSData; empty when there is none."""
    length = int.from_bytes(raw[4:_RAW_HEADER_BYTES], "little")
    return raw[_RAW_HEADER_BYTES : _RAW_HEADER_BYTES + min(length, LARGEST_TABLE_BYTES)]


def structures(table: bytes) -> Iterator[Structure]:
    """Yield the complete structures, up to the end of the table or the first truncated one."""
    position = 0
    while position + _HEADER_BYTES <= min(len(table), LARGEST_TABLE_BYTES):
        kind, length = table[position], table[position + 1]
        end = table.find(b"\0\0", position + length)
        if length < _HEADER_BYTES or kind == _END_OF_TABLE or end < 0:
            return
        behind = table[position + length : end]
        yield Structure(kind, table[position : position + length], tuple(behind.split(b"\0")))
        position = end + 2


def dmi_texts(table: bytes) -> dict[str, str]:
    """Return the existing texts by name in /sys/class/dmi/id: makers, names, number of the chassis type."""
    found: dict[str, str] = {}
    for one in structures(table):
        for name, offset in _TEXTS.get(one.kind, {}).items():
            if text := _text(one, offset):
                found.setdefault(name, text)
        if one.kind == _CHASSIS and len(one.data) > 5:
            found.setdefault("chassis_type", str(one.data[5] & 0x7F))  # bit 7: chassis lock present
    return found


def _text(one: Structure, offset: int) -> str:
    number = one.data[offset] if offset < len(one.data) else 0
    if not 0 < number <= len(one.texts):
        return ""
    return one.texts[number - 1].decode("utf-8", "replace").strip()
