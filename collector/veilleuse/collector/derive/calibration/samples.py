# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds samples per unit and quantity from stored records, with readings next to or inside them (pure).

The counters' sum is `derive.counters.counter_signal`: the very sum to which derive will apply the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from veilleuse.collector.derive import priors
from veilleuse.collector.derive.calibration.moments import Unit
from veilleuse.collector.derive.counters import (
    METERS,
    ON_STATES,
    best_meter,
    counter_signal,
    discharge,
    psys_check,
    psys_is_trusted,
)
from veilleuse.collector.derive.wall import wall_energy
from veilleuse.collector.model.calibration import STANDBY, WALL, Hardware
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.meters import PsysCheck
from veilleuse.collector.model.records import Cell, Point
from veilleuse.wire.vocabulary import Band, Boundary, PointKind, Supply

COVERED: Final = 0.9
"""Least share of a record's, or a reading's, time covered by its counterpart; our choice."""
ON: Final = "on"
_BATTERY: Final = frozenset({PointKind.BATTERY_IN, PointKind.BATTERY_OUT})
ADAPTER_NO_LOAD_WATTS: Final = 0.2
"""Own consumption of a laptop's adapter: at most 0.21 W above 49 W and 0.1 W below,
by US efficiency level VI of 2016.

From memory; a part of it is in the efficiency already.
"""
ADAPTER_EFFICIENCY: Final = 0.88
"""Equal to the prior of a laptop on mains, docs/methodology.md §1."""
BATTERY_FLOOR_U_PPM: Final = priors.u_ppm(1.2)
"""docs/calibration.md: GSD² ≥ 1.2 for fits on battery."""


class StoredRecord(NamedTuple):
    """One record of a reference unit."""

    start_unix_milliseconds: int
    milliseconds: int
    cells: tuple[Cell, ...]


class MeasuredSample(NamedTuple):
    """Counters over some time, with the derived energy without calibration."""

    quantity: str
    counted_millijoules: float
    milliseconds: int
    prior_millijoules: float


@dataclass(slots=True)
class Samples:
    """Samples of all units: hardware model and quantity → unit → meter's kind → samples."""

    found: dict[tuple[Hardware, str], dict[str, dict[str, Unit]]] = field(default_factory=dict)

    def add(
        self,
        hardware: Hardware,
        unit: str,
        meter: str,
        start: int,
        measured: MeasuredSample,
        watts: float,
    ) -> None:
        """Add one sample: `watts` at the wall over the measured time."""
        kinds = self.found.setdefault((hardware, measured.quantity), {}).setdefault(unit, {})
        kinds.setdefault(meter, Unit(unit)).add(
            start,
            measured.milliseconds,
            measured.counted_millijoules,
            watts * measured.milliseconds,
            measured.prior_millijoules,
        )


def state_of(record: StoredRecord) -> str | None:
    """Return on, off or asleep when all of a record is; None when it is mixed, or of unknown state."""
    states = {
        ON if cell.state in ON_STATES else STANDBY.get(cell.state)
        for cell in record.cells
        if cell.milliseconds
    }
    return states.pop() if len(states) == 1 else None


def measure_cells(
    machine: MachineFacts, cells: Sequence[Cell], *, trust_psys: bool = True
) -> MeasuredSample | None:
    """Measure cells of one state by counters (on), or by time alone (off, asleep);
    None when they cannot be used.
    """
    whole = sum(cell.milliseconds for cell in cells)
    blind = [cell._replace(supply=Supply.AC, energies=_inside(cell)) for cell in cells]
    said = [
        part for cell in blind for part in wall_energy(cell, machine, priors.MILLION, trust_psys=trust_psys)
    ]
    derived_milliseconds = sum(part.milliseconds for part in said)
    if not derived_milliseconds:
        return None
    prior_watts = sum(part.energy_millijoules for part in said) / derived_milliseconds
    standby = STANDBY.get(cells[0].state)
    if standby is not None:
        return MeasuredSample(standby, 0.0, whole, prior_watts * whole)
    signals = [counter_signal(cell, trust_psys=trust_psys) for cell in blind]
    seen = [signal for signal in signals if signal is not None]
    time = sum(signal.covered_milliseconds for signal in seen)
    if len({signal.name for signal in seen}) != 1 or time < COVERED * whole:
        return None
    counted = sum(signal.energy_millijoules for signal in seen)
    return MeasuredSample(WALL + seen[0].name, counted, time, prior_watts * time)


def at_the_wall(cells: Iterable[Cell]) -> bool:
    """Return whether the socket supplies exactly the machine:
    not on battery, and not while it charges the battery.
    """
    return not any(
        cell.supply is Supply.BATTERY
        or any(point.kind is PointKind.BATTERY_IN and energy > 0 for point, energy, _ in cell.energies)
        for cell in cells
    )


def standing_by(machine: MachineFacts, state: str, milliseconds: int) -> MeasuredSample | None:
    """Return a sample off or asleep for which there is no record."""
    word = next(one for one, quantity in STANDBY.items() if quantity == state)
    return measure_cells(machine, (Cell(Band.NIGHT, word, Supply.AC, milliseconds),))


def metered_samples(
    samples: Samples, hardware: Hardware, unit: str, machine: MachineFacts, records: Iterable[StoredRecord]
) -> None:
    """Add records with both a meter of the machine itself and its counters."""
    for record in records:
        if state_of(record) is None or not at_the_wall(record.cells):
            continue
        meters = [(cell, best_meter(cell)) for cell in record.cells if cell.milliseconds]
        kinds = {meter.kind for _, meter in meters if meter is not None}
        time = sum(meter.covered_milliseconds for _, meter in meters if meter is not None)
        seen = measure_cells(machine, [cell for cell, _ in meters]) if len(kinds) == 1 else None
        if seen is None or time < COVERED * sum(cell.milliseconds for cell, _ in meters):
            continue
        watts = sum(meter.energy_millijoules for _, meter in meters if meter is not None) / time
        samples.add(hardware, unit, kinds.pop().value, record.start_unix_milliseconds, seen, watts)


def battery_samples(
    samples: Samples,
    hardware: Hardware,
    unit: str,
    machine: MachineFacts,
    records: Iterable[StoredRecord],
    *,
    trust_psys: bool,
) -> None:
    """Add cells on battery: the DC energy of platform and panel, converted to the wall."""
    for record in records:
        for cell in record.cells:
            drained = discharge(cell) if cell.state in ON_STATES else None
            if drained is None or drained.covered_milliseconds < COVERED * cell.milliseconds:
                continue
            seen = measure_cells(machine, (cell,), trust_psys=trust_psys)
            if seen is None:
                continue
            direct = drained.energy_millijoules / drained.covered_milliseconds
            watts = direct / ADAPTER_EFFICIENCY + ADAPTER_NO_LOAD_WATTS
            samples.add(hardware, unit, "battery", record.start_unix_milliseconds, seen, watts)


def trusts_psys(records: Iterable[StoredRecord]) -> bool:
    """Return False where the battery contradicts the platform counter, as derive does."""
    checks = [check for record in records for cell in record.cells if (check := psys_check(cell)) is not None]
    return psys_is_trusted(
        PsysCheck(
            sum(check.psys_millijoules for check in checks),
            sum(check.discharge_millijoules for check in checks),
            sum(check.milliseconds for check in checks),
        )
    )


def meter_u_ppm(kind: str) -> int:
    """Return the gain error of a kind of meter in the store, k = 1."""
    return METERS[PointKind(kind)][1]


def _inside(cell: Cell) -> tuple[tuple[Point, int, int], ...]:
    """Return the energies that derive would have without the reference."""
    return tuple(
        energy
        for energy in cell.energies
        if energy[0].boundary is not Boundary.WALL and energy[0].kind not in _BATTERY
    )
