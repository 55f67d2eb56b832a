# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads shared meters from records, and distributes a machine's part over the cells of its hour (pure).
docs/decisions/0026.

Integers: the cells of a whole hour sum exactly to the machine's part, in millijoules.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from veilleuse.collector.derive import priors
from veilleuse.collector.derive.counters import (
    METERS,
    base_microwatts,
    best_meter,
    may_be_psys,
    psys_check,
    psys_is_trusted,
    round_quotient,
)
from veilleuse.collector.derive.loadmodel import part
from veilleuse.collector.derive.priors import WALL_PRIORS
from veilleuse.collector.derive.wall import cut_to, merge_parts
from veilleuse.collector.model.calibration import Calibration
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.meters import (
    NOT_SHARED,
    SUBJECT_PREFIX,
    MeterReading,
    PsysCheck,
    SharedEnergy,
    SharedReadings,
)
from veilleuse.collector.model.records import Cell, Grain, Point
from veilleuse.collector.model.sums import DirtyPeriod, RecordCells, WallEnergy
from veilleuse.collector.ports.stages import MeteringStore
from veilleuse.wire.ladder import Method
from veilleuse.wire.sums import apportion
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Boundary, DeviceClass

Parts = tuple[WallEnergy, ...]


def readings(records: Iterable[RecordCells]) -> tuple[MeterReading, ...]:
    """Return the readings of shared meters in the records of one hour: one reading per meter.

    Several points of a meter are several views of it. The point with the meter's name counts, else the one
    that covers most.
    """
    seen: defaultdict[Point, list[int]] = defaultdict(lambda: [0, 0])
    for record in records:
        for cell in record.cells:
            for point, energy, covered in cell.energies:
                if point.subject.startswith(SUBJECT_PREFIX):
                    seen[point][0] += energy
                    seen[point][1] += covered
    best: dict[str, tuple[tuple[bool, int, str, str], MeterReading]] = {}
    for point, (energy, covered) in seen.items():
        name = point.subject.removeprefix(SUBJECT_PREFIX)
        if point.boundary is not Boundary.WALL or point.kind not in METERS or covered <= 0:
            continue
        if covered > MILLISECONDS_PER_HOUR:
            # Reported twice, after a clock or a snapshot was set back: keep one hour at its mean power.
            energy, covered = round_quotient(energy * MILLISECONDS_PER_HOUR, covered), MILLISECONDS_PER_HOUR
        order = (point.domain != name, -covered, point.domain, point.kind.value)
        if name not in best or order < best[name][0]:
            best[name] = (order, MeterReading(name, point.kind, energy, covered))
    return tuple(reading for _, (_, reading) in sorted(best.items()))


def u_ppm(shared: SharedEnergy) -> int:
    """Return the standard uncertainty of a machine's part:
    the meter's, and the share's where there is one.
    """
    _, meter = METERS[shared.kind]
    return meter if shared.whole else round(math.hypot(meter, priors.SHARE_U_PPM))


def energy_over_time(shared: SharedEnergy, milliseconds: int) -> tuple[int, int]:
    """Return (mJ, covered ms) for `milliseconds` of the hour that a machine reported.

    Time without a report is not observed, and its energy does not move to other hours.
    """
    hour = max(MILLISECONDS_PER_HOUR, milliseconds)
    covered = shared.covered_milliseconds * milliseconds // hour
    return (shared.energy_millijoules * milliseconds // hour, covered) if covered else (0, 0)


def distribute_over_cells(cells: Sequence[tuple[Cell, Parts]], shared: SharedEnergy | None) -> list[Parts]:
    """Return the cells' parts with the shared meter at its place in the ladder.

    The meter's energy is split in proportion to the cells' energy by the other methods. A meter of a whole
    hour does not show that most energy was used while the machine was on. A cell without energy by another
    method uses the others' mean power. A meter of the machine alone goes first if it is as good or better,
    and covers as much.
    """
    parts = [one for _, one in cells]
    if shared is None:
        return parts
    lengths = [cell.milliseconds for cell, _ in cells]
    energy, covered = energy_over_time(shared, sum(lengths))
    if not covered or _own_goes_first(cells, shared, covered):
        return parts
    energies = apportion(energy, _weights(cells))
    times = apportion(covered, lengths)
    u = u_ppm(shared)
    found: list[Parts] = []
    for (cell, own), share, time in zip(cells, energies, times, strict=True):
        metered = part(Method.METERED, share, u, time)
        rest = _left_over(own, cell.milliseconds, cell.milliseconds - time)
        found.append(merge_parts((metered, *rest)))
    return _keeping_all(found, energies)


def _keeping_all(found: list[Parts], energies: Sequence[int]) -> list[Parts]:
    """Give another cell the energy of cells too short for a millisecond of the meter's time."""
    lost = sum(
        energy
        for parts, energy in zip(found, energies, strict=True)
        if not any(one.method is Method.METERED for one in parts)
    )
    for index, parts in enumerate(found):
        if lost and parts and parts[0].method is Method.METERED:
            first = parts[0]
            more = WallEnergy(
                first.method,
                first.energy_millijoules + lost,
                first.uncertainty_millijoules,
                first.milliseconds,
            )
            found[index] = (more, *parts[1:])
            lost = 0
    return found


def _own_goes_first(cells: Sequence[tuple[Cell, Parts]], shared: SharedEnergy, covered: int) -> bool:
    rank, _ = METERS[shared.kind]
    own = [meter for cell, _ in cells if (meter := best_meter(cell)) and METERS[meter.kind][0] <= rank]
    return sum(meter.covered_milliseconds for meter in own) >= covered


def _weights(cells: Sequence[tuple[Cell, Parts]]) -> list[int]:
    """Return the cells' modelled energies as weights.

    A cell without energy uses the others' mean power × its time; without any energy, all cells use their
    time.
    """
    energies = [sum(one.energy_millijoules for one in parts) for _, parts in cells]
    known = sum(cell.milliseconds for cell, parts in cells if parts)
    whole = sum(energies)
    if not whole or not known:
        return [cell.milliseconds for cell, _ in cells]
    return [
        energy * known if parts else whole * cell.milliseconds
        for (cell, parts), energy in zip(cells, energies, strict=True)
    ]


def _left_over(parts: Parts, whole: int, left: int) -> Parts:
    """Reduce the parts of a cell of `whole` milliseconds to `left` of them."""
    if left <= 0:
        return ()
    return tuple(cut_to(one, one.milliseconds * left // whole) for one in parts)


class Context(NamedTuple):
    """Inputs of a derivation in addition to the records."""

    calibration: Calibration | None = None
    """Calibration of the machine's model."""
    trust_psys: bool = True
    """False where the machine's battery contradicts its platform counter."""
    base_microwatts: int | None = None
    """Base of the wall model from the machine's battery where `trust_psys` is False; None = not known."""
    shared: SharedReadings = NOT_SHARED
    """Readings of shared meters. Only for hours: a day or week of a meter cannot be divided into hours."""


ALONE: Final = Context()
BeforeMarks = Callable[[int | None], None]
"""Called before other periods are marked: those of an hour (Unix milliseconds), or all of the machine (None).

A result that waits to be written would clear its new mark.
"""


def load_context(
    store: MeteringStore | None,
    period: DirtyPeriod,
    records: Sequence[RecordCells],
    machine: MachineFacts,
    calibration: Calibration | None,
    before_marks: BeforeMarks,
) -> Context:
    """Store the records' readings of shared meters, then return the context of this period.

    Runs in the writer's thread. A virtual machine has no outlet: its host has the energy.
    """
    if store is None:
        return Context(calibration)
    shared = NOT_SHARED
    points = {point for record in records for cell in record.cells for point, _, _ in cell.energies}
    if period.grain is Grain.HOUR:
        is_read = any(point.subject.startswith(SUBJECT_PREFIX) for point in points)
        if is_read and (found := readings(records)):
            before_marks(period.start)
            store.put_readings(period, found)
        if machine.device_class is not DeviceClass.VIRTUAL_MACHINE:
            shared = store.shared_readings(period)
    if not any(may_be_psys(point) for point in points):
        return Context(calibration, shared=shared)
    return Context(calibration, *_on_battery(store, period, records, machine, before_marks), shared)


def _verdict(seen: PsysCheck) -> tuple[bool, int | None]:
    """Return (psys is trusted, else the base from the battery)."""
    trusted = psys_is_trusted(seen)
    return trusted, None if trusted else base_microwatts(seen)


def _on_battery(
    store: MeteringStore,
    period: DirtyPeriod,
    records: Sequence[RecordCells],
    machine: MachineFacts,
    before_marks: BeforeMarks,
) -> tuple[bool, int | None]:
    """Return the result of the machine's whole time on battery;
    when it changes, mark the machine for derivation.
    """
    before = _verdict(store.psys_seen(period.host_id))
    prior = WALL_PRIORS.get(machine.device_class)
    found = (psys_check(cell, prior) for record in records for cell in record.cells)
    checks = [check for check in found if check is not None]
    if not checks:
        return before
    here = PsysCheck(
        sum(check.psys_millijoules for check in checks),
        sum(check.discharge_millijoules for check in checks),
        sum(check.milliseconds for check in checks),
        sum(check.base_millijoules for check in checks),
        sum(check.base_milliseconds for check in checks),
    )
    store.put_psys(period, here)
    now = _verdict(store.psys_seen(period.host_id))
    if now != before:
        before_marks(None)
        store.mark_host_dirty(period.host_id)
    return now
