# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the estimator is told beside machines and fleet: class defaults, calibrations, whether the roll-out was random."""

from __future__ import annotations

from veilleuse.collector.fleet.class_defaults import class_microwatts
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.fleet_inputs import CalibratedWall, HardwareModel
from veilleuse.collector.fleet.observed import hardware_name
from veilleuse.collector.model.calibration import WALL
from veilleuse.collector.reports.inputs import Sources


def assumptions(sources: Sources, *, random_roll_out: bool = False) -> Assumptions:
    """As they are now. Raises ConfigurationError when a shipped table cannot be read, StoreDamaged."""
    calibrated: dict[HardwareModel, CalibratedWall] = {}
    for stored in sources.reader.calibrations():
        kept = stored.kept
        if stored.ended_unix_milliseconds is None and kept.fit.quantity.startswith(WALL):
            name = hardware_name(f"{kept.hardware.vendor} {kept.hardware.model}")
            calibrated[kept.hardware.device_class.value, name] = CalibratedWall(
                kept.fit, kept.provenance.meter
            )
    return Assumptions(
        random_roll_out=random_roll_out,
        class_microwatts=class_microwatts(),
        calibrations=calibrated,
    )
