# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the hwmon chips whose role is known: an allow list by role, never a sum of all chips.

Source: kernel Documentation/hwmon (acpi_power_meter), Documentation/gpu/amdgpu, Documentation/ABI (i915, xe);
power in µW, energy in µJ. Not on the list: chips of mainboards and power supplies (nct6775, ina2xx,
corsairpsu, pmbus), because it is not known what they feed. amd_energy and fam15h_power show the package that
RAPL shows. nouveau shows what NVML shows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import ClassVar, Final, NamedTuple

from veilleuse.agent.errors import PointsChanged, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge, Reading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.files import entries, inode_or_none, int_or_none, is_still, text_or_none
from veilleuse.wire.units import MICROWATTS_PER_MILLIWATT, MILLIWATTS_PER_WATT
from veilleuse.wire.vocabulary import Boundary, PointKind

GPU_CEILING_WATTS: Final = 1_500.0
"""Twice the largest accelerator card of 2025."""
MACHINE_CEILING_WATTS: Final = 25_000.0
"""Twice the largest server of 2025 (8 accelerators: 10 to 12 kW)."""
_ASLEEP: Final = ("suspended", "suspending", "resuming")
_ENERGIES: Final = ("energy1_input", "energy2_input")
"""Energy files of xe: 1 is the card, 2 its package. Some cards have only the second."""
_POWERS: Final = ("power1_average", "power1_input")
"""Power files. The average over the chip's own interval comes first: the other file is a sample."""
_LARGEST_COUNTER_MICROJOULES: Final = 2**63 - 1
"""Largest value of the kernel's hwmon; at 1.5 kW it lasts for 195 years."""


class _Role(NamedTuple):
    kind: PointKind
    boundary: Boundary
    ceiling_watts: float
    counters: tuple[str, ...]
    """Preferred files, of cumulative microjoules; the first readable one is used."""
    gauges: tuple[str, ...]
    """Files of microwatts; the first readable one is used."""
    zero_is_unread: bool = False
    """True for the whole machine, which cannot draw 0 W: some firmware writes 0 for `not known`."""


ROLES: Final = {
    "power_meter": _Role(
        PointKind.HWMON, Boundary.WALL, MACHINE_CEILING_WATTS, (), _POWERS, zero_is_unread=True
    ),
    "amdgpu": _Role(PointKind.GPU, Boundary.COMPONENT, GPU_CEILING_WATTS, _ENERGIES[:1], _POWERS),
    "i915": _Role(PointKind.GPU, Boundary.COMPONENT, GPU_CEILING_WATTS, _ENERGIES[:1], ()),
    "xe": _Role(PointKind.GPU, Boundary.COMPONENT, GPU_CEILING_WATTS, _ENERGIES, ()),
}
"""Chip name → role. i915 and xe register a chip only for discrete cards."""
_MIRRORS: Final = {
    "amd_energy": "the package that RAPL shows",
    "fam15h_power": "the package that RAPL shows",
    "nouveau": "what NVIDIA's own library shows",
}
"""Chip name → the measurement that it repeats."""
_POWER: Final = re.compile(r"(power\d+_(input|average)|energy\d+_input)")


class _Chip(NamedTuple):
    device: str
    """Real path of the chip, without its hwmon number: the same after its driver was loaded again."""
    folder: str
    inode: int | None
    """Inode number of the folder; None while the device is away."""
    role: _Role
    point: Point
    file: str


class LinuxHwmon:
    """`ports.Source`: one point per chip of the allow list."""

    name = "linux_hwmon"
    KINDS: ClassVar = (PointKind.HWMON,)

    def __init__(self, context: SourceContext) -> None:
        self._root = f"{context.sysfs}/class/hwmon"
        self._virtualisation = context.virtualisation
        self._chips: tuple[_Chip, ...] = ()
        self._names: list[str] = []
        """Names of the folders at the last check; other names mean that a driver was loaded or unloaded."""

    def open(self) -> tuple[Point, ...]:
        """Find the chips; known chips keep their points.

        Raises SourceUnavailable: virtual_machine or no_device.
        """
        self._names = entries(self._root)
        self._relocate()
        known = {chip.device for chip in self._chips}
        for device, folder, name in self._known_chips():
            if device not in known and (file := _choose(folder, ROLES[name])) is not None:
                role = ROLES[name]
                point = Point(role.kind, self._free_domain(name), role.boundary)
                chip = _Chip(device, folder, inode_or_none(folder), role, point, file)
                self._chips = (*self._chips, chip)
        if not self._chips:
            raise self._nothing_here()
        return tuple(chip.point for chip in self._chips)

    def read(self) -> tuple[Reading, ...]:
        """Return one reading per chip that answers.

        Raises ReadFailed when none answers; PointsChanged when a chip was added.
        """
        names = entries(self._root)
        if names != self._names and names:
            self._names = names
            known = {chip.device for chip in self._chips}
            if any(device not in known for device, _, _ in self._known_chips()):
                raise PointsChanged(f"{self._root} has other chips now")
        if not all(is_still(chip.folder, chip.inode) for chip in self._chips):
            self._relocate()
        readings = [reading for chip in self._chips if (reading := _read(chip)) is not None]
        if not readings:
            raise ReadFailed(f"no power sensor under {self._root} could be read")
        return tuple(readings)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def not_counted(self) -> tuple[tuple[str, str], ...]:
        """`ports.SeesMore`: chips of the last `open` that are not counted, as (`hwmon1 coretemp`, why)."""
        counted = {chip.folder for chip in self._chips}
        reasons: list[tuple[str, str]] = []
        for number in self._names:
            folder = f"{self._root}/{number}"
            if folder not in counted:
                name = text_or_none(f"{folder}/name") or ""
                reasons.append((f"{number} {name or 'without a name'}", _why_not(folder, name)))
        return tuple(reasons)

    def _free_domain(self, name: str) -> str:
        """Return the chip's name, with a number from the second chip on."""
        taken = {chip.point.domain for chip in self._chips}
        numbered = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 2)))
        return next(domain for domain in numbered if domain not in taken)

    def _known_chips(self) -> Iterator[tuple[str, str, str]]:
        """Yield (device, folder, name) by device: hwmon numbers change from boot to boot."""
        folders = [f"{self._root}/{name}" for name in entries(self._root)]
        for device, folder in sorted((_device(folder), folder) for folder in folders):
            name = text_or_none(f"{folder}/name") or ""
            if name in ROLES and not _is_left_out(folder, name):
                yield device, folder, name

    def _relocate(self) -> None:
        """Find the folders again: a reloaded driver has another hwmon number on the same device."""
        folders = {device: folder for device, folder, _ in self._known_chips()}
        found = [folders.get(chip.device, chip.folder) for chip in self._chips]
        self._chips = tuple(
            chip._replace(folder=folder, inode=inode_or_none(folder) if chip.device in folders else None)
            for chip, folder in zip(self._chips, found, strict=True)
        )

    def _nothing_here(self) -> SourceUnavailable:
        if self._virtualisation not in ("none", "container"):
            return SourceUnavailable(
                "virtual_machine", "virtual machine: it has no power sensor of its own", "measure the host"
            )
        return SourceUnavailable(
            "no_device",
            f"no power sensor of a known role under {self._root} ({', '.join(ROLES)})",
            "servers: load the module acpi_power_meter",
        )


def _device(folder: str) -> str:
    """Return the chip's device; the folder itself in a tree without devices."""
    return os.path.realpath(f"{folder}/device" if os.path.exists(f"{folder}/device") else folder)


def _is_left_out(folder: str, name: str) -> bool:
    """Tell whether a listed chip measures something else: an integrated GPU, or a meter on a battery.

    An integrated GPU lies inside the package that RAPL measures; in1 (northbridge voltage) exists only there.
    """
    if name == "amdgpu":
        return os.path.exists(f"{folder}/in1_input")
    return name == "power_meter" and int_or_none(f"{folder}/power1_is_battery") == 1


def _why_not(folder: str, name: str) -> str:
    """Return why a chip is not counted, in the words of docs/sources.md."""
    if name in _MIRRORS:
        return f"mirror of {_MIRRORS[name]}"
    if os.path.basename(os.path.dirname(_device(folder))) == "power_supply":
        return "mirror of what linux_battery shows"
    if name in ROLES and _is_left_out(folder, name):
        return "nested in the processor's package" if name == "amdgpu" else "measures a battery, not the wall"
    if not any(_POWER.fullmatch(file) for file in entries(folder)):
        return "shows no power and no energy"
    return "unknown: it is not known what it feeds"


def _choose(folder: str, role: _Role) -> str | None:
    """Choose the file to read for good: a counter and a gauge of one chip in turns would count time twice."""
    there = [file for file in (*role.counters, *role.gauges) if os.path.exists(f"{folder}/{file}")]
    if not there or _is_asleep(folder):
        return there[0] if there else None
    answering = (file for file in there if int_or_none(f"{folder}/{file}") is not None)
    return next(answering, there[0])


def _is_asleep(folder: str) -> bool:
    """Tell whether reading would wake the card."""
    return text_or_none(f"{folder}/device/power/runtime_status") in _ASLEEP


def _read(chip: _Chip) -> Reading | None:
    if not is_still(chip.folder, chip.inode) or _is_asleep(chip.folder):
        return None
    value = int_or_none(f"{chip.folder}/{chip.file}")
    if value is None or value < 0 or (value == 0 and chip.role.zero_is_unread):
        return None
    if chip.file in chip.role.counters:
        if value > _LARGEST_COUNTER_MICROJOULES:
            return None
        return EnergyCounter(chip.point, value, None, chip.role.ceiling_watts)
    power_milliwatts = value // MICROWATTS_PER_MILLIWATT
    return PowerGauge(chip.point, power_milliwatts) if _is_possible(power_milliwatts, chip.role) else None


def _is_possible(power_milliwatts: int, role: _Role) -> bool:
    """Tell whether a gauge is plausible: it has no history, so only values above the ceiling are refused."""
    return power_milliwatts <= role.ceiling_watts * MILLIWATTS_PER_WATT
