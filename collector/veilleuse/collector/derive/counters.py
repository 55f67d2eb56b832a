# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Which of a cell's points speak for the whole machine, before any model (pure). docs/methodology.md §1, docs/sources.md.

Points nest and views repeat each other: of meters one is chosen, of counters one kind, and only disjoint parts are summed.
"""

from __future__ import annotations

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
"""Kinds that see the whole machine at the socket: (preference, uncertainty)."""
_COUNTERS: Final = (PointKind.RAPL, PointKind.EMI, PointKind.POWERMETRICS, PointKind.FAKE)
"""Kinds that see its parts, best first: two kinds are two views of the same parts."""


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter of this very machine."""

    kind: PointKind
    energy_millijoules: int
    covered_milliseconds: int
    u_ppm: int


class Signal(NamedTuple):
    """What the counter rung rests on."""

    name: str
    """psys, package, package+dram, package+gpu or package+dram+gpu: what was summed."""
    energy_millijoules: int
    covered_milliseconds: int


class Seen(NamedTuple):
    """Energy over milliseconds."""

    energy_millijoules: int
    covered_milliseconds: int


def scaled(product: int, scale: int = priors.MILLION) -> int:
    """product ÷ scale, to the nearest integer, halves up; both ≥ 0. µW × ms ÷ 10⁶ = mJ."""
    return (product + scale // 2) // scale


def meters(cell: Cell) -> list[Meter]:
    """The machine's own meters, best first, one of a kind: two of one kind are two views of it, the longer one counts."""
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
    """The machine's own meter that the ladder takes first."""
    found = meters(cell)
    return found[0] if found else None


def discharge(cell: Cell) -> Seen | None:
    """What left the batteries while they fed the machine; on mains their flow is charging.

    Batteries that feed it in turn, as in machines with two, add up their times; those that do together cover the cell once.
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
    return Seen(sum(energy for energy, _ in parts), time)


def counter_signal(cell: Cell, *, trust_psys: bool = True) -> Signal | None:
    """What the component counters say while the machine is on; None when no package is counted.

    psys where package ≤ psys, as mean powers, and nothing speaks against it (`trust_psys`: see `psys_is_trusted`); without a
    package there is nothing to check it against.
    """
    if cell.state not in ON_STATES:
        return None
    counters = _counters(cell)
    packages = together(counters.get("package", ()))
    if packages is None:
        return None
    platform = together(counters["psys"]) if trust_psys and "psys" in counters else None
    if platform is not None and _fits(packages, platform):
        return Signal("psys", platform.energy_millijoules, platform.covered_milliseconds)
    names, parts = ["package"], [*counters["package"]]
    for name, more in (("dram", counters.get("dram", [])), ("gpu", _gpus(cell))):
        seen = together(more) if more else None
        if seen is not None and 2 * seen.covered_milliseconds >= packages.covered_milliseconds:
            names.append(name)
            parts += [part for part in more if part[1] > 0]
    whole = (together(parts) if len(names) > 1 else None) or packages
    return Signal("+".join(names), whole.energy_millijoules, whole.covered_milliseconds)


def gpus(cell: Cell) -> Seen | None:
    """What the discrete GPUs' own counters saw; several over the time that all of them cover."""
    return together(_gpus(cell))


def psys_check(cell: Cell, prior: priors.WallPrior | None = None) -> PsysCheck | None:
    """psys beside the battery's discharge, where one cell on battery has both; with the wall model of the machine's class,
    what the other counters leave of the discharge, too."""
    if cell.supply is not Supply.BATTERY or cell.state not in ON_STATES:
        return None
    drained = discharge(cell)
    platform = together(_counters(cell).get("psys", ())) if drained else None
    if drained is None or platform is None:
        return None
    common = min(drained.covered_milliseconds, platform.covered_milliseconds)
    return PsysCheck(
        scaled(platform.energy_millijoules * common, platform.covered_milliseconds),
        scaled(drained.energy_millijoules * common, drained.covered_milliseconds),
        common,
        *_beyond_counters(cell, drained, prior),
    )


def _beyond_counters(cell: Cell, drained: Seen, prior: priors.WallPrior | None) -> tuple[int, int]:
    """(mJ, ms): the discharge as the supply would draw it, less the counters other than psys, times the class's slope."""
    counted = counter_signal(cell, trust_psys=False)
    if counted is None or prior is None:
        return 0, 0
    common = min(drained.covered_milliseconds, counted.covered_milliseconds)
    wall = scaled(drained.energy_millijoules * priors.PLATFORM_SLOPE_PPM)
    model = scaled(counted.energy_millijoules * prior.slope_ppm)
    return (
        scaled(wall * common, drained.covered_milliseconds)
        - scaled(model * common, counted.covered_milliseconds),
        common,
    )


def psys_is_trusted(seen: PsysCheck) -> bool:
    """psys ≤ 1.2 × discharge over all the machine's time on battery; True while too little of it was seen."""
    if seen.milliseconds < priors.PSYS_CHECK_MILLISECONDS:
        return True
    limit = seen.discharge_millijoules * priors.PSYS_DISCHARGE_PPM
    return seen.psys_millijoules * priors.MILLION <= limit


def base_microwatts(seen: PsysCheck) -> int | None:
    """What the battery says the machine draws beside its counters, as the wall model's base; None while too little was seen.

    Whole watts: the mean over all its time on battery settles there, and all its periods are derived with one figure.
    """
    if seen.base_milliseconds < priors.PSYS_CHECK_MILLISECONDS:
        return None
    doubled = 2 * seen.base_milliseconds
    return (2 * seen.base_millijoules + seen.base_milliseconds) // doubled * priors.MILLION


def sees_psys(cell: Cell) -> bool:
    """Whether its platform counter may be there: cheap, asked of every cell."""
    return any(point.domain.endswith(("sys", "SYS")) for point, _, _ in cell.energies)


def together(parts: Iterable[tuple[int, int]]) -> Seen | None:
    """Disjoint parts summed over the time all of them cover: a longer one counts in proportion, never twice."""
    seen = [part for part in parts if part[1] > 0]
    if not seen:
        return None
    if len(seen) == 1:
        return Seen(*seen[0])
    common = min([covered for _, covered in seen])
    return Seen(sum(scaled(energy * common, covered) for energy, covered in seen), common)


def _fits(packages: Seen, platform: Seen) -> bool:
    left = packages.energy_millijoules * platform.covered_milliseconds
    return left <= platform.energy_millijoules * packages.covered_milliseconds


def _counters(cell: Cell) -> dict[str, list[tuple[int, int]]]:
    """package, dram, psys → [(mJ, covered ms)] of the best kind that counts a package."""
    for kind in _COUNTERS:
        found: dict[str, list[tuple[int, int]]] = {}
        for point, energy, covered in cell.energies:
            if (
                point.kind is kind
                and point.subject == MACHINE_SUBJECT
                and point.boundary is not Boundary.WALL
            ):
                found.setdefault(_component(point), []).append((energy, covered))
        if kind is PointKind.EMI:
            found = _of_energy_meters(found)
        if any(covered for _, covered in found.get("package", ())):
            return found
    return {}


def _component(point: Point) -> str:
    """package, dram, psys, cluster, or what it calls itself."""
    name = point.domain
    if point.kind is PointKind.EMI:
        # Instance names of Windows (RAPL_Package0_PKG, RAPL_Package0_DRAM, CPU_CLUSTER_0, SYS), or our own words for them.
        upper = name.upper()
        for ending, word in (("PKG", "package"), ("DRAM", "dram"), ("SYS", "psys")):
            if upper == ending or upper.endswith(f"_{ending}"):
                return word
        if "CLUSTER" in upper:
            return "cluster"
    return name.partition("-")[0]


def _of_energy_meters(found: dict[str, list[tuple[int, int]]]) -> dict[str, list[tuple[int, int]]]:
    """docs/methodology.md §1: where any package is metered, the package alone; else the clusters of processors that have no package."""
    package = found.get("package") or found.get("cluster")
    return {name: parts for name, parts in (("package", package), ("psys", found.get("psys"))) if parts}


def _gpus(cell: Cell) -> list[tuple[int, int]]:
    return [
        (energy, covered)
        for point, energy, covered in cell.energies
        if point.kind is PointKind.GPU and point.subject == MACHINE_SUBJECT
    ]
