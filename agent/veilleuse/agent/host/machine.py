# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Detects the machine's form, virtualisation, processor, memory and disks. Never a serial number or a name.

It uses only what an account without rights can read. Sources: kernel
Documentation/ABI/testing/sysfs-firmware-dmi; SMBIOS 3.7, types 1 to 3; proc(5); container interface of
systemd (/run/systemd/container); kernel Documentation/ABI/stable/sysfs-hypervisor-xen and
include/xen/interface/features.h; cpuinfo's `hypervisor` flag (CPUID leaf 1, ECX bit 31); DMI texts as
hypervisors set them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, cast

from veilleuse.agent.platforms import load_module
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
_PLACEHOLDERS: Final = frozenset(
    {
        "to be filled by o.e.m.",
        "to be filled by o.e.m",
        "tbd by oem",
        "o.e.m.",
        "oem",
        "system manufacturer",
        "system product name",
        "system version",
        "system name",
        "product name",
        "type1productconfigid",
        "default string",
        "default",
        "not specified",
        "not applicable",
        "not available",
        "not defined",
        "undefined",
        "unknown",
        "none",
        "null",
        "n/a",
        "na",
        "invalid",
        "empty",
        "all series",
        "standard",
        "0123456789",
        "123456789",
        "0",
    }
)
"""DMI placeholders that board makers leave where the machine's vendor should write.

Compared in lower case.
"""
_ELSEWHERE: Final = ("/usb", "/session", "/rport-", "/nvme-fabrics/")
"""Parts of the path of an external disk: USB, iSCSI, Fibre Channel, NVMe over a network."""


class Machine(NamedTuple):
    """Facts about this machine; None = not known. Texts are in the fact alphabet."""

    device_class: DeviceClass
    virtualisation: str
    """One of none, kvm, vmware, hyperv, xen, container, unknown."""
    has_battery: bool
    vendor: str | None
    model: str | None
    cpu_model: str | None
    cpu_count: int | None
    """Number of logical processors."""
    memory_bytes: int | None
    hard_disks: int | None
    """Number of rotating disks."""
    solid_state_disks: int | None


def detect(sysfs: str, procfs: str, *, device_class: str = "") -> Machine:
    """Read the facts from Linux files.

    `device_class` is the setting that overrides detection; empty = detect.
    """
    root = root_of(sysfs)
    cpu = _cpu_facts(_text(f"{procfs}/cpuinfo"))
    kind = _virtualisation(sysfs, procfs, root, cpu.flags)
    battery = _has_battery(sysfs)
    hard, solid = _disks(sysfs, kind)
    dmi = f"{sysfs}/class/dmi/id"
    vendor, model = vendor_and_model(lambda name: _text(f"{dmi}/{name}"))
    return Machine(
        device_class=DeviceClass(device_class)
        if device_class
        else class_of(_text(f"{dmi}/chassis_type"), kind, battery),
        virtualisation=kind,
        has_battery=battery,
        vendor=vendor,
        model=model,
        cpu_model=cpu.model,
        cpu_count=cpu.processors or None,
        memory_bytes=_memory_bytes(_text(f"{procfs}/meminfo")),
        hard_disks=hard,
        solid_state_disks=solid,
    )


def detect_here(sysfs: str, procfs: str, *, device_class: str = "") -> Machine:
    """Detect this machine through its operating system.

    `sysfs` and `procfs` are used on Linux only. `device_class` is as in `detect`.
    """
    return cast("Machine", load_module("facts").detect_here(sysfs, procfs, device_class=device_class))


def root_of(sysfs: str) -> str:
    """Return the folder that holds /etc and /run: the parent of `sysfs`.

    So a captured tree is never mixed with the files of this machine.
    """
    return os.path.dirname(sysfs.rstrip("/")).rstrip("/")


class _Cpu(NamedTuple):
    model: str | None
    processors: int
    flags: str
    """Flags of the first processor; empty where processors have none."""


def _cpu_facts(cpuinfo: str) -> _Cpu:
    model: str | None = None
    count, flags = 0, ""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        key = key.strip()
        if key == "processor":
            count += 1
        elif key == "model name" and model is None:
            model = fact_text(value)
        elif key == "flags" and not flags:
            flags = value
    return _Cpu(model, count, flags)


def vendor_and_model(read: Callable[[str], str]) -> tuple[str | None, str | None]:
    """Return (vendor, model) of the machine, or of its board when the maker left them empty.

    `read` returns a text by its name in sysfs. Lenovo writes the type number in product_name and the
    commercial name in product_version. ThinkSystem does the opposite: product_name holds the commercial name,
    then the type number in brackets.
    """
    vendor, model = _meaningful_text(read("sys_vendor")), _meaningful_text(read("product_name"))
    if vendor is not None and vendor.lower() == "lenovo":
        name = _meaningful_text(read("product_version"))
        if (
            name is not None
            and name.lower() != "lenovo"
            and any(word.isalpha() and len(word) > 3 for word in name.split())
        ):
            model = name
        elif model is not None:
            model = model.partition("[")[0].strip(" -") or model
    if model is None:
        board_vendor, board = _meaningful_text(read("board_vendor")), _meaningful_text(read("board_name"))
        if board is not None:
            vendor, model = vendor or board_vendor, board
    return (None if vendor is None else fact_text(vendor)), (None if model is None else fact_text(model))


def _meaningful_text(text: str) -> str | None:
    """Return a DMI text; None when it is empty or a placeholder."""
    text = text.strip()
    plain = text.lower()
    return (
        None
        if not text.strip(" .-_*xX0") or plain in _PLACEHOLDERS or plain.startswith("to be filled")
        else text
    )


def class_of(chassis_type: str, kind: str, has_battery: bool) -> DeviceClass:
    """Choose the device class from the virtualisation, the SMBIOS chassis number and a battery's presence."""
    if kind != "none":
        return DeviceClass.VIRTUAL_MACHINE
    chassis = chassis_type.strip()
    known = _CHASSIS.get(int(chassis)) if chassis.isdigit() else None
    if known is not None:
        return known
    return DeviceClass.LAPTOP if has_battery else DeviceClass.UNKNOWN


def _has_battery(sysfs: str) -> bool:
    root = f"{sysfs}/class/power_supply"
    return any(
        _text(f"{root}/{name}/type") == "Battery" and _text(f"{root}/{name}/scope") != "Device"
        for name in _names(root)
    )


def _disks(sysfs: str, kind: str) -> tuple[int | None, int | None]:
    """Return the numbers of (rotating, solid state) built-in disks; unknown in a virtual machine."""
    if kind != "none":
        return None, None
    rotational = [
        _text(f"{sysfs}/block/{name}/queue/rotational")
        for name in _names(f"{sysfs}/block")
        if _is_built_in(f"{sysfs}/block/{name}")
    ]
    return (rotational.count("1"), rotational.count("0")) if rotational else (None, None)


def _is_built_in(disk: str) -> bool:
    """Tell if a disk is inside the case: no stick, no card, no USB disk, no volume of a storage network."""
    if not os.path.exists(f"{disk}/device"):
        return False
    if _text(f"{disk}/removable") == "1" or _text(f"{disk}/hidden") == "1":
        return False  # hidden: one of several paths to an NVMe disk
    if _text(f"{disk}/device/type") == "SD":
        return False
    place = os.path.realpath(disk)
    return not any(word in place for word in _ELSEWHERE)


def _memory_bytes(meminfo: str) -> int | None:
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            words = line.split()
            return int(words[1]) * 1024 if len(words) > 1 and words[1].isdigit() else None
    return None


# ---------------------------------------------------------------------------------- virtualisation

_BY_DMI: Final = (
    ("vmware", "vmware"),
    ("qemu", "kvm"),
    ("kvm", "kvm"),
    ("amazon ec2", "kvm"),
    ("google compute engine", "kvm"),
    ("openstack", "kvm"),
    ("rhev", "kvm"),
    ("ovirt", "kvm"),
    ("nutanix ahv", "kvm"),
    ("bochs", "kvm"),
    ("virtual machine", "hyperv"),
    ("xen", "xen"),
    ("hvm domu", "xen"),
    ("virtualbox", "unknown"),
    ("parallels", "unknown"),
    ("apple virtualization", "unknown"),
    ("bhyve", "unknown"),
)
_RENTED_WHOLE: Final = frozenset({"amazon ec2", "google compute engine"})
"""Clouds that also rent whole machines under the same name: there the processor's flag decides."""
_BY_CLOCK: Final = (("kvm-clock", "kvm"), ("hyperv_clocksource", "hyperv"), ("xen", "xen"))
_CONTAINER_WORDS: Final = ("docker", "libpod", "kubepods", "/lxc", "containerd", "machine.slice/machine-")
_CONTAINER_FILES: Final = (
    "run/systemd/container",
    "run/host/container-manager",
    "run/.containerenv",
    ".dockerenv",
)
"""Files written by systemd in a container, by a manager of the interface, by Podman, by Docker.

They are needed because /proc/1 may be hidden from us.
"""
_XEN_DOM0_BIT: Final = 1 << 11
"""Bit of XENFEAT_dom0."""


def _virtualisation(sysfs: str, procfs: str, root: str, cpu_flags: str) -> str:
    """Return none, kvm, vmware, hyperv, xen, container or unknown. When nested, name the innermost one.

    `cpu_flags` is the line of cpuinfo; empty where processors have none (Arm).
    """
    hypervisor = "hypervisor" in cpu_flags.split()
    if _in_container(procfs, root):
        return "container"
    release = _text(f"{procfs}/sys/kernel/osrelease")
    if "microsoft" in release.lower():  # WSL 2 is a Hyper-V virtual machine, WSL 1 is not
        return "hyperv" if "wsl2" in release.lower() else "container"
    if _is_xen_dom0(sysfs, procfs):
        return "none"  # Xen's privileged domain drives the hardware
    if _text(f"{sysfs}/hypervisor/type") == "xen":
        return "xen"
    if name := _by_dmi(f"{sysfs}/class/dmi/id", whole=bool(cpu_flags) and not hypervisor):
        return name
    clocks = _text(f"{sysfs}/devices/system/clocksource/clocksource0/available_clocksource")
    for word, name in _BY_CLOCK:
        if word in clocks:
            return name
    return "unknown" if hypervisor else "none"


def _in_container(procfs: str, root: str) -> bool:
    if any(os.path.exists(f"{root}/{name}") for name in _CONTAINER_FILES):
        return True
    if "container=" in _text(f"{procfs}/1/environ").replace("\0", "\n"):
        return True
    if any(word in _text(f"{procfs}/1/cgroup") for word in _CONTAINER_WORDS):
        return True
    return os.path.isdir(f"{procfs}/vz") and not os.path.isdir(f"{procfs}/bc")  # OpenVZ


def _is_xen_dom0(sysfs: str, procfs: str) -> bool:
    if "control_d" in _text(f"{procfs}/xen/capabilities"):
        return True
    try:
        return bool(int(_text(f"{sysfs}/hypervisor/properties/features"), 16) & _XEN_DOM0_BIT)
    except ValueError:
        return False


def _by_dmi(folder: str, *, whole: bool) -> str:
    names = ("sys_vendor", "product_name", "bios_vendor")
    return hypervisor_of([_text(f"{folder}/{name}") for name in names], whole=whole)


def hypervisor_of(texts: Iterable[str], *, whole: bool) -> str:
    """Return the hypervisor named by the DMI texts of maker, product and firmware; empty = none.

    `whole`: the processor reports no hypervisor.
    """
    texts_lower = " ".join(texts).lower()
    for word, name in _BY_DMI:
        if word in texts_lower and (name != "hyperv" or "microsoft" in texts_lower):
            rented = word in _RENTED_WHOLE and (whole or ".metal" in texts_lower or "-metal" in texts_lower)
            return "none" if rented else name
    return ""


# ------------------------------------------------------------------------------------------- files


def _text(path: str) -> str:
    """Return the file's text without outer spaces; empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
