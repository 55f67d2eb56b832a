# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads RAPL energy counters in the powercap tree.

Source: kernel Documentation/power/powercap; docs/sources.md.

Offered: each package and its dram (parts), and psys (the platform, where the maker connected it). Not
offered: core and uncore, which lie inside the package; the mmio twin of a package already found; a die or a
package that mirrors another's counter.

Reads the files when this user may, else what the privileged helper publishes (commands/rapl_helper.py).
"""

from __future__ import annotations

import os
import re
import time
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from veilleuse.agent.errors import PointsChanged, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, Reading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.files import entries, inode_or_none, int_or_none, is_still, text_or_none
from veilleuse.wire.vocabulary import Boundary, PointKind

if TYPE_CHECKING:
    from veilleuse.agent.sources.rapl_snapshot import RaplSnapshot

PACKAGE_CEILING_WATTS: Final = 1_000.0
"""Twice the largest processor package of 2025 (500 W)."""
DRAM_CEILING_WATTS: Final = 400.0
PSYS_CEILING_WATTS: Final = 2_000.0

MIRROR_TOLERANCE_MICROJOULES: Final = 500_000
"""Each die refreshes its counter every millisecond, at its own moment: 0.5 J is 500 W for a millisecond."""
MIRROR_LOOKS: Final = 5
MIRROR_PAUSE_SECONDS: Final = 0.2
"""Two packages may agree by chance soon after a boot.

If they differ by 0.7 W, they differ by the tolerance within 0.8 s.
"""
_ZONE = re.compile(r"intel-rapl(?P<mmio>-mmio)?:(?P<zone>[0-9a-f]+)(:(?P<part>[0-9a-f]+))?")
"""The kernel numbers zones in hexadecimal: the 11th is `intel-rapl:a`.

Source: drivers/powercap/powercap_sys.c, `%s:%x`.
"""
_PACKAGE = re.compile(r"package-(?P<package>\d+)(-die-\d+)?")
_PSYS = re.compile(r"psys(-\d+)?")
_INSIDE_PACKAGE: Final = ("core", "uncore")

REMEDY_PERMISSION: Final = (
    "run the RAPL helper (veilleuse-rapl.service), or install the udev rule that lets the group "
    "veilleuse-rapl read energy_uj and max_energy_range_uj: deploy/systemd/README.md"
)


class _NamedZone(NamedTuple):
    """A zone that is offered, by its name in the kernel."""

    key: tuple[str, str]
    """(family, name): the same zone after the driver was loaded again, whatever its number."""
    folder: str
    point: Point
    ceiling_watts: float


class _Zone(NamedTuple):
    key: tuple[str, str]
    folder: str
    inode: int | None
    """Inode number of the folder; None while the driver is away."""
    point: Point
    range_microjoules: int
    ceiling_watts: float


class LinuxRapl:
    """`ports.Source`: cumulative microjoules per zone."""

    name = "linux_rapl"
    KINDS: ClassVar = (PointKind.RAPL,)

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._root = f"{context.sysfs}/class/powercap"
        self._zones: tuple[_Zone, ...] = ()
        self._mirror_of: dict[Point, Point] = {}
        """Point of a mirror → the point whose counter it repeats."""
        self._helper: RaplSnapshot | None = None

    def open(self) -> tuple[Point, ...]:
        """Find the zones. Raises SourceUnavailable: virtual_machine, no_device or no_permission."""
        self._helper = None
        found = self._named_zones()
        readable = _choose_readable(found)
        self._mirror_of = _mirror_of(readable)
        self._zones = tuple(zone for zone in readable if zone.point not in self._mirror_of)
        if self._zones:
            return tuple(zone.point for zone in self._zones)
        points, why = self._ask_helper()
        if points:
            return points
        if not found:
            raise self._nothing_here()
        raise SourceUnavailable(
            "no_permission",
            f"the RAPL counters under {self._root} are not readable by this user{why}",
            REMEDY_PERMISSION,
        )

    def read(self) -> tuple[Reading, ...]:
        """Return one counter per readable zone.

        Raises ReadFailed when none is readable; PointsChanged after an `open` that failed.
        """
        if self._helper is not None:
            return self._helper.read()
        if not self._zones:
            raise PointsChanged("it could not be opened again")
        readings = self._read_zones()
        if len(readings) < len(self._zones) and self._is_one_gone() and self._relocate():
            readings = self._read_zones()
        if not readings:
            raise ReadFailed(f"no RAPL counter under {self._root} could be read")
        return readings

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def not_counted(self) -> tuple[tuple[str, str], ...]:
        """`ports.SeesMore`: zones of the tree, or of the helper's, that are not counted, as (`intel-rapl:0:0
        core`, why).
        """
        if self._helper is not None:
            return self._helper.not_counted()
        offered = {one.folder: one.point for one in self._named_zones()}
        counted = {zone.folder: zone.point for zone in self._zones}
        seen = {name: f"{self._root}/{name}" for name in entries(self._root) if ":" in name}
        seen |= {os.path.basename(folder): folder for *_, folder in self._folders()}
        names = {
            number: text_or_none(f"{folder}/name") or "without a name" for number, folder in seen.items()
        }
        numbers = {point: os.path.basename(folder) for folder, point in counted.items()}
        reasons: list[tuple[str, str]] = []
        for number, folder in sorted(seen.items()):
            if folder in counted:
                continue
            if (point := offered.get(folder)) is None:
                inside = names[number] in _INSIDE_PACKAGE and names.get(number.rpartition(":")[0])
                why = f"nested in {inside}" if inside else "unknown: it is not known what it counts"
            elif (first := self._mirror_of.get(point, point)) in numbers:
                why = f"mirror of {first.domain} ({numbers[first]})"
            else:
                why = "energy_uj or max_energy_range_uj cannot be read"
            reasons.append((f"{number} {names[number]}", why))
        return tuple(reasons)

    # -------------------------------------------------------------------------------------- files

    def _read_zones(self) -> tuple[Reading, ...]:
        """Read the zones; a counter at exactly 0, or beyond its own range, counts as unread.

        The psys of a second socket gives 0, and so does a slow or blocked register. A true 0 lasts 61 µJ.
        """
        readings: list[Reading] = []
        for zone in self._zones:
            if not is_still(zone.folder, zone.inode):
                continue  # another zone may have taken its number
            energy = int_or_none(f"{zone.folder}/energy_uj")
            if energy is not None and 0 < energy <= zone.range_microjoules:
                readings.append(EnergyCounter(zone.point, energy, zone.range_microjoules, zone.ceiling_watts))
        return tuple(readings)

    def _is_one_gone(self) -> bool:
        """Tell whether a zone's folder is gone.

        A zone that exists but cannot be read, or stays at 0, cannot be found elsewhere.
        """
        return not all(is_still(zone.folder, zone.inode) for zone in self._zones)

    def _relocate(self) -> bool:
        """Find the zones by name again: a driver that was loaded again gives them other numbers.

        Return True when a zone has moved. Of several zones with one name (psys of two sockets) the first that
        counts is taken, as at `open`.
        """
        folders: dict[tuple[str, str], str] = {}
        for one in self._named_zones():
            former = folders.setdefault(one.key, one.folder)
            if former != one.folder and not _is_counting(former) and _is_counting(one.folder):
                folders[one.key] = one.folder
        before = self._zones
        found = [folders.get(zone.key, zone.folder) for zone in before]
        self._zones = tuple(
            zone._replace(folder=folder, inode=inode_or_none(folder) if zone.key in folders else None)
            for zone, folder in zip(before, found, strict=True)
        )
        return self._zones != before

    def _named_zones(self) -> list[_NamedZone]:
        """Return the offered zones with their twins, the preferred one first, sorted by domain."""
        packages: dict[tuple[str, str], str] = {}  # (family, zone number) → package name
        found: list[_NamedZone] = []
        for family, zone, part, folder in sorted(self._folders()):  # a package comes before its parts
            name = text_or_none(f"{folder}/name")
            if name is None:
                continue
            if part == "" and _PACKAGE.fullmatch(name):
                packages[family, zone] = name
                found.append(_NamedZone((family, name), folder, _component(name), PACKAGE_CEILING_WATTS))
            elif part == "" and _PSYS.fullmatch(name):
                point = Point(PointKind.RAPL, "psys", Boundary.MACHINE_DC)
                found.append(_NamedZone((family, name), folder, point, PSYS_CEILING_WATTS))
            elif name == "dram" and (package := packages.get((family, zone))) is not None:
                domain = package.replace("package", "dram", 1)
                found.append(_NamedZone((family, domain), folder, _component(domain), DRAM_CEILING_WATTS))
        return sorted(found, key=lambda one: (one.point.domain, one.key))

    def _folders(self) -> list[tuple[str, str, str, str]]:
        """Return (family, zone, part, folder) of all zones, flat in the class folder or nested.

        The empty family sorts first.
        """
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

    # ------------------------------------------------------------------------------------- helper

    def _ask_helper(self) -> tuple[tuple[Point, ...], str]:
        """Return the points that the helper publishes, or a reason to add to the error.

        A virtual machine has no helper to ask.
        """
        if not self._context.helper or self._is_virtual():
            return (), ""
        from veilleuse.agent.sources.rapl_snapshot import RaplSnapshot  # imported only when it is used

        helper = RaplSnapshot(self._context)
        try:
            points = helper.open()
        except SourceUnavailable as error:
            return (), f"; {error.reason}"
        self._helper = helper
        return points, ""

    # ---------------------------------------------------------------------------------- not here

    def _is_virtual(self) -> bool:
        return self._context.virtualisation not in ("none", "container")

    def _nothing_here(self) -> SourceUnavailable:
        if self._is_virtual():
            return SourceUnavailable(
                "virtual_machine", "virtual machine: energy is its host's", "measure the host"
            )
        return SourceUnavailable(
            "no_device",
            f"no RAPL counters under {self._root}",
            "load the module intel_rapl_msr (it serves AMD processors too); older processors have none",
        )


def _component(domain: str) -> Point:
    return Point(PointKind.RAPL, domain, Boundary.COMPONENT)


def _is_counting(folder: str) -> bool:
    return (int_or_none(f"{folder}/energy_uj") or 0) > 0


def _choose_readable(found: list[_NamedZone]) -> list[_Zone]:
    """Choose one zone per point: the first of its twins that counts, else the first readable one.

    A counter whose range cannot be read is left out: a wrap would look like a reset.
    """
    chosen: dict[Point, tuple[bool, _Zone]] = {}
    for one in found:
        energy = int_or_none(f"{one.folder}/energy_uj")
        around = int_or_none(f"{one.folder}/max_energy_range_uj")
        if energy is None or around is None or around <= 0:
            continue
        counts = energy > 0
        if one.point not in chosen or (counts and not chosen[one.point][0]):
            inode = inode_or_none(one.folder)
            zone = _Zone(one.key, one.folder, inode, one.point, around, one.ceiling_watts)
            chosen[one.point] = (counts, zone)
    return [zone for _, zone in chosen.values()]


# ---------------------------------------------------------------------------------------- mirrors


def _mirror_of(zones: list[_Zone]) -> dict[Point, Point]:
    """Return the point of each mirror → the first of the points that agree with it.

    AMD shows one counter once per die, and some kernels call the dies packages.
    """
    pairs = [(one, other) for one, other in combinations(zones, 2) if _may_mirror(one, other)]
    for look in range(MIRROR_LOOKS):
        if look and pairs:
            time.sleep(MIRROR_PAUSE_SECONDS)
        pairs = [pair for pair in pairs if _agree(*pair)]
    return {other.point: one.point for one, other in reversed(pairs)}


def _may_mirror(one: _Zone, other: _Zone) -> bool:
    """Tell whether both are packages, or both are drams."""
    return (one.ceiling_watts, one.range_microjoules) == (other.ceiling_watts, other.range_microjoules)


def _agree(one: _Zone, other: _Zone) -> bool:
    """Tell whether the other counter, read between two reads of the first, lies between them.

    A counter at 0 proves nothing.
    """
    before, between, after = (int_or_none(f"{zone.folder}/energy_uj") for zone in (one, other, one))
    if before is None or between is None or after is None or not (before and between):
        return False
    low, high = before - MIRROR_TOLERANCE_MICROJOULES, after + MIRROR_TOLERANCE_MICROJOULES
    if after < before:  # the counter wrapped between the reads
        return between >= low or between <= high
    return low <= between <= high
