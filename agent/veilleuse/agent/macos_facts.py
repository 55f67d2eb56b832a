# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a Mac is: from `sysctl` alone. Never run on one: docs/sources.md, macos_power.

Not from `system_profiler` or the platform's registry entry: both give serial numbers beside the rest. Sources: sysctl(3), sysctl(8);
Apple's pages on how to identify each model by its identifier.
"""

from __future__ import annotations

from typing import Final

from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.machine import Machine
from veilleuse.agent.sources.program import Program
from veilleuse.wire.limits import fact_text
from veilleuse.wire.vocabulary import DeviceClass

NAMES: Final = (
    "hw.model",
    "hw.memsize",
    "hw.logicalcpu",
    "hw.packages",
    "hw.optional.arm64",
    "machdep.cpu.brand_string",
    "kern.osproductversion",
    "kern.hv_vmm_present",
)
COMMAND: Final = ("/usr/sbin/sysctl", *NAMES)
"""Names that this Mac does not know are told on the other output, and left out."""
_SECONDS: Final = 5.0
_BY_PREFIX: Final = (
    ("MacBook", DeviceClass.LAPTOP),
    ("Macmini", DeviceClass.MINI_PC),
    ("iMac", DeviceClass.ALL_IN_ONE),
    ("MacPro", DeviceClass.TOWER),
    ("VirtualMac", DeviceClass.VIRTUAL_MACHINE),
)
_BY_IDENTIFIER: Final = {
    **dict.fromkeys(("Mac13,1", "Mac13,2", "Mac14,13", "Mac14,14", "Mac15,14", "Mac16,9"), DeviceClass.SFF),
    **dict.fromkeys(("Mac14,3", "Mac14,12", "Mac16,10", "Mac16,11"), DeviceClass.MINI_PC),
    **dict.fromkeys(("Mac15,4", "Mac15,5", "Mac16,2", "Mac16,3"), DeviceClass.ALL_IN_ONE),
    "Mac14,8": DeviceClass.TOWER,
}
"""Since 2022 the identifier does not say the form: Mac Studio (drawing as much as a small desktop), Mac mini, iMac, Mac Pro. Apple, 2025."""


def detect(*, has_battery: bool, device_class: str = "", program: Program | None = None) -> Machine:
    """Read the facts. `device_class` is the setting that overrules detection; empty = detect."""
    try:
        said = (program or Program()).run(COMMAND, {}, _SECONDS).output
    except ReadFailed:
        said = ""
    return machine_of(said, has_battery=has_battery, device_class=device_class)


def machine_of(sysctl: str, *, has_battery: bool, device_class: str = "") -> Machine:
    """The facts in what sysctl prints, `name: value` a line. Pure."""
    told: dict[str, str] = {}
    for line in sysctl.splitlines():
        name, _, value = line.partition(":")
        if name in NAMES:
            told[name] = value.strip()
    model = told.get("hw.model", "")
    found = _class_of(model, virtual=told.get("kern.hv_vmm_present") == "1", has_battery=has_battery)
    version = told.get("kern.osproductversion", "")
    return Machine(
        device_class=DeviceClass(device_class) if device_class else found,
        virtualisation="unknown" if found is DeviceClass.VIRTUAL_MACHINE else "none",
        has_battery=has_battery,
        vendor="Apple" if model else None,
        model=fact_text(model),
        cpu_model=fact_text(told.get("machdep.cpu.brand_string", "")),
        cpu_count=_count(told.get("hw.logicalcpu")),
        cpu_sockets=_count(told.get("hw.packages")),
        memory_bytes=_count(told.get("hw.memsize")),
        hard_disks=None,
        solid_state_disks=None,
        firmware_year=None,
        os_type="darwin",
        os_version=fact_text(f"macOS {version}"),
        host_arch="arm64" if told.get("hw.optional.arm64") == "1" else "amd64",
    )


def _class_of(model: str, *, virtual: bool, has_battery: bool) -> DeviceClass:
    if virtual:
        return DeviceClass.VIRTUAL_MACHINE
    for prefix, found in _BY_PREFIX:
        if model.startswith(prefix):
            return found
    if model in _BY_IDENTIFIER:
        return _BY_IDENTIFIER[model]
    return DeviceClass.LAPTOP if has_battery else DeviceClass.UNKNOWN


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and 0 < int(text) < 2**63 else None
