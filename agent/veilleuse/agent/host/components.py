# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts the memory modules built into the machine, for the facts. Reads numbers, never a serial number.

Sources: SMBIOS 3.7 (DSP0134), type 17; systemd's udev helper dmi_memory_id; kernel
Documentation/driver-api/edac.rst. The helper reads the SMBIOS table as root at every boot, and every user may
read its result. The count is not stored at enrolment, when root could read more: it would become outdated.
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
"""Form factors of soldered memory. SMBIOS 7.18.1: Chip, Row of chips, Die."""
_SOLDERED_NAMES: Final = frozenset({"Chip", "Row Of Chips", "Die"})
"""The same form factors, as dmi_memory_id writes them."""
_SIZE_LINE: Final = re.compile(r"E:MEMORY_DEVICE_(\d{1,4})_SIZE=(\d{1,20})")
_FORM_LINE: Final = re.compile(r"E:MEMORY_DEVICE_(\d{1,4})_FORM_FACTOR=([A-Za-z -]{1,32})")


class Parts(NamedTuple):
    """Built-in parts and power plan; None = not known."""

    memory_modules: int | None = None
    plan: PowerPlan = PowerPlan(None, None)


# ------------------------------------------------------------------------------------------ memory


def memory_modules(sysfs: str, root: str) -> int | None:
    """Count the memory modules in slots; None when not known, or when the memory is soldered.

    `root` is the folder of /run and the other system folders. Tries in order: udev's database, the SMBIOS
    table (only root may read it), the error counters of ECC memory.
    """
    return (
        modules_of_udev(_text(f"{root}/run/udev/data/+dmi:id"))
        or modules_of_table(_bytes(f"{sysfs}/firmware/dmi/tables/DMI"))
        or _modules_of_edac(f"{sysfs}/devices/system/edac/mc")
    )


def modules_of_udev(text: str) -> int | None:
    """Count the devices with a size in udev's database. Lines with serial numbers are not read."""
    sizes = dict(_SIZE_LINE.findall(text))
    forms = dict(_FORM_LINE.findall(text))
    found = [slot for slot, size in sizes.items() if int(size) and forms.get(slot) not in _SOLDERED_NAMES]
    return len(found) or None


def modules_of_table(table: bytes) -> int | None:
    """Count the type 17 structures with a size in the SMBIOS table. Any bytes give a number or None."""
    found = position = 0
    while position + 4 <= len(table):
        kind, length = table[position], table[position + 1]
        if length < 4 or kind == _END_OF_TABLE:
            break
        if kind == _MEMORY_DEVICE and length >= 0x0F and position + length <= len(table):
            size = int.from_bytes(table[position + 0x0C : position + 0x0E], "little")
            soldered = table[position + 0x0E] in _SOLDERED_CODES
            found += size not in (0, 0xFFFF) and not soldered  # 0: empty slot, 0xFFFF: unknown size
        end = table.find(b"\0\0", position + length)
        if end < 0:
            break
        position = end + 2
    return found or None


def _modules_of_edac(folder: str) -> int | None:
    """Count the modules that EDAC names `dimmN`. A `rankN`, which some drivers show, is not a module."""
    found = 0
    for controller in _names(folder):
        for name in _names(f"{folder}/{controller}"):
            size = _text(f"{folder}/{controller}/{name}/size").strip()
            found += bool(re.fullmatch(r"dimm\d+", name)) and size.isdigit() and int(size) > 0
    return found or None


def _text(path: str) -> str:
    return _bytes(path).decode("utf-8", "replace")


def _bytes(path: str) -> bytes:
    """Return the file's bytes; empty when it cannot be read."""
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
