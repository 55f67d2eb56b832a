# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Detects a Mac (platforms/__init__.py) from `sysctl` and the battery alone.

Never run on a Mac: docs/macos.md.

`system_profiler` and the registry entry of the platform are not read: both return serial numbers too, and the
first takes seconds. Sources: sysctl(3), sysctl(8); Apple's pages on identifying a model by its identifier.
"""

from __future__ import annotations

import plistlib
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.parsers.expat import ExpatError

from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.host.machine import Machine
from veilleuse.agent.host.power_plan import NEVER, PowerPlan
from veilleuse.agent.platforms.macos import (
    MacosCallError,
    MacosCallTable,
    real_calls,
    sysctl_number,
    sysctl_text,
)
from veilleuse.wire.limits import fact_text
from veilleuse.wire.units import SECONDS_PER_MINUTE
from veilleuse.wire.vocabulary import DeviceClass

if TYPE_CHECKING:  # used by other processes than the resident one
    from veilleuse.agent.host.components import Parts
    from veilleuse.agent.host.graphics import GraphicsAdapter


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
"""Device class of the models whose identifier does not name it, as since 2022.

Mac Studio (its power is that of a small desktop), Mac mini, iMac, Mac Pro. Source: Apple, 2025.
"""


def detect_here(_sysfs: str, _procfs: str, *, device_class: str = "") -> Machine:
    """Implement `machine.detect_here`; the two folders are not used."""
    return machine_of(real_calls(), has_battery=_has_battery(), device_class=device_class)


def graphics_here(_sysfs: str) -> tuple[GraphicsAdapter, ...]:
    """Implement `graphics.graphics_here`: none is read, since those of Apple silicon are in the package."""
    return ()


def parts_here(machine: Machine, _sysfs: str) -> Parts:
    """Read the power plan.

    Memory is soldered, or macOS reports it only with a serial number. It is the same for graphics cards and
    displays.
    """
    from veilleuse.agent.host.components import Parts

    try:
        host = real_calls().host_uuid()
    except MacosCallError:
        host = ""
    return Parts(plan=power_plan(FOLDER, host))


def machine_of(calls: MacosCallTable, *, has_battery: bool, device_class: str = "") -> Machine:
    """Build the facts from the kernel's values; a value that is missing is not known."""
    model = sysctl_text(calls, "hw.model")
    virtual = sysctl_number(calls, "kern.hv_vmm_present") == 1
    found = _class_of(model, virtual=virtual, has_battery=has_battery)
    return Machine(
        device_class=DeviceClass(device_class) if device_class else found,
        virtualisation="unknown" if found is DeviceClass.VIRTUAL_MACHINE else "none",
        has_battery=has_battery,
        vendor="Apple" if model else None,
        model=fact_text(model),
        cpu_model=fact_text(sysctl_text(calls, "machdep.cpu.brand_string")),
        cpu_count=_count(calls, "hw.logicalcpu"),
        memory_bytes=_count(calls, "hw.memsize"),
        hard_disks=None,
        solid_state_disks=None,
    )


def _has_battery() -> bool:
    from veilleuse.agent.sources.macos_battery import battery_here

    try:
        return battery_here() is not None
    except ReadFailed:
        return False


def _class_of(model: str, *, virtual: bool, has_battery: bool) -> DeviceClass:
    if virtual:
        return DeviceClass.VIRTUAL_MACHINE
    for prefix, found in _BY_PREFIX:
        if model.startswith(prefix):
            return found
    if model in _BY_IDENTIFIER:
        return _BY_IDENTIFIER[model]
    return DeviceClass.LAPTOP if has_battery else DeviceClass.UNKNOWN


def _count(calls: MacosCallTable, name: str) -> int | None:
    found = sysctl_number(calls, name)
    return found if found is not None and found > 0 else None


FOLDER: Final = Path("/Library/Preferences")
_ON_MAINS: Final = "AC Power"
_DISPLAY: Final = "Display Sleep Timer"
_SLEEP: Final = "System Sleep Timer"
_LONGEST_MINUTES: Final = 7 * 1_440
"""Longest timeout, one week; a longer one counts as never, as on Windows."""
_LARGEST_BYTES: Final = 1 << 20


def power_plan(folder: Path, host_uuid: str) -> PowerPlan:
    """Read the power plan from the first file that has settings for mains.

    The file of this hardware comes first, then the file without an identifier. Other files may come from a
    copied disk. `host_uuid`: empty = not known.
    """
    names = ([f".{host_uuid}"] if host_uuid else []) + [""]
    for name in names:
        settings = _mains(folder / f"com.apple.PowerManagement{name}.plist")
        if settings is not None:
            return PowerPlan(_seconds(settings.get(_DISPLAY)), _seconds(settings.get(_SLEEP)))
    return PowerPlan(None, None)


def _mains(path: Path) -> dict[object, object] | None:
    """Return the mains settings; None when the file is missing, is no property list, or has none."""
    try:
        with path.open("rb") as file:
            settings = plistlib.loads(file.read(_LARGEST_BYTES))
    except (OSError, ExpatError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        return None
    mains = settings.get(_ON_MAINS) if isinstance(settings, dict) else None
    return mains if isinstance(mains, dict) else None


def _seconds(minutes: object) -> int | None:
    """Convert minutes to seconds; pmset writes 0 for never.

    None when the value is not a number of minutes.
    """
    if isinstance(minutes, bool) or not isinstance(minutes, int) or minutes < 0:
        return None
    return minutes * SECONDS_PER_MINUTE if minutes <= _LONGEST_MINUTES else NEVER
