# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The points of Windows' energy meters, as the agent names them, are those that the wall model counts."""

from __future__ import annotations

import pytest

from tests.support.fakes.windows import FakeWindows, opened
from tests.unit.collector.derive.test_wall import HOUR, cell
from veilleuse.agent.model import EnergyCounter
from veilleuse.collector.derive.counters import counter_signal
from veilleuse.collector.model.records import Point

WATTS = {"package": 8, "dram": 1, "psys": 20, "CPU_CLUSTER_": 2, "PSU_USB": 60}
"""Start of a domain → watts of each such point."""


@pytest.mark.parametrize(
    ("machine", "without", "name", "watts"),
    [
        ("intel_laptop", "", "package+dram", 9),
        ("intel_platform", "", "psys", 20),
        ("intel_platform", "psys", "package+dram", 18),
        ("amd_sixteen_cores", "", "package", 8),
        ("amd_management_unit", "", "package", 8),
        ("two_dies", "", "package", 8),
        ("first_version", "", "package", 8),
        ("snapdragon", "", "psys", 20),
        ("snapdragon", "psys", "package", 6),
    ],
)
def test_each_machine_s_meters_are_counted_once(machine: str, without: str, name: str, watts: int):
    """The signal has the energy of the machine's parts, each once; without a psys it is package + DRAM."""
    windows = FakeWindows.of(machine)
    for number, meter in enumerate(windows.meters.values()):
        meter.spend(10_000 * number * (machine != "two_dies"))
    with opened(windows) as source:
        points = [reading.point for reading in source.read() if isinstance(reading, EnergyCounter)]
    energies = [
        (Point(one.kind, one.domain, one.boundary, "machine"), power * HOUR, HOUR)
        for one in points
        for start, power in WATTS.items()
        if one.domain.startswith(start) and one.domain != without
    ]
    assert len(energies) == len(points) - bool(without)
    signal = counter_signal(cell(*energies))
    assert signal is not None
    assert (signal.name, signal.energy_millijoules) == (name, watts * HOUR)
