# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a period is derived with beside its own records: shared meters, and what is known of the machine's platform counter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.calibrated import Calibration
from veilleuse.collector.derive.counters import psys_check, psys_is_trusted, sees_psys
from veilleuse.collector.derive.meters import readings
from veilleuse.collector.metering import NOT_SHARED, PsysCheck, Shared
from veilleuse.collector.model import DirtyPeriod, Grain, MachineFacts, RecordCells
from veilleuse.collector.ports import MeteringStore
from veilleuse.wire.vocabulary import DeviceClass


@dataclass(frozen=True, slots=True)
class Context:
    """Beside the records."""

    calibration: Calibration | None = None
    """Of the machine's model."""
    trust_psys: bool = True
    """False where the machine's battery contradicts its platform counter."""
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
    return Context(calibration, _trust_psys(store, period, records), shared)


def _trust_psys(store: MeteringStore, period: DirtyPeriod, records: Sequence[RecordCells]) -> bool:
    """What all the machine's time on battery says; when it turns over, the machine is derived again."""
    cells = [cell for record in records for cell in record.cells]
    if not any(sees_psys(cell) for cell in cells):
        return True
    before = psys_is_trusted(store.psys_seen(period.host_id))
    checks = [check for cell in cells if (check := psys_check(cell)) is not None]
    if not checks:
        return before
    here = PsysCheck(
        sum(check.psys_millijoules for check in checks),
        sum(check.discharge_millijoules for check in checks),
        sum(check.milliseconds for check in checks),
    )
    store.put_psys(period, here)
    now = psys_is_trusted(store.psys_seen(period.host_id))
    if now is not before:
        store.mark_host_dirty(period.host_id)
    return now
