# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""hwmon chips that are known for what they measure: an allow list by role, never a sum of all.

Source: kernel Documentation/hwmon (acpi_power_meter, amdgpu, xe, i915); power in µW, energy in µJ.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge, Reading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.files import entries, int_or_none, text_or_none
from veilleuse.wire.units import MICROWATTS_PER_MILLIWATT
from veilleuse.wire.vocabulary import Boundary, PointKind

GPU_CEILING_WATTS: Final = 1_500.0
"""Twice the largest accelerator card of 2025."""


class _Role(NamedTuple):
    kind: PointKind
    boundary: Boundary
    counter: str | None
    """File of cumulative microjoules, preferred."""
    gauges: tuple[str, ...]
    """Files of microwatts, the first that exists."""
    zero_is_unread: bool = False
    """The whole machine cannot draw 0 W while it asks: some firmware answers 0 for `not known`."""


ROLES: Final = {
    "power_meter": _Role(
        PointKind.HWMON, Boundary.WALL, None, ("power1_average", "power1_input"), zero_is_unread=True
    ),
    "amdgpu": _Role(PointKind.GPU, Boundary.COMPONENT, "energy1_input", ("power1_average", "power1_input")),
    "i915": _Role(PointKind.GPU, Boundary.COMPONENT, "energy1_input", ()),
    "xe": _Role(PointKind.GPU, Boundary.COMPONENT, "energy1_input", ()),
}
"""Chip name → role. i915 and xe register a chip for discrete cards only."""


class _Chip(NamedTuple):
    folder: str
    role: _Role
    point: Point
    file: str


class LinuxHwmon:
    """`ports.Source`: one point per chip of the allow list."""

    name = "linux_hwmon"

    def __init__(self, context: SourceContext) -> None:
        self._root = f"{context.sysfs}/class/hwmon"
        self._virtualisation = context.virtualisation
        self._chips: tuple[_Chip, ...] = ()

    def open(self) -> tuple[Point, ...]:
        """Find the chips. Raises SourceUnavailable: virtual_machine or no_device."""
        seen: dict[str, int] = {}
        chips: list[_Chip] = []
        # By device, not by hwmon number: that one changes from boot to boot.
        for folder in sorted((f"{self._root}/{name}" for name in entries(self._root)), key=os.path.realpath):
            name = text_or_none(f"{folder}/name") or ""
            role = ROLES.get(name)
            if role is None or (name == "amdgpu" and _is_integrated(folder)):
                continue
            file = _first_file(folder, role)
            if file is None:
                continue
            seen[name] = seen.get(name, 0) + 1
            domain = name if seen[name] == 1 else f"{name}-{seen[name]}"
            chips.append(_Chip(folder, role, Point(role.kind, domain, role.boundary), file))
        if not chips:
            raise self._nothing_here()
        self._chips = tuple(chips)
        return tuple(chip.point for chip in chips)

    def read(self) -> tuple[Reading, ...]:
        """One reading per chip that answers. Raises ReadFailed when none does."""
        readings = [reading for chip in self._chips if (reading := _read(chip)) is not None]
        if not readings:
            raise ReadFailed(f"no power sensor under {self._root} could be read")
        return tuple(readings)

    def close(self) -> None:
        """Nothing is held."""

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


def _first_file(folder: str, role: _Role) -> str | None:
    for file in (role.counter, *role.gauges):
        if file is not None and os.path.exists(f"{folder}/{file}"):
            return file
    return None


def _is_integrated(folder: str) -> bool:
    """An integrated GPU lies inside the package that RAPL sees: in1 (northbridge voltage) exists on those only."""
    return os.path.exists(f"{folder}/in1_input")


def _read(chip: _Chip) -> Reading | None:
    if text_or_none(f"{chip.folder}/device/power/runtime_status") == "suspended":
        return None  # asking would wake the card
    value = int_or_none(f"{chip.folder}/{chip.file}")
    if value is None or value < 0 or (value == 0 and chip.role.zero_is_unread):
        return None
    if chip.file == chip.role.counter:
        return EnergyCounter(chip.point, value, None, GPU_CEILING_WATTS)
    return PowerGauge(chip.point, value // MICROWATTS_PER_MILLIWATT)
