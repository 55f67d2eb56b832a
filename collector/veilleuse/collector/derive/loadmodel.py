# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Models wall energy from state and load alone, for time without an energy counter (pure).
docs/methodology.md §2.
"""

from __future__ import annotations

import math
from typing import Final

from veilleuse.collector import shipped_tables
from veilleuse.collector.derive import priors
from veilleuse.collector.derive.counters import ON_STATES, counter_signal, gpus, round_quotient
from veilleuse.collector.derive.priors import MILLION
from veilleuse.collector.model.calibration import Calibration
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Cell
from veilleuse.collector.model.sums import WallEnergy
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import DeviceClass, State, Supply


def part(method: Method, energy_millijoules: int, u_ppm: int, milliseconds: int) -> WallEnergy:
    """Build a part of a cell; its standard uncertainty is E·u."""
    return WallEnergy(method, energy_millijoules, round_quotient(energy_millijoules * u_ppm), milliseconds)


def model_energy(
    cell: Cell,
    machine: MachineFacts,
    milliseconds: int,
    plugged_share_ppm: int,
    calibration: Calibration | None = None,
) -> tuple[WallEnergy, ...]:
    """Model the energy of `milliseconds` of a cell, those without a counter: 0 to 2 parts.

    The part of known load is load_modelled, the rest class_default. The result is empty for an unknown state,
    and for a virtual machine that is not on or of unknown size: absent, never zero.
    """
    if milliseconds <= 0 or cell.state is State.UNKNOWN:
        return ()
    if cell.state not in ON_STATES:
        return _standby(cell, machine, milliseconds, plugged_share_ppm, calibration)
    known, unknown = _split_by_load(cell, milliseconds)
    if machine.device_class is DeviceClass.VIRTUAL_MACHINE:
        return _threads(cell, machine, known, unknown)
    return _with_gpus(_on(cell, machine, known, unknown), cell)


def rest_microwatts(machine: MachineFacts, state: State) -> int | None:
    """Return the modelled power at no load of a machine that is on, µW;
    None for a virtual machine of unknown size.
    """
    if machine.device_class is DeviceClass.VIRTUAL_MACHINE:
        return (
            None if machine.cpu_count is None else machine.cpu_count * shipped_tables.thread_microwatts()[0]
        )
    return _rest_and_full(machine, state)[0]


UNKNOWN_SERVER: Final = MachineFacts(device_class=DeviceClass.SERVER, cpu_count=1)
"""One thread of a server of unknown processor."""


def thread_slope_microwatts(machine: MachineFacts) -> int | None:
    """Return the power that one busy logical CPU adds to a machine at rest, µW; None for an unknown number.

    It is the load model's largest slope. docs/methodology.md §12, *What Veilleuse itself uses*.
    """
    low, high = shipped_tables.thread_microwatts()
    if machine.device_class is DeviceClass.VIRTUAL_MACHINE:
        return high - low
    if _by_thread(machine):
        return shipped_tables.CURVE_SLOPE_AT_REST * (high - low)
    if not machine.cpu_count:
        return None
    rest, full = _rest_and_full(machine, State.ON_IDLE)
    return round_quotient(shipped_tables.CURVE_SLOPE_AT_REST * (full - rest), machine.cpu_count)


def _with_gpus(parts: tuple[WallEnergy, ...], cell: Cell) -> tuple[WallEnergy, ...]:
    """Add the energy of the GPUs' own counters, with the supply's loss, where no package is counted.

    The load model has no GPU. With a package, the counters' part contains the GPUs already.
    """
    if not cell.energies or counter_signal(cell) is not None:
        return parts
    seen = gpus(cell)
    if seen is None:
        return parts
    joules = seen.energy_millijoules * priors.PLATFORM_SLOPE_PPM
    return tuple(
        WallEnergy(
            one.method,
            one.energy_millijoules
            + (more := round_quotient(joules * one.milliseconds, MILLION * cell.milliseconds)),
            one.uncertainty_millijoules + round_quotient(more * priors.STATE_POWER_U_PPM),
            one.milliseconds,
        )
        for one in parts
    )


def _standby(
    cell: Cell,
    machine: MachineFacts,
    milliseconds: int,
    plugged_share_ppm: int,
    calibration: Calibration | None,
) -> tuple[WallEnergy, ...]:
    """Model off or asleep: the power calibrated for the model, else the class's.
    docs/methodology.md §1 counts both as modelled.
    """
    method, u_ppm = Method.LOAD_MODELLED, priors.STATE_POWER_U_PPM
    fit = calibration.standby(cell.state) if calibration is not None else None
    if fit is not None:
        energy, u = fit.energy(0, milliseconds)
        u_ppm = round_quotient(u * MILLION, energy) if energy else 0
    else:
        power = _standby_microwatts(cell.state, machine.device_class)
        if power is None:
            return ()
        energy = round_quotient(power * milliseconds)
        if machine.device_class is DeviceClass.UNKNOWN:
            method, u_ppm = Method.CLASS_DEFAULT, priors.UNKNOWN_U_PPM
    if machine.device_class is DeviceClass.LAPTOP and cell.supply is not Supply.AC:
        energy = round_quotient(energy * plugged_share_ppm)
        u_ppm = round(math.hypot(u_ppm, priors.PLUGGED_SHARE_U_PPM))
    return (part(method, energy, u_ppm, milliseconds),)


def _standby_microwatts(state: State, device_class: DeviceClass) -> int | None:
    powers = shipped_tables.STATE_POWERS.get(device_class)
    if powers is None:
        return None
    return powers.off_microwatts if state is State.OFF else powers.sleep_microwatts


def _split_by_load(cell: Cell, milliseconds: int) -> tuple[int, int]:
    """Split `milliseconds` into (load known, load unknown), in the cell's own proportion."""
    covered = cell.cpu_covered_milliseconds or 0
    if sum(cell.cpu_bucket_milliseconds) == 0 or cell.cpu_busy_milliseconds is None:
        covered = 0
    known = milliseconds * min(covered, cell.milliseconds) // cell.milliseconds
    return known, milliseconds - known


def _by_thread(machine: MachineFacts) -> bool:
    """Return whether the machine is a physical server of unknown processor and known number of threads."""
    unknown_cpu = machine.cpu_model is None and machine.cpu_count is not None
    return machine.device_class is DeviceClass.SERVER and unknown_cpu


def _rest_and_full(machine: MachineFacts, state: State) -> tuple[int, int]:
    """Return the power (at no load, CPU full), µW, of a physical machine that is on.

    A server of unknown processor uses its class's idle power at no load, or its threads' where that is more.
    Fans, disks, memory and supply use power whatever the threads do. Full load adds the threads' difference
    between rest and full load.
    """
    powers = shipped_tables.STATE_POWERS[machine.device_class]
    if _by_thread(machine):
        low, high = (power * (machine.cpu_count or 0) for power in shipped_tables.thread_microwatts())
        rest = max(powers.idle_microwatts, low)
        return rest, rest + high - low
    memory = _memory_microwatts(machine)
    rest = powers.idle_microwatts if state is State.ON_IDLE else powers.light_microwatts
    return rest + memory, powers.active_microwatts + memory


def _threads(cell: Cell, machine: MachineFacts, known: int, unknown: int) -> tuple[WallEnergy, ...]:
    """Model a virtual machine: vCPU × (min + (max − min)·u), linear in the load u."""
    if machine.cpu_count is None:
        return ()
    low, high = shipped_tables.thread_microwatts()
    busy_ppm = 0
    if known:
        covered = cell.cpu_covered_milliseconds or 0
        busy_ppm = round_quotient((cell.cpu_busy_milliseconds or 0) * MILLION, covered)
    at_known = machine.cpu_count * (low + round_quotient((high - low) * min(busy_ppm, MILLION)))
    at_default = machine.cpu_count * (low + round_quotient((high - low) * _default_load_ppm(cell)))
    u_ppm = priors.THREAD_U_PPM
    return _parts(known, at_known, unknown, at_default, u_ppm, u_ppm)


def _on(cell: Cell, machine: MachineFacts, known: int, unknown: int) -> tuple[WallEnergy, ...]:
    """Model a physical machine: the concave curve over the CPU buckets,
    from the state's rest power to full load.
    """
    rest, full = _rest_and_full(machine, cell.state)
    span = full - rest
    total = sum(cell.cpu_bucket_milliseconds)
    mean_ppm = 0
    if known:
        weighted = zip(cell.cpu_bucket_milliseconds, shipped_tables.BUCKET_CURVE_PPM, strict=True)
        mean_ppm = round_quotient(sum(length * curve for length, curve in weighted), total)
    at_known = rest + round_quotient(span * mean_ppm)
    at_default = rest + round_quotient(span * shipped_tables.curve_ppm(_default_load_ppm(cell)))
    if machine.device_class is DeviceClass.UNKNOWN:
        return _merge(
            _parts(known, at_known, unknown, at_default, priors.UNKNOWN_U_PPM, priors.UNKNOWN_U_PPM)
        )
    u_ppm = priors.THREAD_U_PPM if _by_thread(machine) else priors.STATE_POWER_U_PPM
    return _parts(known, at_known, unknown, at_default, u_ppm, priors.UNKNOWN_U_PPM)


def _memory_microwatts(machine: MachineFacts) -> int:
    if machine.device_class not in shipped_tables.MODULE_CLASSES or machine.memory_modules is None:
        return 0
    return max(0, machine.memory_modules - shipped_tables.MODULES_INCLUDED) * shipped_tables.MODULE_MICROWATTS


def _default_load_ppm(cell: Cell) -> int:
    idle = cell.state is State.ON_IDLE
    return shipped_tables.DEFAULT_IDLE_LOAD_PPM if idle else shipped_tables.DEFAULT_ACTIVE_LOAD_PPM


def _parts(
    known: int, at_known: int, unknown: int, at_default: int, u_known: int, u_default: int
) -> tuple[WallEnergy, ...]:
    both = (
        part(Method.LOAD_MODELLED, round_quotient(at_known * known), u_known, known),
        part(Method.CLASS_DEFAULT, round_quotient(at_default * unknown), u_default, unknown),
    )
    return tuple(one for one in both if one.milliseconds)


def _merge(parts: tuple[WallEnergy, ...]) -> tuple[WallEnergy, ...]:
    """Merge the parts of an unknown class into one class_default part, whatever its load."""
    return (
        WallEnergy(
            Method.CLASS_DEFAULT,
            sum(one.energy_millijoules for one in parts),
            sum(one.uncertainty_millijoules for one in parts),
            sum(one.milliseconds for one in parts),
        ),
    )
