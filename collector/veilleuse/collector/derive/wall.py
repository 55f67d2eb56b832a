# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Derives the wall energy of a cell by the ladder of docs/methodology.md §1 (pure, integers only).

meter > battery discharge > psys > package + DRAM (+ discrete GPU) through the wall model > load model > class
default. The best method gives the milliseconds that it covers, the next one those that remain, the load model
the rest: docs/decisions/0026. Points nest and are never summed across methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from veilleuse.collector.derive import priors
from veilleuse.collector.derive.counters import counter_signal, discharge, meters, round_quotient
from veilleuse.collector.derive.loadmodel import model_energy, part
from veilleuse.collector.model.calibration import Calibration
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Cell
from veilleuse.collector.model.sums import WallEnergy
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import DeviceClass


def wall_energy(
    cell: Cell,
    machine: MachineFacts,
    plugged_share_ppm: int = priors.DEFAULT_PLUGGED_SHARE_PPM,
    calibration: Calibration | None = None,
    *,
    trust_psys: bool = True,
    base_microwatts: int | None = None,
) -> tuple[WallEnergy, ...]:
    """Derive the wall energy of one cell, in parts of distinct methods;
    their milliseconds sum to at most the cell's.

    The result is empty where nothing is known: an unknown state without a meter, or a virtual machine that is
    off. Absent, never zero.

    `plugged_share_ppm`: share of a laptop's off and asleep time on its charger, 0 to 1,000,000.
    `calibration`: of the machine's model. `trust_psys`: False where the battery has contradicted the platform
    counter. `base_microwatts` is then the base from that battery; the class's base is its minimum.
    """
    parts: list[WallEnergy] = []
    left = cell.milliseconds
    for rung in _measured_parts(cell, machine, calibration, trust_psys, base_microwatts):
        parts.append(cut_to(rung, left))
        left -= parts[-1].milliseconds
        if not left:
            break
    if left:
        parts += model_energy(cell, machine, left, plugged_share_ppm, calibration)
    return merge_parts(parts) if len(parts) > 1 else tuple(parts)


def cut_to(energy: WallEnergy, milliseconds: int) -> WallEnergy:
    """Cut energy to at most `milliseconds`, at the same mean power."""
    if energy.milliseconds <= milliseconds:
        return energy
    return WallEnergy(
        energy.method,
        round_quotient(energy.energy_millijoules * milliseconds, energy.milliseconds),
        round_quotient(energy.uncertainty_millijoules * milliseconds, energy.milliseconds),
        milliseconds,
    )


def merge_parts(parts: Sequence[WallEnergy]) -> tuple[WallEnergy, ...]:
    """Merge parts by method, in their order, without parts of no time."""
    sums: dict[Method, WallEnergy] = {}
    for one in parts:
        before = sums.get(one.method)
        if before is not None:
            one = WallEnergy(
                one.method,
                before.energy_millijoules + one.energy_millijoules,
                before.uncertainty_millijoules + one.uncertainty_millijoules,
                before.milliseconds + one.milliseconds,
            )
        sums[one.method] = one
    return tuple(one for one in sums.values() if one.milliseconds)


def _measured_parts(
    cell: Cell,
    machine: MachineFacts,
    calibration: Calibration | None,
    trust_psys: bool,
    base_microwatts: int | None,
) -> Iterator[WallEnergy]:
    """Yield the parts based on a measurement, best first; each at most as long as the cell."""
    if not cell.energies:
        return
    for meter in meters(cell):
        yield part(Method.METERED, meter.energy_millijoules, meter.u_ppm, meter.covered_milliseconds)
    drained = discharge(cell)
    if drained is not None:
        energy = round_quotient(drained.energy_millijoules * priors.BATTERY_TO_WALL_PPM)
        yield part(Method.BATTERY, energy, priors.BATTERY_U_PPM, drained.covered_milliseconds)
    counted = _counter_part(cell, machine, calibration, trust_psys, base_microwatts)
    if counted is not None:
        yield counted


def _counter_part(
    cell: Cell,
    machine: MachineFacts,
    calibration: Calibration | None,
    trust_psys: bool,
    base_microwatts: int | None,
) -> WallEnergy | None:
    """Convert component counters by the model's calibration,
    else by the prior a + b·P of the class; only while on.
    """
    prior = priors.WALL_PRIORS.get(machine.device_class)
    if prior is None and calibration is None:
        return None
    signal = counter_signal(cell, trust_psys=trust_psys)
    if signal is None:
        return None
    counted, covered = signal.energy_millijoules, signal.covered_milliseconds
    fit = calibration.wall_for(signal.name) if calibration is not None else None
    if fit is not None:
        return WallEnergy(Method.COUNTER_CALIBRATED, *fit.energy(counted, covered), covered)
    if prior is None:
        return None
    if signal.name == "psys":
        return part(
            Method.COUNTER_MODELLED, round_quotient(counted * priors.PLATFORM_SLOPE_PPM), prior.u_ppm, covered
        )
    base = max(prior.base_microwatts + _disks_microwatts(machine), base_microwatts or 0)
    energy = round_quotient(base * covered + prior.slope_ppm * counted)
    is_laptop = machine.device_class is DeviceClass.LAPTOP
    u_ppm = priors.LAPTOP_PACKAGE_U_PPM if is_laptop and base_microwatts is None else prior.u_ppm
    return part(Method.COUNTER_MODELLED, energy, u_ppm, covered)


def _disks_microwatts(machine: MachineFacts) -> int:
    if machine.device_class is not DeviceClass.SERVER:
        return 0
    hard = (machine.hard_disks or 0) * priors.HARD_DISK_MICROWATTS
    return hard + (machine.solid_state_disks or 0) * priors.SOLID_STATE_DISK_MICROWATTS
