# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Wall energy of a cell by the ladder of METHOD.md §3 (pure, integers only).

meter > battery discharge > psys > package + DRAM (+ discrete GPU) through the wall model > load model > class default.
The best rung answers for the milliseconds it covers, the load model for the rest: docs/decisions/0008.
Points nest and are never summed across rungs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.derive import priors
from veilleuse.collector.derive.loadmodel import ON_STATES, modelled, part, scaled
from veilleuse.collector.model import Cell, MachineFacts, Point, WallEnergy
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Boundary, DeviceClass, PointKind, State, Supply

MACHINE_SUBJECT: Final = "machine"

_METERS: Final = {
    PointKind.PLUG: (0, priors.METER_U_PPM),
    PointKind.PDU: (1, priors.METER_U_PPM),
    PointKind.UPS: (2, priors.MACHINE_METER_U_PPM),
    PointKind.BMC: (3, priors.MACHINE_METER_U_PPM),
    PointKind.HWMON: (4, priors.MACHINE_METER_U_PPM),
    PointKind.FAKE: (5, priors.MACHINE_METER_U_PPM),
}
"""Kinds that see the whole machine at the socket: (preference, uncertainty)."""
_COUNTERS: Final = frozenset({PointKind.RAPL, PointKind.EMI, PointKind.POWERMETRICS, PointKind.FAKE})


@dataclass(frozen=True, slots=True)
class _Seen:
    """Energy over milliseconds."""

    energy_millijoules: int
    covered_milliseconds: int


def wall_energy(
    cell: Cell, machine: MachineFacts, plugged_share_ppm: int = priors.DEFAULT_PLUGGED_SHARE_PPM
) -> tuple[WallEnergy, ...]:
    """Wall energy of one cell, in parts of distinct methods; their milliseconds sum to at most the cell's.

    Empty when nothing can be said (unknown state without a meter; a virtual machine that is off): absent, never zero.
    `plugged_share_ppm`: share of its off and asleep time a laptop is on its charger, 0 to 1,000,000.
    """
    best = _metered(cell) or _battery(cell) or _counters(cell, machine)
    covered = best.milliseconds if best else 0
    rest = modelled(cell, machine, cell.milliseconds - covered, plugged_share_ppm)
    return (best, *rest) if best else rest


def _metered(cell: Cell) -> WallEnergy | None:
    """The best meter of this very machine. Two of one kind are taken for two views of it: the longer one counts."""
    candidates = [
        (_METERS[point.kind], -covered, point.domain, energy)
        for point, energy, covered in cell.energies
        if covered > 0
        and point.boundary is Boundary.WALL
        and point.subject == MACHINE_SUBJECT
        and point.kind in _METERS
    ]
    if not candidates:
        return None
    (_, u_ppm), covered, _, energy = min(candidates)
    return part(Method.METERED, energy, u_ppm, -covered)


def _battery(cell: Cell) -> WallEnergy | None:
    """Discharge ÷ 0.84, booked at discharge; on mains the battery's flow is charging and the counters see the load."""
    on_battery = cell.supply is Supply.BATTERY
    drained_at_rest = cell.supply is Supply.UNKNOWN and cell.state in (State.ASLEEP, State.OFF)
    if not (on_battery or drained_at_rest):
        return None
    seen = _together(
        (energy, covered)
        for point, energy, covered in cell.energies
        if point.kind is PointKind.BATTERY_OUT and point.subject == MACHINE_SUBJECT
    )
    if seen is None:
        return None
    energy = scaled(seen.energy_millijoules * priors.BATTERY_TO_WALL_PPM)
    return part(Method.BATTERY, energy, priors.BATTERY_U_PPM, seen.covered_milliseconds)


def _counters(cell: Cell, machine: MachineFacts) -> WallEnergy | None:
    """Component counters through the prior wall model a + b·P of the class, only while on."""
    prior = priors.WALL_PRIORS.get(machine.device_class)
    if prior is None or cell.state not in ON_STATES:
        return None
    packages = _together(_domain(cell, "package"))
    platform = _together(_domain(cell, "psys"))
    if platform is not None and _plausible(platform, packages):
        energy = scaled(platform.energy_millijoules * priors.PLATFORM_SLOPE_PPM)
        return part(Method.COUNTER_MODELLED, energy, prior.u_ppm, platform.covered_milliseconds)
    if packages is None:
        return None
    components = [*_domain(cell, "package"), *_domain(cell, "dram"), *_gpus(cell)]
    seen = _together(components) or packages
    base = prior.base_microwatts
    if machine.device_class is DeviceClass.SERVER:
        base += (machine.hard_disks or 0) * priors.HARD_DISK_MICROWATTS
        base += (machine.solid_state_disks or 0) * priors.SOLID_STATE_DISK_MICROWATTS
    product = base * seen.covered_milliseconds + prior.slope_ppm * seen.energy_millijoules
    return part(Method.COUNTER_MODELLED, scaled(product), prior.u_ppm, seen.covered_milliseconds)


def _plausible(platform: _Seen, packages: _Seen | None) -> bool:
    """psys only if package ≤ psys, as mean powers; without a package there is nothing to check it against."""
    if packages is None:
        return False
    left = packages.energy_millijoules * platform.covered_milliseconds
    return left <= platform.energy_millijoules * packages.covered_milliseconds


def _domain(cell: Cell, name: str) -> list[tuple[int, int]]:
    """(mJ, covered ms) of the counters of a domain: `package`, `package-0`, `package-1`, …"""
    return [
        (energy, covered)
        for point, energy, covered in cell.energies
        if _is_counter(point) and point.domain.partition("-")[0] == name
    ]


def _gpus(cell: Cell) -> list[tuple[int, int]]:
    return [
        (energy, covered)
        for point, energy, covered in cell.energies
        if point.kind is PointKind.GPU and point.subject == MACHINE_SUBJECT
    ]


def _is_counter(point: Point) -> bool:
    inside = point.boundary is not Boundary.WALL
    return point.kind in _COUNTERS and inside and point.subject == MACHINE_SUBJECT


def _together(parts: Iterable[tuple[int, int]]) -> _Seen | None:
    """Disjoint parts summed over the time all of them cover: a longer one counts in proportion, never twice."""
    seen = [(energy, covered) for energy, covered in parts if covered > 0]
    if not seen:
        return None
    common = min(covered for _, covered in seen)
    return _Seen(sum(scaled(energy * common, covered) for energy, covered in seen), common)
