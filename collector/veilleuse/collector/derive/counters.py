# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Selects the points of a cell that measure the whole machine, before any model (pure).
docs/methodology.md §1, docs/sources.md.

Points nest and overlap: one meter is selected, one kind of counters, and only disjoint parts are summed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from veilleuse.collector.derive import priors
from veilleuse.collector.model.meters import PsysCheck
from veilleuse.collector.model.records import Cell, Point
from veilleuse.wire.ladder import METER_KINDS
from veilleuse.wire.vocabulary import Boundary, PointKind, State, Supply

MACHINE_SUBJECT: Final = "machine"
ON_STATES: Final = frozenset({State.ON_ACTIVE, State.ON_IDLE})

_FINE: Final = frozenset({PointKind.PLUG, PointKind.PDU})
METERS: Final = {
    kind: (rank, priors.METER_U_PPM if kind in _FINE else priors.MACHINE_METER_U_PPM)
    for rank, kind in enumerate(METER_KINDS)
}
"""Kinds that meter the whole machine at the socket: (preference, uncertainty)."""
_COUNTERS: Final = (PointKind.RAPL, PointKind.EMI, PointKind.POWERMETRICS, PointKind.FAKE)
"""Kinds that count its components, best first; two kinds count the same components."""

_WINDOWS_NAME: Final = re.compile(r"(?:RAPL_PACKAGE(\d+)_|.+_)?(PKG|DRAM|PSYS|SYS)")
"""Names of Windows' energy meters, as agents of 0.2 sent them: RAPL_PACKAGE0_PKG, SOCKET_PKG, SYS."""
_WINDOWS_ENDINGS: Final = {"PKG": "package", "DRAM": "dram", "PSYS": "psys", "SYS": "psys"}


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter of this machine alone."""

    kind: PointKind
    energy_millijoules: int
    covered_milliseconds: int
    u_ppm: int


class Signal(NamedTuple):
    """Input of the wall model."""

    name: str
    """psys, package, package+dram, package+gpu or package+dram+gpu: the summed counters."""
    energy_millijoules: int
    covered_milliseconds: int


class CoveredEnergy(NamedTuple):
    """Energy over milliseconds."""

    energy_millijoules: int
    covered_milliseconds: int


def round_quotient(product: int, scale: int = priors.MILLION) -> int:
    """Return product ÷ scale, to the nearest integer, halves up; both ≥ 0. µW × ms ÷ 10⁶ = mJ."""
    return (product + scale // 2) // scale


def meters(cell: Cell) -> list[Meter]:
    """Return the machine's own meters, best first, one of each kind:
    of two of a kind, the longer-covering one counts.
    """
    found = sorted(
        (METERS[point.kind], -covered, point.domain, energy, point.kind)
        for point, energy, covered in cell.energies
        if covered > 0
        and point.boundary is Boundary.WALL
        and point.subject == MACHINE_SUBJECT
        and point.kind in METERS
    )
    best: dict[PointKind, Meter] = {}
    for (_, u_ppm), covered, _, energy, kind in found:
        best.setdefault(kind, Meter(kind, energy, -covered, u_ppm))
    return list(best.values())


def best_meter(cell: Cell) -> Meter | None:
    """Return the machine's own meter of highest preference."""
    found = meters(cell)
    return found[0] if found else None


def discharge(cell: Cell) -> CoveredEnergy | None:
    """Return the discharge of the batteries while they supplied the machine; on mains their flow is charging.

    Two batteries used in turn add up their times; used together they cover the cell once.
    """
    on_battery = cell.supply is Supply.BATTERY
    drained_at_rest = cell.supply is Supply.UNKNOWN and cell.state in (State.ASLEEP, State.OFF)
    if not (on_battery or drained_at_rest):
        return None
    parts = [
        (energy, covered)
        for point, energy, covered in cell.energies
        if point.kind is PointKind.BATTERY_OUT and point.subject == MACHINE_SUBJECT and covered > 0
    ]
    if not parts:
        return None
    time = min(cell.milliseconds, sum(covered for _, covered in parts))
    return CoveredEnergy(sum(energy for energy, _ in parts), time)


def counter_signal(cell: Cell, *, trust_psys: bool = True) -> Signal | None:
    """Return the sum of component counters while the machine is on; None when no package is counted.

    It is psys where package ≤ psys, as mean powers, and the battery does not contradict it (`trust_psys`: see
    `psys_is_trusted`). Without a package, psys cannot be checked and is not used.
    """
    if cell.state not in ON_STATES:
        return None
    counters = _counters(cell)
    packages = sum_disjoint(counters.get("package", ()))
    if packages is None:
        return None
    platform = sum_disjoint(counters["psys"]) if trust_psys and "psys" in counters else None
    if platform is not None and _fits(packages, platform):
        return Signal("psys", platform.energy_millijoules, platform.covered_milliseconds)
    names, parts = ["package"], [*counters["package"]]
    for name, more in (("dram", counters.get("dram", [])), ("gpu", _gpus(cell))):
        seen = sum_disjoint(more) if more else None
        if seen is not None and 2 * seen.covered_milliseconds >= packages.covered_milliseconds:
            names.append(name)
            parts += [part for part in more if part[1] > 0]
    whole = (sum_disjoint(parts) if len(names) > 1 else None) or packages
    return Signal("+".join(names), whole.energy_millijoules, whole.covered_milliseconds)


def gpus(cell: Cell) -> CoveredEnergy | None:
    """Return the energy of the discrete GPUs' own counters, over the time that all of them cover."""
    return sum_disjoint(_gpus(cell))


def psys_check(cell: Cell, prior: priors.WallPrior | None = None) -> PsysCheck | None:
    """Compare psys with the battery's discharge, where one cell on battery has both.

    With the wall model of the machine's class, the result also has the part of the discharge that the other
    counters do not explain.
    """
    if cell.supply is not Supply.BATTERY or cell.state not in ON_STATES:
        return None
    drained = discharge(cell)
    platform = sum_disjoint(_counters(cell).get("psys", ())) if drained else None
    if drained is None or platform is None:
        return None
    common = min(drained.covered_milliseconds, platform.covered_milliseconds)
    return PsysCheck(
        round_quotient(platform.energy_millijoules * common, platform.covered_milliseconds),
        round_quotient(drained.energy_millijoules * common, drained.covered_milliseconds),
        common,
        *_beyond_counters(cell, drained, prior),
    )


def _beyond_counters(cell: Cell, drained: CoveredEnergy, prior: priors.WallPrior | None) -> tuple[int, int]:
    """Return (mJ, ms): the discharge at the wall, less the class's slope × the counters other than psys."""
    counted = counter_signal(cell, trust_psys=False)
    if counted is None or prior is None:
        return 0, 0
    common = min(drained.covered_milliseconds, counted.covered_milliseconds)
    wall = round_quotient(drained.energy_millijoules * priors.PLATFORM_SLOPE_PPM)
    model = round_quotient(counted.energy_millijoules * prior.slope_ppm)
    return (
        round_quotient(wall * common, drained.covered_milliseconds)
        - round_quotient(model * common, counted.covered_milliseconds),
        common,
    )


def psys_is_trusted(seen: PsysCheck) -> bool:
    """Return whether psys ≤ 1.2 × discharge over the machine's whole time on battery;
    True while that is too short.
    """
    if seen.milliseconds < priors.PSYS_CHECK_MILLISECONDS:
        return True
    limit = seen.discharge_millijoules * priors.PSYS_DISCHARGE_PPM
    return seen.psys_millijoules * priors.MILLION <= limit


def base_microwatts(seen: PsysCheck) -> int | None:
    """Return the base of the wall model from the machine's battery, µW;
    None while its time on battery is too short.

    The base is in whole watts: the mean over the whole time on battery settles there, and all periods use one
    value.
    """
    if seen.base_milliseconds < priors.PSYS_CHECK_MILLISECONDS:
        return None
    doubled = 2 * seen.base_milliseconds
    return (2 * seen.base_millijoules + seen.base_milliseconds) // doubled * priors.MILLION


def may_be_psys(point: Point) -> bool:
    """Return whether a point may be a platform counter; cheap, because every period's are asked."""
    return point.domain.endswith(("sys", "SYS"))


def sum_disjoint(parts: Iterable[tuple[int, int]]) -> CoveredEnergy | None:
    """Sum disjoint parts over the time that all of them cover; a longer part counts in proportion."""
    seen = [part for part in parts if part[1] > 0]
    if not seen:
        return None
    if len(seen) == 1:
        return CoveredEnergy(*seen[0])
    common = min([covered for _, covered in seen])
    return CoveredEnergy(sum(round_quotient(energy * common, covered) for energy, covered in seen), common)


def _fits(packages: CoveredEnergy, platform: CoveredEnergy) -> bool:
    left = packages.energy_millijoules * platform.covered_milliseconds
    return left <= platform.energy_millijoules * packages.covered_milliseconds


def _counters(cell: Cell) -> dict[str, list[tuple[int, int]]]:
    """Return package, dram, psys → [(mJ, covered ms)] of the best kind that counts a package."""
    for kind in _COUNTERS:
        parts: dict[str, tuple[int, int]] = {}
        for point, energy, covered in cell.energies:
            if (
                point.kind is kind
                and point.subject == MACHINE_SUBJECT
                and point.boundary is not Boundary.WALL
            ):
                name = _part(point)
                before = parts.get(name, (0, 0))  # under its former name, until the agent was upgraded
                parts[name] = before[0] + energy, min(cell.milliseconds, before[1] + covered)
        found: dict[str, list[tuple[int, int]]] = {}
        for name, part in parts.items():
            found.setdefault(name.partition("-")[0], []).append(part)
        if "package" not in found and "cluster" in found:  # Snapdragon under Windows names no package
            found["package"] = found["cluster"]
        if any(covered for _, covered in found.get("package", ())):
            return found
    return {}


def _part(point: Point) -> str:
    """Return the name of the counted part: package-0, dram-0, psys, cluster-…, or the point's own name."""
    name = point.domain
    if point.kind is PointKind.EMI:
        if match := _WINDOWS_NAME.fullmatch(name.upper()):
            word = _WINDOWS_ENDINGS[match[2]]
            return word if word == "psys" else f"{word}-{match[1] or 0}"
        if "CLUSTER" in name.upper():
            return f"cluster-{name}"
    return name


def _gpus(cell: Cell) -> list[tuple[int, int]]:
    return [
        (energy, covered)
        for point, energy, covered in cell.energies
        if point.kind is PointKind.GPU and point.subject == MACHINE_SUBJECT
    ]
