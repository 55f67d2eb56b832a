# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the machine is: form, virtualisation, processor, memory, disks. Never a serial number or a name.

Sources: kernel Documentation/ABI/testing/sysfs-firmware-dmi; SMBIOS 3.7, type 3 (chassis); proc(5).
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from veilleuse.wire.limits import fact_text
from veilleuse.wire.vocabulary import DeviceClass

_LARGEST_BYTES: Final = 1 << 20
_CHASSIS: Final = {
    **dict.fromkeys((8, 9, 10, 11, 14, 30, 31, 32), DeviceClass.LAPTOP),
    **dict.fromkeys((3, 4, 15, 16, 24), DeviceClass.SFF),
    **dict.fromkeys((6, 7), DeviceClass.TOWER),
    13: DeviceClass.ALL_IN_ONE,
    **dict.fromkeys((5, 17, 23, 25, 28, 29), DeviceClass.SERVER),
    **dict.fromkeys((33, 34, 35, 36), DeviceClass.MINI_PC),
}
_HYPERVISOR_BY_DMI: Final = (
    ("vmware", "vmware"),
    ("qemu", "kvm"),
    ("kvm", "kvm"),
    ("amazon ec2", "kvm"),
    ("google compute engine", "kvm"),
    ("openstack", "kvm"),
    ("virtual machine", "hyperv"),
    ("xen", "xen"),
    ("hvm domu", "xen"),
    ("virtualbox", "unknown"),
    ("parallels", "unknown"),
    ("bochs", "kvm"),
)
_HYPERVISOR_BY_CLOCK: Final = (("kvm-clock", "kvm"), ("hyperv_clocksource", "hyperv"), ("xen", "xen"))
_CONTAINER_WORDS: Final = ("docker", "libpod", "kubepods", "/lxc", "containerd", "machine.slice/machine-")


class Machine(NamedTuple):
    """Facts about this machine; None = not known. Texts are in the fact alphabet."""

    device_class: DeviceClass
    virtualisation: str
    """none, kvm, vmware, hyperv, xen, container, unknown."""
    has_battery: bool
    vendor: str | None
    model: str | None
    cpu_model: str | None
    cpu_count: int | None
    """Logical."""
    cpu_sockets: int | None
    memory_bytes: int | None
    hard_disks: int | None
    """Rotating."""
    solid_state_disks: int | None
    firmware_year: int | None
    os_type: str
    """OpenTelemetry os.type."""
    os_version: str | None
    host_arch: str
    """OpenTelemetry host.arch."""


def detect(
    sysfs: str, procfs: str, *, device_class: str = "", os_release: str = "/etc/os-release"
) -> Machine:
    """Read the facts. `device_class` is the setting that overrules detection; empty = detect."""
    cpu = _cpu_facts(_text(f"{procfs}/cpuinfo"))
    virtualisation = _virtualisation(sysfs, procfs, cpu.hypervisor)
    battery = _has_battery(sysfs)
    hard, solid = _disks(sysfs, virtualisation)
    dmi = f"{sysfs}/class/dmi/id"
    return Machine(
        device_class=DeviceClass(device_class)
        if device_class
        else _device_class(dmi, virtualisation, battery),
        virtualisation=virtualisation,
        has_battery=battery,
        vendor=_fact(f"{dmi}/sys_vendor"),
        model=_fact(f"{dmi}/product_name"),
        cpu_model=cpu.model,
        cpu_count=cpu.processors or None,
        cpu_sockets=cpu.sockets or None,
        memory_bytes=_memory_bytes(_text(f"{procfs}/meminfo")),
        hard_disks=hard,
        solid_state_disks=solid,
        firmware_year=_firmware_year(_text(f"{dmi}/bios_date")),
        os_type=os.uname().sysname.lower(),
        os_version=_os_version(_text(os_release)),
        host_arch={"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
    )


class _Cpu(NamedTuple):
    model: str | None
    processors: int
    sockets: int
    hypervisor: bool


def _cpu_facts(cpuinfo: str) -> _Cpu:
    model: str | None = None
    count, hypervisor = 0, False
    sockets: set[str] = set()
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        key = key.strip()
        if key == "processor":
            count += 1
        elif key == "model name" and model is None:
            model = fact_text(value)
        elif key == "physical id":
            sockets.add(value.strip())
        elif key == "flags" and not hypervisor:
            hypervisor = "hypervisor" in value.split()
    return _Cpu(model, count, len(sockets), hypervisor)


def _virtualisation(sysfs: str, procfs: str, hypervisor_flag: bool) -> str:
    if "container=" in _text(f"{procfs}/1/environ").replace("\0", "\n"):
        return "container"
    if any(word in _text(f"{procfs}/1/cgroup") for word in _CONTAINER_WORDS):
        return "container"
    if "control_d" in _text(f"{procfs}/xen/capabilities"):
        return "none"  # the privileged domain of Xen drives the hardware
    if _text(f"{sysfs}/hypervisor/type").strip() == "xen":
        return "xen"
    dmi = " ".join(
        _text(f"{sysfs}/class/dmi/id/{name}") for name in ("sys_vendor", "product_name", "bios_vendor")
    ).lower()
    clocks = _text(f"{sysfs}/devices/system/clocksource/clocksource0/available_clocksource")
    for word, name in _HYPERVISOR_BY_DMI:
        if word in dmi and (name != "hyperv" or "microsoft" in dmi):
            return name
    for word, name in _HYPERVISOR_BY_CLOCK:
        if word in clocks:
            return name
    return "unknown" if hypervisor_flag else "none"


def _device_class(dmi: str, virtualisation: str, has_battery: bool) -> DeviceClass:
    if virtualisation != "none":
        return DeviceClass.VIRTUAL_MACHINE
    chassis = _text(f"{dmi}/chassis_type").strip()
    known = _CHASSIS.get(int(chassis)) if chassis.isdigit() else None
    if known is not None:
        return known
    return DeviceClass.LAPTOP if has_battery else DeviceClass.UNKNOWN


def _has_battery(sysfs: str) -> bool:
    root = f"{sysfs}/class/power_supply"
    return any(
        _text(f"{root}/{name}/type").strip() == "Battery"
        and _text(f"{root}/{name}/scope").strip() != "Device"
        for name in _names(root)
    )


def _disks(sysfs: str, virtualisation: str) -> tuple[int | None, int | None]:
    """(rotating, solid state) of the disks with hardware behind them; unknown in a virtual machine."""
    if virtualisation != "none":
        return None, None
    rotational = [
        _text(f"{sysfs}/block/{name}/queue/rotational").strip()
        for name in _names(f"{sysfs}/block")
        if os.path.exists(f"{sysfs}/block/{name}/device")
        and _text(f"{sysfs}/block/{name}/removable").strip() != "1"
    ]
    return (rotational.count("1"), rotational.count("0")) if rotational else (None, None)


def _memory_bytes(meminfo: str) -> int | None:
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            words = line.split()
            return int(words[1]) * 1024 if len(words) > 1 and words[1].isdigit() else None
    return None


def _firmware_year(bios_date: str) -> int | None:
    """From the DMI form month/day/year."""
    year = bios_date.strip().rpartition("/")[2]
    return int(year) if year.isdigit() and 1990 <= int(year) <= 2200 else None


def _os_version(os_release: str) -> str | None:
    for line in os_release.splitlines():
        if line.startswith("PRETTY_NAME="):
            return fact_text(line.partition("=")[2].strip('"'))
    return None


def _fact(path: str) -> str | None:
    return fact_text(_text(path))


def _text(path: str) -> str:
    """The file's text; empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
