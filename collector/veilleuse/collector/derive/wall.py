# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Wall energy of a cell by the ladder of docs/methodology.md §1 (pure, integers only).

meter > battery discharge > psys > package + DRAM (+ discrete GPU) through the wall model > load model > class default.
The best rung answers for the milliseconds it covers, the next one for those that are left, the load model for the last:
docs/decisions/0026. Points nest and are never summed across rungs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from veilleuse.collector.derive import priors
from veilleuse.collector.derive.counters import counter_signal, discharge, meters, scaled
from veilleuse.collector.derive.loadmodel import modelled, part
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
    """Wall energy of one cell, in parts of distinct methods; their milliseconds sum to at most the cell's.

    Empty when nothing can be said (unknown state without a meter; a virtual machine that is off): absent, never zero.
    `plugged_share_ppm`: share of its off and asleep time a laptop is on its charger, 0 to 1,000,000. `calibration`: of its
    model. `trust_psys`: False where the machine's battery has contradicted its platform counter; `base_microwatts` is then what
    that battery says the machine draws beside its other counters, and its class's base at least.
    """
    parts: list[WallEnergy] = []
    left = cell.milliseconds
    for rung in _measured(cell, machine, calibration, trust_psys, base_microwatts):
        parts.append(within(rung, left))
        left -= parts[-1].milliseconds
        if not left:
            break
    if left:
        parts += modelled(cell, machine, left, plugged_share_ppm, calibration)
    return merged(parts) if len(parts) > 1 else tuple(parts)


def within(energy: WallEnergy, milliseconds: int) -> WallEnergy:
    """The same mean power over at most so many milliseconds."""
    if energy.milliseconds <= milliseconds:
        return energy
    return WallEnergy(
        energy.method,
        scaled(energy.energy_millijoules * milliseconds, energy.milliseconds),
        scaled(energy.uncertainty_millijoules * milliseconds, energy.milliseconds),
        milliseconds,
    )


def merged(parts: Sequence[WallEnergy]) -> tuple[WallEnergy, ...]:
    """One part a method, in the order they came; none of no time."""
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


def _measured(
    cell: Cell,
    machine: MachineFacts,
    calibration: Calibration | None,
    trust_psys: bool,
    base_microwatts: int | None,
) -> Iterator[WallEnergy]:
    """The rungs that rest on a measurement, best first; each at most as long as the cell."""
    if not cell.energies:
        return
    for meter in meters(cell):
        yield part(Method.METERED, meter.energy_millijoules, meter.u_ppm, meter.covered_milliseconds)
    drained = discharge(cell)
    if drained is not None:
        energy = scaled(drained.energy_millijoules * priors.BATTERY_TO_WALL_PPM)
        yield part(Method.BATTERY, energy, priors.BATTERY_U_PPM, drained.covered_milliseconds)
    counted = _counted(cell, machine, calibration, trust_psys, base_microwatts)
    if counted is not None:
        yield counted


def _counted(
    cell: Cell,
    machine: MachineFacts,
    calibration: Calibration | None,
    trust_psys: bool,
    base_microwatts: int | None,
) -> WallEnergy | None:
    """Component counters through the model's calibration, else through the prior a + b·P of the class; only while on."""
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
            Method.COUNTER_MODELLED, scaled(counted * priors.PLATFORM_SLOPE_PPM), prior.u_ppm, covered
        )
    base = max(prior.base_microwatts + _disks_microwatts(machine), base_microwatts or 0)
    energy = scaled(base * covered + prior.slope_ppm * counted)
    return part(Method.COUNTER_MODELLED, energy, prior.u_ppm, covered)


def _disks_microwatts(machine: MachineFacts) -> int:
    if machine.device_class is not DeviceClass.SERVER:
        return 0
    hard = (machine.hard_disks or 0) * priors.HARD_DISK_MICROWATTS
    return hard + (machine.solid_state_disks or 0) * priors.SOLID_STATE_DISK_MICROWATTS
