# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Detects a virtual machine or a container, and its kind, from what an account without rights can read.

Sources: container interface of systemd (/run/systemd/container); kernel
Documentation/ABI/stable/sysfs-hypervisor-xen and include/xen/interface/features.h; cpuinfo's `hypervisor`
flag (CPUID leaf 1, ECX bit 31); DMI texts as hypervisors set them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

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
_LARGEST_BYTES: Final = 64 * 1024
_XEN_DOM0_BIT: Final = 1 << 11
"""Bit of XENFEAT_dom0."""


def virtualisation(sysfs: str, procfs: str, root: str, cpu_flags: str) -> str:
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
    return by_texts([_text(f"{folder}/{name}") for name in names], whole=whole)


def by_texts(texts: Iterable[str], *, whole: bool) -> str:
    """Return the hypervisor named by the DMI texts of maker, product and firmware; empty = none.

    `whole`: the processor reports no hypervisor.
    """
    texts_lower = " ".join(texts).lower()
    for word, name in _BY_DMI:
        if word in texts_lower and (name != "hyperv" or "microsoft" in texts_lower):
            rented = word in _RENTED_WHOLE and (whole or ".metal" in texts_lower or "-metal" in texts_lower)
            return "none" if rented else name
    return ""


def _text(path: str) -> str:
    """Return the file's text; empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""
