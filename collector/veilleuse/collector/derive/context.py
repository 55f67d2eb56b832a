# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a period is derived with beside its own records: shared meters, and what is known of the machine's platform counter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.derive.counters import base_microwatts, psys_check, psys_is_trusted, sees_psys
from veilleuse.collector.derive.meters import readings
from veilleuse.collector.derive.priors import WALL_PRIORS
from veilleuse.collector.model.calibration import Calibration
from veilleuse.collector.model.meters import NOT_SHARED, PsysCheck, Shared
from veilleuse.collector.model.records import DirtyPeriod, Grain, MachineFacts, RecordCells
from veilleuse.collector.ports import MeteringStore
from veilleuse.wire.vocabulary import DeviceClass


@dataclass(frozen=True, slots=True)
class Context:
    """Beside the records."""

    calibration: Calibration | None = None
    """Of the machine's model."""
    trust_psys: bool = True
    """False where the machine's battery contradicts its platform counter."""
    base_microwatts: int | None = None
    """Then: what that battery says the machine draws beside its other counters; None = not known."""
    shared: Shared = NOT_SHARED
    """Hours only: a day or a week of a meter cannot be told apart into hours."""


ALONE: Final = Context()


def look_around(
    store: MeteringStore | None,
    period: DirtyPeriod,
    records: Sequence[RecordCells],
    machine: MachineFacts,
    calibration: Calibration | None = None,
) -> Context:
    """Keep what the records say of others (meters that this machine reads), then see what others say of this period.

    In the writer's thread. A virtual machine has no outlet: its host carries the energy.
    """
    if store is None:
        return Context(calibration)
    shared = NOT_SHARED
    if period.grain is Grain.HOUR:
        if found := readings(records):
            store.put_readings(period, found)
        if machine.device_class is not DeviceClass.VIRTUAL_MACHINE:
            shared = store.shared(period)
    return Context(calibration, *_on_battery(store, period, records, machine), shared)


def _verdict(seen: PsysCheck) -> tuple[bool, int | None]:
    """(psys is believed, else what the battery says of the rest of the machine)."""
    trusted = psys_is_trusted(seen)
    return trusted, None if trusted else base_microwatts(seen)


def _on_battery(
    store: MeteringStore, period: DirtyPeriod, records: Sequence[RecordCells], machine: MachineFacts
) -> tuple[bool, int | None]:
    """What all the machine's time on battery says; when that changes, the machine is derived again."""
    cells = [cell for record in records for cell in record.cells]
    if not any(sees_psys(cell) for cell in cells):
        return True, None
    before = _verdict(store.psys_seen(period.host_id))
    prior = WALL_PRIORS.get(machine.device_class)
    checks = [check for cell in cells if (check := psys_check(cell, prior)) is not None]
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
        store.mark_host_dirty(period.host_id)
    return now
