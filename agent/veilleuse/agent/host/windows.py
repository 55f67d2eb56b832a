# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Detects a Windows machine from the firmware's table, the registry and the disks.

Never a serial number or a name.

Sources: Windows documentation, GetSystemFirmwareTable, IOCTL_STORAGE_QUERY_PROPERTY (winioctl.h).
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Final

from veilleuse.agent.host.components import Parts, modules_of_table
from veilleuse.agent.host.graphics import GraphicsAdapter, adapter_of
from veilleuse.agent.host.machine import Machine, class_of, hypervisor_of, vendor_and_model
from veilleuse.agent.host.power_plan import NEVER, PowerPlan
from veilleuse.agent.host.smbios import dmi_texts, table_of_windows
from veilleuse.agent.platforms.windows.calls import PowerCalls, WindowsCallError, WindowsCallTable
from veilleuse.agent.platforms.windows.structures import (
    DISK_DESCRIPTOR_BYTES,
    SEEK_PENALTY_BYTES,
    disk,
    power_status,
    property_request,
    seek_penalty,
)
from veilleuse.agent.platforms.windows.system import table
from veilleuse.wire.limits import fact_text
from veilleuse.wire.vocabulary import DeviceClass

VIDEO, VIDEO_IDLE = "{7516b95f-f776-4464-8c53-06167f40cc99}", "{3c0bc021-c8a8-4e07-a973-6b14cbcb2b7e}"
"""GUID_VIDEO_SUBGROUP, GUID_VIDEO_POWERDOWN_TIMEOUT."""
SLEEP: Final = "{238c9fa8-0aad-41ed-83f4-97be242c8f20}"
"""GUID_SLEEP_SUBGROUP."""
STANDBY_IDLE, HIBERNATE_IDLE = (
    "{29f6c1db-86da-48c5-9fdb-f2b67b1f44da}",
    "{9d7815a6-7ee4-497e-8888-515a05f02364}",
)
"""GUID_STANDBY_TIMEOUT, GUID_HIBERNATE_TIMEOUT."""
_LONGEST_SECONDS: Final = 7 * 86_400
"""Longest timeout, one week; a longer one counts as never.

Windows' own programs write 0 for never, some tools write 0xFFFFFFFF.
"""


def power_plan(calls: PowerCalls) -> PowerPlan:
    """Read the active plan, which is the machine's, not a user's; None for a value that cannot be read."""
    standby, hibernate = _seconds(calls, SLEEP, STANDBY_IDLE), _seconds(calls, SLEEP, HIBERNATE_IDLE)
    delays = [seconds for seconds in (standby, hibernate) if seconds]
    sleep = min(delays) if delays else (None if standby is None else NEVER)
    return PowerPlan(_seconds(calls, VIDEO, VIDEO_IDLE), sleep)


def _seconds(calls: PowerCalls, subgroup: str, setting: str) -> int | None:
    try:
        value = calls.plan_value(subgroup, setting)
    except WindowsCallError:
        return None
    return value if 0 <= value <= _LONGEST_SECONDS else NEVER


PROCESSOR_KEY: Final = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"

ADAPTER_INTERFACE: Final = "{5b45201d-f2f2-4f3b-85bb-30ff1f953599}"
"""GUID_DEVINTERFACE_DISPLAY_ADAPTER."""
ADAPTER_MEMORY: Final = "HardwareInformation.qwMemorySize"
_PCI_ADAPTER: Final = re.compile(r"\\\\\?\\PCI#VEN_([0-9A-F]{4})&DEV_([0-9A-F]{4})&", re.IGNORECASE)

STORAGE_QUERY_PROPERTY: Final = 0x2D1400
DEVICE_PROPERTY, SEEK_PENALTY_PROPERTY = 0, 7
MAX_DISKS: Final = 32
_LARGEST_DESCRIPTOR_BYTES: Final = 1_024
_ELSEWHERE: Final = frozenset({0x06, 0x07, 0x09, 0x0C, 0x0D, 0x0E, 0x0F, 0x10})
"""Values of STORAGE_BUS_TYPE for disks outside the case or without hardware of their own.

Fibre Channel, USB, iSCSI, SD, MMC, virtual, file-backed, a pool of Storage Spaces.
"""


def detect_here(
    sysfs: str, procfs: str, *, device_class: str = "", calls: WindowsCallTable | None = None
) -> Machine:
    """Implement `machine.detect_here`."""
    return detect(calls or table(), device_class=device_class)


def parts_here(machine: Machine, sysfs: str, calls: WindowsCallTable | None = None) -> Parts:
    """Implement `facts.parts_here`.

    A virtual machine has no parts: its hypervisor's values say nothing about hardware.
    """
    calls = calls or table()
    plan = power_plan(calls)
    return Parts(plan=plan) if machine.virtualisation != "none" else Parts(memory_modules(calls), plan=plan)


def graphics_here(_sysfs: str, calls: WindowsCallTable | None = None) -> tuple[GraphicsAdapter, ...]:
    """Implement `graphics.graphics_here`: the present adapters on the PCI bus.

    The registry's class of adapters also lists cards that were replaced. Adapters of remote sessions are not
    on PCI.
    """
    calls = calls or table()
    try:
        paths = calls.interfaces(ADAPTER_INTERFACE)
    except WindowsCallError:
        return ()
    numbers = ((path, match) for path in sorted(paths) if (match := _PCI_ADAPTER.match(path)))
    return tuple(
        adapter_of(int(match[1], 16), int(match[2], 16), *_driver_values(calls, path))
        for path, match in numbers
    )


def _driver_values(calls: WindowsCallTable, path: str) -> tuple[str | None, int | None]:
    """Return what the driver of an adapter wrote in the registry: its name, and its own memory in bytes."""
    instance = path[4:].rpartition("#")[0].replace("#", "\\")
    driver = calls.registry(rf"SYSTEM\CurrentControlSet\Enum\{instance}", "Driver")
    if not isinstance(driver, str):
        return None, None
    key = rf"SYSTEM\CurrentControlSet\Control\Class\{driver}"
    name, memory = (calls.registry(key, value) for value in ("DriverDesc", ADAPTER_MEMORY))
    return name if isinstance(name, str) else None, memory if isinstance(memory, int) else None


def detect(calls: WindowsCallTable, *, device_class: str = "") -> Machine:
    """Read the facts. `device_class` is the setting that overrides detection; empty = detect."""
    texts = dmi_texts(firmware_table(calls))
    maker_texts = (texts.get(name, "") for name in ("sys_vendor", "product_name", "bios_vendor"))
    kind = hypervisor_of(maker_texts, whole=False) or "none"
    battery = _has_battery(calls)
    vendor, model = vendor_and_model(lambda name: texts.get(name, ""))
    hard, solid = _disks(calls) if kind == "none" else (None, None)
    chassis = class_of(texts.get("chassis_type", ""), kind, battery)
    return Machine(
        device_class=DeviceClass(device_class) if device_class else chassis,
        virtualisation=kind,
        has_battery=battery,
        vendor=vendor,
        model=model,
        cpu_model=fact_text(str(calls.registry(PROCESSOR_KEY, "ProcessorNameString") or "")),
        cpu_count=os.cpu_count(),
        memory_bytes=_memory_bytes(),
        hard_disks=hard,
        solid_state_disks=solid,
    )


def firmware_table(calls: WindowsCallTable) -> bytes:
    """Return the SMBIOS table; empty when Windows does not give it."""
    try:
        return table_of_windows(calls.firmware_table())
    except WindowsCallError:
        return b""


def memory_modules(calls: WindowsCallTable) -> int | None:
    """Count the memory modules in slots; None when not known, or when the memory is soldered."""
    return modules_of_table(firmware_table(calls))


def _has_battery(calls: WindowsCallTable) -> bool:
    with suppress(WindowsCallError, ValueError):
        return bool(power_status(calls.power_status()).has_battery)
    return False


def _memory_bytes() -> int | None:
    import psutil  # tests of the other functions do not need it

    return int(psutil.virtual_memory().total) or None


def _disks(calls: WindowsCallTable) -> tuple[int | None, int | None]:
    """Return the numbers of (rotating, solid state) disks inside the case that report their kind."""
    rotating = [spins for number in range(MAX_DISKS) if (spins := _rotates(calls, number)) is not None]
    return (rotating.count(True), rotating.count(False)) if rotating else (None, None)


def _rotates(calls: WindowsCallTable, number: int) -> bool | None:
    """Tell if a disk rotates; None when it is missing, is outside the case, or does not report its kind."""
    try:
        handle = calls.open(rf"\\.\PhysicalDrive{number}", read=False)
    except WindowsCallError:
        return None
    try:
        described = calls.control(
            handle, STORAGE_QUERY_PROPERTY, property_request(DEVICE_PROPERTY), _LARGEST_DESCRIPTOR_BYTES
        )
        found = disk(described[:DISK_DESCRIPTOR_BYTES])
        if found.removable or found.bus in _ELSEWHERE:
            return None
        request = property_request(SEEK_PENALTY_PROPERTY)
        return seek_penalty(calls.control(handle, STORAGE_QUERY_PROPERTY, request, SEEK_PENALTY_BYTES))
    except (WindowsCallError, ValueError):
        return None
    finally:
        calls.close(handle)
