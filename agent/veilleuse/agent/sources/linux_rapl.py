# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""RAPL energy counters through the powercap tree. Source: kernel Documentation/power/powercap; SENSORS.md.

Offered: each package and its dram (parts), psys (the platform, where the maker wired it). Not offered: core and uncore,
which lie inside the package; the mmio twin of a package already seen; a die that mirrors another die's counter.
"""

from __future__ import annotations

import re
import time
from typing import Final, NamedTuple

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, Reading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.files import entries, int_or_none, read_int, text_or_none
from veilleuse.wire.vocabulary import Boundary, PointKind

PACKAGE_CEILING_WATTS: Final = 1_000.0
"""Twice the largest processor package of 2025 (500 W)."""
DRAM_CEILING_WATTS: Final = 400.0
PSYS_CEILING_WATTS: Final = 2_000.0

MIRROR_TOLERANCE_MICROJOULES: Final = 500_000
"""Two files of one counter are read within 1 ms: 0.5 J is 500 W for that long."""
_MIRROR_PAUSE_SECONDS: Final = 0.05
_ZONE = re.compile(r"intel-rapl(?P<mmio>-mmio)?:(?P<zone>\d+)(:(?P<part>\d+))?")
_PACKAGE = re.compile(r"package-(?P<package>\d+)(-die-\d+)?")

REMEDY_PERMISSION: Final = (
    "install the package veilleuse-rapl (a udev rule that lets the group veilleuse-rapl read energy_uj and "
    "max_energy_range_uj), or run the RAPL helper"
)


class _Zone(NamedTuple):
    folder: str
    point: Point
    range_microjoules: int
    ceiling_watts: float


class LinuxRapl:
    """`ports.Source`: cumulative microjoules per zone."""

    name = "linux_rapl"

    def __init__(self, context: SourceContext) -> None:
        self._root = f"{context.sysfs}/class/powercap"
        self._virtualisation = context.virtualisation
        self._zones: tuple[_Zone, ...] = ()

    def open(self) -> tuple[Point, ...]:
        """Find the zones. Raises SourceUnavailable: virtual_machine, no_device or no_permission."""
        named = self._named_zones()
        if not named:
            raise self._nothing_here()
        zones = [zone for folder, point, ceiling in named if (zone := _readable(folder, point, ceiling))]
        if not zones:
            raise SourceUnavailable(
                "no_permission",
                f"the RAPL counters under {self._root} are not readable by this user",
                REMEDY_PERMISSION,
            )
        self._zones = tuple(_without_mirrors(zones))
        return tuple(zone.point for zone in self._zones)

    def read(self) -> tuple[Reading, ...]:
        """One counter per zone that can be read now. Raises ReadFailed when none can."""
        readings: list[Reading] = []
        for zone in self._zones:
            energy = int_or_none(f"{zone.folder}/energy_uj")
            if energy is not None and energy >= 0:
                readings.append(EnergyCounter(zone.point, energy, zone.range_microjoules, zone.ceiling_watts))
        if not readings:
            raise ReadFailed(f"no RAPL counter under {self._root} could be read")
        return tuple(readings)

    def close(self) -> None:
        """Nothing is held."""

    def _nothing_here(self) -> SourceUnavailable:
        if self._virtualisation not in ("none", "container"):
            return SourceUnavailable(
                "virtual_machine", "virtual machine: energy is its host's", "measure the host"
            )
        return SourceUnavailable(
            "no_device",
            f"no RAPL counters under {self._root}",
            "load the module intel_rapl_msr (it serves AMD processors too); older processors have none",
        )

    def _named_zones(self) -> list[tuple[str, Point, float]]:
        """(folder, point, ceiling) of what is offered, twins left out, sorted by domain."""
        folders = self._folders()
        packages: dict[tuple[str, str], str] = {}  # (family, zone number) → package name
        found: dict[str, tuple[str, Point, float]] = {}
        for family, zone, part, folder in sorted(folders):
            name = text_or_none(f"{folder}/name")
            if name is None:
                continue
            if part == "" and _PACKAGE.fullmatch(name):
                packages[family, zone] = name
                found.setdefault(name, (folder, _component(name), PACKAGE_CEILING_WATTS))
            elif part == "" and name == "psys":
                point = Point(PointKind.RAPL, "psys", Boundary.MACHINE_DC)
                found.setdefault(name, (folder, point, PSYS_CEILING_WATTS))
            elif name == "dram" and (package := packages.get((family, zone))) is not None:
                domain = package.replace("package", "dram", 1)  # sorted: a package comes before its parts
                found.setdefault(domain, (folder, _component(domain), DRAM_CEILING_WATTS))
        return [found[domain] for domain in sorted(found)]

    def _folders(self) -> list[tuple[str, str, str, str]]:
        """(family, zone, part, folder) of all zones, flat in the class folder or nested; the family `` sorts first."""
        folders: dict[str, tuple[str, str, str, str]] = {}
        waiting = [self._root, *(f"{self._root}/{name}" for name in ("intel-rapl", "intel-rapl-mmio"))]
        while waiting:
            parent = waiting.pop()
            for name in entries(parent):
                if (match := _ZONE.fullmatch(name)) and name not in folders:
                    folder = f"{parent}/{name}"
                    folders[name] = (match["mmio"] or "", match["zone"], match["part"] or "", folder)
                    waiting.append(folder)
        return list(folders.values())


def _component(domain: str) -> Point:
    return Point(PointKind.RAPL, domain, Boundary.COMPONENT)


def _readable(folder: str, point: Point, ceiling_watts: float) -> _Zone | None:
    """The zone, None when its counter or its range cannot be read: without a range a wrap cannot be told."""
    try:
        read_int(f"{folder}/energy_uj")
        return _Zone(folder, point, read_int(f"{folder}/max_energy_range_uj"), ceiling_watts)
    except (OSError, ValueError):
        return None


def _without_mirrors(zones: list[_Zone]) -> list[_Zone]:
    """AMD shows one counter once per die: keep the first of those that agree over two reads."""
    dies = [zone for zone in zones if "-die-" in zone.point.domain]
    if len(dies) < 2:
        return zones
    before = _values(dies)
    time.sleep(_MIRROR_PAUSE_SECONDS)
    after = _values(dies)
    dropped: set[int] = set()
    for first in range(len(dies)):
        for second in range(first + 1, len(dies)):
            same_package = _family(dies[first]) == _family(dies[second])
            if same_package and all(_agree(values[first], values[second]) for values in (before, after)):
                dropped.add(second)
    mirrors = {dies[position].point for position in dropped}
    return [zone for zone in zones if zone.point not in mirrors]


def _values(zones: list[_Zone]) -> list[int | None]:
    return [int_or_none(f"{zone.folder}/energy_uj") for zone in zones]


def _family(zone: _Zone) -> str:
    return zone.point.domain.partition("-die-")[0]


def _agree(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= MIRROR_TOLERANCE_MICROJOULES
