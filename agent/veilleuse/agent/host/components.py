# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What is built into the machine: memory modules. For the facts alone; numbers, never a serial number.

Sources: SMBIOS 3.7 (DSP0134), type 17; systemd's udev helper dmi_memory_id, which reads the same table as root at every boot and
leaves it where everybody may read; kernel Documentation/driver-api/edac.rst.
Nothing is kept from enrolment, when root could read more: it would grow old.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from veilleuse.agent.host.power_plan import PowerPlan

_LARGEST_BYTES: Final = 1 << 20
_MEMORY_DEVICE: Final = 17
_END_OF_TABLE: Final = 127
_SOLDERED_CODES: Final = frozenset({0x05, 0x0B, 0x10})
"""SMBIOS 7.18.1: Chip, Row of chips, Die."""
_SOLDERED_NAMES: Final = frozenset({"Chip", "Row Of Chips", "Die"})
"""The same as dmi_memory_id writes them."""
_SIZE_LINE: Final = re.compile(r"E:MEMORY_DEVICE_(\d{1,4})_SIZE=(\d{1,20})")
_FORM_LINE: Final = re.compile(r"E:MEMORY_DEVICE_(\d{1,4})_FORM_FACTOR=([A-Za-z -]{1,32})")


class Parts(NamedTuple):
    """What is built in, and the power plan; None = not known."""

    memory_modules: int | None = None
    plan: PowerPlan = PowerPlan(None, None)


# ------------------------------------------------------------------------------------------ memory


def memory_modules(sysfs: str, root: str) -> int | None:
    """Modules in their slots; None when not known, or when the memory is soldered. Below `root` are /run and the rest.

    Asked in order: what udev left, the table itself (root alone may read it), the error counters of ECC memory.
    """
    return (
        modules_of_udev(_text(f"{root}/run/udev/data/+dmi:id"))
        or modules_of_table(_bytes(f"{sysfs}/firmware/dmi/tables/DMI"))
        or _modules_of_edac(f"{sysfs}/devices/system/edac/mc")
    )


def modules_of_udev(text: str) -> int | None:
    """Of udev's database: devices with a size. The lines with serial numbers beside them are not looked at."""
    sizes = dict(_SIZE_LINE.findall(text))
    forms = dict(_FORM_LINE.findall(text))
    found = [slot for slot, size in sizes.items() if int(size) and forms.get(slot) not in _SOLDERED_NAMES]
    return len(found) or None


def modules_of_table(table: bytes) -> int | None:
    """Of the SMBIOS table: structures of type 17 with a size; whatever the bytes are, a number or None."""
    found = position = 0
    while position + 4 <= len(table):
        kind, length = table[position], table[position + 1]
        if length < 4 or kind == _END_OF_TABLE:
            break
        if kind == _MEMORY_DEVICE and length >= 0x0F and position + length <= len(table):
            size = int.from_bytes(table[position + 0x0C : position + 0x0E], "little")
            soldered = table[position + 0x0E] in _SOLDERED_CODES
            found += size not in (0, 0xFFFF) and not soldered  # 0: empty slot, 0xFFFF: not known
        end = table.find(b"\0\0", position + length)
        if end < 0:
            break
        position = end + 2
    return found or None


def _modules_of_edac(folder: str) -> int | None:
    """A `dimmN` is a module; a `rankN`, as some drivers have it, is not."""
    found = 0
    for controller in _names(folder):
        for name in _names(f"{folder}/{controller}"):
            size = _text(f"{folder}/{controller}/{name}/size").strip()
            found += bool(re.fullmatch(r"dimm\d+", name)) and size.isdigit() and int(size) > 0
    return found or None


def _text(path: str) -> str:
    return _bytes(path).decode("utf-8", "replace")


def _bytes(path: str) -> bytes:
    """Empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST_BYTES)
    except OSError:
        return b""


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
